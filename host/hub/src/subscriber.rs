//! One subscriber: what it has still to get, and where it goes on when it could not keep up.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;

use crate::event::{Event, EventId, SubscriberId};
use crate::selector::Selector;
use crate::subscription::Subscription;

/// Events that wait for one subscriber; past it the history is read instead.
pub const MAX_QUEUED: usize = 64;
/// Bytes of them.
pub const MAX_QUEUED_BYTES: usize = 256 << 10;

/// Somebody who follows something. Shared by the shard that offers events and by whoever takes them.
#[derive(Debug)]
pub struct Subscriber {
    id: SubscriberId,
    about: OnceLock<Box<About>>,
    inner: Mutex<Inner>,
}

/// What is told of a subscriber.
#[derive(Debug)]
struct About {
    attributes: Box<[(String, String)]>,
    since: u64,
}

#[derive(Debug)]
struct Inner {
    subscription: Subscription,
    /// Selectors that it followed later than events that it has still to get, and from where on.
    joined: Vec<(Selector, u64)>,
    mode: Mode,
    queue: VecDeque<Arc<Event>>,
    queued_bytes: usize,
    /// It has got everything up to here, and may be ahead of what there is.
    cursor: EventId,
    /// With what is queued it has got everything up to here.
    upto: EventId,
    /// It was offered everything up to here.
    seen: u64,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It reads the history after its cursor.
    Behind,
    /// Events are queued as they are published.
    Live,
    /// It is to end when it has got what is queued.
    Ending,
    /// It is not there any more.
    Gone,
}

/// What a subscriber has to get.
#[derive(Debug)]
pub enum Next {
    /// This event.
    Event(Arc<Event>),
    /// What the history has after this place; see [`Subscriber::refill`].
    Behind(EventId),
    /// Nothing more, ever: it was told to end.
    Ended,
    /// Nothing now. The waker is called.
    Nothing,
}

impl Subscriber {
    /// A subscriber who has everything up to `cursor`, and reads the history from there.
    pub fn new(id: SubscriberId, subscription: Subscription, cursor: EventId) -> Arc<Self> {
        Arc::new(Self {
            id,
            about: OnceLock::new(),
            inner: Mutex::new(Inner {
                subscription,
                joined: Vec::new(),
                mode: Mode::Behind,
                queue: VecDeque::new(),
                queued_bytes: 0,
                cursor,
                upto: cursor,
                seen: 0,
                waker: None,
            }),
        })
    }

    /// Its name.
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// Says more of it: attributes, and since when it is here, in milliseconds since 1970.
    pub fn describe(&self, attributes: Vec<(String, String)>, since: u64) {
        let _first_wins = self.about.set(Box::new(About { attributes: attributes.into(), since }));
    }

    /// What was said of it.
    pub fn about(&self) -> (&[(String, String)], u64) {
        self.about.get().map_or((&[], 0), |about| (&about.attributes, about.since))
    }

    /// What it follows.
    pub fn subscription(&self) -> Subscription {
        self.inner.lock().subscription.clone()
    }

    /// Takes the next event.
    pub fn next(&self, waker: &Waker) -> Next {
        let mut inner = self.inner.lock();
        if let Some(event) = inner.queue.pop_front() {
            inner.queued_bytes -= event.weight();
            // Nothing that is between two queued events is for it.
            let next = inner.queue.front().map_or(inner.upto, |next| next.before());
            inner.cursor = inner.cursor.join(event.id()).join(next);
            if inner.queue.is_empty() {
                // Thousands of subscribers rest at any time.
                inner.queue = VecDeque::new();
            }
            return Next::Event(event);
        }
        match inner.mode {
            Mode::Behind => Next::Behind(inner.cursor),
            Mode::Ending | Mode::Gone => Next::Ended,
            Mode::Live => {
                if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    inner.waker = Some(waker.clone());
                }
                Next::Nothing
            }
        }
    }

    /// Gives it what the history had after its cursor, all that was delivered up to `cursor`. `head`:
    /// that is the latest place, so that from here on events are queued.
    pub fn refill(&self, events: Vec<Arc<Event>>, cursor: EventId, head: bool) {
        let mut inner = self.inner.lock();
        if inner.mode != Mode::Behind {
            return;
        }
        let (mut upto, mut head) = (cursor, head);
        inner.queue.clear();
        inner.queued_bytes = 0;
        for event in events {
            if event.except() == Some(self.id) || !inner.is_joined(&event) {
                continue;
            }
            let weight = event.weight();
            if !inner.queue.is_empty() && inner.queued_bytes + weight > MAX_QUEUED_BYTES {
                // The history keeps the rest, for as long as it keeps it for anybody.
                upto = inner.queue.back().map_or(cursor, |last| last.id());
                head = false;
                break;
            }
            inner.queued_bytes += weight;
            inner.queue.push_back(event);
        }
        inner.upto = inner.cursor.join(upto);
        if inner.queue.is_empty() {
            inner.cursor = inner.upto;
        }
        if head {
            inner.mode = Mode::Live;
            inner.seen = upto.serial();
            inner.joined = Vec::new();
        }
    }

    /// Follows something else from now on; `position` is the latest place.
    pub(crate) fn follow(&self, subscription: Subscription, position: EventId) {
        let mut inner = self.inner.lock();
        let before = std::mem::replace(&mut inner.subscription, subscription);
        let Inner { subscription, joined, .. } = &mut *inner;
        joined.retain(|(selector, _)| subscription.topics().contains(selector));
        let new = subscription.topics().iter().filter(|one| !before.topics().contains(one));
        joined.extend(new.map(|one| (one.clone(), position.serial())));
    }

    /// Whether it does not come back for events.
    pub(crate) fn is_gone(&self) -> bool {
        self.inner.lock().mode == Mode::Gone
    }

    /// Offers an event of a topic that it follows. `wake` gets its waker where it waits.
    pub(crate) fn offer(&self, event: &Arc<Event>, wake: &mut Vec<Waker>) {
        let mut inner = self.inner.lock();
        let serial = event.id().serial();
        if inner.mode != Mode::Live || serial <= inner.seen {
            return;
        }
        inner.seen = serial;
        // It got that from another process.
        let is_known = event.is_durable() && event.id().durable <= inner.cursor.durable;
        let is_for_it = event.except() != Some(self.id) && inner.subscription.may_see(event);
        if is_known || !is_for_it || !inner.is_joined(event) {
            return;
        }
        if inner.queue.is_empty() {
            // It has got all that was before, or was not to get it.
            inner.cursor = inner.cursor.join(event.before());
            let cursor = inner.cursor.serial();
            inner.joined.retain(|(_, from)| *from > cursor);
        }
        let weight = event.weight();
        // One event always fits.
        let full = inner.queue.len() >= MAX_QUEUED
            || (!inner.queue.is_empty() && inner.queued_bytes + weight > MAX_QUEUED_BYTES);
        if full {
            inner.mode = Mode::Behind;
            inner.queue = VecDeque::new();
            inner.queued_bytes = 0;
        } else {
            inner.queue.push_back(Arc::clone(event));
            inner.queued_bytes += weight;
            inner.upto = inner.cursor.join(event.id());
        }
        wake.extend(inner.waker.take());
    }

    /// Lets it end once it has got what is queued.
    pub fn end(&self) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Gone {
            return None;
        }
        inner.mode = Mode::Ending;
        inner.waker.take()
    }

    /// It does not come back for events.
    pub(crate) fn leave(&self) {
        let mut inner = self.inner.lock();
        inner.mode = Mode::Gone;
        inner.queue = VecDeque::new();
        inner.joined = Vec::new();
        inner.queued_bytes = 0;
        inner.waker = None;
    }
}

impl Inner {
    /// Whether an event was published after one of the selectors that match it was followed.
    fn is_joined(&self, event: &Event) -> bool {
        let serial = event.id().serial();
        if self.joined.iter().all(|(_, from)| serial > *from) {
            return true;
        }
        let from = |selector: &Selector| {
            self.joined.iter().find(|(joined, _)| joined == selector).map_or(0, |(_, from)| *from)
        };
        let mut topics = self.subscription.topics().iter().filter(|one| serial > from(one));
        topics.any(|one| event.topics().any(|topic| self.subscription.selects(one, topic.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Content, Draft, Run};
    use crate::hub::{Hub, Start};
    use crate::selector::SelectorKind;
    use crate::shard::Shard;
    use crate::topic::Topic;

    struct Desk {
        hub: Hub,
        shard: Shard,
        subscriber: Arc<Subscriber>,
        wake: Vec<Waker>,
    }

    fn subscription(topics: &[&str]) -> Subscription {
        let topics = topics.iter().map(|topic| (SelectorKind::Exact, *topic));
        Subscription::new("", topics, [(SelectorKind::Exact, "private")]).unwrap()
    }

    fn desk() -> Desk {
        let (hub, mut shard) = (Hub::new(Run(1)), Shard::default());
        let subscriber = Subscriber::new(SubscriberId(1), subscription(&["a"]), hub.position());
        subscriber.refill(Vec::new(), hub.position(), true);
        shard.add(&subscriber);
        Desk { hub, shard, subscriber, wake: Vec::new() }
    }

    impl Desk {
        fn publish(&mut self, topic: &str, data: &str) -> Arc<Event> {
            let topic = Topic::parse(topic).unwrap();
            let draft = Draft::new(topic, Vec::new(), Content::text(data)).unwrap();
            let event = self.hub.publish(draft, 0);
            self.shard.offer(&event, &mut self.wake);
            event
        }

        /// All that is queued, then the place that is to be read on from, if any.
        fn take(&self) -> (usize, Option<EventId>) {
            let mut taken = 0;
            loop {
                match self.subscriber.next(Waker::noop()) {
                    Next::Event(_) => taken += 1,
                    Next::Behind(cursor) => return (taken, Some(cursor)),
                    Next::Nothing | Next::Ended => return (taken, None),
                }
            }
        }

        fn refill(&self, cursor: EventId) {
            let subscription = self.subscriber.subscription();
            let replay = self.hub.replay(&subscription, cursor, 64, self.hub.losses());
            self.subscriber.refill(replay.events, replay.cursor, replay.head);
        }
    }

    #[test]
    fn a_queue_that_is_full_is_dropped_and_the_history_read() {
        let mut desk = desk();
        desk.publish("b", "before");
        for _ in 0..=MAX_QUEUED {
            desk.publish("a", "x");
        }

        let (taken, cursor) = desk.take();

        // What it was not to get is behind it: only what it missed is asked for.
        assert_eq!((taken, cursor.map(|cursor| cursor.volatile)), (0, Some(1)));
        desk.refill(cursor.unwrap());
        assert_eq!(desk.take().0, MAX_QUEUED);
        desk.refill(desk.take().1.unwrap());
        assert_eq!(desk.take(), (1, None));
    }

    #[test]
    fn a_queue_is_bounded_by_bytes_too() {
        let mut desk = desk();
        let large = "x".repeat(MAX_QUEUED_BYTES / 2);
        for _ in 0..2 {
            desk.publish("a", &large);
        }
        let (taken, cursor) = desk.take();
        assert_eq!(taken, 0);

        desk.refill(cursor.unwrap());

        // The history's events, too: one of them always, for it could never be sent else.
        let (taken, cursor) = desk.take();
        assert_eq!((taken, cursor.is_some()), (1, true));
        desk.refill(cursor.unwrap());
        assert_eq!(desk.take(), (1, None));
    }

    #[test]
    fn one_event_that_is_larger_than_all_room_is_taken() {
        let mut desk = desk();
        desk.publish("a", &"x".repeat(MAX_QUEUED_BYTES * 2));

        assert_eq!(desk.take(), (1, None));
    }

    #[test]
    fn a_selector_that_is_joined_counts_from_then_on() {
        let mut desk = desk();
        desk.publish("a", "first");
        desk.publish("b", "before it was followed");
        let position = desk.hub.position();

        desk.shard.change(&desk.subscriber, subscription(&["a", "b"]), position);
        for _ in 0..MAX_QUEUED {
            desk.publish("b", "after");
        }

        let (taken, cursor) = desk.take();
        assert_eq!(taken, 0);
        desk.refill(cursor.unwrap());
        let (first, cursor) = desk.take();
        desk.refill(cursor.unwrap());
        assert_eq!((first + desk.take().0, desk.take()), (1 + MAX_QUEUED, (0, None)));
    }

    #[test]
    fn what_another_process_sent_does_not_come_again() {
        let mut hub = Hub::new(Run(2));
        let ahead = EventId { run: Run(2), durable: 2, volatile: 0 };
        let subscriber = Subscriber::new(SubscriberId(1), subscription(&["a"]), ahead);
        subscriber.refill(Vec::new(), hub.position(), true);
        let mut shard = Shard::default();
        shard.add(&subscriber);

        for number in 1..=3 {
            let draft = Draft::new(Topic::parse("a").unwrap(), Vec::new(), Content::text(""));
            let event = hub.deliver(number, draft.unwrap(), 0, 0).unwrap();
            shard.offer(&event, &mut Vec::new());
        }

        let Next::Event(event) = subscriber.next(Waker::noop()) else {
            panic!("it gets the third")
        };
        assert_eq!(event.id().durable, 3);
        assert!(matches!(subscriber.next(Waker::noop()), Next::Nothing));
    }

    #[test]
    fn whoever_is_told_to_end_gets_what_is_queued_and_no_more() {
        let mut desk = desk();
        desk.publish("a", "x");
        desk.subscriber.end();
        desk.publish("a", "y");

        assert_eq!(desk.take(), (1, None));
        assert!(matches!(desk.subscriber.next(Waker::noop()), Next::Ended));
    }

    #[test]
    fn only_who_waits_is_woken_and_only_once() {
        let mut desk = desk();
        desk.publish("a", "x");
        assert_eq!(desk.wake.len(), 0);
        desk.take();

        desk.publish("a", "x");
        desk.publish("a", "x");
        desk.publish("b", "x");

        assert_eq!(desk.wake.len(), 1);
    }

    #[test]
    fn start_now_has_nothing_of_before() {
        let mut desk = desk();
        desk.publish("a", "x");

        let (cursor, _) = desk.hub.begin(&subscription(&["a"]), &Start::Now);

        assert!(desk.hub.replay(&subscription(&["a"]), cursor, 9, 0).events.is_empty());
    }
}
