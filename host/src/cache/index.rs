//! Which entries a purge means: keys by their path, and by the surrogate keys of what is stored there.
//!
//! Names are kept as keyed 64-bit hashes, per plugin: a few bytes an entry. Two that were to collide
//! would be purged together, which costs a request to the plugin.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use wharf_cache::Key;

/// Locks that the index is spread over.
const SHARDS: usize = 32;

/// A name, hashed.
pub type Name = u64;

/// Keys by names. Nothing here calls the storage, so its locks are the innermost.
#[derive(Debug)]
pub struct Index {
    shards: [Mutex<HashMap<Name, HashSet<Key>>>; SHARDS],
    hasher: RandomState,
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Index {
    /// The name of all entries of a plugin at a path with its query.
    pub fn path(&self, plugin: &str, path_and_query: &str) -> Name {
        self.hasher.hash_one((plugin, 0u8, path_and_query))
    }

    /// The name of all entries of a plugin with a surrogate key.
    pub fn surrogate_key(&self, plugin: &str, key: &str) -> Name {
        self.hasher.hash_one((plugin, 1u8, key))
    }

    /// A surrogate key whoever's it is.
    pub fn any_surrogate_key(&self, key: &str) -> Name {
        self.hasher.hash_one((2u8, key))
    }

    /// A path whoever's it is.
    pub fn any_path(&self, path_and_query: &str) -> Name {
        self.hasher.hash_one((3u8, path_and_query))
    }

    /// Puts a key under names.
    pub fn add(&self, names: &[Name], key: &Key) {
        for name in names {
            self.shard(*name).lock().entry(*name).or_default().insert(key.clone());
        }
    }

    /// Takes a key from under names.
    pub fn remove(&self, names: impl IntoIterator<Item = Name>, key: &Key) {
        for name in names {
            let mut shard = self.shard(name).lock();
            if let Some(keys) = shard.get_mut(&name) {
                keys.remove(key);
                if keys.is_empty() {
                    shard.remove(&name);
                }
            }
        }
    }

    /// The keys under a name.
    pub fn find(&self, name: Name) -> Vec<Key> {
        let shard = self.shard(name).lock();
        shard.get(&name).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    fn shard(&self, name: Name) -> &Mutex<HashMap<Name, HashSet<Key>>> {
        &self.shards[usize::try_from(name % SHARDS as u64).unwrap_or_default()]
    }
}
