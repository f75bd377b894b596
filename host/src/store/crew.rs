//! The threads of one database: each has a connection of its own, they take work from one queue, are
//! started when work waits, and end when there has been none for a while. One thread makes a writer,
//! several make readers.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::connection::{Connection, Role};
use super::error::StoreError;
use super::limits::{IDLE_CONNECTION, MAX_WAITING};

/// A piece of work that a thread does with its connection.
pub(super) trait Work: Send + 'static {
    /// The thread takes it up. `rest` is the queue behind it.
    fn run(self, connection: &Connection, rest: &Queue<Self>)
    where
        Self: Sized;
    /// No connection could be had.
    fn fail(self, error: StoreError);
}

/// The queue of one crew.
pub(super) struct Queue<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
    place: Place,
    role: Role,
    most: usize,
}

struct State<W> {
    waiting: VecDeque<W>,
    threads: usize,
    idle: usize,
}

/// What a crew works on.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) max_bytes: u64,
    /// Prepares a database's tables, once a connection.
    pub(super) prepare: fn(&Connection) -> Result<(), StoreError>,
    /// Held while a connection is opened, so that two do not set up one file at once.
    pub(super) opening: Arc<Mutex<()>>,
    pub(super) spawner: Spawner,
}

/// Threads that wait to be started.
const MAX_STARTS: usize = 4096;

impl<W: Work> Queue<W> {
    /// A crew of at most `most` threads; none yet.
    pub(super) fn new(place: &Place, role: Role, most: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { waiting: VecDeque::new(), threads: 0, idle: 0 }),
            changed: Condvar::new(),
            place: place.clone(),
            role,
            most,
        })
    }

    /// Queues work, and starts a thread for it if none is free.
    pub(super) fn push(self: &Arc<Self>, work: W) {
        let mut state = self.state.lock();
        if state.waiting.len() >= MAX_WAITING {
            drop(state);
            work.fail(StoreError::Busy);
            return;
        }
        state.waiting.push_back(work);
        let start = state.waiting.len() > state.idle && state.threads < self.most;
        if start {
            state.threads += 1;
        }
        drop(state);
        self.changed.notify_one();
        if start {
            self.start();
        }
    }

    /// More work, if it is there already and `fits`.
    pub(super) fn take_if(&self, fits: impl FnOnce(&W) -> bool) -> Option<W> {
        let mut state = self.state.lock();
        if state.waiting.front().is_some_and(fits) { state.waiting.pop_front() } else { None }
    }

    fn start(self: &Arc<Self>) {
        let (queue, without) = (Arc::clone(self), Arc::clone(self));
        self.place.spawner.spawn(Start {
            name: self.role.thread_name(),
            life: Box::new(move || queue.serve()),
            stranded: Box::new(move || {
                without.leave(&StoreError::Other("no thread can be started".to_owned()));
            }),
        });
    }

    /// A thread's life.
    fn serve(self: Arc<Self>) {
        let opened = {
            let _one_at_a_time = self.place.opening.lock();
            Connection::open(&self.place.path, self.role, self.place.max_bytes).and_then(
                |connection| {
                    (self.place.prepare)(&connection)?;
                    Ok(connection)
                },
            )
        };
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => {
                let database = self.place.path.display();
                tracing::error!(%database, %error, "a database cannot be opened");
                self.leave(&error);
                return;
            }
        };
        while let Some(work) = self.next() {
            let ran = catch_unwind(AssertUnwindSafe(|| work.run(&connection, &self)));
            if ran.is_err() {
                tracing::error!("a thread of the store panicked");
            }
            if ran.is_err() || connection.is_spent() {
                break;
            }
        }
        // Closed before another thread may take its place, so that files stay bounded.
        drop(connection);
        let mut state = self.state.lock();
        let goes_on = !state.waiting.is_empty();
        if !goes_on {
            state.threads -= 1;
        }
        drop(state);
        if goes_on {
            // This thread may have been put back behind the others: a fresh one takes its place.
            self.start();
        }
    }

    fn next(&self) -> Option<W> {
        let until = Instant::now() + IDLE_CONNECTION;
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                return Some(work);
            }
            state.idle += 1;
            let timed_out = self.changed.wait_until(&mut state, until).timed_out();
            state.idle -= 1;
            if timed_out && state.waiting.is_empty() {
                return None;
            }
        }
    }

    /// A thread ends without a connection; if it was the only one, what waits fails.
    fn leave(&self, error: &StoreError) {
        let mut state = self.state.lock();
        state.threads -= 1;
        let stranded =
            if state.threads == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        for work in stranded {
            work.fail(error.clone());
        }
    }
}

/// A thread that is to be started.
struct Start {
    name: &'static str,
    life: Box<dyn FnOnce() + Send>,
    /// In its place, where the system gives no thread.
    stranded: Box<dyn FnOnce() + Send>,
}

/// Starts the store's threads from one that has the server's own priority: a thread inherits that of
/// the one that starts it, and askers may be in the heavy lane.
#[derive(Clone)]
pub(super) struct Spawner(SyncSender<Start>);

impl Spawner {
    /// A spawner; its own thread ends with the last handle.
    pub(super) fn new() -> io::Result<Self> {
        let (sender, starts) = sync_channel::<Start>(MAX_STARTS);
        std::thread::Builder::new().name("wharf-store".to_owned()).spawn(move || {
            for Start { name, life, stranded } in starts {
                if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(life) {
                    tracing::error!(%error, "a thread of the store cannot be started");
                    stranded();
                }
            }
        })?;
        Ok(Self(sender))
    }

    fn spawn(&self, start: Start) {
        if let Err(TrySendError::Full(start) | TrySendError::Disconnected(start)) =
            self.0.try_send(start)
        {
            (start.stranded)();
        }
    }
}
