//! Configuration: what was written becomes what is in force, once.

pub mod fault;
pub mod units;

pub use fault::{TomlFault, nearest_key, parse_toml};
