//! Sockets: accepting, TLS, QUIC. The accept loop only accepts; handshakes and everything after run
//! in the connection's own task.
//!
//! [`tcp`] binds and accepts, for both the cleartext and the TLS listener; [`tls`] has the
//! certificates, for TCP and QUIC alike, [`devcert`] makes one where none is configured; [`slots`]
//! bounds the connections of all listeners together; [`gate`] stops them for a successor.

pub mod devcert;
pub mod gate;
pub mod quic;
mod rewind;
pub mod slots;
pub mod tcp;
pub mod tls;
