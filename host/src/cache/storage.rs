//! Where entries are: in memory, weighed in bytes, the least useful evicted first (`quick_cache`:
//! CLOCK-Pro over shards, maintained, weighs entries and evicts as it inserts, so that the weight is
//! never above the capacity).
//!
//! A key has a [`Resource`]: what it answers with, in variants. Resources are immutable; a change
//! puts another in the place, under a lock of the key's stripe.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, HeaderValue, Method, Response};
use parking_lot::Mutex;
use quick_cache::sync::Cache as Weighed;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use wharf_cache::status::CACHE_STATUS;
use wharf_cache::{Key, Stored};

use super::blocks::{Blocks, Memory};
use super::index::{Index, Name};
use crate::http::coding::Coding;
use crate::http::finish::{FinishPolicy, Traits, prepare};

/// Variants of a key; the oldest gives way to another. Nothing varies by so much to good purpose.
pub const MAX_VARIANTS: usize = 32;

/// What an entry costs beside its fields and its body: its place, its counts, its index.
const ENTRY_OVERHEAD: u64 = 320;

/// What a key costs beside its bytes.
const KEY_OVERHEAD: u64 = 320;

/// Locks that changes of resources are spread over.
const STRIPES: usize = 64;

/// About what an entry weighs, for the number of keys to remember as evicted.
const TYPICAL_ENTRY: u64 = 8 * 1024;

/// A shard holds at least so much, so that large entries have room in it.
const SHARD: u64 = 32 * 1024 * 1024;

/// A stored response. Immutable but for the coded forms of its body, which are made when they are
/// first asked for.
#[derive(Debug)]
pub struct Entry {
    /// Its head, and what the cache knows of it.
    pub stored: Stored,
    /// As the plugin made it.
    pub body: Blocks,
    /// The head that clients get, with places for `Age` and `Cache-Status`: what the host adds for the content is
    /// not the plugin's and no validator to ask it by.
    pub headers: HeaderMap,
    /// What finishing it takes of that.
    pub traits: Traits,
    coded: [OnceLock<Bytes>; Coding::ALL.len()],
    /// Somebody is coding it.
    claimed: [AtomicBool; Coding::ALL.len()],
    policy: FinishPolicy,
}

impl Entry {
    /// An entry, whose answers are finished as `policy` says.
    pub fn new(stored: Stored, body: Blocks, policy: FinishPolicy) -> Arc<Self> {
        Self::made(stored, body, policy, Default::default())
    }

    /// The same with another head. The coded forms stay.
    pub fn with(&self, stored: Stored) -> Arc<Self> {
        Self::made(stored, self.body.clone(), self.policy, self.coded.clone())
    }

    fn made(
        stored: Stored,
        body: Blocks,
        policy: FinishPolicy,
        coded: [OnceLock<Bytes>; Coding::ALL.len()],
    ) -> Arc<Self> {
        let mut head = Response::new(()).into_parts().0;
        head.status = stored.status();
        head.headers = stored.headers().clone();
        let traits = prepare(&Method::GET, &mut head, &body.body(), &policy, true);
        // Places for what each answer has of its own: another field would make the copy grow.
        head.headers.insert(AGE, HeaderValue::from_static("0"));
        if !head.headers.contains_key(CACHE_STATUS) {
            head.headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
        }
        let claimed = Default::default();
        Arc::new(Self { stored, body, headers: head.headers, traits, coded, claimed, policy })
    }

    /// Whether the caller is to make the body in a coding: nobody else is at it.
    pub fn claim(&self, coding: Coding) -> bool {
        !self.claimed[coding as usize].swap(true, Ordering::Relaxed)
    }

    /// It was not made.
    pub fn give_up(&self, coding: Coding) {
        self.claimed[coding as usize].store(false, Ordering::Relaxed);
    }

    /// The body in a coding, where it was made.
    pub fn coded(&self, coding: Coding) -> Option<&Bytes> {
        self.coded[coding as usize].get()
    }

    fn weight(&self) -> u64 {
        let coded =
            self.coded.iter().filter_map(OnceLock::get).map(|coded| coded.len() as u64 + 96);
        // The head is there twice.
        2 * self.stored.weight() as u64 + self.body.weight() + coded.sum::<u64>() + ENTRY_OVERHEAD
    }
}

impl AsRef<Stored> for Entry {
    fn as_ref(&self) -> &Stored {
        &self.stored
    }
}

/// What is stored for a key.
#[derive(Debug)]
pub struct Resource {
    /// Whose it is.
    pub plugin: Arc<str>,
    /// The newest last.
    pub variants: Box<[Arc<Entry>]>,
    names: Box<[Name]>,
    weight: u64,
    /// Another is about to take its place, under most of its names.
    is_superseded: AtomicBool,
}

impl Resource {
    fn new(index: &Index, plugin: &Arc<str>, key: &Key, variants: Vec<Arc<Entry>>) -> Arc<Self> {
        let mut names = Vec::new();
        for entry in &variants {
            names.extend(self::names(index, plugin, key, &entry.stored));
        }
        names.sort_unstable();
        names.dedup();
        let entries: u64 = variants.iter().map(|entry| entry.weight()).sum();
        // In the index each name has a clone of the key.
        let weight = entries + key.weight() as u64 + KEY_OVERHEAD + names.len() as u64 * 64;
        Arc::new(Self {
            plugin: Arc::clone(plugin),
            variants: variants.into(),
            names: names.into(),
            weight,
            is_superseded: AtomicBool::new(false),
        })
    }
}

/// The names that a purge may know an entry by.
pub(super) fn names(index: &Index, plugin: &str, key: &Key, stored: &Stored) -> Vec<Name> {
    let path = path_and_query(key);
    let mut names = vec![index.path(plugin, path), index.any_path(path)];
    for tag in stored.surrogate_keys() {
        names.push(index.surrogate_key(plugin, tag));
        names.push(index.any_surrogate_key(tag));
    }
    names
}

/// Path and query in a key: what follows the authority.
pub(super) fn path_and_query(key: &Key) -> &str {
    let bytes = key.as_bytes();
    let target = bytes.iter().position(|byte| *byte == 0).map_or(bytes, |at| &bytes[at + 1..]);
    let end = target.iter().position(|byte| *byte == b'\n').unwrap_or(target.len());
    let text = std::str::from_utf8(&target[..end]).unwrap_or_default();
    let authority = text.find("://").map_or(0, |at| at + 3);
    text[authority..].find('/').map_or("", |at| &text[authority + at..])
}

/// Entries of several plugins in one bounded memory.
pub struct Storage {
    entries: Weighed<Key, Arc<Resource>, ByWeight, DefaultHashBuilder, Evicted>,
    stripes: [Mutex<()>; STRIPES],
    hasher: RandomState,
    index: Arc<Index>,
    memory: Arc<Memory>,
    evictions: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct ByWeight;

impl Weighter<Key, Arc<Resource>> for ByWeight {
    fn weight(&self, _key: &Key, resource: &Arc<Resource>) -> u64 {
        resource.weight
    }
}

#[derive(Clone, Debug)]
struct Evicted {
    index: Arc<Index>,
    evictions: Arc<AtomicU64>,
}

impl Lifecycle<Key, Arc<Resource>> for Evicted {
    /// What was evicted is dropped when the shard's lock is free again.
    type RequestState = Vec<(Key, Arc<Resource>)>;

    /// Of what gives way, also to another value of its own key.
    fn on_evict(&self, state: &mut Self::RequestState, key: Key, resource: Arc<Resource>) {
        if !resource.is_superseded.load(Ordering::Relaxed) {
            self.evictions.fetch_add(1, Ordering::Relaxed);
            self.index.remove(resource.names.iter().copied(), &key);
        }
        state.push((key, resource));
    }
}

impl Storage {
    /// An empty one for entries of at most `capacity` bytes in all.
    pub fn new(capacity: u64, memory: Arc<Memory>, index: Arc<Index>) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let shards = usize::try_from(capacity / SHARD).unwrap_or(usize::MAX).clamp(1, 16);
        let items = usize::try_from(capacity / TYPICAL_ENTRY).unwrap_or(usize::MAX).max(64);
        let mut options = OptionsBuilder::new();
        options.shards(shards).estimated_items_capacity(items).weight_capacity(capacity);
        let options = options.build().expect("items and weight are set");
        let lifecycle = Evicted { index: Arc::clone(&index), evictions: Arc::clone(&evictions) };
        Self {
            entries: Weighed::with_options(
                options,
                ByWeight,
                DefaultHashBuilder::default(),
                lifecycle,
            ),
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            index,
            memory,
            evictions,
        }
    }

    /// What is stored for a key.
    pub fn get(&self, key: &Key) -> Option<Arc<Resource>> {
        self.entries.get(key)
    }

    /// Puts an entry among the variants of its key, in the place of those that answer the same
    /// requests.
    pub fn put(&self, plugin: &Arc<str>, key: &Key, entry: Arc<Entry>) {
        self.change(key, |before| {
            let kept = before.map(|before| before.variants.as_ref()).unwrap_or_default();
            let selecting = entry.stored.selecting();
            let others = kept.iter().filter(|kept| kept.stored.selecting() != selecting).cloned();
            let mut variants: Vec<_> = others.collect();
            if variants.len() >= MAX_VARIANTS {
                variants.remove(0);
            }
            variants.push(entry);
            Some((Arc::clone(plugin), variants))
        });
    }

    /// Puts another entry in the place of exactly this one; nothing where that is no longer there.
    pub fn replace(&self, key: &Key, old: &Arc<Entry>, new: &Arc<Entry>) {
        self.change(key, |before| {
            let before = before?;
            let variants = before.variants.iter();
            let variants = variants.map(|entry| if Arc::ptr_eq(entry, old) { new } else { entry });
            Some((Arc::clone(&before.plugin), variants.cloned().collect()))
        });
    }

    /// Keeps a coded form of an entry's body, as long as there is room.
    pub fn keep_coded(&self, key: &Key, entry: &Arc<Entry>, coding: Coding, coded: &Bytes) {
        let Some(coded) = Blocks::copy_whole(&self.memory, coded) else { return };
        if entry.coded[coding as usize].set(coded).is_ok() {
            // Its weight has changed: it must be weighed anew.
            let new = entry.with(entry.stored.clone());
            self.replace(key, entry, &new);
        }
    }

    /// Drops what is stored for a key; how many variants that were.
    pub fn remove(&self, key: &Key) -> usize {
        let mut removed = 0;
        self.change(key, |before| {
            removed = before.map_or(0, |before| before.variants.len());
            None
        });
        removed
    }

    /// Makes what is stored for a key stale; how many variants that were.
    pub fn expire(&self, key: &Key, now: SystemTime) -> usize {
        let mut expired = 0;
        self.change(key, |before| {
            let before = before?;
            expired = before.variants.len();
            let stale = before.variants.iter().map(|entry| entry.with(entry.stored.purged(now)));
            Some((Arc::clone(&before.plugin), stale.collect()))
        });
        expired
    }

    /// Drops everything that is not to be kept; how many keys that were.
    pub fn retain(&self, keep: impl Fn(&Key, &Resource) -> bool) -> usize {
        let all = self.entries.iter();
        let gone: Vec<Key> =
            all.filter(|(key, resource)| !keep(key, resource)).map(|(key, _)| key).collect();
        gone.iter().filter(|key| self.remove(key) > 0).count()
    }

    /// Keys that pass a test.
    pub fn keys(&self, test: impl Fn(&Key, &Resource) -> bool) -> Vec<Key> {
        self.entries.iter().filter(|(key, value)| test(key, value)).map(|(key, _)| key).collect()
    }

    /// Bytes in all, and keys.
    pub fn weight(&self) -> (u64, u64) {
        (self.entries.weight(), self.entries.len() as u64)
    }

    /// Bytes and keys of one plugin. Looks at all of them.
    pub fn weight_of(&self, plugin: &str) -> (u64, u64) {
        let mine = self.entries.iter().filter(|(_, resource)| *resource.plugin == *plugin);
        mine.fold((0, 0), |(bytes, keys), (_, resource)| (bytes + resource.weight, keys + 1))
    }

    /// Most bytes.
    pub fn capacity(&self) -> u64 {
        self.entries.capacity()
    }

    /// Sets another bound; what is too much is evicted.
    pub fn set_capacity(&self, capacity: u64) {
        self.entries.set_capacity(capacity);
    }

    /// Keys that were evicted since start.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn change(
        &self,
        key: &Key,
        change: impl FnOnce(Option<&Resource>) -> Option<(Arc<str>, Vec<Arc<Entry>>)>,
    ) {
        let stripe =
            usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or_default();
        let _alone = self.stripes[stripe].lock();
        let before = self.entries.peek(key);
        match change(before.as_deref()).filter(|(_, variants)| !variants.is_empty()) {
            Some((plugin, variants)) => {
                let resource = Resource::new(&self.index, &plugin, key, variants);
                // First, so that an eviction that follows at once finds what to take back.
                self.index.add(&resource.names, key);
                let names = Arc::clone(&resource);
                if let Some(before) = &before {
                    before.is_superseded.store(true, Ordering::Relaxed);
                }
                self.entries.insert(key.clone(), resource);
                if let Some(before) = before {
                    let gone = before.names.iter().filter(|name| !names.names.contains(name));
                    self.index.remove(gone.copied(), key);
                }
            }
            None => {
                if let Some((key, resource)) = self.entries.remove(key) {
                    self.index.remove(resource.names.iter().copied(), &key);
                }
            }
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("weight", &self.weight()).finish_non_exhaustive()
    }
}
