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

    /// What holds for a topic, if anybody says so.
    pub(crate) fn of(&self, topic: &str) -> Option<&Rule> {
        let granted = |owned: &&Owned| owned.granted.iter().any(|grant| grant.matches(topic));
        let mut matching = self.0.iter().filter(|owned| owned.rule.pattern.matches(topic));
        matching.find(granted).map(|owned| &owned.rule)
    }

    /// Whether all of some topics are durable: `covered` tells whether all of them are a pattern's,
    /// `touched` whether any is. False where it is not certain.
    pub(crate) fn all_durable(
        &self,
        covered: impl Fn(&Pattern) -> bool,
        touched: impl Fn(&Pattern) -> bool,
    ) -> bool {
        for Owned { rule, granted, .. } in &self.0 {
            if rule.durable {
                // What only some of them follow leaves the rest to the rules after it.
                if covered(&rule.pattern) && granted.iter().any(&covered) {
                    return true;
                }
            } else if touched(&rule.pattern) && granted.iter().any(&touched) {
                return false;
            }
        }
        false
    }

    /// No topic keeps events for less.
    pub(crate) fn shortest_age(&self) -> u64 {
        let ages = self.0.iter().map(|owned| owned.rule.limits.age);
        ages.fold(HistoryLimits::default().age, u64::min)
    }
}

/// What is kept of one topic, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    missing: Missing,
    /// It is among those that the hub knows to have become empty.
    pub(crate) is_noted: bool,
}

/// What a history has no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Durable events up to this one may be missing.
    pub(crate) durable: u64,
    /// Others up to this one may be missing.
    pub(crate) volatile: u64,
    /// When the last of them went, by the hub's count of such losses.
    pub(crate) at: u64,
}

impl Missing {
    /// Both.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            durable: self.durable.max(other.durable),
            volatile: self.volatile.max(other.volatile),
            at: self.at.max(other.at),
        }
    }

    /// Whether events after `cursor` may be missing, of what went after `known`.
    pub(crate) fn concerns(&self, cursor: &EventId, known: u64) -> bool {
        self.at > known && (self.durable > cursor.durable || self.volatile > cursor.volatile)
    }
}

impl History {
    /// What a topic is taken for of which something went already.
    pub(crate) fn without(missing: Missing) -> Self {
        Self { missing, ..Self::default() }
    }

    pub(crate) fn push(&mut self, event: &Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(Arc::clone(event));
    }

    /// Whether the oldest is beyond what a rule says; without one, what is on disk stays: the plugin
    /// whose rule it is may not have been loaded yet.
    pub(crate) fn is_over(&self, rule: Option<&Rule>, now: u64) -> bool {
        let Some(oldest) = self.events.front() else { return false };
        if rule.is_none() && oldest.is_durable() {
            return false;
        }
        let limits = rule.map_or_else(HistoryLimits::default, |rule| rule.limits);
        now.saturating_sub(oldest.published_at()) > limits.age
            || self.events.len() > limits.events
            || self.bytes > limits.bytes
    }

    /// Takes the oldest. `at`: the hub's count of losses, this one among them.
    pub(crate) fn pop(&mut self, at: u64) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.weight();
        let missing = match event.is_durable() {
            true => &mut self.missing.durable,
            false => &mut self.missing.volatile,
        };
        *missing = (*missing).max(event.count());
        self.missing.at = at;
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        Some(event)
    }

    /// Something is missing that was never here.
    pub(crate) fn miss(&mut self, missing: Missing) {
        self.missing = self.missing.join(missing);
    }

    pub(crate) fn oldest(&self) -> Option<&Arc<Event>> {
        self.events.front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn missing(&self) -> Missing {
        self.missing
    }

    /// The events after `cursor`, oldest first.
    pub(crate) fn after(&self, cursor: EventId) -> impl Iterator<Item = &Arc<Event>> {
        let is_after = move |event: &Arc<Event>| match event.is_durable() {
            true => event.id().durable > cursor.durable,
            false => event.id().volatile > cursor.volatile,
        };
        // Both counts grow along the history. With a cursor of this run all that is left is after it;
        // with one of another run, or ahead of this one, each kind has to be looked at.
        let got = |event: &Arc<Event>| {
            event.id().durable <= cursor.durable && event.id().volatile <= cursor.volatile
        };
        let first = self.events.partition_point(got);
        self.events.range(first..).filter(move |event| is_after(event))
    }
}

/// Where an event was put: for finding the oldest of all topics.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Topic,
    pub(crate) serial: u64,
}
