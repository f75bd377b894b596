//! Every socket that is served, bound before anything is: those inherited from an old process or
//! from the service manager, and for the rest new ones.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

pub use super::wire::Kept;
use crate::config::Config;
use crate::listener::quic::Lineage;
use crate::listener::tcp::{self, BindError, Bound};

/// Ports that are tried when any free one will do: TCP and UDP must both have it.
const PORT_TRIES: usize = 16;

/// Why the sockets cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketsError {
    /// A listener's address cannot be had.
    #[error(transparent)]
    Tcp(#[from] BindError),
    /// The UDP side of the TLS listener cannot be had.
    #[error("cannot listen on {address} for HTTP/3 (UDP): {source}")]
    Udp {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Where inherited sockets come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// There are none.
    #[default]
    Nowhere,
    /// The service manager: they are what is to be served, whatever addresses are configured.
    Activation,
    /// An old process: those that are configured are taken.
    Takeover,
}

/// Sockets that others have bound.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Who.
    pub origin: Origin,
    /// For the cleartext listener.
    pub http: Option<Bound>,
    /// For the TLS listener.
    pub https: Option<Bound>,
    /// For the admin listener.
    pub admin: Option<Bound>,
    /// On the port of `https`.
    pub udp: Vec<UdpSocket>,
    /// What a successor has in common with those before it.
    pub lineage: Option<Lineage>,
}

/// Every socket.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The cleartext listener's.
    pub http: Option<Bound>,
    /// The TLS listener's.
    pub https: Option<Bound>,
    /// The admin listener's.
    pub admin: Option<Bound>,
    /// On the port of `https`; none without HTTP/3.
    pub udp: Vec<UdpSocket>,
}

impl Sockets {
    /// Takes what is inherited and configured and binds the rest, one socket a core. Tells which of
    /// the inherited listeners were taken.
    ///
    /// # Errors
    /// See [`SocketsError`].
    pub fn bind(config: &Config, inherited: Inherited) -> Result<(Self, Kept), SocketsError> {
        let Inherited { origin, http, https, admin, udp, .. } = inherited;
        let listener = |inherited: Option<Bound>, wanted: Option<SocketAddr>, sockets| {
            let Some(wanted) = wanted else { return Ok((None, false)) };
            match inherited.filter(|bound| fits(origin, bound.address, wanted)) {
                Some(bound) => Ok((Some(bound), true)),
                None => Ok::<_, BindError>((Some(tcp::bind(wanted, sockets)?), false)),
            }
        };
        let mut kept = Kept::default();
        let mut sockets = Self::default();
        (sockets.http, kept.http) = listener(http, config.http, config.threads)?;
        (sockets.admin, kept.admin) = listener(admin, config.admin.listen, 1)?;
        (sockets.https, kept.https) = listener(https, config.https, config.threads)?;
        let may_move = !kept.https && config.https.is_some_and(|asked| asked.port() == 0);
        let mut tries = if may_move { PORT_TRIES } else { 0 };
        while let Some(bound) = sockets.https.as_ref().filter(|_| config.http3) {
            if !udp.is_empty() && (kept.https || origin == Origin::Activation) {
                sockets.udp = udp;
                kept.udp = true;
                break;
            }
            match bind_udp(bound.address, config.threads) {
                Ok(bound) => {
                    sockets.udp = bound;
                    break;
                }
                Err(_) if tries > 0 => {
                    tries -= 1;
                    (sockets.https, _) = listener(None, config.https, config.threads)?;
                }
                Err(source) => {
                    return Err(SocketsError::Udp { address: bound.address, source });
                }
            }
        }
        Ok((sockets, kept))
    }

    /// Closes this process's ends: they are another's.
    pub fn give_away(&mut self) {
        *self = Self::default();
    }
}

/// Whether an inherited socket is the one that is wanted; port 0 wants any.
fn fits(origin: Origin, inherited: SocketAddr, wanted: SocketAddr) -> bool {
    match origin {
        Origin::Nowhere => false,
        Origin::Activation => true,
        Origin::Takeover => {
            inherited.ip() == wanted.ip()
                && (wanted.port() == 0 || wanted.port() == inherited.port())
        }
    }
}

fn bind_udp(address: SocketAddr, cores: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(cores);
    for core in 0..cores {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The first is bound alone, so that a port in use is noticed; sharing begins after that.
        if core > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// Which of `sockets` core `core` of `cores` serves: every socket is served by a core, and every
/// core serves one, be there more or fewer of them than cores.
pub fn share<T>(sockets: &[T], core: usize, cores: usize) -> impl Iterator<Item = &T> {
    let first = if sockets.len() < cores { core % sockets.len().max(1) } else { core };
    // With fewer sockets than cores, the step leads past the end.
    sockets.iter().skip(first).step_by(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_a_core_and_every_core_a_socket() {
        for sockets in 1..6 {
            for cores in 1..6 {
                let all: Vec<usize> = (0..sockets).collect();
                let mut served = vec![0; sockets];

                for core in 0..cores {
                    let shared: Vec<_> = share(&all, core, cores).collect();
                    assert!(!shared.is_empty(), "{sockets} sockets, {cores} cores");
                    for &socket in shared {
                        served[socket] += 1;
                    }
                }

                assert!(served.iter().all(|&cores| cores > 0), "{sockets}, {cores}: {served:?}");
                // Where there are enough, none is shared.
                assert!(sockets < cores || served.iter().all(|&cores| cores == 1));
            }
        }
        assert_eq!(share::<u8>(&[], 0, 2).count(), 0);
    }

    #[test]
    fn an_old_processs_socket_is_taken_where_its_address_is_wanted() {
        let inherited = "127.0.0.1:8080".parse().unwrap();
        for (wanted, expected) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.1:0", true),
            ("127.0.0.1:8081", false),
            ("0.0.0.0:8080", false),
        ] {
            assert_eq!(fits(Origin::Takeover, inherited, wanted.parse().unwrap()), expected);
        }
    }
}
