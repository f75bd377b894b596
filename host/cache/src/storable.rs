//! Whether a response may be stored (RFC 9111 §3), with a name for each reason why not.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::control::{self, CacheControl, Source, WHARF_CACHE_CONTROL};
use crate::date::http_date_value;
use crate::freshness;
use crate::options::{Options, Request, SetCookie, Times};
use crate::stored::{Draft, Stored};
use crate::vary::{Selecting, Vary};

/// Surrogate keys, separated by blanks.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Surrogate keys, separated by commas.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// A response with more surrogate keys is not stored, as it could not be purged by all of them.
pub const MAX_SURROGATE_KEYS: usize = 128;
/// A response with a longer one neither.
pub const MAX_SURROGATE_KEY_BYTES: usize = 1024;

/// Fields by which frameworks take another method or path than the request line's. They are not in the
/// key, so a request with one of them does not touch the cache.
pub const OVERRIDES: [HeaderName; 5] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It answers another method than GET (§3).
    Method,
    /// It answers a GET with a body, of which the key knows nothing.
    FatRequest,
    /// It answers a request that has one of [`OVERRIDES`].
    Override,
    /// The status is not final, or speaks of this one request (408, 412, 413, 416, 417, 421, 425, 426,
    /// 429, 431) or of something stored elsewhere (304).
    Status,
    /// It is a part (206, or it has `Content-Range`).
    Partial,
    /// `must-understand`, and the status is none that we understand (§5.2.2.3).
    MustUnderstand,
    /// `no-store` of the response (§5.2.2.5).
    NoStore,
    /// `no-store` of the request (§5.2.1.5).
    RequestNoStore,
    /// `private` (§5.2.2.7).
    Private,
    /// The request has `Authorization` and the response does not allow sharing (§3.5).
    Authorization,
    /// `Vary: *` (§4.1).
    VaryAny,
    /// It varies by more than [`crate::vary::MAX_FIELDS`], or by more than
    /// [`crate::vary::MAX_SELECTING_BYTES`] of the request.
    VaryTooMuch,
    /// It has `Set-Cookie` ([`SetCookie`]).
    SetCookie,
    /// It has `Content-Length` twice with two values, or beside `Transfer-Encoding`.
    Length,
    /// Its surrogate keys are too many, too long or not visible ASCII.
    SurrogateKeys,
    /// Nothing says how long it is fresh.
    NoFreshness,
    /// It was never fresh, may not be used stale and has nothing to be validated by.
    Stale,
    /// Storing is turned off. Not found here, as those below; so that all are in one list.
    Disabled,
    /// The host holds the body: an event stream, a socket, a file.
    HostHeld,
    /// The body is larger than what is stored.
    TooLarge,
    /// The body ended early.
    Incomplete,
    /// The key has as many variants as are kept.
    Variants,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Method,
        Self::FatRequest,
        Self::Override,
        Self::Status,
        Self::Partial,
        Self::MustUnderstand,
        Self::NoStore,
        Self::RequestNoStore,
        Self::Private,
        Self::Authorization,
        Self::VaryAny,
        Self::VaryTooMuch,
        Self::SetCookie,
        Self::Length,
        Self::SurrogateKeys,
        Self::NoFreshness,
        Self::Stale,
        Self::Disabled,
        Self::HostHeld,
        Self::TooLarge,
        Self::Incomplete,
        Self::Variants,
    ];

    /// Its name in metrics and in `detail` of `Cache-Status`; it does not change.
    pub fn token(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::FatRequest => "fat-request",
            Self::Override => "override",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::MustUnderstand => "must-understand",
            Self::NoStore => "no-store",
            Self::RequestNoStore => "request-no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::VaryAny => "vary-any",
            Self::VaryTooMuch => "vary-too-much",
            Self::SetCookie => "set-cookie",
            Self::Length => "length",
            Self::SurrogateKeys => "surrogate-keys",
            Self::NoFreshness => "no-freshness",
            Self::Stale => "stale",
            Self::Disabled => "disabled",
            Self::HostHeld => "host-held",
            Self::TooLarge => "too-large",
            Self::Incomplete => "incomplete",
            Self::Variants => "variants",
        }
    }

    /// Whether it is of one request, so that an older stored response is left as it is.
    pub fn leaves_stored(self) -> bool {
        matches!(self, Self::RequestNoStore | Self::Authorization)
    }

    /// Whether the next request for the same key is likely to be refused as well, so that nobody should
    /// wait for it (hit-for-miss); the others are of one request or one answer.
    pub fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::NoStore
                | Self::Private
                | Self::MustUnderstand
                | Self::VaryAny
                | Self::VaryTooMuch
                | Self::SetCookie
                | Self::SurrogateKeys
                | Self::NoFreshness
                | Self::Stale
                | Self::Disabled
                | Self::HostHeld
                | Self::TooLarge
        )
    }
}

/// What is stored of a response, or why it is not. The head has been through
/// [`crate::policy::apply`].
///
/// # Errors
///
/// The first reason that was found.
pub fn storable(
    request: Request<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    times: Times,
    options: &Options,
) -> Result<Stored, Refusal> {
    let (source, control) = control::effective(headers);
    refuse_request(request)?;
    refuse_status(status, headers, &control)?;
    refuse_directives(request, status, &control, options)?;
    refuse_set_cookie(headers, (source, &control), options)?;
    let stored = assemble(request, status, headers, (source, &control), times, options)?;
    if stored.is_never_used() {
        return Err(Refusal::Stale);
    }
    Ok(stored)
}

/// Takes off what is for this cache alone: surrogate keys and `Wharf-Cache-Control`. For answers that go
/// to clients; what is stored has none of them.
pub fn strip_private(headers: &mut HeaderMap) {
    for name in PRIVATE {
        headers.remove(name);
    }
}

/// Whether the request has a field of [`OVERRIDES`].
pub(crate) fn has_override(headers: &HeaderMap) -> bool {
    // One pass over the names costs a hit less than five lookups, which hash.
    headers.keys().any(|name| name.as_str().starts_with("x-") && OVERRIDES.contains(name))
}

fn refuse_request(request: Request<'_>) -> Result<(), Refusal> {
    if *request.method != Method::GET {
        return Err(Refusal::Method);
    }
    if request.has_body {
        return Err(Refusal::FatRequest);
    }
    if has_override(request.headers) {
        return Err(Refusal::Override);
    }
    Ok(())
}

fn refuse_status(
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
) -> Result<(), Refusal> {
    let of_this_request =
        matches!(status.as_u16(), 304 | 408 | 412 | 413 | 416 | 417 | 421 | 425 | 426 | 429 | 431);
    if status.is_informational() || of_this_request {
        return Err(Refusal::Status);
    }
    // In any other answer a `Content-Range` means nothing (RFC 9110 §14.4).
    if status == StatusCode::PARTIAL_CONTENT {
        return Err(Refusal::Partial);
    }
    if control.must_understand && !is_understood(status) {
        return Err(Refusal::MustUnderstand);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let contradicts = lengths.next().is_some_and(|first| {
        headers.contains_key(TRANSFER_ENCODING) || lengths.any(|other| other != first)
    });
    if contradicts {
        return Err(Refusal::Length);
    }
    Ok(())
}

pub(crate) fn refuse_directives(
    request: Request<'_>,
    status: StatusCode,
    control: &CacheControl,
    options: &Options,
) -> Result<(), Refusal> {
    // §5.2.2.3: who understands the status ignores `no-store` beside `must-understand`.
    if control.no_store && !(control.must_understand && is_understood(status)) {
        return Err(Refusal::NoStore);
    }
    if options.honour_request && control::RequestControl::of(request.headers).no_store {
        return Err(Refusal::RequestNoStore);
    }
    if control.private.is_whole() {
        return Err(Refusal::Private);
    }
    if request.headers.contains_key(AUTHORIZATION) && !control.allows_authorized() {
        return Err(Refusal::Authorization);
    }
    Ok(())
}

fn refuse_set_cookie(
    headers: &HeaderMap,
    (source, control): (Source, &CacheControl),
    options: &Options,
) -> Result<(), Refusal> {
    if !headers.contains_key(SET_COOKIE) {
        return Ok(());
    }
    let is_named = || {
        let mut names = control.no_cache.fields().iter().chain(control.private.fields());
        names.any(|name| *name == SET_COOKIE)
    };
    let allowed = match options.set_cookie {
        SetCookie::Refuse => false,
        SetCookie::Explicit => {
            control.public || control.s_maxage.is_some() || source.is_targeted() || is_named()
        }
        SetCookie::Store => true,
    };
    if allowed { Ok(()) } else { Err(Refusal::SetCookie) }
}

/// Statuses whose requirements on caches are known and kept here.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300..=303 | 307 | 308 | 400..=405 | 410 | 414 | 451 | 500..=505
    )
}

/// Makes the entry, whatever the directives say of storing it.
pub(crate) fn assemble(
    request: Request<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    (source, control): (Source, &CacheControl),
    times: Times,
    options: &Options,
) -> Result<Stored, Refusal> {
    let selecting = match Vary::of(headers) {
        Vary::Any => return Err(Refusal::VaryAny),
        Vary::TooMany => return Err(Refusal::VaryTooMuch),
        Vary::Fields(names) => Selecting::of(&names, request.headers),
    };
    let selecting = selecting.ok_or(Refusal::VaryTooMuch)?;
    let surrogate_keys = surrogate_keys(headers)?;
    let date = control::date(headers).unwrap_or(times.received);
    let has_validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let lifetime = freshness::lifetime((source, control), status, headers, date, options);
    // Without a lifetime it is stored where the response speaks to caches of using it after validation.
    let is_for_validation = has_validator
        && (control.no_cache.is_whole() || control.public)
        && freshness::is_heuristic(status);
    let lifetime = match lifetime {
        Some(lifetime) => lifetime,
        None if is_for_validation => Duration::ZERO,
        None => return Err(Refusal::NoFreshness),
    };
    let or = |said: Option<Duration>, default| said.unwrap_or(default);
    let [kept, private] = split(headers, control, date, options);
    Ok(Stored::new(Draft {
        status,
        headers: kept,
        private,
        selecting,
        surrogate_keys,
        date,
        received: times.received,
        initial_age: freshness::initial_age(headers, times),
        lifetime,
        stale_while_revalidate: or(control.stale_while_revalidate, options.stale_while_revalidate),
        stale_if_error: or(control.stale_if_error, options.stale_if_error),
        always_validate: control.no_cache.is_whole(),
        never_stale: control.forbids_stale(),
    }))
}

/// The fields that are stored to be sent (§3.1), with a `Date` (RFC 9110 §6.6.1), and those that are for
/// this cache alone.
pub(crate) fn split(
    headers: &HeaderMap,
    control: &CacheControl,
    date: SystemTime,
    options: &Options,
) -> [HeaderMap; 2] {
    let mut kept = headers.clone();
    for line in headers.get_all(CONNECTION) {
        for name in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if let Ok(name) = HeaderName::from_bytes(name) {
                kept.remove(name);
            }
        }
    }
    for name in control.no_cache.fields().iter().chain(control.private.fields()) {
        kept.remove(name);
    }
    for name in DROPPED {
        kept.remove(name);
    }
    if options.set_cookie != SetCookie::Store {
        for name in COOKIES {
            kept.remove(name);
        }
    }
    let mut private = HeaderMap::new();
    for name in PRIVATE {
        for value in headers.get_all(&name) {
            private.append(&name, value.clone());
        }
    }
    strip_private(&mut kept);
    if control::date(&kept).is_none() {
        kept.insert(DATE, http_date_value(date));
    }
    [kept, private]
}

const PRIVATE: [HeaderName; 3] = [SURROGATE_KEY, CACHE_TAG, WHARF_CACHE_CONTROL];

/// Of one client, unless it is told otherwise.
const COOKIES: [HeaderName; 2] = [SET_COOKIE, HeaderName::from_static("set-cookie2")];

/// Of one connection, of one proxy; and `Age`, which is made anew.
const DROPPED: [HeaderName; 10] = [
    AGE,
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

fn surrogate_keys(headers: &HeaderMap) -> Result<Box<[Box<str>]>, Refusal> {
    let mut keys = Vec::new();
    for (name, is_separator) in [
        (SURROGATE_KEY, (|byte| matches!(byte, b' ' | b'\t')) as fn(u8) -> bool),
        (CACHE_TAG, |byte| byte == b','),
    ] {
        for line in headers.get_all(name) {
            let line = line.to_str().map_err(|_| Refusal::SurrogateKeys)?;
            for key in line.split(|letter: char| u8::try_from(letter).is_ok_and(is_separator)) {
                let key = key.trim_ascii();
                if key.is_empty() {
                    continue;
                }
                if key.len() > MAX_SURROGATE_KEY_BYTES || keys.len() == MAX_SURROGATE_KEYS {
                    return Err(Refusal::SurrogateKeys);
                }
                keys.push(Box::from(key));
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys.into())
}
