//! The instances of one plugin version on one core: which worker takes a call, and what a worker
//! shares with the rest. All of it is bookkeeping under two short locks; the work is in `worker`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use http::Response;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::Handle;
use wasmtime_wasi_http::{FieldMap, WasiBody};

use super::Failure;
use super::call::{Call, CallBody, Job, Place, Reply, Work};
use super::lane::Lane;
use super::program::Program;
use super::pulse::Pulse;
use super::state::Environment;
use super::worker;
use crate::drain::Drain;

/// How long a plugin whose instance was ended for its CPU time starts its instances in the heavy
/// lane at once, so that it does not even take a slice of the cores.
const HEAVY_PENALTY: Duration = Duration::from_secs(10);

/// What the instances of one plugin version share over all cores.
#[derive(Debug)]
pub struct Crew {
    /// The plugin's grants.
    pub environment: Arc<Environment>,
    /// The code that new instances run; replaced when better code is there.
    pub program: arc_swap::ArcSwap<Program>,
    /// Tracks the workers.
    pub drain: Drain,
    /// Where instances go that use the CPU for long.
    pub lane: Arc<Lane>,
    /// Counts the instances of all versions of the plugin.
    gauge: Gauge,
    /// Counts up when `program` is replaced: workers of an older generation take no more calls.
    generation: AtomicU64,
    retired: AtomicBool,
    instances: AtomicUsize,
    /// Milliseconds since `started` until which new workers begin in the heavy lane.
    heavy_until: AtomicU64,
    started: std::time::Instant,
}

impl Crew {
    /// No instances yet.
    pub fn new(
        environment: Arc<Environment>,
        program: Program,
        drain: Drain,
        lane: Arc<Lane>,
        gauge: Gauge,
    ) -> Arc<Self> {
        Arc::new(Self {
            environment,
            program: arc_swap::ArcSwap::from_pointee(program),
            drain,
            lane,
            gauge,
            generation: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            instances: AtomicUsize::new(0),
            heavy_until: AtomicU64::new(0),
            started: std::time::Instant::now(),
        })
    }

    /// Replaces the code; instances of the old code end when their calls do.
    pub fn upgrade(&self, program: Program) {
        self.program.store(Arc::new(program));
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this version is no longer served.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Instances that exist now.
    pub fn instances(&self) -> usize {
        self.instances.load(Ordering::Relaxed)
    }

    /// The plugin used the CPU beyond its limit.
    pub fn penalise(&self) {
        let until = self.started.elapsed() + HEAVY_PENALTY;
        self.heavy_until.store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether new instances begin in the heavy lane.
    pub fn is_penalised(&self) -> bool {
        let until = self.heavy_until.load(Ordering::Relaxed);
        until != 0 && self.started.elapsed().as_millis() < u128::from(until)
    }
}

/// The workers of one plugin version on one core.
pub struct InstanceSet {
    /// What all cores share.
    pub crew: Arc<Crew>,
    runtime: Handle,
    workers: Mutex<Vec<Arc<WorkerHandle>>>,
}

impl InstanceSet {
    /// An empty set whose workers run on `runtime`.
    pub fn new(crew: &Arc<Crew>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { crew: Arc::clone(crew), runtime, workers: Mutex::new(Vec::new()) })
    }

    /// Gives the job to an instance that has room, or to a new one.
    pub fn dispatch(self: &Arc<Self>, job: Job) {
        let program = self.crew.program.load();
        let limits = &self.crew.environment.manifest.instances;
        let capacity = if program.is_concurrent() && program.mode() == super::manifest::Mode::Reuse
        {
            limits.concurrent as usize
        } else {
            1
        };
        let generation = self.crew.generation.load(Ordering::Relaxed);
        let mut workers = self.workers.lock();
        // A job that already saw an instance fail under it gets one of its own.
        let has_room = |worker: &&Arc<WorkerHandle>| {
            !job.retried && worker.generation == generation && worker.has_room(capacity)
        };
        let light = workers.iter().filter(|worker| !worker.is_heavy()).find(has_room);
        if let Some(worker) = light.or_else(|| workers.iter().find(has_room)) {
            worker.enter(job);
            return;
        }
        let worker = Arc::new(WorkerHandle {
            set: Arc::clone(self),
            generation,
            capacity: if job.retried { 1 } else { capacity },
            reuse: if program.mode() == super::manifest::Mode::Reuse { limits.reuse } else { 1 },
            inner: Mutex::new(Inner::default()),
            in_flight: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            saturated: AtomicBool::new(false),
            heavy: AtomicBool::new(self.crew.is_penalised()),
            turns: AtomicU64::new(0),
            pulse: Arc::default(),
        });
        worker.enter(job);
        workers.push(Arc::clone(&worker));
        self.crew.instances.fetch_add(1, Ordering::Relaxed);
        self.crew.gauge.inc();
        drop(workers);
        worker::spawn(worker, Arc::clone(&program));
    }

    /// Wakes every worker, so that idle ones of an old generation end.
    pub fn wake_all(&self) {
        for worker in self.workers.lock().iter() {
            worker.wake();
        }
    }

    /// Stops giving calls to these instances; idle ones end now, busy ones when their calls do.
    pub fn retire(&self) {
        self.crew.retired.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    /// Ends whatever still runs.
    pub fn kill(&self, failure: &Failure) {
        for worker in self.workers.lock().iter() {
            worker.inner.lock().killed.get_or_insert_with(|| failure.clone());
            worker.wake();
        }
    }

    /// The runtime of this set's core.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn remove(&self, worker: &Arc<WorkerHandle>) {
        let mut workers = self.workers.lock();
        if let Some(index) = workers.iter().position(|other| Arc::ptr_eq(other, worker)) {
            workers.remove(index);
            self.crew.instances.fetch_sub(1, Ordering::Relaxed);
            self.crew.gauge.dec();
        }
    }
}

impl fmt::Debug for InstanceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSet").field("workers", &self.workers.lock().len()).finish()
    }
}

/// What one worker shares: its inbox, its running calls, and how it is doing.
pub struct WorkerHandle {
    set: Arc<InstanceSet>,
    generation: u64,
    capacity: usize,
    reuse: u32,
    inner: Mutex<Inner>,
    /// Calls in the inbox or running.
    in_flight: AtomicUsize,
    closed: AtomicBool,
    /// The guest applies back-pressure.
    saturated: AtomicBool,
    heavy: AtomicBool,
    /// Turns of the store's event loop: a guest that spins takes none.
    turns: AtomicU64,
    pulse: Arc<Pulse>,
}

#[derive(Default)]
struct Inner {
    inbox: VecDeque<Job>,
    running: Vec<Running>,
    begun: u32,
    /// Calls begun since the instance was last idle: each has the CPU limit to itself.
    begun_since_idle: u32,
    killed: Option<Failure>,
    waker: Option<Waker>,
}

/// A call that runs in an instance.
struct Running {
    call: Arc<Call>,
    reply: Option<Reply>,
    place: std::sync::Weak<Place>,
    replay: Option<Replay>,
}

impl Running {
    fn is_abandoned(&self) -> bool {
        self.call.is_abandoned() || self.reply.as_ref().is_some_and(Reply::is_closed)
    }
}

/// What is needed to begin a safe request without a body again elsewhere.
pub struct Replay {
    /// Method and target.
    pub method: http::Method,
    /// Scheme, authority, path and query.
    pub uri: http::Uri,
    /// Fields, shared with the guest's copy.
    pub headers: FieldMap,
}

/// What a worker does next.
#[expect(clippy::large_enum_variant, reason = "made once a turn and taken apart at once")]
pub enum Step {
    /// Begin this call.
    Begin(Job),
    /// Nothing now; the waker is registered.
    Wait,
    /// Nothing ever again.
    End,
}

impl WorkerHandle {
    /// The set it belongs to.
    pub fn set(&self) -> &Arc<InstanceSet> {
        &self.set
    }

    /// The plugin's grants and limits.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.set.crew.environment
    }

    /// Calls in the inbox or running.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it has moved to the heavy lane.
    pub fn is_heavy(&self) -> bool {
        self.heavy.load(Ordering::Relaxed)
    }

    /// Moves to the heavy lane: it finishes what it has begun; the rest goes elsewhere.
    /// True: it moves.
    pub fn become_heavy(&self) -> bool {
        self.heavy.store(true, Ordering::Relaxed);
        self.return_inbox();
        true
    }

    /// Moves back to its core, unless the plugin has been penalised.
    pub fn become_light(&self) -> bool {
        if self.set.crew.is_penalised() {
            return false;
        }
        self.heavy.store(false, Ordering::Relaxed);
        true
    }

    /// Whether it is at work.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Turns of the event loop so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Calls begun since the instance was last idle.
    pub fn begun_since_idle(&self) -> u32 {
        self.inner.lock().begun_since_idle
    }

    /// Wakes the worker's task.
    pub fn wake(&self) {
        if let Some(waker) = &self.inner.lock().waker {
            waker.wake_by_ref();
        }
    }

    /// Why it should end now, if it should: it was killed from outside.
    pub fn killed(&self) -> Option<Failure> {
        self.inner.lock().killed.clone()
    }

    /// Whether every call that runs here has been abandoned, and there is one.
    pub fn is_abandoned(&self) -> bool {
        let inner = self.inner.lock();
        !inner.running.is_empty() && inner.running.iter().all(Running::is_abandoned)
    }

    /// Whether one of the calls that run here waits to be told that its client has left.
    pub fn is_attended(&self) -> bool {
        self.inner.lock().running.iter().any(|running| running.call.exchange.is_attended())
    }

    fn has_room(&self, capacity: usize) -> bool {
        let in_flight = self.in_flight();
        // A heavy instance takes one call at a time: what it does is CPU work.
        let capacity = if self.is_heavy() { 1 } else { capacity.min(self.capacity) };
        in_flight < capacity
            && !self.closed.load(Ordering::Relaxed)
            && !self.saturated.load(Ordering::Relaxed)
            && !self.inner.lock().running.iter().any(|running| running.call.is_abandoned())
    }

    fn enter(&self, job: Job) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.begun += 1;
        if inner.begun >= self.reuse {
            self.closed.store(true, Ordering::Relaxed);
        }
        inner.inbox.push_back(job);
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    /// One turn of the event loop: what to do next, given whether the guest takes calls now.
    pub fn step(&self, ready: bool, waker: &Waker) -> Step {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.saturated.store(!ready, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        if ready {
            while let Some(job) = inner.inbox.pop_front() {
                if job.reply.is_closed() {
                    // Its client left before it began.
                    self.in_flight.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                return Step::Begin(job);
            }
        } else if !inner.inbox.is_empty() && !inner.running.is_empty() {
            drop(inner);
            self.return_inbox();
            inner = self.inner.lock();
        }
        let stale = self.generation != self.set.crew.generation.load(Ordering::Relaxed)
            || self.set.crew.is_retired();
        if stale {
            self.closed.store(true, Ordering::Relaxed);
        }
        if self.closed.load(Ordering::Relaxed) && inner.inbox.is_empty() && self.in_flight() == 0 {
            return Step::End;
        }
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
        Step::Wait
    }

    /// The worker rests for long enough: it takes no more calls, unless one has just come in.
    pub fn close_if_idle(&self) -> bool {
        // Under the set's lock, because `dispatch` chooses under it.
        let _choosing = self.set.workers.lock();
        if self.in_flight() > 0 {
            return false;
        }
        self.closed.store(true, Ordering::Relaxed);
        true
    }

    /// The place of a running call.
    pub fn place_of(&self, call: &Arc<Call>) -> Option<Arc<Place>> {
        let inner = self.inner.lock();
        let running = inner.running.iter().find(|running| Arc::ptr_eq(&running.call, call))?;
        running.place.upgrade()
    }

    /// A running call has done a request's worth of work: the CPU limit of one more is its to use.
    pub fn count_another(&self) {
        let mut inner = self.inner.lock();
        inner.begun_since_idle = inner.begun_since_idle.saturating_add(1);
    }

    /// A call begins; its place frees it from the instance when it is over.
    pub fn begin(
        self: &Arc<Self>,
        call: &Arc<Call>,
        reply: Reply,
        permit: crate::admit::Permit,
        replay: Option<Replay>,
    ) -> Arc<Place> {
        let _only_once = call.worker.set(Arc::downgrade(self));
        let place = Place::new(Arc::clone(call), Arc::clone(self), permit);
        let mut inner = self.inner.lock();
        if inner.running.is_empty() {
            inner.begun_since_idle = 0;
        }
        inner.begun_since_idle += 1;
        inner.running.push(Running {
            call: Arc::clone(call),
            reply: Some(reply),
            place: Arc::downgrade(&place),
            replay,
        });
        place
    }

    /// Answers a running call, once; later answers are dropped.
    pub fn answer(
        self: &Arc<Self>,
        call: &Arc<Call>,
        answer: Result<Response<WasiBody>, Failure>,
    ) -> bool {
        let (reply, place) = {
            let mut inner = self.inner.lock();
            let Some(running) =
                inner.running.iter_mut().find(|running| Arc::ptr_eq(&running.call, call))
            else {
                return false;
            };
            running.replay = None;
            let (Some(reply), Some(place)) = (running.reply.take(), running.place.upgrade()) else {
                return false;
            };
            (reply, place)
        };
        let Reply::Request(reply) = reply else { return false };
        let answer = answer.map(|mut response| {
            response.extensions_mut().insert(Arc::clone(&self.pulse));
            response.map(|body| {
                let body = CallBody::new(body, Arc::clone(call), place);
                WasiBody::new(body)
            })
        });
        // A caller that has left drops the body with the answer, which abandons the call.
        let _caller_left = reply.send(answer);
        true
    }

    /// The guest has returned from the call of an event.
    pub fn told(&self, call: &Arc<Call>) {
        let mut inner = self.inner.lock();
        let running = inner.running.iter_mut().find(|running| Arc::ptr_eq(&running.call, call));
        let reply = running.and_then(|running| running.reply.take());
        drop(inner);
        if let Some(Reply::Event(reply)) = reply {
            let _caller_left = reply.send(Ok(()));
        }
    }

    /// A call is over: its place is free.
    pub fn leave(&self, call: &Arc<Call>) {
        let mut inner = self.inner.lock();
        // A call that leaves without an answer was lost with its instance: `fail_all` answers it.
        inner
            .running
            .retain(|running| running.reply.is_some() || !Arc::ptr_eq(&running.call, call));
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    /// No instance could be made: what waited for it fails.
    pub fn fail_inbox(&self, failure: &Failure) {
        self.closed.store(true, Ordering::Relaxed);
        let inbox = std::mem::take(&mut self.inner.lock().inbox);
        self.in_flight.fetch_sub(inbox.len(), Ordering::Relaxed);
        for job in inbox {
            job.reply.fail(failure.clone());
        }
    }

    /// The instance is lost. Calls that have not begun, and safe ones that were merely beside the
    /// culprit, begin again elsewhere; the others fail; bodies under way end with an error.
    pub fn fail_all(self: &Arc<Self>, failure: &Failure) {
        self.closed.store(true, Ordering::Relaxed);
        let running = std::mem::take(&mut self.inner.lock().running);
        let alone = running.len() == 1;
        for running in running {
            running.call.fail(failure.clone());
            let Some(reply) = running.reply else { continue };
            match running.replay {
                Some(replay) if !alone && !reply.is_closed() => {
                    self.replay(&running.call, reply, replay);
                }
                _ => reply.fail(failure.clone()),
            }
        }
        self.return_inbox();
    }

    fn replay(&self, call: &Arc<Call>, reply: Reply, replay: Replay) {
        let mut request = http::Request::new(super::empty_body());
        *request.method_mut() = replay.method;
        *request.uri_mut() = replay.uri;
        *request.headers_mut() = http::HeaderMap::from(replay.headers);
        // The first place gives its permit back when the lost store is dropped; the second attempt
        // runs beyond the limit for that moment.
        let call = Call::new(&call.exchange, call.next.clone(), call.timeout);
        super::set_token(request.headers_mut(), &call.token);
        let permit = crate::admit::Permit::unlimited();
        let work = Work::Request(request);
        self.set.dispatch(Job { call, work, reply, permit, retried: true });
    }

    fn return_inbox(&self) {
        let inbox = std::mem::take(&mut self.inner.lock().inbox);
        self.in_flight.fetch_sub(inbox.len(), Ordering::Relaxed);
        for job in inbox {
            self.set.dispatch(job);
        }
    }

    /// The worker is gone.
    pub fn end(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Relaxed);
        self.pulse.end();
        self.set.remove(self);
        self.return_inbox();
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
