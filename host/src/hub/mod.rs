//! The hub: the core (`wharf-hub`) given time, cores and a disk.
//!
//! One lock orders all publications. Whoever publishes puts the event into the mailbox of each core
//! that has subscribers; a task of that core offers it to them, so that thousands are woken without
//! a call to the system. Durable events are ordered by the store's writer when they are on disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll as Polled, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use wharf_hub::{
    Draft, Event, EventId, Pattern, Resumption, Rule, Run, Start, Subscriber, SubscriberId,
    Subscription, Topic,
};

use crate::drain::Drain;
use crate::store::{Foreign, Log, Store, StoreError};

mod emitter;
mod follow;
mod poll;
mod record;
mod shard;
mod stream;

pub use self::emitter::{EmitError, Emitter, Watcher};
pub use self::follow::{Follower, Lag, Remote, Step};
pub use self::poll::{MAX_POLL, Poll, PollBody};
use self::shard::Shard;
pub use self::stream::{EventStream, Heartbeat, StreamOptions};

/// How long a publication waits for cores that are behind.
const PUBLISH_LIMIT: Duration = Duration::from_secs(2);
/// How often what has grown too old is looked for.
const EXPIRY: Duration = Duration::from_secs(5);
/// How long after the start another process may still be publishing, and how often it is looked.
const OVERLAP: Duration = Duration::from_secs(90);
/// See [`OVERLAP`].
const OVERLAP_POLL: Duration = Duration::from_millis(100);
/// Durable events that are deleted together.
const DELETE_AT_ONCE: usize = 10_000;
/// Streams, polls and sockets that one plugin may have held at once, unless its manifest says less.
pub const DEFAULT_HELD: usize = 100_000;
/// How long a drain waits for events that are on their way to streams.
const SETTLING: Duration = Duration::from_secs(1);

/// At the drain, streams end over so long, so that their clients do not all come back at once.
pub const DRAIN_SPREAD: Duration = Duration::from_secs(3);
/// Steps of that time.
const DRAIN_STEPS: u32 = 30;

/// Why something is not published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The cores that have subscribers are too far behind.
    #[error("too much is being published")]
    Busy,
    /// It could not be stored.
    #[error("the event could not be stored")]
    Store(#[source] StoreError),
}

/// Topics, and who follows them. One a server.
pub struct Hub {
    core: Mutex<wharf_hub::Hub>,
    shards: Box<[Arc<Shard>]>,
    log: Log,
    /// Outlives the exchanges: what is published while they end is published still.
    background: Drain,
    control: Handle,
    held: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
    streams: Arc<AtomicUsize>,
    /// Of the exchanges: streams end when it begins.
    drain: Drain,
    /// Over how long they end.
    spread: Duration,
}

impl Hub {
    /// A hub for these cores, whose durable events are in `store`. What follows something when `drain`
    /// begins has ended well before `drain_limit`.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub fn new(
        store: &Store,
        cores: &[Handle],
        drain: &Drain,
        background: &Drain,
        drain_limit: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let run = Run(rand::random());
        let shards = cores.iter().map(|core| Shard::start(core, background)).collect();
        Ok(Arc::new(Self {
            core: Mutex::new(wharf_hub::Hub::new(run)),
            shards,
            log: store.log(run.0)?,
            background: background.clone(),
            control: Handle::current(),
            held: Mutex::default(),
            streams: Arc::default(),
            drain: drain.clone(),
            // The last ones still have time to end by themselves.
            spread: DRAIN_SPREAD.min(drain_limit / 2),
        }))
    }

    /// Reads what is on disk, then looks after what there is until the server ends. To be called
    /// before anybody publishes.
    pub async fn begin(self: &Arc<Self>) {
        self.load().await;
        let hub = Arc::clone(self);
        self.background.spawn(async move { hub.expire().await });
        let hub = Arc::clone(self);
        self.background.spawn(async move { hub.take_over().await });
        let hub = Arc::clone(self);
        self.background.spawn(async move {
            hub.drain.draining().await;
            hub.end_all().await;
        });
    }

    async fn load(&self) {
        let now = now();
        let logged = match self.log.load(now).await {
            Ok(logged) => logged,
            Err(error) => {
                tracing::error!(%error, "the hub's durable events cannot be read");
                return;
            }
        };
        let mut core = self.core.lock();
        for run in logged.runs {
            core.know_run(Run(run));
        }
        for (topic, number) in logged.missing {
            match Topic::parse(&topic) {
                Ok(topic) => core.know_missing(Some(&topic), number),
                // What stands for all topics that are not there is none.
                Err(_) => core.know_missing(None, number),
            }
        }
        for written in logged.records {
            match record::read(&written.event) {
                Ok(draft) => drop(core.deliver(written.number, draft, written.at, now)),
                Err(error) => {
                    tracing::error!(number = written.number, %error, "a durable event cannot be read");
                    core.know_missing(None, written.number);
                }
            }
        }
        core.advance(logged.last);
    }

    async fn expire(self: Arc<Self>) {
        loop {
            if self.background.unless_draining(tokio::time::sleep(EXPIRY)).await.is_none() {
                return;
            }
            let evicted = {
                let mut core = self.core.lock();
                core.expire(now());
                core.take_evicted()
            };
            for some in evicted.chunks(DELETE_AT_ONCE) {
                let names = |topics: &[Topic]| topics.iter().map(ToString::to_string).collect();
                let some = some.iter().map(|event| (event.number, names(&event.topics)));
                if let Err(error) = self.log.delete(some.collect()).await {
                    tracing::warn!(%error, "old durable events cannot be deleted");
                }
            }
        }
    }

    /// Brings what the process that is being taken over still publishes.
    async fn take_over(self: Arc<Self>) {
        let until = tokio::time::Instant::now() + OVERLAP;
        self.core.lock().share(true);
        while tokio::time::Instant::now() < until {
            match self.log.foreign().await {
                Ok(foreign) if foreign.records.is_empty() => {}
                Ok(foreign) => {
                    self.deliver(foreign, None);
                    // Who got them comes back with ids of this run.
                    if let Err(error) = self.log.record(now()).await {
                        tracing::warn!(%error, "this run cannot be written down");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "another process's durable events cannot be read");
                }
            }
            if self.background.unless_draining(tokio::time::sleep(OVERLAP_POLL)).await.is_none() {
                return;
            }
        }
        self.core.lock().share(false);
    }

    /// Lets all who follow something end, spread out.
    async fn end_all(&self) {
        // What was published before the drain is still sent.
        let delivered = async {
            for shard in &self.shards {
                shard.settled().await;
            }
        };
        let _too_slow = tokio::time::timeout(SETTLING, delivered).await;
        let mut everybody: Vec<_> = self.shards.iter().flat_map(|shard| shard.all()).collect();
        // By their random names, so that no core and no topic is first.
        everybody.sort_by_key(|subscriber| subscriber.id().0);
        let some = everybody.len().div_ceil(DRAIN_STEPS as usize).max(1);
        for subscribers in everybody.chunks(some) {
            for waker in subscribers.iter().filter_map(|subscriber| subscriber.end()) {
                waker.wake();
            }
            tokio::time::sleep(self.spread / DRAIN_STEPS).await;
        }
    }

    /// Replaces what a plugin says of topics.
    pub fn set_rules(&self, plugin: &str, rules: Vec<Rule>, granted: &Arc<[Pattern]>) {
        self.core.lock().set_rules(plugin, rules, granted);
    }

    /// Publishes. Answered with the event's id when it has its place; if it is durable, when it is
    /// on disk.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is published then.
    pub async fn publish(self: &Arc<Self>, draft: Draft) -> Result<String, PublishError> {
        self.room().await?;
        let durable = self.core.lock().is_durable(&draft);
        let own = draft.content().id.as_ref().map(ToString::to_string);
        if !durable {
            let mut wake = Vec::new();
            let id = {
                let mut core = self.core.lock();
                let event = core.publish(draft, now());
                self.spread(&event, &mut wake);
                own.unwrap_or_else(|| event.id().to_string())
            };
            if !wake.is_empty() {
                wake.drain(..).for_each(Waker::wake);
                // Those few are sent it before the publisher, who may do much more, goes on.
                behind_the_woken().await;
            }
            return Ok(id);
        }
        let hub = Arc::clone(self);
        let written = record::write(&draft);
        let (tell, told) = tokio::sync::oneshot::channel();
        let at = now();
        self.log
            .append(at, written, move |foreign, number| {
                let id = hub.deliver(foreign, Some((number, draft, at)));
                let _publisher_left = tell.send(id);
            })
            .await
            .map_err(PublishError::Store)?;
        let id = told.await.ok().flatten().map(|id| id.to_string());
        Ok(own.or(id).unwrap_or_default())
    }

    /// Publishes without waiting.
    pub fn publish_later(self: &Arc<Self>, drafts: Vec<Draft>) {
        if drafts.is_empty() {
            return;
        }
        let hub = Arc::clone(self);
        self.background.spawn_on(&self.control, async move { hub.publish_all(drafts).await });
    }

    /// Publishes for nobody who could be told of an error.
    pub async fn publish_all(self: &Arc<Self>, drafts: Vec<Draft>) {
        for draft in drafts {
            if let Err(error) = self.publish(draft).await {
                tracing::warn!(%error, "an event of a stream or socket is not published");
            }
        }
    }

    /// Gives events that are on disk their places: those of another process, then ours.
    fn deliver(&self, foreign: Foreign, own: Option<(u64, Draft, u64)>) -> Option<EventId> {
        let mut wake = Vec::new();
        let id = self.place(foreign, own, &mut wake);
        // Without the lock.
        wake.drain(..).for_each(Waker::wake);
        id
    }

    fn place(
        &self,
        foreign: Foreign,
        own: Option<(u64, Draft, u64)>,
        wake: &mut Vec<Waker>,
    ) -> Option<EventId> {
        let mut core = self.core.lock();
        for run in foreign.runs {
            core.know_run(Run(run));
        }
        for written in foreign.records {
            self.log.delivered(written.number);
            match record::read(&written.event) {
                Ok(draft) => {
                    if let Some(event) = core.deliver(written.number, draft, written.at, now()) {
                        self.spread(&event, wake);
                    }
                }
                Err(error) => {
                    tracing::error!(number = written.number, %error, "a durable event cannot be read");
                    core.know_missing(None, written.number);
                }
            }
        }
        let (number, draft, at) = own?;
        let event = core.deliver(number, draft, at, now())?;
        self.spread(&event, wake);
        Some(event.id())
    }

    /// Under the core's lock, so that every core gets events in their order. `wake` gets those who are
    /// to be woken without it.
    fn spread(&self, event: &Arc<Event>, wake: &mut Vec<Waker>) {
        for shard in &self.shards {
            shard.put(event, wake);
        }
    }

    /// Waits until no core is far behind.
    async fn room(&self) -> Result<(), PublishError> {
        if self.shards.iter().all(|shard| shard.has_room()) {
            return Ok(());
        }
        let all = async {
            for shard in &self.shards {
                shard.room().await;
            }
        };
        tokio::time::timeout(PUBLISH_LIMIT, all).await.map_err(|_elapsed| PublishError::Busy)
    }

    /// The latest place.
    pub fn position(&self) -> EventId {
        self.core.lock().position()
    }

    /// Follows something, on the core whose tasks poll it.
    pub fn follow(
        self: &Arc<Self>,
        core: usize,
        id: SubscriberId,
        subscription: Subscription,
        start: &Start,
        lag: Lag,
    ) -> (Follower, Resumption) {
        let hub = self.core.lock();
        let (cursor, resumption) = hub.begin(&subscription, start);
        let subscriber = Subscriber::new(id, subscription, cursor);
        let known = hub.losses();
        follow::refill(&hub, &subscriber, cursor, known);
        let shard = Arc::clone(&self.shards[core % self.shards.len()]);
        shard.add(&subscriber);
        drop(hub);
        // Whoever ends all others may not have seen this one.
        if self.drain.is_draining() {
            subscriber.end();
        }
        (Follower::new(Arc::clone(self), shard, subscriber, cursor, known, lag), resumption)
    }

    /// What is kept after `start`, at most `limit` events.
    pub fn history(
        &self,
        subscription: &Subscription,
        start: &Start,
        limit: usize,
    ) -> (Vec<Arc<Event>>, Resumption, EventId) {
        let core = self.core.lock();
        let (cursor, resumption) = core.begin(subscription, start);
        let replay = core.replay(subscription, cursor, limit, core.losses());
        (replay.events, resumption, replay.cursor)
    }

    /// Those who would get a public event of a topic.
    pub fn audience(&self, topic: &Topic) -> usize {
        self.shards.iter().map(|shard| shard.audience(topic)).sum()
    }

    /// All who follow something.
    pub fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        self.shards.iter().flat_map(|shard| shard.all()).collect()
    }

    /// Counts what a plugin has the host hold; all its versions together.
    pub fn held(&self, plugin: &Arc<str>) -> Arc<AtomicUsize> {
        Arc::clone(self.held.lock().entry(Arc::clone(plugin)).or_default())
    }

    /// Over how long what it holds ends when the server drains.
    pub fn drain_spread(&self) -> Duration {
        self.spread
    }

    /// Event streams that are held.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Bytes of all histories, and topics that have one.
    pub fn kept(&self) -> (usize, usize) {
        let core = self.core.lock();
        (core.bytes(), core.topics())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// Ready when the tasks have had a turn that were woken on this core before.
async fn behind_the_woken() {
    let mut is_behind = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut is_behind, true) {
            return Polled::Ready(());
        }
        // Not tokio's, behind which all others would go.
        cx.waker().wake_by_ref();
        Polled::Pending
    })
    .await;
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A fresh name for a subscriber.
pub fn fresh_id() -> SubscriberId {
    SubscriberId(rand::random())
}

/// One thing that the host holds for a plugin, counted.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one more, unless there are `most` already.
    pub fn one(of: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if of.fetch_add(1, Ordering::Relaxed) >= most {
            of.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(of)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
