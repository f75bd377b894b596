//! What can go wrong in the store, by whose fault it is.

use rusqlite::ffi;

/// A rule of the schema that a statement broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The statement is wrong.
    #[error("{0}")]
    Syntax(String),
    /// The statement is not allowed.
    #[error("{0}")]
    Refused(String),
    /// A rule of the schema.
    #[error("{message}")]
    Constraint {
        /// Which kind.
        kind: Constraint,
        /// SQLite's words.
        message: String,
    },
    /// Others kept the database for longer than [`BUSY_LIMIT`](super::limits::BUSY_LIMIT).
    #[error("the database is busy")]
    Busy,
    /// Its time was over, or its client left.
    #[error("interrupted")]
    Interrupted,
    /// Beyond a limit; which.
    #[error("{0}")]
    TooLarge(String),
    /// The database or the disk is full.
    #[error("the database is full")]
    Full,
    /// The transaction or cursor is over.
    #[error("the transaction or cursor is over")]
    Ended,
    /// The store itself.
    #[error("{0}")]
    Other(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as From;
        let (code, message) = match error {
            From::SqliteFailure(code, message) => {
                let message = message.unwrap_or_else(|| code.to_string());
                (code, message)
            }
            From::SqlInputError { error, msg, .. } => (error, msg),
            From::MultipleStatement => {
                return Self::Syntax("one statement a call".to_owned());
            }
            From::InvalidParameterCount(given, wanted) => {
                return Self::Syntax(format!("{wanted} parameters are wanted, {given} given"));
            }
            From::NulError(_) => {
                return Self::Syntax("a statement's text holds no NUL".to_owned());
            }
            From::Utf8Error(..) => {
                return Self::Other("a text is not UTF-8".to_owned());
            }
            other => return Self::Other(other.to_string()),
        };
        classify(code, message)
    }
}

fn classify(code: ffi::Error, message: String) -> StoreError {
    use ffi::ErrorCode as Code;
    match code.code {
        Code::ConstraintViolation => {
            StoreError::Constraint { kind: constraint(code.extended_code), message }
        }
        Code::DatabaseBusy | Code::DatabaseLocked => StoreError::Busy,
        Code::OperationInterrupted => StoreError::Interrupted,
        Code::DiskFull => StoreError::Full,
        Code::TooBig | Code::OutOfMemory => StoreError::TooLarge(message),
        Code::AuthorizationForStatementDenied | Code::ReadOnly | Code::PermissionDenied => {
            StoreError::Refused(message)
        }
        Code::ApiMisuse => StoreError::Syntax("there is no statement".to_owned()),
        // Of a function, SQLite says so with the code for any error.
        Code::Unknown if message.starts_with("not authorized") => StoreError::Refused(message),
        Code::Unknown
        | Code::TypeMismatch
        | Code::ParameterOutOfRange
        | Code::OperationAborted
        | Code::NotFound => StoreError::Syntax(message),
        _ => StoreError::Other(message),
    }
}

fn constraint(extended: i32) -> Constraint {
    match extended {
        ffi::SQLITE_CONSTRAINT_CHECK => Constraint::Check,
        ffi::SQLITE_CONSTRAINT_DATATYPE => Constraint::Datatype,
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Constraint::ForeignKey,
        ffi::SQLITE_CONSTRAINT_NOTNULL => Constraint::NotNull,
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => Constraint::PrimaryKey,
        ffi::SQLITE_CONSTRAINT_TRIGGER => Constraint::Trigger,
        ffi::SQLITE_CONSTRAINT_UNIQUE => Constraint::Unique,
        _ => Constraint::Other,
    }
}
