//! Calls plugins at the times that their manifests name (`[[schedule]]`). One task for all schedules
//! of the server: it follows what is published, calls what is due, each on its plugin's core, and
//! never two calls of one name at once. What runs when draining begins is finished; only then may
//! another process go on.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Failure;
use super::event::GuestEvent;
use super::exchange::Exchange;
use super::registry::Published;
use crate::drain::Drain;
use crate::http::conn::Conn;
use crate::observe::{Metrics, RequestId};

pub mod memory;
pub mod timetable;
pub mod timing;

use self::memory::{Memory, Turn};
use self::timetable::{Due, Key, Timetable};

/// How often a process that waits for its turn looks.
const TURN_POLL: Duration = Duration::from_millis(200);
/// Longest sleep: a clock that is set is noticed after this.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// What is remembered is written at most so often, so that short intervals do not keep the disk busy.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Ends of calls that wait to be noticed; further ones wait with their task.
const ENDS: usize = 64;

/// Calls the schedules. One a server.
#[derive(Debug)]
pub struct Scheduler {
    published: Arc<Published>,
    metrics: Arc<Metrics>,
    cores: Vec<Handle>,
    drain: Drain,
    memory: Arc<Memory>,
}

/// How a plugin's schedules are doing, for `/plugins`.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<Key, ScheduleStatus>>);

/// What is told of one schedule. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScheduleStatus {
    /// Its name.
    pub name: String,
    /// For example `every 5s` or `cron */5 * * * *`.
    pub timing: String,
    /// When it will be called; none where that never comes.
    pub next: Option<u64>,
    /// A call goes on.
    pub running: bool,
    /// When the last call was due; none where this process has made none.
    pub last: Option<u64>,
    /// How it ended: `ok`, or as failures are named in the metrics.
    pub last_outcome: Option<&'static str>,
    /// Calls of this process.
    pub runs: u64,
    /// Those that failed.
    pub failures: u64,
    /// Times without a call, told with those calls.
    pub missed: u64,
}

impl Board {
    /// The schedules of a plugin, by name.
    pub fn of(&self, plugin: &str) -> Vec<ScheduleStatus> {
        let lines = self.0.lock();
        let lines = lines.iter().filter(|((owner, _), _)| **owner == *plugin);
        lines.map(|(_, status)| status.clone()).collect()
    }

    fn follow(&self, table: &Timetable) {
        let mut before = self.0.lock();
        let mut lines = BTreeMap::new();
        for (key, timing, next, running) in table.lines() {
            let known = before.remove(key);
            let mut status = known.unwrap_or_else(|| ScheduleStatus {
                name: key.1.to_string(),
                ..ScheduleStatus::default()
            });
            status.timing = timing.to_string();
            status.next = next;
            status.running = running;
            lines.insert(key.clone(), status);
        }
        *before = lines;
    }

    fn ended(&self, end: &End) {
        if let Some(status) = self.0.lock().get_mut(&end.due.key) {
            status.last = Some(end.due.at);
            status.last_outcome = Some(end.outcome);
            status.runs += 1;
            status.failures += u64::from(end.outcome != OK);
            status.missed += u64::from(end.due.missed);
        }
    }
}

const OK: &str = "ok";

/// The end of a call.
struct End {
    due: Due,
    outcome: &'static str,
}

impl Scheduler {
    /// A scheduler of what is `published`, which makes its calls on `cores` and remembers below `data`.
    pub fn new(
        published: Arc<Published>,
        metrics: Arc<Metrics>,
        cores: Vec<Handle>,
        drain: Drain,
        data: &Path,
    ) -> Self {
        let memory = Arc::new(Memory::new(data));
        Self { published, metrics, cores, drain, memory }
    }

    /// Calls what is due until draining begins, and then waits for what runs.
    pub async fn run(self) {
        let Some(Some(turn)) = self.drain.unless_draining(self.turn()).await else { return };
        let memory = Arc::clone(&self.memory);
        let remembered = tokio::task::spawn_blocking(move || memory.read()).await;
        let mut table = Timetable::new(remembered.unwrap_or_default());
        let mut changes = self.published.changes();
        let (tell, mut told) = mpsc::channel(ENDS);
        let mut written = Written::default();
        self.serve(&mut table);
        while !self.drain.is_draining() {
            for due in table.take_due(now()) {
                self.call(due, tell.clone());
            }
            self.published.schedules().follow(&table);
            let unwritten = self.write(&table, &mut written).await;
            let due = table.next().map(|next| Duration::from_millis(next.saturating_sub(now())));
            let sleep = due.unwrap_or(LONGEST_SLEEP).min(unwritten).min(LONGEST_SLEEP);
            tokio::select! {
                () = self.drain.draining() => {}
                changed = changes.changed() => match changed {
                    Ok(()) => self.serve(&mut table),
                    // Nothing will be published any more.
                    Err(_) => break,
                },
                Some(end) = told.recv() => self.ended(&mut table, &end),
                () = tokio::time::sleep(sleep) => {}
            }
        }
        // Bounded by the drain, which drops this task at its limit.
        while table.running() > 0 {
            let Some(end) = told.recv().await else { break };
            self.ended(&mut table, &end);
        }
        written.at = None;
        let _written = self.write(&table, &mut written).await;
        turn.end();
    }

    /// Waits until no other process calls the schedules.
    async fn turn(&self) -> Option<Turn> {
        let mut told = false;
        loop {
            let memory = Arc::clone(&self.memory);
            let turn = tokio::task::spawn_blocking(move || memory.try_turn()).await;
            match turn {
                Ok(Some(turn)) => return Some(turn),
                // A process that drains finishes its calls first.
                Ok(None) if !told => {
                    told = true;
                    tracing::info!("another process calls the schedules; waiting for it to end");
                }
                Ok(None) => {}
                Err(_cancelled) => return None,
            }
            tokio::time::sleep(TURN_POLL).await;
        }
    }

    fn serve(&self, table: &mut Timetable) {
        let plugins = self.published.plugins();
        let schedules = plugins.iter().flat_map(|(name, plugin)| {
            plugin.manifest.schedules.iter().map(move |schedule| (name, schedule))
        });
        table.serve(schedules, now());
    }

    fn call(&self, due: Due, tell: mpsc::Sender<End>) {
        let (owner, name) = (&due.key.0, &due.key.1);
        if due.missed > 0 {
            let (plugin, schedule, missed) = (&**owner, &**name, due.missed);
            tracing::info!(plugin, schedule, missed, "a schedule missed times");
        }
        let core = core_of(owner, self.cores.len());
        let published = Arc::clone(&self.published);
        self.drain.spawn_on(&self.cores[core], async move {
            let outcome = match told(&published, core, &due).await {
                Ok(()) => OK,
                Err(failure) => failure.label(),
            };
            // Gone only when the drain's limit has passed.
            let _scheduler_gone = tell.send(End { due, outcome }).await;
        });
    }

    fn ended(&self, table: &mut Timetable, end: &End) {
        let (plugin, schedule) = (&*end.due.key.0, &*end.due.key.1);
        self.metrics.scheduled(plugin, schedule, end.due.at, end.due.missed);
        self.published.schedules().ended(end);
        table.ended(&end.due.key, now());
    }

    /// Writes what is to be remembered, if that has changed and the last time was long enough ago;
    /// how long it may wait.
    async fn write(&self, table: &Timetable, written: &mut Written) -> Duration {
        let text = memory::print(table.remembered());
        if text == written.text {
            return LONGEST_SLEEP;
        }
        let since = written.at.map_or(WRITE_INTERVAL, |at| at.elapsed());
        if since < WRITE_INTERVAL {
            return WRITE_INTERVAL - since;
        }
        let (memory, copy) = (Arc::clone(&self.memory), text.clone());
        let done = tokio::task::spawn_blocking(move || memory.write(&copy)).await;
        match done {
            Ok(Err(error)) if !written.failed => {
                tracing::warn!(%error, "what schedules missed will not be known after a restart");
                written.failed = true;
            }
            Ok(Ok(())) => written.failed = false,
            _ => {}
        }
        *written = Written { text, at: Some(Instant::now()), failed: written.failed };
        LONGEST_SLEEP
    }
}

#[derive(Default)]
struct Written {
    text: String,
    at: Option<Instant>,
    failed: bool,
}

/// Tells the version that serves now. Where none does any more there is nothing to be done.
async fn told(published: &Published, core: usize, due: &Due) -> Result<(), Failure> {
    let Some(plugin) = published.plugin(&due.key.0) else { return Ok(()) };
    if !plugin.manifest.schedules.iter().any(|schedule| schedule.name == due.key.1) {
        return Ok(());
    }
    let (name, subject) = (Arc::clone(&due.key.1), Arc::clone(&due.key.1));
    let exchange =
        Exchange::of_event(RequestId::random().as_str(), &Conn::unconnected(core), &subject);
    let event = GuestEvent::Scheduled { name, due_ms: due.at, missed: due.missed };
    plugin.event(core, &exchange, event).await
}

/// The same core for all schedules of a plugin, and so mostly the same instance.
fn core_of(plugin: &str, cores: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    plugin.hash(&mut hasher);
    (hasher.finish() % cores.max(1) as u64) as usize
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
