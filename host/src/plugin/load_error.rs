//! Why a plugin is not served, by stage. The registry adds plugin and file; `Display` is the cause.

use std::io;

use super::manifest::ManifestError;

/// What went wrong between a file and a served plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which one.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A component over the size limit.
    #[error("the component has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The bytes are no component.
    #[error("not a component: {cause}")]
    NotAComponent {
        /// What they are instead, and what to do.
        cause: String,
    },
    /// The compiler refused it.
    #[error("cannot be compiled: {cause}")]
    Compile {
        /// The compiler's words.
        cause: String,
    },
    /// It imports what the host does not have.
    #[error("imports what this host does not have: {missing}")]
    Imports {
        /// The imports' names, or wasmtime's words.
        missing: String,
    },
    /// It exports no handler.
    #[error("is no plugin: {cause}")]
    World {
        /// What it exports and what would do.
        cause: String,
    },
    /// Its manifest is wrong.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// Its manifest has a schedule, and it exports nothing that could be called.
    #[error(
        "the manifest has the schedule \"{name}\", but the component exports neither \
         wharf:host/schedule-events-async@0.1.x nor wharf:host/schedule-events@0.1.x"
    )]
    Schedule {
        /// The schedule's name.
        name: String,
    },
    /// Another plugin has the route.
    #[error("the route \"{route}\" is already served by plugin \"{owner}\"")]
    RouteConflict {
        /// As this plugin writes it.
        route: String,
        /// Whose it is.
        owner: String,
    },
    /// A middleware that it names is not served, or is none.
    #[error("names middleware \"{name}\", which {cause}")]
    Middleware {
        /// The middleware's name.
        name: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// A granted folder cannot be made.
    #[error("cannot make the granted folder {folder}: {source}")]
    Folder {
        /// Which one.
        folder: String,
        /// Why.
        source: io::Error,
    },
    /// It trapped or failed while it was started.
    #[error("failed at start: {cause}")]
    Start {
        /// The trap, with its backtrace.
        cause: String,
    },
    /// The folder or the name is not as it must be.
    #[error("{0}")]
    Layout(String),
}

impl LoadError {
    /// The stage, for states and metrics.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::TooLarge { .. } => "read",
            Self::NotAComponent { .. } => "component",
            Self::Compile { .. } => "compile",
            Self::Imports { .. } => "imports",
            Self::World { .. } => "world",
            Self::Manifest(_) | Self::Schedule { .. } => "manifest",
            Self::RouteConflict { .. } => "route",
            Self::Middleware { .. } => "middleware",
            Self::Folder { .. } => "files",
            Self::Start { .. } => "start",
            Self::Layout(_) => "layout",
        }
    }
}
