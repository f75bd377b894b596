//! QUIC: one quinn endpoint a core, on a UDP socket of its own that shares the TLS listener's port.
//!
//! With SO_REUSEPORT the kernel chooses the core by the client's address, so a client whose address
//! changes (RFC 9000 §9) would reach a core that does not know its connection: [`steer`] hands such
//! datagrams to the core that their connection id names. The accept loop only accepts: handshakes
//! run in the connection's own task, under a deadline. [`facts`] knows what TLS agreed on.
//!
//! A process that is taken over stops reading its sockets, which its successor reads from then on,
//! and gets what belongs to its connections over a [`link`]. Everything that must outlive a process
//! is derived from one [`Secret`].

mod facts;
mod ids;
pub mod link;
mod steer;

use std::any::Any;
use std::hash::RandomState;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::NoInitialCipherSuite;
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AsyncTimer, AsyncUdpSocket, Connecting, Connection, ConnectionError, Endpoint, EndpointConfig,
    IdleTimeout, Incoming, Runtime, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    ZeroRttAccepted,
};
use socket2::SockRef;
use tokio::time::timeout;

pub use self::ids::MAX_CORES;
use self::ids::{CoreIds, Ids};
pub use self::link::Link;
use self::link::Links;
use self::steer::{Post, Steered, Steering};
use crate::drain::Drain;
use crate::http::conn::{Conn, Protocol, RefusedConnection};
use crate::http::limits::Limits;
use crate::http::{Handle, Serving, h3};

/// Bytes of the kernel's buffers of each socket: a core that is busy for a few milliseconds must not
/// lose datagrams. The kernel may grant less (`net.core.rmem_max`).
const SOCKET_BUFFER: usize = 2 << 20;
/// Handshakes running on one core past which a client must prove its address first (RFC 9000
/// §8.1.2).
const RETRY_ABOVE: usize = 64;
/// Handshakes running on one core; further ones are refused.
const MAX_HANDSHAKES: usize = 1024;
/// Bytes that one stream's sender may be ahead of its reader.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that a connection's sender may be ahead of its readers, over all streams.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of responses that wait for acknowledgement, over one connection.
const SEND_WINDOW: u64 = 8 << 20;
/// Unidirectional streams at once: control, two of QPACK, and room for grease.
const UNI_STREAMS: u32 = 8;

/// Takes a connection slot for a peer, or says why there is none. The slot is free when what is
/// returned is dropped.
pub type Admit =
    Arc<dyn Fn(IpAddr) -> Result<Box<dyn Any + Send>, RefusedConnection> + Send + Sync>;

/// Why QUIC cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuicError {
    /// The TLS configuration has no suite that QUIC needs.
    #[error("the TLS configuration has no TLS 1.3 suite for QUIC")]
    Suite(#[from] NoInitialCipherSuite),
    /// More cores than connection ids can name.
    #[error("QUIC can be spread over {MAX_CORES} cores at most, not {0}")]
    TooManyCores(usize),
    /// The socket cannot be used.
    #[error("the UDP socket cannot be used")]
    Socket(#[from] io::Error),
}

/// What a process has in common with those that it took over from, and with its successors: the
/// keys of connection ids, of stateless resets and of address validation tokens are derived from it.
pub type Secret = [u8; 32];

/// Which process this is.
#[derive(Debug)]
pub struct Lineage {
    /// Tells its connections from those of the processes before it.
    pub generation: u8,
    /// Common to all of them.
    pub secret: Secret,
    /// Ways to those that may still have connections.
    pub links: Vec<Link>,
}

impl Lineage {
    /// The first of its line.
    pub fn first() -> Self {
        Self { generation: 0, secret: rand::random(), links: Vec::new() }
    }
}

/// What the endpoints of all cores have in common: keys, settings and the way to each other.
pub struct Quic {
    endpoint: EndpointConfig,
    server: ServerConfig,
    steering: Steering,
    handed_over: AtomicBool,
}

/// The key of stateless reset tokens (RFC 9000 §10.3.2).
struct ResetKey(Secret);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().map_err(|_| CryptoError)?;
        // Compares in constant time.
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

impl Quic {
    /// Prepares for `cores` endpoints on `sockets` sockets. `tls` must offer TLS 1.3 only where it matters
    /// and the ALPN name [`h3::ALPN`]; early data is taken where it says so.
    ///
    /// # Errors
    /// See [`QuicError`].
    pub fn new(
        tls: Arc<rustls::ServerConfig>,
        cores: usize,
        sockets: usize,
        limits: &Limits,
        lineage: Lineage,
    ) -> Result<Self, QuicError> {
        if cores == 0 || cores > MAX_CORES {
            return Err(QuicError::TooManyCores(cores));
        }
        let key = |purpose| blake3::derive_key(purpose, &lineage.secret);
        let tokens = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[])
            .extract(&key("wharf 2026 quic address validation tokens"));
        let mut server = ServerConfig::new(facts::server_config(tls)?, Arc::new(tokens));
        server
            .transport_config(Arc::new(transport(limits)))
            // What waits to be accepted; the accept loop takes them at once.
            .max_incoming(MAX_HANDSHAKES);
        Ok(Self {
            // One value for all: its keys for stateless resets and `server`'s for tokens are shared,
            // because any core may be asked for either.
            endpoint: EndpointConfig::new(Arc::new(ResetKey(key(
                "wharf 2026 quic stateless reset tokens",
            )))),
            server,
            steering: Steering {
                ids: Arc::new(Ids::new(
                    lineage.generation,
                    cores,
                    key("wharf 2026 quic connection ids"),
                )),
                posts: (0..cores).map(|_| Post::new()).collect(),
                links: Arc::new(Links::new(lineage.links)),
                spread: (sockets < cores).then(RandomState::new),
            },
            handed_over: AtomicBool::new(false),
        })
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.steering.ids.cores()
    }

    /// Stops reading the sockets, for a successor that reads them from now on and has `links`' other
    /// ends; one a core. [`Quic::resume`] undoes it.
    pub fn hold(&self, links: Vec<UnixDatagram>) {
        for (post, link) in self.steering.posts.iter().zip(links) {
            post.valve().close(link);
        }
    }

    /// Reads the sockets again: there is no successor.
    pub fn resume(&self) {
        for post in &*self.steering.posts {
            post.valve().open();
        }
    }

    /// The sockets are a successor's for good. What still comes here is for connections of ours.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.steering.links.clear();
    }

    /// The ways to the processes before this one, for a successor.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        self.steering.links.copy()
    }

    /// Makes one core's endpoint on the sockets that it reads, or where it reads none, on one that
    /// it sends through. Must run inside that core's runtime, where its tasks will live.
    ///
    /// # Errors
    /// [`QuicError::Socket`].
    ///
    /// # Panics
    /// If `core` is none of those prepared for, or has its endpoint already; without a socket.
    pub fn bind(
        &self,
        core: usize,
        sockets: Vec<UdpSocket>,
        reads: bool,
        drain: &Drain,
    ) -> Result<Endpoint, QuicError> {
        let runtime = Arc::new(Tracked { drain: drain.clone() });
        let wrapped = sockets.into_iter().map(|socket| {
            socket.set_nonblocking(true)?;
            let buffers = SockRef::from(&socket);
            // Less than asked for is no reason not to serve.
            let _granted = buffers.set_recv_buffer_size(SOCKET_BUFFER);
            let _granted = buffers.set_send_buffer_size(SOCKET_BUFFER);
            runtime.wrap_udp_socket(socket)
        });
        let wrapped = wrapped.collect::<Result<_, _>>()?;
        let socket = Arc::new(Steered::new(wrapped, reads, core, self.steering.clone()));
        let ids = Arc::clone(&self.steering.ids);
        let mut config = self.endpoint.clone();
        config.cid_generator(move || Box::new(CoreIds::new(core, Arc::clone(&ids))));
        Ok(Endpoint::new_with_abstract_socket(config, Some(self.server.clone()), socket, runtime)?)
    }
}

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quic").field("cores", &self.cores()).finish_non_exhaustive()
    }
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // A timeout that is too long to be said is none.
    let idle = IdleTimeout::try_from(limits.idle_timeout).ok();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(idle)
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(None);
    transport
}

/// quinn's runtime, with its tasks tracked by the drain: it waits until what the connections still
/// had to say was sent.
#[derive(Debug)]
struct Tracked {
    drain: Drain,
}

impl Runtime for Tracked {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.drain.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}

/// Accepts on one core's endpoint until the drain begins, and refuses until the last connection is
/// gone.
pub async fn serve<H: Handle>(quic: &Quic, endpoint: Endpoint, serving: Serving<H>, admit: Admit) {
    let handshakes = Arc::new(AtomicUsize::new(0));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = serving.drain.draining() => break,
        };
        let Some(incoming) = incoming else { break };
        begin(incoming, &endpoint, &handshakes, &serving, &admit);
    }
    // New connections are told so at once while the old ones drain. After a takeover those that
    // still come are ours alone: their first packet was read here, or they have a Retry of ours.
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) if quic.handed_over.load(Ordering::Acquire) => {
                    begin(incoming, &endpoint, &handshakes, &serving, &admit);
                }
                Some(incoming) => {
                    serving.states.refuse(RefusedConnection::Draining);
                    incoming.refuse();
                }
                None => break,
            },
            () = endpoint.wait_idle() => break,
        }
    }
}

/// Begins a connection, or says why not.
fn begin<H: Handle>(
    incoming: Incoming,
    endpoint: &Endpoint,
    handshakes: &Arc<AtomicUsize>,
    serving: &Serving<H>,
    admit: &Admit,
) {
    let pending = handshakes.load(Ordering::Relaxed);
    if pending >= MAX_HANDSHAKES {
        serving.states.refuse(RefusedConnection::Handshakes);
        return incoming.refuse();
    }
    if pending >= RETRY_ABOVE && incoming.may_retry() {
        // Cannot fail: it was asked just now. A client that did not answer costs nothing.
        let _retried = incoming.retry();
        return;
    }
    let slot = match admit(incoming.remote_address().ip()) {
        Ok(slot) => slot,
        Err(reason) => {
            serving.states.refuse(reason);
            return incoming.refuse();
        }
    };
    let handshake = Handshake::begin(handshakes);
    let connection = connection(incoming, endpoint.clone(), handshake, serving.clone());
    serving.drain.spawn(async move {
        let _slot = slot;
        connection.await;
    });
}

/// Counts a handshake for as long as it runs.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection from its first packet to its last.
async fn connection<H: Handle>(
    incoming: Incoming,
    endpoint: Endpoint,
    handshake: Handshake,
    serving: Serving<H>,
) {
    let peer = incoming.remote_address();
    let limit = serving.limits.handshake_timeout;
    let connection = match shake(incoming, limit).await {
        Some(Shaken::Whole(connection)) => {
            drop(handshake);
            connection
        }
        Some(Shaken::Early(connection, accepted)) => {
            // The rest of the handshake has its deadline too.
            let pending = connection.clone();
            serving.drain.spawn(async move {
                let _handshake = handshake;
                if !matches!(timeout(limit, accepted).await, Ok(true)) {
                    pending.close(VarInt::from_u32(0), b"no handshake in time");
                }
            });
            connection
        }
        None => return serving.states.refuse(RefusedConnection::Handshake),
    };
    let tls = facts::tls(&connection);
    if tls.alpn.as_deref().map(str::as_bytes) != Some(h3::ALPN) {
        // RFC 9001 §8.1 has TLS refuse it; a configuration without ALPN would let it pass.
        connection.close(VarInt::from_u32(NO_APPLICATION_PROTOCOL), b"no h3");
        return serving.states.refuse(RefusedConnection::Handshake);
    }
    let conn = Conn::new(
        serving.core,
        peer,
        local(&connection, &endpoint),
        Protocol::H3,
        Some(tls),
        Arc::clone(&serving.states),
    );
    h3::serve(connection, conn, serving).await;
}

/// The crypto error code of the TLS alert (RFC 9001 §4.8).
const NO_APPLICATION_PROTOCOL: u32 = 0x178;

/// How far a handshake is when its connection is served.
enum Shaken {
    Whole(Connection),
    /// The client has sent early data (RFC 9001 §4.6); the rest of the handshake is on its way.
    Early(Connection, ZeroRttAccepted),
}

async fn shake(incoming: Incoming, limit: Duration) -> Option<Shaken> {
    // The client's hello is read here, in its own task: that costs a signature.
    let outcome = match incoming.accept() {
        Ok(connecting) => timeout(limit, established(connecting)).await,
        Err(error) => Ok(Err(error)),
    };
    match outcome {
        Ok(Ok(shaken)) => Some(shaken),
        Ok(Err(error)) => {
            tracing::debug!(%error, "QUIC handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("QUIC handshake timed out");
            None
        }
    }
}

async fn established(mut connecting: Connecting) -> Result<Shaken, ConnectionError> {
    let facts = connecting.handshake_data().await?;
    if facts::takes_early_data(facts) {
        match connecting.into_0rtt() {
            Ok((connection, accepted)) => return Ok(Shaken::Early(connection, accepted)),
            Err(whole) => connecting = whole,
        }
    }
    Ok(Shaken::Whole(connecting.await?))
}

/// The address that the client sent to; on a wildcard socket only the packets know it.
fn local(connection: &Connection, endpoint: &Endpoint) -> SocketAddr {
    let bound = endpoint.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    match connection.local_ip() {
        Some(ip) => SocketAddr::new(ip, bound.port()),
        None => bound,
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
