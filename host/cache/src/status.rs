//! `Cache-Status` (RFC 9211): how a cache handled a request.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sfv::{KeyRef, ListSerializer, StringRef, TokenRef, key_ref, token_ref};

/// The field.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// This cache.
const NAME: &TokenRef = token_ref("wharf");

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const MAX_INTEGER: i64 = 999_999_999_999_999;

const HIT: &KeyRef = key_ref("hit");
const FWD: &KeyRef = key_ref("fwd");
const FWD_STATUS: &KeyRef = key_ref("fwd-status");
const TTL: &KeyRef = key_ref("ttl");
const STORED: &KeyRef = key_ref("stored");
const COLLAPSED: &KeyRef = key_ref("collapsed");
const KEY: &KeyRef = key_ref("key");
const DETAIL: &KeyRef = key_ref("detail");

/// Why a request went on to the plugin (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// The cache was configured not to handle it.
    Bypass,
    /// Its method has to be forwarded.
    Method,
    /// Nothing with its key was stored.
    UriMiss,
    /// Something with its key was stored, but nothing that it selects.
    VaryMiss,
    /// Nothing that could be used was stored; which of the two above is not known.
    Miss,
    /// What was stored is fresh, but the request's directives did not allow its use.
    Request,
    /// What was stored is stale.
    Stale,
    /// What was stored is a part, and not enough.
    Partial,
}

impl Fwd {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Bypass,
        Self::Method,
        Self::UriMiss,
        Self::VaryMiss,
        Self::Miss,
        Self::Request,
        Self::Stale,
        Self::Partial,
    ];

    /// Its name in `Cache-Status` and in metrics.
    pub fn token(self) -> &'static str {
        self.token_ref().as_str()
    }

    fn token_ref(self) -> &'static TokenRef {
        match self {
            Self::Bypass => token_ref("bypass"),
            Self::Method => token_ref("method"),
            Self::UriMiss => token_ref("uri-miss"),
            Self::VaryMiss => token_ref("vary-miss"),
            Self::Miss => token_ref("miss"),
            Self::Request => token_ref("request"),
            Self::Stale => token_ref("stale"),
            Self::Partial => token_ref("partial"),
        }
    }
}

/// One member of the field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// The request went no further (§2.1). Never together with `fwd`.
    pub hit: bool,
    /// Why it went on.
    pub fwd: Option<Fwd>,
    /// What the plugin answered, where the client got another status (§2.3).
    pub fwd_status: Option<StatusCode>,
    /// Seconds of freshness left, below zero where it is stale (§2.4).
    pub ttl: Option<i64>,
    /// The answer was stored (§2.5).
    pub stored: bool,
    /// The request waited for another's answer (§2.6).
    pub collapsed: bool,
    /// The key (§2.7); tells what may be a secret, so only where asked for.
    pub key: Option<&'a str>,
    /// Anything else (§2.8); here mostly the token of a [`crate::Refusal`].
    pub detail: Option<&'a str>,
}

impl CacheStatus<'_> {
    /// A fresh hit.
    pub fn hit(ttl: i64) -> Self {
        Self { hit: true, ttl: Some(ttl), ..Self::default() }
    }

    /// A request that went on.
    pub fn forwarded(reason: Fwd) -> Self {
        Self { fwd: Some(reason), ..Self::default() }
    }

    /// The member as a field value.
    pub fn to_value(&self) -> HeaderValue {
        if let Some(ttl) = self.ttl.filter(|ttl| *self == Self::hit(*ttl)) {
            // What most answers say, without a serializer.
            const HIT: &[u8] = b"wharf;hit;ttl=";
            let mut text = [0; HIT.len() + 20];
            let mut number = itoa::Buffer::new();
            let number = number.format(ttl.clamp(-MAX_INTEGER, MAX_INTEGER)).as_bytes();
            let length = HIT.len() + number.len();
            text[..HIT.len()].copy_from_slice(HIT);
            text[HIT.len()..length].copy_from_slice(number);
            return HeaderValue::from_bytes(&text[..length]).expect("letters and digits");
        }
        let mut text = String::with_capacity(48);
        self.write(&mut text);
        HeaderValue::try_from(text).expect("a structured field is visible ASCII")
    }

    /// Adds it after the members of those nearer to the origin (§2).
    pub fn append(&self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.to_value());
    }

    fn write(&self, text: &mut String) {
        let mut list = ListSerializer::with_buffer(text);
        let mut member = list.bare_item(NAME);
        if self.hit {
            member = member.parameter(HIT, true);
        }
        if let Some(reason) = self.fwd {
            member = member.parameter(FWD, reason.token_ref());
        }
        if let Some(status) = self.fwd_status {
            member = member.parameter(FWD_STATUS, status.as_u16());
        }
        if let Some(ttl) = self.ttl {
            // Lifetimes are at most 2^31 and times 64 bits, so this holds but for broken clocks.
            let ttl = ttl.clamp(-MAX_INTEGER, MAX_INTEGER);
            let ttl = sfv::Integer::try_from(ttl).unwrap_or(sfv::Integer::ZERO);
            member = member.parameter(TTL, ttl);
        }
        if self.stored {
            member = member.parameter(STORED, true);
        }
        if self.collapsed {
            member = member.parameter(COLLAPSED, true);
        }
        if let Some(key) = self.key {
            member = member.parameter(KEY, &*string(key));
        }
        if let Some(detail) = self.detail {
            member = member.parameter(DETAIL, &*string(detail));
        }
        let _ = member.finish();
    }
}

/// A string of a structured field; what is not ASCII text in it is replaced.
fn string(text: &str) -> std::borrow::Cow<'_, StringRef> {
    match StringRef::from_str(text) {
        Ok(text) => std::borrow::Cow::Borrowed(text),
        Err(_) => {
            let printable =
                text.chars().map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' });
            let text = sfv::String::from_string(printable.collect());
            std::borrow::Cow::Owned(text.expect("only printable ASCII is left"))
        }
    }
}
