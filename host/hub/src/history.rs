//! What is kept of one topic, and for how long.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::{Event, EventId};
use crate::selector::Pattern;
use crate::topic::Topic;

/// How much of a topic is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Events.
    pub events: usize,
    /// Bytes, as [`Event::weight`] counts them.
    pub bytes: usize,
    /// Milliseconds.
    pub age: u64,
}

impl Default for HistoryLimits {
    /// A thousand events, 1 MiB, an hour.
    fn default() -> Self {
        Self { events: 1000, bytes: 1 << 20, age: 3_600_000 }
    }
}

/// What holds for the topics of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which topics.
    pub pattern: Pattern,
    /// Whether they survive a restart.
    pub durable: bool,
    /// How much of each is kept.
    pub limits: HistoryLimits,
}

/// What the plugins say of topics.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Owned>);

#[derive(Debug)]
struct Owned {
    owner: Box<str>,
    rule: Rule,
    /// A rule counts for topics that its owner may publish to.
    granted: Arc<[Pattern]>,
}

impl Rules {
    pub(crate) fn set(&mut self, owner: &str, rules: Vec<Rule>, granted: &Arc<[Pattern]>) {
        self.0.retain(|known| *known.owner != *owner);
        let owned = |rule| Owned { owner: owner.into(), rule, granted: Arc::clone(granted) };
        self.0.extend(rules.into_iter().map(owned));
        // The first that matches counts: the one that says the most.
        self.0.sort_by(|a, b| {
            let order = b.rule.pattern.specificity().cmp(&a.rule.pattern.specificity());
            order.then_with(|| a.owner.cmp(&b.owner))
        });
    }

    /// Whether topics of this one are durable, and how much of it is kept.
    pub(crate) fn of(&self, topic: &str) -> (bool, HistoryLimits) {
        let granted = |owned: &&Owned| owned.granted.iter().any(|grant| grant.matches(topic));
        let mut matching = self.0.iter().filter(|owned| owned.rule.pattern.matches(topic));
        match matching.find(granted) {
            Some(owned) => (owned.rule.durable, owned.rule.limits),
            None => (false, HistoryLimits::default()),
        }
    }

    /// Patterns whose topics are all durable.
    pub(crate) fn durable(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter(|owned| owned.rule.durable).map(|owned| &owned.rule.pattern)
    }
}

/// What is kept of one topic, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Durable events up to this one may be missing.
    missing_durable: u64,
    /// Others up to this one may be missing.
    missing_volatile: u64,
}

impl History {
    /// What a topic is taken for that is not known (any more): events may be missing up to these.
    pub(crate) fn without(durable: u64, volatile: u64) -> Self {
        Self { missing_durable: durable, missing_volatile: volatile, ..Self::default() }
    }

    pub(crate) fn push(&mut self, event: &Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(Arc::clone(event));
    }

    /// Takes the oldest, if it is beyond the limits.
    pub(crate) fn trim(&mut self, limits: &HistoryLimits, now: u64) -> Option<Arc<Event>> {
        let oldest = self.events.front()?;
        let old = now.saturating_sub(oldest.published_at()) > limits.age;
        let full = self.events.len() > limits.events || self.bytes > limits.bytes;
        if old || full { self.pop() } else { None }
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.weight();
        let missing =
            if event.is_durable() { &mut self.missing_durable } else { &mut self.missing_volatile };
        *missing = event.count();
        Some(event)
    }

    pub(crate) fn oldest(&self) -> Option<&Arc<Event>> {
        self.events.front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn missing(&self) -> (u64, u64) {
        (self.missing_durable, self.missing_volatile)
    }

    /// Whether events after `cursor` may be missing.
    pub(crate) fn misses(&self, cursor: &EventId) -> bool {
        self.missing_durable > cursor.durable || self.missing_volatile > cursor.volatile
    }

    /// The events after `cursor`, oldest first.
    pub(crate) fn after(&self, cursor: EventId) -> impl Iterator<Item = &Arc<Event>> {
        let is_after = move |event: &Arc<Event>| match event.is_durable() {
            true => event.id().durable > cursor.durable,
            false => event.id().volatile > cursor.volatile,
        };
        // Each kind is ordered; where a cursor comes from another run, both together need not be.
        let first = self.events.partition_point(|event| event.id().serial() <= cursor.serial());
        let first = if cursor.volatile == 0 { 0 } else { first };
        self.events.range(first..).filter(move |event| is_after(event))
    }
}

/// Where an event was put: for finding the oldest of all topics.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Topic,
    pub(crate) serial: u64,
}
