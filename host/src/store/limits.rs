//! Every number that bounds the embedded store, in one place; `README.md` lists them.

use std::time::Duration;

/// How long a statement, or a transaction, waits for others to give the database free.
pub const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How long a cursor may go unread before it gives its reader back.
pub const CURSOR_IDLE: Duration = Duration::from_secs(30);
/// Statements and transactions that read one database at once.
pub const MAX_READERS: usize = 8;
/// Work that waits for one database's writer, or for its readers.
pub const MAX_WAITING: usize = 4096;
/// Writes that share one commit, and with it one `fsync`.
pub const GROUP_COMMIT: usize = 128;
/// How long a connection rests before it, its thread and its files are closed.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(10);
/// Bytes of a plugin's SQL database.
pub const MAX_DATABASE_BYTES: u64 = 8 << 30;
/// Bytes of a plugin's pairs.
pub const MAX_PAIRS_BYTES: u64 = 2 << 30;
/// Bytes of the hub's durable events.
pub const MAX_LOG_BYTES: u64 = 8 << 30;
/// How long the hub waits for its durable events to be read or written.
pub const LOG_TIME: Duration = Duration::from_secs(30);
/// Runs of the server whose ids are known for going on from.
pub const MAX_RUNS: u32 = 10_000;
/// Topics of which is remembered that older durable events were deleted; the rest is put together.
pub const MAX_MISSING_TOPICS: u32 = 10_000;
/// Bytes of one value, and of one row.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// Bytes of one statement's text.
pub const MAX_SQL_BYTES: usize = 1 << 20;
/// Parameters of one statement: SQLite's own default.
pub const MAX_PARAMETERS: usize = 32_766;
/// Statements of one batch.
pub const MAX_BATCH_STATEMENTS: usize = 10_000;
/// Rows that a cursor gives at once.
pub const MAX_BATCH_ROWS: usize = 10_000;
/// Bytes of rows that a cursor gives at once; one row may be larger. Copying them into the guest
/// keeps its core for about a millisecond.
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Rows that a query reads before anybody asks.
pub const FIRST_ROWS: usize = 1024;
/// Bytes of a result that is read whole: of a statement that writes, or in a transaction.
pub const MAX_RESULT_BYTES: usize = 16 << 20;
/// Bytes of results that one database holds for cursors which have not been read.
pub const MAX_HELD_BYTES: usize = 64 << 20;
/// Pages that a connection keeps in memory, in KiB.
pub const CACHE_KIB: i64 = 4096;
/// Prepared statements that a connection keeps.
pub const STATEMENT_CACHE: usize = 64;
/// Bytes that SQLite may take from the heap in the whole process. Beyond it statements fail.
pub const HEAP_BYTES: i64 = 1 << 30;
/// Bytes that a write-ahead log is cut to once it has been copied back.
pub const WAL_BYTES: i64 = 64 << 20;
/// SQLite instructions between two looks at whether a statement may go on.
pub const PROGRESS_OPS: i32 = 1000;
/// How long a statement runs before its thread has to stand back for the rest of the server.
pub const POLITE_AFTER: Duration = Duration::from_millis(20);
/// How much less such a thread weighs for the scheduler (nice value).
pub const POLITE_NICE: i32 = 10;
/// How often a transaction or cursor that rests looks whether its exchange is over.
pub const REST_POLL: Duration = Duration::from_millis(50);
/// Bytes of a key.
pub const MAX_KEY_BYTES: usize = 4096;
/// Bytes of a bucket's name.
pub const MAX_BUCKET_BYTES: usize = 128;
/// Keys of one batch of pairs, and of one page of `list-keys`.
pub const MAX_KEYS: usize = 1000;
