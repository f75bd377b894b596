//! The bytes of a file as a response body: read piece by piece as the client takes them.
//!
//! What the kernel has cached is read inline (`RWF_NOWAIT`), everything else on the blocking pool, a
//! few reads at once, so that a cold disk never holds up a core. A file that shrinks or is rewritten
//! meanwhile breaks the response off: a mixture is never passed for one version (RFC 9110 §8.8.1).

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Semaphore;

use super::body::BodyError;
use crate::files::Opened;

/// Bytes that are read at once.
pub const PIECE: usize = 128 * 1024;
/// Reads from disk at once, over the whole server; the others wait their turn.
pub const MAX_READS: usize = 32;
/// Bytes that a transport is given at once to send without a copy.
pub const MAX_SLICE: u64 = 256 * 1024;
/// Buffers of pieces that were sent which one body keeps for its next ones.
const SPARE: usize = 2;

/// The right to read from disk; one for the whole server, cheap to clone.
#[derive(Clone, Debug)]
pub struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_READS)))
    }
}

/// One part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Text(Bytes),
    /// These bytes of the file.
    File(Range<u64>),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }
}

/// Bytes of a file for a transport that takes them from the kernel's cache itself (`sendfile`).
#[derive(Clone, Debug)]
pub struct Slice {
    /// Where they are.
    pub file: Arc<File>,
    /// Which.
    pub range: Range<u64>,
}

type Reading = Pin<Box<dyn Future<Output = io::Result<(BytesMut, usize)>> + Send>>;

/// Parts of a file, and what is between them.
pub struct FileBody {
    opened: Opened,
    readers: Readers,
    parts: VecDeque<Part>,
    left: u64,
    /// A read on the blocking pool.
    reading: Option<Reading>,
    /// The file system can say whether it would have to wait.
    inline: bool,
    /// Sent, and perhaps taken by now: buffers that need not be made anew.
    spare: VecDeque<Bytes>,
}

impl FileBody {
    /// The body that `parts` of `opened` make.
    pub fn new(opened: Opened, readers: Readers, parts: impl Into<VecDeque<Part>>) -> Self {
        let parts = parts.into();
        let left = parts.iter().map(Part::len).sum();
        let spare = VecDeque::with_capacity(SPARE);
        Self { opened, readers, parts, left, reading: None, inline: true, spare }
    }

    /// The next bytes, taken as sent, if they are the file's and need no waiting; the caller is to send
    /// exactly these. `None`: `poll_frame` has what is next, or why there is nothing.
    ///
    /// Their first and last byte stand for all of them: the kernel reads ahead, so a hole between two
    /// cached pages is rare, and costs the core one read from disk.
    pub(super) fn take_slice(&mut self) -> Option<Slice> {
        let Some(Part::File(range)) = self.parts.front() else { return None };
        if self.reading.is_some() || !self.inline || range.is_empty() {
            return None;
        }
        let slice = range.start..range.end.min(range.start + MAX_SLICE);
        let mut byte = [0];
        let mut is_cached = |at| read_cached(&self.opened.file, &mut byte, at) == Ok(1);
        if !is_cached(slice.start) || !is_cached(slice.end - 1) {
            return None;
        }
        let rest = slice.end..range.end;
        let mut others = self.parts.iter().skip(1);
        let is_last = rest.is_empty() && !others.any(|part| matches!(part, Part::File(_)));
        if is_last && !self.opened.is_unchanged() {
            return None;
        }
        self.parts.pop_front();
        if !rest.is_empty() {
            self.parts.push_front(Part::File(rest));
        }
        self.left -= slice.end - slice.start;
        Some(Slice { file: Arc::clone(&self.opened.file), range: slice })
    }

    /// A buffer of `length` bytes whose content does not matter.
    fn buffer(&mut self, length: usize) -> BytesMut {
        for _ in 0..self.spare.len() {
            let Some(sent) = self.spare.pop_front() else { break };
            match sent.try_into_mut() {
                Ok(mut free) => {
                    free.resize(length, 0);
                    return free;
                }
                Err(taken) => self.spare.push_back(taken),
            }
        }
        BytesMut::zeroed(length)
    }

    /// Reads the next piece of `range`.
    fn poll_read(&mut self, cx: &mut Context<'_>, range: &Range<u64>) -> Poll<io::Result<Bytes>> {
        if self.reading.is_none() {
            let length = usize::try_from(range.end - range.start).map_or(PIECE, |l| l.min(PIECE));
            let mut buffer = self.buffer(length);
            if self.inline {
                match read_cached(&self.opened.file, &mut buffer, range.start) {
                    Ok(read) => return Poll::Ready(Ok(self.piece(buffer, read))),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // Some file systems cannot say.
                    Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.inline = false,
                    Err(errno) => return Poll::Ready(Err(errno.into())),
                }
            }
            let (file, readers, from) =
                (Arc::clone(&self.opened.file), self.readers.clone(), range.start);
            self.reading = Some(Box::pin(async move {
                let turn = readers.0.acquire_owned().await.map_err(io::Error::other)?;
                let reading = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    let read = read_fully(&file, &mut buffer, from)?;
                    Ok((buffer, read))
                });
                reading.await.unwrap_or_else(|ended| Err(io::Error::other(ended)))
            }));
        }
        let Some(reading) = &mut self.reading else { return Poll::Pending };
        let outcome = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(outcome.map(|(buffer, read)| self.piece(buffer, read)))
    }

    fn piece(&mut self, mut buffer: BytesMut, read: usize) -> Bytes {
        buffer.truncate(read);
        let piece = buffer.freeze();
        if self.left > piece.len() as u64 {
            if self.spare.len() == SPARE {
                self.spare.pop_front();
            }
            self.spare.push_back(piece.clone());
        }
        piece
    }
}

/// Reads what needs no waiting.
fn read_cached(file: &File, buffer: &mut [u8], from: u64) -> Result<usize, Errno> {
    let mut slices = [IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, &mut slices, from, ReadWriteFlags::NOWAIT)
}

fn read_fully(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], from + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// All of a small file, if it needs no waiting and is as long as it was.
pub fn read_small(opened: &Opened) -> Option<Bytes> {
    let length = usize::try_from(opened.size).ok().filter(|&length| length <= PIECE)?;
    let mut buffer = BytesMut::zeroed(length);
    let read = read_cached(&opened.file, &mut buffer, 0).ok()?;
    (read == length && opened.is_unchanged()).then(|| buffer.freeze())
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let piece = match this.parts.front() {
                None => return Poll::Ready(None),
                Some(Part::Text(text)) => {
                    let text = text.clone();
                    this.parts.pop_front();
                    text
                }
                Some(Part::File(range)) if range.is_empty() => {
                    this.parts.pop_front();
                    continue;
                }
                Some(Part::File(range)) => {
                    let range = range.clone();
                    let piece = match ready!(this.poll_read(cx, &range)) {
                        Ok(piece) if piece.is_empty() => Err(BodyError::FileChanged),
                        Ok(piece) => Ok(piece),
                        Err(error) => Err(BodyError::File(error.to_string().into())),
                    };
                    let piece = match piece {
                        Ok(piece) => piece,
                        Err(error) => {
                            this.parts.clear();
                            this.left = 0;
                            return Poll::Ready(Some(Err(error)));
                        }
                    };
                    let next = range.start + piece.len() as u64;
                    this.parts.pop_front();
                    if next < range.end {
                        this.parts.push_front(Part::File(next..range.end));
                    } else if !this.parts.iter().any(|part| matches!(part, Part::File(_)))
                        && !this.opened.is_unchanged()
                    {
                        this.parts.clear();
                        this.left = 0;
                        return Poll::Ready(Some(Err(BodyError::FileChanged)));
                    }
                    piece
                }
            };
            this.left -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        // Closing the last descriptor of a deleted file frees its blocks, which takes a while.
        if self.opened.is_deleted()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let file = Arc::clone(&self.opened.file);
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http_body_util::BodyExt;

    use super::*;
    use crate::files::{Links, open};

    async fn file(bytes: &[u8]) -> (tempfile::TempDir, Opened) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), bytes).unwrap();
        let opened = open(dir.path(), "f", Links::Beneath).await.unwrap();
        (dir, opened)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_file_comes_whole_whether_it_is_cached_or_not() {
        let bytes = pattern(3 * PIECE + 17);
        let (_dir, opened) = file(&bytes).await;

        for inline in [true, false] {
            let parts = vec![Part::File(0..opened.size)];
            let mut body = FileBody::new(opened.clone(), Readers::default(), parts);
            body.inline = inline;
            assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));

            let sent = body.collect().await.unwrap().to_bytes();

            assert!(sent == bytes, "inline: {inline}");
        }
    }

    #[tokio::test]
    async fn parts_come_in_their_order() {
        let bytes = pattern(2 * PIECE);
        let (_dir, opened) = file(&bytes).await;
        let parts = vec![
            Part::Text(Bytes::from_static(b"<")),
            Part::File(PIECE as u64 - 1..PIECE as u64 + 1),
            Part::Text(Bytes::from_static(b"|")),
            Part::File(5..5),
            Part::File(0..2),
            Part::Text(Bytes::from_static(b">")),
        ];

        let body = FileBody::new(opened, Readers::default(), parts);
        assert_eq!(body.size_hint().exact(), Some(7));
        let sent = body.collect().await.unwrap().to_bytes();

        let expected = [b"<", &bytes[PIECE - 1..=PIECE], b"|", &bytes[..2], b">"].concat();
        assert_eq!(sent, expected);
    }

    #[tokio::test]
    async fn a_file_that_shrinks_breaks_off() {
        for inline in [true, false] {
            let (dir, opened) = file(&pattern(2 * PIECE)).await;
            let parts = vec![Part::File(0..opened.size)];
            let mut body = FileBody::new(opened, Readers::default(), parts);
            body.inline = inline;

            let first = body.frame().await.unwrap().unwrap();
            let file = fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap();
            file.set_len(PIECE as u64 + 10).unwrap();
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                rest.push(frame);
            }

            assert_eq!(first.into_data().unwrap().len(), PIECE);
            assert!(matches!(rest.last(), Some(Err(BodyError::FileChanged))), "{rest:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_rewritten_breaks_off_before_its_end() {
        let (dir, opened) = file(&pattern(2 * PIECE)).await;
        let parts = vec![Part::File(0..opened.size)];
        let mut body = FileBody::new(opened, Readers::default(), parts);

        let _first = body.frame().await.unwrap().unwrap();
        fs::write(dir.path().join("f"), vec![0; 2 * PIECE]).unwrap();

        assert!(matches!(body.frame().await, Some(Err(BodyError::FileChanged))));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn slices_are_the_file_and_not_what_is_between() {
        let bytes = pattern(MAX_SLICE as usize + 1000);
        let (_dir, opened) = file(&bytes).await;
        let size = opened.size;
        let parts = vec![Part::File(0..size), Part::Text(Bytes::from_static(b"|"))];
        let mut body = FileBody::new(opened, Readers::default(), parts);

        let slices: Vec<_> = std::iter::from_fn(|| body.take_slice()).collect();

        let ranges: Vec<_> = slices.iter().map(|slice| slice.range.clone()).collect();
        assert_eq!(ranges, [0..MAX_SLICE, MAX_SLICE..size]);
        assert_eq!(body.size_hint().exact(), Some(1));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "|");
    }

    #[tokio::test]
    async fn a_file_that_changed_gives_no_last_slice() {
        for length in [2 * PIECE, PIECE] {
            let (dir, opened) = file(&pattern(2 * PIECE)).await;
            let parts = vec![Part::File(0..opened.size)];
            let mut body = FileBody::new(opened, Readers::default(), parts);
            fs::write(dir.path().join("f"), vec![0; length]).unwrap();

            assert!(body.take_slice().is_none());
            let outcome = body.collect().await;

            assert!(matches!(outcome, Err(BodyError::FileChanged)));
        }
    }

    #[tokio::test]
    async fn buffers_are_used_again_once_they_are_free() {
        let (_dir, opened) = file(&pattern(4 * PIECE)).await;
        let parts = vec![Part::File(0..opened.size)];
        let mut body = FileBody::new(opened, Readers::default(), parts);

        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let address = first.as_ptr();
        drop(first);
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();

        assert_eq!(second.as_ptr(), address);
    }
}
