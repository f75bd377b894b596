//! One core's part of the hub: its mailbox, and the task that offers what is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

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

/// One core's subscribers.
#[derive(Debug, Default)]
pub(super) struct Shard {
    members: Mutex<wharf_hub::Shard>,
    mailbox: Mutex<Vec<Arc<Event>>>,
    subscribers: AtomicUsize,
    mail: Notify,
    emptied: Notify,
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
        let mut wake: Vec<Waker> = Vec::new();
        loop {
            self.mail.notified().await;
            let mail = std::mem::take(&mut *self.mailbox.lock());
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
        }
    }

    /// Puts an event into the mailbox, if anybody is here.
    pub(super) fn put(&self, event: &Arc<Event>) {
        if self.subscribers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut mailbox = self.mailbox.lock();
        mailbox.push(Arc::clone(event));
        let first = mailbox.len() == 1;
        drop(mailbox);
        if first {
            self.mail.notify_one();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.mailbox.lock().len() < MAX_MAILBOX
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
