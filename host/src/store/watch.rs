//! Whether a piece of work may go on: it has a deadline, whoever asked for it may have left, and one
//! that waits in a queue may have been given up. Shared by the asker and the store's thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// Who asks: an exchange, for the store.
pub trait Asker: Send + Sync {
    /// Nobody wants the answer any more.
    fn has_left(&self) -> bool;
    /// The exchange is over: what it has open is to be closed.
    fn is_over(&self) -> bool;
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The state of one piece of work.
pub(super) struct Watch {
    state: AtomicU8,
    /// When it must be done.
    pub(super) deadline: Instant,
    asker: Option<Arc<dyn Asker>>,
}

impl Watch {
    /// Work that has not begun.
    pub(super) fn new(deadline: Instant, asker: Option<Arc<dyn Asker>>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(WAITING), deadline, asker })
    }

    /// The store takes it up. False: it has been given up, or its time is over.
    pub(super) fn begin(&self) -> bool {
        let taken =
            self.state.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok() && self.may_go_on()
    }

    /// The asker waits no longer unless the store has taken it up. True: given up.
    pub(super) fn give_up_waiting(&self) -> bool {
        let given =
            self.state.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        given.is_ok()
    }

    /// The asker waits no longer, whatever happens.
    pub(super) fn give_up(&self) {
        self.state.store(GIVEN_UP, Ordering::Release);
    }

    /// Whether it may go on.
    pub(super) fn may_go_on(&self) -> bool {
        self.state.load(Ordering::Acquire) != GIVEN_UP
            && !self.asker.as_ref().is_some_and(|asker| asker.has_left())
            && Instant::now() < self.deadline
    }

    /// Whether what was opened for it is to be closed.
    pub(super) fn is_over(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| asker.has_left() || asker.is_over())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("state", &self.state).finish_non_exhaustive()
    }
}
