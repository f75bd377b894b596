//! The drain: one value that every task hangs on. It tells them that the server is leaving, waits
//! until they are gone, and cuts off what outlives the limit.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::future::FutureExt as _;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long the drain waits for work to end before it is cut off.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How long a connection without an exchange is kept after a takeover, for the request that its
/// client may just be sending: nobody else can answer that one.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones are the same drain.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    handed_over: Arc<AtomicBool>,
    draining: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// A drain that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns `future` on the current runtime. It is waited for when draining, and dropped where it
    /// stands when the limit has passed.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(&tokio::runtime::Handle::current(), future)
    }

    /// [`Drain::spawn`] on another runtime.
    pub fn spawn_on<F>(&self, runtime: &tokio::runtime::Handle, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Not an `async` block: it would have room for the future twice.
        let cut_off = future.with_cancellation_token_owned(self.ended.clone()).map(drop);
        self.tasks.spawn_on(cut_off, runtime)
    }

    /// Keeps the drain waiting for as long as the token lives; for work that is not a task.
    pub fn token(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Asks everything to finish what it has begun.
    pub fn begin(&self) {
        self.draining.cancel();
        self.tasks.close();
    }

    /// [`Drain::begin`] where another process goes on serving: there is time, so no client that was
    /// promised a connection is to notice.
    pub fn begin_handed_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.begin();
    }

    /// Whether another process goes on serving; known when draining begins.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// How long after the drain's beginning connections without an exchange are kept: nothing, or
    /// [`PATIENCE`].
    pub fn patience(&self) -> Duration {
        if self.is_handed_over() { PATIENCE } else { Duration::ZERO }
    }

    /// Whether [`Drain::begin`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when draining begins; at once if it has.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.draining.cancelled()
    }

    /// Runs `future` unless draining begins before it is ready.
    pub async fn unless_draining<F: Future>(&self, future: F) -> Option<F::Output> {
        self.draining.run_until_cancelled(future).await
    }

    /// Tasks that are still running.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Begins the drain and waits until every task is gone or `limit` has passed; what is left is
    /// then dropped. True if all ended by themselves.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.begin();
        let clean = tokio::time::timeout(limit, self.tasks.wait()).await.is_ok();
        self.ended.cancel();
        if !clean {
            // Dropping futures takes a poll each; do not wait for a guest that will not yield.
            let _timed_out = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        }
        clean
    }
}
