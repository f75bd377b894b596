//! What comes from the clients of WebSockets: [`websocket!`](crate::websocket!) exports it.

use std::future::Future;

use super::{Message, Socket};
use crate::Error;

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// 1005 where the close had no code, 1006 where there was none (RFC 6455 §7.1.5).
    pub code: u16,
    /// Why, in the words of whoever closed it.
    pub reason: String,
}

impl Close {
    /// An end as a test wants it.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// What is done with a client's message: any `async fn(Socket, Message) -> Result<(), Error>`.
pub trait OnMessage: 'static {
    /// Takes one message.
    fn message(&self, socket: Socket, message: Message) -> impl Future<Output = Result<(), Error>>;
}

impl<F, Fut> OnMessage for F
where
    F: Fn(Socket, Message) -> Fut + 'static,
    Fut: Future<Output = Result<(), Error>> + 'static,
{
    fn message(&self, socket: Socket, message: Message) -> impl Future<Output = Result<(), Error>> {
        self(socket, message)
    }
}

/// What is done when a socket has ended: any `async fn(Socket, Close) -> Result<(), Error>`.
pub trait OnClose: 'static {
    /// Takes its end.
    fn closed(&self, socket: Socket, close: Close) -> impl Future<Output = Result<(), Error>>;
}

impl<F, Fut> OnClose for F
where
    F: Fn(Socket, Close) -> Fut + 'static,
    Fut: Future<Output = Result<(), Error>> + 'static,
{
    fn closed(&self, socket: Socket, close: Close) -> impl Future<Output = Result<(), Error>> {
        self(socket, close)
    }
}

/// The end of a socket that nobody cares about.
///
/// # Errors
/// None.
pub async fn ignore(_socket: Socket, _close: Close) -> Result<(), Error> {
    Ok(())
}

/// Exports `websocket-events-async`: the first function takes the messages of clients, the second, if
/// there is one, the ends of sockets. The calls for one socket come one at a time, in order, in any
/// instance of the plugin. An error is written to stderr, and the socket goes on.
///
/// ```
/// use wharf_sdk::websocket::{Close, Message, Socket};
/// use wharf_sdk::{Error, Router};
///
/// async fn message(socket: Socket, message: Message) -> Result<(), Error> {
///     socket.send(message).await?;
///     Ok(())
/// }
///
/// async fn closed(socket: Socket, close: Close) -> Result<(), Error> {
///     println!("{} has left: {}", socket.id, close.code);
///     Ok(())
/// }
///
/// wharf_sdk::serve!(Router::new);
/// wharf_sdk::websocket!(message, closed);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! websocket {
    ($message:path $(,)?) => {
        $crate::websocket!($message, $crate::websocket::ignore);
    };
    ($message:path, $closed:path $(,)?) => {
        const _: () = {
            const fn takes_messages(_: &impl $crate::websocket::OnMessage) {}
            const fn takes_ends(_: &impl $crate::websocket::OnClose) {}
            takes_messages(&$message);
            takes_ends(&$closed);
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::__rt::websocket as rt;

            struct WebSockets;

            impl rt::Guest for WebSockets {
                async fn message(socket: rt::Socket, message: rt::Payload) {
                    rt::message(&$message, socket, message).await
                }

                async fn closed(
                    socket: rt::Socket,
                    code: u16,
                    reason: ::std::string::String,
                ) {
                    rt::closed(&$closed, socket, code, reason).await
                }
            }

    $crate::__rt::websocket::export!(WebSockets with_types_in $crate::__rt::websocket::bindings);
        };
    };
}

/// What the macro expands to; no part of the interface.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __rt {
    pub use bindings::export_websocket as export;
    pub use bindings::exports::wharf::host::websocket_events_async::{Guest, Socket};
    pub use bindings::wharf::host::hub::Payload;

    use super::{Close, Message, OnClose, OnMessage};
    use crate::error::write_to_stderr;
    use crate::websocket;

    pub mod bindings {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package wharf:sdk-websocket;
                world websocket { export wharf:host/websocket-events-async@0.1.0; }
            ",
            world: "wharf:sdk-websocket/websocket",
            generate_all,
            pub_export_macro: true,
            export_macro_name: "export_websocket",
            default_bindings_module: "wharf_sdk::__rt::websocket::bindings",
        });
    }

    pub async fn message(handler: &impl OnMessage, socket: Socket, message: Payload) {
        let socket = told(socket);
        let id = socket.id.clone();
        let message = match message {
            Payload::Text(text) => Message::Text(text),
            Payload::Binary(bytes) => Message::Binary(bytes.into()),
        };
        if let Err(error) = handler.message(socket, message).await {
            write_to_stderr(&format!("message of socket {id} failed: {error}"));
        }
    }

    pub async fn closed(handler: &impl OnClose, socket: Socket, code: u16, reason: String) {
        let socket = told(socket);
        let id = socket.id.clone();
        if let Err(error) = handler.closed(socket, Close { code, reason }).await {
            write_to_stderr(&format!("end of socket {id} failed: {error}"));
        }
    }

    fn told(Socket { id, protocol, attributes }: Socket) -> websocket::Socket {
        websocket::Socket { id, protocol, attributes }
    }
}
