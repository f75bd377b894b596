//! Values, rows and statements as the store and its callers exchange them.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::error::StoreError;
use super::limits::{MAX_PARAMETERS, MAX_SQL_BYTES, MAX_VALUE_BYTES};

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

/// The values of one row.
pub type Row = Vec<Value>;

impl Value {
    /// Bytes of memory, roughly.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null | Self::Integer(_) | Self::Real(_) => 0,
                Self::Text(text) => text.len(),
                Self::Blob(bytes) => bytes.len(),
            }
    }

    pub(super) fn read(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            // SQLite does not check what is cast to TEXT.
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// Its parameters, in the order of their numbers.
    pub params: Vec<Value>,
}

impl Statement {
    /// Checks what is checked before SQLite sees it.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; [`StoreError::Refused`] for `VACUUM`, about which SQLite asks nobody.
    pub fn check(&self) -> Result<(), StoreError> {
        let too_large = |what: &str, limit: usize| {
            Err(StoreError::TooLarge(format!("{what} is larger than {limit}")))
        };
        if self.sql.len() > MAX_SQL_BYTES {
            return too_large("the statement's text", MAX_SQL_BYTES);
        }
        if self.params.len() > MAX_PARAMETERS {
            return too_large("the number of parameters", MAX_PARAMETERS);
        }
        if self.params.iter().any(|value| value.weight() > MAX_VALUE_BYTES) {
            return too_large("a parameter", MAX_VALUE_BYTES);
        }
        if self.first_word().eq_ignore_ascii_case("vacuum") {
            return Err(StoreError::Refused("VACUUM is not allowed".to_owned()));
        }
        Ok(())
    }

    /// Whether it begins like one that only reads. What it is in truth SQLite tells.
    pub(super) fn may_only_read(&self) -> bool {
        ["select", "with", "values", "explain", "pragma"]
            .iter()
            .any(|one| one.eq_ignore_ascii_case(self.first_word()))
    }

    fn first_word(&self) -> &str {
        let mut rest = self.sql.trim_start();
        loop {
            rest = if let Some(comment) = rest.strip_prefix("--") {
                comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start()
            } else if let Some(comment) = rest.strip_prefix("/*") {
                comment.split_once("*/").map_or("", |(_, rest)| rest).trim_start()
            } else if let Some(empty) = rest.strip_prefix(';') {
                empty.trim_start()
            } else {
                break;
            };
        }
        rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default()
    }
}

/// What a statement that gives no rows did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Rows that it changed itself.
    pub changes: u64,
    /// The row id of the connection's latest insert.
    pub last_insert_id: i64,
}
