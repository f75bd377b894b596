//! What the cache did, in numbers: what happens on a hit is counted by route (`observe/series`), what
//! happens less often here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use wharf_cache::Refusal;

/// How a request fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with what was stored, and fresh.
    Hit,
    /// Answered with what was stored, and stale.
    Stale,
    /// Answered with what was stored, which the plugin said is still right.
    Revalidated,
    /// What was stored was stale; the plugin answered.
    Expired,
    /// Nothing was stored that fits; the plugin answered.
    Miss,
    /// The cache was not asked: the method, the route, the kind of answer.
    Bypass,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Hit, Self::Stale, Self::Revalidated, Self::Expired, Self::Miss, Self::Bypass];

    /// As `X-Cache-Status` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Stale => "STALE",
            Self::Revalidated => "REVALIDATED",
            Self::Expired => "EXPIRED",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Expired => "expired",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    plugin: String,
    route: String,
    reason: &'static str,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Figures {
    stored: AtomicU64,
    purged: AtomicU64,
    refused: Family<RefusedLabels, Counter>,
}

impl Figures {
    /// An answer was stored.
    pub(super) fn stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// So many variants were purged.
    pub(super) fn purged(&self, variants: u64) {
        self.purged.fetch_add(variants, Ordering::Relaxed);
    }

    /// An answer was not stored.
    pub(super) fn refused(&self, plugin: &str, route: &str, reason: Refusal) {
        let labels = RefusedLabels {
            plugin: plugin.to_owned(),
            route: route.to_owned(),
            reason: reason.token(),
        };
        self.refused.get_or_create(&labels).inc();
    }

    /// Answers stored since start.
    pub fn stores(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Variants purged since start.
    pub fn purges(&self) -> u64 {
        self.purged.load(Ordering::Relaxed)
    }

    /// Tells the counts that have labels.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Answers that were not stored, by reason";
        let kind = self.refused.metric_type();
        let series = encoder.encode_descriptor("wharf_cache_refused", help, None, kind)?;
        self.refused.encode(series)
    }
}

/// What is stored, of one plugin or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Keys.
    pub entries: u64,
    /// Bytes, with what entries cost beside their bodies.
    pub bytes: u64,
    /// Most bytes.
    pub capacity: u64,
    /// Keys evicted since start.
    pub evictions: u64,
}
