//! Every open socket of the server, found by its id from any core, and by nobody but its plugin.
//!
//! A [`Handle`] is what others have of a socket: its bounded queue, and what it is called. The task
//! that speaks the protocol takes from the queue (`socket`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::{DRAIN_SPREAD, Feed, Listener, Message, QUEUE_BYTES, QUEUE_MESSAGES, close};
use crate::drain::Drain;
use crate::http::conn::Conn;
use crate::hub::{self, Remote};

/// Parts of the map, so that cores seldom meet at one lock.
const SHARDS: usize = 16;
/// Calls about sockets that have ended which one plugin gets at once: thousands may end together.
const CLOSED_AT_ONCE: usize = 16;

/// A socket's id: 128 random bits, told as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u128);

impl SocketId {
    /// The id that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_id = text.len() == 32 && text.bytes().all(is_hex);
        u128::from_str_radix(text, 16).ok().filter(|_| is_id).map(Self)
    }
}

impl std::fmt::Display for SocketId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a plugin knows a socket by.
#[derive(Debug)]
pub struct Identity {
    /// Its id; the hub knows it by the same.
    pub id: SocketId,
    /// As it is written.
    pub text: Arc<str>,
    /// The subprotocol.
    pub protocol: Option<Arc<str>>,
    /// As they were at accept.
    pub attributes: Arc<[(String, String)]>,
    /// Its connection.
    pub conn: Arc<Conn>,
}

impl Identity {
    /// A fresh one.
    pub fn new(
        conn: &Arc<Conn>,
        protocol: Option<String>,
        attributes: Vec<(String, String)>,
    ) -> Self {
        let id = SocketId(rand::random());
        Self {
            id,
            text: id.to_string().into(),
            protocol: protocol.map(Into::into),
            attributes: attributes.into(),
            conn: Arc::clone(conn),
        }
    }
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// It has ended, or is about to.
    Gone,
    /// [`QUEUE_MESSAGES`] or [`QUEUE_BYTES`] wait.
    Full,
}

/// One socket, as others have it.
pub struct Handle {
    /// Who it is.
    pub identity: Identity,
    /// Its plugin's.
    home: Arc<Home>,
    queue: Mutex<Queue>,
    /// Told when there is room, and at the end.
    room: Notify,
    following: Mutex<Following>,
}

/// What a socket follows.
#[derive(Debug, Default)]
pub enum Following {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Something, that can be changed here.
    Topics(Remote),
    /// Nothing any more.
    Over,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    close: Option<(u16, Box<str>)>,
    feed: Option<Box<dyn Feed>>,
    leave_at: Option<Instant>,
    ended: bool,
    waker: Option<Waker>,
}

/// What the socket's task takes from the queue.
pub(super) enum Taken {
    Message(Arc<Message>),
    /// It has begun to follow something.
    Feed(Box<dyn Feed>),
    /// There is nothing more to come: close.
    Close(u16, Box<str>),
    /// The server leaves: close then.
    LeaveAt(Instant),
}

impl Handle {
    /// The plugin's name.
    pub fn plugin(&self) -> &Arc<str> {
        &self.home.name
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn send(&self, message: Arc<Message>) -> Result<(), Unsent> {
        let mut queue = self.queue.lock();
        if queue.ended || queue.close.is_some() {
            return Err(Unsent::Gone);
        }
        let bytes = queue.bytes + message.len();
        let is_first = queue.messages.is_empty();
        if queue.messages.len() >= QUEUE_MESSAGES || bytes > QUEUE_BYTES && !is_first {
            return Err(Unsent::Full);
        }
        queue.bytes = bytes;
        queue.messages.push_back(message);
        Self::wake(queue);
        Ok(())
    }

    /// Queues a message, waiting for room.
    ///
    /// # Errors
    /// [`Unsent::Gone`].
    ///
    /// # Cancel safety
    /// Dropped before its end, it has queued nothing.
    pub async fn send_when_possible(&self, message: Arc<Message>) -> Result<(), Unsent> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.send(Arc::clone(&message)) {
                Err(Unsent::Full) => room.await,
                other => return other,
            }
        }
    }

    /// Closes it after what is queued. The first one counts.
    ///
    /// # Errors
    /// [`Unsent::Gone`].
    pub fn close(&self, code: u16, reason: &str) -> Result<(), Unsent> {
        let mut queue = self.queue.lock();
        if queue.ended || queue.close.is_some() {
            return Err(Unsent::Gone);
        }
        queue.close = Some((code, reason.into()));
        Self::wake(queue);
        self.room.notify_waiters();
        Ok(())
    }

    /// Changes what it follows. `change` may put a [`Following::Topics`] in the place of
    /// [`Following::Nothing`], with what these topics bring.
    ///
    /// # Errors
    /// Those of `change`; [`Unsent::Gone`] where it has ended.
    pub fn follow<E: From<Unsent>>(
        &self,
        change: impl FnOnce(&mut Following) -> Result<Option<Box<dyn Feed>>, E>,
    ) -> Result<(), E> {
        // Held all the while: nothing may be changed after the end, nor twice at once.
        let mut following = self.following.lock();
        if let Following::Over = *following {
            return Err(Unsent::Gone.into());
        }
        if let Some(feed) = change(&mut following)? {
            let mut queue = self.queue.lock();
            queue.feed = Some(feed);
            Self::wake(queue);
        }
        Ok(())
    }

    /// It follows nothing any more. Before its feed is dropped.
    pub(super) fn unfollow(&self) {
        *self.following.lock() = Following::Over;
        let feed = self.queue.lock().feed.take();
        drop(feed);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.queue.lock().ended
    }

    fn leave_at(&self, at: Instant) {
        let mut queue = self.queue.lock();
        queue.leave_at = Some(at);
        Self::wake(queue);
    }

    fn wake(mut queue: parking_lot::MutexGuard<'_, Queue>) {
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What is next; the task is woken when there is something.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut queue = self.queue.lock();
        if let Some(at) = queue.leave_at.take() {
            return Poll::Ready(Taken::LeaveAt(at));
        }
        if let Some(feed) = queue.feed.take() {
            return Poll::Ready(Taken::Feed(feed));
        }
        if let Some(message) = queue.messages.pop_front() {
            queue.bytes -= message.len();
            if queue.messages.is_empty() {
                // An idle socket owns nothing.
                queue.messages = VecDeque::new();
            }
            drop(queue);
            self.room.notify_waiters();
            self.home.counts.sent.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Taken::Message(message));
        }
        if let Some((code, reason)) = queue.close.clone() {
            return Poll::Ready(Taken::Close(code, reason));
        }
        if queue.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes no more.
    pub(super) fn end(&self) {
        self.unfollow();
        let dropped = {
            let mut queue = self.queue.lock();
            queue.ended = true;
            queue.waker = None;
            queue.bytes = 0;
            std::mem::take(&mut queue.messages)
        };
        drop(dropped);
        self.room.notify_waiters();
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.home.counts
    }

    pub(super) fn home(&self) -> &Arc<Home> {
        &self.home
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("plugin", &self.home.name)
            .field("id", &self.identity.id)
            .finish_non_exhaustive()
    }
}

/// The sockets of one plugin, over all its versions.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) name: Arc<str>,
    pub(super) counts: Counts,
    pub(super) closing: Semaphore,
}

/// What is counted for a plugin.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicUsize,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    closed: Mutex<BTreeMap<u16, u64>>,
}

impl Counts {
    pub(super) fn closed(&self, code: u16) {
        // Applications' own codes are many.
        let code = if code >= 3000 { code / 1000 * 1000 } else { code };
        *self.closed.lock().entry(code).or_default() += 1;
    }
}

/// What was counted for a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Sockets that are open, or about to be.
    pub open: usize,
    /// Messages from clients.
    pub received: u64,
    /// Messages to clients.
    pub sent: u64,
    /// Sockets that have ended, by code; codes of applications by thousands.
    pub closed: Vec<(u16, u64)>,
}

/// Every socket of the server. One a server.
#[derive(Debug)]
pub struct Sockets {
    shards: [Mutex<HashMap<SocketId, Arc<Handle>>>; SHARDS],
    homes: Mutex<BTreeMap<Arc<str>, Arc<Home>>>,
    listener: Arc<dyn Listener>,
    drain: Drain,
}

impl Sockets {
    /// None yet; `listener` will get what comes.
    pub fn new(listener: Arc<dyn Listener>, drain: Drain) -> Arc<Self> {
        Arc::new(Self { shards: Default::default(), homes: Mutex::default(), listener, drain })
    }

    /// Makes a socket of a plugin, which is `held`. It is found until the guard is dropped.
    pub fn open(
        self: &Arc<Self>,
        plugin: &Arc<str>,
        held: hub::Counted,
        identity: Identity,
    ) -> Open {
        let home = Arc::clone(self.homes.lock().entry(Arc::clone(plugin)).or_insert_with(|| {
            Arc::new(Home {
                name: Arc::clone(plugin),
                counts: Counts::default(),
                closing: Semaphore::new(CLOSED_AT_ONCE),
            })
        }));
        home.counts.open.fetch_add(1, Ordering::Relaxed);
        let handle = Arc::new(Handle {
            identity,
            home,
            queue: Mutex::default(),
            room: Notify::new(),
            following: Mutex::default(),
        });
        self.shard(handle.identity.id).lock().insert(handle.identity.id, Arc::clone(&handle));
        if self.drain.is_draining() {
            handle.leave_at(Instant::now());
        }
        Open { sockets: Arc::clone(self), handle, _held: held }
    }

    /// The plugin's socket with the id that is written so.
    pub fn find(&self, plugin: &str, id: &str) -> Option<Arc<Handle>> {
        let id = SocketId::parse(id)?;
        let handle = self.shard(id).lock().get(&id).cloned()?;
        (**handle.plugin() == *plugin).then_some(handle)
    }

    /// Sockets that are open.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted, by plugin.
    pub fn counts(&self) -> Vec<(Arc<str>, Counted)> {
        let homes = self.homes.lock();
        let counted = homes.values().map(|home| {
            let counts = &home.counts;
            let counted = Counted {
                open: counts.open.load(Ordering::Relaxed),
                received: counts.received.load(Ordering::Relaxed),
                sent: counts.sent.load(Ordering::Relaxed),
                closed: counts.closed.lock().iter().map(|(&code, &count)| (code, count)).collect(),
            };
            (Arc::clone(&home.name), counted)
        });
        counted.collect()
    }

    /// Waits for the drain and then tells every socket to close: at some time of the next
    /// [`DRAIN_SPREAD`], so that their clients do not all come back at once.
    pub async fn drained(self: Arc<Self>) {
        self.drain.draining().await;
        let now = Instant::now();
        for shard in &self.shards {
            let handles: Vec<_> = shard.lock().values().cloned().collect();
            for handle in handles {
                handle.leave_at(now + DRAIN_SPREAD.mul_f64(rand::random()));
            }
        }
    }

    /// The code that a socket is closed with because the server leaves.
    pub(super) fn leaving_code(&self) -> u16 {
        if self.drain.is_handed_over() { close::RESTART } else { close::GOING_AWAY }
    }

    pub(super) fn listener(&self) -> &Arc<dyn Listener> {
        &self.listener
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.drain
    }

    fn shard(&self, id: SocketId) -> &Mutex<HashMap<SocketId, Arc<Handle>>> {
        &self.shards[id.0 as usize % SHARDS]
    }
}

/// Keeps a socket found.
#[derive(Debug)]
pub struct Open {
    pub(super) sockets: Arc<Sockets>,
    /// The socket.
    pub handle: Arc<Handle>,
    _held: hub::Counted,
}

impl Drop for Open {
    fn drop(&mut self) {
        let id = self.handle.identity.id;
        self.sockets.shard(id).lock().remove(&id);
        self.handle.end();
        self.handle.home.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}
