//! The way of a request body from the connection to whoever reads it: a slot for one frame.
//!
//! The reader may live in the connection's own task (a handler that reads) or in another (a guest
//! instance); a wake-up is sent only where the other side is another task, because the connection
//! looks at the slot after every poll of its handler anyway.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;

use crate::http::body::BodyError;

#[derive(Default)]
struct Slot {
    frame: Option<Frame<Bytes>>,
    end: Option<Result<(), BodyError>>,
    asked: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    feeder: Option<Waker>,
}

/// The connection's end.
pub(super) struct Feeder(Arc<Mutex<Slot>>);

/// The handler's end, boxed into a `RequestBody`.
pub(super) struct Reader(Arc<Mutex<Slot>>);

/// What the reader is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// There is room for a frame. `asked` once the body has been polled.
    Room { asked: bool },
    /// The last frame has not been taken.
    Full,
    /// The body was dropped.
    Gone,
}

/// A slot and its two ends.
pub(super) fn slot() -> (Feeder, Reader) {
    let slot = Arc::new(Mutex::new(Slot::default()));
    (Feeder(Arc::clone(&slot)), Reader(slot))
}

fn wake_other(waker: Option<Waker>, cx: &Context<'_>) {
    if let Some(waker) = waker.filter(|waker| !waker.will_wake(cx.waker())) {
        waker.wake();
    }
}

impl Feeder {
    /// What the reader is about; the task is woken when that changes.
    pub(super) fn poll_demand(&self, cx: &Context<'_>) -> Demand {
        let mut slot = self.0.lock();
        if slot.reader_gone {
            return Demand::Gone;
        }
        match &mut slot.feeder {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if slot.frame.is_some() { Demand::Full } else { Demand::Room { asked: slot.asked } }
    }

    /// Puts `frame` into the slot, which has room; with the end of the body if `last`.
    pub(super) fn offer(&self, cx: &Context<'_>, frame: Frame<Bytes>, last: bool) {
        let mut slot = self.0.lock();
        slot.frame = Some(frame);
        if last {
            slot.end = Some(Ok(()));
            slot.feeder = None;
        }
        let reader = slot.reader.take();
        drop(slot);
        wake_other(reader, cx);
    }

    /// Ends the body.
    pub(super) fn end(&self, cx: &Context<'_>, result: Result<(), BodyError>) {
        let mut slot = self.0.lock();
        slot.end.get_or_insert(result);
        slot.feeder = None;
        let reader = slot.reader.take();
        drop(slot);
        wake_other(reader, cx);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.end.get_or_insert(Err(BodyError::Gone));
        let reader = slot.reader.take();
        drop(slot);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut slot = self.0.lock();
        let first = !std::mem::replace(&mut slot.asked, true);
        let polled = if let Some(frame) = slot.frame.take() {
            Poll::Ready(Some(Ok(frame)))
        } else {
            match &slot.end {
                Some(Ok(())) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.clone()))),
                None => {
                    slot.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        };
        // Room again, or the first look at a body that the client holds back (100-continue).
        let feeder = if first || polled.is_ready() { slot.feeder.take() } else { None };
        drop(slot);
        wake_other(feeder, cx);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.0.lock();
        slot.frame.is_none() && matches!(slot.end, Some(Ok(())))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.reader_gone = true;
        slot.frame = None;
        let feeder = slot.feeder.take();
        drop(slot);
        // Not compared with the current task: a drop has no context. One wake-up a body at most.
        if let Some(feeder) = feeder {
            feeder.wake();
        }
    }
}
