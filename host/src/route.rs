//! Routes: pattern syntax, specificity, and the immutable table that a request is matched against.

use std::sync::Arc;

use http::Method;

use crate::plugin::Plugin;

/// One route as written: `[METHOD ][host]/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As written, for labels and messages.
    pub text: Arc<str>,
}

/// Every route of every serving plugin; built aside and published whole.
#[derive(Debug, Default)]
pub struct RouteTable {}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The plugin that answers.
    pub plugin: Arc<Plugin>,
    /// The plugins that wrap it, outermost first, as they were published with this table.
    pub middleware: Arc<[Arc<Plugin>]>,
    /// The pattern that matched, as written.
    pub pattern: Arc<str>,
}

/// The outcome of a look-up.
#[derive(Clone, Debug)]
pub enum Routed {
    /// A route matched.
    Found(RouteMatch),
    /// The path is served, but not with this method.
    MethodNotAllowed {
        /// Value for `Allow`.
        allow: String,
    },
    /// Nothing matches the path.
    NotFound,
}

impl RouteTable {
    /// Finds the most specific route. `authority` is without its port; GET routes answer HEAD.
    pub fn find(&self, _method: &Method, _authority: &str, _path: &str) -> Routed {
        Routed::NotFound
    }
}
