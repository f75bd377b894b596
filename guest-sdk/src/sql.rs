//! The plugin's own SQL database: SQLite, kept over restarts and reloads. Needs `sql = true` under
//! `[capabilities]`.
//!
//! ```
//! use wharf_sdk::{params, sql};
//!
//! # async fn example() -> Result<(), sql::SqlError> {
//! sql::execute("INSERT INTO posts (title) VALUES (?)", params!["hello"]).await?;
//! for row in sql::query("SELECT id, title FROM posts WHERE id > ?", params![10]).await?.rows().await? {
//!     let (id, title): (i64, &str) = (row.get(0)?, row.get(1)?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is answered is on the disk. Other requests of the instance go on while one is awaited.

use std::collections::VecDeque;
use std::fmt;

/// One of SQLite's storage classes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// `INTEGER`.
    Integer(i64),
    /// `REAL`.
    Real(f64),
    /// `TEXT`.
    Text(String),
    /// `BLOB`.
    Blob(Vec<u8>),
}

/// Makes the parameters of a statement from anything that is [`Into<Value>`].
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        ::std::vec![$($crate::sql::Value::from($value)),*]
    };
}

macro_rules! value_from {
    ($($from:ty => $to:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                $to(value.into())
            }
        })*
    };
}

value_from! {
    bool => Self::Integer, i8 => Self::Integer, i16 => Self::Integer, i32 => Self::Integer,
    i64 => Self::Integer, u8 => Self::Integer, u16 => Self::Integer, u32 => Self::Integer,
    f32 => Self::Real, f64 => Self::Real, &str => Self::Text, String => Self::Text,
    &[u8] => Self::Blob, Vec<u8> => Self::Blob,
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Which rule of the schema was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// `CHECK`.
    Check,
    /// A value of another type in a `STRICT` table.
    Datatype,
    /// `REFERENCES`.
    ForeignKey,
    /// `NOT NULL`.
    NotNull,
    /// `PRIMARY KEY`.
    PrimaryKey,
    /// `RAISE` in a trigger.
    Trigger,
    /// `UNIQUE`.
    Unique,
    /// Any other.
    Other,
}

/// Why the database did not do what was asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SqlError {
    /// The manifest does not grant `sql`.
    NotGranted,
    /// The statement is wrong.
    Syntax(String),
    /// The statement is not allowed.
    Refused(String),
    /// A rule of the schema, and SQLite's words for it.
    Constraint(Constraint, String),
    /// Others kept the database for longer than the busy limit (5 s).
    Busy,
    /// It took longer than the plugin's `request-timeout`, or the client has left.
    Interrupted,
    /// Beyond a limit; which.
    TooLarge(String),
    /// The database or the disk is full.
    Full,
    /// The transaction or cursor is over.
    Ended,
    /// The host's fault.
    Other(String),
    /// A column that the row does not have, or of another type than was asked for.
    Column(String),
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => {
                f.write_str("the manifest does not have `sql = true` under [capabilities]")
            }
            Self::Busy => f.write_str("the database is busy"),
            Self::Interrupted => f.write_str("the statement was interrupted"),
            Self::Full => f.write_str("the database is full"),
            Self::Ended => f.write_str("the transaction or cursor is over"),
            Self::Syntax(cause)
            | Self::Refused(cause)
            | Self::Constraint(_, cause)
            | Self::TooLarge(cause)
            | Self::Other(cause)
            | Self::Column(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for SqlError {}

/// What a statement that gives no rows did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Rows that it inserted, changed or deleted itself.
    pub changes: u64,
    /// The row id of the database's latest insert; 0 where there was none yet.
    pub last_insert_id: i64,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(Vec<Value>);

impl Row {
    /// The value of a column, by its place from 0, as one of Rust's types; `NULL` only as an
    /// `Option` or a [`Value`].
    ///
    /// # Errors
    /// [`SqlError::Column`].
    pub fn get<'a, T: FromValue<'a>>(&'a self, column: usize) -> Result<T, SqlError> {
        let value = self.0.get(column).ok_or_else(|| {
            SqlError::Column(format!("the row has {} columns; none is {column}", self.0.len()))
        })?;
        T::from_value(value).ok_or_else(|| {
            let name = std::any::type_name::<T>();
            SqlError::Column(format!("column {column} is no {name}: {value:?}"))
        })
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// All values, as they are.
    pub fn into_values(self) -> Vec<Value> {
        self.0
    }
}

/// A type of Rust that a column can be read as.
pub trait FromValue<'a>: Sized {
    /// Reads it; `None` where it is of another type.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($to:ty: $pattern:pat => $made:expr),* $(,)?) => {
        $(impl<'a> FromValue<'a> for $to {
            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $pattern => $made,
                    _ => None,
                }
            }
        })*
    };
}

from_value! {
    i64: Value::Integer(number) => Some(*number),
    i32: Value::Integer(number) => Self::try_from(*number).ok(),
    u32: Value::Integer(number) => Self::try_from(*number).ok(),
    u64: Value::Integer(number) => Self::try_from(*number).ok(),
    usize: Value::Integer(number) => Self::try_from(*number).ok(),
    bool: Value::Integer(number) => Some(*number != 0),
    &'a str: Value::Text(text) => Some(text.as_str()),
    String: Value::Text(text) => Some(text.clone()),
    &'a [u8]: Value::Blob(bytes) => Some(bytes.as_slice()),
    Vec<u8>: Value::Blob(bytes) => Some(bytes.clone()),
}

impl FromValue<'_> for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(number) => Some(*number),
            Value::Integer(number) => Some(*number as Self),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a Value {
    fn from_value(value: &'a Value) -> Option<Self> {
        Some(value)
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only read, one state throughout.
    Read,
    /// Also write; nobody else writes meanwhile.
    Write,
}

/// Rows that one [`Rows::next_batch`] asks for.
const BATCH: u32 = 1000;

/// The rows of a query.
///
/// A large result is read while this lives, and keeps one of the database's readers meanwhile: for a
/// slow client, query a table page by page.
#[derive(Debug)]
pub struct Rows {
    inner: imp::Cursor,
    batch: VecDeque<Row>,
}

impl Rows {
    /// The names of the columns.
    pub fn columns(&self) -> Vec<String> {
        self.inner.columns()
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// Any [`SqlError`].
    pub async fn next(&mut self) -> Result<Option<Row>, SqlError> {
        if self.batch.is_empty() {
            self.batch = self.inner.next(BATCH).await?.into();
        }
        Ok(self.batch.pop_front())
    }

    /// The next rows, at most `most` (and 10,000, and about 256 KiB); none at the end.
    ///
    /// # Errors
    /// Any [`SqlError`].
    pub async fn next_batch(&mut self, most: u32) -> Result<Vec<Row>, SqlError> {
        if self.batch.is_empty() {
            return self.inner.next(most).await;
        }
        let count = self.batch.len().min(most as usize);
        Ok(self.batch.drain(..count).collect())
    }

    /// All the rest.
    ///
    /// # Errors
    /// Any [`SqlError`].
    pub async fn rows(mut self) -> Result<Vec<Row>, SqlError> {
        let mut all = Vec::from(std::mem::take(&mut self.batch));
        loop {
            let batch = self.inner.next(BATCH).await?;
            if batch.is_empty() {
                return Ok(all);
            }
            all.extend(batch);
        }
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// Any [`SqlError`].
    pub async fn first(mut self) -> Result<Option<Row>, SqlError> {
        self.next().await
    }
}

/// Runs one statement to its end.
///
/// # Errors
/// Any [`SqlError`]; nothing is written then.
pub async fn execute(sql: &str, params: Vec<Value>) -> Result<Executed, SqlError> {
    imp::execute(sql, params).await
}

/// Runs one statement for its rows.
///
/// # Errors
/// Any [`SqlError`].
pub async fn query(sql: &str, params: Vec<Value>) -> Result<Rows, SqlError> {
    imp::query(sql, params).await.map(rows)
}

/// Runs statements, at most 10,000, in one transaction: all or, at the first error, none.
///
/// # Errors
/// Any [`SqlError`].
pub async fn execute_batch<'a>(
    statements: impl IntoIterator<Item = (&'a str, Vec<Value>)>,
) -> Result<Vec<Executed>, SqlError> {
    imp::execute_batch(statements.into_iter().collect()).await
}

/// Begins a transaction. Dropped without [`Transaction::commit`], it is rolled back.
///
/// # Errors
/// [`SqlError::Busy`], above all.
pub async fn transaction(access: Access) -> Result<Transaction, SqlError> {
    imp::begin(access).await.map(|inner| Transaction { inner })
}

/// An open transaction.
#[derive(Debug)]
pub struct Transaction {
    inner: imp::Transaction,
}

impl Transaction {
    /// Runs one statement to its end.
    ///
    /// # Errors
    /// Any [`SqlError`]; the transaction goes on unless the next call says [`SqlError::Ended`].
    pub async fn execute(&self, sql: &str, params: Vec<Value>) -> Result<Executed, SqlError> {
        self.inner.execute(sql, params).await
    }

    /// Runs one statement for its rows, at most 16 MiB of them.
    ///
    /// # Errors
    /// Any [`SqlError`], as for [`Self::execute`].
    pub async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Rows, SqlError> {
        self.inner.query(sql, params).await.map(rows)
    }

    /// Makes what was written durable and visible.
    ///
    /// # Errors
    /// Any [`SqlError`]; nothing is written then.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.inner.finish(true).await
    }

    /// Undoes what was written.
    ///
    /// # Errors
    /// Any [`SqlError`].
    pub async fn rollback(self) -> Result<(), SqlError> {
        self.inner.finish(false).await
    }
}

fn rows(inner: imp::Cursor) -> Rows {
    Rows { inner, batch: VecDeque::new() }
}

#[cfg(target_family = "wasm")]
mod imp {
    use crate::bindings::wharf::host::{sql as types, sql_async as host};

    use super::{Access, Constraint, Executed, Row, SqlError, Value};

    #[derive(Debug)]
    pub(super) struct Cursor(host::Cursor);
    #[derive(Debug)]
    pub(super) struct Transaction(host::Transaction);

    impl Cursor {
        pub(super) fn columns(&self) -> Vec<String> {
            self.0.columns()
        }

        pub(super) async fn next(&self, most: u32) -> Result<Vec<Row>, SqlError> {
            let rows = self.0.next(most).await.map_err(fault)?;
            Ok(rows.into_iter().map(|row| Row(row.into_iter().map(from_host).collect())).collect())
        }
    }

    impl Transaction {
        pub(super) async fn execute(
            &self,
            sql: &str,
            params: Vec<Value>,
        ) -> Result<Executed, SqlError> {
            let done = self.0.execute(sql.to_owned(), to_host(params)).await;
            done.map(executed).map_err(fault)
        }

        pub(super) async fn query(
            &self,
            sql: &str,
            params: Vec<Value>,
        ) -> Result<Cursor, SqlError> {
            self.0.query(sql.to_owned(), to_host(params)).await.map(Cursor).map_err(fault)
        }

        pub(super) async fn finish(&self, commit: bool) -> Result<(), SqlError> {
            let done = if commit { self.0.commit().await } else { self.0.rollback().await };
            done.map_err(fault)
        }
    }

    pub(super) async fn execute(sql: &str, params: Vec<Value>) -> Result<Executed, SqlError> {
        let done = host::execute(sql.to_owned(), to_host(params)).await;
        done.map(executed).map_err(fault)
    }

    pub(super) async fn query(sql: &str, params: Vec<Value>) -> Result<Cursor, SqlError> {
        host::query(sql.to_owned(), to_host(params)).await.map(Cursor).map_err(fault)
    }

    pub(super) async fn execute_batch(
        statements: Vec<(&str, Vec<Value>)>,
    ) -> Result<Vec<Executed>, SqlError> {
        let statements = statements
            .into_iter()
            .map(|(sql, params)| types::Statement { sql: sql.to_owned(), params: to_host(params) });
        let done = host::execute_batch(statements.collect()).await.map_err(fault)?;
        Ok(done.into_iter().map(executed).collect())
    }

    pub(super) async fn begin(access: Access) -> Result<Transaction, SqlError> {
        let kind = match access {
            Access::Read => types::TransactionKind::Read,
            Access::Write => types::TransactionKind::Write,
        };
        host::begin(kind).await.map(Transaction).map_err(fault)
    }

    fn executed(done: types::ExecuteResult) -> Executed {
        Executed { changes: done.changes, last_insert_id: done.last_insert_id }
    }

    fn to_host(params: Vec<Value>) -> Vec<types::Value> {
        let value = |value| match value {
            Value::Null => types::Value::Null,
            Value::Integer(number) => types::Value::Integer(number),
            Value::Real(number) => types::Value::Real(number),
            Value::Text(text) => types::Value::Text(text),
            Value::Blob(bytes) => types::Value::Blob(bytes),
        };
        params.into_iter().map(value).collect()
    }

    fn from_host(value: types::Value) -> Value {
        match value {
            types::Value::Null => Value::Null,
            types::Value::Integer(number) => Value::Integer(number),
            types::Value::Real(number) => Value::Real(number),
            types::Value::Text(text) => Value::Text(text),
            types::Value::Blob(bytes) => Value::Blob(bytes),
        }
    }

    fn fault(error: types::SqlError) -> SqlError {
        use types::SqlError as From;
        match error {
            From::NotGranted => SqlError::NotGranted,
            From::Syntax(cause) => SqlError::Syntax(cause),
            From::Refused(cause) => SqlError::Refused(cause),
            From::Constraint(violation) => {
                let constraint = match violation.constraint {
                    types::Constraint::Check => Constraint::Check,
                    types::Constraint::Datatype => Constraint::Datatype,
                    types::Constraint::ForeignKey => Constraint::ForeignKey,
                    types::Constraint::NotNull => Constraint::NotNull,
                    types::Constraint::PrimaryKey => Constraint::PrimaryKey,
                    types::Constraint::Trigger => Constraint::Trigger,
                    types::Constraint::Unique => Constraint::Unique,
                    types::Constraint::Other => Constraint::Other,
                };
                SqlError::Constraint(constraint, violation.message)
            }
            From::Busy => SqlError::Busy,
            From::Interrupted => SqlError::Interrupted,
            From::TooLarge(cause) => SqlError::TooLarge(cause),
            From::Full => SqlError::Full,
            From::Ended => SqlError::Ended,
            From::Other(cause) => SqlError::Other(cause),
        }
    }
}

/// Natively there is no host: every call answers that.
#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{Access, Executed, Row, SqlError, Value};

    #[derive(Debug)]
    pub(super) struct Cursor(std::convert::Infallible);
    #[derive(Debug)]
    pub(super) struct Transaction(std::convert::Infallible);

    impl Cursor {
        pub(super) fn columns(&self) -> Vec<String> {
            match self.0 {}
        }

        pub(super) async fn next(&self, _most: u32) -> Result<Vec<Row>, SqlError> {
            match self.0 {}
        }
    }

    impl Transaction {
        pub(super) async fn execute(
            &self,
            _sql: &str,
            _params: Vec<Value>,
        ) -> Result<Executed, SqlError> {
            match self.0 {}
        }

        pub(super) async fn query(
            &self,
            _sql: &str,
            _params: Vec<Value>,
        ) -> Result<Cursor, SqlError> {
            match self.0 {}
        }

        pub(super) async fn finish(&self, _commit: bool) -> Result<(), SqlError> {
            match self.0 {}
        }
    }

    pub(super) async fn execute(_sql: &str, _params: Vec<Value>) -> Result<Executed, SqlError> {
        Err(no_host())
    }

    pub(super) async fn query(_sql: &str, _params: Vec<Value>) -> Result<Cursor, SqlError> {
        Err(no_host())
    }

    pub(super) async fn execute_batch(
        _statements: Vec<(&str, Vec<Value>)>,
    ) -> Result<Vec<Executed>, SqlError> {
        Err(no_host())
    }

    pub(super) async fn begin(_access: Access) -> Result<Transaction, SqlError> {
        Err(no_host())
    }

    fn no_host() -> SqlError {
        SqlError::Other("there is no host".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    #[test]
    fn parameters_and_columns_are_rusts_own_types() {
        let values = params![1, "two", 3.5, None::<i64>, vec![4_u8], true];

        let row = Row(values);

        assert_eq!(row.get::<i64>(0), Ok(1));
        assert_eq!(row.get::<&str>(1), Ok("two"));
        assert_eq!(row.get::<f64>(2), Ok(3.5));
        assert_eq!(row.get::<Option<String>>(3), Ok(None));
        assert_eq!(row.get::<&[u8]>(4), Ok([4].as_slice()));
        assert_eq!(row.get::<bool>(5), Ok(true));
        assert!(matches!(row.get::<i64>(1), Err(SqlError::Column(_))));
        assert!(matches!(row.get::<i64>(6), Err(SqlError::Column(_))));
    }

    #[test]
    fn natively_there_is_no_host() {
        assert!(matches!(block_on(execute("SELECT 1", params![])), Err(SqlError::Other(_))));
    }
}
