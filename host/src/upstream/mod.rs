//! The way out: the one HTTP client of the host, through which guests reach their upstreams.
//!
//! [`OutboundGrants`] says what a plugin may reach, `address` what a name may lead to, `pool` keeps
//! connections, `connect` opens them, `request` and `body` are what goes through. Beside `http/`,
//! only this module names hyper, h2 and rustls, for the client's side. It follows no redirect, keeps
//! no cookie, decodes nothing and retries only what was never sent, or lost on a connection that the
//! upstream closed meanwhile and safe to send again: all else is the guest's choice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

mod address;
mod body;
mod connect;
mod error;
mod grants;
mod lease;
mod outgoing;
mod pool;
mod request;
mod slot;
#[cfg(test)]
mod tests;

pub use body::UpstreamBody;
pub use connect::Roots;
pub use error::{BoxError, UpstreamError};
pub use grants::{GrantError, GrantFault, OutboundGrants};
pub use outgoing::UpstreamRequestBody;
pub use request::{Forwarding, OnInterim};

use crate::drain::Drain;
use address::{LookUp, SystemLookUp};
use connect::Connector;
use grants::Origin;
use lease::{Lease, Unanswered};
use outgoing::Outgoing;
use pool::Pool;
use request::Prepared;

/// Connections to one origin, idle ones included.
pub const MAX_CONNECTIONS_PER_ORIGIN: usize = 6;
/// Connections to all origins: wildcards could name any number of them.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a connection waits for its next exchange before it is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// From asking for a connection to having one: waiting for a free one, look-up, TCP and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the last byte of the request to the response head.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two frames of the response body, while its reader waits.
pub const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest of these that a guest may ask for.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// The shortest: zero is a timer that has always fired (GHSA-w4qr-p94g-mjhv).
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// Fields of a request or response head, or of trailers.
pub const MAX_FIELDS: usize = 100;
/// Bytes of their names and values.
pub const MAX_FIELD_BYTES: usize = 64 * 1024;

/// Attempts when pooled connections turn out to be closed before anything was sent on them.
const MAX_ATTEMPTS: usize = MAX_CONNECTIONS_PER_ORIGIN + 1;

/// The numbers of the client. `Default` gives the constants above.
#[derive(Clone, Debug)]
pub struct Settings {
    /// [`MAX_CONNECTIONS_PER_ORIGIN`].
    pub connections_per_origin: usize,
    /// [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// Whom to believe.
    pub roots: Roots,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_per_origin: MAX_CONNECTIONS_PER_ORIGIN,
            connections: MAX_CONNECTIONS,
            idle_timeout: IDLE_TIMEOUT,
            roots: Roots::System,
        }
    }
}

/// How long a guest is ready to wait. Zero and the absurdly long are brought into
/// [`MIN_TIMEOUT`]`..=`[`MAX_TIMEOUT`].
///
/// # Defaults
/// [`CONNECT_TIMEOUT`], [`FIRST_BYTE_TIMEOUT`], [`BETWEEN_BYTES_TIMEOUT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Option<Duration>,
    /// For the response head, once the request is sent.
    pub first_byte: Option<Duration>,
    /// Between two frames of the response body.
    pub between_bytes: Option<Duration>,
}

fn clamped(asked: Option<Duration>, default: Duration) -> Duration {
    asked.unwrap_or(default).clamp(MIN_TIMEOUT, MAX_TIMEOUT)
}

/// The client. One for the server, shared by its cores.
pub struct Upstream {
    pool: Pool,
}

impl Upstream {
    /// A client with the defaults. Its connections end with `drain`.
    pub fn new(drain: Drain) -> Self {
        Self::with_settings(drain, Settings::default())
    }

    /// A client with other numbers or root certificates.
    pub fn with_settings(drain: Drain, settings: Settings) -> Self {
        Self::with_look_up(drain, settings, Arc::new(SystemLookUp::new()))
    }

    fn with_look_up(drain: Drain, settings: Settings, look_up: Arc<dyn LookUp>) -> Self {
        let connector = Connector::new(look_up, settings.roots.clone(), drain.clone());
        Self { pool: Pool::new(settings, connector, drain) }
    }

    /// Sends one request to an absolute `http` or `https` URI; resolves with the response head.
    ///
    /// Request trailers reach an HTTP/1.1 upstream only where a `Trailer` field announces them
    /// (RFC 9110 §6.6.2), and such an upstream sends its own mostly where the guest says
    /// `TE: trailers`.
    ///
    /// # Errors
    /// [`UpstreamError::RequestDenied`] where `grants` do not cover the origin; otherwise what went
    /// wrong, as `wasi:http` says it.
    ///
    /// # Cancel safety
    /// Dropping the future, or the response's body before its end, ends the exchange upstream: the
    /// HTTP/2 stream is reset, the HTTP/1.1 connection closed.
    pub async fn send(
        &self,
        grants: &OutboundGrants,
        request: Request<UpstreamRequestBody>,
        timeouts: Timeouts,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let origin = Origin::of(request.uri()).ok_or(UpstreamError::RequestUriInvalid)?;
        if !grants.covers(&origin) {
            return Err(UpstreamError::RequestDenied { origin: origin.to_string() });
        }
        let origin = Arc::new(origin);
        let connect = clamped(timeouts.connect, CONNECT_TIMEOUT);
        let first_byte = clamped(timeouts.first_byte, FIRST_BYTE_TIMEOUT);
        let between_bytes = clamped(timeouts.between_bytes, BETWEEN_BYTES_TIMEOUT);

        let (prepared, mut request) = Prepared::new(request, &origin)?;
        let mut spare = prepared.copy(&request);
        let deadline = Instant::now() + connect;
        for _ in 0..MAX_ATTEMPTS {
            let mut lease = self.pool.lease(&origin, deadline).await?;
            request = prepared.shape(request, lease.is_http2());
            match exchange(&mut lease, request, &prepared, first_byte).await {
                Ok(response) => return accept(response, lease, between_bytes),
                // The pooled connection was closed meanwhile and took nothing.
                Err(Unanswered { unsent: Some(unsent), .. }) if lease.is_reused => request = unsent,
                // It was closed while it took the request (RFC 9112 §9.3.1); once is bad luck.
                Err(Unanswered { error, .. }) => match spare.take() {
                    Some(again)
                        if lease.is_reused && error == UpstreamError::ConnectionTerminated =>
                    {
                        request = again;
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(UpstreamError::ConnectionTerminated)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

/// One exchange up to the response head.
async fn exchange(
    lease: &mut Lease,
    request: Request<Outgoing>,
    prepared: &Prepared,
    first_byte: Duration,
) -> Result<Response<Incoming>, Unanswered> {
    let upload = &prepared.upload;
    upload.restart();
    let mut answer = std::pin::pin!(lease.send(request));
    let error = loop {
        // While the request is being sent, its progress keeps the wait going.
        let patience = upload.last() + first_byte;
        tokio::select! {
            biased;
            answered = &mut answer => match answered {
                Ok(response) => return Ok(response),
                Err(unanswered) if unanswered.unsent.is_some() => return Err(unanswered),
                Err(unanswered) => break upload.fault().unwrap_or(unanswered.error),
            },
            fault = upload.failed() => break fault,
            () = tokio::time::sleep_until(patience) => {
                if upload.last() + first_byte <= Instant::now() {
                    break UpstreamError::ResponseTimeout;
                }
            }
        }
    };
    Err(Unanswered { error, unsent: None })
}

/// Checks and cleans a response head.
fn accept(
    response: Response<Incoming>,
    mut lease: Lease,
    between_bytes: Duration,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    let (mut parts, incoming) = response.into_parts();
    lease.rest_at_most(request::keep_alive(&parts.headers));
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::UpgradeFailed);
    }
    if parts.headers.len() > MAX_FIELDS || request::field_bytes(&parts.headers) > MAX_FIELD_BYTES {
        return Err(UpstreamError::ResponseHeaderSectionSize);
    }
    if parts.headers.contains_key(http::header::TRANSFER_ENCODING) {
        // RFC 9112 §6.3: the coding wins, and a length beside it is not to be believed.
        parts.headers.remove(http::header::CONTENT_LENGTH);
    }
    request::strip_hop_by_hop(&mut parts.headers);
    parts.extensions.clear();
    Ok(Response::from_parts(parts, UpstreamBody::new(incoming, lease, between_bytes)))
}
