//! One SQLite connection on a thread of the store: how it is opened, and how statements are run on
//! it under their watch.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Authorization;
use rusqlite::limits::Limit;
use rusqlite::{Connection as Sqlite, OpenFlags, Rows};

use super::error::StoreError;
use super::guard;
use super::limits::{
    BUSY_LIMIT, CACHE_KIB, HEAP_BYTES, MAX_PARAMETERS, MAX_RESULT_BYTES, MAX_SQL_BYTES,
    MAX_VALUE_BYTES, POLITE_AFTER, POLITE_NICE, PROGRESS_OPS, STATEMENT_CACHE, WAL_BYTES,
};
use super::value::{Executed, Row, Statement, Value};
use super::watch::Watch;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Role {
    /// At most 15 bytes, as Linux has it.
    pub(super) fn thread_name(self) -> &'static str {
        match self {
            Self::Writer => "wharf-sql-write",
            Self::Reader => "wharf-sql-read",
        }
    }
}

/// A connection and what its callbacks share with it.
pub(super) struct Connection {
    sqlite: Sqlite,
    role: Role,
    /// What runs now: its watch and when it began.
    current: Arc<Mutex<Option<(Arc<Watch>, Instant)>>>,
    /// Set while the host itself speaks.
    trusted: Arc<AtomicBool>,
    /// The thread has been put back behind the rest of the server, for good.
    polite: Arc<AtomicBool>,
}

impl Connection {
    /// Opens the database at `path`, which is made if it is not there.
    pub(super) fn open(path: &Path, role: Role, max_bytes: u64) -> Result<Self, StoreError> {
        let mut sqlite = Sqlite::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        sqlite.busy_timeout(BUSY_LIMIT)?;
        sqlite.pragma_update(None, "journal_mode", "WAL")?;
        // Every commit is on the disk before it is answered, also if the power fails.
        sqlite.pragma_update(None, "synchronous", "FULL")?;
        sqlite.pragma_update(None, "hard_heap_limit", HEAP_BYTES)?;
        sqlite.pragma_update(None, "cache_size", -CACHE_KIB)?;
        sqlite.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
        sqlite.pragma_update(None, "cell_size_check", true)?;
        let page: i64 = sqlite.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page.max(512);
        sqlite.pragma_update(None, "max_page_count", pages)?;
        for (config, value) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
            // "text" in double quotes is a name, as in the standard: a mistyped column is an error.
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        ] {
            sqlite.set_db_config(config, value)?;
        }
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, MAX_PARAMETERS),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_COLUMN, 500),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 200),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 32),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            sqlite.set_limit(limit, i32::try_from(value).unwrap_or(i32::MAX))?;
        }
        sqlite.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        if role == Role::Reader {
            sqlite.pragma_update(None, "query_only", true)?;
        }

        let current: Arc<Mutex<Option<(Arc<Watch>, Instant)>>> = Arc::default();
        let trusted = Arc::new(AtomicBool::new(false));
        let polite = Arc::new(AtomicBool::new(false));
        sqlite.progress_handler(PROGRESS_OPS, {
            let (current, polite) = (Arc::clone(&current), Arc::clone(&polite));
            Some(move || match &*current.lock() {
                Some((watch, begun)) => {
                    if begun.elapsed() > POLITE_AFTER && !polite.swap(true, Ordering::Relaxed) {
                        // On Linux this concerns the calling thread only. It cannot be taken back
                        // without privileges, so the thread ends when its work does.
                        let _refused = rustix::process::setpriority_process(None, POLITE_NICE);
                    }
                    !watch.may_go_on()
                }
                None => false,
            })
        })?;
        sqlite.authorizer({
            let trusted = Arc::clone(&trusted);
            Some(move |context: rusqlite::hooks::AuthContext<'_>| {
                if trusted.load(Ordering::Relaxed) {
                    Authorization::Allow
                } else {
                    guard::authorize(context)
                }
            })
        })?;
        Ok(Self { sqlite, role, current, trusted, polite })
    }

    /// Whether its thread is to end once it has nothing to do: it was put back behind the others.
    pub(super) fn is_spent(&self) -> bool {
        self.polite.load(Ordering::Relaxed)
    }

    /// Makes the host's own tables, for which a reader may write.
    pub(super) fn make(&self, tables: &str) -> Result<(), StoreError> {
        self.control("PRAGMA query_only = OFF")?;
        let made = self.control(tables);
        if self.role == Role::Reader {
            self.control("PRAGMA query_only = ON")?;
        }
        made
    }

    /// Runs SQL of the host's own: `BEGIN` and its like.
    pub(super) fn control(&self, sql: &str) -> Result<(), StoreError> {
        self.trusted.store(true, Ordering::Relaxed);
        // Not from the cache, where a guest's statement of the same words would find it compiled.
        let done = self.sqlite.execute_batch(sql);
        self.trusted.store(false, Ordering::Relaxed);
        Ok(done?)
    }

    /// Whether no transaction is open. A statement that fails may have ended it.
    pub(super) fn is_autocommit(&self) -> bool {
        self.sqlite.is_autocommit()
    }

    /// SQLite itself, for the host's own statements.
    pub(super) fn sqlite(&self) -> &Sqlite {
        &self.sqlite
    }

    /// Lets `work` run under `watch`.
    pub(super) fn under<'a, T>(
        &'a self,
        watch: &Arc<Watch>,
        work: impl FnOnce(&'a Self) -> T,
    ) -> T {
        *self.current.lock() = Some((Arc::clone(watch), Instant::now()));
        let done = work(self);
        *self.current.lock() = None;
        done
    }

    /// Runs a statement to its end; rows are dropped.
    pub(super) fn execute(&self, statement: &Statement) -> Result<Executed, StoreError> {
        let mut prepared = self.prepare(statement)?;
        let before = self.sqlite.total_changes();
        let mut rows = prepared.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        let changed = self.sqlite.total_changes() != before;
        Ok(Executed {
            // SQLite keeps the count of the last statement that had one.
            changes: if changed { self.sqlite.changes() } else { 0 },
            last_insert_id: self.sqlite.last_insert_rowid(),
        })
    }

    /// Runs a statement and reads all its rows.
    pub(super) fn query_whole(
        &self,
        statement: &Statement,
    ) -> Result<(Vec<String>, Vec<Row>), StoreError> {
        let mut prepared = self.prepare(statement)?;
        let columns = column_names(&prepared);
        let count = columns.len();
        let mut rows = prepared.raw_query();
        let mut all = Vec::new();
        let mut bytes = 0;
        while let Some(row) = next_row(&mut rows, count)? {
            bytes += weight(&row);
            if bytes > MAX_RESULT_BYTES {
                let cause = format!(
                    "the result is larger than {MAX_RESULT_BYTES} bytes; ask for a part of it"
                );
                return Err(StoreError::TooLarge(cause));
            }
            all.push(row);
        }
        Ok((columns, all))
    }

    /// Compiles a statement and binds its parameters.
    pub(super) fn prepare(
        &self,
        statement: &Statement,
    ) -> Result<rusqlite::CachedStatement<'_>, StoreError> {
        let mut prepared = self.sqlite.prepare_cached(&statement.sql)?;
        let (wanted, given) = (prepared.parameter_count(), statement.params.len());
        if wanted != given {
            return Err(rusqlite::Error::InvalidParameterCount(given, wanted).into());
        }
        for (index, value) in statement.params.iter().enumerate() {
            prepared.raw_bind_parameter(index + 1, value)?;
        }
        Ok(prepared)
    }
}

/// The names of a statement's columns.
pub(super) fn column_names(statement: &rusqlite::Statement<'_>) -> Vec<String> {
    statement.column_names().into_iter().map(str::to_owned).collect()
}

/// The next row.
pub(super) fn next_row(rows: &mut Rows<'_>, columns: usize) -> Result<Option<Row>, StoreError> {
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut values = Vec::with_capacity(columns);
    for column in 0..columns {
        values.push(Value::read(row.get_ref(column)?));
    }
    Ok(Some(values))
}

/// Bytes of memory that a row takes, roughly.
pub(super) fn weight(row: &Row) -> usize {
    size_of::<Row>() + row.iter().map(Value::weight).sum::<usize>()
}
