//! Sockets: accepting, TLS, QUIC. The accept loop only accepts; handshakes and everything after run
//! in the connection's own task.

pub mod quic;
