//! One exchange's share of a pooled connection.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;

use super::UpstreamError;
use super::grants::Origin;
use super::outgoing::Outgoing;
use super::pool::{Connection, Shared};

/// How long an HTTP/1.1 connection may take, after its response, to be ready for the next request:
/// what is left of an upload that the upstream did not want.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// One exchange's share of a connection. Dropped without [`Lease::finish`], an HTTP/1.1 connection
/// is closed; an HTTP/2 stream is reset by hyper.
pub(super) struct Lease {
    shared: Arc<Shared>,
    origin: Arc<Origin>,
    /// Whether the connection carried exchanges before: it may have been closed meanwhile.
    pub(super) is_reused: bool,
    /// `None` once given back.
    hold: Option<Hold>,
}

/// What of a connection is held.
pub(super) enum Hold {
    /// All of it: HTTP/1.1.
    Whole(Connection),
    /// One of its streams: HTTP/2.
    Stream {
        /// Which connection.
        id: u64,
        sender: http2::SendRequest<Outgoing>,
    },
}

/// A request that was not answered, and the request itself if nothing of it was sent.
pub(super) struct Unanswered {
    pub(super) error: UpstreamError,
    pub(super) unsent: Option<Request<Outgoing>>,
}

impl Lease {
    pub(super) fn new(
        shared: &Arc<Shared>,
        origin: &Arc<Origin>,
        is_reused: bool,
        hold: Hold,
    ) -> Self {
        let (shared, origin) = (Arc::clone(shared), Arc::clone(origin));
        Self { shared, origin, is_reused, hold: Some(hold) }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.hold, Some(Hold::Stream { .. }))
    }

    /// Sends the request and waits for the response head.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let sent = match &mut self.hold {
            Some(Hold::Whole(connection)) => connection.sender.try_send_request(request).await,
            Some(Hold::Stream { sender, .. }) => sender.try_send_request(request).await,
            None => {
                let error = UpstreamError::ConnectionTerminated;
                return Err(Unanswered { error, unsent: Some(request) });
            }
        };
        sent.map_err(|mut failed| {
            let unsent = failed.take_message();
            Unanswered { error: UpstreamError::exchange(failed.error()), unsent }
        })
    }

    /// The upstream keeps the connection open for no longer once it rests.
    pub(super) fn rest_at_most(&mut self, rest: Option<Duration>) {
        if let Some(Hold::Whole(connection)) = &mut self.hold {
            connection.rest = rest;
        }
    }

    /// Gives the connection back after a complete exchange.
    pub(super) fn finish(mut self) {
        match self.hold.take() {
            Some(Hold::Whole(mut connection)) => {
                if connection.sender.is_ready() {
                    self.shared.put_back(&self.origin, connection);
                    return;
                }
                let (shared, origin) = (Arc::clone(&self.shared), Arc::clone(&self.origin));
                drop(self.shared.drain.spawn(async move {
                    let ready = tokio::time::timeout(SETTLE_TIMEOUT, connection.sender.ready());
                    match ready.await {
                        Ok(Ok(())) => shared.put_back(&origin, connection),
                        Ok(Err(_)) | Err(_) => connection.driver.abort(),
                    }
                }));
            }
            Some(Hold::Stream { id, .. }) => self.shared.stream_ended(&self.origin, id),
            None => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.hold.take() {
            // What is left of the exchange would be read as the next one's.
            Some(Hold::Whole(connection)) => connection.driver.abort(),
            Some(Hold::Stream { id, .. }) => self.shared.stream_ended(&self.origin, id),
            None => {}
        }
    }
}
