//! Whether an instance is at work, for those who wait for what it does next: one that rests waits for
//! something itself, one that works may be about to give it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// It is being polled.
const RUNNING: u8 = 1;
/// It is to be polled.
const WOKEN: u8 = 2;

/// The state of one instance's task. Also the waker that the instance gets, to see what wakes it.
pub struct Pulse {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
    waiters: Mutex<Vec<Waker>>,
}

impl Default for Pulse {
    /// Of an instance that is about to begin.
    fn default() -> Self {
        Self { state: AtomicU8::new(WOKEN), task: Mutex::default(), waiters: Mutex::default() }
    }
}

impl Pulse {
    /// The instance is polled, by this task.
    pub fn begin(&self, task: &Waker) {
        let mut known = self.task.lock();
        if known.as_ref().is_none_or(|known| !known.will_wake(task)) {
            *known = Some(task.clone());
        }
        drop(known);
        self.state.store(RUNNING, Ordering::SeqCst);
    }

    /// It has been polled, and goes on when something wakes it.
    pub fn rest(&self) {
        let before = self.state.fetch_and(!RUNNING, Ordering::SeqCst);
        if before & WOKEN == 0 {
            self.tell();
        }
    }

    /// It is given to another task, which polls it at once.
    pub fn moves(&self) {
        self.state.store(WOKEN, Ordering::SeqCst);
    }

    /// It is over.
    pub fn end(&self) {
        self.state.store(0, Ordering::SeqCst);
        self.tell();
    }

    /// Whether it is at work; `waker` is woken when it rests then.
    pub fn is_at_work(&self, waker: &Waker) -> bool {
        if self.state.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut waiters = self.waiters.lock();
        if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
            waiters.push(waker.clone());
        }
        drop(waiters);
        // It may have come to rest before the waker was there.
        self.state.load(Ordering::SeqCst) != 0
    }

    fn tell(&self) {
        let mut waiters = self.waiters.lock();
        if waiters.is_empty() {
            return;
        }
        let told = std::mem::take(&mut *waiters);
        drop(waiters);
        told.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Pulse {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.state.fetch_or(WOKEN, Ordering::SeqCst);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.state.load(Ordering::Relaxed)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn those_who_wait_are_told_when_it_rests() {
        let (task, waiter) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (task_waker, waker) =
            (Waker::from(Arc::clone(&task)), Waker::from(Arc::clone(&waiter)));
        let pulse = Arc::new(Pulse::default());
        let told = || waiter.0.load(Ordering::SeqCst);

        assert!(pulse.is_at_work(&waker), "it is about to begin");
        pulse.begin(&task_waker);
        Waker::from(Arc::clone(&pulse)).wake();
        pulse.rest();
        assert_eq!((told(), task.0.load(Ordering::SeqCst)), (0, 1), "woken while it was polled");

        assert!(pulse.is_at_work(&waker));
        pulse.begin(&task_waker);
        pulse.rest();
        assert_eq!(told(), 1, "asked twice, told once");
        assert!(!pulse.is_at_work(&waker));

        pulse.wake_by_ref();
        assert!(pulse.is_at_work(&waker));
        pulse.begin(&task_waker);
        pulse.end();
        assert_eq!(told(), 2);
    }
}
