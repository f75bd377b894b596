//! What the server gives to its plugins to run on: engines, cores, the heavy lane, services.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::lane::Lane;
use super::program::Builder;
use super::state::Services;
use crate::drain::Drain;
use crate::observe::Metrics;

/// One a server; plugins are made from it.
#[derive(Debug)]
pub struct Platform {
    /// Compiles and links.
    pub builder: Builder,
    /// One runtime a core, in the order of `Conn::core`.
    pub cores: Vec<Handle>,
    /// Where instances go that use the CPU for long.
    pub lane: Arc<Lane>,
    /// Tracks the instances.
    pub drain: Drain,
    /// Counts instances and compilations.
    pub metrics: Arc<Metrics>,
    /// What guests reach through their interfaces.
    pub services: Arc<Services>,
}
