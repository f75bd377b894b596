//! Admission: how much runs at once, in all and in each plugin. Past the limit a request waits for a
//! bounded time, in a bounded queue, and is then refused with 503 and `Retry-After`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::http::rejection::Rejection;

/// Requests in plugins at once, over the whole server.
pub const MAX_REQUESTS: usize = 10_000;
/// How long a request waits for a place before it is refused.
pub const ADMIT_WAIT: Duration = Duration::from_secs(1);
/// Requests that may wait at one gate, as a multiple of its places.
const QUEUE_FACTOR: usize = 4;
/// What a refused client is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The server's gate.
#[derive(Debug)]
pub struct Admission {
    all: Gate,
    wait: Duration,
}

/// So many at once, so many waiting.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    size: usize,
}

/// The right to run; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _place: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Holds no place: for work that was admitted before and begins again.
    pub fn unlimited() -> Self {
        Self { _place: None }
    }
}

impl Gate {
    /// `size` places.
    pub fn new(size: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(size)),
            waiting: AtomicUsize::new(0),
            max_waiting: size.saturating_mul(QUEUE_FACTOR),
            size,
        }
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.size - self.places.available_permits().min(self.size)
    }

    async fn enter(&self, wait: Duration) -> Result<Permit, Rejection> {
        let overloaded = || Rejection::Overloaded { retry_after: RETRY_AFTER };
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                return Ok(Permit { _place: Some(place) });
            }
            Err(TryAcquireError::Closed) => return Err(overloaded()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _waiting = Waiting::begin(&self.waiting, self.max_waiting).ok_or_else(overloaded)?;
        match tokio::time::timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Permit { _place: Some(place) }),
            Ok(Err(_)) | Err(_) => Err(overloaded()),
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// At most `requests` at once; each waits at most `wait` at each gate.
    pub fn new(requests: usize, wait: Duration) -> Self {
        Self { all: Gate::new(requests), wait }
    }

    /// A place in the server.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] after the wait, or at once where too many wait.
    pub async fn enter(&self) -> Result<Permit, Rejection> {
        self.all.enter(self.wait).await
    }

    /// A place in a plugin.
    ///
    /// # Errors
    /// As [`Admission::enter`].
    pub async fn enter_plugin(&self, gate: &Gate) -> Result<Permit, Rejection> {
        gate.enter(self.wait).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_gate_refuses_after_the_wait() {
        let admission = Admission::new(1, ADMIT_WAIT);
        let _held = admission.enter().await.expect("the first place is free");
        let begun = tokio::time::Instant::now();

        let refused = admission.enter().await;

        assert!(matches!(refused, Err(Rejection::Overloaded { .. })));
        assert_eq!(begun.elapsed(), ADMIT_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_admits_who_waits() {
        let admission = Arc::new(Admission::new(1, ADMIT_WAIT));
        let held = admission.enter().await.expect("the first place is free");

        let waits = async { admission.enter().await.is_ok() };
        let gives_back = async { drop(held) };
        let (admitted, ()) = tokio::join!(waits, gives_back);

        assert!(admitted);
        assert_eq!(admission.all.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let gate = Gate::new(0);
        let begun = tokio::time::Instant::now();

        let refused = gate.enter(ADMIT_WAIT).await;

        assert!(refused.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
