//! Brings each datagram to the core, and the process, whose connection it belongs to.
//!
//! The connection ids that a core gives out name it ([`super::ids`]). Each core's sockets are
//! wrapped ([`Steered`]): a datagram whose connection id names another core goes into that core's
//! [`Post`], which is bounded, and loses what does not fit, as UDP does; one for a process that was
//! taken over goes there ([`super::link`]). First packets of a connection stay where the kernel put
//! them, unless there are fewer sockets than cores: then the client's address says which core.
//!
//! A [`Valve`] stops one core's reading for a successor; sending goes on.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::ReadBuf;
use tokio::sync::mpsc;

use super::ids::{Addressee, Ids};
use super::link::{self, Facts, Links, Sent};

/// Datagrams that wait to be taken over by a core: a few milliseconds of one fast client.
const POST_CAPACITY: usize = 1024;

/// A datagram on its way from one core to another.
#[derive(Debug)]
struct Handed {
    payload: Bytes,
    facts: Facts,
}

/// Where datagrams for one core are left.
#[derive(Debug)]
pub(super) struct Post {
    sender: mpsc::Sender<Handed>,
    receiver: Mutex<Option<mpsc::Receiver<Handed>>>,
    valve: Valve,
}

impl Post {
    /// An empty one.
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(POST_CAPACITY);
        Self { sender, receiver: Mutex::new(Some(receiver)), valve: Valve::default() }
    }

    /// The core's valve.
    pub(super) fn valve(&self) -> &Valve {
        &self.valve
    }
}

/// Whether a core reads its sockets, and from where else datagrams come to it.
#[derive(Debug, Default)]
pub(super) struct Valve {
    closed: AtomicBool,
    /// What a successor hands back; the core registers it with its runtime.
    link: Mutex<Option<UnixDatagram>>,
    changed: AtomicBool,
    reader: AtomicWaker,
}

impl Valve {
    /// Stops reading the sockets; reads `link` instead.
    pub(super) fn close(&self, link: UnixDatagram) {
        *self.link.lock() = Some(link);
        self.turn(true);
    }

    /// Reads the sockets again, and no link.
    pub(super) fn open(&self) {
        *self.link.lock() = None;
        self.turn(false);
    }

    fn turn(&self, closed: bool) {
        self.closed.store(closed, Ordering::Release);
        self.changed.store(true, Ordering::Release);
        self.reader.wake();
    }
}

/// One core's sockets.
#[derive(Debug)]
pub(super) struct Steered {
    /// All of one address. The first sends; where the core has none of its own, it only sends.
    sockets: Vec<Arc<dyn AsyncUdpSocket>>,
    reads: bool,
    /// The socket that is read first; the next one each time.
    turn: AtomicUsize,
    core: usize,
    ids: Arc<Ids>,
    /// Where the core of a new connection is not the one that read it.
    spread: Option<RandomState>,
    posts: Arc<[Post]>,
    links: Arc<Links>,
    inbox: Mutex<Inbox>,
}

/// What comes to a core besides its sockets.
#[derive(Debug)]
struct Inbox {
    handed: mpsc::Receiver<Handed>,
    link: Option<tokio::net::UnixDatagram>,
    buffer: Box<link::Buffer>,
}

/// What the cores' sockets have in common.
#[derive(Clone, Debug)]
pub(super) struct Steering {
    pub(super) ids: Arc<Ids>,
    pub(super) posts: Arc<[Post]>,
    pub(super) links: Arc<Links>,
    /// One hasher for all cores, where new connections are spread by address.
    pub(super) spread: Option<RandomState>,
}

impl Steered {
    /// `sockets` is not empty; with `reads` off they are only sent through.
    ///
    /// # Panics
    /// If `core` has no post, or its post was taken.
    pub(super) fn new(
        sockets: Vec<Arc<dyn AsyncUdpSocket>>,
        reads: bool,
        core: usize,
        steering: Steering,
    ) -> Self {
        let Steering { ids, posts, links, spread } = steering;
        let handed = posts[core].receiver.lock().take().expect("one endpoint a core");
        let inbox = Mutex::new(Inbox { handed, link: None, buffer: link::buffer() });
        let turn = AtomicUsize::new(0);
        Self { sockets, reads, turn, core, ids, spread, posts, links, inbox }
    }

    /// Takes over what other cores and a successor left here, into at most half of the buffers.
    fn take_over(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
        let mut inbox = self.inbox.lock();
        let valve = &self.posts[self.core].valve;
        if valve.changed.swap(false, Ordering::AcqRel) {
            let link = valve.link.lock().take();
            inbox.link = link.and_then(|link| tokio::net::UnixDatagram::from_std(link).ok());
        }
        let room = bufs.len().div_ceil(2);
        let mut taken = 0;
        let mut keep = |facts: &Facts, datagram: &[u8]| {
            // It came out of a buffer of the same size on another core.
            if let Some(buf) = bufs[taken].get_mut(..datagram.len()) {
                buf.copy_from_slice(datagram);
                meta[taken] = RecvMeta {
                    addr: facts.addr,
                    len: datagram.len(),
                    stride: datagram.len(),
                    ecn: facts.ecn,
                    dst_ip: facts.dst_ip,
                };
                taken += 1;
            }
            taken < room
        };
        while let Poll::Ready(Some(handed)) = inbox.handed.poll_recv(cx) {
            if !keep(&handed.facts, &handed.payload) {
                return taken;
            }
        }
        let Inbox { link, buffer, .. } = &mut *inbox;
        while let Some(socket) = link {
            let mut message = ReadBuf::new(&mut buffer[..]);
            match socket.poll_recv(cx, &mut message) {
                Poll::Ready(Ok(())) => {}
                // Nothing sends to a link that is closed, and nobody will.
                Poll::Ready(Err(_)) => *link = None,
                Poll::Pending => break,
            }
            if let Some((facts, datagram)) = link::decode(message.filled())
                && !keep(&facts, datagram)
            {
                break;
            }
        }
        taken
    }

    /// Reads the sockets in turn. `Pending` only when all are.
    fn read(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut outcome = Poll::Pending;
        for i in 0..self.sockets.len() {
            let socket = &self.sockets[first.wrapping_add(i) % self.sockets.len()];
            match socket.poll_recv(cx, bufs, meta) {
                Poll::Ready(Ok(received)) => return Poll::Ready(Ok(received)),
                Poll::Ready(Err(error)) => outcome = Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        outcome
    }

    /// Where a datagram belongs that its connection id, or its sender, puts elsewhere.
    fn elsewhere(&self, datagram: &[u8], from: SocketAddr) -> Option<Addressee> {
        match self.ids.addressee(datagram) {
            Addressee::Core(core) if core == self.core => None,
            Addressee::Anyone => {
                let hash = self.spread.as_ref()?.hash_one(from);
                let core = (hash % self.ids.cores() as u64) as usize;
                (core != self.core).then_some(Addressee::Core(core))
            }
            elsewhere => Some(elsewhere),
        }
    }

    /// Hands on what is not for this core and closes the gaps. One buffer may hold several
    /// datagrams of one sender (GRO), all of `stride` bytes but the last.
    fn hand_on(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let facts = || Facts { addr: meta.addr, ecn: meta.ecn, dst_ip: meta.dst_ip };
        let mut kept = 0;
        let mut at = 0;
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            let datagram = &buf[at..end];
            let is_ours = match self.elsewhere(datagram, meta.addr) {
                Some(Addressee::Core(core)) => {
                    let payload = Bytes::copy_from_slice(datagram);
                    // A full post loses it, as a full socket would.
                    let _lost =
                        self.posts[core].sender.try_send(Handed { payload, facts: facts() });
                    false
                }
                // Of a process that is gone, our endpoint tells the client so.
                Some(Addressee::Process(generation, core)) => {
                    self.links.send(generation, core, &facts(), datagram) == Sent::NoProcess
                }
                _ => true,
            };
            if is_ours {
                if kept < at {
                    buf.copy_within(at..end, kept);
                }
                kept += end - at;
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Steered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.sockets[0]).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.sockets[0].try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let valve = &self.posts[self.core].valve;
        // Before the valve is looked at, so that no turn of it is missed.
        valve.reader.register(cx.waker());
        let taken = self.take_over(cx, bufs, meta);
        let received = if !self.reads || valve.closed.load(Ordering::Acquire) {
            Poll::Pending
        } else {
            self.read(cx, &mut bufs[taken..], &mut meta[taken..])
        };
        let received = match received {
            Poll::Ready(Ok(received)) => received,
            _ if taken > 0 => 0,
            other => return other,
        };
        if self.posts.len() > 1 || self.links.any() {
            for (buf, meta) in bufs[taken..].iter_mut().zip(&mut meta[taken..]).take(received) {
                self.hand_on(buf, meta);
            }
        }
        Poll::Ready(Ok(taken + received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets[0].local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.sockets[0].max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.sockets[0].max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.sockets[0].may_fragment()
    }
}
