//! What happens to a request, given what is stored (RFC 9111 §4).

use std::time::{Duration, SystemTime};

use http::header::{
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::control::RequestControl;
use crate::freshness::Freshness;
use crate::options::{Options, Request};
use crate::status::Fwd;
use crate::storable::{Refusal, has_override};
use crate::stored::Stored;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The stored response is fresh: it is the answer.
    Serve {
        /// For `Age`.
        age: Duration,
        /// What is left of its lifetime.
        left: Duration,
    },
    /// The stored response is stale, and the answer nevertheless.
    ServeStale {
        /// Who allows it.
        reason: StaleReason,
        /// For `Age`.
        age: Duration,
        /// For how long it has been stale.
        by: Duration,
        /// It is validated in the background, unless somebody does already.
        revalidate: bool,
    },
    /// The plugin is asked whether the stored response is still right.
    Validate {
        /// What takes the place of the request's own conditions and ranges.
        conditions: Conditions,
        /// Why.
        reason: Fwd,
    },
    /// The plugin is asked. Conditions and ranges go along as they are.
    Forward {
        /// Why.
        reason: Fwd,
    },
    /// 504: `only-if-cached`, and nothing stored may be used (§5.2.1.7).
    GatewayTimeout,
}

/// Who allows that a stale response is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// `stale-while-revalidate` (RFC 5861 §3).
    WhileRevalidate,
    /// `stale-if-error` (RFC 5861 §4).
    IfError,
    /// `max-stale` of the request (RFC 9111 §5.2.1.2).
    MaxStale,
}

impl StaleReason {
    /// Its name in metrics and in `detail` of `Cache-Status`.
    pub fn token(self) -> &'static str {
        match self {
            Self::WhileRevalidate => "stale-while-revalidate",
            Self::IfError => "stale-if-error",
            Self::MaxStale => "max-stale",
        }
    }
}

/// The conditions of a validation (§4.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-None-Match`.
    pub if_none_match: Option<HeaderValue>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<HeaderValue>,
}

impl Conditions {
    /// Those that validate a stored response.
    pub fn of(stored: &Stored) -> Self {
        let validators = stored.validators();
        Self {
            if_none_match: validators.etag.clone(),
            if_modified_since: validators.last_modified.clone(),
        }
    }

    /// Puts them in the place of a request's own conditions and ranges, which are evaluated against the
    /// outcome.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let of_client =
            [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];
        for name in of_client {
            headers.remove(name);
        }
        if let Some(value) = &self.if_none_match {
            headers.insert(IF_NONE_MATCH, value.clone());
        }
        if let Some(value) = &self.if_modified_since {
            headers.insert(IF_MODIFIED_SINCE, value.clone());
        }
    }
}

/// What is there where nothing stored matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing with this key.
    Uri,
    /// No variant that the request selects.
    Variant,
}

/// Whether the request goes past the cache: neither answered from it, nor waiting, nor stored. Asked
/// first; answers to what is bypassed as [`Fwd::Method`] may still invalidate
/// ([`crate::invalidate::targets`]).
pub fn bypass(request: Request<'_>) -> Option<(Fwd, Refusal)> {
    if *request.method != Method::GET && *request.method != Method::HEAD {
        return Some((Fwd::Method, Refusal::Method));
    }
    if request.has_body {
        return Some((Fwd::Bypass, Refusal::FatRequest));
    }
    has_override(request.headers).then_some((Fwd::Bypass, Refusal::Override))
}

/// Which of the variants of a key answers: of those that match the one with the latest `Date`, and of
/// those the one that came last (§4.1).
pub fn select<'a, S: AsRef<Stored>>(
    variants: impl IntoIterator<Item = &'a S>,
    request: &HeaderMap,
) -> Option<&'a S> {
    variants
        .into_iter()
        .filter(|variant| variant.as_ref().matches(request))
        .max_by_key(|variant| (variant.as_ref().date(), variant.as_ref().received()))
}

/// What happens where the stored response matches the request: its key and its selecting fields.
pub fn decide(
    request: Request<'_>,
    stored: &Stored,
    options: &Options,
    now: SystemTime,
) -> Decision {
    if let Some((reason, _)) = bypass(request) {
        return Decision::Forward { reason };
    }
    let control = request_control(request, options);
    let age = stored.age(now);
    let is_young = control.max_age.is_none_or(|limit| age <= limit);
    let reason = match stored.freshness(now) {
        _ if control.no_cache || !is_young => Fwd::Request,
        _ if stored.always_validate() => Fwd::Stale,
        Freshness::Fresh { left } if control.min_fresh.is_none_or(|least| left >= least) => {
            return Decision::Serve { age, left };
        }
        Freshness::Fresh { .. } => Fwd::Request,
        Freshness::Stale { .. } if stored.never_stale() => Fwd::Stale,
        Freshness::Stale { by } => {
            let wants_fresh = control.min_fresh.is_some();
            if !wants_fresh && by < stored.stale_while_revalidate() {
                let reason = StaleReason::WhileRevalidate;
                return Decision::ServeStale { reason, age, by, revalidate: true };
            }
            if !wants_fresh && control.max_stale.is_some_and(|limit| by <= limit) {
                let reason = StaleReason::MaxStale;
                return Decision::ServeStale { reason, age, by, revalidate: false };
            }
            Fwd::Stale
        }
    };
    if control.only_if_cached {
        return Decision::GatewayTimeout;
    }
    if stored.validators().is_empty() {
        return Decision::Forward { reason };
    }
    Decision::Validate { conditions: Conditions::of(stored), reason }
}

/// What happens where nothing stored matches the request.
pub fn decide_without(request: Request<'_>, options: &Options, missing: Missing) -> Decision {
    if let Some((reason, _)) = bypass(request) {
        return Decision::Forward { reason };
    }
    if request_control(request, options).only_if_cached {
        return Decision::GatewayTimeout;
    }
    let reason = match missing {
        Missing::Uri => Fwd::UriMiss,
        Missing::Variant => Fwd::VaryMiss,
    };
    Decision::Forward { reason }
}

/// How asking the plugin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It answered with this status.
    Status(StatusCode),
    /// It gave no answer: a trap, a limit, too many requests.
    NoAnswer,
}

/// Whether the stored response is the answer after all, because validation failed (RFC 5861 §4): where
/// the response, the request or the options say so, and nothing forbids stale responses. The answer is
/// then [`Decision::ServeStale`], with nothing more to validate.
pub fn stale_on_error(
    request: Request<'_>,
    stored: &Stored,
    options: &Options,
    now: SystemTime,
    failure: Failure,
) -> Option<Decision> {
    let is_error = match failure {
        Failure::Status(status) => matches!(status.as_u16(), 500 | 502 | 503 | 504),
        Failure::NoAnswer => true,
    };
    if !is_error || stored.never_stale() || bypass(request).is_some() {
        return None;
    }
    let control = request_control(request, options);
    let age = stored.age(now);
    let by = match stored.freshness(now) {
        Freshness::Fresh { .. } => Duration::ZERO,
        Freshness::Stale { by } => by,
    };
    let limit = control.stale_if_error.unwrap_or_default().max(stored.stale_if_error());
    let is_young = control.max_age.is_none_or(|limit| age <= limit);
    let allowed = !control.no_cache && is_young && control.min_fresh.is_none() && by < limit;
    let reason = StaleReason::IfError;
    allowed.then_some(Decision::ServeStale { reason, age, by, revalidate: false })
}

fn request_control(request: Request<'_>, options: &Options) -> RequestControl {
    if options.honour_request {
        RequestControl::of(request.headers)
    } else {
        RequestControl::default()
    }
}
