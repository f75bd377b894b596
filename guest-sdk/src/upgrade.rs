//! [`accept`]: another protocol in place of HTTP, as a raw byte stream both ways.
//!
//! ```
//! use wharf_sdk::{Error, Request, Response, upgrade};
//!
//! async fn echo(request: Request) -> Result<Response, Error> {
//!     upgrade::accept(&request, "echo", async |mut socket| {
//!         while let Some(piece) = socket.read().await {
//!             socket.write(piece).await?;
//!         }
//!         Ok(())
//!     })
//! }
//! # let _ = echo;
//! ```
//!
//! A component that calls this imports `wharf:host/upgrade`, so that a host without that interface
//! will not load it.

use std::future::Future;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::body::Closed;
use crate::{Error, Request, Response};

#[cfg(target_family = "wasm")]
use crate::bindings::wharf::host::upgrade as bindings;

/// Bytes asked for in one read; the host gives what it has.
#[cfg(target_family = "wasm")]
const READ_SIZE: usize = 64 << 10;

/// The protocols that the client asks for, in its order; empty where none can be accepted.
pub fn requested(request: &Request) -> Vec<String> {
    #[cfg(target_family = "wasm")]
    if let Some(exchange) = request.exchange() {
        return bindings::requested(exchange.host());
    }
    let _natively_there_is_no_host = request;
    Vec::new()
}

/// Accepts `protocol` and speaks it with `speak` once the client has been told. The response to give
/// back may get further header fields, but no body, and no status but its own.
///
/// What `speak` returns ends the stream; an error is written to stderr, unless it is [`Closed`]: the
/// client may leave. It has a second to return after the client has left or the server has
/// begun to drain and the input has ended.
///
/// # Errors
///
/// 426 with `Upgrade: PROTOCOL` where the client does not ask for it; 501 where the transport, or the
/// host, cannot switch.
pub fn accept<F, Fut>(request: &Request, protocol: &str, speak: F) -> Result<Response, Error>
where
    F: FnOnce(Socket) -> Fut + 'static,
    Fut: Future<Output = Result<(), Error>> + 'static,
{
    #[cfg(target_family = "wasm")]
    if let Some(exchange) = request.exchange() {
        let (writer, outgoing) = crate::bindings::wit_stream::new();
        let (token, reader) = bindings::accept(exchange.host(), protocol, outgoing)
            .map_err(|why| refusal(why, &exchange.connection(), protocol))?;
        let socket = Socket { reader: SocketReader { reader }, writer: SocketWriter { writer } };
        wasip3::spawn_local(async move {
            if let Err(error) = speak(socket).await
                && error.cause::<Closed>().is_none()
            {
                crate::error::write_to_stderr(&format!("switched protocol broken off: {error}"));
            }
        });
        let response = Response::new(()).with_status(StatusCode::SWITCHING_PROTOCOLS);
        return response.with_header("wharf-reply", token.as_str());
    }
    let _natively_there_is_no_host = (request, speak, protocol);
    Err(Error::new(StatusCode::NOT_IMPLEMENTED).detail("this host cannot switch protocols"))
}

#[cfg(target_family = "wasm")]
fn refusal(
    why: bindings::UpgradeError,
    connection: &crate::exchange::Connection,
    protocol: &str,
) -> Error {
    use crate::exchange::Protocol;
    use bindings::UpgradeError as Why;

    let unsupported = |detail: &str| Error::new(StatusCode::NOT_IMPLEMENTED).detail(detail);
    match why {
        Why::OtherProtocol if connection.protocol != Protocol::Http1 => {
            unsupported("only another protocol is spoken here")
        }
        Why::NotRequested | Why::OtherProtocol => upgrade_required(protocol),
        Why::Unsupported => unsupported("this request cannot be switched to another protocol"),
        Why::TooLate => Error::internal("the switch came too late"),
    }
}

/// 426 that names `protocol` (RFC 9110 §15.5.22).
pub fn upgrade_required(protocol: &str) -> Error {
    let error = Error::new(StatusCode::UPGRADE_REQUIRED)
        .detail(format!("this is for clients that ask for the protocol {protocol:?}"));
    match HeaderValue::from_str(protocol) {
        Ok(value) => error.header(header::UPGRADE, value),
        Err(source) => Error::internal(source),
    }
}

/// The client's byte stream.
#[derive(Debug)]
pub struct Socket {
    reader: SocketReader,
    writer: SocketWriter,
}

impl Socket {
    /// What the client sent, as it arrives; `None` once its side has ended.
    pub async fn read(&mut self) -> Option<Bytes> {
        self.reader.read().await
    }

    /// Sends a piece and waits until it is taken.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the client has left.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Closed> {
        self.writer.write(piece).await
    }

    /// The two directions by themselves. Dropping the writer ends our side.
    pub fn split(self) -> (SocketReader, SocketWriter) {
        (self.reader, self.writer)
    }
}

/// What the client sends.
#[derive(Debug)]
pub struct SocketReader {
    #[cfg(target_family = "wasm")]
    reader: wit_bindgen::StreamReader<u8>,
    /// Natively there is no host, so there is no client either.
    #[cfg(not(target_family = "wasm"))]
    reader: std::convert::Infallible,
}

/// What the client gets.
#[derive(Debug)]
pub struct SocketWriter {
    #[cfg(target_family = "wasm")]
    writer: wit_bindgen::StreamWriter<u8>,
    /// Natively there is no host, so there is no client either.
    #[cfg(not(target_family = "wasm"))]
    writer: std::convert::Infallible,
}

#[cfg(target_family = "wasm")]
impl SocketReader {
    /// As [`Socket::read`].
    pub async fn read(&mut self) -> Option<Bytes> {
        loop {
            let (result, piece) = self.reader.read(Vec::with_capacity(READ_SIZE)).await;
            if !piece.is_empty() {
                return Some(piece.into());
            }
            if !matches!(result, wit_bindgen::StreamResult::Complete(_)) {
                return None;
            }
        }
    }
}

#[cfg(target_family = "wasm")]
impl SocketWriter {
    /// As [`Socket::write`].
    ///
    /// # Errors
    ///
    /// [`Closed`] once the client has left.
    pub async fn write(&mut self, piece: impl Into<Bytes>) -> Result<(), Closed> {
        let piece = piece.into();
        if piece.is_empty() || self.writer.write_all(piece.into()).await.is_empty() {
            Ok(())
        } else {
            Err(Closed)
        }
    }
}

#[cfg(not(target_family = "wasm"))]
impl SocketReader {
    /// As [`Socket::read`].
    #[expect(clippy::unused_async, reason = "the same signature as in a component")]
    pub async fn read(&mut self) -> Option<Bytes> {
        match self.reader {}
    }
}

#[cfg(not(target_family = "wasm"))]
impl SocketWriter {
    /// As [`Socket::write`].
    ///
    /// # Errors
    ///
    /// [`Closed`] once the client has left.
    #[expect(clippy::unused_async, reason = "the same signature as in a component")]
    pub async fn write(&mut self, _piece: impl Into<Bytes>) -> Result<(), Closed> {
        match self.writer {}
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn without_a_host_nothing_switches() {
        let request = Request::new(Method::GET, "/hijack", ()).unwrap();

        let answer = accept(&request, "echo", async |_socket| Ok(()));

        assert_eq!(answer.unwrap_err().status(), StatusCode::NOT_IMPLEMENTED);
        assert!(requested(&request).is_empty());
    }

    #[test]
    fn upgrade_required_names_the_protocol() {
        let response = upgrade_required("echo").into_response();

        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.header("upgrade"), Some("echo"));
    }
}
