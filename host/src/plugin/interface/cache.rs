//! `wharf:host/cache`: policies by name, validators, conditions and negotiation, and a plugin's own
//! entries of the shared cache.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::bindings::wharf::host::cache::{
    CacheError, Decision, DirectiveFlags, Directives, Figures, Host, Validators,
};
use crate::cache::figures::Outcome;
use crate::cache::purge::Purge;
use crate::http::condition::{self, Wanted};
use crate::http::{etag, negotiate};
use crate::plugin::state::{Environment, HostState};

/// Longest surrogate key, in bytes.
const MAX_SURROGATE_KEY_BYTES: usize = 1024;

/// Longest content that an entity tag is made of at once, in bytes: it holds up its core meanwhile.
const MAX_ETAG_BYTES: usize = 4 << 20;

/// The fields that [`evaluate`] looks at.
const FIELDS: [&str; 6] =
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"];
/// The conditions that a write may be required to have.
const CONDITIONS: [&str; 3] = ["if-match", "if-none-match", "if-unmodified-since"];

impl Host for HostState {
    fn policy(&mut self, name: String) -> wasmtime::Result<Result<String, CacheError>> {
        let named = &self.environment.manifest.cache.named;
        Ok(match named.get(&name) {
            Some(policy) => Ok(policy.text().to_owned()),
            None => Err(CacheError::UnknownPolicy(named.unknown(&name).to_string())),
        })
    }

    fn policies(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let named = self.environment.manifest.cache.named.iter();
        Ok(named.map(|(name, policy)| (name.to_owned(), policy.text().to_owned())).collect())
    }

    fn cache_control(
        &mut self,
        directives: Directives,
    ) -> wasmtime::Result<Result<String, CacheError>> {
        Ok(cache_control(&directives).map_err(CacheError::Invalid))
    }

    fn etag_of(
        &mut self,
        content: Vec<u8>,
        weak: bool,
    ) -> wasmtime::Result<Result<String, CacheError>> {
        if content.len() > MAX_ETAG_BYTES {
            let cause = "more than 4 MiB: make the tag of a version".to_owned();
            return Ok(Err(CacheError::Invalid(cause)));
        }
        Ok(Ok(etag::of_content(&content, weak)))
    }

    fn etag_of_version(&mut self, version: String, weak: bool) -> wasmtime::Result<String> {
        Ok(etag::of_version(&version, weak))
    }

    fn evaluate(
        &mut self,
        method: String,
        fields: Vec<(String, String)>,
        current: Option<Validators>,
        required: bool,
    ) -> wasmtime::Result<Result<Decision, CacheError>> {
        let now = SystemTime::now();
        Ok(evaluate(&method, &fields, current, required, now).map_err(CacheError::Invalid))
    }

    fn negotiate_type(
        &mut self,
        accept: Vec<String>,
        offers: Vec<String>,
    ) -> wasmtime::Result<Option<u32>> {
        let chosen = negotiate::media_type(accept.iter().map(String::as_str), &offers);
        Ok(chosen.and_then(|index| u32::try_from(index).ok()))
    }

    fn negotiate_language(
        &mut self,
        accept_language: Vec<String>,
        offers: Vec<String>,
    ) -> wasmtime::Result<Option<u32>> {
        let chosen = negotiate::language(accept_language.iter().map(String::as_str), &offers);
        Ok(chosen.and_then(|index| u32::try_from(index).ok()))
    }

    fn purge(&mut self, url: String, soft: bool) -> wasmtime::Result<Result<u64, CacheError>> {
        if let Err(cause) = check_url(&url) {
            return Ok(Err(CacheError::Invalid(cause)));
        }
        let Environment { name, services, .. } = &*self.environment;
        Ok(Ok(services.cache.purge_url(Some(name), &url, how(soft))))
    }

    fn purge_key(&mut self, key: String, soft: bool) -> wasmtime::Result<Result<u64, CacheError>> {
        if let Err(cause) = check_key(&key) {
            return Ok(Err(CacheError::Invalid(cause)));
        }
        let Environment { name, services, .. } = &*self.environment;
        Ok(Ok(services.cache.purge_key(Some(name), &key, how(soft))))
    }

    fn status(&mut self) -> wasmtime::Result<Figures> {
        let Environment { name, services, .. } = &*self.environment;
        let contents = services.cache.contents(Some(name));
        let mut figures =
            Figures { entries: contents.entries, bytes: contents.bytes, hits: 0, misses: 0 };
        let counts = services.metrics.series.cached(name);
        for (outcome, count) in Outcome::ALL.into_iter().zip(counts) {
            match outcome {
                Outcome::Hit | Outcome::Stale | Outcome::Revalidated => figures.hits += count,
                Outcome::Expired | Outcome::Miss => figures.misses += count,
                Outcome::Bypass => {}
            }
        }
        Ok(figures)
    }
}

fn how(soft: bool) -> Purge {
    if soft { Purge::Soft } else { Purge::Hard }
}

/// Writes the directives in the order in which people write them.
fn cache_control(directives: &Directives) -> Result<String, String> {
    let flags = directives.flags;
    let has = |flag| flags.contains(flag);
    let list = |flag, fields: &[String], name: &str| {
        if fields.is_empty() {
            return Ok(has(flag).then(|| name.to_owned()));
        }
        if !has(flag) {
            return Err(format!("fields are named for `{name}`, which is not set"));
        }
        if let Some(wrong) =
            fields.iter().find(|field| HeaderName::from_bytes(field.as_bytes()).is_err())
        {
            return Err(format!("\"{}\" is not the name of a field", wrong.escape_debug()));
        }
        Ok(Some(format!("{name}=\"{}\"", fields.join(", "))))
    };
    let private = list(DirectiveFlags::PRIVATE, &directives.private_fields, "private")?;
    let no_cache = list(DirectiveFlags::NO_CACHE, &directives.no_cache_fields, "no-cache")?;
    if has(DirectiveFlags::PUBLIC)
        && has(DirectiveFlags::PRIVATE)
        && directives.private_fields.is_empty()
    {
        return Err("`public` and `private` contradict each other".to_owned());
    }
    let times = [
        ("max-age", directives.max_age),
        ("s-maxage", directives.s_maxage),
        ("stale-while-revalidate", directives.stale_while_revalidate),
        ("stale-if-error", directives.stale_if_error),
    ];
    if has(DirectiveFlags::NO_STORE)
        && let Some((name, _)) = times.iter().find(|(_, time)| time.is_some_and(|time| time > 0))
    {
        return Err(format!("`no-store` and `{name}` contradict each other"));
    }
    let mut text = String::new();
    let mut add = |directive: &str| {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(directive);
    };
    if has(DirectiveFlags::PUBLIC) {
        add("public");
    }
    private.as_deref().into_iter().for_each(&mut add);
    if has(DirectiveFlags::NO_STORE) {
        add("no-store");
    }
    no_cache.as_deref().into_iter().for_each(&mut add);
    let mut written = String::new();
    for (name, time) in times {
        if let Some(time) = time {
            written.clear();
            // Writing to a `String` cannot fail.
            let _infallible = write!(written, "{name}={time}");
            add(&written);
        }
    }
    for (flag, name) in [
        (DirectiveFlags::MUST_REVALIDATE, "must-revalidate"),
        (DirectiveFlags::PROXY_REVALIDATE, "proxy-revalidate"),
        (DirectiveFlags::MUST_UNDERSTAND, "must-understand"),
        (DirectiveFlags::NO_TRANSFORM, "no-transform"),
        (DirectiveFlags::IMMUTABLE, "immutable"),
    ] {
        if has(flag) {
            add(name);
        }
    }
    if text.is_empty() {
        return Err("no directive is set".to_owned());
    }
    Ok(text)
}

fn evaluate(
    method: &str,
    fields: &[(String, String)],
    current: Option<Validators>,
    required: bool,
    now: SystemTime,
) -> Result<Decision, String> {
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| format!("\"{}\" is not a method", method.escape_debug()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let Some(name) = FIELDS.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("`{name}` has a value that no request can have"))?;
        headers.append(HeaderName::from_static(name), value);
    }
    let current = current.map(validators).transpose()?;
    let is_conditional = CONDITIONS.iter().any(|name| headers.contains_key(*name));
    if required && !method.is_safe() && !is_conditional {
        return Ok(Decision::PreconditionRequired);
    }
    let wanted = Wanted::of(&method, &headers);
    Ok(match condition::evaluate(&wanted, current.as_ref(), now) {
        condition::Decision::Proceed { ranges: false } => Decision::Proceed,
        condition::Decision::Proceed { ranges: true } => Decision::ProceedWithRanges,
        condition::Decision::NotModified => Decision::NotModified,
        condition::Decision::PreconditionFailed => Decision::PreconditionFailed,
    })
}

fn validators(given: Validators) -> Result<condition::Validators, String> {
    let etag = match given.etag {
        None => None,
        Some(text) => {
            let value = HeaderValue::from_str(&text).ok();
            let value = value.filter(|value| condition::EntityTag::of(value).is_some());
            // An unquoted tag would silently never match.
            Some(value.ok_or_else(|| {
                format!("\"{}\" is not an entity tag: it stands in quotes", text.escape_debug())
            })?)
        }
    };
    let modified = given.last_modified.map(|millis| match u64::try_from(millis) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_millis(after)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_millis(millis.unsigned_abs())),
    });
    let modified = match modified {
        Some(None) => return Err("`last-modified` is not a time".to_owned()),
        Some(Some(time)) => Some(time),
        None => None,
    };
    Ok(condition::Validators { etag, modified })
}

/// What `purge` takes: a path and query, or an absolute `http` or `https` URL.
fn check_url(url: &str) -> Result<(), String> {
    let told = || {
        let url = url.escape_debug();
        format!("\"{url}\" is neither a path such as /a?b=c nor a URL such as https://a.test/a?b=c")
    };
    let uri: Uri = url.parse().map_err(|_| told())?;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if url.starts_with('/') => Ok(()),
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(told()),
    }
}

/// What can stand in `Surrogate-Key` or `Cache-Tag`.
fn check_key(key: &str) -> Result<(), String> {
    let fits = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b',';
    if !key.is_empty() && key.len() <= MAX_SURROGATE_KEY_BYTES && key.bytes().all(fits) {
        return Ok(());
    }
    Err(format!("\"{}\" is not a surrogate key", key.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Directives {
        Directives {
            flags: DirectiveFlags::empty(),
            max_age: None,
            s_maxage: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            private_fields: Vec::new(),
            no_cache_fields: Vec::new(),
        }
    }

    #[test]
    fn directives_are_written_in_one_order() {
        let fields = vec!["set-cookie".to_owned(), "x-a".to_owned()];
        for (directives, text) in [
            (
                Directives {
                    flags: DirectiveFlags::PUBLIC | DirectiveFlags::IMMUTABLE,
                    max_age: Some(86400),
                    ..none()
                },
                "public, max-age=86400, immutable",
            ),
            (
                Directives {
                    flags: DirectiveFlags::NO_CACHE
                        | DirectiveFlags::NO_STORE
                        | DirectiveFlags::MUST_REVALIDATE,
                    max_age: Some(0),
                    ..none()
                },
                "no-store, no-cache, max-age=0, must-revalidate",
            ),
            (
                Directives {
                    flags: DirectiveFlags::PUBLIC | DirectiveFlags::PRIVATE,
                    private_fields: fields,
                    s_maxage: Some(1),
                    stale_while_revalidate: Some(2),
                    stale_if_error: Some(3),
                    ..none()
                },
                "public, private=\"set-cookie, x-a\", s-maxage=1, stale-while-revalidate=2, \
                 stale-if-error=3",
            ),
        ] {
            assert_eq!(cache_control(&directives).unwrap(), text);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let flags = |flags| Directives { flags, ..none() };
        let no_store = flags(DirectiveFlags::NO_STORE);
        for (directives, told) in [
            (none(), "no directive"),
            (flags(DirectiveFlags::PUBLIC | DirectiveFlags::PRIVATE), "`public` and `private`"),
            (Directives { max_age: Some(1), ..no_store }, "`no-store` and `max-age`"),
            (
                Directives { private_fields: vec!["x-a".to_owned()], ..none() },
                "`private`, which is not set",
            ),
            (
                Directives {
                    no_cache_fields: vec!["a\"b".to_owned()],
                    ..flags(DirectiveFlags::NO_CACHE)
                },
                "is not the name of a field",
            ),
        ] {
            let error = cache_control(&directives).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_write_may_be_required_to_have_a_condition() {
        let now = SystemTime::now();
        let decide = |method: &str, field: Option<(&str, &str)>, exists: bool, required| {
            let fields: Vec<(String, String)> =
                field.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let current = exists.then(|| Validators {
                etag: Some("\"a\"".to_owned()),
                last_modified: Some(1_000_000_000_500),
            });
            evaluate(method, &fields, current, required, now)
        };
        for (method, field, exists, required, decision) in [
            ("PUT", None, true, true, Decision::PreconditionRequired),
            ("PUT", None, true, false, Decision::Proceed),
            ("DELETE", None, true, true, Decision::PreconditionRequired),
            ("GET", None, true, true, Decision::Proceed),
            ("PUT", Some(("If-Match", "\"a\"")), true, true, Decision::Proceed),
            ("PUT", Some(("If-Match", "\"b\"")), true, true, Decision::PreconditionFailed),
            ("PUT", Some(("If-Match", "*")), false, true, Decision::PreconditionFailed),
            ("PUT", Some(("If-None-Match", "*")), false, true, Decision::Proceed),
            ("PUT", Some(("If-None-Match", "*")), true, true, Decision::PreconditionFailed),
            (
                "PUT",
                Some(("If-Unmodified-Since", "Sun, 09 Sep 2001 01:46:40 GMT")),
                true,
                true,
                Decision::Proceed,
            ),
            ("GET", Some(("if-none-match", "W/\"a\"")), true, false, Decision::NotModified),
            ("GET", Some(("range", "bytes=0-1")), true, false, Decision::ProceedWithRanges),
            ("GET", Some(("accept", "x")), true, false, Decision::Proceed),
        ] {
            let decided = decide(method, field, exists, required).unwrap();
            assert_eq!(decided, decision, "{method} {field:?} {exists} {required}");
        }
        assert!(decide("PUT", Some(("if-match", "a\n")), true, true).is_err());
        assert!(decide("P T", None, true, true).unwrap_err().contains("is not a method"));
    }

    #[test]
    fn validators_that_would_never_match_are_refused() {
        let given = |etag: &str| {
            let etag = Some(etag.to_owned());
            validators(Validators { etag, last_modified: Some(i64::MIN) })
        };

        assert!(given("abc").unwrap_err().contains("stands in quotes"));
        assert!(given("\"a\"\r\n").is_err());
        let old = given("W/\"abc\"");
        assert!(old.is_ok() || old.unwrap_err().contains("not a time"));
    }

    #[test]
    fn what_is_purged_is_a_url_or_a_key() {
        for url in ["/", "/a?b=c", "http://a.test/", "https://a.test:8443/x?y"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in ["", "a", "*", "a.test", "ftp://a.test/", "/a b", "/é\n"] {
            assert!(check_url(url).is_err(), "{url}");
        }
        assert!(check_key("post-1").is_ok());
        for key in ["", "a b", "a,b", "é"] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }
}
