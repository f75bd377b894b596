//! The table of jobs.
//!
//! A change is published before it is committed, under the database's write lock: who reads how a job
//! is, and follows what came after *that* event, misses nothing and gets nothing twice.

use std::cell::Cell;

use wharf_sdk::hub::{self, Event};
use wharf_sdk::sql::{self, Access, Row, SqlError, Transaction};
use wharf_sdk::{Error, HeaderValue, StatusCode, header, params};

use crate::job::{Job, Status};
use crate::picture::POINTS;
use crate::progress;

/// Jobs that are kept; beyond, the oldest that are over go.
const MAX_JOBS: u32 = 200;
/// Jobs that are not over.
const MAX_OPEN: i64 = 50;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    steps INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'pending',
    message TEXT NOT NULL DEFAULT 'waiting for its first step',
    event TEXT NOT NULL
) STRICT";
const OPEN: &str = "CREATE INDEX IF NOT EXISTS jobs_open ON jobs (number)
    WHERE status IN ('pending', 'running')";
/// A step's points are a row of their own: nothing is written anew.
const PARTS: &str = "CREATE TABLE IF NOT EXISTS parts (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    points BLOB NOT NULL,
    PRIMARY KEY (job, step)
) STRICT, WITHOUT ROWID";
const COLUMNS: &str = "id, name, steps, done, status, message, event";

thread_local! {
    /// Whether this instance knows that the tables are there.
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

/// The topic that tells of new jobs.
const ADDED: &str = "jobs";

/// The topic of a job.
pub(crate) fn topic(id: &str) -> String {
    format!("jobs/{id}")
}

/// Whether this can be a job's id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

async fn prepare() -> Result<(), SqlError> {
    if !PREPARED.get() {
        sql::execute_batch([(TABLE, params![]), (OPEN, params![]), (PARTS, params![])]).await?;
        PREPARED.set(true);
    }
    Ok(())
}

fn read(row: &Row) -> Result<Job, SqlError> {
    Ok(Job {
        job_id: row.get(0)?,
        name: row.get(1)?,
        steps: row.get(2)?,
        done: row.get(3)?,
        status: Status::parse(row.get(4)?),
        message: row.get(5)?,
        event: row.get(6)?,
    })
}

/// A job that waits for its first step.
///
/// # Errors
///
/// 503 where too many are not over.
pub(crate) async fn add(name: &str, steps: u32) -> Result<Job, Error> {
    prepare().await?;
    let mut id = [0; 8];
    getrandom::fill(&mut id)?;
    let id = format!("{:016x}", u64::from_be_bytes(id));
    let write = sql::transaction(Access::Write).await?;
    let sql = "SELECT count(*) FROM jobs WHERE status IN ('pending', 'running')";
    let rows = write.query(sql, params![]).await?;
    let open: i64 = rows.first().await?.map_or(Ok(0), |row| row.get(0))?;
    if open >= MAX_OPEN {
        return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE)
            .detail(format!("{open} jobs are under way: try again when some are over"))
            .header(header::RETRY_AFTER, HeaderValue::from_static("5")));
    }
    // Whoever knows of the job follows it from before its first event.
    let sql = "INSERT INTO jobs (id, name, steps, event) VALUES (?, ?, ?, ?)";
    write.execute(sql, params![&id, name, steps, hub::position()]).await?;
    let tidy = "DELETE FROM jobs WHERE status IN ('completed', 'failed') AND number NOT IN
        (SELECT number FROM jobs ORDER BY number DESC LIMIT ?)";
    write
        .execute("DELETE FROM parts WHERE job NOT IN (SELECT number FROM jobs)", params![])
        .await?;
    write.execute(tidy, params![MAX_JOBS]).await?;
    write.commit().await?;
    hub::publish(ADDED, Event::new(id.as_str())).await?;
    find(&id).await?.ok_or_else(Error::not_found)
}

/// Reads a job.
pub(crate) async fn find(id: &str) -> Result<Option<Job>, SqlError> {
    if !is_id(id) {
        return Ok(None);
    }
    prepare().await?;
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?");
    let row = sql::query(&sql, params![id]).await?.first().await?;
    row.as_ref().map(read).transpose()
}

/// All jobs, the newest first.
pub(crate) async fn list() -> Result<Vec<Job>, SqlError> {
    prepare().await?;
    let sql = format!("SELECT {COLUMNS} FROM jobs ORDER BY number DESC");
    let rows = sql::query(&sql, params![]).await?.rows().await?;
    rows.iter().map(read).collect()
}

/// Those that are not over, the oldest first.
pub(crate) async fn open() -> Result<Vec<Job>, SqlError> {
    prepare().await?;
    let sql = format!(
        "SELECT {COLUMNS} FROM jobs WHERE status IN ('pending', 'running') ORDER BY number"
    );
    let rows = sql::query(&sql, params![]).await?.rows().await?;
    rows.iter().map(read).collect()
}

/// What a job has made so far.
pub(crate) async fn points(id: &str) -> Result<Vec<u8>, SqlError> {
    let sql = "SELECT points FROM parts JOIN jobs ON jobs.number = parts.job
        WHERE jobs.id = ? ORDER BY step";
    let mut rows = sql::query(sql, params![id]).await?;
    let mut all = Vec::with_capacity(POINTS as usize);
    while let Some(row) = rows.next().await? {
        all.extend_from_slice(row.get(0)?);
    }
    Ok(all)
}

/// Changes a job, unless it is over or has been changed since it was read; tells whether it did.
/// `points` are what the latest step made.
pub(crate) async fn change(job: &Job, before: u32, points: Option<Vec<u8>>) -> Result<bool, Error> {
    let write = sql::transaction(Access::Write).await?;
    let Some(number) = number(&write, job, before).await? else {
        write.rollback().await?;
        return Ok(false);
    };
    let progress = Event::named("progress").json(&job.progress());
    let event = hub::publish(topic(&job.job_id), progress).await?;
    let sql = "UPDATE jobs SET done = ?, status = ?, message = ?, event = ? WHERE number = ?";
    let values = params![job.done, job.status.name(), &job.message, event, number];
    write.execute(sql, values).await?;
    if let Some(points) = points {
        let sql = "INSERT INTO parts (job, step, points) VALUES (?, ?, ?)";
        write.execute(sql, params![number, job.done, points]).await?;
    }
    write.commit().await?;
    // Whoever is told of the end finds all of the job in the database.
    if job.status.is_over() {
        hub::publish(topic(&job.job_id), progress::close(&job.job_id)).await?;
    }
    Ok(true)
}

async fn number(write: &Transaction, job: &Job, before: u32) -> Result<Option<i64>, SqlError> {
    let sql = "SELECT number FROM jobs
        WHERE id = ? AND done = ? AND status IN ('pending', 'running')";
    let rows = write.query(sql, params![&job.job_id, before]).await?;
    rows.first().await?.map(|row| row.get(0)).transpose()
}
