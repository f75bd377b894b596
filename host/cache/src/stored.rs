//! A stored response but for its body: its head, and what the hit path needs of it, worked out when it
//! was stored.

use std::time::{Duration, SystemTime};

use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::date::{http_date, since};
use crate::freshness::Freshness;
use crate::vary::Selecting;

/// What tells versions of a representation apart (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `etag` as it was sent.
    pub etag: Option<HeaderValue>,
    /// `last-modified` as it was sent.
    pub last_modified: Option<HeaderValue>,
    /// `last-modified`, if it is a date.
    pub modified: Option<SystemTime>,
}

impl Validators {
    /// Those of a head.
    pub fn of(headers: &HeaderMap) -> Self {
        let last_modified = headers.get(LAST_MODIFIED).cloned();
        Self {
            etag: headers.get(ETAG).cloned(),
            modified: last_modified.as_ref().and_then(http_date),
            last_modified,
        }
    }

    /// Whether there is nothing to validate by.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// A stored response but for its body. Immutable: what changes makes a new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    draft: Draft,
    validators: Validators,
    /// When its age was zero.
    born: SystemTime,
    /// It was purged softly then.
    purged: Option<SystemTime>,
}

/// What [`Stored`] is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draft {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What is not sent: surrogate keys and `Wharf-Cache-Control`, to be merged with a 304.
    pub(crate) private: HeaderMap,
    pub(crate) selecting: Selecting,
    pub(crate) surrogate_keys: Box<[Box<str>]>,
    pub(crate) date: SystemTime,
    pub(crate) received: SystemTime,
    pub(crate) initial_age: Duration,
    pub(crate) lifetime: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) always_validate: bool,
    pub(crate) never_stale: bool,
}

impl Stored {
    pub(crate) fn new(draft: Draft) -> Self {
        Self {
            validators: Validators::of(&draft.headers),
            // A time that cannot be told is one long ago, and the entry stale.
            born: draft.received.checked_sub(draft.initial_age).unwrap_or(SystemTime::UNIX_EPOCH),
            purged: None,
            draft,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.draft.status
    }

    /// The fields to send, without `Age` and without what [`crate::storable()`] takes off; always with
    /// `Date`.
    pub fn headers(&self) -> &HeaderMap {
        &self.draft.headers
    }

    /// What it can be validated by.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// What `If-Modified-Since` of a client is compared with (RFC 9111 §4.3.2): `Last-Modified`, else
    /// `Date`, else when it came. No validator for anything else.
    pub fn modified_by(&self) -> SystemTime {
        self.validators.modified.unwrap_or(self.draft.date)
    }

    /// The request fields that select it.
    pub fn selecting(&self) -> &Selecting {
        &self.draft.selecting
    }

    /// Whether it may answer a request with these fields, as far as `Vary` goes.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.draft.selecting.matches(request)
    }

    /// Its surrogate keys, sorted, each once.
    pub fn surrogate_keys(&self) -> &[Box<str>] {
        &self.draft.surrogate_keys
    }

    /// `Date`, or when it came.
    pub fn date(&self) -> SystemTime {
        self.draft.date
    }

    /// When it came, or was last validated.
    pub fn received(&self) -> SystemTime {
        self.draft.received
    }

    /// `current_age` (RFC 9111 §4.2.3). A clock that was set back makes nothing younger than it came.
    pub fn age(&self, now: SystemTime) -> Duration {
        since(now, self.born).max(self.draft.initial_age)
    }

    /// The freshness lifetime.
    pub fn lifetime(&self) -> Duration {
        self.draft.lifetime
    }

    /// Whether it is fresh. What was purged softly has been stale since, if not for longer.
    pub fn freshness(&self, now: SystemTime) -> Freshness {
        let age = self.age(now);
        let by_age = match self.draft.lifetime.checked_sub(age) {
            Some(left) if !left.is_zero() => Freshness::Fresh { left },
            _ => Freshness::Stale { by: age.saturating_sub(self.draft.lifetime) },
        };
        match (self.purged, by_age) {
            (None, freshness) => freshness,
            (Some(at), Freshness::Fresh { .. }) => Freshness::Stale { by: since(now, at) },
            (Some(at), Freshness::Stale { by }) => Freshness::Stale { by: by.max(since(now, at)) },
        }
    }

    /// For how long after it became stale it may be used while it is validated.
    pub fn stale_while_revalidate(&self) -> Duration {
        self.draft.stale_while_revalidate
    }

    /// For how long after it became stale it may be used where validation fails.
    pub fn stale_if_error(&self) -> Duration {
        self.draft.stale_if_error
    }

    /// `no-cache`: never used without validation.
    pub fn always_validate(&self) -> bool {
        self.draft.always_validate
    }

    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache`: never used stale.
    pub fn never_stale(&self) -> bool {
        self.draft.never_stale
    }

    /// The same, stale from now on: a soft purge.
    pub fn purged(&self, now: SystemTime) -> Self {
        Self { purged: Some(self.purged.map_or(now, |at| at.min(now))), ..self.clone() }
    }

    /// Until when it can be of use, so that storage may drop what is not. Nothing where it can be
    /// validated, for ever then.
    pub fn useful_until(&self) -> Option<SystemTime> {
        if !self.validators.is_empty() {
            return None;
        }
        let after = self.draft.stale_while_revalidate.max(self.draft.stale_if_error);
        let after = if self.draft.never_stale { Duration::ZERO } else { after };
        let stale = self.born.checked_add(self.draft.lifetime)?;
        self.purged.map_or(stale, |at| at.min(stale)).checked_add(after)
    }

    /// What it takes of memory, about, without the body.
    pub fn weight(&self) -> usize {
        // An entry of a header map is about 100 bytes, with its index.
        let fields = self.draft.headers.iter();
        let fields: usize =
            fields.map(|(name, value)| 100 + name.as_str().len() + value.len()).sum();
        let keys: usize = self.draft.surrogate_keys.iter().map(|key| 16 + key.len()).sum();
        size_of::<Self>() + fields + keys + self.draft.selecting.weight()
    }

    /// What it is made of, and when it was purged softly.
    pub(crate) fn parts(&self) -> (&Draft, Option<SystemTime>) {
        (&self.draft, self.purged)
    }

    /// The fields that are sent, and those that are not.
    pub(crate) fn all_headers(&self) -> HeaderMap {
        let mut all = self.draft.headers.clone();
        all.extend(self.draft.private.clone());
        all
    }

    pub(crate) fn is_never_used(&self) -> bool {
        let is_stale = self.draft.always_validate || self.draft.initial_age >= self.draft.lifetime;
        let is_grace = |time: Duration| !self.draft.never_stale && !time.is_zero();
        let is_used_stale =
            is_grace(self.draft.stale_while_revalidate) || is_grace(self.draft.stale_if_error);
        is_stale && !is_used_stale && self.validators.is_empty()
    }
}
