//! The bytes of a stored body: blocks of memory that are counted for as long as anybody has them.
//!
//! A body that was evicted may still be sent to a slow client. [`Memory`] counts what is really there,
//! so that the cache keeps to its size then, too: nothing more is stored meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::body::{BodyError, ResponseBody};

/// Bytes of every block of a body but the last.
pub const BLOCK: usize = 128 * 1024;

/// What a block costs beside its bytes: its owner, its count and its place in the list.
const OWNER: u64 = 96;
/// From this size on the allocator (jemalloc, which places such allocations at random within a page, so that
/// caches of processors serve them evenly) takes a page more.
const LARGE: u64 = 16 * 1024;
const PAGE: u64 = 4096;

/// What a block of so many bytes takes of memory: its size class, four of which there are to a
/// doubling, and what there is beside it.
fn cost(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    let step = (bytes.next_power_of_two() / 8).max(16);
    let class = bytes.next_multiple_of(step);
    class + if class >= LARGE { PAGE } else { 0 } + OWNER
}

/// Counts the bytes of all blocks, stored, being filled or still being sent, up to a limit.
#[derive(Debug)]
pub struct Memory {
    used: AtomicU64,
    limit: u64,
}

impl Memory {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    /// Bytes of all blocks that are there.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// No room yet.
    fn room(self: &Arc<Self>) -> Room {
        Room { memory: Arc::clone(self), bytes: 0 }
    }
}

/// Room that was taken; given back when it is dropped.
#[derive(Debug)]
struct Room {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Room {
    /// Takes more; false, and nothing taken, where it would be too much.
    fn grow(&mut self, bytes: u64) -> bool {
        let used = self.memory.used.fetch_add(bytes, Ordering::Relaxed);
        if used.saturating_add(bytes) > self.memory.limit {
            self.memory.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// A part of it, to be given back by itself.
    fn split(&mut self, bytes: u64) -> Self {
        self.bytes -= bytes;
        Self { memory: Arc::clone(&self.memory), bytes }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The memory of one block.
struct Block {
    bytes: Box<[u8]>,
    _room: Room,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A copy of bytes, in memory of its own: what a plugin sent may be a small part of something large.
fn block(room: Room, parts: &[Bytes]) -> Bytes {
    let mut bytes = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Bytes::from_owner(Block { bytes: bytes.into_boxed_slice(), _room: room })
}

/// A whole body. Cheap to clone: the blocks are shared.
#[derive(Clone, Debug)]
pub struct Blocks {
    len: u64,
    blocks: Inner,
}

/// Most bodies are short; theirs need no list.
#[derive(Clone, Debug)]
enum Inner {
    Empty,
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Blocks {
    /// A copy of a body that is here; `None` where there is no room.
    pub fn copy(memory: &Arc<Memory>, body: &Bytes) -> Option<Self> {
        let mut building = Building::new(memory);
        building.push(body).then(|| building.finish()).flatten()
    }

    /// A copy in one piece, whatever its size; `None` where there is no room.
    pub fn copy_whole(memory: &Arc<Memory>, body: &Bytes) -> Option<Bytes> {
        let mut room = memory.room();
        let has_room = room.grow(cost(body.len()));
        has_room.then(|| block(room, std::slice::from_ref(body)))
    }

    /// Bytes of the body.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// What it weighs, in bytes of memory.
    pub fn weight(&self) -> u64 {
        self.iter().map(|block| cost(block.len())).sum()
    }

    /// The body, to be sent.
    pub fn body(&self) -> ResponseBody {
        match &self.blocks {
            Inner::Empty => ResponseBody::empty(),
            Inner::One(block) => ResponseBody::full(block.clone()),
            Inner::Many(blocks) => {
                let rest = Rest { blocks: blocks.iter().cloned().rev().collect(), len: self.len };
                ResponseBody::stream(Box::pin(rest))
            }
        }
    }

    /// Its bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        match &self.blocks {
            Inner::Empty => [].iter(),
            Inner::One(block) => std::slice::from_ref(block).iter(),
            Inner::Many(blocks) => blocks.iter(),
        }
    }
}

/// A body that is being taken in: whole blocks, and after them what does not fill one yet.
#[derive(Debug)]
pub struct Building {
    blocks: Vec<Bytes>,
    /// As it came: shared with the readers that get it first.
    tail: Vec<Bytes>,
    tail_len: usize,
    /// Of the tail.
    room: Room,
}

impl Building {
    /// An empty one.
    pub fn new(memory: &Arc<Memory>) -> Self {
        Self { blocks: Vec::new(), tail: Vec::new(), tail_len: 0, room: memory.room() }
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        (self.blocks.len() * BLOCK + self.tail_len) as u64
    }

    /// Takes in more; false, and nothing taken in, where there is no room for it.
    pub fn push(&mut self, data: &Bytes) -> bool {
        let filled = ((self.tail_len + data.len()) / BLOCK) as u64;
        let beside = cost(BLOCK) - BLOCK as u64;
        if !self.room.grow(data.len() as u64 + filled * beside) {
            return false;
        }
        let mut data = data.clone();
        while self.tail_len + data.len() >= BLOCK {
            self.tail.push(data.split_to(BLOCK - self.tail_len));
            let room = self.room.split(cost(BLOCK));
            self.blocks.push(block(room, &self.tail));
            self.tail.clear();
            self.tail_len = 0;
        }
        if !data.is_empty() {
            self.tail_len += data.len();
            self.tail.push(data);
        }
        true
    }

    /// What there is from `position` on, as far as it lies in one piece.
    pub fn at(&self, position: u64) -> Option<Bytes> {
        let position = usize::try_from(position).ok()?;
        if let Some(block) = self.blocks.get(position / BLOCK) {
            return Some(block.slice(position % BLOCK..));
        }
        piece_at(&self.tail, position - self.blocks.len() * BLOCK)
    }

    /// The whole body; `None`, and nothing changed, where there is no room for its last block.
    pub fn finish(&mut self) -> Option<Blocks> {
        let len = self.size();
        if !self.tail.is_empty() {
            let cost = cost(self.tail_len);
            if !self.room.grow(cost - self.tail_len as u64) {
                return None;
            }
            let room = self.room.split(cost);
            self.blocks.push(block(room, &self.tail));
            self.tail.clear();
            self.tail_len = 0;
        }
        let mut blocks = std::mem::take(&mut self.blocks);
        let blocks = match blocks.len() {
            0 => Inner::Empty,
            1 => Inner::One(blocks.remove(0)),
            _ => Inner::Many(blocks.into()),
        };
        Some(Blocks { len, blocks })
    }
}

/// What lies in `pieces` from `position` on, as far as it is in one of them.
pub fn piece_at<'a>(pieces: impl IntoIterator<Item = &'a Bytes>, position: usize) -> Option<Bytes> {
    let mut within = position;
    for piece in pieces {
        if within < piece.len() {
            return Some(piece.slice(within..));
        }
        within -= piece.len();
    }
    None
}

/// What is still to be sent; a block is let go of when it was.
struct Rest {
    /// The next one last.
    blocks: Vec<Bytes>,
    len: u64,
}

impl Body for Rest {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = self.blocks.pop();
        if let Some(block) = &next {
            self.len -= block.len() as u64;
        }
        Poll::Ready(next.map(|block| Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.blocks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn text(len: usize) -> Bytes {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_body_comes_back_as_it_was_and_its_room_is_given_back() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7] {
            let memory = Memory::new(1 << 30);
            let body = text(len);

            let blocks = Blocks::copy(&memory, &body).unwrap();
            let counted = memory.used();
            let sent = blocks.body().collect().await.unwrap().to_bytes();

            assert_eq!(sent, body, "{len}");
            assert_eq!(blocks.size(), len as u64);
            assert_eq!(blocks.weight(), counted);
            drop(sent);
            drop(blocks);
            assert_eq!(memory.used(), 0, "{len}");
        }
    }

    #[test]
    fn pieces_of_any_size_make_the_same_body() {
        for piece in [1000, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK] {
            let memory = Memory::new(1 << 30);
            let body = text(4 * BLOCK + 5);
            let mut building = Building::new(&memory);
            let mut read = Vec::new();

            for start in (0..body.len()).step_by(piece) {
                let part = body.slice(start..body.len().min(start + piece));
                assert!(building.push(&part));
                while let Some(more) = building.at(read.len() as u64) {
                    read.extend_from_slice(&more);
                }
            }
            let blocks = building.finish().unwrap();

            assert_eq!(read, body, "{piece}");
            let kept: Vec<u8> = blocks.iter().flatten().copied().collect();
            assert_eq!(kept, body, "{piece}");
            assert_eq!(memory.used(), blocks.weight(), "{piece}");
        }
    }

    #[test]
    fn there_is_no_more_than_the_limit() {
        let memory = Memory::new(3 * BLOCK as u64);
        let held = Blocks::copy(&memory, &text(2 * BLOCK)).unwrap();

        assert!(Blocks::copy(&memory, &text(2 * BLOCK)).is_none());
        let sending = held.body();
        drop(held);
        assert!(Blocks::copy(&memory, &text(2 * BLOCK)).is_none(), "it is still being sent");
        drop(sending);
        assert!(Blocks::copy(&memory, &text(2 * BLOCK)).is_some());
    }
}
