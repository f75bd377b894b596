//! The hub's durable events: one table, appended to in the order of publication.
//!
//! The number that an event gets is its place among all durable events. While a takeover goes on two
//! processes write here, so each write brings what the other has written before it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::{OptionalExtension, params};

use super::connection::Connection;
use super::database::{Claim, Database};
use super::error::StoreError;
use super::limits::{LOG_TIME, MAX_MISSING_TOPICS, MAX_RUNS};
use super::watch::Watch;
use super::work::{Reply, Write};

/// Makes the tables. Numbers are not used again: one that was deleted was delivered.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    let is_there = connection
        .sqlite()
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'missing'", [], |_| Ok(()))
        .optional()?;
    if is_there.is_some() {
        return Ok(());
    }
    connection.make(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS events (
             number INTEGER PRIMARY KEY AUTOINCREMENT,
             run INTEGER NOT NULL,
             at INTEGER NOT NULL,
             event BLOB NOT NULL
         );
         CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, at INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS missing (topic TEXT PRIMARY KEY, number INTEGER NOT NULL)
             WITHOUT ROWID;
         COMMIT;",
    )
}

/// An event on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place among the durable events.
    pub number: u64,
    /// When it was published: milliseconds since 1970.
    pub at: u64,
    /// As the hub wrote it.
    pub event: Vec<u8>,
}

/// What was on disk when the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Runs whose events are here.
    pub runs: Vec<u32>,
    /// Every event, oldest first.
    pub records: Vec<Record>,
    /// Topics of which events up to this one were deleted; the empty one stands for all others.
    pub missing: Vec<(String, u64)>,
    /// The place of the last that was ever written.
    pub last: u64,
}

/// What another process wrote that this one has not delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Whose events these are.
    pub runs: Vec<u32>,
    /// Oldest first.
    pub records: Vec<Record>,
}

/// The durable events.
#[derive(Clone, Debug)]
pub struct Log {
    database: Arc<Database>,
    run: u32,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    /// Whether there is anything to read.
    is_there: AtomicBool,
    /// Whether this run is in the table.
    recorded: AtomicBool,
    /// Everything up to here was delivered by this process.
    delivered: AtomicU64,
}

impl State {
    /// Another process may make it later.
    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed) || {
            let is_there = self.path.exists();
            self.is_there.store(is_there, Ordering::Relaxed);
            is_there
        }
    }
}

impl Log {
    pub(super) fn new(database: Arc<Database>, run: u32, path: PathBuf) -> Self {
        let is_there = AtomicBool::new(path.exists());
        let (recorded, delivered) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { database, run, state: Arc::new(State { path, is_there, recorded, delivered }) }
    }

    /// What is there from earlier runs; this one is added to them.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn load(&self, now: u64) -> Result<Logged, StoreError> {
        if !self.state.is_there() {
            return Ok(Logged::default());
        }
        let run = self.run;
        self.database
            .write(&claim(), move |connection| {
                record(connection, run, now)?;
                read(connection)
            })
            .await
            .inspect(|logged| {
                self.state.recorded.store(true, Ordering::Relaxed);
                self.delivered(logged.last);
            })
    }

    /// Adds this run to those whose events are here, if it is not among them.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn record(&self, now: u64) -> Result<(), StoreError> {
        if self.state.recorded.load(Ordering::Relaxed) {
            return Ok(());
        }
        let run = self.run;
        self.database.write(&claim(), move |connection| record(connection, run, now)).await?;
        self.state.recorded.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Tells that this process has delivered everything up to `number`.
    pub fn delivered(&self, number: u64) {
        self.state.delivered.fetch_max(number, Ordering::Relaxed);
    }

    /// Writes an event. `settled` is called when it is on disk, in the order of the events, with those
    /// of another process before it, then with the event itself.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is written then.
    ///
    /// # Cancel safety
    /// An event that is being written is written and delivered all the same.
    pub async fn append(
        &self,
        at: u64,
        event: Vec<u8>,
        settled: impl FnOnce(Foreign, u64) + Send + 'static,
    ) -> Result<u64, StoreError> {
        self.database
            .submit(&claim(), |watch, reply| {
                let (run, state) = (self.run, Arc::clone(&self.state));
                let settled = Box::new(settled);
                Box::new(Append { watch, run, state, at, event, done: None, settled, reply })
            })
            .await
    }

    /// Events that another process has written and this one has not delivered, up to the first of this
    /// one that is still to be delivered: that one comes before those after it.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn foreign(&self) -> Result<Foreign, StoreError> {
        if !self.state.is_there() {
            return Ok(Foreign::default());
        }
        let (run, after) = (self.run, self.state.delivered.load(Ordering::Relaxed));
        self.database.read(&claim(), move |connection| foreign(connection, run, after)).await
    }

    /// Deletes events, and remembers of which topics they were.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn delete(&self, events: Vec<(u64, Vec<String>)>) -> Result<(), StoreError> {
        self.database
            .write(&claim(), move |connection| {
                let sqlite = connection.sqlite();
                let mut delete = sqlite.prepare_cached("DELETE FROM events WHERE number = ?1")?;
                let mut miss = sqlite.prepare_cached(MISS)?;
                let mut newest = BTreeMap::new();
                for (number, topics) in &events {
                    delete.execute(params![number.cast_signed()])?;
                    for topic in topics {
                        let newest = newest.entry(topic).or_insert(*number);
                        *newest = (*newest).max(*number);
                    }
                }
                for (topic, number) in newest {
                    miss.execute(params![topic, number.cast_signed()])?;
                }
                bound(connection)
            })
            .await
    }
}

/// Remembers that a topic misses events up to a number.
const MISS: &str = "INSERT INTO missing (topic, number) VALUES (?1, ?2)
    ON CONFLICT (topic) DO UPDATE SET number = max(number, excluded.number)";

/// Puts together what is missing of the topics that lost events the longest ago.
fn bound(connection: &Connection) -> Result<(), StoreError> {
    let sqlite = connection.sqlite();
    let topics: u32 = sqlite.query_row("SELECT count(*) FROM missing", [], |row| row.get(0))?;
    let Some(beyond) = topics.checked_sub(MAX_MISSING_TOPICS).filter(|beyond| *beyond > 0) else {
        return Ok(());
    };
    // The bound goes down by more than one, so that not every deletion sorts them.
    let beyond = beyond + MAX_MISSING_TOPICS / 10;
    let newest: Option<i64> = sqlite.query_row(
        "SELECT max(number) FROM
             (SELECT number FROM missing WHERE topic <> '' ORDER BY number LIMIT ?1)",
        params![beyond],
        |row| row.get(0),
    )?;
    sqlite.execute(
        "DELETE FROM missing WHERE topic <> '' AND number <= ?1",
        params![newest.unwrap_or(0)],
    )?;
    sqlite.execute(MISS, params!["", newest.unwrap_or(0)])?;
    Ok(())
}

fn claim() -> Claim {
    Claim { asker: None, time: LOG_TIME }
}

fn record(connection: &Connection, run: u32, now: u64) -> Result<(), StoreError> {
    let sqlite = connection.sqlite();
    sqlite.execute(
        "INSERT OR IGNORE INTO runs (run, at) VALUES (?1, ?2)",
        params![run, now.cast_signed()],
    )?;
    sqlite.execute(
        "DELETE FROM runs WHERE run NOT IN (SELECT run FROM runs ORDER BY at DESC LIMIT ?1)",
        params![MAX_RUNS],
    )?;
    Ok(())
}

fn read(connection: &Connection) -> Result<Logged, StoreError> {
    let sqlite = connection.sqlite();
    let mut runs = sqlite.prepare("SELECT run FROM runs")?;
    let runs = runs.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut records = sqlite.prepare("SELECT number, at, event FROM events ORDER BY number")?;
    let records = records.query_map([], row)?.collect::<Result<Vec<_>, _>>()?;
    let mut missing = sqlite.prepare("SELECT topic, number FROM missing")?;
    let missing = missing.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    let missing = missing
        .map(|row| row.map(|(topic, number)| (topic, number.cast_unsigned())))
        .collect::<Result<_, _>>()?;
    let last = sqlite
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [], |row| {
            row.get::<_, i64>(0)
        })
        .optional()?;
    Ok(Logged { runs, records, missing, last: last.unwrap_or(0).cast_unsigned() })
}

fn foreign(connection: &Connection, run: u32, after: u64) -> Result<Foreign, StoreError> {
    let mut rows = connection.sqlite().prepare_cached(
        "SELECT number, at, event, run FROM events WHERE number > ?1 ORDER BY number",
    )?;
    let mut rows = rows.query(params![after.cast_signed()])?;
    let mut foreign = Foreign::default();
    while let Some(next) = rows.next()? {
        let whose: u32 = next.get(3)?;
        if whose == run {
            break;
        }
        if !foreign.runs.contains(&whose) {
            foreign.runs.push(whose);
        }
        foreign.records.push(row(next)?);
    }
    Ok(foreign)
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    let (number, at): (i64, i64) = (row.get(0)?, row.get(1)?);
    Ok(Record { number: number.cast_unsigned(), at: at.cast_unsigned(), event: row.get(2)? })
}

/// An event on its way to the disk.
struct Append<F> {
    watch: Arc<Watch>,
    run: u32,
    state: Arc<State>,
    at: u64,
    event: Vec<u8>,
    done: Option<Result<(Foreign, u64), StoreError>>,
    settled: Box<F>,
    reply: Reply<u64>,
}

impl<F> Append<F> {
    fn insert(&self, connection: &Connection) -> Result<(Foreign, u64), StoreError> {
        if !self.state.recorded.load(Ordering::Relaxed) {
            record(connection, self.run, self.at)?;
        }
        let after = self.state.delivered.load(Ordering::Relaxed);
        let foreign = foreign(connection, self.run, after)?;
        let mut insert = connection
            .sqlite()
            .prepare_cached("INSERT INTO events (run, at, event) VALUES (?1, ?2, ?3)")?;
        let number = insert.insert(params![self.run, self.at.cast_signed(), self.event])?;
        Ok((foreign, number.cast_unsigned()))
    }
}

impl<F: FnOnce(Foreign, u64) + Send> Write for Append<F> {
    fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    fn attempt(&mut self, connection: &Connection) {
        let watch = Arc::clone(&self.watch);
        self.done = Some(connection.under(&watch, |connection| self.insert(connection)));
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.done, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(StoreError::Interrupted),
            (Some(Ok((foreign, number))), Ok(())) => {
                self.state.recorded.store(true, Ordering::Relaxed);
                (self.settled)(foreign, number);
                self.state.delivered.fetch_max(number, Ordering::Relaxed);
                Ok(number)
            }
        };
        let _asker_left = self.reply.send(result);
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
