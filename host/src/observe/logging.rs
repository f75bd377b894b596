//! Logging: `tracing` on standard error, for people or as JSON, and the access log beside it.

use std::io;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::access::AccessLog;
use super::output::Output;
use crate::config::{LogConfig, LogFormat};

/// Why logging cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The thread that writes cannot be started.
    #[error("cannot start the log's thread")]
    Thread(#[source] io::Error),
    /// The filter was not checked first.
    #[error("the log filter is not valid: {0}")]
    Filter(String),
    /// A subscriber is already there.
    #[error("logging was started twice")]
    Twice(#[source] TryInitError),
}

/// Logging that runs.
#[derive(Clone, Debug)]
pub struct Logging {
    /// Where all lines go; flush it before the process ends.
    pub output: Output,
    /// `None`: turned off, or filtered out.
    pub access: Option<AccessLog>,
}

/// Checks `tracing` directives such as `info,wharf=debug`.
///
/// # Errors
/// What is wrong with them.
pub fn check_filter(directives: &str) -> Result<(), String> {
    filter(directives).map(|_| ())
}

fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(directives)
        .map_err(|error| format!("`{directives}`: {error}"))
}

/// Starts logging for the whole process, with a buffer for each of `cores`.
///
/// # Errors
/// [`LoggingError`].
pub fn init(config: &LogConfig, cores: usize) -> Result<Logging, LoggingError> {
    let output = Output::start(cores, io::stderr()).map_err(LoggingError::Thread)?;
    let filter = filter(&config.filter).map_err(LoggingError::Filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(output.clone());
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        // The same flat shape as the access log's.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    registry().with(lines).with(filter).try_init().map_err(LoggingError::Twice)?;
    // The access log is not made of events, but obeys the same directives.
    let wanted = config.access && tracing::enabled!(target: "access", tracing::Level::INFO);
    let access = wanted.then(|| AccessLog::new(output.clone(), config.format));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        tracing::warn!(
            "RUST_BACKTRACE is set: every failure of a plugin costs a host backtrace; unset it"
        );
    }
    Ok(Logging { output, access })
}
