//! What happened: the guard that every request carries, metrics, logs, traces.
//!
//! [`request::Observer`] is one per server. A request begins it and its response's body ends it;
//! metrics, the access log and the trace are recorded then, and nowhere else.

pub mod access;
pub mod figures;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod output;
pub mod request;
pub mod series;

pub use metrics::Metrics;
pub use request::{Observer, RequestGuard, RequestId};
