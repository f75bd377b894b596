//! Brings each datagram to the core whose connection it belongs to.
//!
//! The connection ids that a core gives out name it ([`CoreIds`]). Each core's socket is wrapped
//! ([`Steered`]): a datagram whose connection id names another core goes into that core's [`Post`],
//! which is bounded, and loses what does not fit, as UDP does. First packets of a connection carry
//! an id of the client's making and stay where the kernel put them.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use quinn_proto::{InvalidCid, RandomConnectionIdGenerator};
use tokio::sync::mpsc;

/// Cores that a connection id's first byte can name, with room for randomness.
pub const MAX_CORES: usize = 128;
/// Bytes of our connection ids.
const ID_LEN: usize = 8;
/// Datagrams that wait to be taken over by a core: a few milliseconds of one fast client.
const POST_CAPACITY: usize = 1024;

/// Makes connection ids whose first byte, modulo the number of cores, is the core. The rest is
/// random, and so is the multiple: an observer learns the core and nothing else (RFC 9000 §5.1).
#[derive(Debug)]
pub(super) struct CoreIds {
    core: u8,
    cores: u8,
    random: RandomConnectionIdGenerator,
}

impl CoreIds {
    /// `core` of `cores`, which is at most [`MAX_CORES`].
    pub(super) fn new(core: usize, cores: usize) -> Self {
        Self {
            core: core as u8,
            cores: cores as u8,
            random: RandomConnectionIdGenerator::new(ID_LEN),
        }
    }
}

impl ConnectionIdGenerator for CoreIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = self.random.generate_cid();
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&random);
        // The multiples that fit a byte whole, so that none is more likely than another.
        let multiples = u8::MAX / self.cores;
        id[0] = id[0] % multiples * self.cores + self.core;
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.first() {
            Some(first) if id.len() == ID_LEN && first % self.cores == self.core => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The core that a datagram is for; `None` where its connection id is not ours.
fn core_of(datagram: &[u8], cores: usize) -> Option<usize> {
    let first = *datagram.first()?;
    let id_byte = if first & 0x80 == 0 {
        // A short header: our id follows at once, and has our length (RFC 9000 §17.3).
        *datagram.get(1)?
    } else {
        // A long header: version, length of the id, id. Of the types, only Handshake is sure to
        // carry our id (RFC 9000 §7.2); the version must be one whose types are numbered so.
        let version = datagram.get(1..5)?;
        let is_handshake = version == [0, 0, 0, 1] && first & 0x30 == 0x20;
        if !is_handshake || usize::from(*datagram.get(5)?) != ID_LEN {
            return None;
        }
        *datagram.get(6)?
    };
    Some(usize::from(id_byte) % cores)
}

/// A datagram on its way from one core to another.
#[derive(Debug)]
struct Handed {
    payload: Bytes,
    addr: SocketAddr,
    ecn: Option<EcnCodepoint>,
    dst_ip: Option<IpAddr>,
}

/// Where datagrams for one core are left.
#[derive(Debug)]
pub(super) struct Post {
    sender: mpsc::Sender<Handed>,
    receiver: Mutex<Option<mpsc::Receiver<Handed>>>,
}

impl Post {
    /// An empty one.
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(POST_CAPACITY);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

/// One core's socket.
#[derive(Debug)]
pub(super) struct Steered {
    socket: Arc<dyn AsyncUdpSocket>,
    core: usize,
    others: Vec<mpsc::Sender<Handed>>,
    handed: Mutex<mpsc::Receiver<Handed>>,
}

impl Steered {
    /// # Panics
    /// If `core` has no post, or its post was taken.
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, core: usize, posts: &[Post]) -> Self {
        let receiver = posts[core].receiver.lock().take().expect("one endpoint a core");
        Self {
            socket,
            core,
            others: posts.iter().map(|post| post.sender.clone()).collect(),
            handed: Mutex::new(receiver),
        }
    }

    /// Takes over what other cores left here, into at most half of the buffers.
    fn take_over(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
        let mut handed = self.handed.lock();
        let room = bufs.len().div_ceil(2);
        let mut taken = 0;
        while taken < room {
            let Poll::Ready(Some(datagram)) = handed.poll_recv(cx) else {
                break;
            };
            let len = datagram.payload.len();
            // It came out of a buffer of the same size on another core.
            let Some(buf) = bufs[taken].get_mut(..len) else {
                continue;
            };
            buf.copy_from_slice(&datagram.payload);
            meta[taken] = RecvMeta {
                addr: datagram.addr,
                len,
                stride: len,
                ecn: datagram.ecn,
                dst_ip: datagram.dst_ip,
            };
            taken += 1;
        }
        taken
    }

    /// Hands on what is not for this core and closes the gaps. One buffer may hold several
    /// datagrams of one sender (GRO), all of `stride` bytes but the last.
    fn hand_on(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        let cores = self.others.len();
        let stride = meta.stride.max(1);
        let is_foreign =
            |datagram: &[u8]| core_of(datagram, cores).is_some_and(|core| core != self.core);
        if !buf[..meta.len].chunks(stride).any(is_foreign) {
            return;
        }
        let mut kept = 0;
        let mut at = 0;
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            match core_of(&buf[at..end], cores) {
                Some(core) if core != self.core => {
                    // A full post loses it, as a full socket would.
                    let _lost = self.others[core].try_send(Handed {
                        payload: Bytes::copy_from_slice(&buf[at..end]),
                        addr: meta.addr,
                        ecn: meta.ecn,
                        dst_ip: meta.dst_ip,
                    });
                }
                _ => {
                    buf.copy_within(at..end, kept);
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Steered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.others.len() == 1 {
            return self.socket.poll_recv(cx, bufs, meta);
        }
        let taken = self.take_over(cx, bufs, meta);
        let received = match self.socket.poll_recv(cx, &mut bufs[taken..], &mut meta[taken..]) {
            Poll::Ready(Ok(received)) => received,
            _ if taken > 0 => 0,
            other => return other,
        };
        for (buf, meta) in bufs[taken..].iter_mut().zip(&mut meta[taken..]).take(received) {
            self.hand_on(buf, meta);
        }
        Poll::Ready(Ok(taken + received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_names_its_core() {
        for cores in [1, 2, 3, 16, MAX_CORES] {
            for core in [0, cores / 2, cores - 1] {
                let mut ids = CoreIds::new(core, cores);
                for _ in 0..200 {
                    let id = ids.generate_cid();
                    let short = [&[0x40][..], &id, &[0; 20]].concat();
                    let handshake = [&[0xe0, 0, 0, 0, 1, ID_LEN as u8][..], &id, &[0; 20]].concat();

                    assert!(ids.validate(&id).is_ok());
                    assert_eq!(core_of(&short, cores), Some(core));
                    assert_eq!(core_of(&handshake, cores), Some(core));
                }
            }
        }
    }

    #[test]
    fn first_packets_and_foreign_ids_stay_where_they_came() {
        for datagram in [
            &[][..],
            &[0x40],
            &[0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8], // Initial
            &[0xd0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8], // 0-RTT
            &[0xe0, 0, 0, 0, 1, 4, 1, 2, 3, 4],             // an id that is too short
            &[0xe0, 0x6b, 0x33, 0x43, 0xcf, 8, 1, 2, 3, 4], // QUIC version 2 numbers types anew
            &[0xe0, 0, 0, 0, 1],
        ] {
            assert_eq!(core_of(datagram, 2), None, "{datagram:x?}");
        }
    }
}
