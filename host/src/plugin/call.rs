//! One call of a guest: its state from the moment it is given to an instance until the guest has
//! returned and its response body is over, and the body that carries both ends of that.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::Failure;
use super::chain::Next;
use super::event::GuestEvent;
use super::exchange::{Exchange, Token};
use super::instances::WorkerHandle;
use crate::admit::Permit;
use crate::store::Asker;

/// What a caller of the handler waits for.
pub type Answer = Result<Response<WasiBody>, Failure>;

/// What a guest is called for.
pub enum Work {
    /// A request, as the guest gets it.
    Request(http::Request<WasiBody>),
    /// An event.
    Event(GuestEvent),
}

/// Where the end of a call is told.
pub enum Reply {
    /// The caller waits for the head of a response.
    Request(oneshot::Sender<Answer>),
    /// The caller waits until the guest has returned.
    Event(oneshot::Sender<Result<(), Failure>>),
}

impl Reply {
    /// Whether nobody waits any more.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Request(reply) => reply.is_closed(),
            Self::Event(reply) => reply.is_closed(),
        }
    }

    /// Tells a failure; in vain where the caller has left.
    pub fn fail(self, failure: Failure) {
        match self {
            Self::Request(reply) => drop(reply.send(Err(failure))),
            Self::Event(reply) => drop(reply.send(Err(failure))),
        }
    }
}

/// A call that no instance has begun.
pub struct Job {
    /// Its shared state.
    pub call: Arc<Call>,
    /// What it is called for.
    pub work: Work,
    /// Where the answer goes.
    pub reply: Reply,
    /// The right to run; held until the call is over, not until the client is.
    pub permit: Permit,
    /// Whether an instance has already failed under it.
    pub retried: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("call", &self.call).finish_non_exhaustive()
    }
}

/// The shared state of one call.
#[derive(Debug)]
pub struct Call {
    /// The exchange it serves, or the event's own.
    pub exchange: Arc<Exchange>,
    /// Names the exchange to this guest.
    pub token: Token,
    /// Where a middleware's own request goes on.
    pub next: Option<Next>,
    /// How long it may take to its head, and then between two frames of its body; an event's call in
    /// all.
    pub timeout: Duration,
    /// The guest task, once it runs.
    pub task: OnceLock<GuestTaskId>,
    /// The worker that runs it, once one does.
    pub worker: OnceLock<Weak<WorkerHandle>>,
    /// For 0.2 middleware, which cannot make a request of its own: the request to hand on.
    pub original: Mutex<Option<http::Request<WasiBody>>>,
    abandoned: AtomicBool,
    over: AtomicBool,
    failure: OnceLock<Failure>,
}

impl Call {
    /// A call that has not begun.
    pub fn new(exchange: &Arc<Exchange>, next: Option<Next>, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            exchange: Arc::clone(exchange),
            token: Token::random(),
            next,
            timeout,
            task: OnceLock::new(),
            worker: OnceLock::new(),
            original: Mutex::new(None),
            abandoned: AtomicBool::new(false),
            over: AtomicBool::new(false),
            failure: OnceLock::new(),
        })
    }

    /// Nobody waits for it any more. True the first time.
    pub fn abandon(&self) -> bool {
        self.exchange.cancel();
        !self.abandoned.swap(true, Ordering::Relaxed)
    }

    /// Whether nobody waits for it any more.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Its instance is lost: a body that is still being sent must not end as if it were complete.
    pub fn fail(&self, failure: Failure) {
        let _first_wins = self.failure.set(failure);
    }

    /// Why its instance was lost, if it was.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Whether the guest has returned and the response body is over.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Asker for Call {
    fn has_left(&self) -> bool {
        self.is_abandoned() || self.exchange.is_cancelled()
    }

    fn is_over(&self) -> bool {
        Self::is_over(self)
    }
}

/// A call's place in its instance. Held by the guest's running function and by the response body;
/// when both are gone the call is over, the place is free and the permit is given back.
pub struct Place {
    call: Arc<Call>,
    worker: Arc<WorkerHandle>,
    _permit: Permit,
}

impl Place {
    /// The place of `call` in `worker`.
    pub fn new(call: Arc<Call>, worker: Arc<WorkerHandle>, permit: Permit) -> Arc<Self> {
        Arc::new(Self { call, worker, _permit: permit })
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("call", &self.call).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.call.over.store(true, Ordering::Relaxed);
        self.worker.leave(&self.call);
    }
}

/// Abandons its call unless it is disarmed: held by whoever waits for the answer, then by the body.
pub struct AbandonGuard {
    call: Arc<Call>,
    armed: bool,
}

impl AbandonGuard {
    /// Armed.
    pub fn new(call: Arc<Call>) -> Self {
        Self { call, armed: true }
    }

    /// The call is in good hands or over.
    pub fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for AbandonGuard {
    fn drop(&mut self) {
        if self.armed
            && self.call.abandon()
            && let Some(worker) = self.call.worker.get().and_then(Weak::upgrade)
        {
            worker.wake();
        }
    }
}

/// A guest's response body. It ends with an error when its instance is lost (wasmtime's own body
/// then ends as if it were complete), when the guest makes no progress within the request timeout
/// (zero-length chunks are none), and its drop before the end abandons the call.
pub struct CallBody {
    inner: WasiBody,
    guard: AbandonGuard,
    place: Option<Arc<Place>>,
    timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Empty frames since the last one with bytes.
    empty: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Empty frames in a row after which a body is not read for a moment: a guest that writes nothing, again
/// and again, would keep its core busy.
const MAX_EMPTY_FRAMES: usize = 16;
/// That moment.
const EMPTY_PAUSE: Duration = Duration::from_millis(10);

impl CallBody {
    /// The body of `call`'s answer.
    pub fn new(inner: WasiBody, call: Arc<Call>, place: Arc<Place>) -> Self {
        let timeout = call.timeout;
        let guard = AbandonGuard::new(call);
        let (stalled, pause) = (None, None);
        Self { inner, guard, place: Some(place), timeout, stalled, empty: 0, pause }
    }

    fn end(&mut self) {
        self.guard.disarm();
        self.place = None;
    }

    /// Waits for bytes: an error once there have been none for the timeout.
    fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let timeout = self.timeout;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        std::task::ready!(Future::poll(sleep.as_mut(), cx));
        self.place = None;
        Poll::Ready(Some(Err(WasiError::HttpResponseTimeout)))
    }

    fn lost(&self) -> Option<WasiError> {
        self.guard.call.failure().map(|failure| WasiError::InternalError(Some(failure.to_string())))
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        if this.place.is_none() {
            return Poll::Ready(None);
        }
        loop {
            if let Some(pause) = &mut this.pause {
                if Future::poll(pause.as_mut(), cx).is_pending() {
                    return this.poll_stalled(cx);
                }
                this.pause = None;
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if frame.data_ref().is_some_and(Bytes::is_empty) {
                        this.empty += 1;
                        if this.empty.is_multiple_of(MAX_EMPTY_FRAMES) {
                            this.pause = Some(Box::pin(tokio::time::sleep(EMPTY_PAUSE)));
                        }
                        continue;
                    }
                    this.stalled = None;
                    this.empty = 0;
                    if frame.is_trailers() || this.inner.is_end_stream() {
                        this.end();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = this.lost().unwrap_or(error);
                    this.place = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    let lost = this.lost();
                    this.end();
                    return Poll::Ready(lost.map(Err));
                }
                Poll::Pending => return this.poll_stalled(cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.place.is_none() || (self.inner.is_end_stream() && self.guard.call.failure().is_none())
    }

    fn size_hint(&self) -> SizeHint {
        if self.place.is_none() { SizeHint::with_exact(0) } else { self.inner.size_hint() }
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        // Bodies that were complete from the start (no bytes at all) are never polled.
        if self.place.is_some() && self.inner.is_end_stream() {
            self.guard.disarm();
        }
    }
}

/// The body that a 0.2 middleware sees: the original, unless it was handed on before it was read.
pub struct OriginalBody(pub Arc<Call>);

impl Body for OriginalBody {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        match &mut *self.0.original.lock() {
            Some(request) => Pin::new(request.body_mut()).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}
