//! The way of a datagram from the process that reads the shared UDP sockets to the one that has its
//! connection: a Unix datagram socket for each core of each process that was taken over.
//!
//! A process that is taken over makes a [`pair`] for each core and passes the sending ends on; who
//! is taken over next passes on those that it was given. A full socket loses datagrams, as a full
//! UDP socket would; a closed one means that its process is gone.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use quinn::udp::EcnCodepoint;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;

/// Bytes of the kernel's buffer of one link; it may grant less (`net.core.wmem_max`).
const BUFFER: usize = 2 << 20;
/// Bytes before a datagram: addresses and ECN.
const HEADER: usize = 48;
/// The longest datagram that is handed on: no path of ours carries more (RFC 9000 §14.1 asks for
/// 1200; quinn stops at an Ethernet frame).
const MAX_DATAGRAM: usize = 2048;

/// A datagram on its way from one core, or process, to another.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) addr: SocketAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) dst_ip: Option<IpAddr>,
}

/// The ends of a new link: for whoever will read the sockets, and for us.
///
/// # Errors
/// What the system says.
pub fn pair() -> io::Result<(OwnedFd, UnixDatagram)> {
    let (sender, receiver) = UnixDatagram::pair()?;
    receiver.set_nonblocking(true)?;
    // Less than asked for is no reason not to hand over.
    let _granted = SockRef::from(&sender).set_send_buffer_size(BUFFER);
    let _granted = SockRef::from(&receiver).set_recv_buffer_size(BUFFER);
    Ok((sender.into(), receiver))
}

/// The cores of one process that was taken over.
#[derive(Debug)]
pub struct Link {
    /// The process's generation.
    pub generation: u8,
    /// A sending end for each of its cores.
    pub cores: Vec<OwnedFd>,
}

/// All processes that were taken over and may still have connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: RwLock<Vec<Link>>,
    any: AtomicBool,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way, or lost.
    Gone,
    /// There is no such process, or no more.
    NoProcess,
}

impl Links {
    pub(super) fn new(links: Vec<Link>) -> Self {
        let any = AtomicBool::new(!links.is_empty());
        Self { links: RwLock::new(links), any }
    }

    /// False where no datagram can be for another process.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Copies of those links whose processes are still there.
    pub(super) fn copy(&self) -> io::Result<Vec<Link>> {
        // An empty datagram says whether anybody reads; whoever does throws it away.
        self.forget(|link| {
            link.cores.iter().any(|socket| {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let sent = rustix::net::send(socket, &[], flags);
                !matches!(sent, Err(error) if is_closed(error))
            })
        });
        let links = self.links.read();
        let copies = links.iter().map(|link| {
            let cores = link.cores.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
            Ok(Link { generation: link.generation, cores })
        });
        copies.collect()
    }

    /// Forgets all: this process no longer reads the sockets.
    pub(super) fn clear(&self) {
        self.forget(|_| false);
    }

    fn forget(&self, keep: impl Fn(&Link) -> bool) {
        let mut links = self.links.write();
        links.retain(keep);
        self.any.store(!links.is_empty(), Ordering::Relaxed);
    }

    /// Hands a datagram to the process of `generation`, for the core that `core` names there.
    pub(super) fn send(&self, generation: u8, core: u8, facts: &Facts, datagram: &[u8]) -> Sent {
        if datagram.len() > MAX_DATAGRAM {
            return Sent::Gone;
        }
        let links = self.links.read();
        let Some(link) = links.iter().find(|link| link.generation == generation) else {
            return Sent::NoProcess;
        };
        let Some(socket) = link.cores.get(usize::from(core) % link.cores.len().max(1)) else {
            return Sent::NoProcess;
        };
        let header = facts.encode();
        let parts = [IoSlice::new(&header), IoSlice::new(datagram)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
            Err(error) if is_closed(error) => {
                drop(links);
                self.forget(|link| link.generation != generation);
                Sent::NoProcess
            }
            // A full socket loses it.
            Ok(_) | Err(_) => Sent::Gone,
        }
    }
}

fn is_closed(error: Errno) -> bool {
    matches!(error, Errno::CONNREFUSED | Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN)
}

/// Room for one message from a link.
pub(super) type Buffer = [u8; HEADER + MAX_DATAGRAM];

/// An empty one.
pub(super) fn buffer() -> Box<Buffer> {
    Box::new([0; HEADER + MAX_DATAGRAM])
}

/// Splits a message into what is known of the datagram and the datagram. `None` if it is not one.
pub(super) fn decode(message: &[u8]) -> Option<(Facts, &[u8])> {
    let (header, datagram) = message.split_first_chunk::<HEADER>()?;
    Some((Facts::decode(header)?, datagram))
}

// The header: family of the address (4 or 6), of the local one (0 where it is unknown), ECN bits, 0,
// port, two zeros, scope, flow, 16 bytes of address, 16 of local address. Native byte order: both
// ends are on one machine.
impl Facts {
    fn encode(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = put_ip(self.addr.ip(), &mut header[16..32]);
        header[1] = self.dst_ip.map_or(0, |ip| put_ip(ip, &mut header[32..48]));
        header[2] = self.ecn.map_or(0, |ecn| ecn as u8);
        header[4..6].copy_from_slice(&self.addr.port().to_ne_bytes());
        if let SocketAddr::V6(v6) = self.addr {
            header[8..12].copy_from_slice(&v6.scope_id().to_ne_bytes());
            header[12..16].copy_from_slice(&v6.flowinfo().to_ne_bytes());
        }
        header
    }

    fn decode(header: &[u8; HEADER]) -> Option<Self> {
        let number = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let port = u16::from_ne_bytes([header[4], header[5]]);
        let addr = match ip(header[0], &header[16..32])? {
            IpAddr::V4(v4) => SocketAddr::from((v4, port)),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, port, number(12), number(8)).into(),
        };
        Some(Self {
            addr,
            ecn: EcnCodepoint::from_bits(header[2]),
            dst_ip: ip(header[1], &header[32..48]),
        })
    }
}

fn put_ip(ip: IpAddr, to: &mut [u8]) -> u8 {
    match ip {
        IpAddr::V4(v4) => {
            to[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            to.copy_from_slice(&v6.octets());
            6
        }
    }
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(addr: &str, dst_ip: Option<&str>, ecn: Option<EcnCodepoint>) -> Facts {
        let dst_ip = dst_ip.map(|ip| ip.parse().unwrap());
        Facts { addr: addr.parse().unwrap(), ecn, dst_ip }
    }

    #[test]
    fn a_datagram_arrives_with_all_that_is_known_of_it() {
        for sent in [
            facts("192.0.2.1:4433", None, None),
            facts("192.0.2.1:65535", Some("127.0.0.1"), Some(EcnCodepoint::Ce)),
            facts("[fe80::1%7]:1", Some("2001:db8::2"), Some(EcnCodepoint::Ect0)),
        ] {
            let (sender, receiver) = pair().unwrap();
            let links = Links::new(vec![Link { generation: 9, cores: vec![sender] }]);

            assert_eq!(links.send(9, 3, &sent, b"datagram"), Sent::Gone);

            let mut buffer = buffer();
            let length = receiver.recv(&mut *buffer).unwrap();
            let (arrived, datagram) = decode(&buffer[..length]).unwrap();
            assert_eq!(datagram, b"datagram");
            assert_eq!(arrived.addr, sent.addr);
            assert_eq!(arrived.dst_ip, sent.dst_ip);
            assert_eq!(arrived.ecn.map(|ecn| ecn as u8), sent.ecn.map(|ecn| ecn as u8));
        }
    }

    #[test]
    fn a_full_link_loses_datagrams_and_a_closed_one_is_forgotten() {
        let (sender, receiver) = pair().unwrap();
        let links = Links::new(vec![Link { generation: 1, cores: vec![sender] }]);
        let facts = facts("192.0.2.1:1", None, None);

        for _ in 0..20_000 {
            assert_eq!(links.send(1, 0, &facts, &[0; 1200]), Sent::Gone);
        }
        assert_eq!(links.copy().unwrap().len(), 1);
        drop(receiver);

        assert_eq!(links.send(1, 0, &facts, b"late"), Sent::NoProcess);
        assert!(!links.any());
        assert_eq!(links.send(2, 0, &facts, b"unknown"), Sent::NoProcess);
    }

    #[test]
    fn links_to_processes_that_are_gone_are_not_passed_on() {
        let (gone, _) = pair().unwrap();
        let (alive, _receiver) = pair().unwrap();
        let link = |generation, socket| Link { generation, cores: vec![socket] };
        let links = Links::new(vec![link(1, gone), link(2, alive)]);

        let copies = links.copy().unwrap();

        assert_eq!(copies.iter().map(|link| link.generation).collect::<Vec<_>>(), [2]);
    }
}
