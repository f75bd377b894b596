//! WebSockets that the host holds (RFC 6455, RFC 7692, RFC 8441, RFC 9220).
//!
//! `handshake` says whether a request may become one, `message` and `frame` turn bytes into messages
//! and back, `socket` speaks the protocol on one stream as the [`Owner`](crate::http::switch::Owner)
//! of its switch, `sockets` finds a socket by its id from any core. What a client sends goes to a
//! [`Listener`], what topics bring comes from a [`Feed`]: nothing here calls plugins.
//!
//! An idle socket owns no buffer and no compression state: bytes are read onto the stack, and what is
//! kept of a message that is not all here is the message.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

pub mod close;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod outbound;
pub mod rate;
pub mod socket;
pub mod sockets;
pub mod utf8;

use crate::hub::{Follower, Step};

pub use self::message::Payload;
pub use self::outbound::Message;
pub use self::sockets::{Handle, Identity, Sockets};

/// Bytes of a message, decompressed: the default, and the most.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Messages that wait for a client,
pub const QUEUE_MESSAGES: usize = 64;
/// and bytes of them; one that is larger by itself may wait alone.
pub const QUEUE_BYTES: usize = 1 << 20;
/// A client that has sent nothing for so long, also no answer to a ping, is given up.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that has sent nothing for so long is sent a ping.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// How long a client may take to answer our Close, and to close the stream after it.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of attributes, names and values.
pub const MAX_ATTRIBUTES: usize = 16 * 1024;
/// Over so long the sockets are told that the server leaves, so that not all of their clients come
/// back at once.
pub const DRAIN_SPREAD: Duration = Duration::from_secs(5);

/// Who gets what clients send.
pub trait Listener: Send + Sync + std::fmt::Debug {
    /// A message came. Nothing more is read until this is over. An error closes the socket.
    fn message(
        &self,
        socket: &Arc<Handle>,
        message: Payload,
    ) -> BoxFuture<'static, Result<(), Fault>>;

    /// The socket has ended, for whatever reason: once, after all its messages.
    fn closed(&self, socket: &Arc<Handle>, code: u16, reason: String) -> BoxFuture<'static, ()>;
}

/// Why the listener could not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It failed: 1011.
    Failed,
    /// It had no time: 1013.
    Busy,
    /// It is not there any more: 1001.
    Gone,
}

impl Fault {
    fn violation(self) -> close::Violation {
        let (code, reason) = match self {
            Self::Failed => (close::INTERNAL, "the application failed"),
            Self::Busy => (close::TRY_AGAIN, "the application is busy"),
            Self::Gone => (close::GOING_AWAY, "the application is gone"),
        };
        close::Violation { code, reason }
    }
}

/// What topics bring for one socket; asked only when the client takes more.
pub trait Feed: Send {
    /// The next step; only after [`Fed::Message`] there may be more.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Fed>;
}

/// A step of a [`Feed`].
#[derive(Debug)]
pub enum Fed {
    /// To be sent.
    Message(Arc<Message>),
    /// The client was too slow, and something is lost.
    Lagged,
    /// Nothing more comes.
    Ended,
}

impl Feed for Follower {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Fed> {
        Self::poll_next(self, cx).map(|step| match step {
            Step::Event(event) => Fed::Message(event.form(Message::of_event)),
            Step::Lagged => Fed::Lagged,
            Step::Ended => Fed::Ended,
        })
    }
}
