//! WebSockets (RFC 6455; over HTTP/2 RFC 8441, over HTTP/3 RFC 9220) that the host holds: they cost no
//! instance, and outlive instances and reloads of the plugin. Topics that a socket follows reach its
//! client without the plugin; what the client sends comes to what [`websocket!`](crate::websocket!)
//! exports.
//!
//! ```
//! use wharf_sdk::hub::{self, Event, Publication};
//! use wharf_sdk::websocket::{self, Message, Socket};
//! use wharf_sdk::{Error, Request, Response, Router};
//!
//! async fn chat(request: Request) -> Result<Response, Error> {
//!     let name = request.query("name").unwrap_or("somebody".into());
//!     let left = Event::new(format!("{name} has left"));
//!     let accept = websocket::accept(&request).protocols(["chat"]).topic("chat/lobby");
//!     let accept = accept.attribute("name", &*name).on_close(Publication::new("chat/lobby", left));
//!     Ok(accept.send()?)
//! }
//!
//! /// To everybody else in the room.
//! async fn message(socket: Socket, message: Message) -> Result<(), Error> {
//!     hub::publish("chat/lobby", Event::new(message)).except(socket.id).await?;
//!     Ok(())
//! }
//!
//! wharf_sdk::serve!(|| Router::new().get("/chat", chat));
//! wharf_sdk::websocket!(message);
//! # fn main() {}
//! ```
//!
//! A component that uses this imports `wharf:host/websocket`, so that a host without that interface will
//! not load it.

mod events;
mod socket;

use std::fmt;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};

use crate::hub::{Publication, Selector, Start, Subscription, again_later, follows, starts};
use crate::sse::check_attributes;
use crate::{Error, Request, Response};

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use events::__rt;
pub use events::{Close, OnClose, OnMessage, ignore};
pub use socket::Socket;

/// A message of a WebSocket.
pub use crate::hub::Payload as Message;

/// Bytes of a close's reason, at the most (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// Begins to accept the WebSocket that `request` asks for.
///
/// # Defaults
/// Only pages of the plugin's own origin, and clients that are no browsers, may open it; no subprotocol,
/// no topic, no compression; messages of at most 16 MiB; a ping after 25 seconds of silence, closed after
/// 60.
pub fn accept(request: &Request) -> Accept<'_> {
    Accept {
        request,
        protocols: Vec::new(),
        origins: None,
        subscription: Subscription::new(),
        start: Start::Now,
        attributes: Vec::new(),
        max_message: None,
        idle_timeout: None,
        ping_interval: None,
        rate: None,
        compression: false,
        on_open: Vec::new(),
        on_close: Vec::new(),
    }
}

/// A WebSocket that is about to be accepted.
#[derive(Debug)]
#[must_use = "nothing is accepted before `send` or `open`"]
pub struct Accept<'a> {
    request: &'a Request,
    protocols: Vec<String>,
    origins: Option<Vec<String>>,
    subscription: Subscription,
    start: Start,
    attributes: Vec<(String, String)>,
    max_message: Option<u32>,
    idle_timeout: Option<Duration>,
    ping_interval: Option<Duration>,
    rate: Option<(u32, u32)>,
    compression: bool,
    on_open: Vec<Publication>,
    on_close: Vec<Publication>,
}

impl Accept<'_> {
    follows!();
    starts!();

    /// Begins after the event that the request names in `Last-Event-ID`, as a header or in the query;
    /// else now.
    pub fn resume(self) -> Self {
        self.start(Start::Request)
    }

    /// Subprotocols that the plugin speaks, the one that it likes best first.
    pub fn protocols(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Origins whose pages may open it (`https://example.com`, or `*` for all), in place of its own.
    pub fn origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// Something that comes with every event about it; 16 KiB together.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Bytes of a message from the client, decompressed, at the most.
    pub fn max_message(mut self, bytes: u32) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Closes it when the client has sent nothing, also no answer to a ping, for so long.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Sends a ping when the client has sent nothing for so long; zero: never.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = Some(interval);
        self
    }

    /// Reads at most so many messages each second over time, and `burst` at once.
    pub fn rate(mut self, messages: u32, burst: u32) -> Self {
        self.rate = Some((messages, burst));
        self
    }

    /// Compresses messages (RFC 7692) where the client offers it.
    pub fn compression(mut self) -> Self {
        self.compression = true;
        self
    }

    /// Publishes this when it begins; `{socket}` in [`Publication::except`] stands for it.
    pub fn on_open(mut self, publication: Publication) -> Self {
        self.on_open.push(publication);
        self
    }

    /// Publishes this when it has ended, however it did.
    pub fn on_close(mut self, publication: Publication) -> Self {
        self.on_close.push(publication);
        self
    }

    /// The response, to be given back as it is; it may get further fields.
    ///
    /// # Errors
    /// Any [`AcceptError`]; natively always.
    pub fn send(self) -> Result<Response, AcceptError> {
        self.open().map(|accepted| accepted.response)
    }

    /// The response, and what is known of the socket.
    ///
    /// # Errors
    /// Any [`AcceptError`]; natively always.
    pub fn open(self) -> Result<Accepted, AcceptError> {
        self.check().map_err(AcceptError::Invalid)?;
        imp::open(self)
    }

    fn check(&self) -> Result<(), String> {
        for protocol in &self.protocols {
            // RFC 6455 §4.1: a token, as names of header fields are.
            if http::HeaderName::from_bytes(protocol.as_bytes()).is_err() {
                return Err(format!("{protocol:?} is no name of a subprotocol"));
            }
        }
        self.subscription.check()?;
        check_attributes(&self.attributes)?;
        self.on_open.iter().chain(&self.on_close).try_for_each(Publication::check)
    }
}

/// A WebSocket that begins once its response has been given back.
#[derive(Debug)]
pub struct Accepted {
    /// To be given back by the handler.
    pub response: Response,
    /// The socket, to be sent to.
    pub socket: Socket,
}

/// Sends a message to the socket's client; waits for room where 64 messages, or 1 MiB, wait for it.
///
/// # Errors
/// [`SendError::Gone`] once it has ended; natively always.
pub async fn send(socket: &str, message: impl Into<Message>) -> Result<(), SendError> {
    imp::send(socket, message.into()).await
}

/// Sends a message unless 64 messages, or 1 MiB, wait for the client already: for those who would rather
/// drop one than wait.
///
/// # Errors
/// [`SendError::Full`], then; [`SendError::Gone`] once it has ended, natively always.
pub fn try_send(socket: &str, message: impl Into<Message>) -> Result<(), SendError> {
    imp::try_send(socket, message.into())
}

/// Closes the socket after what is queued. `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999; a reason
/// of more than 123 bytes is cut short.
///
/// # Errors
/// [`SendError::Gone`] where it has ended; natively always.
pub fn close(socket: &str, code: u16, reason: &str) -> Result<(), SendError> {
    imp::close(socket, code, &reason[..reason.floor_char_boundary(MAX_REASON)])
}

/// Lets the socket follow further topics, from now on. A string is that very topic; a pattern is a
/// [`Selector::Pattern`].
///
/// # Errors
/// [`SendError::Refused`] where it is not granted; natively always.
pub fn join(
    socket: &str,
    topics: impl IntoIterator<Item = impl Into<Selector>>,
) -> Result<(), SendError> {
    imp::join(socket, &topics.into_iter().map(Into::into).collect::<Vec<_>>())
}

/// Lets the socket follow these topics no longer.
///
/// # Errors
/// As [`join`].
pub fn leave(
    socket: &str,
    topics: impl IntoIterator<Item = impl Into<Selector>>,
) -> Result<(), SendError> {
    imp::leave(socket, &topics.into_iter().map(Into::into).collect::<Vec<_>>())
}

/// Why a WebSocket is not accepted. As an [`Error`] it is what a client must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The request asks for none: 426 with `Upgrade: websocket`.
    NotRequested,
    /// The handshake has another version than 13: 426 with `Sec-WebSocket-Version: 13`.
    OtherVersion,
    /// The handshake is wrong; how: 400.
    BadHandshake(String),
    /// The `Origin` is not one of those allowed: 403.
    ForeignOrigin,
    /// This transport, kind of request or host has no WebSockets: 501.
    Unsupported,
    /// The manifest does not grant the topics: 403.
    NotGranted,
    /// An option cannot be so; which and why: 400.
    Invalid(String),
    /// The plugin has as many as it may: 503.
    TooMany,
    /// The exchange has been answered, or its client has left: 500.
    TooLate,
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRequested => "this is for clients that ask for a WebSocket",
            Self::OtherVersion => "only version 13 of the WebSocket protocol is spoken here",
            Self::BadHandshake(cause) | Self::Invalid(cause) => cause,
            Self::ForeignOrigin => "pages of this origin may not open this WebSocket",
            Self::Unsupported => "no WebSocket can be had over this transport",
            Self::NotGranted => {
                "the manifest does not name the topics in `[capabilities] hub.subscribe`"
            }
            Self::TooMany => "there are too many WebSockets",
            Self::TooLate => "the exchange is over",
        })
    }
}

impl std::error::Error for AcceptError {}

impl AcceptError {
    /// Whether it is the client's fault, and so not for the plugin's log.
    pub(crate) fn is_the_clients(&self) -> bool {
        matches!(
            self,
            Self::NotRequested
                | Self::OtherVersion
                | Self::BadHandshake(_)
                | Self::ForeignOrigin
                | Self::Unsupported
        )
    }

    /// What the client is answered.
    pub(crate) fn problem(&self) -> Error {
        let websocket = || HeaderValue::from_static("websocket");
        let version = |error: Error| {
            error.header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        };
        let status = match self {
            Self::NotRequested | Self::OtherVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadHandshake(_) | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::ForeignOrigin | Self::NotGranted => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Self::TooMany => return again_later(),
            Self::TooLate => return Error::new(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let error = Error::new(status);
        match self {
            Self::NotGranted => error,
            Self::NotRequested => {
                error.detail(self.to_string()).header(header::UPGRADE, websocket())
            }
            Self::OtherVersion => {
                version(error.detail(self.to_string()).header(header::UPGRADE, websocket()))
            }
            _ => error.detail(self.to_string()),
        }
    }
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such socket of this plugin, or it has ended.
    Gone,
    /// 64 messages, or 1 MiB, wait for the client.
    Full,
    /// More than 16 MiB.
    TooLarge,
    /// A selector is wrong or not granted, or a close code is not one to send.
    Refused,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "there is no such WebSocket any more",
            Self::Full => "too much waits for the client of the WebSocket",
            Self::TooLarge => "the message is too large",
            Self::Refused => "that is wrong, or not granted",
        })
    }
}

impl std::error::Error for SendError {}

#[cfg(target_family = "wasm")]
mod imp {
    use super::{Accept, AcceptError, Accepted, Message, Selector, SendError, Socket};
    use crate::bindings::wharf::host::{websocket, websocket_async};
    use crate::exchange::{Connection, Protocol};
    use crate::hub::host::{
        milliseconds, to_payload, to_publication, to_selector, to_start, to_subscription,
    };
    use crate::response::held;
    use crate::{Request, StatusCode};

    pub(super) fn open(accept: Accept<'_>) -> Result<Accepted, AcceptError> {
        let request = accept.request;
        let exchange = request.exchange().ok_or(AcceptError::Unsupported)?;
        let options = websocket::Options {
            protocols: accept.protocols,
            origins: accept.origins,
            subscription: (!accept.subscription.selectors().is_empty())
                .then(|| to_subscription(&accept.subscription)),
            start: to_start(&accept.start),
            attributes: accept.attributes,
            max_message: accept.max_message,
            idle_timeout_ms: accept.idle_timeout.map(milliseconds),
            ping_interval_ms: accept.ping_interval.map(milliseconds),
            rate: accept.rate.map(|(messages, burst)| websocket::Rate { messages, burst }),
            compression: accept.compression,
            on_open: accept.on_open.into_iter().map(to_publication).collect(),
            on_close: accept.on_close.into_iter().map(to_publication).collect(),
        };
        let accepted = websocket::accept(exchange.host(), &options)
            .map_err(|why| refusal(why, request, &exchange.connection()))?;
        let response = held(&accepted.token).ok_or(AcceptError::Unsupported)?;
        let (id, protocol, attributes) = (accepted.socket, accepted.protocol, options.attributes);
        Ok(Accepted {
            response: response.with_status(StatusCode::SWITCHING_PROTOCOLS),
            socket: Socket { id, protocol, attributes },
        })
    }

    fn refusal(
        why: websocket::AcceptError,
        request: &Request,
        connection: &Connection,
    ) -> AcceptError {
        use websocket::AcceptError as Why;
        // Only HTTP/1.1 tells the version in an answer of its own.
        let can_upgrade = connection.protocol == Protocol::Http1;
        match why {
            // Over HTTP/2 and HTTP/3 the host leaves `Upgrade` out.
            Why::NotRequested => AcceptError::NotRequested,
            Why::Unsupported => AcceptError::Unsupported,
            Why::BadHandshake(_)
                if can_upgrade
                    && request
                        .header("sec-websocket-version")
                        .is_some_and(|v| v.trim() != "13") =>
            {
                AcceptError::OtherVersion
            }
            Why::BadHandshake(cause) => AcceptError::BadHandshake(cause),
            Why::ForeignOrigin => AcceptError::ForeignOrigin,
            Why::NotGranted => AcceptError::NotGranted,
            Why::Invalid(cause) => AcceptError::Invalid(cause),
            Why::TooMany => AcceptError::TooMany,
            Why::TooLate => AcceptError::TooLate,
        }
    }

    pub(super) async fn send(socket: &str, message: Message) -> Result<(), SendError> {
        websocket_async::send(socket.to_owned(), to_payload(message)).await.map_err(fault)
    }

    pub(super) fn try_send(socket: &str, message: Message) -> Result<(), SendError> {
        websocket::send(socket, &to_payload(message)).map_err(fault)
    }

    pub(super) fn close(socket: &str, code: u16, reason: &str) -> Result<(), SendError> {
        websocket::close(socket, code, reason).map_err(fault)
    }

    pub(super) fn join(socket: &str, topics: &[Selector]) -> Result<(), SendError> {
        let topics: Vec<_> = topics.iter().map(to_selector).collect();
        websocket::join(socket, &topics).map_err(fault)
    }

    pub(super) fn leave(socket: &str, topics: &[Selector]) -> Result<(), SendError> {
        let topics: Vec<_> = topics.iter().map(to_selector).collect();
        websocket::leave(socket, &topics).map_err(fault)
    }

    fn fault(error: websocket::SendError) -> SendError {
        match error {
            websocket::SendError::Gone => SendError::Gone,
            websocket::SendError::Full => SendError::Full,
            websocket::SendError::TooLarge => SendError::TooLarge,
            websocket::SendError::Refused => SendError::Refused,
        }
    }
}

/// Natively there is no host, and so no socket.
#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{Accept, AcceptError, Accepted, Message, Selector, SendError};

    pub(super) fn open(accept: Accept<'_>) -> Result<Accepted, AcceptError> {
        let Accept {
            request,
            origins,
            start,
            max_message,
            idle_timeout,
            ping_interval,
            rate,
            compression,
            ..
        } = accept;
        let _without_a_host = (request.exchange(), origins, start, max_message, idle_timeout);
        let _without_a_host = (ping_interval, rate, compression);
        Err(AcceptError::Unsupported)
    }

    pub(super) async fn send(_socket: &str, _message: Message) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    pub(super) fn try_send(_socket: &str, _message: Message) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    pub(super) fn close(_socket: &str, _code: u16, _reason: &str) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    pub(super) fn join(_socket: &str, _topics: &[Selector]) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    pub(super) fn leave(_socket: &str, _topics: &[Selector]) -> Result<(), SendError> {
        Err(SendError::Gone)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::hub::Event;
    use crate::testing::block_on;

    #[test]
    fn without_a_host_there_is_no_socket() {
        let request = Request::new(Method::GET, "/ws", ()).unwrap();

        let accepted = accept(&request).protocols(["chat"]).topic("chat/lobby").send();

        assert_eq!(Error::from(accepted.unwrap_err()).status(), 501);
        assert_eq!(block_on(send("1", "hi")), Err(SendError::Gone));
        assert_eq!(close("1", 1000, &"é".repeat(100)), Err(SendError::Gone));
        assert_eq!(join("1", ["chat/lobby"]), Err(SendError::Gone));
    }

    #[test]
    fn what_cannot_be_so_is_told_before_the_host_is_asked() {
        let request = Request::new(Method::GET, "/ws", ()).unwrap();

        for accept in [
            accept(&request).protocols(["a b"]),
            accept(&request).protocols([""]),
            accept(&request).topic("chat/*"),
            accept(&request).on_close(Publication::new("a\n", Event::new(""))),
        ] {
            assert_eq!(Error::from(accept.send().unwrap_err()).status(), 400);
        }
    }

    #[test]
    fn refusals_are_answered_as_the_protocol_says() {
        for (why, status, upgrade, version) in [
            (AcceptError::NotRequested, 426, Some("websocket"), None),
            (AcceptError::OtherVersion, 426, Some("websocket"), Some("13")),
            (AcceptError::BadHandshake("no key".to_owned()), 400, None, None),
            (AcceptError::ForeignOrigin, 403, None, None),
            (AcceptError::Unsupported, 501, None, None),
            (AcceptError::TooMany, 503, None, None),
        ] {
            let response = Error::from(why).into_response();

            assert_eq!(response.status(), status);
            assert_eq!(response.header("upgrade"), upgrade);
            assert_eq!(response.header("sec-websocket-version"), version);
        }
    }
}
