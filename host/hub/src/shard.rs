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

    /// [`Shard::offer`] where that is done at once: no more than `most` follow its topics, and no more
    /// than so many patterns are to be asked. False where it is not; nobody was offered it then.
    pub fn offer_to_few(&self, event: &Arc<Event>, most: usize, wake: &mut Vec<Waker>) -> bool {
        let is_quick = |(kind, ..): &Key| *kind == SelectorKind::Pattern;
        if self.others.len() > most || !self.others.keys().all(is_quick) {
            return false;
        }
        let groups = event.topics().flat_map(|topic| self.matching(topic));
        let are_few = groups.map(|group| group.members.len()).sum::<usize>() <= most;
        if are_few {
            self.offer(event, wake);
        }
        are_few
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::event::{Content, Draft, Run, SubscriberId};
    use crate::hub::Hub;
    use crate::subscriber::Next;

    fn subscription(within: &str, topics: &[(SelectorKind, &str)]) -> Subscription {
        Subscription::new(within, topics.iter().copied(), []).unwrap()
    }

    fn live(shard: &mut Shard, hub: &Hub, id: u128, subscription: Subscription) -> Arc<Subscriber> {
        let subscriber = Subscriber::new(SubscriberId(id), subscription, hub.position());
        subscriber.refill(Vec::new(), hub.position(), true);
        shard.add(&subscriber);
        subscriber
    }

    fn publish(hub: &mut Hub, shard: &Shard, topics: &[&str]) {
        let mut topics = topics.iter().map(|name| Topic::parse(name).unwrap());
        let draft =
            Draft::new(topics.next().unwrap(), topics.collect(), Content::text("")).unwrap();
        shard.offer(&hub.publish(draft, 0), &mut Vec::new());
    }

    fn count(subscriber: &Subscriber) -> usize {
        std::iter::from_fn(|| match subscriber.next(Waker::noop()) {
            Next::Event(event) => Some(event),
            _ => None,
        })
        .count()
    }

    #[test]
    fn an_event_comes_once_however_many_selectors_match() {
        let (mut hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let every = [
            (SelectorKind::Exact, "a/1"),
            (SelectorKind::Pattern, "a/*"),
            (SelectorKind::Pattern, "*"),
        ];
        let one = live(&mut shard, &hub, 1, subscription("", &every));
        let same = live(&mut shard, &hub, 2, subscription("", &every[1..2]));

        publish(&mut hub, &shard, &["a/1", "a/2", "a/1"]);

        assert_eq!((count(&one), count(&same)), (1, 1));
        assert_eq!(shard.audience(&Topic::parse("a/1").unwrap()), 2);
        assert_eq!((shard.all().len(), shard.len()), (2, 2));
    }

    #[test]
    fn only_few_are_offered_an_event_at_once() {
        let (mut hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let one = live(&mut shard, &hub, 1, subscription("", &[(SelectorKind::Exact, "a")]));
        let _other = live(&mut shard, &hub, 2, subscription("", &[(SelectorKind::Pattern, "*")]));
        let draft = Draft::new(Topic::parse("a").unwrap(), Vec::new(), Content::text("")).unwrap();
        let event = hub.publish(draft, 0);

        assert!(!shard.offer_to_few(&event, 1, &mut Vec::new()));
        assert_eq!(count(&one), 0);
        assert!(shard.offer_to_few(&event, 2, &mut Vec::new()));
        assert_eq!(count(&one), 1);

        let slow = [(SelectorKind::UrlPattern, "https://example.com/:id")];
        let _slow = live(&mut shard, &hub, 3, subscription("", &slow));
        assert!(!shard.offer_to_few(&event, 9, &mut Vec::new()));
    }

    #[test]
    fn one_of_two_with_the_same_selector_leaves() {
        let (mut hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let selector = [(SelectorKind::Pattern, "a/*")];
        let leaves = live(&mut shard, &hub, 1, subscription("", &selector));
        let stays = live(&mut shard, &hub, 2, subscription("", &selector));

        shard.remove(&leaves);
        publish(&mut hub, &shard, &["a/1"]);

        assert_eq!((count(&leaves), count(&stays)), (0, 1));
        assert_eq!(shard.audience(&Topic::parse("a/1").unwrap()), 1);
        shard.remove(&stays);
        assert!(shard.is_empty() && shard.others.is_empty());
    }

    #[test]
    fn selectors_that_begin_elsewhere_are_others() {
        let (mut hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let template = [(SelectorKind::UriTemplate, "/books/{id}")];
        let one = live(&mut shard, &hub, 1, subscription("m/", &template));
        let other = live(&mut shard, &hub, 2, subscription("n/", &template));

        publish(&mut hub, &shard, &["m//books/1"]);

        assert_eq!((count(&one), count(&other)), (1, 0));
    }

    #[test]
    fn thousands_who_left_are_swept_out() {
        let (hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let selector = [(SelectorKind::Exact, "a")];
        let all: Vec<_> =
            (0..10_000).map(|id| live(&mut shard, &hub, id, subscription("", &selector))).collect();

        for (index, subscriber) in all.iter().enumerate() {
            shard.remove(subscriber);
            let kept = shard.exact.values().map(|group| group.members.len()).sum::<usize>();
            assert!(kept <= 2 * (all.len() - index), "{kept} after {index}");
        }

        assert!(shard.exact.is_empty());
    }

    #[test]
    fn whoever_left_follows_nothing_any_more() {
        let (hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let gone = live(&mut shard, &hub, 1, subscription("", &[(SelectorKind::Exact, "a")]));
        shard.remove(&gone);

        shard.change(&gone, subscription("", &[(SelectorKind::Exact, "b")]), hub.position());

        assert!(shard.exact.is_empty());
    }

    #[test]
    fn what_is_followed_changes() {
        let (mut hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let (a, b) = ([(SelectorKind::Exact, "a")], [(SelectorKind::Exact, "b")]);
        let one = live(&mut shard, &hub, 1, subscription("", &a));
        let topics = subscription("", &b).topics().to_vec();
        // The same selector twice is one.
        let twice = one.subscription().with_topics([topics.clone(), topics].concat()).unwrap();

        shard.change(&one, twice, hub.position());
        publish(&mut hub, &shard, &["a"]);
        publish(&mut hub, &shard, &["b"]);

        assert_eq!(count(&one), 1);
        assert_eq!(shard.exact.keys().map(Topic::as_str).collect::<Vec<_>>(), ["b"]);
        shard.remove(&one);
        assert!(shard.exact.is_empty());
    }
}
