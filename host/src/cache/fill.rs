//! An answer on its way into the storage.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use wharf_cache::{Key, Refusal, Stored};

use super::blocks::Blocks;
use super::flight::Leader;
use super::stage::{FlightKey, Landed};
use super::storage::{Entry, Storage, names};
use super::stream::{self, Stream};
use super::{Cache, PASS_TIME};
use crate::http::body::ResponseBody;
use crate::http::finish::FinishPolicy;

/// An answer on its way into the storage.
pub(super) struct Fill {
    pub(super) cache: Arc<Cache>,
    pub(super) storage: Arc<Storage>,
    pub(super) plugin: Arc<str>,
    pub(super) route: Box<str>,
    pub(super) key: Key,
    pub(super) stored: Arc<Stored>,
    pub(super) policy: FinishPolicy,
    /// When it was asked for, counted in purges.
    pub(super) purges: u64,
    pub(super) leader: Option<Arc<Leader<FlightKey, Landed>>>,
}

impl Fill {
    /// Stores a body that is here; begins to store one that is not. What the client gets, and the
    /// entry if it is stored already.
    pub(super) fn begin(
        self,
        body: ResponseBody,
        largest: u64,
    ) -> (ResponseBody, Option<Arc<Entry>>) {
        if let Some(bytes) = body.bytes() {
            let entry =
                Blocks::copy(&self.cache.memory, &bytes).and_then(|blocks| self.put(blocks));
            if let Some(leader) = &self.leader {
                leader.tell(entry.clone().map_or(Landed::Own, Landed::Stored));
            }
            return (body, entry);
        }
        let memory = Arc::clone(&self.cache.memory);
        let (stored, leader) = (Arc::clone(&self.stored), self.leader.clone());
        let declared = self.stored.headers().get(CONTENT_LENGTH);
        let declared = declared.and_then(crate::http::validate::parse_content_length);
        let stream = Stream::new(body, &memory, declared, largest, Box::new(self));
        let reader = stream.reader().unwrap_or_else(ResponseBody::empty);
        if let Some(leader) = leader {
            leader.tell(Landed::Coming(stored, Arc::downgrade(&stream)));
        }
        (reader, None)
    }

    fn put(&self, blocks: Blocks) -> Option<Arc<Entry>> {
        if content_length(self.stored.headers()).is_some_and(|length| length != blocks.size()) {
            self.cache.figures.refused(&self.plugin, &self.route, Refusal::Incomplete);
            return None;
        }
        let names = names(&self.cache.index, &self.plugin, &self.key, &self.stored);
        if self.cache.purges.since(self.purges, &names) {
            return None;
        }
        let entry = Entry::new(Stored::clone(&self.stored), blocks, self.policy);
        self.storage.put(&self.plugin, &self.key, Arc::clone(&entry));
        self.cache.passes.remove(&self.key);
        self.cache.figures.stored();
        Some(entry)
    }
}

impl stream::Outcome for Fill {
    fn stored(self: Box<Self>, body: Blocks) {
        if let Some(entry) = self.put(body)
            && let Some(leader) = &self.leader
        {
            leader.tell(Landed::Stored(entry));
        }
    }

    fn too_large(self: Box<Self>) {
        self.cache.figures.refused(&self.plugin, &self.route, Refusal::TooLarge);
        self.cache.passes.insert(self.key.clone(), Instant::now() + PASS_TIME);
    }
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
