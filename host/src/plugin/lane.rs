//! Drives a worker: accounts its CPU time, moves it off its core when it spins, and ends it when it
//! exceeds a limit or when nobody waits for it any more.
//!
//! A core's runtime has one thread, so a guest that runs for long would stall every connection of
//! that core. Epochs make it yield after a slice; the whole worker (its future is `Send`) then moves
//! to the heavy lane, a few threads of lower priority that it shares with its like. It comes back when
//! it has had a call that was short.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::runtime::Runtime;
use tokio::time::{Instant, Sleep};

use super::Failure;
use super::engine::Clock;
use super::instances::WorkerHandle;
use super::state::{GuestClock, SLICE, thread_cpu_time};

/// How much less the heavy lane's threads weigh for the scheduler (nice value).
const HEAVY_NICE: i32 = 10;
/// CPU time a call after which an instance leaves its core even if it always gave it back
/// in time: one that takes many short turns keeps the others waiting too.
const LONG_SPELL: Duration = Duration::from_millis(50);
/// How long an instance whose callers have all left may go on before it is ended: most requests end
/// by themselves sooner, and a warm instance is worth that.
pub const ABANDON_GRACE: Duration = Duration::from_millis(50);
/// How long, where one of them waits for just that: it is about to clean up.
pub const ATTENDED_GRACE: Duration = Duration::from_secs(1);
/// How long an instance rests before it is given up.
pub const IDLE_INSTANCE: Duration = Duration::from_secs(10);

/// Threads for instances that use the CPU for long.
pub struct Lane {
    polite: Option<Runtime>,
    /// For plugins that have been ended for their CPU time: gets what nobody else wants.
    idle: Option<Runtime>,
}

impl Lane {
    /// Twice `threads` threads of lower priority.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let runtime = |name, on_start: fn()| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads.max(1))
                .thread_name(name)
                .enable_all()
                .on_thread_start(on_start)
                .build()
        };
        // On Linux both concern the calling thread only. Refused: the lane is merely less polite.
        let polite = runtime("wharf-heavy", || {
            let _refused = rustix::process::setpriority_process(None, HEAVY_NICE);
        })?;
        let idle = runtime("wharf-penalty", || {
            // A thread of this policy is preempted at once; one that is merely nice goes on for a
            // slice, and a request that comes meanwhile waits for it.
            let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let _refused =
                set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        })?;
        Ok(Self { polite: Some(polite), idle: Some(idle) })
    }

    fn handle(&self, is_penalised: bool) -> &tokio::runtime::Handle {
        let runtime = if is_penalised { &self.idle } else { &self.polite };
        runtime.as_ref().expect("the runtimes are taken only when the lane is dropped").handle()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for runtime in [self.polite.take(), self.idle.take()].into_iter().flatten() {
            // A guest that spins must not hold up the end of the process.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}

/// Spawns `work`, the life of `worker`'s instance, on its core or, where the plugin has earned it,
/// in the heavy lane.
pub fn spawn(
    worker: Arc<WorkerHandle>,
    guest: Arc<GuestClock>,
    clock: Arc<Clock>,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
) {
    let driver = Driver {
        waker: Waker::from(Arc::clone(worker.pulse())),
        guest,
        clock,
        work,
        cpu: Duration::ZERO,
        worked: false,
        stuck: Duration::ZERO,
        turns: 0,
        timer: Box::pin(tokio::time::sleep(IDLE_INSTANCE)),
        timer_is_grace: false,
        last_busy: Instant::now(),
        worker,
    };
    run(driver);
}

fn run(driver: Driver) {
    let worker = Arc::clone(&driver.worker);
    let crew = Arc::clone(&worker.set().crew);
    let handle = if worker.is_heavy() {
        crew.lane.handle(crew.is_penalised()).clone()
    } else {
        worker.set().runtime().clone()
    };
    crew.drain.spawn_on(&handle, async move {
        match driver.await {
            Outcome::Ended => worker.end(),
            Outcome::Moves(driver) => run(driver),
        }
    });
}

enum Outcome {
    Ended,
    /// To the other lane.
    Moves(Driver),
}

struct Driver {
    worker: Arc<WorkerHandle>,
    /// The worker's pulse, which sees who wakes it.
    waker: Waker,
    guest: Arc<GuestClock>,
    clock: Arc<Clock>,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// CPU time since the instance was last idle.
    cpu: Duration,
    /// It has had a call since it was last idle.
    worked: bool,
    /// CPU time since the event loop last turned.
    stuck: Duration,
    turns: u64,
    /// For rest and for the abandon grace, whichever applies; re-armed when it fires early.
    timer: Pin<Box<Sleep>>,
    timer_is_grace: bool,
    last_busy: Instant,
}

impl Driver {
    /// Whether its calls take more of the core than calls should.
    fn is_long(&self) -> bool {
        self.cpu > LONG_SPELL && self.cpu > LONG_SPELL * self.worker.begun_since_idle().max(1)
    }

    /// What exceeds the limits, if anything does.
    fn excess(&self) -> Option<Failure> {
        let limit = self.worker.environment().manifest.limits.cpu_time;
        let begun = self.worker.begun_since_idle().max(1);
        // One uninterrupted run has one request to blame; many short ones share.
        (self.stuck > limit || self.cpu > limit * begun).then_some(Failure::CpuTime { limit })
    }

    fn end_with(&self, failure: &Failure) {
        if matches!(failure, Failure::CpuTime { .. }) {
            self.worker.set().crew.penalise();
        }
        self.worker.fail_all(failure);
    }

    /// Ends a rest that is long enough or work that nobody waits for. True when the work is to be
    /// dropped.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let abandoned = self.worker.is_abandoned();
        if abandoned && !self.timer_is_grace {
            let grace = if self.worker.is_attended() { ATTENDED_GRACE } else { ABANDON_GRACE };
            self.timer.as_mut().reset(Instant::now() + grace);
        } else if !abandoned && self.timer_is_grace {
            self.timer.as_mut().reset(Instant::now() + IDLE_INSTANCE);
        }
        self.timer_is_grace = abandoned;
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer_is_grace {
                return true;
            }
            let rested = self.last_busy.elapsed();
            let is_idle = self.worker.in_flight() == 0 && rested >= IDLE_INSTANCE;
            if is_idle && self.worker.close_if_idle() {
                return true;
            }
            let rest = IDLE_INSTANCE.saturating_sub(rested).max(Duration::from_millis(100));
            self.timer.as_mut().reset(Instant::now() + rest);
        }
        false
    }
}

impl Future for DriverFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let driver = self.0.as_mut().expect("not polled after it was ready");
        let heavy = driver.worker.is_heavy();
        driver.worker.pulse().begin(cx.waker());
        let waker = driver.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        driver.clock.touch();
        driver.worked |= driver.worker.in_flight() > 0;
        let begun = driver.guest.begin_poll();
        let cpu_begun = thread_cpu_time();
        let polled = catch_unwind(AssertUnwindSafe(|| driver.work.as_mut().poll(cx)));
        // Threads wait for the CPU, those of low priority and all of a crowded machine: only what they
        // used of it counts.
        let elapsed = begun.elapsed();
        let used = match elapsed < SLICE && !heavy {
            true => elapsed,
            false => thread_cpu_time().saturating_sub(cpu_begun),
        };
        match polled {
            Ok(Poll::Ready(())) => return Poll::Ready(Outcome::Ended),
            Ok(Poll::Pending) => {}
            Err(panic) => {
                // A host function panicked under the guest: that instance is lost, nothing else.
                let message = panic_message(&*panic);
                tracing::error!(
                    plugin = %driver.worker.environment().name, message, "a host function panicked"
                );
                let message = format!("host panic: {message}").into();
                driver.end_with(&Failure::Trap { message });
                return Poll::Ready(Outcome::Ended);
            }
        }
        driver.cpu += used;
        let is_idle = driver.worker.in_flight() == 0;
        let was_short = is_idle && driver.worked && driver.cpu < SLICE;
        if is_idle {
            driver.worked = false;
            driver.cpu = Duration::ZERO;
        } else {
            driver.last_busy = Instant::now();
        }
        let turns = driver.worker.turns();
        driver.stuck = if turns == driver.turns { driver.stuck + used } else { Duration::ZERO };
        driver.turns = turns;

        let failure = driver.worker.killed().or_else(|| driver.excess());
        if let Some(failure) = failure {
            driver.end_with(&failure);
            return Poll::Ready(Outcome::Ended);
        }
        if driver.poll_timer(cx) {
            driver.end_with(&Failure::NoResponse);
            return Poll::Ready(Outcome::Ended);
        }
        let moves = if driver.guest.take_sliced() || driver.is_long() {
            !heavy && driver.worker.become_heavy()
        } else {
            heavy && was_short && driver.worker.become_light()
        };
        if moves {
            driver.worker.pulse().moves();
            let driver = self.0.take().expect("it was there above");
            return Poll::Ready(Outcome::Moves(driver));
        }
        driver.worker.pulse().rest();
        Poll::Pending
    }
}

/// A [`Driver`] while it is polled.
struct DriverFuture(Option<Driver>);

impl IntoFuture for Driver {
    type Output = Outcome;
    type IntoFuture = DriverFuture;

    fn into_future(self) -> DriverFuture {
        DriverFuture(Some(self))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}
