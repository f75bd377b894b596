//! Taking entries out: by URL, by surrogate key, all of them; hard (they are gone) or soft (they are
//! stale, and may be used as stale answers may).
//!
//! An answer that is still coming was asked for before the purge and may be from before what the purge
//! is about. [`Purges`] remembers what was purged lately, so that such an answer is not stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use wharf_cache::Key;
use wharf_cache::key::Target;

use super::Cache;
use super::index::Name;

/// Buckets that names are spread over, twice, by two halves of their hash: only a name that shares both
/// its buckets with one that was purged, meanwhile, counts as purged as far as answers on their way
/// are concerned. With one bucket a hundred uploads at a time cost every sixth answer its place.
const BUCKETS: usize = 4096;

/// The end of a URL that stands for all that begin with what is before it.
const ANY: char = '*';

/// When names were purged last.
#[derive(Debug)]
pub struct Purges {
    /// Counts purges.
    last: AtomicU64,
    buckets: [Box<[AtomicU64]>; 2],
    all: AtomicU64,
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            last: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect()),
            all: AtomicU64::new(0),
        }
    }
}

impl Purges {
    /// To be kept with a request that goes to a plugin.
    pub fn now(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Whether one of the names was purged since.
    pub fn since(&self, then: u64, names: &[Name]) -> bool {
        self.all.load(Ordering::Acquire) > then
            || names.iter().any(|name| {
                self.places(*name).iter().all(|place| place.load(Ordering::Acquire) > then)
            })
    }

    fn purged(&self, name: Name) {
        let number = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        for place in self.places(name) {
            place.fetch_max(number, Ordering::AcqRel);
        }
    }

    fn purged_all(&self) {
        let number = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        self.all.fetch_max(number, Ordering::AcqRel);
    }

    fn places(&self, name: Name) -> [&AtomicU64; 2] {
        // The lower and the upper half of a hash that is as good as random.
        let place = |half: u64| usize::try_from(half % BUCKETS as u64).unwrap_or_default();
        [&self.buckets[0][place(name)], &self.buckets[1][place(name >> 32)]]
    }
}

/// How entries are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// They are gone.
    Hard,
    /// They are stale from now on.
    Soft,
}

impl Cache {
    /// Purges what is stored for a URL, or for all that begin with what is before a `*` at its end. A
    /// path alone (`/a?b`) means every host. `plugin`: only what that one answered. How many variants
    /// that were.
    pub fn purge_url(&self, plugin: Option<&str>, url: &str, how: Purge) -> u64 {
        let target = Target::of_url(url);
        let path = match &target {
            Some(target) if target.path_and_query.is_empty() => "/",
            Some(target) => target.path_and_query,
            None => url.split('#').next().unwrap_or_default(),
        };
        let origin = target.map(origin);
        let is_meant = |key: &Key| origin.as_ref().is_none_or(|origin| same_origin(key, origin));
        if let Some(beginning) = path.strip_suffix(ANY) {
            // Nothing knows what is coming.
            self.purges.purged_all();
            return self.purge_where(plugin, how, |key| {
                is_meant(key) && super::storage::path_and_query(key).starts_with(beginning)
            });
        }
        let name = match plugin {
            Some(plugin) => self.index.path(plugin, path),
            None => self.index.any_path(path),
        };
        self.purges.purged(name);
        self.purge_keys(self.index.find(name).iter().filter(|key| is_meant(key)), how)
    }

    /// Purges what is stored with a surrogate key. `plugin`: only what that one answered.
    pub fn purge_key(&self, plugin: Option<&str>, key: &str, how: Purge) -> u64 {
        let name = match plugin {
            Some(plugin) => self.index.surrogate_key(plugin, key),
            None => self.index.any_surrogate_key(key),
        };
        self.purges.purged(name);
        self.purge_keys(self.index.find(name).iter(), how)
    }

    /// Purges everything, or everything of a plugin.
    pub fn purge_all(&self, plugin: Option<&str>, how: Purge) -> u64 {
        self.purges.purged_all();
        self.purge_where(plugin, how, |_| true)
    }

    /// Purges what an unsafe request made invalid (RFC 9111 §4.4), whichever plugin answered it.
    pub(super) fn invalidate(&self, targets: &[Key]) {
        for target in targets {
            let path = super::storage::path_and_query(target);
            let name = self.index.any_path(path);
            self.purges.purged(name);
            let origin = origin_of(target);
            let keys = self.index.find(name);
            self.purge_keys(keys.iter().filter(|key| same_origin(key, &origin)), Purge::Hard);
        }
    }

    fn purge_where(&self, plugin: Option<&str>, how: Purge, test: impl Fn(&Key) -> bool) -> u64 {
        let mut purged = 0;
        for storage in self.storages() {
            let keys = storage.keys(|key, resource| {
                plugin.is_none_or(|plugin| *resource.plugin == *plugin) && test(key)
            });
            purged += self.purge_keys(keys.iter(), how);
        }
        purged
    }

    fn purge_keys<'a>(&self, keys: impl Iterator<Item = &'a Key>, how: Purge) -> u64 {
        let storages = self.storages();
        let now = SystemTime::now();
        let mut purged = 0;
        for key in keys {
            purged += storages
                .iter()
                .map(|storage| match how {
                    Purge::Hard => storage.remove(key),
                    Purge::Soft => storage.expire(key, now),
                } as u64)
                .sum::<u64>();
            self.passes.remove(key);
        }
        self.figures.purged(purged);
        purged
    }
}

/// Scheme and authority as keys have them.
fn origin(target: Target<'_>) -> String {
    let none = http::HeaderMap::new();
    let key = Key::new(
        &wharf_cache::KeyRules::default(),
        "",
        Target { path_and_query: "/", ..target },
        &none,
    );
    origin_of(&key)
}

fn origin_of(key: &Key) -> String {
    let bytes = key.as_bytes();
    let begin = bytes.iter().position(|byte| *byte == 0).map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(&bytes[begin..]);
    let authority = text.find("://").map_or(0, |at| at + 3);
    let end = text[authority..].find(['/', '\n']).map_or(text.len(), |at| authority + at);
    text[..end].to_owned()
}

fn same_origin(key: &Key, origin: &str) -> bool {
    origin_of(key) == origin
}
