//! The hub's deterministic core: topics and selectors, the order of publication, bounded histories,
//! and what a subscriber has still to get.
//!
//! It does no I/O, spawns nothing and reads no clock: time is an argument, waking somebody is the
//! caller's. The glue to connections, cores and the disk is `host/src/hub` in the package `wharf`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod event;
pub mod frame;
mod history;
mod hub;
pub mod selector;
mod shard;
mod subscriber;
mod subscription;
mod topic;

pub use self::event::{
    Content, Draft, Event, EventError, EventId, MAX_ALTERNATES, MAX_DATA_BYTES, MAX_FIELD_BYTES,
    MAX_FIELDS, MAX_FIELDS_BYTES, Payload, Run, SubscriberId,
};
pub use self::history::{HistoryLimits, Rule};
pub use self::hub::{Evicted, Hub, MAX_EMPTY_TOPICS, MAX_HISTORY_BYTES, Replay, Resumption, Start};
pub use self::selector::{Pattern, Selector, SelectorError, SelectorKind};
pub use self::shard::Shard;
pub use self::subscriber::{MAX_QUEUED, MAX_QUEUED_BYTES, Next, Subscriber};
pub use self::subscription::{MAX_SELECTORS, Subscription, SubscriptionError, selectors};
pub use self::topic::{MAX_TOPIC_BYTES, Topic, TopicError};
