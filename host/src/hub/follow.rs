//! Following topics: the subscriber's end, polled by the task of its connection.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use wharf_hub::{
    Event, EventId, Next, Selector, Subscriber, SubscriberId, Subscription, SubscriptionError,
};

use super::Hub;
use super::shard::Shard;

/// Events that are read from the history at once.
const REFILL: usize = 64;

/// What becomes of a follower that the history has moved on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// It ends.
    Disconnect,
    /// It misses the oldest.
    DropOldest,
}

/// What a follower gets.
#[derive(Debug)]
pub enum Step {
    /// An event.
    Event(Arc<Event>),
    /// It was too slow: what comes next is not kept any more.
    Lagged,
    /// The hub has nothing more for it: the server drains.
    Ended,
}

/// Follows topics until it is dropped.
pub struct Follower {
    hub: Arc<Hub>,
    shard: Arc<Shard>,
    subscriber: Arc<Subscriber>,
    /// The place that it began after.
    began: EventId,
    /// What went from the histories before that it was told of, or began without.
    known: u64,
    lag: Lag,
}

impl Follower {
    pub(super) fn new(
        hub: Arc<Hub>,
        shard: Arc<Shard>,
        subscriber: Arc<Subscriber>,
        began: EventId,
        known: u64,
        lag: Lag,
    ) -> Self {
        Self { hub, shard, subscriber, began, known, lag }
    }

    /// Its name.
    pub fn id(&self) -> SubscriberId {
        self.subscriber.id()
    }

    /// Says more of it, for those who list subscribers.
    pub fn describe(&self, attributes: Vec<(String, String)>, since: u64) {
        self.subscriber.describe(attributes, since);
    }

    /// What it follows.
    pub fn subscription(&self) -> Subscription {
        self.subscriber.subscription()
    }

    /// To change what it follows from elsewhere.
    pub fn remote(&self) -> Remote {
        let (shard, subscriber) = (Arc::clone(&self.shard), Arc::clone(&self.subscriber));
        Remote { hub: Arc::clone(&self.hub), shard, subscriber }
    }

    /// The place that it began after.
    pub fn began(&self) -> EventId {
        self.began
    }

    /// The hub that it follows.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Follows `topics` from now on, which are all that it follows then.
    ///
    /// # Errors
    /// There are too many.
    pub fn change(&self, topics: Vec<Selector>) -> Result<(), SubscriptionError> {
        self.remote().change(topics)
    }

    /// What comes next.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match self.subscriber.next(cx.waker()) {
                Next::Event(event) => return Poll::Ready(Step::Event(event)),
                Next::Nothing => return Poll::Pending,
                Next::Ended => return Poll::Ready(Step::Ended),
                Next::Behind(cursor) => {
                    let core = self.hub.core.lock();
                    let lost = refill(&core, &self.subscriber, cursor, self.known);
                    self.known = core.losses();
                    if lost && self.lag == Lag::Disconnect {
                        return Poll::Ready(Step::Lagged);
                    }
                }
            }
        }
    }
}

/// Gives a subscriber what the history has after `cursor`. True if something before that is missing
/// that went after what is `known`.
pub(super) fn refill(
    core: &wharf_hub::Hub,
    subscriber: &Subscriber,
    cursor: EventId,
    known: u64,
) -> bool {
    let replay = core.replay(&subscriber.subscription(), cursor, REFILL, known);
    subscriber.refill(replay.events, replay.cursor, replay.head);
    replay.lost
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shard.remove(&self.subscriber);
    }
}

/// Changes what a [`Follower`] follows, wherever that is. To be dropped before the follower is.
#[derive(Clone)]
pub struct Remote {
    hub: Arc<Hub>,
    shard: Arc<Shard>,
    subscriber: Arc<Subscriber>,
}

impl Remote {
    /// What it follows.
    pub fn subscription(&self) -> Subscription {
        self.subscriber.subscription()
    }

    /// See [`Follower::change`].
    ///
    /// # Errors
    /// There are too many.
    pub fn change(&self, topics: Vec<Selector>) -> Result<(), SubscriptionError> {
        let subscription = self.subscription().with_topics(topics)?;
        let core = self.hub.core.lock();
        self.shard.change(&self.subscriber, subscription, core.position());
        Ok(())
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("subscriber", &self.subscriber).finish_non_exhaustive()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("subscriber", &self.subscriber).finish_non_exhaustive()
    }
}
