//! HTTP/1.1 and HTTP/1.0 (RFC 9112), on `httparse` for the head alone.
//!
//! One connection is one task: [`conn`] waits for a head ([`parse`]), runs the exchange and closes.
//! The request body is decoded ([`decode`]) on demand and handed through a slot for one frame
//! ([`body`]), so that a handler may read it from any task; the response is framed ([`respond`])
//! into a bounded [`output`]. Requests of a pipeline are handled one after the other, and their
//! responses written together.
//!
//! We do not use hyper's server here: it repairs what must be refused (a length beside a transfer
//! coding, lax chunk syntax, two hosts), has no deadlines for bodies and writes, no interim
//! responses, and keeps its buffers while a connection is idle.

use std::time::Duration;

mod body;
mod conn;
mod decode;
mod inbound;
mod output;
mod parse;
mod respond;
mod timer;

#[cfg(test)]
mod tests;

pub use self::conn::serve;

/// Bytes read ahead of what the exchange has asked for: pipelined requests, or a body that is not
/// read yet. Past it the socket is left alone, which is the client's back-pressure.
const READ_AHEAD: usize = 64 * 1024;
/// After our end is closed: what is still read, so that the client gets the response and not a
/// reset that destroys it (RFC 9112 §9.6).
const LINGER_BYTES: usize = 1024 * 1024;
/// How long that may take.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
