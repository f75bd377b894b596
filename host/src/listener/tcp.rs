//! TCP: one listening socket a core on the same port, and the accept loops of the cleartext and the
//! TLS listener.
//!
//! [`bind`] is called before anything is served, so that a taken port is an error and not half a
//! server. [`serve`] is one core's accept loop: it takes a slot, spawns the connection's task and
//! goes on; sniffing and handshakes happen there, under their deadlines. No error of `accept` ends it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol as IpProtocol, SockRef, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::gate::{Gate, Turn};
use super::rewind::Rewind;
use super::slots::{Slot, Slots};
use super::tls::{Accepted, Tls};
use crate::http::conn::{Conn, Protocol, RefusedConnection};
use crate::http::h2::PREFACE;
use crate::http::{Handle, Serving, h1, h2};

/// Connections that wait to be accepted, a core; the kernel may allow less (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// The first pause after `accept` failed for want of descriptors or memory; doubled up to the second.
const BACK_OFF: Duration = Duration::from_millis(5);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(500);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process listens there.
    #[error("cannot listen on {address}: address in use by another process")]
    Taken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Not allowed.
    #[error(
        "cannot listen on {address}: permission denied \
         (ports below 1024 need CAP_NET_BIND_SERVICE on most systems)"
    )]
    Denied {
        /// The address asked for.
        address: SocketAddr,
    },
    /// No interface has this address.
    #[error("cannot listen on {address}: this machine does not have that address")]
    NotOurs {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { address },
            _ => Self::Other { address, source },
        }
    }
}

/// The listening sockets of one address, one a core where this process bound them.
#[derive(Debug)]
pub struct Bound {
    /// The real address: port 0 has become the port that was free.
    pub address: SocketAddr,
    /// Listening sockets, non-blocking. As many as cores, except where they were inherited.
    pub sockets: Vec<TcpListener>,
}

/// Binds and listens, once for each of `cores` (at least one).
///
/// # Errors
/// See [`BindError`]. A port that another process listens on is taken even if that process would
/// share it.
pub fn bind(address: SocketAddr, cores: usize) -> Result<Bound, BindError> {
    let error = |source| BindError::new(address, source);
    // The first socket listens before it may be shared: SO_REUSEPORT alone would let a second server
    // of the same user take half of our connections, or us theirs, without a word.
    let first = socket(address).map_err(error)?;
    first.bind(&address.into()).map_err(error)?;
    first.listen(BACKLOG).map_err(error)?;
    first.set_reuse_port(true).map_err(error)?;
    let first = TcpListener::from(first);
    let address = first.local_addr().map_err(error)?;

    let mut sockets = vec![first];
    for _ in 1..cores {
        let next = socket(address).map_err(error)?;
        next.set_reuse_port(true).map_err(error)?;
        next.bind(&address.into()).map_err(error)?;
        next.listen(BACKLOG).map_err(error)?;
        sockets.push(next.into());
    }
    Ok(Bound { address, sockets })
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(IpProtocol::TCP))?;
    // Connections of a former server that are in TIME_WAIT do not hold the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Like the IPv4 listener beside it: `[::]` is IPv6, `0.0.0.0` is IPv4, on every system.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One core's accept loop, until the drain or until `gate` gives the socket to a successor: with
/// `tls` the TLS listener's, without it the cleartext one's. Must run in the core's runtime.
///
/// # Errors
/// Only when the socket cannot be registered with the runtime; never because of a connection.
pub async fn serve<H: Handle>(
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
    slots: Arc<Slots>,
    serving: Serving<H>,
    gate: &Gate,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let mut back_off = BackOff::default();
    let mut gate = gate.watch();
    loop {
        let turn = *gate.borrow_and_update();
        if turn == Turn::Theirs {
            // Whoever waits to be accepted is the successor's; closing this end resets nobody.
            return Ok(());
        }
        let accepted = tokio::select! {
            biased;
            Ok(()) = gate.changed() => continue,
            () = serving.drain.draining() => break,
            accepted = listener.accept(), if turn == Turn::Ours => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                back_off.over();
                admit(stream, peer, tls.as_ref(), &slots, &serving);
            }
            Err(error) if is_of_one_connection(&error) => debug!(%error, "connection not accepted"),
            Err(error) => {
                serving.states.refuse(RefusedConnection::Accept);
                tokio::time::sleep(back_off.next(&error)).await;
            }
        }
    }
    // Closing the socket would reset the connections that the kernel has already taken for us.
    while let Some(Ok((stream, peer))) = now_or_never(listener.accept()).await {
        admit(stream, peer, tls.as_ref(), &slots, &serving);
    }
    Ok(())
}

async fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

/// Pauses after errors of the whole process, so that a lack of descriptors does not become a loop.
#[derive(Debug, Default)]
struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    fn next(&mut self, error: &io::Error) -> Duration {
        let pause = self.last.map_or(BACK_OFF, |last| (last * 2).min(LONGEST_BACK_OFF));
        if self.last.is_none() {
            warn!(%error, "cannot accept connections; trying again");
        }
        self.last = Some(pause);
        pause
    }

    fn over(&mut self) {
        if self.last.take().is_some() {
            info!("accepting connections again");
        }
    }
}

/// Errors that `accept` passes on from the connection that it would have returned.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}

fn admit<H: Handle>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&Arc<Tls>>,
    slots: &Arc<Slots>,
    serving: &Serving<H>,
) {
    let slot = match slots.take(peer.ip()) {
        Ok(slot) => slot,
        Err(reason) => {
            serving.states.refuse(reason);
            // A reset instead of an orderly close: no socket of ours stays in TIME_WAIT for it.
            let _closed_anyway = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return debug!(%peer, reason = reason.label(), "connection refused");
        }
    };
    let serving_connection = serving.clone();
    match tls.cloned() {
        Some(tls) => {
            serving.drain.spawn(encrypted(stream, peer, tls, slot, serving_connection));
        }
        None => {
            serving.drain.spawn(cleartext(stream, peer, slot, serving_connection));
        }
    }
}

/// What the first bytes say.
#[derive(Debug, PartialEq, Eq)]
enum Sniffed {
    H1(Bytes),
    H2(Bytes),
}

async fn cleartext<H: Handle>(
    mut stream: TcpStream,
    peer: SocketAddr,
    _slot: Slot,
    serving: Serving<H>,
) {
    let Some(local) = prepare(&stream) else { return };
    let sniffed = if serving.http2 {
        let sniffed = timeout(serving.limits.sniff_timeout, sniff(&mut stream)).await;
        if let Ok(Ok(Some(sniffed))) = sniffed {
            sniffed
        } else {
            serving.states.refuse(RefusedConnection::Silent);
            return match sniffed {
                Ok(Err(error)) => debug!(%peer, %error, "connection lost"),
                Ok(Ok(_)) => debug!(%peer, "the client left without a request"),
                Err(_) => debug!(%peer, "no request in time"),
            };
        }
    } else {
        Sniffed::H1(Bytes::new())
    };
    let protocol = match sniffed {
        Sniffed::H1(_) => Protocol::H1,
        Sniffed::H2(_) => Protocol::H2,
    };
    let states = Arc::clone(&serving.states);
    let conn = Conn::new(serving.core, peer, local, protocol, None, states);
    // Boxed, so that neither has room for the other's state, nor twice for its own.
    match sniffed {
        Sniffed::H1(ahead) => Box::pin(h1::serve(stream, ahead, conn, serving)).await,
        Sniffed::H2(ahead) => {
            Box::pin(h2::serve(Rewind::new(ahead, stream), conn, serving)).await;
        }
    }
}

/// Reads until it is clear whether the client speaks HTTP/2 with prior knowledge (RFC 9113 §3.3),
/// however small the pieces. `None` when it leaves first.
async fn sniff(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Option<Sniffed>> {
    let mut ahead = [0; PREFACE.len()];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut ahead[filled..]).await?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
        let bytes = &ahead[..filled];
        if !PREFACE.starts_with(bytes) {
            return Ok(Some(Sniffed::H1(Bytes::copy_from_slice(bytes))));
        }
        if filled == PREFACE.len() {
            return Ok(Some(Sniffed::H2(Bytes::copy_from_slice(bytes))));
        }
    }
}

async fn encrypted<H: Handle>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<Tls>,
    _slot: Slot,
    serving: Serving<H>,
) {
    let Some(local) = prepare(&stream) else { return };
    // Boxed, so that its state does not outlive it.
    let handshake = Box::pin(timeout(serving.limits.handshake_timeout, tls.accept(stream)));
    let (stream, facts) = match handshake.await {
        Ok(Ok(Accepted::Tls(stream, facts))) => (stream, facts),
        unserved => {
            serving.states.refuse(RefusedConnection::Handshake);
            return match unserved {
                Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
                Ok(Ok(_)) => debug!(%peer, "plain HTTP on the TLS port"),
                Err(_) => debug!(%peer, "no TLS handshake in time"),
            };
        }
    };
    let is_h2 = facts.alpn.as_deref() == Some("h2");
    let protocol = if is_h2 { Protocol::H2 } else { Protocol::H1 };
    let states = Arc::clone(&serving.states);
    let conn = Conn::new(serving.core, peer, local, protocol, Some(facts), states);
    if is_h2 {
        Box::pin(h2::serve(stream, conn, serving)).await;
    } else {
        Box::pin(h1::serve(stream, Bytes::new(), conn, serving)).await;
    }
}

/// Sets the socket's options; `None` if it is already gone.
fn prepare(stream: &TcpStream) -> Option<SocketAddr> {
    stream.set_nodelay(true).ok()?;
    stream.local_addr().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn every_core_listens_on_the_same_free_port() {
        let bound = bind(ANY, 4).unwrap();

        assert_eq!(bound.sockets.len(), 4);
        assert_ne!(bound.address.port(), 0);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().unwrap(), bound.address);
        }
    }

    #[test]
    fn a_port_that_a_server_like_ours_listens_on_is_taken() {
        let first = bind(ANY, 2).unwrap();

        let second = bind(first.address, 2).unwrap_err();

        assert!(matches!(second, BindError::Taken { .. }), "{second:?}");
        assert_eq!(
            second.to_string(),
            format!("cannot listen on {}: address in use by another process", first.address)
        );
    }

    #[test]
    fn a_port_is_free_again_when_its_server_is_gone() {
        let address = bind(ANY, 2).unwrap().address;

        let again = bind(address, 2);

        assert!(again.is_ok(), "{again:?}");
    }

    #[test]
    fn an_address_of_another_machine_is_said_plainly() {
        let error = bind("192.0.2.1:0".parse().unwrap(), 1).unwrap_err();

        assert!(matches!(error, BindError::NotOurs { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn the_protocol_is_known_however_small_the_pieces() {
        for (wire, expected) in [
            (PREFACE.as_slice(), Some(Sniffed::H2(Bytes::from_static(PREFACE)))),
            (b"PRI * HTTP/1.1\r\n\r\n", Some(Sniffed::H1(Bytes::from_static(b"PRI * HTTP/1")))),
            (b"POST / HTTP/1.1\r\n", Some(Sniffed::H1(Bytes::from_static(b"PO")))),
            (b"GET / HTTP/1.1\r\n", Some(Sniffed::H1(Bytes::from_static(b"G")))),
            (b"PRI * HTT", None),
            (b"", None),
        ] {
            let mut pieces = tokio_test_reader(wire);

            let sniffed = sniff(&mut pieces).await.unwrap();

            let agrees = match (&sniffed, &expected) {
                (Some(Sniffed::H1(got)), Some(Sniffed::H1(want))) => got.starts_with(want),
                _ => sniffed == expected,
            };
            assert!(agrees, "{sniffed:?} for {:?}", String::from_utf8_lossy(wire));
        }
    }

    /// Gives one byte a read.
    fn tokio_test_reader(bytes: &'static [u8]) -> impl tokio::io::AsyncRead + Unpin {
        struct OneByOne(&'static [u8]);

        impl tokio::io::AsyncRead for OneByOne {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                if let Some((first, rest)) = self.0.split_first() {
                    buf.put_slice(&[*first]);
                    self.0 = rest;
                }
                std::task::Poll::Ready(Ok(()))
            }
        }

        OneByOne(bytes)
    }

    #[test]
    fn accept_errors_back_off_up_to_a_limit() {
        let mut back_off = BackOff::default();
        let error = io::Error::from_raw_os_error(24);

        let pauses: Vec<_> = (0..12).map(|_| back_off.next(&error)).collect();

        assert_eq!(pauses[0], BACK_OFF);
        assert_eq!(pauses[1], BACK_OFF * 2);
        assert_eq!(pauses[11], LONGEST_BACK_OFF);
        assert!(!is_of_one_connection(&error));
    }
}
