//! Event streams as responses: fed by topics or by an emitter, with heartbeats, until they end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, response};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use wharf_hub::{Draft, frame};

use super::emitter::Queue;
use super::{Counted, Follower, Hub, Step};
use crate::http::body::{BodyError, ResponseBody};
use crate::plugin::reply::Held;

/// How often a stream says that it is alive, unless the plugin says otherwise.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// Bytes of events that are sent together.
const TOGETHER: usize = 64 << 10;
/// When clients come back after a drain: so many milliseconds, and up to as many more.
const RETRY_AFTER_DRAIN: u32 = 500;

/// nginx and those that took it over from it: do not hold the response back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What is sent when nothing else was for a while.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// For so long.
    pub every: Duration,
    /// A comment or an event, framed.
    pub frame: Bytes,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { every: DEFAULT_HEARTBEAT, frame: Bytes::from_static(b":\n\n") }
    }
}

/// How a stream is.
#[derive(Debug, Default)]
pub struct StreamOptions {
    /// Sent before all else, framed.
    pub first: Vec<Bytes>,
    /// When the client comes back, in milliseconds.
    pub retry: Option<u32>,
    /// What keeps it alive.
    pub heartbeat: Heartbeat,
    /// Names of events after which it ends.
    pub ends_with: Box<[Box<str>]>,
    /// How long it lasts at the most.
    pub max_age: Option<Duration>,
    /// Published when it begins.
    pub on_open: Vec<Draft>,
    /// Published when it has ended.
    pub on_close: Vec<Draft>,
}

/// What feeds a stream.
#[derive(Debug)]
pub(super) enum Source {
    Topics(Follower),
    Emitter(Queue),
}

/// An event stream that has not begun.
#[derive(Debug)]
pub struct EventStream {
    source: Source,
    options: StreamOptions,
    held: Counted,
}

impl EventStream {
    /// A stream that topics feed.
    pub fn of_topics(follower: Follower, options: StreamOptions, held: Counted) -> Self {
        Self { source: Source::Topics(follower), options, held }
    }

    /// A stream that a plugin feeds.
    pub(super) fn of_emitter(queue: Queue, options: StreamOptions, held: Counted) -> Self {
        Self { source: Source::Emitter(queue), options, held }
    }
}

impl Held for EventStream {
    fn respond(self: Box<Self>, mut head: response::Parts) -> Response<ResponseBody> {
        let Self { mut source, options, held } = *self;
        let headers = &mut head.headers;
        // Without its own length and coding, which the replaced body may have had.
        headers.remove(http::header::CONTENT_LENGTH);
        let event_stream = HeaderValue::from_static("text/event-stream");
        headers.insert(CONTENT_TYPE, event_stream);
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.entry(ACCEL_BUFFERING).or_insert(HeaderValue::from_static("no"));
        let StreamOptions { first, retry, heartbeat, ends_with, max_age, on_open, on_close } =
            options;
        let hub = match &mut source {
            Source::Topics(follower) => Arc::clone(follower.hub()),
            Source::Emitter(queue) => {
                queue.begin();
                Arc::clone(queue.hub())
            }
        };
        hub.publish_later(on_open);
        let mut pending = BytesMut::new();
        if let Some(milliseconds) = retry {
            pending.extend_from_slice(&frame::retry(milliseconds));
        }
        for event in first {
            pending.extend_from_slice(&event);
        }
        let count = Counted::one(&hub.streams, usize::MAX);
        let closing = (!on_close.is_empty()).then(|| Box::new(Closing { hub, on_close }));
        let now = Instant::now();
        let until = max_age.and_then(|age| now.checked_add(age));
        let due = now + heartbeat.every;
        let body = StreamBody {
            source,
            pending: pending.freeze(),
            state: State::Open,
            beat: heartbeat.frame,
            every: heartbeat.every,
            last: now,
            timer: Box::pin(tokio::time::sleep_until(until.map_or(due, |until| until.min(due)))),
            armed: None,
            until,
            ends_with,
            _closing: closing,
            _held: held,
            _counted: count,
        };
        Response::from_parts(head, ResponseBody::stream(Box::pin(body)))
    }

    fn is_held(&self) -> bool {
        true
    }
}

/// Publishes when it is dropped.
struct Closing {
    hub: Arc<Hub>,
    on_close: Vec<Draft>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.hub.publish_later(std::mem::take(&mut self.on_close));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// What is pending is the last.
    Ending,
    Over,
}

/// A stream that has begun.
struct StreamBody {
    source: Source,
    /// To be sent next.
    pending: Bytes,
    state: State,
    beat: Bytes,
    every: Duration,
    /// When something was last sent.
    last: Instant,
    /// Looks whether that is too long ago; not set anew for every event.
    timer: Pin<Box<Sleep>>,
    /// When that fires, and whom it wakes: until then it is not looked at for every event.
    armed: Option<(Instant, Waker)>,
    until: Option<Instant>,
    ends_with: Box<[Box<str>]>,
    _closing: Option<Box<Closing>>,
    _held: Counted,
    _counted: Option<Counted>,
}

impl StreamBody {
    /// Takes the events that are there, framed.
    fn collect(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut first = Bytes::new();
        let mut more = BytesMut::new();
        while more.len() < TOGETHER && self.state == State::Open {
            let framed = match self.poll_source(cx) {
                Poll::Pending if first.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(framed) => framed,
            };
            if first.is_empty() {
                first = framed;
            } else {
                if more.is_empty() {
                    more.extend_from_slice(&first);
                }
                more.extend_from_slice(&framed);
            }
        }
        Poll::Ready(if more.is_empty() { first } else { more.freeze() })
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match &mut self.source {
            Source::Topics(follower) => match ready!(follower.poll_next(cx)) {
                Step::Event(event) => {
                    let name = event.content().name.as_deref().unwrap_or("message");
                    if self.ends_with.iter().any(|last| **last == *name) {
                        self.state = State::Ending;
                    }
                    Poll::Ready(event.frame().clone())
                }
                Step::Lagged => {
                    self.state = State::Ending;
                    Poll::Ready(Bytes::new())
                }
                Step::Ended => {
                    self.state = State::Ending;
                    Poll::Ready(farewell())
                }
            },
            Source::Emitter(queue) => match ready!(queue.poll_next(cx)) {
                Some(framed) => Poll::Ready(framed),
                None => {
                    self.state = State::Ending;
                    Poll::Ready(if queue.is_cut_off() { farewell() } else { Bytes::new() })
                }
            },
        }
    }

    /// Ready when a heartbeat is due, or with nothing when the stream has lasted long enough.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let is_armed =
            |(at, waker): &(Instant, Waker)| waker.will_wake(cx.waker()) && Instant::now() < *at;
        if self.armed.as_ref().is_some_and(is_armed) {
            return Poll::Pending;
        }
        loop {
            if self.timer.as_mut().poll(cx).is_pending() {
                self.armed = Some((self.timer.deadline(), cx.waker().clone()));
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.until.is_some_and(|until| until <= now) {
                self.state = State::Ending;
                return Poll::Ready(Bytes::new());
            }
            let due = self.last + self.every;
            let next = self.until.map_or(due, |until| until.min(due));
            if due > now {
                self.timer.as_mut().reset(next);
                continue;
            }
            let next = now + self.every;
            self.timer.as_mut().reset(self.until.map_or(next, |until| until.min(next)));
            return Poll::Ready(self.beat.clone());
        }
    }
}

/// What a stream ends with that is cut off by a drain.
fn farewell() -> Bytes {
    let spread: u32 = rand::random::<u32>() % RETRY_AFTER_DRAIN;
    frame::retry(RETRY_AFTER_DRAIN + spread)
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if !this.pending.is_empty() {
                this.last = Instant::now();
                // Its timer is asked only where there is nothing to be sent.
                if this.state == State::Open && this.until.is_some_and(|until| until <= this.last) {
                    this.state = State::Ending;
                }
                let bytes = std::mem::take(&mut this.pending);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.state != State::Open {
                if this.state == State::Ending
                    && let Source::Emitter(queue) = &mut this.source
                {
                    queue.end();
                }
                this.state = State::Over;
                return Poll::Ready(None);
            }
            this.pending = match this.collect(cx) {
                Poll::Ready(bytes) => bytes,
                Poll::Pending => ready!(this.poll_timer(cx)),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("state", &self.state).finish_non_exhaustive()
    }
}
