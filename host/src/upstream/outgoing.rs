//! A request's body on its way out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::UpstreamError;
use super::error::BoxError;
use super::request::{check_size, strip_trailers};

/// A request body as the guest boundary hands it in.
pub type UpstreamRequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// How a request's body fares, seen from the task that waits for the response.
pub(super) struct Upload {
    /// When the last frame left; the wait for the response counts from there.
    last: Mutex<Instant>,
    fault: Mutex<Option<UpstreamError>>,
    failed: Notify,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(Instant::now()), fault: Mutex::new(None), failed: Notify::new() }
    }

    /// Counts the wait from now.
    pub(super) fn restart(&self) {
        *self.last.lock() = Instant::now();
    }

    /// When the wait counts from.
    pub(super) fn last(&self) -> Instant {
        *self.last.lock()
    }

    /// Why the body failed, if it did.
    pub(super) fn fault(&self) -> Option<UpstreamError> {
        self.fault.lock().clone()
    }

    /// Resolves when the body has failed: over HTTP/2, hyper does not tell whoever waits for the
    /// response.
    pub(super) async fn failed(&self) -> UpstreamError {
        loop {
            let failed = self.failed.notified();
            if let Some(fault) = self.fault() {
                return fault;
            }
            failed.await;
        }
    }

    fn fail(&self, fault: UpstreamError) -> BoxError {
        *self.fault.lock() = Some(fault.clone());
        self.failed.notify_waiters();
        fault.into()
    }
}

/// A request's body on its way: held to its declared length, without empty frames, without trailers
/// that must not be.
pub(super) struct Outgoing {
    body: UpstreamRequestBody,
    /// A frame that was ready before the head was written.
    first: Option<Frame<Bytes>>,
    /// Bytes that `content-length` still promises.
    expected: Option<u64>,
    sent: u64,
    done: bool,
    upload: Arc<Upload>,
}

impl Outgoing {
    pub(super) fn new(
        body: UpstreamRequestBody,
        declared: Option<u64>,
        upload: Arc<Upload>,
    ) -> Result<Self, UpstreamError> {
        let exact = body.size_hint().exact();
        if let (Some(declared), Some(exact)) = (declared, exact)
            && declared != exact
        {
            return Err(UpstreamError::RequestBodySize { size: exact });
        }
        let done = body.is_end_stream();
        let mut outgoing = Self { body, first: None, expected: declared, sent: 0, done, upload };
        if !done && declared.or(exact).is_none() {
            outgoing.peek()?;
        }
        Ok(outgoing)
    }

    /// The body of a request without content.
    pub(super) fn nothing(upload: Arc<Upload>) -> Self {
        let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        Self { body, first: None, expected: None, sent: 0, done: true, upload }
    }

    /// Takes the first frame if it is already there: a body of unknown length that turns out to be
    /// empty or to have content is then sent as what it is. Never waits.
    fn peek(&mut self) -> Result<(), UpstreamError> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(&mut *self).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => self.first = Some(frame),
            Poll::Ready(Some(Err(_))) => {
                return Err(self.upload.fault().unwrap_or(UpstreamError::ConnectionTerminated));
            }
            Poll::Ready(None) => self.done = true,
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Whether there is content that no length announces.
    pub(super) fn has_unannounced_content(&self) -> bool {
        self.first.is_some() && self.size_hint().exact().is_none()
    }

    /// What becomes of a frame; `None` is dropped.
    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, UpstreamError> {
        match frame.into_data() {
            Ok(data) => {
                let length = data.len() as u64;
                self.sent += length;
                if let Some(left) = &mut self.expected {
                    *left = left
                        .checked_sub(length)
                        .ok_or(UpstreamError::RequestBodySize { size: self.sent })?;
                }
                Ok((length > 0).then(|| Frame::data(data)))
            }
            Err(frame) => {
                let Ok(mut trailers) = frame.into_trailers() else {
                    return Ok(None);
                };
                strip_trailers(&mut trailers);
                check_size(&trailers)?;
                Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)))
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(frame) = this.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        while !this.done {
            let fault = match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    this.upload.restart();
                    match this.pass(frame) {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => continue,
                        Err(fault) => fault,
                    }
                }
                Some(Err(error)) => match error.downcast_ref::<UpstreamError>() {
                    Some(fault) => fault.clone(),
                    None => UpstreamError::RequestBody { reason: error.to_string() },
                },
                None => match this.expected {
                    Some(left) if left > 0 => UpstreamError::RequestBodySize { size: this.sent },
                    _ => {
                        this.done = true;
                        continue;
                    }
                },
            };
            this.done = true;
            return Poll::Ready(Some(Err(this.upload.fail(fault))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && (self.done || (self.expected.unwrap_or(0) == 0 && self.body.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(left) = self.expected {
            return SizeHint::with_exact(left);
        }
        let ready = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        if self.done {
            return SizeHint::with_exact(ready);
        }
        match self.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + ready),
            None => SizeHint::default(),
        }
    }
}
