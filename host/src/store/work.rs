//! What the threads of a database do: single writes, grouped into one commit; queries with a cursor;
//! transactions.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use tokio::sync::oneshot;

use super::connection::{Connection, column_names, next_row, weight};
use super::crew::{Queue, Work};
use super::error::StoreError;
use super::limits::{
    CURSOR_IDLE, FIRST_ROWS, GROUP_COMMIT, MAX_BATCH_BYTES, MAX_BATCH_ROWS, REST_POLL,
};
use super::value::{Executed, Row, Statement};
use super::watch::Watch;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Requests to one cursor or transaction that may wait: its owner awaits each of them.
const MAX_REQUESTS: usize = 16;

/// A write that may share its commit with others, or be tried again without them.
pub(super) trait Write: Send {
    /// Who watches it.
    fn watch(&self) -> &Arc<Watch>;
    /// Does it, inside a transaction, and keeps the result. The latest try counts.
    fn attempt(&mut self, connection: &Connection);
    /// Answers: with the result if it is committed, or with the error.
    fn settle(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A write by a function.
pub(super) struct WriteBy<F, T> {
    pub(super) watch: Arc<Watch>,
    pub(super) work: F,
    pub(super) result: Option<Result<T, StoreError>>,
    pub(super) reply: Reply<T>,
}

impl<F, T> Write for WriteBy<F, T>
where
    F: FnMut(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    fn attempt(&mut self, connection: &Connection) {
        let work = &mut self.work;
        self.result = Some(connection.under(&self.watch, |connection| work(connection)));
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.result, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Interrupted),
        };
        let _asker_left = self.reply.send(result);
    }
}

/// Work for a database's writer.
pub(super) enum WriteWork {
    /// A write of its own.
    Single(Box<dyn Write>),
    /// A transaction that its owner steers.
    Transaction(Transaction),
}

impl Work for WriteWork {
    fn run(self, connection: &Connection, rest: &Queue<Self>) {
        match self {
            Self::Transaction(transaction) => transaction.serve(connection, "BEGIN IMMEDIATE"),
            Self::Single(first) => {
                let mut group = vec![first];
                while group.len() < GROUP_COMMIT
                    && let Some(Self::Single(next)) =
                        rest.take_if(|work| matches!(work, Self::Single(_)))
                {
                    group.push(next);
                }
                // What was given up while it waited is not begun.
                let group = group.into_iter().filter_map(|write| {
                    if write.watch().begin() {
                        return Some(write);
                    }
                    write.settle(Err(StoreError::Interrupted));
                    None
                });
                commit(connection, group.collect());
            }
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Self::Single(write) => write.settle(Err(error)),
            Self::Transaction(transaction) => transaction.fail(error),
        }
    }
}

/// Does the writes of a group in one transaction, so that one `fsync` answers them all. A write that
/// fails alone is undone alone; one that ends the whole transaction (a conflict clause, an
/// interrupt, a broken deferred rule) sends the others to transactions of their own.
fn commit(connection: &Connection, mut group: Vec<Box<dyn Write>>) {
    if group.is_empty() {
        return;
    }
    if let Err(error) = connection.control("BEGIN IMMEDIATE") {
        for write in group {
            write.settle(Err(error.clone()));
        }
        return;
    }
    let mut culprit = None;
    for (index, write) in group.iter_mut().enumerate() {
        write.attempt(connection);
        if connection.is_autocommit() {
            culprit = Some(index);
            break;
        }
    }
    if let Some(culprit) = culprit {
        // Its own result tells what happened; a write that ended the transaction and reports success
        // cannot be, because `COMMIT` is refused to it.
        let culprit = group.remove(culprit);
        culprit.settle(Err(StoreError::Interrupted));
    } else {
        match connection.control("COMMIT") {
            Ok(()) => {
                for write in group {
                    write.settle(Ok(()));
                }
                return;
            }
            Err(error) => {
                roll_back(connection);
                if let [_] = group.as_slice() {
                    for write in group {
                        write.settle(Err(error.clone()));
                    }
                    return;
                }
            }
        }
    }
    for write in group {
        commit(connection, vec![write]);
    }
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.control("ROLLBACK")
    {
        tracing::error!(%error, "a transaction cannot be rolled back");
    }
}

/// A transaction that waits for its thread.
pub(super) struct Transaction {
    pub(super) watch: Arc<Watch>,
    pub(super) reply: Reply<SyncSender<Request>>,
}

/// What the owner of a transaction asks for.
pub(super) struct Request {
    pub(super) watch: Arc<Watch>,
    pub(super) step: Step,
}

/// One step of a transaction.
pub(super) enum Step {
    Execute(Statement, Reply<Executed>),
    Query(Statement, Reply<(Vec<String>, Vec<Row>)>),
    Finish { commit: bool, reply: Reply<()> },
}

impl Transaction {
    fn fail(self, error: StoreError) {
        let _asker_left = self.reply.send(Err(error));
    }

    fn serve(self, connection: &Connection, begin: &str) {
        let Self { watch, reply } = self;
        if !watch.begin() {
            let _asker_left = reply.send(Err(StoreError::Interrupted));
            return;
        }
        if let Err(error) = connection.control(begin) {
            let _asker_left = reply.send(Err(error));
            return;
        }
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        if reply.send(Ok(sender)).is_ok() {
            steer(connection, &requests, &watch);
        }
        roll_back(connection);
    }
}

/// Follows a transaction's owner until the transaction is over. What is left open is rolled back.
fn steer(connection: &Connection, requests: &Receiver<Request>, owner: &Watch) {
    loop {
        let Request { watch, step } = match requests.recv_timeout(REST_POLL) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout)
                if owner.is_over() || Instant::now() > owner.deadline =>
            {
                return;
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if !watch.begin() {
            continue;
        }
        match step {
            Step::Execute(statement, reply) => {
                let done = connection.under(&watch, |connection| connection.execute(&statement));
                let _asker_left = reply.send(done);
            }
            Step::Query(statement, reply) => {
                let done =
                    connection.under(&watch, |connection| connection.query_whole(&statement));
                let _asker_left = reply.send(done);
            }
            Step::Finish { commit, reply } => {
                let done = connection.control(if commit { "COMMIT" } else { "ROLLBACK" });
                roll_back(connection);
                let _asker_left = reply.send(done);
                return;
            }
        }
        if connection.is_autocommit() {
            // The statement ended it: a conflict clause, or an interrupt.
            return;
        }
    }
}

/// Work for a database's readers.
pub(super) enum ReadWork {
    /// A query.
    Query { statement: Statement, watch: Arc<Watch>, reply: Reply<Opened> },
    /// The host's own reading.
    By(Box<dyn Read>),
    /// A transaction that its owner steers.
    Transaction(Transaction),
}

/// Reading by a function.
pub(super) trait Read: Send {
    /// Does it and answers; or answers with the error.
    fn run(self: Box<Self>, connection: Result<&Connection, StoreError>);
}

pub(super) struct ReadBy<F, T> {
    pub(super) watch: Arc<Watch>,
    pub(super) work: F,
    pub(super) reply: Reply<T>,
}

impl<F, T> Read for ReadBy<F, T>
where
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(self: Box<Self>, connection: Result<&Connection, StoreError>) {
        let Self { watch, work, reply } = *self;
        let result = connection.and_then(|connection| {
            if !watch.begin() {
                return Err(StoreError::Interrupted);
            }
            connection.under(&watch, work)
        });
        let _asker_left = reply.send(result);
    }
}

/// A query that has begun.
pub(super) enum Opened {
    /// It would write: it is for the writer.
    Writes(Statement),
    /// Its first rows, and where to ask for more if there are.
    Rows { columns: Vec<String>, rows: Vec<Row>, more: Option<SyncSender<More>> },
}

/// A request for more rows. The answer tells whether those were the last.
pub(super) struct More {
    pub(super) rows: usize,
    pub(super) watch: Arc<Watch>,
    pub(super) reply: Reply<(Vec<Row>, bool)>,
}

impl Work for ReadWork {
    fn run(self, connection: &Connection, _rest: &Queue<Self>) {
        match self {
            // The read is what fixes the state that a transaction sees.
            Self::Transaction(transaction) => {
                transaction.serve(connection, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")
            }
            Self::By(read) => read.run(Ok(connection)),
            Self::Query { statement, watch, reply } => query(connection, statement, &watch, reply),
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Self::Query { reply, .. } => {
                let _asker_left = reply.send(Err(error));
            }
            Self::By(read) => read.run(Err(error)),
            Self::Transaction(transaction) => transaction.fail(error),
        }
    }
}

fn query(connection: &Connection, statement: Statement, watch: &Arc<Watch>, reply: Reply<Opened>) {
    if !watch.begin() {
        let _asker_left = reply.send(Err(StoreError::Interrupted));
        return;
    }
    let prepared = connection.under(watch, |connection| connection.prepare(&statement));
    let mut prepared = match prepared {
        Ok(prepared) if prepared.readonly() => prepared,
        Ok(prepared) => {
            drop(prepared);
            let _asker_left = reply.send(Ok(Opened::Writes(statement)));
            return;
        }
        Err(error) => {
            let _asker_left = reply.send(Err(error));
            return;
        }
    };
    let columns = column_names(&prepared);
    let width = columns.len();
    let mut rows = prepared.raw_query();
    let first = connection.under(watch, |_| read_rows(&mut rows, width, FIRST_ROWS));
    let requests = match first {
        Ok((first, true)) => {
            let opened = Opened::Rows { columns, rows: first, more: None };
            drop(rows);
            drop(prepared);
            let _asker_left = reply.send(Ok(opened));
            return;
        }
        Ok((first, false)) => {
            let (more, requests) = sync_channel(MAX_REQUESTS);
            if reply.send(Ok(Opened::Rows { columns, rows: first, more: Some(more) })).is_err() {
                return;
            }
            requests
        }
        Err(error) => {
            let _asker_left = reply.send(Err(error));
            return;
        }
    };
    let mut asked = Instant::now();
    loop {
        let More { rows: most, watch: step, reply } = match requests.recv_timeout(REST_POLL) {
            Ok(more) => more,
            Err(RecvTimeoutError::Timeout) if !watch.is_over() && asked.elapsed() < CURSOR_IDLE => {
                continue;
            }
            Err(_) => return,
        };
        if !step.begin() {
            continue;
        }
        let read = connection.under(&step, |_| read_rows(&mut rows, width, most));
        let is_over = !matches!(read, Ok((_, false)));
        let _asker_left = reply.send(read);
        if is_over {
            return;
        }
        asked = Instant::now();
    }
}

/// Rows up to the limits, and whether those were the last.
fn read_rows(
    rows: &mut rusqlite::Rows<'_>,
    width: usize,
    most: usize,
) -> Result<(Vec<Row>, bool), StoreError> {
    let most = most.clamp(1, MAX_BATCH_ROWS);
    let mut read = Vec::with_capacity(most.min(1024));
    let mut bytes = 0;
    while read.len() < most && bytes < MAX_BATCH_BYTES {
        let Some(row) = next_row(rows, width)? else { return Ok((read, true)) };
        bytes += weight(&row);
        read.push(row);
    }
    Ok((read, false))
}
