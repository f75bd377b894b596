//! What is to be written: small pieces copied together, at most one large one by reference, or one slice
//! of a file that the kernel sends itself.
//!
//! A response whose body is small leaves in one write, a large chunk goes out uncopied with its
//! frame around it in one vectored write, and memory is bounded because nothing more is taken while
//! [`Output::has_room`] says no.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::file_body::Slice;

/// Up to this size a piece is copied behind what is already waiting: cheaper than another entry
/// in a vectored write.
const COPY_BELOW: usize = 8 * 1024;
/// Copied bytes past which nothing more is taken before they are written.
const FULL: usize = 32 * 1024;

const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// The write queue: `copied`, then `large` or `slice`, then `tail`.
#[derive(Debug, Default)]
pub(super) struct Output {
    copied: Vec<u8>,
    large: Bytes,
    slice: Option<Slice>,
    tail: &'static [u8],
    /// Bytes of the three that are written.
    written: usize,
    unflushed: bool,
    stalled: Option<Instant>,
}

impl Output {
    /// Where a head is written. Only while there is room.
    pub(super) fn head(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty(), "a head would overtake the body before it");
        &mut self.copied
    }

    /// Appends body bytes as they are.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() <= COPY_BELOW {
            self.copied.extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Appends bytes of a file; only where [`sends_files`] says that the transport takes them.
    pub(super) fn push_slice(&mut self, slice: Slice) {
        self.slice = Some(slice);
    }

    /// Appends body bytes as one chunk (RFC 9112 §7.1).
    pub(super) fn push_chunk(&mut self, data: Bytes) {
        let mut digits = [0_u8; 16];
        let mut at = digits.len();
        let mut left = data.len();
        while left > 0 {
            at -= 1;
            digits[at] = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
        if data.len() <= COPY_BELOW {
            // Once: a stream's buffer is a new one for each event.
            self.copied.reserve(digits.len() - at + data.len() + 2 * CHUNK_END.len());
        }
        self.copied.extend_from_slice(&digits[at..]);
        self.copied.extend_from_slice(CHUNK_END);
        self.push(data);
        if self.large.is_empty() {
            self.copied.extend_from_slice(CHUNK_END);
        } else {
            self.tail = CHUNK_END;
        }
    }

    /// Appends the end of a chunked body without trailers.
    pub(super) fn push_last_chunk(&mut self) {
        if self.large.is_empty() {
            self.copied.extend_from_slice(LAST_CHUNK);
        } else {
            self.tail = CHUNK_END_AND_LAST;
        }
    }

    /// Whether more may be appended.
    pub(super) fn has_room(&self) -> bool {
        self.large.is_empty() && self.slice.is_none() && self.copied.len() < FULL
    }

    /// Whether everything is written and flushed.
    pub(super) fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.large.is_empty() && self.slice.is_none() && !self.unflushed
    }

    /// Since when the client has taken nothing, if it is being waited for.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.stalled
    }

    /// Gives the buffer back; for an idle connection.
    pub(super) fn release(&mut self) {
        self.copied = Vec::new();
    }

    /// Writes and flushes everything.
    pub(super) fn poll_flush<IO: AsyncWrite + Unpin + 'static>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut IO,
    ) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_write(cx, io);
        if polled.is_ready() {
            self.stalled = None;
        } else {
            self.stalled.get_or_insert_with(Instant::now);
        }
        polled
    }

    fn poll_write<IO: AsyncWrite + Unpin + 'static>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut IO,
    ) -> Poll<io::Result<()>> {
        let total = self.copied.len() + self.large.len() + self.tail.len();
        while self.written < total {
            let mut skip = self.written;
            let mut rest = |piece: &'_ [u8]| {
                let from = skip.min(piece.len());
                skip -= from;
                from
            };
            let (a, b, c) = (rest(&self.copied), rest(&self.large), rest(self.tail));
            let written = if self.large.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.copied[a..]))?
            } else {
                let slices = [
                    IoSlice::new(&self.copied[a..]),
                    IoSlice::new(&self.large[b..]),
                    IoSlice::new(&self.tail[c..]),
                ];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.stalled = None;
            self.unflushed = true;
        }
        self.copied.clear();
        self.large = Bytes::new();
        self.tail = b"";
        self.written = 0;
        while let Some(slice) = &mut self.slice {
            let sent = ready!(poll_send(cx, io, slice))?;
            if sent == 0 {
                // The file has become shorter.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.stalled = None;
            if slice.range.is_empty() {
                self.slice = None;
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether the kernel can send a file's bytes on this transport by itself: on plain TCP, where nothing is
/// done to them.
pub(super) fn sends_files<IO: 'static>(io: &IO) -> bool {
    (io as &dyn Any).is::<TcpStream>()
}

/// Sends what the socket takes of the slice, and shortens it by that.
fn poll_send<IO: 'static>(
    cx: &mut Context<'_>,
    io: &IO,
    slice: &mut Slice,
) -> Poll<io::Result<usize>> {
    let Some(socket) = (io as &dyn Any).downcast_ref::<TcpStream>() else {
        return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
    };
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let left = usize::try_from(slice.range.end - slice.range.start).unwrap_or(usize::MAX);
        let sent = socket.try_io(Interest::WRITABLE, || {
            let at = Some(&mut slice.range.start);
            Ok(rustix::fs::sendfile(socket, &slice.file, at, left)?)
        });
        match sent {
            // Says that the socket is to be waited for.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}
