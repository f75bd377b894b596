//! The server.
/// Why the server ended.
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// How.
#[derive(Debug)]
pub struct ExitOutcome;
/// Runs.
pub fn run(_config: crate::config::Config) -> Result<ExitOutcome, Error> {
    Err(Error)
}
