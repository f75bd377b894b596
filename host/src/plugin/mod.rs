//! Plugins: from a file to a running component. Only this module names wasmtime.

use std::sync::Arc;
use std::time::Duration;

pub mod log;
pub mod manifest;

use crate::http::rejection::Rejection;
use manifest::Manifest;

/// How a plugin went wrong while it answered. A value, never a panic.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It trapped or its host call panicked; the backtrace is in the log.
    #[error("trap: {message}")]
    Trap {
        /// Cause and wasm backtrace, for the log only.
        message: Arc<str>,
    },
    /// No response head within the request timeout.
    #[error("no response within {after:?}")]
    Timeout {
        /// The limit in force.
        after: Duration,
    },
    /// It used more CPU time than a request may.
    #[error("used more than {limit:?} of CPU time")]
    CpuTime {
        /// The limit in force.
        limit: Duration,
    },
    /// It was refused memory beyond its limit and ended over it.
    #[error("wanted more than its {limit} bytes of memory")]
    OutOfMemory {
        /// The limit in force.
        limit: u64,
    },
    /// It returned without answering, or answered with an error code.
    #[error("returned without a response")]
    NoResponse,
    /// Its response is not valid HTTP, or it answered with an error code; which.
    #[error("answered with an error: {message}")]
    Reply {
        /// For the log.
        message: Arc<str>,
    },
    /// No instance could be made.
    #[error("could not be instantiated: {message}")]
    Instantiate {
        /// For the log.
        message: Arc<str>,
    },
    /// The request's own body was refused while the plugin read it: the client's fault.
    #[error("the request body was refused: {0}")]
    Body(Rejection),
}

impl Failure {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Timeout { .. } => "timeout",
            Self::CpuTime { .. } => "cpu-time",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::NoResponse => "no-response",
            Self::Reply { .. } => "bad-reply",
            Self::Instantiate { .. } => "instantiate",
            Self::Body(_) => "request-body",
        }
    }

    /// What a client may know.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "the plugin failed",
            Self::Timeout { .. } => "the plugin did not answer in time",
            Self::CpuTime { .. } => "the plugin used more CPU time than a request may",
            Self::OutOfMemory { .. } => "the plugin ran out of memory",
            Self::NoResponse => "the plugin did not answer",
            Self::Reply { .. } => "the plugin's answer is not valid",
            Self::Instantiate { .. } => "the plugin could not be started",
            Self::Body(_) => "the request body was refused",
        }
    }
}

/// A named component with its manifest and version, ready to be called.
#[derive(Debug)]
pub struct Plugin {
    /// Its name: the file's or folder's.
    pub name: Arc<str>,
    /// Content hash of its component, in hexadecimal.
    pub version: Arc<str>,
    /// What its manifest says.
    pub manifest: Arc<Manifest>,
}
