//! The connections that are open, by origin.
//!
//! Not hyper-util's pooling client: it has no limit for one origin, finishes connections in the
//! background that their request no longer waits for, and does not say what was already sent. Under
//! it, hyper's connections do (`try_send_request` returns a request that was not), so that the pool
//! is what is left to write.
//!
//! One pool for the whole server, so that the limit for an origin is one number. A connection is
//! driven by the runtime that opened it; every core prefers its own ones, opens more while the limit
//! allows it, and only then borrows another core's, whose every frame crosses cores.
//!
//! Invariant: `Entry::open` counts the live [`Slot`]s; each is held by the task that drives its
//! connection, so that the count falls when the socket is closed, not when somebody lets go of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connect::{Connector, Sender};
use super::grants::Origin;
use super::lease::{Hold, Lease};
use super::outgoing::Outgoing;
use super::slot::{Probe, Slot, Waiting};
use super::{Settings, UpstreamError};
use crate::drain::Drain;

/// Streams at once on one HTTP/2 connection; RFC 9113 §6.5.2 asks servers for no less.
const MAX_STREAMS: usize = 100;
pub(super) struct Pool {
    shared: Arc<Shared>,
    connector: Connector,
}

pub(super) struct Shared {
    settings: Settings,
    pub(super) drain: Drain,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) origins: HashMap<Arc<Origin>, Entry>,
    /// Slots of all origins.
    pub(super) open: usize,
    next_id: u64,
    is_sweeping: bool,
}

#[derive(Default)]
pub(super) struct Entry {
    pub(super) open: usize,
    pub(super) waiting: usize,
    /// Somebody is finding out what the origin speaks; who comes now waits, and shares an HTTP/2
    /// connection instead of opening many.
    pub(super) is_probed: bool,
    speaks_http1: bool,
    /// HTTP/1.1 connections without an exchange, the last used at the end.
    idle: Vec<Connection>,
    multiplexed: Vec<Multiplexed>,
    pub(super) freed: Arc<Notify>,
}

/// An HTTP/1.1 connection.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Outgoing>,
    pub(super) driver: AbortHandle,
    runtime: Id,
    idle_since: Instant,
    /// How long the upstream lets it rest, where it said so.
    pub(super) rest: Option<Duration>,
}

impl Connection {
    /// When it has rested for too long.
    fn rests_until(&self, idle_timeout: Duration) -> Instant {
        self.idle_since + self.rest.map_or(idle_timeout, |rest| rest.min(idle_timeout))
    }
}

struct Multiplexed {
    id: u64,
    sender: http2::SendRequest<Outgoing>,
    streams: usize,
    runtime: Id,
    idle_since: Instant,
}

enum Taken {
    Lease(Lease),
    Slot { slot: Slot, is_probe: bool },
    Wait,
}

impl Pool {
    pub(super) fn new(settings: Settings, connector: Connector, drain: Drain) -> Self {
        let state = Mutex::new(State::default());
        Self { shared: Arc::new(Shared { settings, drain, state }), connector }
    }

    /// A connection for one exchange: a pooled one, a new one, or the next that becomes free before
    /// the deadline.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub(super) async fn lease(
        &self,
        origin: &Arc<Origin>,
        deadline: Instant,
    ) -> Result<Lease, UpstreamError> {
        let (slot, is_probe) = match self.take(origin)? {
            Taken::Lease(lease) => return Ok(lease),
            Taken::Slot { slot, is_probe } => (slot, is_probe),
            Taken::Wait => match self.wait(origin, deadline).await? {
                Taken::Lease(lease) => return Ok(lease),
                Taken::Slot { slot, is_probe } => (slot, is_probe),
                Taken::Wait => return Err(UpstreamError::ConnectionLimitReached),
            },
        };
        let probe = is_probe.then(|| Probe { shared: &self.shared, origin });
        let (sender, driver) = self.connector.open(origin, slot, deadline).await?;
        let lease = self.shared.adopt(origin, sender, driver);
        drop(probe);
        Ok(lease)
    }

    /// HTTP/1.1 connections without an exchange.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.shared.state.lock().origins.values().map(|entry| entry.idle.len()).sum()
    }

    async fn wait(&self, origin: &Arc<Origin>, deadline: Instant) -> Result<Taken, UpstreamError> {
        let waiting = Waiting::new(&self.shared, origin)?;
        loop {
            let mut notified = std::pin::pin!(waiting.freed.notified());
            // Registered before the pool is asked again: what is freed in between is not missed.
            notified.as_mut().enable();
            match self.take(origin)? {
                Taken::Wait => {}
                taken => return Ok(taken),
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return Err(UpstreamError::ConnectionLimitReached);
            }
        }
    }

    fn take(&self, origin: &Arc<Origin>) -> Result<Taken, UpstreamError> {
        let here = Handle::current().id();
        let shared = &self.shared;
        let mut discarded = Vec::new();
        let mut state = shared.state.lock();
        let all_open = state.open;
        let entry = state.origins.entry(Arc::clone(origin)).or_default();
        if let Some(lease) = entry.pooled(Some(here), shared, origin, &mut discarded) {
            return Ok(Taken::Lease(lease));
        }
        let may_open = entry.open < shared.settings.connections_per_origin && !entry.is_probed;
        if may_open && (all_open < shared.settings.connections || state.evict(&mut discarded)) {
            return Ok(state.open_slot(shared, origin));
        }
        let entry = state.origins.entry(Arc::clone(origin)).or_default();
        if let Some(lease) = entry.pooled(None, shared, origin, &mut discarded) {
            return Ok(Taken::Lease(lease));
        }
        // Without a connection of this origin's own, nothing would ever wake the waiter.
        let is_hopeless = entry.open == 0 && !entry.is_probed;
        state.forget_if_unused(origin);
        if is_hopeless { Err(UpstreamError::ConnectionLimitReached) } else { Ok(Taken::Wait) }
    }
}

impl State {
    fn open_slot(&mut self, shared: &Arc<Shared>, origin: &Arc<Origin>) -> Taken {
        self.open += 1;
        let entry = self.origins.entry(Arc::clone(origin)).or_default();
        entry.open += 1;
        let is_probe = origin.tls && !entry.speaks_http1;
        entry.is_probed = is_probe;
        let slot = Slot { shared: Arc::clone(shared), origin: Arc::clone(origin) };
        Taken::Slot { slot, is_probe }
    }

    /// Gives up the connection that has been idle longest. Its slot is freed a moment later, when
    /// its task ends.
    fn evict(&mut self, discarded: &mut Vec<Connection>) -> bool {
        let oldest = self
            .origins
            .values_mut()
            .filter(|entry| !entry.idle.is_empty())
            .min_by_key(|entry| entry.idle[0].idle_since);
        match oldest {
            Some(entry) => {
                let connection = entry.idle.remove(0);
                connection.driver.abort();
                discarded.push(connection);
                true
            }
            None => false,
        }
    }

    pub(super) fn forget_if_unused(&mut self, origin: &Origin) {
        if self.origins.get(origin).is_some_and(|entry| entry.open == 0 && entry.waiting == 0) {
            self.origins.remove(origin);
        }
    }
}

impl Entry {
    /// A lease on an open connection, of one runtime if it is given.
    fn pooled(
        &mut self,
        runtime: Option<Id>,
        shared: &Arc<Shared>,
        origin: &Arc<Origin>,
        discarded: &mut Vec<Connection>,
    ) -> Option<Lease> {
        let is_wanted = |of: Id| runtime.is_none_or(|wanted| wanted == of);
        self.multiplexed.retain(|connection| !connection.sender.is_closed());
        let roomy = self.multiplexed.iter_mut().find(|connection| {
            is_wanted(connection.runtime)
                && connection.streams < MAX_STREAMS
                && connection.sender.is_ready()
        });
        if let Some(connection) = roomy {
            connection.streams += 1;
            return Some(Lease::new(
                shared,
                origin,
                true,
                Hold::Stream { id: connection.id, sender: connection.sender.clone() },
            ));
        }
        while let Some(at) = self.idle.iter().rposition(|idle| is_wanted(idle.runtime)) {
            let idle = self.idle.remove(at);
            if idle.sender.is_ready()
                && Instant::now() < idle.rests_until(shared.settings.idle_timeout)
            {
                return Some(Lease::new(shared, origin, true, Hold::Whole(idle)));
            }
            discarded.push(idle);
        }
        None
    }
}

impl Shared {
    /// Makes a new connection known and leases it to whoever opened it.
    fn adopt(self: &Arc<Self>, origin: &Arc<Origin>, sender: Sender, driver: AbortHandle) -> Lease {
        let runtime = Handle::current().id();
        let idle_since = Instant::now();
        let mut state = self.state.lock();
        state.next_id += 1;
        let id = state.next_id;
        let hold = match sender {
            Sender::Http1(sender) => {
                if let Some(entry) = state.origins.get_mut(origin) {
                    entry.speaks_http1 = true;
                }
                Hold::Whole(Connection { sender, driver, runtime, idle_since, rest: None })
            }
            Sender::Http2(sender) => {
                if let Some(entry) = state.origins.get_mut(origin) {
                    entry.speaks_http1 = false;
                    let sender = sender.clone();
                    entry.multiplexed.push(Multiplexed {
                        id,
                        sender,
                        streams: 1,
                        runtime,
                        idle_since,
                    });
                }
                Hold::Stream { id, sender }
            }
        };
        drop(state);
        Lease::new(self, origin, false, hold)
    }

    /// Takes a connection back that has nothing left to do.
    pub(super) fn put_back(self: &Arc<Self>, origin: &Origin, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut state = self.state.lock();
        // Checked under the lock that the sweeper empties the pool under: none is left behind.
        if self.drain.is_draining() {
            drop(state);
            drop(connection);
            return;
        }
        let Some(entry) = state.origins.get_mut(origin) else {
            return;
        };
        entry.idle.push(connection);
        entry.freed.notify_one();
        self.sweep(&mut state);
    }

    pub(super) fn stream_ended(self: &Arc<Self>, origin: &Origin, id: u64) {
        let mut state = self.state.lock();
        let Some(entry) = state.origins.get_mut(origin) else {
            return;
        };
        let Some(at) = entry.multiplexed.iter().position(|connection| connection.id == id) else {
            return;
        };
        let connection = &mut entry.multiplexed[at];
        connection.streams -= 1;
        connection.idle_since = Instant::now();
        if connection.streams == 0 && self.drain.is_draining() {
            entry.multiplexed.swap_remove(at);
            return;
        }
        entry.freed.notify_one();
        self.sweep(&mut state);
    }

    /// Starts the sweeper if it does not run. It ends when nothing is idle any more.
    fn sweep(self: &Arc<Self>, state: &mut State) {
        if state.is_sweeping {
            return;
        }
        state.is_sweeping = true;
        let shared = Arc::clone(self);
        drop(self.drain.spawn(async move {
            loop {
                let Some(next) = shared.close_idle() else {
                    return;
                };
                tokio::select! {
                    () = shared.drain.draining() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            }
        }));
    }

    /// Closes what has been idle for too long, or everything idle when draining; when to look again.
    fn close_idle(&self) -> Option<Instant> {
        let timeout = self.settings.idle_timeout;
        let is_draining = self.drain.is_draining();
        let now = Instant::now();
        let is_over = |until: Instant| is_draining || now >= until;
        let mut closed = (Vec::new(), Vec::new());
        let mut state = self.state.lock();
        let mut next: Option<Instant> = None;
        for entry in state.origins.values_mut() {
            closed.0.extend(entry.idle.extract_if(.., |idle| is_over(idle.rests_until(timeout))));
            closed.1.extend(
                entry
                    .multiplexed
                    .extract_if(.., |idle| idle.streams == 0 && is_over(idle.idle_since + timeout)),
            );
            let whole = entry.idle.iter().map(|idle| idle.rests_until(timeout));
            let shared = entry.multiplexed.iter().filter(|connection| connection.streams == 0);
            let left = whole.chain(shared.map(|connection| connection.idle_since + timeout)).min();
            next = [next, left].into_iter().flatten().min();
        }
        state.is_sweeping = next.is_some();
        // A connection closes when its last sender is dropped; not under the lock.
        drop(state);
        drop(closed);
        next
    }
}
