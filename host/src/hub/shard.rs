//! One core's part of the hub: its mailbox, and the task that offers what is in it. An event for a few
//! that is published on their own core passes the mailbox by.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use wharf_hub::{Event, EventId, Subscriber, Subscription, Topic};

use crate::drain::Drain;

/// Events in a mailbox from which on publishers wait.
const MAX_MAILBOX: usize = 8192;
/// Events that are offered before those who wait for them are woken, where so many are there: they
/// leave in one write then. A quarter of what a subscriber queues.
const TOGETHER: usize = 16;
/// Subscribers that a publisher offers an event to itself, at the most, and patterns that it asks.
const FEW: usize = 16;
/// Between two events that go that way: more of them leave in fewer writes by the mailbox.
const BETWEEN_PROMPT: Duration = Duration::from_micros(500);

/// One core's subscribers.
#[derive(Debug, Default)]
pub(super) struct Shard {
    members: Mutex<wharf_hub::Shard>,
    mailbox: Mutex<Mailbox>,
    /// That of its core.
    thread: OnceLock<ThreadId>,
    subscribers: AtomicUsize,
    mail: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Mailbox {
    events: Vec<Arc<Event>>,
    /// Events that were in it are being offered: further ones come behind them.
    is_serving: bool,
    /// When an event last passed it by.
    prompt: Option<Instant>,
}

impl Shard {
    /// A shard whose task runs on `core`.
    pub(super) fn start(core: &Handle, background: &Drain) -> Arc<Self> {
        let shard = Arc::<Self>::default();
        let served = Arc::clone(&shard);
        let drain = background.clone();
        background.spawn_on(core, async move {
            drain.unless_draining(served.serve()).await;
        });
        shard
    }

    async fn serve(&self) {
        let _only_once = self.thread.set(std::thread::current().id());
        let mut wake: Vec<Waker> = Vec::new();
        loop {
            self.mail.notified().await;
            let mail = {
                let mut mailbox = self.mailbox.lock();
                mailbox.is_serving = true;
                std::mem::take(&mut mailbox.events)
            };
            self.emptied.notify_waiters();
            for events in mail.chunks(TOGETHER) {
                for (index, event) in events.iter().enumerate() {
                    if index > 0 {
                        // Offering to thousands takes a while, which belongs to others as well.
                        tokio::task::yield_now().await;
                    }
                    self.members.lock().offer(event, &mut wake);
                }
                // Without the lock: what is woken may leave.
                wake.drain(..).for_each(Waker::wake);
                // The woken go first: their events go out before the next are offered.
                tokio::task::yield_now().await;
            }
            wake.shrink_to(1024);
            self.mailbox.lock().is_serving = false;
        }
    }

    /// Gives an event to those who are here, by the mailbox or at once. Then `wake` gets the wakers of
    /// those who wait.
    pub(super) fn put(&self, event: &Arc<Event>, wake: &mut Vec<Waker>) {
        if self.subscribers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut mailbox = self.mailbox.lock();
        if self.is_prompt(&mut mailbox) && self.members.lock().offer_to_few(event, FEW, wake) {
            return;
        }
        mailbox.events.push(Arc::clone(event));
        let first = mailbox.events.len() == 1;
        drop(mailbox);
        if first {
            self.mail.notify_one();
        }
    }

    /// Whether an event may pass the mailbox by: on this core, behind no other, once in a while.
    fn is_prompt(&self, mailbox: &mut Mailbox) -> bool {
        if mailbox.is_serving
            || !mailbox.events.is_empty()
            || self.thread.get() != Some(&std::thread::current().id())
        {
            return false;
        }
        let now = Instant::now();
        let is_due = mailbox.prompt.is_none_or(|last| now - last >= BETWEEN_PROMPT);
        if is_due {
            mailbox.prompt = Some(now);
        }
        is_due
    }

    pub(super) fn has_room(&self) -> bool {
        self.mailbox.lock().events.len() < MAX_MAILBOX
    }

    /// Waits until there is room.
    pub(super) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.has_room() {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until everything that was put in has been offered.
    pub(super) async fn settled(&self) {
        loop {
            {
                let mailbox = self.mailbox.lock();
                if mailbox.events.is_empty() && !mailbox.is_serving {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn add(&self, subscriber: &Arc<Subscriber>) {
        self.members.lock().add(subscriber);
        self.subscribers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, subscriber: &Arc<Subscriber>) {
        self.members.lock().remove(subscriber);
        self.subscribers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn change(
        &self,
        subscriber: &Arc<Subscriber>,
        subscription: Subscription,
        position: EventId,
    ) {
        self.members.lock().change(subscriber, subscription, position);
    }

    pub(super) fn all(&self) -> Vec<Arc<Subscriber>> {
        self.members.lock().all()
    }

    pub(super) fn audience(&self, topic: &Topic) -> usize {
        self.members.lock().audience(topic)
    }
}

#[cfg(test)]
mod tests {
    use wharf_hub::{Content, Draft, Hub, Next, Run, SelectorKind, SubscriberId};

    use super::*;

    fn publish(hub: &mut Hub) -> Arc<Event> {
        let topic = Topic::parse("a").unwrap();
        hub.publish(Draft::new(topic, Vec::new(), Content::text("")).unwrap(), 0)
    }

    #[tokio::test]
    async fn events_for_a_few_come_at_once_and_in_their_order() {
        let drain = Drain::new();
        let shard = Shard::start(&Handle::current(), &drain);
        tokio::task::yield_now().await;
        let mut hub = Hub::new(Run(1));
        let subscription = Subscription::new("", [(SelectorKind::Exact, "a")], []).unwrap();
        let one = Subscriber::new(SubscriberId(1), subscription, hub.position());
        one.refill(Vec::new(), hub.position(), true);
        shard.add(&one);
        let mut wake = Vec::new();
        let next = || match one.next(Waker::noop()) {
            Next::Event(event) => event.id().volatile,
            _ => 0,
        };
        assert_eq!(next(), 0);

        shard.put(&publish(&mut hub), &mut wake);
        assert_eq!((next(), wake.len()), (1, 1));

        // Those that follow fast share a mailbox, and whatever comes while it has any.
        shard.mailbox.lock().prompt = Some(Instant::now() + Duration::from_secs(60));
        shard.put(&publish(&mut hub), &mut wake);
        shard.mailbox.lock().prompt = None;
        shard.put(&publish(&mut hub), &mut wake);
        assert_eq!(next(), 0);
        while shard.mailbox.lock().is_serving || !shard.mailbox.lock().events.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((next(), next()), (2, 3));

        // Another thread is not of this core.
        let event = publish(&mut hub);
        std::thread::scope(|scope| {
            scope.spawn(|| shard.put(&event, &mut Vec::new()));
        });
        assert_eq!(next(), 0);
    }
}
