//! The shared cache in front of the plugins: `wharf-cache` (RFC 9111 as pure functions) given memory, a
//! clock and requests that wait for each other.
//!
//! [`stage`] is a request's way through it; [`storage`] where entries are, [`blocks`] their bodies,
//! counted for as long as anybody has them; [`flight`] lets one answer serve many, [`stream`] while it
//! is still coming; [`purge`] takes entries out. What is stored is the plugin's answer, whole and
//! uncoded; conditions, ranges and codings come after it (`http/finish`).

pub mod answer;
pub mod blocks;
pub mod figures;
mod fill;
pub mod flight;
pub mod index;
pub mod origin;
pub mod purge;
pub mod stage;
pub mod storage;
pub mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use wharf_cache::Key;

use self::blocks::Memory;
use self::figures::{Contents, Figures};
use self::flight::Flights;
use self::index::Index;
use self::purge::Purges;
use self::stage::{FlightKey, Landed};
use self::storage::Storage;
use crate::drain::Drain;
use crate::plugin::Plugin;
use crate::plugin::registry::Published;

/// Keys whose answers were not to be stored, which are remembered so that nobody waits for the next one
/// (hit-for-miss).
pub const MAX_PASSES: usize = 16 * 1024;

/// For how long.
pub const PASS_TIME: Duration = Duration::from_secs(60);

/// Validations in the background at once; with more, stale answers are given without one.
pub const MAX_BACKGROUND: usize = 64;

/// A share of the size, its inverse, that is left to bodies that are being filled, or evicted and still
/// being sent.
const RESERVE: u64 = 8;

/// The cache of a server.
pub struct Cache {
    memory: Arc<Memory>,
    index: Arc<Index>,
    /// Entries of all plugins that have no storage of their own.
    shared: Arc<Storage>,
    /// Entries of those whose manifests bound their size.
    own: ArcSwap<HashMap<Arc<str>, Arc<Storage>>>,
    own_lock: Mutex<()>,
    capacity: u64,
    flights: Flights<FlightKey, Landed>,
    passes: quick_cache::sync::Cache<Key, Instant>,
    purges: Purges,
    background: Arc<Semaphore>,
    drain: Drain,
    /// What it did.
    pub figures: Figures,
}

impl Cache {
    /// A cache of `size` bytes, with everything that is being filled or sent; 0: it stores nothing.
    pub fn new(size: u64, drain: Drain) -> Arc<Self> {
        let memory = Memory::new(size);
        let index = Arc::new(Index::default());
        let capacity = size - size / RESERVE;
        Arc::new(Self {
            shared: Arc::new(Storage::new(capacity, Arc::clone(&memory), Arc::clone(&index))),
            memory,
            index,
            own: ArcSwap::default(),
            own_lock: Mutex::new(()),
            capacity,
            flights: Flights::default(),
            passes: quick_cache::sync::Cache::new(MAX_PASSES),
            purges: Purges::default(),
            background: Arc::new(Semaphore::new(MAX_BACKGROUND)),
            drain,
            figures: Figures::default(),
        })
    }

    /// Whether anything is ever stored.
    pub fn is_on(&self) -> bool {
        self.capacity > 0
    }

    /// Where a plugin's entries are.
    fn storage(&self, plugin: &str, has_own: bool) -> Arc<Storage> {
        if has_own && let Some(own) = self.own.load().get(plugin) {
            return Arc::clone(own);
        }
        Arc::clone(&self.shared)
    }

    /// All storages, the shared one first.
    fn storages(&self) -> Vec<Arc<Storage>> {
        let own = self.own.load();
        std::iter::once(&self.shared).chain(own.values()).map(Arc::clone).collect()
    }

    /// What is stored of a plugin, or of all. That of a plugin is counted.
    pub fn contents(&self, plugin: Option<&str>) -> Contents {
        let mut contents = Contents { capacity: self.capacity, ..Contents::default() };
        if let Some(plugin) = plugin {
            let own = self.own.load();
            let storage = own.get(plugin).unwrap_or(&self.shared);
            contents.capacity = storage.capacity();
            (contents.bytes, contents.entries) = storage.weight_of(plugin);
            return contents;
        }
        for storage in self.storages() {
            let (bytes, entries) = storage.weight();
            contents.bytes += bytes;
            contents.entries += entries;
            contents.evictions += storage.evictions();
        }
        contents
    }

    /// Bytes of all bodies, stored, being filled or still being sent.
    pub fn body_bytes(&self) -> u64 {
        self.memory.used()
    }

    /// Requests to plugins that others may be waiting for.
    pub fn fills(&self) -> u64 {
        self.flights.count() as u64
    }

    /// Keeps the storages up to date with what is served, until the drain.
    pub async fn follow(self: Arc<Self>, published: Arc<Published>) {
        let mut changes = published.changes();
        loop {
            changes.mark_unchanged();
            let spaces = published.routes().spaces();
            let plugins = published.plugins();
            let own = |(name, plugin): (&Arc<str>, &Arc<Plugin>)| {
                Some((Arc::clone(name), plugin.manifest.cache.size?))
            };
            let sizes = plugins.iter().filter_map(own).collect();
            drop(plugins);
            self.refresh(&spaces, &sizes);
            if !matches!(self.drain.unless_draining(changes.changed()).await, Some(Ok(()))) {
                return;
            }
        }
    }

    /// Brings the storages up to date with the plugins that serve: `spaces` are the names that keys may
    /// begin with, `sizes` the plugins that bound theirs. Entries of others are dropped: an earlier
    /// version of a plugin answers nothing any more.
    pub fn refresh(&self, spaces: &[Arc<str>], sizes: &HashMap<Arc<str>, u64>) {
        let _alone = self.own_lock.lock();
        let before = self.own.load_full();
        // What plugins keep to themselves is taken from the rest, of which something is always left.
        let wanted: u64 = sizes.values().sum();
        let most = self.capacity - self.capacity / RESERVE;
        let scaled = |size: u64| {
            if wanted <= most { size } else { mul_div(size, most, wanted) }
        };
        let storage = |(name, size): (&Arc<str>, &u64)| {
            let capacity = scaled(*size);
            let storage = match before.get(name) {
                Some(storage) => {
                    storage.set_capacity(capacity);
                    Arc::clone(storage)
                }
                None => {
                    let (memory, index) = (Arc::clone(&self.memory), Arc::clone(&self.index));
                    Arc::new(Storage::new(capacity, memory, index))
                }
            };
            (Arc::clone(name), storage)
        };
        let own: HashMap<_, _> = sizes.iter().map(storage).collect();
        let taken: u64 = sizes.values().map(|size| scaled(*size)).sum();
        self.shared.set_capacity(self.capacity - taken);
        for (name, storage) in before.iter().filter(|(name, _)| !own.contains_key(*name)) {
            tracing::debug!(plugin = &**name, "its own part of the cache is given up");
            storage.retain(|_, _| false);
        }
        let has_own: Vec<Arc<str>> = own.keys().cloned().collect();
        self.own.store(Arc::new(own));
        let known = |key: &Key| spaces.iter().any(|space| **space == *key.namespace());
        self.shared.retain(|key, kept| known(key) && !has_own.contains(&kept.plugin));
        for storage in self.own.load().values() {
            storage.retain(|key, _| known(key));
        }
    }
}

/// `value * numerator / denominator` without overflow.
fn mul_div(value: u64, numerator: u64, denominator: u64) -> u64 {
    let exact = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("memory", &self.memory).finish_non_exhaustive()
    }
}
