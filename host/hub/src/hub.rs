//! The order of publication, and the histories of all topics.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::event::{Draft, Event, EventId, Run};
use crate::history::{Entry, History, Missing, Rule, Rules};
use crate::selector::{Pattern, Selector};
use crate::subscription::Subscription;
use crate::topic::Topic;

/// Bytes of the histories of all topics.
pub const MAX_HISTORY_BYTES: usize = 256 << 20;
/// Topics without events of which is known up to where some are missing. What is missing of those
/// before them is put together, so that all who resume on a topic that is not known are told so.
pub const MAX_EMPTY_TOPICS: usize = 10_000;
/// Durable events that a client may be ahead while another process publishes too.
const MAX_AHEAD: u64 = 10_000;
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
    /// Durable events up to this one are of earlier runs.
    loaded: u64,
    /// Another process publishes durable events that come here later.
    is_shared: bool,
    topics: HashMap<Topic, History>,
    /// Those that became empty, oldest first; some have events again.
    emptied: VecDeque<Topic>,
    rules: Rules,
    /// Rules have changed since the histories were last held against them.
    rules_changed: bool,
    /// Every entry of every history, oldest first; some are gone already.
    order: VecDeque<Entry>,
    entries: usize,
    bytes: usize,
    max_bytes: usize,
    /// The events that have ids of their own and are kept, by those; oldest first. Publishers do not
    /// know of each other, so that one id may well stand for several.
    own_ids: HashMap<Box<str>, VecDeque<Arc<Event>>>,
    /// How often something went from a history.
    losses: u64,
    /// What topics that are no longer known may be missing.
    forgotten: Missing,
    evicted: Vec<Evicted>,
}

/// A durable event that no history has any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Its place among the durable ones.
    pub number: u64,
    /// Where it was.
    pub topics: Box<[Topic]>,
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
    /// Something before them may be missing that went after what was known.
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
            loaded: 0,
            is_shared: false,
            topics: HashMap::new(),
            emptied: VecDeque::new(),
            rules: Rules::default(),
            rules_changed: false,
            order: VecDeque::new(),
            entries: 0,
            bytes: 0,
            max_bytes: MAX_HISTORY_BYTES,
            own_ids: HashMap::new(),
            // Before the first, so that what was missing at the beginning is told to who resumes.
            losses: 1,
            forgotten: Missing::default(),
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

    /// Durable events up to this one are missing of a topic, or of any that is not known (`None`).
    pub fn know_missing(&mut self, topic: Option<&Topic>, durable: u64) {
        let missing = Missing { durable, volatile: 0, at: self.losses };
        let Some(topic) = topic else {
            self.forgotten = self.forgotten.join(missing);
            return;
        };
        self.history(topic).miss(missing);
        self.note_if_empty(topic);
    }

    /// Whether another process publishes durable events that come here a little later, so that its
    /// clients may know of more than is here.
    pub fn share(&mut self, is_shared: bool) {
        self.is_shared = is_shared;
    }

    /// Replaces what `owner` says of topics; it counts for those that it may publish to, and for what
    /// is kept already from the next [`Hub::expire`] on.
    pub fn set_rules(&mut self, owner: &str, rules: Vec<Rule>, granted: &Arc<[Pattern]>) {
        self.rules.set(owner, rules, granted);
        self.rules_changed = true;
    }

    /// Whether an event goes to the disk first: one of its topics is durable.
    pub fn is_durable(&self, draft: &Draft) -> bool {
        let mut topics = draft.topics();
        topics.any(|topic| self.rules.of(topic.as_str()).is_some_and(|rule| rule.durable))
    }

    /// The latest place.
    pub fn position(&self) -> EventId {
        EventId { run: self.run, durable: self.durable, volatile: self.volatile }
    }

    /// How often something went from a history: who begins to follow something now is to be told of
    /// what goes after that ([`Hub::replay`]).
    pub fn losses(&self) -> u64 {
        self.losses
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

    /// Durable events up to this one are of earlier runs: what is still there was delivered.
    pub fn advance(&mut self, durable: u64) {
        self.durable = self.durable.max(durable);
        self.loaded = self.durable;
    }

    fn place(&mut self, draft: Draft, durable: bool, published: u64, now: u64) -> Arc<Event> {
        let event = Event::new(self.position(), durable, published, draft);
        if let Some(own) = &event.content().id {
            self.own_ids.entry(own.clone()).or_default().push_back(Arc::clone(&event));
        }
        let topics = distinct(&event);
        // Into all of them before any is held against its limits: it is gone when all have dropped it.
        for topic in &topics {
            self.history(topic).push(&event);
            self.entries += 1;
            self.bytes += event.weight();
            self.order.push_back(Entry { topic: topic.clone(), serial: event.id().serial() });
        }
        for topic in &topics {
            self.trim(topic, now);
        }
        self.bound();
        event
    }

    fn history(&mut self, topic: &Topic) -> &mut History {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), History::without(self.forgotten));
        }
        self.topics.get_mut(topic).expect("it was put there if it was not")
    }

    fn trim(&mut self, topic: &Topic, now: u64) {
        let rule = self.rules.of(topic.as_str()).cloned();
        while let Some(history) = self.topics.get_mut(topic)
            && history.is_over(rule.as_ref(), now)
        {
            self.drop_oldest(topic);
        }
    }

    /// Takes the oldest event of a topic.
    fn drop_oldest(&mut self, topic: &Topic) {
        let Some(history) = self.topics.get_mut(topic) else { return };
        self.losses += 1;
        let Some(event) = history.pop(self.losses) else { return };
        self.entries -= 1;
        self.bytes -= event.weight();
        self.note_if_empty(topic);
        let serial = event.id().serial();
        let is_kept = event.topics().any(|other| {
            let history = self.topics.get(other);
            let oldest = history.and_then(History::oldest);
            oldest.is_some_and(|oldest| oldest.id().serial() <= serial)
        });
        if is_kept {
            return;
        }
        if let Some(own) = &event.content().id
            && let Some(events) = self.own_ids.get_mut(own)
        {
            if let Some(index) = events.iter().position(|other| Arc::ptr_eq(other, &event)) {
                events.remove(index);
            }
            if events.is_empty() {
                self.own_ids.remove(own);
            }
        }
        if event.is_durable() {
            let topics = distinct(&event).into();
            self.evicted.push(Evicted { number: event.id().durable, topics });
        }
    }

    /// Remembers what an empty topic misses, for as long as there are not too many.
    fn note_if_empty(&mut self, topic: &Topic) {
        let Some(history) = self.topics.get_mut(topic) else { return };
        if !history.is_empty() || std::mem::replace(&mut history.is_noted, true) {
            return;
        }
        self.emptied.push_back(topic.clone());
        if self.emptied.len() > MAX_EMPTY_TOPICS
            && let Some(first) = self.emptied.pop_front()
            && let Some(history) = self.topics.get_mut(&first)
        {
            history.is_noted = false;
            if history.is_empty() {
                self.forgotten = self.forgotten.join(history.missing());
                self.topics.remove(&first);
            }
        }
    }

    /// Keeps all histories together within their bound.
    fn bound(&mut self) {
        while self.bytes > self.max_bytes
            && let Some(entry) = self.order.pop_front()
        {
            let Some(history) = self.topics.get(&entry.topic) else { continue };
            if history.oldest().is_some_and(|oldest| oldest.id().serial() == entry.serial) {
                self.drop_oldest(&entry.topic);
            }
        }
        if self.order.len() > SWEEP_FROM && self.order.len() > 2 * self.entries {
            let topics = &self.topics;
            self.order.retain(|entry| {
                let oldest = topics.get(&entry.topic).and_then(History::oldest);
                oldest.is_some_and(|oldest| oldest.id().serial() <= entry.serial)
            });
            self.order.shrink_to(2 * self.entries);
        }
    }

    /// Drops what has grown too old, and what rules that have changed do not keep.
    pub fn expire(&mut self, now: u64) {
        let all = std::mem::take(&mut self.rules_changed);
        // Rules are asked only about topics that any of them might drop something of: publications
        // wait meanwhile.
        let shortest = self.rules.shortest_age();
        let is_old = |event: &Arc<Event>| now.saturating_sub(event.published_at()) > shortest;
        let topics = self.topics.iter().filter(|(_, history)| {
            let oldest = history.oldest();
            oldest.is_some_and(|oldest| all || is_old(oldest))
        });
        let topics: Vec<Topic> = topics.map(|(topic, _)| topic.clone()).collect();
        for topic in topics {
            self.trim(&topic, now);
        }
        self.bound();
    }

    /// Durable events that are to be deleted from the disk. Each is told once.
    pub fn take_evicted(&mut self) -> Vec<Evicted> {
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
        let own = self.own_ids.get(text.as_str());
        let (cursor, is_whole) = own
            .and_then(|events| self.after_own(subscription, events))
            .or_else(|| EventId::parse(text).and_then(|id| self.after_id(subscription, id)))
            .unwrap_or((oldest, false));
        let is_lost = !is_whole || self.misses(subscription, &cursor, 0);
        (cursor, if is_lost { Resumption::Lost } else { Resumption::Complete })
    }

    /// After the first that has this id, of those that are followed: of several it is not known
    /// which was meant, and what is sent again does less harm than what is not sent.
    fn after_own(
        &self,
        subscription: &Subscription,
        events: &VecDeque<Arc<Event>>,
    ) -> Option<(EventId, bool)> {
        let id = events.iter().find(|event| subscription.admits(event))?.id();
        // Other events of the run that it is from are gone.
        let is_of_this_run = id.volatile > 0 || id.durable > self.loaded;
        Some((id, is_of_this_run || self.keeps_all(subscription)))
    }

    fn after_id(&self, subscription: &Subscription, id: EventId) -> Option<(EventId, bool)> {
        // What was not delivered yet was not got either.
        if id.run == self.run {
            let is_possible = id.durable <= self.durable && id.volatile <= self.volatile;
            return is_possible.then_some((id, true));
        }
        let ahead = if self.is_shared { MAX_AHEAD } else { 0 };
        let is_possible = id.durable <= self.durable + ahead;
        let cursor = EventId { run: self.run, durable: id.durable, volatile: 0 };
        (is_possible && self.known_runs.contains(&id.run))
            .then(|| (cursor, self.keeps_all(subscription)))
    }

    /// Whether all that a subscription can match is on disk.
    fn keeps_all(&self, subscription: &Subscription) -> bool {
        subscription.topics().iter().all(|selector| match selector {
            Selector::Exact(topic) => {
                self.rules.of(topic.as_str()).is_some_and(|rule| rule.durable)
            }
            other => self.rules.all_durable(
                |pattern| subscription.covered(other, pattern),
                |pattern| subscription.touched(other, pattern),
            ),
        })
    }

    /// Whether something after `cursor` may be missing that went after `known`.
    fn misses(&self, subscription: &Subscription, cursor: &EventId, known: u64) -> bool {
        let mut is_wild = false;
        for selector in subscription.topics() {
            match selector {
                Selector::Exact(topic) => {
                    let missing = self.topics.get(topic).map_or(self.forgotten, History::missing);
                    if missing.concerns(cursor, known) {
                        return true;
                    }
                }
                _ => is_wild = true,
            }
        }
        let concerns = |history: &History| history.missing().concerns(cursor, known);
        is_wild
            && (self.forgotten.concerns(cursor, known) || self.matching(subscription).any(concerns))
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

    /// At most `limit` events after `cursor`, and whether any may be missing that went after `known`.
    pub fn replay(
        &self,
        subscription: &Subscription,
        cursor: EventId,
        limit: usize,
        known: u64,
    ) -> Replay {
        let position = self.position();
        if cursor == position {
            return Replay { events: Vec::new(), cursor, head: true, lost: false };
        }
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut histories = 0;
        let mut collect = |history: &History| {
            histories += 1;
            let visible = history.after(cursor).filter(|event| subscription.may_see(event));
            // The first of all are among the first of each, and one more tells whether that is all.
            events.extend(visible.take(limit.saturating_add(1)).cloned());
        };
        let mut is_wild = false;
        for selector in subscription.topics() {
            match selector {
                Selector::Exact(topic) => drop(self.topics.get(topic).map(&mut collect)),
                _ => is_wild = true,
            }
        }
        if is_wild {
            self.matching(subscription).for_each(&mut collect);
        }
        if histories > 1 {
            events.sort_by_key(|event| event.id().serial());
            events.dedup_by_key(|event| event.id().serial());
        }
        let head = events.len() <= limit;
        events.truncate(limit);
        let last = events.last().map_or(cursor, |event| event.id());
        let cursor_after = if head { position } else { last };
        let lost = self.misses(subscription, &cursor, known);
        Replay { events, cursor: cursor_after, head, lost }
    }

    /// Bytes of all histories.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics that are known, at most [`MAX_EMPTY_TOPICS`] of them without events.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }
}

/// The topics of an event, each once.
fn distinct(event: &Event) -> Vec<Topic> {
    let mut topics: Vec<Topic> = Vec::new();
    for topic in event.topics() {
        if !topics.contains(topic) {
            topics.push(topic.clone());
        }
    }
    topics
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
