//! A plugin's manifest: `plugin.toml`, or `NAME.toml` beside the component, checked and complete.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::route::Pattern;

/// Linear memory of one instance, over all its memories.
pub const DEFAULT_MEMORY: u64 = 64 << 20;
/// From the request's arrival at the plugin to the last byte of its response head; the body then
/// has the same time between two frames.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// CPU time of one request.
pub const DEFAULT_CPU_TIME: Duration = Duration::from_secs(1);
/// Requests in the plugin at once.
pub const DEFAULT_CONCURRENCY: usize = 256;
/// Bytes of a request body.
pub const DEFAULT_BODY: u64 = 10 << 20;
/// Requests that one instance may serve.
pub const DEFAULT_REUSE: u32 = 1024;
/// Requests at once in one instance (0.3 only).
pub const DEFAULT_CONCURRENT: u32 = 16;

/// How instances are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// An instance serves many requests, several at once. Default for WASI 0.3.
    Reuse,
    /// A fresh instance for each request. Default for WASI 0.2.
    Isolated,
}

/// What a manifest says, defaults filled in.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Routes; for a plugin without `routes`, `/NAME` and `/NAME/*` (or `/` and `/*` for `index`).
    pub routes: Vec<Pattern>,
    /// The prefix that is stripped from the path and told in `x-forwarded-prefix`.
    pub strip_prefix: Option<String>,
    /// Plugins that wrap this one, outermost first.
    pub middleware: Vec<String>,
    /// What is granted.
    pub capabilities: Capabilities,
    /// What `wasi:config` gives.
    pub config: BTreeMap<String, String>,
    /// Limits in force.
    pub limits: PluginLimits,
    /// Use of instances.
    pub instances: Instances,
}

/// What a plugin is granted; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Origins it may send requests to, as written (`scheme://host[:port]`).
    pub outbound: Vec<String>,
    /// Folders it may open.
    pub files: Vec<FileGrant>,
    /// Names of environment variables it may see.
    pub env: Vec<String>,
    /// It may list what is served.
    pub registry: bool,
}

/// One granted folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// The folder on the host, absolute.
    pub host: PathBuf,
    /// The name under which the guest sees it: as written in the manifest (`data`, `../assets` is
    /// seen as `assets`).
    pub guest: String,
    /// `rw` rather than `r`.
    pub write: bool,
}

/// The numbers of `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// [`DEFAULT_MEMORY`].
    pub memory: u64,
    /// [`DEFAULT_REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// [`DEFAULT_CPU_TIME`].
    pub cpu_time: Duration,
    /// [`DEFAULT_CONCURRENCY`].
    pub concurrency: usize,
    /// [`DEFAULT_BODY`].
    pub body: u64,
}

/// The numbers of `[instances]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instances {
    /// `None`: by the WASI version.
    pub mode: Option<Mode>,
    /// [`DEFAULT_REUSE`].
    pub reuse: u32,
    /// [`DEFAULT_CONCURRENT`].
    pub concurrent: u32,
}
