//! Requests to other servers, which the host sends where the manifest's `outbound` allows it.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use wharf_sdk::{Error, Response, client};
//! # async fn example() -> Result<(), Error> {
//! let mut response = client::get("https://api.example.com/users/1")
//!     .header("accept", "application/json")
//!     .timeout(Duration::from_secs(2))
//!     .send()
//!     .await?;
//! let user: serde_json::Value = response.body_mut().json(64 << 10).await?;
//! # Ok(()) }
//! ```
//!
//! `?` on a [`SendError`] answers 504 for a timeout and 502 for anything else.

use std::fmt;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;

use crate::{Body, Error, Request, Response};

/// A GET of `uri`.
pub fn get(uri: impl TryInto<Uri, Error: Into<http::Error>>) -> Outgoing {
    request(Method::GET, uri)
}

/// A POST to `uri`; give it a [`body`](Outgoing::body).
pub fn post(uri: impl TryInto<Uri, Error: Into<http::Error>>) -> Outgoing {
    request(Method::POST, uri)
}

/// A request of any method.
pub fn request(method: Method, uri: impl TryInto<Uri, Error: Into<http::Error>>) -> Outgoing {
    let request = Request::new(method, uri, ());
    Outgoing { request, timeouts: Timeouts::default() }
}

/// Sends `request` as it is, for example one that a handler received, with its URI changed. A
/// body that is still with the host is passed on there.
///
/// # Errors
///
/// [`SendError`]; an error status is a response, not an error.
pub async fn send(request: Request, timeouts: Timeouts) -> Result<Response, SendError> {
    #[cfg(target_family = "wasm")]
    return crate::wasi::send(request, timeouts, false).await;
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = (request, timeouts);
        Err(SendError { kind: SendErrorKind::Other, message: "there is no host to send it".into() })
    }
}

/// Sends a request that a handler received, as [`send`] does, and lets the host pass on to that
/// request's client what the server says before its answer: interim responses such as `103 Early Hints`
/// (RFC 9110 §15.2). For proxies.
///
/// # Errors
///
/// As [`send`].
pub async fn forward(request: Request, timeouts: Timeouts) -> Result<Response, SendError> {
    #[cfg(target_family = "wasm")]
    return crate::wasi::send(request, timeouts, true).await;
    #[cfg(not(target_family = "wasm"))]
    send(request, timeouts).await
}

/// Limits on the time that a request may take; the host may have shorter ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the response's head has arrived, connecting included.
    pub total: Option<Duration>,
    /// For connecting.
    pub connect: Option<Duration>,
    /// From the sent request to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub between_bytes: Option<Duration>,
}

/// A request being made. Mistakes in its parts show when it is sent.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Outgoing {
    request: Result<Request, Error>,
    timeouts: Timeouts,
}

impl Outgoing {
    /// Sets a header field, in place of any of that name.
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        if let Ok(request) = &mut self.request {
            let field = name
                .try_into()
                .map_err(Into::into)
                .and_then(|name| Ok((name, value.try_into().map_err(Into::into)?)));
            match field {
                Ok((name, value)) => {
                    request.headers_mut().insert(name, value);
                }
                Err(error) => self.request = Err(error.into()),
            }
        }
        self
    }

    /// Sets the body: whole, a [`Body::stream`], or one that was received.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        if let Ok(request) = &mut self.request {
            *request.body_mut() = body.into();
        }
        self
    }

    /// Sets the body to `value` as JSON, and its content type.
    pub fn json(self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.header(CONTENT_TYPE, "application/json").body(bytes),
            Err(error) => Self { request: Err(error.into()), ..self },
        }
    }

    /// Limits the time until the response's head has arrived.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.timeouts.total = Some(total);
        self
    }

    /// Sets every limit on time.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sends it, and waits for the response's head; the body is read from the response.
    ///
    /// # Errors
    ///
    /// A [`SendError`] as the cause (see [`Error::cause`]), or 500 where a part was malformed.
    /// An error status is a response, not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up.
    pub async fn send(self) -> Result<Response, Error> {
        Ok(send(self.request?, self.timeouts).await?)
    }
}

/// Why no response came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    pub(crate) kind: SendErrorKind,
    pub(crate) message: String,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// One of the [`Timeouts`] or of the host's.
    Timeout,
    /// The host does not let this plugin send requests there.
    Denied,
    /// The server could not be found or reached.
    Connect,
    /// TLS could not be agreed upon, or the certificate is not valid.
    Tls,
    /// The request or the response broke the protocol, or the connection ended.
    Protocol,
    /// Anything else.
    Other,
}

impl SendError {
    /// What kind of failure it was.
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// 504 for a timeout, otherwise 502.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            SendErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request not answered: {}", self.message)
    }
}

impl std::error::Error for SendError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    #[test]
    fn malformed_header_shows_when_it_is_sent() {
        let sent = block_on(get("http://localhost/").header("x y", "z").send());

        assert_eq!(sent.unwrap_err().status(), 500);
    }

    #[test]
    fn failed_send_is_a_gateway_error_that_keeps_its_kind() {
        let error = block_on(get("http://localhost/").send()).unwrap_err();

        assert_eq!(error.status(), 502);
        assert_eq!(error.cause::<SendError>().unwrap().kind(), SendErrorKind::Other);
    }
}
