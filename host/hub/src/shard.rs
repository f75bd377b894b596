//! The subscribers of one core, by what they follow.
//!
//! Events are offered to a shard in the order of their publication. A subscriber who left is counted
//! and swept out later, so that ten thousand who leave at once do not search for themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::Waker;

use crate::event::{Event, EventId};
use crate::selector::{Selector, SelectorKind};
use crate::subscriber::Subscriber;
use crate::subscription::{Subscription, selects};
use crate::topic::Topic;

/// Subscribers, by topic and by selector.
#[derive(Debug, Default)]
pub struct Shard {
    exact: HashMap<Topic, Group>,
    /// Selectors that several may share: matched once for all of them.
    others: HashMap<Key, (Selector, Arc<str>, Group)>,
    subscribers: usize,
}

type Key = (SelectorKind, Box<str>, Box<str>);

#[derive(Debug, Default)]
struct Group {
    members: Vec<Arc<Subscriber>>,
    gone: usize,
}

impl Group {
    /// Sweeps those who left, if they are the most.
    fn sweep(&mut self) {
        if self.gone * 2 > self.members.len() {
            self.members.retain(|member| !member.is_gone());
            self.gone = 0;
        }
    }
}

impl Shard {
    /// Lets a subscriber have what is offered from now on.
    pub fn add(&mut self, subscriber: &Arc<Subscriber>) {
        self.subscribers += 1;
        let subscription = subscriber.subscription();
        for selector in subscription.topics() {
            self.group(&subscription, selector).members.push(Arc::clone(subscriber));
        }
    }

    /// A subscriber leaves.
    pub fn remove(&mut self, subscriber: &Arc<Subscriber>) {
        self.subscribers -= 1;
        subscriber.leave();
        let subscription = subscriber.subscription();
        for selector in subscription.topics() {
            let group = self.group(&subscription, selector);
            group.gone += 1;
            group.sweep();
            if group.members.is_empty() {
                self.forget(&subscription, selector);
            }
        }
    }

    /// A subscriber follows something else from now on: `position` is the latest place, up to which it
    /// gets nothing of what it has not followed before.
    pub fn change(
        &mut self,
        subscriber: &Arc<Subscriber>,
        subscription: Subscription,
        position: EventId,
    ) {
        if subscriber.is_gone() {
            return;
        }
        let before = subscriber.subscription();
        for selector in before.topics() {
            if !subscription.topics().contains(selector) {
                let group = self.group(&before, selector);
                group.members.retain(|member| !Arc::ptr_eq(member, subscriber));
                if group.members.is_empty() {
                    self.forget(&before, selector);
                }
            }
        }
        for selector in subscription.topics() {
            if !before.topics().contains(selector) {
                self.group(&subscription, selector).members.push(Arc::clone(subscriber));
            }
        }
        subscriber.follow(subscription, position);
    }

    fn group(&mut self, subscription: &Subscription, selector: &Selector) -> &mut Group {
        match selector {
            Selector::Exact(topic) => self.exact.entry(topic.clone()).or_default(),
            other => {
                let entry = self.others.entry(key(subscription, other));
                let within = || subscription.within().into();
                &mut entry.or_insert_with(|| (other.clone(), within(), Group::default())).2
            }
        }
    }

    fn forget(&mut self, subscription: &Subscription, selector: &Selector) {
        match selector {
            Selector::Exact(topic) => drop(self.exact.remove(topic)),
            other => drop(self.others.remove(&key(subscription, other))),
        }
    }

    /// Subscribers.
    pub fn len(&self) -> usize {
        self.subscribers
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.subscribers == 0
    }

    /// Offers an event to all who follow one of its topics. `wake` gets the wakers of those who wait;
    /// they are to be called without the shard's lock.
    pub fn offer(&self, event: &Arc<Event>, wake: &mut Vec<Waker>) {
        for group in event.topics().flat_map(|topic| self.matching(topic)) {
            for member in &group.members {
                member.offer(event, wake);
            }
        }
    }

    /// Those who would get a public event of a topic.
    pub fn audience(&self, topic: &Topic) -> usize {
        let mut counted = HashSet::new();
        for group in self.matching(topic) {
            let members = group.members.iter().filter(|member| !member.is_gone());
            counted.extend(members.map(Arc::as_ptr));
        }
        counted.len()
    }

    /// All subscribers.
    pub fn all(&self) -> Vec<Arc<Subscriber>> {
        let groups = self.exact.values().chain(self.others.values().map(|(_, _, group)| group));
        let mut known = HashSet::new();
        groups
            .flat_map(|group| &group.members)
            .filter(|member| !member.is_gone() && known.insert(Arc::as_ptr(member)))
            .map(Arc::clone)
            .collect()
    }

    fn matching<'a>(&'a self, topic: &'a Topic) -> impl Iterator<Item = &'a Group> {
        let others = self
            .others
            .values()
            .filter(move |(selector, within, _)| selects(within, selector, topic.as_str()));
        self.exact.get(topic).into_iter().chain(others.map(|(_, _, group)| group))
    }
}

fn key(subscription: &Subscription, selector: &Selector) -> Key {
    // A pattern says whole topics, whatever was written before it.
    let within = match selector.kind() {
        SelectorKind::Exact | SelectorKind::Pattern => "",
        SelectorKind::UriTemplate | SelectorKind::UrlPattern => subscription.within(),
    };
    (selector.kind(), selector.as_str().into(), within.into())
}
