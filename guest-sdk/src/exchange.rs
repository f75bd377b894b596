//! [`Exchange`]: what a Wharf host knows of the exchange that a request belongs to.
//!
//! The host names the exchange by an unguessable token in the header `wharf-exchange`, which
//! `wharf:host/exchange` opens. Other hosts set no such header.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// The header that carries the exchange's token.
pub const EXCHANGE_HEADER: &str = "wharf-exchange";

/// The HTTP version that the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (or 1.0).
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Protocol {
    /// `HTTP/1.1`, `HTTP/2` or `HTTP/3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Http3 => "HTTP/3",
        }
    }
}

/// Facts of the TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// For example `TLSv1.3`.
    pub version: String,
    /// The cipher suite's IANA name, for example `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The negotiated application protocol: `h2`, `http/1.1` or `h3`.
    pub alpn: Option<String>,
    /// The server name that the client asked for.
    pub sni: Option<String>,
    /// True when the request arrived as 0-RTT data, which can be replayed (RFC 8470).
    pub early_data: bool,
}

/// The transport connection that carries the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Unique within the life of the server process.
    pub id: u64,
    /// The HTTP version.
    pub protocol: Protocol,
    /// Absent on cleartext connections.
    pub tls: Option<Tls>,
    /// The client's address and port.
    pub peer: String,
    /// The address and port that the connection was accepted on.
    pub local: String,
    /// Requests on this connection so far, this one included.
    pub requests: u64,
}

/// Connections by state, over the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionStates {
    /// Accepted since the server started.
    pub new: u64,
    /// Serving at least one request now.
    pub active: u64,
    /// Open without a request now.
    pub idle: u64,
    /// Given over to a protocol switch now.
    pub hijacked: u64,
    /// Closed since the server started.
    pub closed: u64,
}

/// Why early hints were not sent. Never a reason to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintError {
    /// The client may not cope with an interim response: an HTTP/1.1 client that is not known to.
    Unsupported,
    /// The response has begun, or the exchange is over.
    TooLate,
    /// Not a value of the `Link` field, or none at all.
    Invalid,
    /// More than 8 times for one response, or more than 8 KiB.
    TooMany,
}

/// Why nothing was pushed. Never a reason to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PushError {
    /// The client takes no pushes (browsers and curl do not), the protocol is not HTTP/2, or the
    /// request is itself a pushed one.
    Unsupported,
    /// The response has begun, or the exchange is over.
    TooLate,
    /// Not a path, not GET or HEAD, or a field that a promised request must not have.
    Invalid,
    /// More than 16 for one response, or more than the connection has room for.
    TooMany,
}

/// The request whose answer is pushed; `default()` is a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    method: Method,
    headers: HeaderMap,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { method: Method::GET, headers: HeaderMap::new() }
    }
}

impl PushOptions {
    /// GET or HEAD.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Adds a field. The client's own `accept-encoding`, `accept-language` and `user-agent` are taken
    /// over where none is given; cookies and credentials are not.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

/// An open exchange; valid until its response has ended.
#[derive(Debug)]
pub struct Exchange {
    #[cfg(target_family = "wasm")]
    inner: bindings::Exchange,
    /// Natively there is no host, so there is no exchange either.
    #[cfg(not(target_family = "wasm"))]
    inner: std::convert::Infallible,
}

#[cfg(target_family = "wasm")]
use crate::bindings::wharf::host::exchange as bindings;

#[cfg(target_family = "wasm")]
impl Exchange {
    /// For the other interfaces, which take it.
    pub(crate) fn inner(&self) -> &bindings::Exchange {
        &self.inner
    }

    /// Opens the exchange that `token` stands for; `None` where the host does not know it.
    pub fn open(token: &str) -> Option<Self> {
        bindings::open(token).ok().map(|inner| Self { inner })
    }

    pub(crate) fn host(&self) -> &bindings::Exchange {
        &self.inner
    }

    /// The id that the access log, error pages and the plugin's log carry.
    pub fn request_id(&self) -> String {
        self.inner.request_id()
    }

    /// The connection as it is now.
    pub fn connection(&self) -> Connection {
        let connection = self.inner.connection();
        Connection {
            id: connection.id,
            protocol: match connection.protocol {
                bindings::Protocol::Http1 => Protocol::Http1,
                bindings::Protocol::Http2 => Protocol::Http2,
                bindings::Protocol::Http3 => Protocol::Http3,
            },
            tls: connection.tls.map(|tls| Tls {
                version: tls.version,
                cipher: tls.cipher,
                alpn: tls.alpn,
                sni: tls.sni,
                early_data: tls.early_data,
            }),
            peer: connection.peer,
            local: connection.local,
            requests: connection.requests,
        }
    }

    /// The pattern of the route that matched, for example `GET /posts/{id}`.
    pub fn route(&self) -> String {
        self.inner.route()
    }

    /// True once the client has left or the host has given the exchange up.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled()
    }

    /// Waits until the client has left or the host has given the exchange up. Never returns where the
    /// exchange ends as it should: to be raced with the work. A plugin that waits here has a second
    /// from then on to clean up before its instance may be ended.
    pub async fn cancelled(&self) {
        crate::bindings::wharf::host::exchange_async::cancelled(&self.inner).await;
    }

    /// Sends `103 Early Hints` (RFC 8297) at once, with these values of `Link`, for example
    /// `</app.css>; rel=preload; as=style`. Name them in the response as well: not every client sees
    /// the hints.
    ///
    /// # Errors
    /// Why nothing was sent; it does not concern the response.
    pub fn early_hints(&self, links: &[&str]) -> Result<(), HintError> {
        let links: Vec<String> = links.iter().map(|&link| link.to_owned()).collect();
        self.inner.early_hints(&links).map_err(|why| match why {
            bindings::HintError::Unsupported => HintError::Unsupported,
            bindings::HintError::TooLate => HintError::TooLate,
            bindings::HintError::Invalid => HintError::Invalid,
            bindings::HintError::TooMany => HintError::TooMany,
        })
    }

    /// Pushes the answer to another request over HTTP/2 (RFC 9113 §8.4): it is promised to the client
    /// and then answered like any request. `path` is the path and query as the client would ask for
    /// it, so with the prefix that `x-forwarded-prefix` names. To be called before the response is
    /// returned.
    ///
    /// # Errors
    /// Why nothing is pushed; it does not concern the response.
    pub fn push(&self, path: &str, options: &PushOptions) -> Result<(), PushError> {
        let mut headers = Vec::with_capacity(options.headers.len());
        for (name, value) in &options.headers {
            let value = value.to_str().map_err(|_| PushError::Invalid)?;
            headers.push((name.to_string(), value.to_owned()));
        }
        let options = bindings::PushOptions { method: options.method.to_string(), headers };
        self.inner.push(path, Some(&options)).map_err(|why| match why {
            bindings::PushError::Unsupported => PushError::Unsupported,
            bindings::PushError::TooLate => PushError::TooLate,
            bindings::PushError::Invalid => PushError::Invalid,
            bindings::PushError::TooMany => PushError::TooMany,
        })
    }

    /// Ends the response, as one that broke off, unless its last byte is sent by then. Can be set
    /// anew, before and after the response has begun; `None` takes it back.
    pub fn set_write_deadline(&self, from_now: Option<Duration>) {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.inner.set_write_deadline(from_now.map(milliseconds));
    }

    /// Sends at the most so many bytes of body a second. `None` takes the limit back.
    pub fn set_bandwidth_limit(&self, bytes_per_second: Option<u64>) {
        self.inner.set_bandwidth_limit(bytes_per_second);
    }

    /// Holds the body back until it ends or 1 MiB of it is there.
    pub fn set_buffered(&self, buffered: bool) {
        self.inner.set_buffered(buffered);
    }
}

#[cfg(not(target_family = "wasm"))]
impl Exchange {
    /// Opens the exchange that `token` stands for; `None` where the host does not know it.
    pub fn open(_token: &str) -> Option<Self> {
        None
    }

    /// The id that the access log, error pages and the plugin's log carry.
    pub fn request_id(&self) -> String {
        match self.inner {}
    }

    /// The connection as it is now.
    pub fn connection(&self) -> Connection {
        match self.inner {}
    }

    /// The pattern of the route that matched, for example `GET /posts/{id}`.
    pub fn route(&self) -> String {
        match self.inner {}
    }

    /// True once the client has left or the host has given the exchange up.
    pub fn is_cancelled(&self) -> bool {
        match self.inner {}
    }

    /// Waits until the client has left or the host has given the exchange up.
    pub async fn cancelled(&self) {
        match self.inner {}
    }

    /// Sends `103 Early Hints`.
    ///
    /// # Errors
    /// Why nothing was sent.
    pub fn early_hints(&self, _links: &[&str]) -> Result<(), HintError> {
        match self.inner {}
    }

    /// Pushes the answer to another request over HTTP/2.
    ///
    /// # Errors
    /// Why nothing is pushed.
    pub fn push(&self, _path: &str, _options: &PushOptions) -> Result<(), PushError> {
        match self.inner {}
    }

    /// Ends the response unless its last byte is sent by then.
    pub fn set_write_deadline(&self, _from_now: Option<Duration>) {
        match self.inner {}
    }

    /// Sends at the most so many bytes of body a second.
    pub fn set_bandwidth_limit(&self, _bytes_per_second: Option<u64>) {
        match self.inner {}
    }

    /// Holds the body back.
    pub fn set_buffered(&self, _buffered: bool) {
        match self.inner {}
    }
}

/// The server's connections by state, now.
#[cfg(target_family = "wasm")]
pub fn connection_states() -> ConnectionStates {
    let states = bindings::states();
    ConnectionStates {
        new: states.new,
        active: states.active,
        idle: states.idle,
        hijacked: states.hijacked,
        closed: states.closed,
    }
}
