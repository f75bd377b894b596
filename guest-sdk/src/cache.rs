//! What the shared cache in front of the plugin may keep, and what goes with it: policies by name,
//! entity tags, conditions, negotiation, purge. Needs no capability: a plugin purges only its own
//! answers.
//!
//! ```
//! use wharf_sdk::cache::{self, ETag, Policy, Purge, Validators};
//! use wharf_sdk::{Error, Request, Response};
//! # async fn stored(_: &str) -> Result<String, Error> { Ok(String::new()) }
//! # async fn store(_: &str, _: &str) -> Result<(), Error> { Ok(()) }
//!
//! async fn get(request: Request) -> Result<Response, Error> {
//!     let id = request.param("id")?;
//!     let post = stored(id).await?;
//!     let validators = Validators::etag(ETag::of(post.as_bytes())?);
//!     // 304 where the client has it, and then without content.
//!     Response::text(post)
//!         .cache(Policy::SemiStatic)?
//!         .surrogate_keys([format!("post-{id}").as_str(), "posts"])?
//!         .conditional(&request, &validators)
//! }
//!
//! async fn put(mut request: Request) -> Result<Response, Error> {
//!     let id = request.param("id")?.to_owned();
//!     let current = ETag::of(stored(&id).await?.as_bytes())?;
//!     // 428 without `If-Match`, 412 where it names another version.
//!     cache::require(&request, Some(&Validators::etag(current)))?;
//!     let post = request.text(64 << 10).await?;
//!     store(&id, &post).await?;
//!     cache::purge_key(&format!("post-{id}"), Purge::Hard)?;
//!     Ok(Response::text(post))
//! }
//! # let _ = (get, put);
//! ```
//!
//! The host answers conditions and ranges of complete responses by itself; to do it here saves making
//! an answer that is not sent. A component that uses more of this than [`CacheControl`] and the
//! methods of [`Response`] for fields imports `wharf:host/cache`, so that a host without that interface
//! will not load it.

mod control;

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY};
use http::{HeaderName, HeaderValue, StatusCode};

pub use control::CacheControl;

use crate::{Body, Error, Request, Response};

/// Names of entries, to be purged by; separated by spaces. Not sent to clients.
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// What may be kept of an answer, and for how long: a name that stands for a `Cache-Control`. What each
/// name stands for, `wharf.toml` and the manifest can say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// `public, max-age=86400, immutable`.
    Static,
    /// `public, max-age=3600`.
    SemiStatic,
    /// `private, max-age=300`.
    Dynamic,
    /// `no-cache, max-age=30`.
    Realtime,
    /// `no-store, no-cache`.
    Sensitive,
    /// `max-age=1, must-revalidate`: prices, live scores.
    UltraFresh,
    /// `no-cache, max-age=30`: messages, notifications.
    FrequentlyUpdated,
    /// `private, max-age=60, must-revalidate`: somebody's own dashboard.
    UserSpecific,
    /// `public, max-age=300, stale-while-revalidate=900`: news, public events.
    PublicRealtime,
    /// `no-store, no-cache, must-revalidate`: tokens, payments.
    SensitiveRealtime,
    /// One of `[cache.policies]`, in the manifest or in `wharf.toml`.
    Named(Cow<'static, str>),
    /// Any other.
    Control(CacheControl),
}

impl Policy {
    /// The policy of that name.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Named(name.into())
    }

    /// The value of `Cache-Control`.
    ///
    /// # Errors
    /// [`CacheError::UnknownPolicy`]; natively also for names that are not built in.
    pub fn text(&self) -> Result<String, CacheError> {
        let name = match self {
            Self::Static => "static",
            Self::SemiStatic => "semi-static",
            Self::Dynamic => "dynamic",
            Self::Realtime => "realtime",
            Self::Sensitive => "sensitive",
            Self::UltraFresh => "ultra-fresh",
            Self::FrequentlyUpdated => "frequently-updated",
            Self::UserSpecific => "user-specific",
            Self::PublicRealtime => "public-realtime",
            Self::SensitiveRealtime => "sensitive-realtime",
            Self::Named(name) => name,
            Self::Control(control) => return Ok(control.to_string()),
        };
        imp::policy(name)
    }
}

impl From<CacheControl> for Policy {
    fn from(control: CacheControl) -> Self {
        Self::Control(control)
    }
}

/// The names that there are and what they stand for, in the order of the names.
pub fn policies() -> Vec<(String, String)> {
    imp::policies()
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(HeaderValue);

impl ETag {
    /// The strong tag of this content, at most 4 MiB: the same for the same bytes.
    ///
    /// # Errors
    /// [`CacheError::Invalid`] for more; natively [`CacheError::NoHost`].
    pub fn of(content: &[u8]) -> Result<Self, CacheError> {
        Self::told(imp::etag_of(content, false)?)
    }

    /// The weak tag of what the content means: made, for example, without the time in it.
    ///
    /// # Errors
    /// As for [`of`](Self::of).
    pub fn weak_of(content: &[u8]) -> Result<Self, CacheError> {
        Self::told(imp::etag_of(content, true)?)
    }

    /// The strong tag of a version that the plugin counts or names itself.
    ///
    /// # Errors
    /// Natively [`CacheError::NoHost`].
    pub fn of_version(version: &str) -> Result<Self, CacheError> {
        Self::told(imp::etag_of_version(version, false)?)
    }

    /// The weak tag of a version.
    ///
    /// # Errors
    /// Natively [`CacheError::NoHost`].
    pub fn weak_of_version(version: &str) -> Result<Self, CacheError> {
        Self::told(imp::etag_of_version(version, true)?)
    }

    /// The value of `ETag`, quotes included.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// The value of `ETag` as text.
    pub fn as_str(&self) -> &str {
        // Made of visible characters.
        self.0.to_str().unwrap_or_default()
    }

    fn told(text: String) -> Result<Self, CacheError> {
        HeaderValue::try_from(text)
            .map(Self)
            .map_err(|error| CacheError::Invalid(error.to_string()))
    }
}

/// What tells versions of a representation apart (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<ETag>,
    last_modified: Option<SystemTime>,
}

impl Validators {
    /// An entity tag.
    pub fn etag(etag: ETag) -> Self {
        Self { etag: Some(etag), last_modified: None }
    }

    /// When it was last changed; parts of a second do not count.
    pub fn last_modified(time: SystemTime) -> Self {
        Self { etag: None, last_modified: Some(time) }
    }

    /// These, and when it was last changed.
    #[must_use]
    pub fn and_last_modified(self, time: SystemTime) -> Self {
        Self { last_modified: Some(time), ..self }
    }
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They hold, or there are none.
    Proceed,
    /// They hold, and the request wants ranges of the representation.
    ProceedWithRanges,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 428: there is none, and one is required.
    PreconditionRequired,
}

/// Decides on the conditions of a request in the order of RFC 9110 §13.2.2. `current` is what there is
/// now; `None`: nothing. Where one is `required`, unsafe methods need a condition.
///
/// # Errors
/// [`CacheError::Invalid`]; natively [`CacheError::NoHost`].
pub fn evaluate(
    request: &Request,
    current: Option<&Validators>,
    required: bool,
) -> Result<Decision, CacheError> {
    imp::evaluate(request, current, required)
}

/// Checks the conditions of a request that changes something, if it has any.
///
/// # Errors
/// 412 where they do not hold.
pub fn check(request: &Request, current: Option<&Validators>) -> Result<(), Error> {
    refuse(evaluate(request, current, false)?)
}

/// Checks the conditions of a request that changes something, which must have some.
///
/// # Errors
/// 412 where they do not hold, 428 (RFC 6585 §3) where there are none.
pub fn require(request: &Request, current: Option<&Validators>) -> Result<(), Error> {
    refuse(evaluate(request, current, true)?)
}

fn refuse(decision: Decision) -> Result<(), Error> {
    match decision {
        Decision::Proceed | Decision::ProceedWithRanges | Decision::NotModified => Ok(()),
        Decision::PreconditionFailed => Err(Error::new(StatusCode::PRECONDITION_FAILED)
            .detail("it is not the version that the request is about")),
        Decision::PreconditionRequired => Err(Error::new(StatusCode::PRECONDITION_REQUIRED)
            .detail("name the version that is to be changed: If-Match with its ETag")),
    }
}

/// Which of some media types the client wants (RFC 9110 §12.5.1): an index into `offers`. Answer with
/// `Vary: Accept`.
///
/// # Errors
/// 406 where it accepts none of them.
pub fn negotiate_type(request: &Request, offers: &[&str]) -> Result<usize, Error> {
    imp::negotiate(request, http::header::ACCEPT, offers)?.ok_or_else(|| unacceptable(offers))
}

/// Which of some languages the client wants (RFC 9110 §12.5.4): an index into `offers`. Answer with
/// `Vary: Accept-Language`.
///
/// # Errors
/// 406 where it accepts none of them. Others than programs are better served with some language than
/// with none: `.unwrap_or(0)`.
pub fn negotiate_language(request: &Request, offers: &[&str]) -> Result<usize, Error> {
    let field = http::header::ACCEPT_LANGUAGE;
    imp::negotiate(request, field, offers)?.ok_or_else(|| unacceptable(offers))
}

fn unacceptable(offers: &[&str]) -> Error {
    Error::new(StatusCode::NOT_ACCEPTABLE)
        .detail(format!("there is {}", offers.join(", ")))
        .member("available", offers)
}

/// How entries are purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// They are dropped.
    Hard,
    /// They become stale: still given while they are asked for anew, or where asking fails, as far as
    /// they said so.
    Soft,
}

/// Purges what the cache has of a URL, with all variants; gives the number of entries. `url` is absolute,
/// or a path and query as clients ask for them, which means those of every scheme and authority; a `*` at
/// its end stands for whatever follows.
///
/// # Errors
/// [`CacheError::Invalid`]; natively [`CacheError::NoHost`].
pub fn purge(url: &str, how: Purge) -> Result<u64, CacheError> {
    imp::purge(url, how == Purge::Soft)
}

/// Purges all entries that have this surrogate key; gives their number.
///
/// # Errors
/// [`CacheError::Invalid`]; natively [`CacheError::NoHost`].
pub fn purge_key(key: &str, how: Purge) -> Result<u64, CacheError> {
    imp::purge_key(key, how == Purge::Soft)
}

/// What the cache has of the plugin's answers, and what it did since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Entries, variants counted.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Answers that the cache gave by itself.
    pub hits: u64,
    /// Answers that the plugin had to give.
    pub misses: u64,
}

/// The figures now; natively nothing.
pub fn figures() -> Figures {
    imp::figures()
}

/// Why the cache does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// No policy has that name, and which may have been meant.
    UnknownPolicy(String),
    /// What was given cannot be, and why.
    Invalid(String),
    /// There is no host: this is a native test.
    NoHost,
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPolicy(what) | Self::Invalid(what) => f.write_str(what),
            Self::NoHost => f.write_str("no Wharf host is here"),
        }
    }
}

impl std::error::Error for CacheError {}

impl Response {
    /// The same response under a cache policy, in place of what it said of caching.
    ///
    /// # Errors
    /// 500 for a name that nothing is called.
    pub fn cache(self, policy: impl Into<Policy>) -> Result<Self, Error> {
        self.with_header(CACHE_CONTROL, policy.into().text()?)
    }

    /// The same response with the time until which it is fresh, for caches that do not know
    /// `Cache-Control`, which prevails.
    ///
    /// # Errors
    /// 500 for a time before 1970 or after 9999.
    pub fn expires(self, time: SystemTime) -> Result<Self, Error> {
        self.with_header(http::header::EXPIRES, date(time)?)
    }

    /// The same response with names to be purged by. They do not reach clients.
    ///
    /// # Errors
    /// 500 for a name with other characters than visible ASCII, or none.
    pub fn surrogate_keys<'a>(
        self,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let mut text = String::new();
        for key in keys {
            if key.is_empty() || !key.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b',') {
                return Err(CacheError::Invalid(format!("{key:?} is not a surrogate key")).into());
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(key);
        }
        self.with_header(SURROGATE_KEY, text)
    }

    /// The same response with a further field that chose it among others (RFC 9110 §12.5.5).
    ///
    /// # Errors
    /// 500 where `field` is not the name of one.
    pub fn vary(
        mut self,
        field: impl TryInto<HeaderName, Error: Into<http::Error>>,
    ) -> Result<Self, Error> {
        let field: HeaderName = field.try_into().map_err(Into::into)?;
        let there: Vec<&str> =
            self.headers().get_all(VARY).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut all = there.join(", ");
        let has =
            |name: &str| name.trim() == "*" || name.trim().eq_ignore_ascii_case(field.as_str());
        if all.split(',').any(has) {
            return Ok(self);
        }
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(&titled(field.as_str()));
        self.headers_mut().insert(VARY, HeaderValue::try_from(all).map_err(http::Error::from)?);
        Ok(self)
    }

    /// The same response with its validators, or, by the conditions of the request, a 304 without
    /// content; for GET and HEAD.
    ///
    /// # Errors
    /// 412 where the request is for another version only.
    pub fn conditional(mut self, request: &Request, current: &Validators) -> Result<Self, Error> {
        if let Some(etag) = &current.etag {
            self.headers_mut().insert(ETAG, etag.0.clone());
        }
        if let Some(time) = current.last_modified {
            self.headers_mut().insert(LAST_MODIFIED, HeaderValue::try_from(date(time)?)?);
        }
        if self.status() != StatusCode::OK {
            return Ok(self);
        }
        match evaluate(request, Some(current), false)? {
            Decision::NotModified => {
                *self.status_mut() = StatusCode::NOT_MODIFIED;
                *self.body_mut() = Body::from(());
                // RFC 9110 §15.4.5: what describes content that is not there only misleads.
                self.headers_mut().remove(CONTENT_TYPE);
                self.headers_mut().remove(CONTENT_LENGTH);
                Ok(self)
            }
            decision => refuse(decision).map(|()| self),
        }
    }
}

/// An IMF-fixdate (RFC 9110 §5.6.7), which has no others than these years.
fn date(time: SystemTime) -> Result<String, Error> {
    const YEAR_10000: u64 = 253_402_300_800;
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since.as_secs() < YEAR_10000 => Ok(httpdate::fmt_http_date(time)),
        _ => Err(Error::internal("a date of a field is before 1970 or after 9999")),
    }
}

/// `accept-language` as people write it.
fn titled(name: &str) -> String {
    let mut start = true;
    let letter = |c: char| {
        let written = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        written
    };
    name.chars().map(letter).collect()
}

#[cfg(target_family = "wasm")]
mod imp {
    use std::time::{Duration, SystemTime};

    use http::HeaderName;

    use super::{CacheError, Decision, Figures, Validators};
    use crate::Request;
    use crate::bindings::wharf::host::cache as host;

    pub(super) fn policy(name: &str) -> Result<String, CacheError> {
        Ok(host::policy(name)?)
    }

    pub(super) fn policies() -> Vec<(String, String)> {
        host::policies()
    }

    pub(super) fn etag_of(content: &[u8], weak: bool) -> Result<String, CacheError> {
        Ok(host::etag_of(content, weak)?)
    }

    pub(super) fn etag_of_version(version: &str, weak: bool) -> Result<String, CacheError> {
        Ok(host::etag_of_version(version, weak))
    }

    pub(super) fn evaluate(
        request: &Request,
        current: Option<&Validators>,
        required: bool,
    ) -> Result<Decision, CacheError> {
        // Only these few concern the host; a value that is no text is no condition, either.
        let concerns = |name: &HeaderName| {
            let name = name.as_str();
            name.starts_with("if-") || name == "range"
        };
        let fields = request.headers().iter().filter(|(name, _)| concerns(name));
        let fields: Vec<(String, String)> = fields
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let current = current.map(|current| host::Validators {
            etag: current.etag.as_ref().map(|etag| etag.as_str().to_owned()),
            last_modified: current.last_modified.map(millis),
        });
        let method = request.method().as_str();
        Ok(match host::evaluate(method, &fields, current.as_ref(), required)? {
            host::Decision::Proceed => Decision::Proceed,
            host::Decision::ProceedWithRanges => Decision::ProceedWithRanges,
            host::Decision::NotModified => Decision::NotModified,
            host::Decision::PreconditionFailed => Decision::PreconditionFailed,
            host::Decision::PreconditionRequired => Decision::PreconditionRequired,
        })
    }

    pub(super) fn negotiate(
        request: &Request,
        field: HeaderName,
        offers: &[&str],
    ) -> Result<Option<usize>, CacheError> {
        let values = request.headers().get_all(&field).iter();
        let values: Vec<String> =
            values.filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect();
        let offers: Vec<String> = offers.iter().map(|&offer| offer.to_owned()).collect();
        let chosen = if field == http::header::ACCEPT {
            host::negotiate_type(&values, &offers)
        } else {
            host::negotiate_language(&values, &offers)
        };
        Ok(chosen.map(|index| index as usize))
    }

    pub(super) fn purge(url: &str, soft: bool) -> Result<u64, CacheError> {
        Ok(host::purge(url, soft)?)
    }

    pub(super) fn purge_key(key: &str, soft: bool) -> Result<u64, CacheError> {
        Ok(host::purge_key(key, soft)?)
    }

    pub(super) fn figures() -> Figures {
        let host::Figures { entries, bytes, hits, misses } = host::status();
        Figures { entries, bytes, hits, misses }
    }

    fn millis(time: SystemTime) -> i64 {
        let whole = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => whole(since),
            Err(before) => -whole(before.duration()),
        }
    }

    impl From<host::CacheError> for CacheError {
        fn from(error: host::CacheError) -> Self {
            match error {
                host::CacheError::UnknownPolicy(what) => Self::UnknownPolicy(what),
                host::CacheError::Invalid(what) => Self::Invalid(what),
            }
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod imp {
    use http::HeaderName;

    use super::{CacheError, Decision, Figures, Validators};
    use crate::Request;

    /// Those that every host has.
    const BUILT_IN: [(&str, &str); 10] = [
        ("dynamic", "private, max-age=300"),
        ("frequently-updated", "no-cache, max-age=30"),
        ("public-realtime", "public, max-age=300, stale-while-revalidate=900"),
        ("realtime", "no-cache, max-age=30"),
        ("semi-static", "public, max-age=3600"),
        ("sensitive", "no-store, no-cache"),
        ("sensitive-realtime", "no-store, no-cache, must-revalidate"),
        ("static", "public, max-age=86400, immutable"),
        ("ultra-fresh", "max-age=1, must-revalidate"),
        ("user-specific", "private, max-age=60, must-revalidate"),
    ];

    pub(super) fn policy(name: &str) -> Result<String, CacheError> {
        let found = BUILT_IN.iter().find(|(built_in, _)| *built_in == name.replace('_', "-"));
        let unknown =
            || CacheError::UnknownPolicy(format!("no policy is called {name:?} natively"));
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(unknown)
    }

    pub(super) fn policies() -> Vec<(String, String)> {
        BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    pub(super) fn etag_of(_: &[u8], _: bool) -> Result<String, CacheError> {
        Err(CacheError::NoHost)
    }

    pub(super) fn etag_of_version(_: &str, _: bool) -> Result<String, CacheError> {
        Err(CacheError::NoHost)
    }

    pub(super) fn evaluate(
        _: &Request,
        _: Option<&Validators>,
        _: bool,
    ) -> Result<Decision, CacheError> {
        Err(CacheError::NoHost)
    }

    pub(super) fn negotiate(
        _: &Request,
        _: HeaderName,
        _: &[&str],
    ) -> Result<Option<usize>, CacheError> {
        Err(CacheError::NoHost)
    }

    pub(super) fn purge(_: &str, _: bool) -> Result<u64, CacheError> {
        Err(CacheError::NoHost)
    }

    pub(super) fn purge_key(_: &str, _: bool) -> Result<u64, CacheError> {
        Err(CacheError::NoHost)
    }

    pub(super) fn figures() -> Figures {
        Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(response: Result<Response, Error>, name: &str) -> String {
        response.unwrap().header(name).unwrap_or_default().to_owned()
    }

    #[test]
    fn policies_become_cache_control() {
        let of = |policy: Policy| field(Response::text("").cache(policy), "cache-control");

        assert_eq!(of(Policy::Static), "public, max-age=86400, immutable");
        assert_eq!(of(Policy::SensitiveRealtime), "no-store, no-cache, must-revalidate");
        assert_eq!(of(Policy::named("user_specific")), "private, max-age=60, must-revalidate");
        assert_eq!(of(CacheControl::new().no_store().into()), "no-store");
        assert_eq!(Response::text("").cache(Policy::named("x")).unwrap_err().status(), 500);
    }

    #[test]
    fn fields_are_added_to_vary_once() {
        let response = Response::text("").vary("accept").and_then(|r| r.vary("accept-language"));
        let response = response.and_then(|response| response.vary("Accept"));
        assert_eq!(field(response, "vary"), "Accept, Accept-Language");
        let any = Response::text("").with_header("vary", "*").and_then(|r| r.vary("accept"));
        assert_eq!(field(any, "vary"), "*");
    }

    #[test]
    fn surrogate_keys_cannot_bring_in_others() {
        let keys = |keys: &[&str]| Response::text("").surrogate_keys(keys.iter().copied());

        assert_eq!(field(keys(&["post-1", "posts"]), "surrogate-key"), "post-1 posts");
        for wrong in ["", "a b", "a,b", "a\r\nb", "é"] {
            assert_eq!(keys(&[wrong]).unwrap_err().status(), 500, "{wrong:?}");
        }
    }

    #[test]
    fn refusals_are_412_and_428() {
        assert!(refuse(Decision::ProceedWithRanges).is_ok());
        assert_eq!(refuse(Decision::PreconditionFailed).unwrap_err().status(), 412);
        assert_eq!(refuse(Decision::PreconditionRequired).unwrap_err().status(), 428);
    }
}
