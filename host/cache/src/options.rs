//! What a route, a plugin and the server decide about caching, and what a decision takes of a message.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method};

use crate::policy::Policy;

/// How a cache behaves for one route; made when a configuration is loaded.
///
/// # Defaults
///
/// | field | default |
/// | --- | --- |
/// | `honour_request` | true |
/// | `policy`, `default` | none |
/// | `heuristic` | none: only explicit freshness |
/// | `errors` | 0: errors without explicit freshness are not stored |
/// | `stale_while_revalidate`, `stale_if_error` | 0 |
/// | `set_cookie` | [`SetCookie::Explicit`] |
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The client's own `Cache-Control` counts (RFC 9111 §5.2.1).
    pub honour_request: bool,
    /// Takes the place of what the answer says ([`crate::policy::apply`]).
    pub policy: Option<Policy>,
    /// For answers that say nothing themselves ([`crate::policy::apply`]).
    pub default: Option<Policy>,
    /// Freshness of what has a `Last-Modified` and says nothing (RFC 9111 §4.2.2).
    pub heuristic: Option<Heuristic>,
    /// How long a 4xx or 5xx without explicit freshness is fresh.
    pub errors: Duration,
    /// Where the response has no `stale-while-revalidate`.
    pub stale_while_revalidate: Duration,
    /// Where neither side has a `stale-if-error`.
    pub stale_if_error: Duration,
    /// What becomes of responses with `Set-Cookie`.
    pub set_cookie: SetCookie,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            honour_request: true,
            policy: None,
            default: None,
            heuristic: None,
            errors: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            set_cookie: SetCookie::Explicit,
        }
    }
}

/// Heuristic freshness: a fraction of the time since `Last-Modified`, up to a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heuristic {
    /// In percent; RFC 9111 §4.2.2 calls 10 typical.
    pub percent: u32,
    /// At most this. RFC 9111 §4.2.2 asked for a warning above a day, once.
    pub limit: Duration,
}

/// What becomes of a response with `Set-Cookie` that could be stored. The field itself is not stored,
/// but with [`SetCookie::Store`]: only the client whose request was answered gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// It is not stored.
    Refuse,
    /// It is stored where it is expressly for shared caches: `public`, `s-maxage`, a targeted field, or
    /// `no-cache="set-cookie"` or `private="set-cookie"`.
    #[default]
    Explicit,
    /// It is stored as any other, with the field (RFC 9111 §3.1, §7.3).
    Store,
}

/// What decisions take of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// Its fields as the client sent them.
    pub headers: &'a HeaderMap,
    /// It has a body, however short: it was announced by a `content-length` that is not 0, or it has no
    /// known length.
    pub has_body: bool,
}

/// When a request went to the plugin and when the head of its answer came (RFC 9111 §4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// `request_time`.
    pub requested: SystemTime,
    /// `response_time`.
    pub received: SystemTime,
}

impl Times {
    /// Both at once.
    pub fn at(now: SystemTime) -> Self {
        Self { requested: now, received: now }
    }
}
