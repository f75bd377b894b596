//! The order of publication, and the histories of all topics.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::event::{Draft, Event, EventId, Run};
use crate::history::{Entry, History, HistoryLimits, Rule, Rules};
use crate::selector::{Pattern, Selector};
use crate::subscription::Subscription;
use crate::topic::Topic;

/// Bytes of the histories of all topics.
pub const MAX_HISTORY_BYTES: usize = 256 << 20;
/// Entries of the order beyond which those that are stale are swept.
const SWEEP_FROM: usize = 1024;

/// Topics, histories and the order of events.
#[derive(Debug)]
pub struct Hub {
    run: Run,
    /// Runs whose durable events are here.
    known_runs: HashSet<Run>,
    durable: u64,
    volatile: u64,
    topics: HashMap<Topic, History>,
    rules: Rules,
    /// Every entry of every history, oldest first; some are gone already.
    order: VecDeque<Entry>,
    entries: usize,
    bytes: usize,
    max_bytes: usize,
    /// Places of the events that have ids of their own.
    own_ids: HashMap<Box<str>, EventId>,
    /// What topics that are no longer known may be missing.
    forgotten: (u64, u64),
    /// Durable events that no history has any more.
    evicted: Vec<u64>,
}

/// Where somebody begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Now,
    /// After this place, as its text or as the publisher's own id.
    After(String),
    /// With the oldest that is kept.
    Earliest,
}

/// Whether somebody begins where it was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// It was to begin now.
    Fresh,
    /// Nothing was missed.
    Complete,
    /// Something may have been missed.
    Lost,
}

/// What the history has after a place.
#[derive(Debug)]
pub struct Replay {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// Everything up to here is among them, or was not asked for.
    pub cursor: EventId,
    /// That is the latest place of all.
    pub head: bool,
    /// Something before them may be missing.
    pub lost: bool,
}

impl Hub {
    /// An empty hub.
    pub fn new(run: Run) -> Self {
        Self {
            run,
            known_runs: HashSet::new(),
            durable: 0,
            volatile: 0,
            topics: HashMap::new(),
            rules: Rules::default(),
            order: VecDeque::new(),
            entries: 0,
            bytes: 0,
            max_bytes: MAX_HISTORY_BYTES,
            own_ids: HashMap::new(),
            forgotten: (0, 0),
            evicted: Vec::new(),
        }
    }

    /// The same hub, which keeps less or more of all topics together.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Ids of this run can be gone on from as far as durable events are concerned.
    pub fn know_run(&mut self, run: Run) {
        self.known_runs.insert(run);
    }

    /// Replaces what `owner` says of topics; it counts for those that it may publish to.
    pub fn set_rules(&mut self, owner: &str, rules: Vec<Rule>, granted: &Arc<[Pattern]>) {
        self.rules.set(owner, rules, granted);
    }

    /// Whether events of a topic go to the disk first, and how much is kept.
    pub fn rule(&self, topic: &Topic) -> (bool, HistoryLimits) {
        self.rules.of(topic.as_str())
    }

    /// The latest place.
    pub fn position(&self) -> EventId {
        EventId { run: self.run, durable: self.durable, volatile: self.volatile }
    }

    /// Gives an event its place.
    pub fn publish(&mut self, draft: Draft, now: u64) -> Arc<Event> {
        self.volatile += 1;
        self.place(draft, false, now, now)
    }

    /// Gives an event that is on disk its place there. `None`: it has one already.
    pub fn deliver(
        &mut self,
        durable: u64,
        draft: Draft,
        published: u64,
        now: u64,
    ) -> Option<Arc<Event>> {
        if durable <= self.durable {
            return None;
        }
        self.durable = durable;
        Some(self.place(draft, true, published, now))
    }

    /// Durable events up to this one were there once.
    pub fn advance(&mut self, durable: u64) {
        self.durable = self.durable.max(durable);
    }

    fn place(&mut self, draft: Draft, durable: bool, published: u64, now: u64) -> Arc<Event> {
        let event = Event::new(self.position(), durable, published, draft);
        if let Some(own) = &event.content().id {
            self.own_ids.insert(own.clone(), event.id());
        }
        let topics: HashSet<&Topic> = event.topics().collect();
        for topic in topics {
            let limits = self.rules.of(topic.as_str()).1;
            let forgotten = self.forgotten;
            let history = self.topics.entry(topic.clone());
            let history = history.or_insert_with(|| History::without(forgotten.0, forgotten.1));
            history.push(&event);
            self.entries += 1;
            self.bytes += event.weight();
            self.order.push_back(Entry { topic: topic.clone(), serial: event.id().serial() });
            self.trim(topic, &limits, now);
        }
        self.bound();
        event
    }

    fn trim(&mut self, topic: &Topic, limits: &HistoryLimits, now: u64) {
        while let Some(history) = self.topics.get_mut(topic) {
            let Some(event) = history.trim(limits, now) else { return };
            self.dropped(topic, &event);
        }
    }

    /// An event is no longer in a topic's history.
    fn dropped(&mut self, topic: &Topic, event: &Arc<Event>) {
        self.entries -= 1;
        self.bytes -= event.weight();
        if let Some(history) = self.topics.get(topic)
            && history.is_empty()
        {
            let (durable, volatile) = history.missing();
            self.forgotten = (self.forgotten.0.max(durable), self.forgotten.1.max(volatile));
            self.topics.remove(topic);
        }
        let serial = event.id().serial();
        let kept = event.topics().any(|other| {
            let history = self.topics.get(other);
            let oldest = history.and_then(History::oldest);
            oldest.is_some_and(|oldest| oldest.id().serial() <= serial)
        });
        if kept {
            return;
        }
        if let Some(own) = &event.content().id
            && self.own_ids.get(own) == Some(&event.id())
        {
            self.own_ids.remove(own);
        }
        if event.is_durable() {
            self.evicted.push(event.id().durable);
        }
    }

    /// Keeps all histories together within their bound.
    fn bound(&mut self) {
        while self.bytes > self.max_bytes
            && let Some(entry) = self.order.pop_front()
        {
            let Some(history) = self.topics.get_mut(&entry.topic) else { continue };
            if history.oldest().is_some_and(|oldest| oldest.id().serial() == entry.serial)
                && let Some(event) = history.pop()
            {
                self.dropped(&entry.topic, &event);
            }
        }
        if self.order.len() > SWEEP_FROM && self.order.len() > 2 * self.entries {
            let topics = &self.topics;
            self.order.retain(|entry| {
                let oldest = topics.get(&entry.topic).and_then(History::oldest);
                oldest.is_some_and(|oldest| oldest.id().serial() <= entry.serial)
            });
        }
    }

    /// Drops what has grown too old.
    pub fn expire(&mut self, now: u64) {
        let topics: Vec<Topic> = self.topics.keys().cloned().collect();
        for topic in topics {
            let limits = self.rules.of(topic.as_str()).1;
            self.trim(&topic, &limits, now);
        }
        self.bound();
    }

    /// Durable events that are to be deleted from the disk. Each is told once.
    pub fn take_evicted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.evicted)
    }

    /// The place where somebody begins, and whether that is where it was to.
    pub fn begin(&self, subscription: &Subscription, start: &Start) -> (EventId, Resumption) {
        let oldest = EventId { run: self.run, durable: 0, volatile: 0 };
        let text = match start {
            Start::Now => return (self.position(), Resumption::Fresh),
            Start::Earliest => return (oldest, Resumption::Complete),
            Start::After(text) if text.is_empty() => return (self.position(), Resumption::Fresh),
            Start::After(text) => text,
        };
        let known = self.own_ids.get(text.as_str()).copied().or_else(|| EventId::parse(text));
        let Some(id) = known else { return (oldest, Resumption::Lost) };
        // What was not delivered yet was not got either.
        let possible = id.durable <= self.durable;
        let (cursor, whole) = if id.run == self.run && possible && id.volatile <= self.volatile {
            (id, true)
        } else if id.run != self.run && self.known_runs.contains(&id.run) && possible {
            (EventId { durable: id.durable, ..oldest }, self.is_durable(subscription))
        } else {
            (oldest, false)
        };
        let lost = !whole || self.misses(subscription, &cursor);
        (cursor, if lost { Resumption::Lost } else { Resumption::Complete })
    }

    /// Whether all that a subscription can match is on disk.
    fn is_durable(&self, subscription: &Subscription) -> bool {
        subscription.topics().iter().all(|selector| match selector {
            Selector::Exact(topic) => self.rules.of(topic.as_str()).0,
            other => self.rules.durable().any(|pattern| subscription.covered(other, pattern)),
        })
    }

    fn misses(&self, subscription: &Subscription, cursor: &EventId) -> bool {
        let unknown = History::without(self.forgotten.0, self.forgotten.1);
        let mut others = false;
        for selector in subscription.topics() {
            match selector {
                Selector::Exact(topic) => {
                    if self.topics.get(topic).unwrap_or(&unknown).misses(cursor) {
                        return true;
                    }
                }
                _ => others = true,
            }
        }
        others && (unknown.misses(cursor) || self.matching(subscription).any(|h| h.misses(cursor)))
    }

    /// The histories of what a subscription's wildcards match.
    fn matching<'a>(&'a self, subscription: &'a Subscription) -> impl Iterator<Item = &'a History> {
        let wild = |selector: &&Selector| !matches!(selector, Selector::Exact(_));
        let matches = move |topic: &Topic| {
            let mut wild = subscription.topics().iter().filter(wild);
            wild.any(|selector| subscription.selects(selector, topic.as_str()))
        };
        self.topics.iter().filter(move |(topic, _)| matches(topic)).map(|(_, history)| history)
    }

    /// At most `limit` events after `cursor`.
    pub fn replay(&self, subscription: &Subscription, cursor: EventId, limit: usize) -> Replay {
        if cursor == self.position() {
            return Replay { events: Vec::new(), cursor, head: true, lost: false };
        }
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut histories = 0;
        let mut collect = |history: &History| {
            histories += 1;
            events.extend(history.after(cursor).filter(|e| subscription.may_see(e)).cloned());
        };
        let mut wild = false;
        for selector in subscription.topics() {
            match selector {
                Selector::Exact(topic) => drop(self.topics.get(topic).map(&mut collect)),
                _ => wild = true,
            }
        }
        if wild {
            self.matching(subscription).for_each(&mut collect);
        }
        if histories > 1 {
            events.sort_by_key(|event| event.id().serial());
            events.dedup_by_key(|event| event.id().serial());
        }
        let head = events.len() <= limit;
        events.truncate(limit);
        let last = events.last().map_or(cursor, |event| event.id());
        let cursor_after = if head { self.position() } else { last };
        Replay { events, cursor: cursor_after, head, lost: self.misses(subscription, &cursor) }
    }

    /// Bytes of all histories.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics of which something is kept.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }
}
