//! The client's half of an exchange, shared by the request body (wherever the plugin reads it) and
//! the stream's task, which must learn of a reset even while nobody reads.
//!
//! quinn keeps one waker for a stream's reader, so both sides poll it with one waker that wakes both.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::code::{Code, Fault};
use super::frame::{Event, FrameReader};
use super::message::{self, MessageError};
use crate::http::body::BodyError;
use crate::http::limits::Limits;

#[derive(Debug, Default)]
struct Wakers {
    body: AtomicWaker,
    task: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.body.wake();
        self.task.wake();
    }
}

#[derive(Debug)]
struct Reading {
    frames: FrameReader,
    /// Read before the body was made.
    ahead: VecDeque<Event>,
    /// Bytes that `content-length` still promises.
    left: Option<u64>,
    fault: Option<Fault>,
    wanted: bool,
}

/// What the two sides share.
#[derive(Debug)]
pub(super) struct Inbound {
    reading: Mutex<Reading>,
    wakers: Arc<Wakers>,
    both: Waker,
    limits: Arc<Limits>,
}

impl Inbound {
    /// `ahead` was read from `frames` already; `content_length` is the validated field.
    pub(super) fn new(
        frames: FrameReader,
        ahead: VecDeque<Event>,
        content_length: Option<u64>,
        limits: Arc<Limits>,
    ) -> Arc<Self> {
        let wakers = Arc::new(Wakers::default());
        Arc::new(Self {
            reading: Mutex::new(Reading {
                frames,
                ahead,
                left: content_length,
                fault: None,
                wanted: false,
            }),
            both: Waker::from(Arc::clone(&wakers)),
            wakers,
            limits,
        })
    }

    /// Ready once the exchange cannot go on: reset by the client, or malformed.
    pub(super) fn poll_fault(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.wakers.task.register(cx.waker());
        let mut reading = self.reading.lock();
        if let Some(fault) = reading.fault {
            return Poll::Ready(fault);
        }
        ready!(reading.frames.poll_reset(&mut Context::from_waker(&self.both)));
        reading.fault = Some(Fault::Gone);
        drop(reading);
        // Whoever waits for the body must learn of it too.
        self.wakers.body.wake();
        Poll::Ready(Fault::Gone)
    }

    /// The fault that is known by now.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.reading.lock().fault.map_or(Ok(()), Err)
    }

    /// Ready once somebody has asked for the body.
    pub(super) fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wakers.task.register(cx.waker());
        if self.reading.lock().wanted { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Tells the client, and whoever still reads, that nothing more is read.
    pub(super) fn stop(&self, code: Code) {
        let mut reading = self.reading.lock();
        if !reading.frames.is_over() {
            reading.frames.stop(code);
            reading.fault.get_or_insert(Fault::Gone);
            drop(reading);
            self.wakers.body.wake();
        }
    }

    /// The request body.
    pub(super) fn body(self: &Arc<Self>) -> InboundBody {
        InboundBody(Arc::clone(self))
    }
}

impl Reading {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        let malformed = |reason| Fault::Stream(Code::MESSAGE_ERROR, reason);
        let event = match self.ahead.pop_front() {
            Some(event) => event,
            None => ready!(self.frames.poll_event(cx))?,
        };
        Poll::Ready(match event {
            Event::Data(data) => {
                if let Some(left) = &mut self.left {
                    *left = left
                        .checked_sub(data.len() as u64)
                        .ok_or(malformed("more data than content-length"))?;
                }
                Ok(Some(Frame::data(data)))
            }
            Event::End | Event::Headers(_) if self.left.is_some_and(|left| left > 0) => {
                Err(malformed("less data than content-length"))
            }
            Event::End => Ok(None),
            Event::Headers(section) => match message::trailers(section, limits) {
                Ok(trailers) => Ok(Some(Frame::trailers(trailers))),
                Err(error) => Err(error.into()),
            },
            Event::HeadersTooLarge => Err(MessageError::TooLarge.into()),
        })
    }
}

impl From<MessageError> for Fault {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Qpack(reason) => {
                Self::Connection(Code::QPACK_DECOMPRESSION_FAILED, reason)
            }
            MessageError::Malformed(reason) => Self::Stream(Code::MESSAGE_ERROR, reason),
            MessageError::TooLarge => {
                Self::Stream(Code::EXCESSIVE_LOAD, "the field section is too large")
            }
        }
    }
}

/// The wire's side of a [`crate::http::body::RequestBody`].
#[derive(Debug)]
pub(super) struct InboundBody(Arc<Inbound>);

impl Body for InboundBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let inbound = &*self.0;
        inbound.wakers.body.register(cx.waker());
        let mut reading = inbound.reading.lock();
        if !reading.wanted {
            reading.wanted = true;
            inbound.wakers.task.wake();
        }
        let fault = match reading.fault {
            Some(fault) => fault,
            None => {
                let mut both = Context::from_waker(&inbound.both);
                match ready!(reading.poll_frame(&mut both, &inbound.limits)) {
                    Ok(frame) => return Poll::Ready(frame.map(Ok)),
                    Err(fault) => {
                        reading.fault = Some(fault);
                        inbound.wakers.task.wake();
                        fault
                    }
                }
            }
        };
        Poll::Ready(Some(Err(match fault {
            Fault::Gone => BodyError::Gone,
            Fault::Stream(_, reason) | Fault::Connection(_, reason) => BodyError::Malformed(reason),
        })))
    }

    fn is_end_stream(&self) -> bool {
        let reading = self.0.reading.lock();
        reading.ahead.is_empty() && reading.fault.is_none() && reading.frames.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.reading.lock().left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
