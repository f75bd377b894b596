//! The pool's guards: each undoes its part of the count when it is dropped, however its owner ends.

use std::sync::Arc;

use tokio::sync::Notify;

use super::UpstreamError;
use super::grants::Origin;
use super::pool::Shared;

/// Requests that wait for a connection to one origin; more are turned away at once.
const MAX_WAITING: usize = 1024;

/// The right to have one connection open.
pub(super) struct Slot {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Arc<Origin>,
}

/// Ends the wait of those whom [`Entry::is_probed`] holds back, however the attempt ends.
pub(super) struct Probe<'a> {
    pub(super) shared: &'a Shared,
    pub(super) origin: &'a Origin,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.open -= 1;
        if let Some(entry) = state.origins.get_mut(&self.origin) {
            entry.open -= 1;
            entry.freed.notify_one();
        }
        state.forget_if_unused(&self.origin);
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.shared.state.lock().origins.get_mut(self.origin) {
            entry.is_probed = false;
            entry.freed.notify_waiters();
        }
    }
}

/// Counts a request that waits for a connection, which keeps the origin's entry alive.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    origin: &'a Origin,
    pub(super) freed: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    /// Refused where too many wait already.
    pub(super) fn new(shared: &'a Shared, origin: &'a Arc<Origin>) -> Result<Self, UpstreamError> {
        let mut state = shared.state.lock();
        let entry = state.origins.entry(Arc::clone(origin)).or_default();
        if entry.waiting >= MAX_WAITING {
            return Err(UpstreamError::ConnectionLimitReached);
        }
        entry.waiting += 1;
        let freed = Arc::clone(&entry.freed);
        Ok(Self { shared, origin, freed })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(entry) = state.origins.get_mut(self.origin) {
            entry.waiting -= 1;
        }
        state.forget_if_unused(self.origin);
    }
}
