//! Freshness lifetime and age (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::header::LAST_MODIFIED;
use http::{HeaderMap, StatusCode};

use crate::control::{self, CacheControl, Expires, Source};
use crate::date::{http_date, since};
use crate::options::{Options, Times};

/// Whether a stored response is fresh, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Its age is below its lifetime.
    Fresh {
        /// What is left of the lifetime; not zero.
        left: Duration,
    },
    /// It is not.
    Stale {
        /// For how long it has not been.
        by: Duration,
    },
}

impl Freshness {
    /// Whether it is fresh.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh { .. })
    }

    /// For `ttl` of `Cache-Status` (RFC 9211 §2.4): seconds left, negative where it is stale.
    pub fn ttl(self) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self {
            Self::Fresh { left } => seconds(left),
            Self::Stale { by } => -seconds(by),
        }
    }
}

/// Whether a response with this status may be given a heuristic lifetime (RFC 9110 §15.1), and a
/// default policy. 206 is left out: parts are not stored.
pub fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The freshness lifetime (§4.2.1), if there is any: `s-maxage`, `max-age`, `Expires`, then what the
/// options give.
pub fn lifetime(
    (source, control): (Source, &CacheControl),
    status: StatusCode,
    headers: &HeaderMap,
    date: SystemTime,
    options: &Options,
) -> Option<Duration> {
    let expires = || match control::expires(headers) {
        _ if source.is_targeted() => None,
        Some(Expires::At(at)) => Some(since(at, date)),
        Some(Expires::Invalid) => Some(Duration::ZERO),
        None => None,
    };
    let heuristic = || {
        let heuristic = options.heuristic.filter(|_| is_heuristic(status) || control.public)?;
        let modified = http_date(headers.get(LAST_MODIFIED)?)?;
        let age = since(date, modified);
        Some((age.saturating_mul(heuristic.percent) / 100).min(heuristic.limit))
    };
    let is_error = status.is_client_error() || status.is_server_error();
    let errors = || (is_error && !options.errors.is_zero()).then_some(options.errors);
    control.s_maxage.or(control.max_age).or_else(expires).or_else(heuristic).or_else(errors)
}

/// `corrected_initial_age` (§4.2.3): how old the response was when it came.
///
/// Dates have whole seconds, so what is below one between `Date` and the time of receipt is no age.
pub fn initial_age(headers: &HeaderMap, times: Times) -> Duration {
    let apparent = control::date(headers)
        .map_or(Duration::ZERO, |date| Duration::from_secs(since(times.received, date).as_secs()));
    let delay = since(times.received, times.requested);
    let corrected = control::age(headers).unwrap_or_default().saturating_add(delay);
    apparent.max(corrected)
}
