//! One database as its askers see it: asynchronous, bounded in waiting and in what it holds.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::connection::{Connection, Role, weight};
use super::crew::{Place, Queue};
use super::error::StoreError;
use super::limits::{
    BUSY_LIMIT, MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_BATCH_STATEMENTS, MAX_HELD_BYTES, MAX_READERS,
    MAX_RESULT_BYTES,
};
use super::value::{Executed, Row, Statement};
use super::watch::{Asker, Watch};
use super::work::{
    More, Opened, ReadBy, ReadWork, Reply, Request, Step, Transaction, Write, WriteBy, WriteWork,
};

/// How much later than its deadline work is given up by whoever waits for it: SQLite looks at the
/// deadline every few microseconds, but the disk may hold it up.
const DEADLINE_SLACK: Duration = Duration::from_secs(2);

/// For whom work is done, and how long it may take.
#[derive(Clone)]
pub struct Claim {
    /// The exchange.
    pub asker: Option<Arc<dyn Asker>>,
    /// The time of a statement, or of a transaction.
    pub time: Duration,
}

impl Claim {
    fn watch(&self) -> Arc<Watch> {
        let now = Instant::now();
        // Manifests may say any number of hours.
        let deadline = now.checked_add(self.time).unwrap_or(now + Duration::from_secs(86_400));
        Watch::new(deadline, self.asker.clone())
    }
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read, one state throughout.
    Read,
    /// Also write.
    Write,
}

/// One database.
pub struct Database {
    writer: Arc<Queue<WriteWork>>,
    readers: Arc<Queue<ReadWork>>,
    held: Arc<AtomicUsize>,
}

impl Database {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            writer: Queue::new(place, Role::Writer, 1),
            readers: Queue::new(place, Role::Reader, MAX_READERS),
            held: Arc::default(),
        }
    }

    /// Runs a statement to its end, durably.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is written then.
    pub async fn execute(
        &self,
        claim: &Claim,
        statement: Statement,
    ) -> Result<Executed, StoreError> {
        statement.check()?;
        self.write(claim, move |connection| connection.execute(&statement)).await
    }

    /// Runs statements in one transaction.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is written then.
    pub async fn execute_batch(
        &self,
        claim: &Claim,
        statements: Vec<Statement>,
    ) -> Result<Vec<Executed>, StoreError> {
        if statements.len() > MAX_BATCH_STATEMENTS {
            let cause = format!("a batch has at most {MAX_BATCH_STATEMENTS} statements");
            return Err(StoreError::TooLarge(cause));
        }
        statements.iter().try_for_each(Statement::check)?;
        self.write(claim, move |connection| {
            together(connection, || {
                statements.iter().map(|statement| connection.execute(statement)).collect()
            })
        })
        .await
    }

    /// Runs a statement for its rows.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn query(&self, claim: &Claim, statement: Statement) -> Result<Cursor, StoreError> {
        statement.check()?;
        let statement = if statement.may_only_read() {
            let watch = claim.watch();
            let (reply, answer) = oneshot::channel();
            self.readers.push(ReadWork::Query { statement, watch: Arc::clone(&watch), reply });
            match wait(&watch, answer).await? {
                Opened::Rows { columns, rows, more } => {
                    return Cursor::new(self, claim, columns, rows, more);
                }
                Opened::Writes(statement) => statement,
            }
        } else {
            statement
        };
        let (columns, rows) =
            self.write(claim, move |connection| connection.query_whole(&statement)).await?;
        Cursor::new(self, claim, columns, rows, None)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError::Busy`], above all.
    pub async fn begin(
        &self,
        claim: &Claim,
        access: Access,
    ) -> Result<OpenTransaction, StoreError> {
        let watch = claim.watch();
        let (reply, answer) = oneshot::channel();
        let transaction = Transaction { watch: Arc::clone(&watch), reply };
        match access {
            Access::Read => self.readers.push(ReadWork::Transaction(transaction)),
            Access::Write => self.writer.push(WriteWork::Transaction(transaction)),
        }
        let requests = wait(&watch, answer).await?;
        let held = Arc::clone(&self.held);
        Ok(OpenTransaction { requests, claim: claim.clone(), held })
    }

    /// Does a write of the host's own, in a transaction that it may share and that it may be tried in
    /// more than once.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        claim: &Claim,
        work: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(claim, |watch, reply| Box::new(WriteBy { watch, work, result: None, reply }))
            .await
    }

    /// [`Self::write`] for a write that has more to do when it is settled.
    pub(super) async fn submit<T>(
        &self,
        claim: &Claim,
        make: impl FnOnce(Arc<Watch>, Reply<T>) -> Box<dyn Write>,
    ) -> Result<T, StoreError> {
        let watch = claim.watch();
        let (reply, answer) = oneshot::channel();
        self.writer.push(WriteWork::Single(make(Arc::clone(&watch), reply)));
        wait(&watch, answer).await
    }

    /// Reads for the host.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        claim: &Claim,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let watch = claim.watch();
        let (reply, answer) = oneshot::channel();
        let read = ReadBy { watch: Arc::clone(&watch), work, reply };
        self.readers.push(ReadWork::By(Box::new(read)));
        wait(&watch, answer).await
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("held", &self.held).finish_non_exhaustive()
    }
}

/// Does several things in a transaction that may have others beside them: all or none.
pub(super) fn together<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.control("SAVEPOINT together")?;
    let done = work();
    // The whole transaction may be gone, and the savepoint with it.
    if !connection.is_autocommit() {
        if done.is_err() {
            connection.control("ROLLBACK TO together")?;
        }
        connection.control("RELEASE together")?;
    }
    done
}

/// Marks work as given up when whoever waits for it is dropped.
struct GiveUp<'a>(&'a Watch);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Waits for an answer: up to the busy limit until the work begins, then up to its deadline.
async fn wait<T>(
    watch: &Watch,
    mut answer: oneshot::Receiver<Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let _given_up_when_dropped = GiveUp(watch);
    let answered = match timeout(BUSY_LIMIT, &mut answer).await {
        Ok(answered) => answered,
        Err(_elapsed) if watch.give_up_waiting() => return Err(StoreError::Busy),
        Err(_elapsed) => {
            let limit = watch.deadline.saturating_duration_since(Instant::now()) + DEADLINE_SLACK;
            match timeout(limit, answer).await {
                Ok(answered) => answered,
                Err(_elapsed) => return Err(StoreError::Interrupted),
            }
        }
    };
    // Dropped without an answer: the transaction or cursor was closed meanwhile.
    answered.unwrap_or(Err(StoreError::Ended))
}

/// An open transaction; dropped, it is rolled back.
pub struct OpenTransaction {
    requests: SyncSender<Request>,
    claim: Claim,
    held: Arc<AtomicUsize>,
}

impl OpenTransaction {
    /// Runs a statement to its end.
    ///
    /// # Errors
    /// Any [`StoreError`]; the transaction goes on, unless it is [`StoreError::Ended`] then.
    pub async fn execute(&self, statement: Statement) -> Result<Executed, StoreError> {
        statement.check()?;
        self.ask(|reply| Step::Execute(statement, reply)).await
    }

    /// Runs a statement for its rows.
    ///
    /// # Errors
    /// Any [`StoreError`], as for [`Self::execute`].
    pub async fn query(&self, statement: Statement) -> Result<Cursor, StoreError> {
        statement.check()?;
        let (columns, rows) = self.ask(|reply| Step::Query(statement, reply)).await?;
        Cursor::held(&self.held, &self.claim, columns, rows, None)
    }

    /// Commits or rolls back.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is written then.
    pub async fn finish(&self, commit: bool) -> Result<(), StoreError> {
        self.ask(|reply| Step::Finish { commit, reply }).await
    }

    async fn ask<T>(
        &self,
        step: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Step,
    ) -> Result<T, StoreError> {
        let watch = self.claim.watch();
        let (reply, answer) = oneshot::channel();
        let request = Request { watch: Arc::clone(&watch), step: step(reply) };
        send(&self.requests, request)?;
        wait(&watch, answer).await
    }
}

impl fmt::Debug for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenTransaction")
    }
}

fn send<T>(to: &SyncSender<T>, request: T) -> Result<(), StoreError> {
    to.try_send(request).map_err(|error| match error {
        std::sync::mpsc::TrySendError::Full(_) => StoreError::Busy,
        std::sync::mpsc::TrySendError::Disconnected(_) => StoreError::Ended,
    })
}

/// The rows of a query.
pub struct Cursor {
    columns: Vec<String>,
    claim: Claim,
    state: Mutex<CursorState>,
    held: Held,
}

struct CursorState {
    rows: VecDeque<Row>,
    more: Option<SyncSender<More>>,
}

/// Bytes of rows that wait in a cursor.
struct Held {
    all: Arc<AtomicUsize>,
    own: AtomicUsize,
}

impl Held {
    fn release(&self, bytes: usize) {
        let bytes = bytes.min(self.own.load(Ordering::Relaxed));
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

impl Cursor {
    fn new(
        database: &Database,
        claim: &Claim,
        columns: Vec<String>,
        rows: Vec<Row>,
        more: Option<SyncSender<More>>,
    ) -> Result<Self, StoreError> {
        Self::held(&database.held, claim, columns, rows, more)
    }

    fn held(
        held: &Arc<AtomicUsize>,
        claim: &Claim,
        columns: Vec<String>,
        rows: Vec<Row>,
        more: Option<SyncSender<More>>,
    ) -> Result<Self, StoreError> {
        // An empty cursor is not free either: a guest could keep any number of them.
        let bytes = size_of::<Self>() + rows.iter().map(weight).sum::<usize>();
        let before = held.fetch_add(bytes, Ordering::Relaxed);
        let held = Held { all: Arc::clone(held), own: AtomicUsize::new(bytes) };
        // One full result always has room.
        if before + bytes > MAX_HELD_BYTES.max(MAX_RESULT_BYTES * 2) {
            let cause = format!("results of {MAX_HELD_BYTES} bytes wait to be read; drop cursors");
            return Err(StoreError::TooLarge(cause));
        }
        let state = Mutex::new(CursorState { rows: rows.into(), more });
        Ok(Self { columns, claim: claim.clone(), state, held })
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The next rows, at most `most`; none at the end.
    ///
    /// # Errors
    /// Any [`StoreError`]; the cursor is over then.
    pub async fn next(&self, most: usize) -> Result<Vec<Row>, StoreError> {
        let most = most.clamp(1, MAX_BATCH_ROWS);
        let mut state = self.state.lock().await;
        if state.rows.is_empty() {
            let Some(more) = state.more.take() else { return Ok(Vec::new()) };
            let watch = self.claim.watch();
            let (reply, answer) = oneshot::channel();
            send(&more, More { rows: most, watch: Arc::clone(&watch), reply })?;
            let (rows, was_last) = wait(&watch, answer).await?;
            state.more = (!was_last).then_some(more);
            return Ok(rows);
        }
        let mut bytes = 0;
        let mut rows = Vec::with_capacity(most.min(state.rows.len()));
        while rows.len() < most
            && bytes < MAX_BATCH_BYTES
            && let Some(row) = state.rows.pop_front()
        {
            bytes += weight(&row);
            rows.push(row);
        }
        self.held.release(bytes);
        Ok(rows)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("columns", &self.columns).finish_non_exhaustive()
    }
}
