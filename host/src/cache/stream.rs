//! A body that is stored while it is sent, to everybody who asked for it.
//!
//! There is no task for it: whoever reads and finds nothing new asks the plugin's body for more, and
//! wakes the others. So it goes on for as long as one reader is left, whoever began it, at the
//! speed of the fastest; when none is left, the plugin's body is dropped, which ends its work.
//!
//! A body that turns out too large to store stops being one: from then on only what the
//! slowest reader has not got yet is kept, at most [`WINDOW`]; a reader that stays that far behind
//! for [`LAG_LIMIT`] is cut off.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::blocks::{Blocks, Building, Memory, piece_at};
use crate::http::body::{BodyError, ResponseBody};

/// Bytes that the slowest reader of a body that is not stored may be behind.
pub const WINDOW: u64 = 1024 * 1024;

/// How long it may be so before it is cut off.
pub const LAG_LIMIT: Duration = Duration::from_secs(5);

/// What to do when the body is over.
pub trait Outcome: Send + 'static {
    /// All of it is here.
    fn stored(self: Box<Self>, body: Blocks);
    /// It will not be stored, because of its size or for lack of room. Its readers get it still.
    fn too_large(self: Box<Self>);
}

/// A body that is on its way.
pub struct Stream {
    state: Mutex<State>,
    readers: Arc<Readers>,
    /// Bytes of the largest body that is stored.
    largest: u64,
    length: Option<u64>,
}

struct State {
    /// `None` when it is over, or when nobody is left to read it.
    source: Option<ResponseBody>,
    kept: Kept,
    end: Option<Result<(), BodyError>>,
    trailers: Option<HeaderMap>,
    outcome: Option<Box<dyn Outcome>>,
    /// Where each reader is, by its number.
    places: HashMap<u64, Place>,
    next_reader: u64,
}

#[derive(Clone, Copy)]
struct Place {
    position: u64,
    cut_off: bool,
}

enum Kept {
    /// All of it so far.
    All(Building),
    /// What not all readers have got yet: where it begins, and the pieces.
    Window { begin: u64, pieces: VecDeque<Bytes>, len: u64 },
}

impl Kept {
    fn end(&self) -> u64 {
        match self {
            Self::All(building) => building.size(),
            Self::Window { begin, len, .. } => begin + len,
        }
    }

    fn at(&self, position: u64) -> Option<Bytes> {
        match self {
            Self::All(building) => building.at(position),
            Self::Window { begin, pieces, .. } => {
                piece_at(pieces, usize::try_from(position.checked_sub(*begin)?).ok()?)
            }
        }
    }

    /// Lets go of what every reader has.
    fn forget_before(&mut self, position: u64) {
        let Self::Window { begin, pieces, len } = self else { return };
        while let Some(first) = pieces.front()
            && *begin + first.len() as u64 <= position
        {
            *begin += first.len() as u64;
            *len -= first.len() as u64;
            pieces.pop_front();
        }
    }

    /// Becomes a window over what is there from `position` on: it will not be stored.
    fn open(&mut self, position: u64) {
        let mut pieces = VecDeque::new();
        let mut len = 0;
        while let Some(piece) = self.at(position + len) {
            len += piece.len() as u64;
            pieces.push_back(piece);
        }
        *self = Self::Window { begin: position, pieces, len };
    }
}

/// Who is woken when there is more.
#[derive(Default)]
struct Readers(Mutex<Vec<(u64, Waker)>>);

impl Readers {
    fn wait(&self, reader: u64, waker: &Waker) {
        let mut waiting = self.0.lock();
        match waiting.iter_mut().find(|(number, _)| *number == reader) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.push((reader, waker.clone())),
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// All but the one who found out.
    fn wake_others(&self, reader: u64) {
        self.0.lock().retain(|(number, _)| *number != reader);
        self.wake_all();
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl Stream {
    /// A body that nobody reads yet. `declared` is what its head says of its length: a plugin's stream
    /// does not know it.
    pub fn new(
        source: ResponseBody,
        memory: &Arc<Memory>,
        declared: Option<u64>,
        largest: u64,
        outcome: Box<dyn Outcome>,
    ) -> Arc<Self> {
        Arc::new(Self {
            length: source.size_hint().exact().or(declared),
            state: Mutex::new(State {
                source: Some(source),
                kept: Kept::All(Building::new(memory)),
                end: None,
                trailers: None,
                outcome: Some(outcome),
                places: HashMap::new(),
                next_reader: 0,
            }),
            readers: Arc::default(),
            largest,
        })
    }

    /// A reader from the beginning. `None` where the beginning is gone, or nobody asks for the rest.
    pub fn reader(self: &Arc<Self>) -> Option<ResponseBody> {
        let mut state = self.state.lock();
        let is_whole = matches!(state.kept, Kept::All(_));
        if !is_whole || (state.source.is_none() && state.end.is_none()) {
            return None;
        }
        let number = state.next_reader;
        state.next_reader += 1;
        state.places.insert(number, Place { position: 0, cut_off: false });
        drop(state);
        let reader = Reader { stream: Arc::clone(self), number, position: 0, lagging: None };
        Some(ResponseBody::stream(Box::pin(reader)))
    }

    fn leave(&self, number: u64) {
        let mut state = self.state.lock();
        state.places.remove(&number);
        if !state.places.is_empty() {
            state.forget_read();
            drop(state);
            // One of them may have to ask from now on, or has room again.
            self.readers.wake_all();
            return;
        }
        // Not every protocol asks once more behind the last byte that was promised.
        let is_complete = state.end.is_none() && self.length == Some(state.kept.end());
        let stored = if is_complete { state.over(Ok(())) } else { None };
        let unread = (state.source.take(), state.outcome.take());
        drop(state);
        drop(unread);
        if let Some((outcome, blocks)) = stored {
            outcome.stored(blocks);
        }
    }
}

impl State {
    fn slowest(&self) -> u64 {
        self.places
            .values()
            .filter(|place| !place.cut_off)
            .map(|place| place.position)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn forget_read(&mut self) {
        let slowest = self.slowest();
        self.kept.forget_before(slowest);
    }

    /// Takes in what the plugin sent.
    fn take_in(&mut self, data: &Bytes, stream: &Stream) {
        if let Kept::All(building) = &mut self.kept {
            if building.size() + data.len() as u64 <= stream.largest && building.push(data) {
                return;
            }
            self.give_up();
        }
        if let Kept::Window { pieces, len, .. } = &mut self.kept {
            *len += data.len() as u64;
            pieces.push_back(data.clone());
        }
    }

    /// Nothing of it will be stored.
    fn give_up(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            outcome.too_large();
        }
        let slowest = self.slowest();
        self.kept.open(slowest.min(self.kept.end()));
    }

    /// The end; what is to be stored, if anything is.
    fn over(&mut self, end: Result<(), BodyError>) -> Option<(Box<dyn Outcome>, Blocks)> {
        self.source = None;
        let complete = end.is_ok();
        self.end = Some(end);
        let Kept::All(building) = &mut self.kept else { return None };
        let Some(blocks) = complete.then(|| building.finish()).flatten() else {
            if complete {
                self.give_up();
            }
            self.outcome = None;
            return None;
        };
        let pieces = blocks.iter().cloned().collect();
        self.kept = Kept::Window { begin: 0, pieces, len: blocks.size() };
        self.outcome.take().map(|outcome| (outcome, blocks))
    }
}

/// One client's view of it.
struct Reader {
    stream: Arc<Stream>,
    number: u64,
    position: u64,
    /// Since when the slowest reader holds this one up.
    lagging: Option<Pin<Box<Sleep>>>,
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let stream = Arc::clone(&this.stream);
        let mut state = stream.state.lock();
        loop {
            if state.places.get(&this.number).is_none_or(|place| place.cut_off) {
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
            if let Some(data) = state.kept.at(this.position) {
                this.position += data.len() as u64;
                this.lagging = None;
                let before = state.kept.end() - this.position;
                if let Some(place) = state.places.get_mut(&this.number) {
                    place.position = this.position;
                }
                let is_window = matches!(state.kept, Kept::Window { .. });
                if is_window {
                    state.forget_read();
                }
                let others = state.places.len() > 1;
                drop(state);
                if is_window && others && before + data.len() as u64 >= WINDOW {
                    // Who waits for this one has room again.
                    stream.readers.wake_all();
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match &state.end {
                Some(Ok(())) => {
                    let trailers = state.trailers.clone().filter(|_| this.position != u64::MAX);
                    this.position = u64::MAX;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.clone()))),
                None => {}
            }
            let behind = state.kept.end().saturating_sub(state.slowest());
            if matches!(state.kept, Kept::Window { .. }) && behind >= WINDOW {
                stream.readers.wait(this.number, cx.waker());
                let sleep =
                    this.lagging.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAG_LIMIT)));
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.lagging = None;
                let slowest = state.slowest();
                for place in state.places.values_mut().filter(|place| place.position == slowest) {
                    place.cut_off = true;
                }
                state.forget_read();
                stream.readers.wake_all();
                continue;
            }
            stream.readers.wait(this.number, cx.waker());
            let waker = Waker::from(Arc::clone(&stream.readers));
            let Some(source) = &mut state.source else {
                return Poll::Ready(Some(Err(BodyError::Gone)));
            };
            let end = match Pin::new(&mut *source).poll_frame(&mut Context::from_waker(&waker)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = source.is_end_stream();
                        state.take_in(&data, &stream);
                        stream.readers.wake_others(this.number);
                        if !is_last {
                            continue;
                        }
                        Ok(())
                    }
                    Err(frame) => {
                        state.trailers = frame.into_trailers().ok();
                        continue;
                    }
                },
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(None) => Ok(()),
            };
            if let Some((outcome, blocks)) = state.over(end) {
                outcome.stored(blocks);
            }
            stream.readers.wake_others(this.number);
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.stream.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.position)),
            None => SizeHint::new(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.leave(self.number);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("length", &self.length).finish_non_exhaustive()
    }
}
