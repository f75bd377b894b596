//! One subscriber: what it has still to get, and where it goes on when it could not keep up.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;

use crate::event::{Event, EventId, SubscriberId};
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
    mode: Mode,
    queue: VecDeque<Arc<Event>>,
    queued_bytes: usize,
    /// It has got everything up to here.
    cursor: EventId,
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
                mode: Mode::Behind,
                queue: VecDeque::new(),
                queued_bytes: 0,
                cursor,
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
            inner.cursor = event.id();
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
    pub fn refill(&self, mut events: Vec<Arc<Event>>, cursor: EventId, head: bool) {
        events.retain(|event| event.except() != Some(self.id));
        let mut inner = self.inner.lock();
        if inner.mode != Mode::Behind {
            return;
        }
        inner.queued_bytes = events.iter().map(|event| event.weight()).sum();
        if events.is_empty() {
            inner.cursor = cursor;
        }
        inner.queue = events.into();
        if head {
            inner.mode = Mode::Live;
            inner.seen = cursor.serial();
        }
    }

    /// Skips what the history no longer has.
    pub fn skip_to(&self, cursor: EventId) {
        self.inner.lock().cursor = cursor;
    }

    /// Follows something else from now on.
    pub(crate) fn follow(&self, subscription: Subscription) {
        self.inner.lock().subscription = subscription;
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
        if event.except() == Some(self.id) || !inner.subscription.may_see(event) {
            return;
        }
        if inner.queue.is_empty() {
            // It has got all that was before, or was not to get it.
            inner.cursor = event.before();
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
        inner.queued_bytes = 0;
        inner.waker = None;
    }
}
