//! HTTP/3 (RFC 9114) with QPACK (RFC 9204), on quinn.
//!
//! The HTTP/3 layer is ours and not the crate `h3` (0.0.8), because that delivers malformed requests
//! as ordinary ones (pseudo-header fields given twice, after fields, in trailers; `:status`; data
//! after trailers; a wrong content-length), takes no `:protocol = websocket` (RFC 9220) and hides
//! the send side that interim responses need. QUIC itself is quinn's.
//!
//! [`conn`] has the connection and draining, [`control`] the client's unidirectional streams,
//! [`stream`] one exchange, [`inbound`] its request body, [`frame`], [`qpack`] and [`message`] the
//! wire, [`socket`] a stream that an extended CONNECT has led out of HTTP. Interim responses beside
//! 100 (103) go out where [`stream`] waits for the handler.

mod code;
mod conn;
mod control;
mod frame;
mod inbound;
mod message;
mod qpack;
mod socket;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

pub use self::conn::serve;

/// The ALPN name (RFC 9114 §3.1).
pub const ALPN: &[u8] = b"h3";
