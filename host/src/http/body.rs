//! The two body types of the pipeline: concrete structs over private enums.
//!
//! A protocol file boxes its wire body once into [`RequestBody::stream`]; everything that all three
//! versions need (declared length, size limit, progress deadlines, zero-length frames) is applied
//! here, once. [`ResponseBody`] owns whatever must last until its last byte: permits and guards.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::control::{Control, controlled_stream};
use super::file_body::{FileBody, Slice};
use super::limits::{BODY_IDLE_TIMEOUT, BODY_MIN_RATE, Limits};
use super::switch::Switch;
use super::validate;
use crate::plugin::Failure;

/// Why a body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer reset the stream or closed the connection.
    #[error("the peer left before the body was complete")]
    Gone,
    /// No progress for too long, or slower than the minimum rate.
    #[error("the body made no progress in time")]
    Timeout,
    /// More bytes than the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in force.
        limit: u64,
    },
    /// The deadline that was set for the response has passed.
    #[error("the write deadline has passed")]
    Deadline,
    /// Not as long as `content-length` says (RFC 9110 §8.6, RFC 9113 §8.1.1).
    #[error("the body is not as long as its content-length says")]
    Length,
    /// A framing error; what it was.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// The file that is the body was cut or rewritten while it was sent.
    #[error("the file was changed while it was sent")]
    FileChanged,
    /// The file that is the body cannot be read; why.
    #[error("the file cannot be read: {0}")]
    File(Arc<str>),
    /// The body could not be coded; why.
    #[error("{0}")]
    Coding(Arc<str>),
    /// The plugin that produces the body failed.
    #[error("the plugin failed while its body was sent")]
    Guest(#[from] Failure),
    /// The upstream that produces the body failed.
    #[error("the upstream failed while its body was sent: {0}")]
    Upstream(String),
}

/// A boxed body as the protocol files hand it in.
pub type BoxedBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

enum Inner {
    Empty,
    Full(Bytes),
    Stream(BoxedBody),
}

/// A request's body, whatever the protocol.
pub struct RequestBody {
    inner: Inner,
    /// Bytes that `content-length` still promises.
    expected: Option<u64>,
    limit: u64,
    idle_timeout: Duration,
    min_rate: u64,
    received: u64,
    /// Time spent waiting for the client, for the minimum rate.
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Told of every byte that was read.
    meter: Option<Arc<AtomicU64>>,
}

impl RequestBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self::from_inner(Inner::Empty, None)
    }

    /// A body that is already here.
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self::from_inner(Inner::Full(bytes), None) }
    }

    /// A body that arrives. `content_length` is the validated field value, if there was one; the
    /// stream is checked against it.
    pub fn stream(body: BoxedBody, content_length: Option<u64>) -> Self {
        Self::from_inner(Inner::Stream(body), content_length)
    }

    fn from_inner(inner: Inner, expected: Option<u64>) -> Self {
        Self {
            inner,
            expected,
            limit: u64::MAX,
            idle_timeout: BODY_IDLE_TIMEOUT,
            min_rate: BODY_MIN_RATE,
            received: 0,
            waited: Duration::ZERO,
            waiting: None,
            meter: None,
        }
    }

    /// The same body, whose bytes are added to `meter` as they are read.
    #[must_use]
    pub fn metered(mut self, meter: Arc<AtomicU64>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// The same body, ended with [`BodyError::TooLarge`] past `limit` bytes.
    #[must_use]
    pub fn limited(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// The same body, held to the progress that `limits` demands.
    #[must_use]
    pub fn paced(mut self, limits: &Limits) -> Self {
        self.idle_timeout = limits.body_idle_timeout;
        self.min_rate = limits.body_min_rate.max(1);
        self
    }

    /// Bytes that `content-length` still promises, if it was given.
    pub fn declared(&self) -> Option<u64> {
        match &self.inner {
            Inner::Empty => Some(0),
            Inner::Full(bytes) => Some(bytes.len() as u64),
            Inner::Stream(_) => self.expected,
        }
    }

    fn accept(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, BodyError> {
        match frame.into_data() {
            Ok(data) => {
                let len = data.len() as u64;
                if len == 0 {
                    return Ok(None);
                }
                self.received += len;
                if let Some(meter) = &self.meter {
                    meter.fetch_add(len, Ordering::Relaxed);
                }
                if self.received > self.limit {
                    return Err(BodyError::TooLarge { limit: self.limit });
                }
                if let Some(expected) = &mut self.expected {
                    *expected = expected.checked_sub(len).ok_or(BodyError::Length)?;
                }
                Ok(Some(Frame::data(data)))
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { return Ok(None) };
                if self.expected.is_some_and(|left| left > 0) {
                    return Err(BodyError::Length);
                }
                let trailers = validate::trailers(trailers)?;
                Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)))
            }
        }
    }

    /// Ready once the client has been too slow: silent for the idle timeout, or below
    /// the minimum rate over the time that we waited for it.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (_, sleep) = self.waiting.get_or_insert_with(|| {
            (Instant::now(), Box::pin(tokio::time::sleep(self.idle_timeout)))
        });
        Future::poll(sleep.as_mut(), cx)
    }

    fn progressed(&mut self) -> Result<(), BodyError> {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
            let paid = Duration::from_secs(self.received / self.min_rate) + self.idle_timeout;
            if self.waited > paid {
                return Err(BodyError::Timeout);
            }
        }
        Ok(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let polled = match &mut this.inner {
                Inner::Empty => return Poll::Ready(None),
                Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
                Inner::Stream(body) => body.as_mut().poll_frame(cx),
            };
            let outcome = match polled {
                Poll::Pending => {
                    if this.poll_too_slow(cx).is_pending() {
                        return Poll::Pending;
                    }
                    Err(BodyError::Timeout)
                }
                Poll::Ready(None) if this.expected.is_some_and(|left| left > 0) => {
                    Err(BodyError::Length)
                }
                Poll::Ready(None) => {
                    this.inner = Inner::Empty;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(Some(Ok(frame))) => this.progressed().and_then(|()| this.accept(frame)),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    if matches!(this.inner, Inner::Full(_)) {
                        this.inner = Inner::Empty;
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Err(error) => {
                    // Dropping the wire body tells the protocol that nobody reads on.
                    this.inner = Inner::Empty;
                    this.expected = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty => true,
            Inner::Full(bytes) => bytes.is_empty(),
            Inner::Stream(body) => body.is_end_stream() && self.expected.unwrap_or(0) == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, self.expected) {
            (Inner::Empty, _) => SizeHint::with_exact(0),
            (Inner::Full(bytes), _) => SizeHint::with_exact(bytes.len() as u64),
            (Inner::Stream(_), Some(left)) => SizeHint::with_exact(left),
            (Inner::Stream(body), None) => body.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("declared", &self.declared()).finish_non_exhaustive()
    }
}

/// Observes a response body: told how many bytes it had, and dropped exactly when the body is over.
pub trait BodyObserver: Send {
    /// `bytes` were handed to the protocol in all. Called once, before all else that ends it.
    fn sent(&mut self, bytes: usize);
    /// The body ended: completely (`Ok`), or with an error. Not called when the client left first;
    /// the observer is then dropped without it.
    fn ended(&mut self, result: Result<(), &BodyError>);
}

/// A response's body, with everything that must last as long as it does.
pub struct ResponseBody {
    inner: Inner,
    /// Comes before `inner`: a file that a transport may send without a copy.
    file: Option<Box<FileBody>>,
    /// Dropped, in order, with the body: the admission permit, the exchange, the route snapshot.
    held: Vec<Box<dyn Any + Send>>,
    observer: Option<Box<dyn BodyObserver>>,
    /// Bytes that were handed to the protocol: told at the end, because a stream has many small pieces.
    sent: usize,
    control: Option<Arc<Control>>,
    switch: Option<Box<Switch>>,
    when_sent: Option<WhenSent>,
}

/// What happens when a response was sent to its end.
pub(super) struct WhenSent {
    act: Box<dyn FnOnce() + Send>,
    /// The protocol has asked for more than there is, once.
    asked: bool,
}

impl ResponseBody {
    /// No body at all.
    pub fn empty() -> Self {
        Self::from_inner(Inner::Empty)
    }

    /// A complete body.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::from_inner(if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) })
    }

    /// A body that is produced while it is sent.
    pub fn stream(body: BoxedBody) -> Self {
        Self::from_inner(Inner::Stream(body))
    }

    /// Parts of a file.
    pub fn file(body: FileBody) -> Self {
        let mut file = Self::empty();
        file.file = Some(Box::new(body));
        file
    }

    /// The next bytes, where they are a file's that the kernel has in memory and nothing else is wished
    /// for: they are taken as sent, so the caller is to send exactly these.
    pub(in crate::http) fn take_slice(&mut self) -> Option<Slice> {
        self.keep_to_control();
        let slice = self.file.as_mut()?.take_slice()?;
        let bytes = slice.range.end - slice.range.start;
        self.sent += usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.is_end_stream() {
            self.finish(Ok(()));
        }
        Some(slice)
    }

    /// A file is sent as it is until something is wished for.
    fn keep_to_control(&mut self) {
        if let Some(control) = self.control.as_ref().filter(|control| !control.is_idle())
            && let Some(file) = self.file.take()
        {
            let control = Arc::clone(control);
            self.inner = Inner::Stream(controlled_stream(Self::stream(Box::pin(*file)), control));
        }
    }

    /// Whether it is a file to be sent as it is.
    pub(super) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// No body: once the head is sent, the stream leaves HTTP.
    pub fn switching(switch: Switch) -> Self {
        let mut body = Self::empty();
        body.switch = Some(Box::new(switch));
        body
    }

    /// Whether the stream leaves HTTP after the head.
    pub fn is_switching(&self) -> bool {
        self.switch.is_some()
    }

    /// For the protocol: the switch, to be run once the head is sent. The body is kept meanwhile.
    pub(in crate::http) fn take_switch(&mut self) -> Option<Switch> {
        self.switch.take().map(|switch| *switch)
    }

    /// For the protocol: the switch is over, after so many bytes to the client.
    pub(in crate::http) fn end_switch(&mut self, sent: usize, end: Result<(), &BodyError>) {
        self.sent += sent;
        self.finish(end);
    }

    fn from_inner(inner: Inner) -> Self {
        Self {
            inner,
            file: None,
            held: Vec::new(),
            observer: None,
            sent: 0,
            control: None,
            switch: None,
            when_sent: None,
        }
    }

    /// The same body, which calls `act` once, when the protocol has taken its last byte and asks for
    /// more: never for a body that is given up, breaks off, or is not sent because of HEAD.
    #[must_use]
    pub fn when_sent(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.when_sent = Some(WhenSent { act: Box::new(act), asked: false });
        self
    }

    /// The same body, at whose end happens what `take_end` took from another.
    #[must_use]
    pub(super) fn with_end(mut self, end: Option<WhenSent>) -> Self {
        self.when_sent = end;
        self
    }

    /// Takes what is to happen at the end, for the body that takes this one's place.
    pub(super) fn take_end(&mut self) -> Option<WhenSent> {
        self.when_sent.take()
    }

    /// All of it, where it is here.
    pub fn bytes(&self) -> Option<Bytes> {
        match (&self.file, &self.switch, &self.inner) {
            (None, None, Inner::Empty) => Some(Bytes::new()),
            (None, None, Inner::Full(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The same guards and observer over these bytes.
    #[must_use]
    pub fn with_bytes(mut self, bytes: Bytes) -> Self {
        self.inner = if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) };
        self.file = None;
        self
    }

    /// Whether all of it is here.
    pub(super) fn is_here(&self) -> bool {
        !matches!(self.inner, Inner::Stream(_)) && self.file.is_none()
    }

    /// The same body, which drops `value` when it is over or given up.
    #[must_use]
    pub fn holding(mut self, value: impl Any + Send) -> Self {
        self.held.push(Box::new(value));
        self
    }

    /// The same body, watched by `observer`.
    #[must_use]
    pub fn observed(mut self, observer: Box<dyn BodyObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The same body, whose deadline is `control`'s.
    #[must_use]
    pub fn under(mut self, control: Arc<Control>) -> Self {
        self.control = Some(control);
        self
    }

    /// When its last byte must be sent, also to a client that takes nothing meanwhile.
    pub fn deadline(&self) -> Option<Instant> {
        self.control.as_ref().and_then(|control| control.deadline())
    }

    /// The same guards and observer over no bytes: what HEAD, 204 and 304 send. The producer is
    /// dropped, which cancels it.
    #[must_use]
    pub fn without_bytes(mut self) -> Self {
        self.when_sent = None;
        self.inner = Inner::Empty;
        self.file = None;
        self
    }

    fn finish(&mut self, result: Result<(), &BodyError>) {
        if let Some(mut observer) = self.observer.take() {
            observer.sent(self.sent);
            observer.ended(result);
        }
        self.inner = Inner::Empty;
        self.file = None;
        self.held.clear();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.keep_to_control();
        loop {
            let polled = match (&mut this.file, &mut this.inner) {
                (Some(file), _) => Pin::new(&mut **file).poll_frame(cx),
                (None, Inner::Empty) => Poll::Ready(None),
                (None, Inner::Full(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    this.inner = Inner::Empty;
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                (None, Inner::Stream(body)) => body.as_mut().poll_frame(cx),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    if let Some(when_sent) = &mut this.when_sent
                        && !std::mem::replace(&mut when_sent.asked, true)
                    {
                        // HTTP/1.1 collects small pieces before it writes them: it does so now.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if let Some(when_sent) = this.when_sent.take() {
                        (when_sent.act)();
                    }
                    this.finish(Ok(()));
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    this.when_sent = None;
                    this.finish(Err(&error));
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        // Empty frames reach no protocol: on HTTP/2 each would cost heap and a frame
                        // (GHSA-f8mm-ggr3-89wh), and HTTP/1.1 would end the chunked body.
                        if data.is_empty() {
                            continue;
                        }
                        this.sent += data.len();
                    }
                    // The end is reported at once where it is known, so that the guards do not wait
                    // for a protocol that never asks again after the last frame.
                    if this.is_end_stream() {
                        this.finish(Ok(()));
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Where something happens at the end, the protocol has to ask for it: it does so when it has
        // passed on what it took.
        self.inner_is_over() && self.when_sent.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.file, &self.inner) {
            (Some(file), _) => file.size_hint(),
            (None, Inner::Empty) => SizeHint::with_exact(0),
            (None, Inner::Full(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            (None, Inner::Stream(body)) => body.size_hint(),
        }
    }
}

impl ResponseBody {
    fn inner_is_over(&self) -> bool {
        match (&self.file, &self.inner) {
            (Some(file), _) => file.is_end_stream(),
            (None, Inner::Empty) => true,
            (None, Inner::Full(_)) => false,
            (None, Inner::Stream(body)) => body.is_end_stream(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // An empty body may never be polled: it is complete all the same.
        if self.inner_is_over() {
            self.finish(Ok(()));
        } else if let Some(observer) = &mut self.observer {
            observer.sent(self.sent);
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
