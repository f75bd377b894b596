//! One transport connection: its facts and its counters. Made by the listeners, read by everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The HTTP version a connection speaks; settled by ALPN, or by sniffing on the cleartext listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    H1,
    /// HTTP/2, over TLS or by prior knowledge.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// The metric label: `h1`, `h2` or `h3`.
    pub fn label(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

/// What becomes of an HTTP/1.1 connection after a response: an extension of the response. HTTP/2 and
/// HTTP/3 know nothing of it (RFC 9113 §8.2.2, RFC 9114 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It is closed.
    Close,
    /// It goes on, and the client is told so in `Keep-Alive`.
    KeepAlive {
        /// How long it waits for the next request. `None`: as every connection does.
        timeout: Option<Duration>,
        /// Requests that it serves in all.
        max: Option<u32>,
    },
}

/// Extension of a request that arrived as early data, which can be replayed (RFC 8470).
#[derive(Clone, Copy, Debug)]
pub struct EarlyData;

/// Facts of the TLS session.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// For example `TLSv1.3`.
    pub version: String,
    /// IANA name of the suite.
    pub cipher: String,
    /// Negotiated application protocol.
    pub alpn: Option<String>,
    /// Server name asked for.
    pub sni: Option<String>,
    /// The session was resumed with 0-RTT data.
    pub early_data: bool,
}

/// One transport peer. Shared by every exchange on the connection.
#[derive(Debug)]
pub struct Conn {
    /// Unique in this process.
    pub id: u64,
    /// Index of the core (runtime) that owns the connection.
    pub core: usize,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address it was accepted on.
    pub local: SocketAddr,
    /// HTTP version.
    pub protocol: Protocol,
    /// TLS facts; `None` on cleartext.
    pub tls: Option<TlsFacts>,
    requests: AtomicU64,
    active: AtomicUsize,
    switched: AtomicUsize,
    states: Arc<ConnStates>,
}

/// Connections by state over the whole server; the `exchange` interface and the metrics read it.
#[derive(Debug, Default)]
pub struct ConnStates {
    /// Accepted since start.
    pub accepted: AtomicU64,
    /// Open with at least one exchange, and none that has left HTTP.
    pub active: AtomicU64,
    /// Open without one.
    pub idle: AtomicU64,
    /// Open with a stream that has switched to another protocol.
    pub hijacked: AtomicU64,
    /// Closed since start.
    pub closed: AtomicU64,
    /// Open now, by protocol (`Protocol as usize`).
    pub open: [AtomicU64; 3],
    refused: [AtomicU64; RefusedConnection::ALL.len()],
}

impl ConnStates {
    /// A connection was closed before it was served.
    pub fn refuse(&self, reason: RefusedConnection) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections refused for `reason` since start.
    pub fn refused(&self, reason: RefusedConnection) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}

/// Why a connection was closed before it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedConnection {
    /// Too many in all.
    Connections,
    /// Too many from its address.
    Address,
    /// Too many handshakes at once.
    Handshakes,
    /// The TLS or QUIC handshake failed or took too long.
    Handshake,
    /// The client sent nothing in time, or left before it had.
    Silent,
    /// The server is draining.
    Draining,
    /// Accepting itself failed; for example no file descriptor is left.
    Accept,
}

impl RefusedConnection {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Connections,
        Self::Address,
        Self::Handshakes,
        Self::Handshake,
        Self::Silent,
        Self::Draining,
        Self::Accept,
    ];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Handshakes => "handshakes",
            Self::Handshake => "handshake",
            Self::Silent => "silent",
            Self::Draining => "draining",
            Self::Accept => "accept",
        }
    }
}

impl Conn {
    /// A connection that has just been accepted (and, with TLS, shaken hands); counted as idle.
    pub fn new(
        core: usize,
        peer: SocketAddr,
        local: SocketAddr,
        protocol: Protocol,
        tls: Option<TlsFacts>,
        states: Arc<ConnStates>,
    ) -> Arc<Self> {
        let id = states.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        states.idle.fetch_add(1, Ordering::Relaxed);
        states.open[protocol as usize].fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            id,
            core,
            peer,
            local,
            protocol,
            tls,
            requests: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            switched: AtomicUsize::new(0),
            states,
        })
    }

    /// What stands in place of a connection where the host calls a plugin of its own accord; counted
    /// nowhere.
    pub fn unconnected(core: usize) -> Arc<Self> {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let uncounted = Arc::new(ConnStates::default());
        Self::new(core, nowhere, nowhere, Protocol::H1, None, uncounted)
    }

    /// `https` where the connection is encrypted, else `http`.
    pub fn scheme(&self) -> http::uri::Scheme {
        if self.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }

    /// [`Conn::scheme`] as text.
    pub fn scheme_name(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Requests seen so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Exchanges running now.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// The server-wide counters.
    pub fn states(&self) -> &ConnStates {
        &self.states
    }

    /// Counts one exchange for as long as the returned guard lives.
    pub fn begin_exchange(self: &Arc<Self>) -> ActiveExchange {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.active.fetch_add(1, Ordering::Relaxed) == 0 {
            self.states.idle.fetch_sub(1, Ordering::Relaxed);
            self.states.active.fetch_add(1, Ordering::Relaxed);
        }
        ActiveExchange(Arc::clone(self))
    }

    /// Counts a stream that has left HTTP for as long as the returned guard lives, which is no
    /// longer than its exchange's.
    pub fn begin_switch(self: &Arc<Self>) -> SwitchedExchange {
        if self.switched.fetch_add(1, Ordering::Relaxed) == 0 {
            self.states.active.fetch_sub(1, Ordering::Relaxed);
            self.states.hijacked.fetch_add(1, Ordering::Relaxed);
        }
        SwitchedExchange(Arc::clone(self))
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Every `ActiveExchange` holds the connection, so it is idle here.
        self.states.idle.fetch_sub(1, Ordering::Relaxed);
        self.states.open[self.protocol as usize].fetch_sub(1, Ordering::Relaxed);
        self.states.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps its connection counted as hijacked.
#[derive(Debug)]
pub struct SwitchedExchange(Arc<Conn>);

impl Drop for SwitchedExchange {
    fn drop(&mut self) {
        let conn = &self.0;
        if conn.switched.fetch_sub(1, Ordering::Relaxed) == 1 {
            conn.states.hijacked.fetch_sub(1, Ordering::Relaxed);
            conn.states.active.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Keeps its connection counted as active; dropped when the exchange's response body ends.
#[derive(Debug)]
pub struct ActiveExchange(Arc<Conn>);

impl Drop for ActiveExchange {
    fn drop(&mut self) {
        let conn = &self.0;
        if conn.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            conn.states.active.fetch_sub(1, Ordering::Relaxed);
            conn.states.idle.fetch_add(1, Ordering::Relaxed);
        }
    }
}
