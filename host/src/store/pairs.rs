//! Pairs of a key and a value, in named buckets: what `wasi:keyvalue` stands on. A table in a
//! database of its own; every write is durable and shares its commit with those beside it.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::connection::Connection;
use super::database::{Claim, Database, together};
use super::error::StoreError;
use super::limits::{MAX_BUCKET_BYTES, MAX_KEY_BYTES, MAX_KEYS, MAX_RESULT_BYTES, MAX_VALUE_BYTES};

/// Makes the table. `id` orders keys by when they were first set, so that a listing which goes on
/// after an id misses none that were there throughout; ids are not used again, so that a pair which
/// was deleted and set anew differs from what it was.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    let is_there = connection
        .sqlite()
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'pairs_by_bucket'", [], |_| Ok(()))
        .optional()?;
    if is_there.is_some() {
        return Ok(());
    }
    connection.make(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS pairs (
             id INTEGER PRIMARY KEY AUTOINCREMENT,
             bucket TEXT NOT NULL,
             key TEXT NOT NULL,
             version INTEGER NOT NULL DEFAULT 0,
             value BLOB NOT NULL,
             UNIQUE (bucket, key)
         );
         CREATE INDEX IF NOT EXISTS pairs_by_bucket ON pairs (bucket);
         COMMIT;",
    )
}

/// The pairs of one plugin.
#[derive(Clone, Debug)]
pub struct Pairs {
    database: Arc<Database>,
}

/// State of a pair, for compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    id: i64,
    version: i64,
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value is the new one.
    Done,
    /// Somebody else was faster: this is the state now.
    Changed(Option<(Version, Vec<u8>)>),
}

/// By how much a number changes, and how numbers are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// `0.2.0-draft`.
    Unsigned(u64),
    /// `0.2.0-draft2`.
    Signed(i64),
}

const GET: &str = "SELECT value FROM pairs WHERE bucket = ?1 AND key = ?2";
const SET: &str = "INSERT INTO pairs (bucket, key, value) VALUES (?1, ?2, ?3)
     ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value, version = version + 1";
const DELETE: &str = "DELETE FROM pairs WHERE bucket = ?1 AND key = ?2";
const LIST: &str = "SELECT id, key FROM pairs WHERE bucket = ?1 AND id > ?2 ORDER BY id LIMIT ?3";

impl Pairs {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// The bucket that a guest names so; `""` and `default` are the same one.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn bucket(name: &str) -> Result<Arc<str>, StoreError> {
        if name.len() > MAX_BUCKET_BYTES {
            let cause = format!("a bucket's name has at most {MAX_BUCKET_BYTES} bytes");
            return Err(StoreError::TooLarge(cause));
        }
        Ok(if name.is_empty() { "default" } else { name }.into())
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn get(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        key: String,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(&key)?;
        let bucket = Arc::clone(bucket);
        self.database.read(claim, move |connection| get(connection, &bucket, &key)).await
    }

    /// The values of keys, in their order, all from one state.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn get_many(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, StoreError> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        let bucket = Arc::clone(bucket);
        let read = move |connection: &Connection| {
            let mut bytes = 0;
            keys.into_iter()
                .map(|key| {
                    let value = get(connection, &bucket, &key)?;
                    bytes += value.as_ref().map_or(0, Vec::len);
                    if bytes > MAX_RESULT_BYTES {
                        let cause = format!("the values are larger than {MAX_RESULT_BYTES} bytes");
                        return Err(StoreError::TooLarge(cause));
                    }
                    Ok((key, value))
                })
                .collect()
        };
        self.database
            .read(claim, move |connection| {
                connection.control("BEGIN")?;
                let values = read(connection);
                connection.control("COMMIT")?;
                values
            })
            .await
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn exists(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        key: String,
    ) -> Result<bool, StoreError> {
        check_key(&key)?;
        let bucket = Arc::clone(bucket);
        let read = move |connection: &Connection| {
            let mut statement = connection
                .sqlite()
                .prepare_cached("SELECT 1 FROM pairs WHERE bucket = ?1 AND key = ?2")?;
            Ok(statement.exists(params![bucket, key])?)
        };
        self.database.read(claim, read).await
    }

    /// Sets pairs, all or none.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn set(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        check_count(pairs.len())?;
        for (key, value) in &pairs {
            check_key(key)?;
            check_value(value)?;
        }
        let bucket = Arc::clone(bucket);
        self.database
            .write(claim, move |connection| {
                together(connection, || {
                    let mut statement = connection.sqlite().prepare_cached(SET)?;
                    for (key, value) in &pairs {
                        statement.execute(params![bucket, key, value])?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Deletes keys, all or none; those that are not there are skipped.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn delete(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        keys: Vec<String>,
    ) -> Result<(), StoreError> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        let bucket = Arc::clone(bucket);
        self.database
            .write(claim, move |connection| {
                together(connection, || {
                    let mut statement = connection.sqlite().prepare_cached(DELETE)?;
                    for key in &keys {
                        statement.execute(params![bucket, key])?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// A page of keys after the position `after`, and where the next one begins, if there may be one.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn list(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        after: u64,
    ) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let bucket = Arc::clone(bucket);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let read = move |connection: &Connection| {
            let mut statement = connection.sqlite().prepare_cached(LIST)?;
            let rows = statement.query_map(params![bucket, after, MAX_KEYS as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            let mut keys = Vec::new();
            let mut last = None;
            for row in rows {
                let (id, key) = row?;
                keys.push(key);
                last = Some(id.unsigned_abs());
            }
            let is_full = keys.len() == MAX_KEYS;
            Ok((keys, last.filter(|_| is_full)))
        };
        self.database.read(claim, read).await
    }

    /// Adds to a number, which is kept as decimal digits; a key that is not there counts as 0.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the value is no such number or would leave its range; any other.
    pub async fn increment(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        key: String,
        delta: Delta,
    ) -> Result<i128, StoreError> {
        check_key(&key)?;
        let bucket = Arc::clone(bucket);
        self.database
            .write(claim, move |connection| {
                let value = get(connection, &bucket, &key)?;
                let number = match &value {
                    None => 0,
                    Some(digits) => std::str::from_utf8(digits)
                        .ok()
                        .and_then(|digits| digits.trim_ascii().parse::<i128>().ok())
                        .ok_or_else(|| {
                            StoreError::Refused("the value is not a number".to_owned())
                        })?,
                };
                let (sum, range) = match delta {
                    Delta::Unsigned(delta) => {
                        (number + i128::from(delta), 0..=i128::from(u64::MAX))
                    }
                    Delta::Signed(delta) => {
                        (number + i128::from(delta), i128::from(i64::MIN)..=i128::from(i64::MAX))
                    }
                };
                if !range.contains(&number) || !range.contains(&sum) {
                    return Err(StoreError::Refused("the number would be out of range".to_owned()));
                }
                connection.sqlite().prepare_cached(SET)?.execute(params![
                    bucket,
                    key,
                    sum.to_string().as_bytes()
                ])?;
                Ok(sum)
            })
            .await
    }

    /// The state of a pair: its version and value.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn state(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        key: String,
    ) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        check_key(&key)?;
        let bucket = Arc::clone(bucket);
        self.database.read(claim, move |connection| state(connection, &bucket, &key)).await
    }

    /// Sets a pair if it is still as it was in `seen`.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn swap(
        &self,
        claim: &Claim,
        bucket: &Arc<str>,
        key: String,
        seen: Option<Version>,
        value: Vec<u8>,
    ) -> Result<Swap, StoreError> {
        check_key(&key)?;
        check_value(&value)?;
        let bucket = Arc::clone(bucket);
        self.database
            .write(claim, move |connection| {
                let now = state(connection, &bucket, &key)?;
                if now.as_ref().map(|(version, _)| *version) != seen {
                    return Ok(Swap::Changed(now));
                }
                connection.sqlite().prepare_cached(SET)?.execute(params![bucket, key, value])?;
                Ok(Swap::Done)
            })
            .await
    }
}

fn get(connection: &Connection, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = connection.sqlite().prepare_cached(GET)?;
    Ok(statement.query_row(params![bucket, key], |row| row.get(0)).optional()?)
}

fn state(
    connection: &Connection,
    bucket: &str,
    key: &str,
) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
    let mut statement = connection
        .sqlite()
        .prepare_cached("SELECT id, version, value FROM pairs WHERE bucket = ?1 AND key = ?2")?;
    let found = statement.query_row(params![bucket, key], |row| {
        Ok((Version { id: row.get(0)?, version: row.get(1)? }, row.get(2)?))
    });
    Ok(found.optional()?)
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    Err(StoreError::TooLarge(format!("a key has at most {MAX_KEY_BYTES} bytes")))
}

/// A row holds its key and bucket as well.
const MAX_PAIR_VALUE_BYTES: usize = MAX_VALUE_BYTES - 2 * (MAX_KEY_BYTES + MAX_BUCKET_BYTES);

fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() <= MAX_PAIR_VALUE_BYTES {
        return Ok(());
    }
    Err(StoreError::TooLarge(format!("a value has at most {MAX_PAIR_VALUE_BYTES} bytes")))
}

fn check_count(keys: usize) -> Result<(), StoreError> {
    if keys <= MAX_KEYS {
        return Ok(());
    }
    Err(StoreError::TooLarge(format!("a batch has at most {MAX_KEYS} keys")))
}
