//! A response's body on its way in. It holds its connection: read to the end, the connection goes
//! back to the pool; dropped before, the exchange ends upstream as well.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::lease::Lease;
use super::request::{field_bytes, strip_trailers};
use super::{MAX_FIELD_BYTES, MAX_FIELDS, UpstreamError};

/// The body of an upstream's response. No frame is empty; a reader that waits longer than the
/// between-bytes timeout for the next one gets [`UpstreamError::ConnectionReadTimeout`].
pub struct UpstreamBody {
    /// `None` once the body is over.
    source: Option<(Incoming, Lease)>,
    between_bytes: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, between_bytes: Duration) -> Self {
        let mut body = Self { source: Some((incoming, lease)), between_bytes, waiting: None };
        body.release_at_end();
        body
    }

    /// Gives the connection back as soon as it is known that nothing follows, rather than when the
    /// reader asks again, which some never do.
    fn release_at_end(&mut self) {
        if let Some((_, lease)) = self.source.take_if(|(incoming, _)| incoming.is_end_stream()) {
            lease.finish();
        }
    }

    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let between_bytes = self.between_bytes;
        self.waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(between_bytes)))
            .as_mut()
            .poll(cx)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = &mut *self;
        loop {
            let Some((incoming, _)) = &mut this.source else {
                return Poll::Ready(None);
            };
            let fault = match Pin::new(incoming).poll_frame(cx) {
                Poll::Pending => {
                    std::task::ready!(this.poll_too_slow(cx));
                    UpstreamError::ConnectionReadTimeout
                }
                Poll::Ready(None) => {
                    if let Some((_, lease)) = this.source.take() {
                        lease.finish();
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => UpstreamError::body(&error),
                Poll::Ready(Some(Ok(frame))) => {
                    this.waiting = None;
                    match checked(frame) {
                        Ok(None) => continue,
                        Ok(Some(frame)) => {
                            this.release_at_end();
                            return Poll::Ready(Some(Ok(frame)));
                        }
                        Err(fault) => fault,
                    }
                }
            };
            this.source = None;
            return Poll::Ready(Some(Err(fault)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Some((incoming, _)) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

fn checked(frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, UpstreamError> {
    match frame.into_data() {
        Ok(data) => Ok((!data.is_empty()).then(|| Frame::data(data))),
        Err(frame) => {
            let Ok(mut trailers) = frame.into_trailers() else {
                return Ok(None);
            };
            if trailers.len() > MAX_FIELDS || field_bytes(&trailers) > MAX_FIELD_BYTES {
                return Err(UpstreamError::ResponseTrailerSectionSize);
            }
            strip_trailers(&mut trailers);
            Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)))
        }
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
