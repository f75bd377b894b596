//! The hub's deterministic core: topics and selectors, the order of publication, bounded histories,
//! and what a subscriber has still to get.
//!
//! It does no I/O, spawns nothing and reads no clock: time is an argument, waking somebody is the
//! caller's. The glue to connections, cores and the disk is `host/src/hub` in the package `wharf`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod selector;
mod topic;

pub use self::selector::{Selector, SelectorError, SelectorKind};
pub use self::topic::{Topic, TopicError};
