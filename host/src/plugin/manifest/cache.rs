//! `[cache]` of a manifest: what the shared cache does with the answers of a plugin.
//!
//! The table's own keys hold for every path, those of a `[[cache.route]]` for the paths that it names,
//! where the most specific one holds, alone; what it does not say is as the table says. Everything is
//! resolved when the manifest is read, so that a request costs one look-up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::Deserialize;
use wharf_cache::options::Heuristic;
use wharf_cache::{KeyRules, Options, SetCookie};

use crate::config::nearest_key;
use crate::config::policies::NamedPolicies;
use crate::config::units::{DurationValue, SizeValue, show_size};
use crate::http::finish::{Compress, FinishPolicy};
use crate::route::Pattern;

/// Bytes of the largest body that is stored.
pub const DEFAULT_CACHE_LARGEST: u64 = 16 << 20;
/// Where a manifest turns it on: what says nothing of freshness, but when it was changed last, is fresh
/// for a tenth of the time since, at most a day (RFC 9111 §4.2.2).
pub const HEURISTIC: Heuristic = Heuristic { percent: 10, limit: Duration::from_secs(86_400) };
/// Most `[[cache.route]]` of one plugin.
pub const MAX_CACHE_ROUTES: usize = 64;
/// Most request fields that tell entries apart.
pub const MAX_KEY_HEADERS: usize = 16;
/// Most query keys, or beginnings of them, that do not.
pub const MAX_IGNORED_QUERY: usize = 64;
/// Longest time that a manifest may have errors kept or stale answers used.
const MAX_TIME: Duration = Duration::from_secs(365 * 86_400);
/// Fields that say nothing about what is asked for, or that the cache answers to itself.
const NOT_KEYS: [&str; 14] = [
    "cache-control",
    "connection",
    "content-length",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
    "te",
    "transfer-encoding",
    "wharf-exchange",
];

/// What the cache does with the answers to some requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePolicy {
    /// Answers may be stored: yes.
    pub enabled: bool,
    /// Bytes of the largest body that is stored: [`DEFAULT_CACHE_LARGEST`].
    pub largest: u64,
    /// Requests for one missing entry wait for one answer: yes.
    pub collapse: bool,
    /// Answers tell what the cache did, and how long it took: no.
    pub debug: bool,
    /// Which answers the host may code: those that hold no secrets. Routes that say `true` have
    /// all coded.
    pub compress: Compress,
    /// What decisions are made by: policies, the client's part, errors, stale answers. As
    /// [`Options::default`].
    pub options: Options,
    /// What keys are made by: nothing is ignored, and no field tells entries apart.
    pub key_rules: KeyRules,
    /// The query keys that do not tell entries apart, as written: routes inherit them.
    pub ignore_query: Arc<[String]>,
}

impl RoutePolicy {
    /// What its answers are finished by.
    pub fn finish(&self) -> FinishPolicy {
        FinishPolicy { compress: self.compress, ..FinishPolicy::default() }
    }
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            largest: DEFAULT_CACHE_LARGEST,
            collapse: true,
            debug: false,
            compress: Compress::Safe,
            options: Options::default(),
            key_rules: KeyRules::default(),
            ignore_query: Arc::default(),
        }
    }
}

/// What a manifest says of the cache.
#[derive(Clone, Debug, Default)]
pub struct CachePolicies {
    /// Bytes of the server's cache that the plugin's entries may take at the most; `None`: all.
    pub size: Option<u64>,
    /// The names that the plugin may use: its own, the server's, and the built-in ones.
    pub named: NamedPolicies,
    own: Arc<RoutePolicy>,
    /// Most specific first.
    routes: Box<[(Pattern, Arc<RoutePolicy>)]>,
}

impl CachePolicies {
    /// What a plugin without `[cache]` has, on a server that names these policies.
    pub fn bare(named: NamedPolicies) -> Self {
        Self { named, ..Self::default() }
    }

    /// The policy for a request. `host` is without its port, `path` as the client asked for it.
    pub fn find(&self, method: &Method, host: &str, path: &str) -> &Arc<RoutePolicy> {
        self.routes
            .iter()
            .find(|(pattern, _)| pattern.covers(method, host, path))
            .map_or(&self.own, |(_, policy)| policy)
    }

    /// What holds where no `[[cache.route]]` does, and those that there are.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&Pattern>, &RoutePolicy)> {
        let routes = self.routes.iter().map(|(pattern, policy)| (Some(pattern), &**policy));
        std::iter::once((None, &*self.own)).chain(routes)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCache {
    size: Option<SizeValue>,
    #[serde(default)]
    policies: BTreeMap<String, String>,
    #[serde(default)]
    route: Vec<RawRoute>,
    enabled: Option<bool>,
    largest: Option<SizeValue>,
    default: Option<String>,
    key_headers: Option<Vec<String>>,
    ignore_query: Option<Vec<String>>,
    collapse: Option<bool>,
    honour_request: Option<bool>,
    heuristic: Option<bool>,
    set_cookie: Option<String>,
    cache_errors: Option<DurationValue>,
    stale_while_revalidate: Option<DurationValue>,
    stale_if_error: Option<DurationValue>,
    debug: Option<bool>,
    compress: Option<bool>,
}

/// The keys are repeated rather than flattened: `flatten` would let unknown keys through.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRoute {
    route: String,
    policy: Option<String>,
    enabled: Option<bool>,
    largest: Option<SizeValue>,
    default: Option<String>,
    key_headers: Option<Vec<String>>,
    ignore_query: Option<Vec<String>>,
    collapse: Option<bool>,
    honour_request: Option<bool>,
    heuristic: Option<bool>,
    set_cookie: Option<String>,
    cache_errors: Option<DurationValue>,
    stale_while_revalidate: Option<DurationValue>,
    stale_if_error: Option<DurationValue>,
    debug: Option<bool>,
    compress: Option<bool>,
}

/// The key, and what is wrong with its value.
type Fault = (&'static str, String);

/// Checks what was written, for a plugin that has these `routes`.
pub(super) fn policies(
    raw: RawCache,
    routes: &[&Pattern],
    server: &NamedPolicies,
) -> Result<CachePolicies, Fault> {
    let RawCache {
        size,
        policies,
        route,
        enabled,
        largest,
        default,
        key_headers,
        ignore_query,
        collapse,
        honour_request,
        heuristic,
        set_cookie,
        cache_errors,
        stale_while_revalidate,
        stale_if_error,
        debug,
        compress,
    } = raw;
    let own = RawRoute {
        route: String::new(),
        policy: None,
        enabled,
        largest,
        default,
        key_headers,
        ignore_query,
        collapse,
        honour_request,
        heuristic,
        set_cookie,
        cache_errors,
        stale_while_revalidate,
        stale_if_error,
        debug,
        compress,
    };
    let named = server
        .with(&policies)
        .map_err(|(name, error)| ("cache.policies", format!("`{name}`: {error}")))?;
    let size = size.map(|SizeValue(bytes)| bytes);
    if size == Some(0) {
        let cause = "must be more than nothing: to store nothing, write `enabled = false`";
        return Err(("cache.size", cause.to_owned()));
    }
    let mut defaults = RoutePolicy::default();
    if let (Some(size), None) = (size, &own.largest) {
        defaults.largest = defaults.largest.min(size);
    }
    let own = resolve(own, &defaults, size, &named)?;
    if route.len() > MAX_CACHE_ROUTES {
        return Err(("cache.route", format!("more than {MAX_CACHE_ROUTES}")));
    }
    let mut resolved: Vec<(Pattern, Arc<RoutePolicy>)> = Vec::with_capacity(route.len());
    for raw in route {
        let text = raw.route.clone();
        let told = |(key, cause): Fault| (key, format!("\"{text}\": {cause}"));
        let pattern = Pattern::parse(&text)
            .map_err(|error| ("cache.route", format!("\"{text}\": {error}")))?;
        if !routes.iter().any(|route| route.overlaps(&pattern)) {
            return Err(told(("cache.route", no_such_route(&pattern, routes))));
        }
        if resolved.iter().any(|(other, _)| other.conflicts(&pattern)) {
            return Err(("cache.route", format!("\"{text}\" is there twice")));
        }
        let policy = resolve(raw, &own, size, &named).map_err(told)?;
        resolved.push((pattern, Arc::new(policy)));
    }
    resolved.sort_by_cached_key(|(pattern, _)| std::cmp::Reverse(pattern.rank()));
    Ok(CachePolicies { size, named, own: Arc::new(own), routes: resolved.into() })
}

fn no_such_route(pattern: &Pattern, routes: &[&Pattern]) -> String {
    let texts = routes.iter().map(|route| &*route.text);
    match nearest_key(&pattern.text, texts.clone()) {
        Some(near) => format!("the plugin has no such route (did you mean \"{near}\"?)"),
        None => {
            let known: Vec<String> = texts.map(|text| format!("\"{text}\"")).collect();
            format!("the plugin has no such route (its routes: {})", known.join(", "))
        }
    }
}

/// What `raw` says, and `base` where it says nothing.
fn resolve(
    raw: RawRoute,
    base: &RoutePolicy,
    size: Option<u64>,
    named: &NamedPolicies,
) -> Result<RoutePolicy, Fault> {
    let policy = |key, written: Option<String>| {
        let resolved = written.map(|written| named.resolve(&written)).transpose();
        resolved.map_err(|error| (key, error.to_string()))
    };
    let time = |key, written: Option<DurationValue>, base: Duration| match written {
        None => Ok(base),
        // Lifetimes are whole seconds (RFC 9111 §1.2.2).
        Some(DurationValue(time)) if time.subsec_nanos() == 0 && time <= MAX_TIME => Ok(time),
        Some(_) => Err((key, "must be whole seconds, at most 365d".to_owned())),
    };
    let largest = raw.largest.map_or(base.largest, |SizeValue(bytes)| bytes);
    if largest == 0 {
        let cause = "must be more than nothing: to store nothing, write `enabled = false`";
        return Err(("cache.largest", cause.to_owned()));
    }
    if let Some(size) = size.filter(|size| largest > *size) {
        let cause = format!("is {}, more than `size`, {}", show_size(largest), show_size(size));
        return Err(("cache.largest", cause));
    }
    let fields = match raw.key_headers {
        None => base.key_rules.fields().to_vec(),
        Some(names) => key_headers(&names)?,
    };
    let ignore_query: Arc<[String]> = match raw.ignore_query {
        None => Arc::clone(&base.ignore_query),
        Some(keys) => query_keys(keys)?,
    };
    let key_rules = KeyRules::new(ignore_query.iter().map(String::as_str), fields)
        .map_err(|error| ("cache.ignore-query", error.to_string()))?;
    let inherited = &base.options;
    Ok(RoutePolicy {
        enabled: raw.enabled.unwrap_or(base.enabled),
        largest,
        collapse: raw.collapse.unwrap_or(base.collapse),
        debug: raw.debug.unwrap_or(base.debug),
        compress: match raw.compress {
            None => base.compress,
            Some(false) => Compress::Never,
            // What the table says is of answers that nobody has looked at.
            Some(true) if raw.route.is_empty() => Compress::Safe,
            Some(true) => Compress::Always,
        },
        options: Options {
            honour_request: raw.honour_request.unwrap_or(inherited.honour_request),
            set_cookie: match raw.set_cookie.as_deref() {
                None => inherited.set_cookie,
                Some("refuse") => SetCookie::Refuse,
                Some("explicit") => SetCookie::Explicit,
                Some("store") => SetCookie::Store,
                Some(_) => {
                    let cause = "must be \"refuse\", \"explicit\" or \"store\"".to_owned();
                    return Err(("cache.set-cookie", cause));
                }
            },
            heuristic: match raw.heuristic {
                Some(true) => Some(HEURISTIC),
                Some(false) => None,
                None => inherited.heuristic,
            },
            policy: policy("cache.route.policy", raw.policy)?,
            default: policy("cache.default", raw.default)?.or_else(|| inherited.default.clone()),
            errors: time("cache.cache-errors", raw.cache_errors, inherited.errors)?,
            stale_while_revalidate: time(
                "cache.stale-while-revalidate",
                raw.stale_while_revalidate,
                inherited.stale_while_revalidate,
            )?,
            stale_if_error: time(
                "cache.stale-if-error",
                raw.stale_if_error,
                inherited.stale_if_error,
            )?,
        },
        key_rules,
        ignore_query,
    })
}

fn key_headers(names: &[String]) -> Result<Vec<HeaderName>, Fault> {
    const KEY: &str = "cache.key-headers";
    if names.len() > MAX_KEY_HEADERS {
        return Err((KEY, format!("more than {MAX_KEY_HEADERS}")));
    }
    let parsed = names.iter().map(|text| {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| (KEY, format!("\"{text}\" is not the name of a field")))?;
        if NOT_KEYS.contains(&name.as_str()) {
            let cause =
                format!("\"{name}\" cannot tell entries apart: the cache sees to it itself");
            return Err((KEY, cause));
        }
        Ok(name)
    });
    parsed.collect()
}

fn query_keys(keys: Vec<String>) -> Result<Arc<[String]>, Fault> {
    const KEY: &str = "cache.ignore-query";
    if keys.len() > MAX_IGNORED_QUERY {
        return Err((KEY, format!("more than {MAX_IGNORED_QUERY}")));
    }
    for key in &keys {
        let name = key.strip_suffix('*').unwrap_or(key);
        let fits = |b: u8| (0x21..0x7f).contains(&b) && !matches!(b, b'*' | b'&' | b'=' | b'#');
        if !name.bytes().all(fits) || key.is_empty() {
            let cause = format!("\"{key}\" is not a key, or a beginning and `*`, as in \"utm_*\"");
            return Err((KEY, cause));
        }
    }
    Ok(keys.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn set_cookie_is_one_of_three_words() {
        for (word, expected) in [
            ("refuse", Some(SetCookie::Refuse)),
            ("explicit", Some(SetCookie::Explicit)),
            ("store", Some(SetCookie::Store)),
            ("yes", None),
        ] {
            let parsed = parse(&format!("routes = [\"/x\"]\n[cache]\nset-cookie = \"{word}\"\n"));
            let kept = parsed.map(|manifest| {
                manifest.cache.find(&Method::GET, "a.test", "/x").options.set_cookie
            });
            assert_eq!(kept.ok(), expected, "{word}");
        }
    }

    #[test]
    fn without_the_table_everything_is_as_the_answer_says() {
        let manifest = parse("").unwrap();

        let policy = manifest.cache.find(&Method::GET, "a.test", "/shop/x");

        assert_eq!(**policy, RoutePolicy::default());
        assert!(policy.enabled && policy.collapse && policy.options.honour_request);
        assert_eq!((policy.largest, manifest.cache.size), (16 << 20, None));
    }

    #[test]
    fn the_most_specific_route_holds_and_inherits_from_the_table() {
        let manifest = parse(
            r#"
            routes = ["/api/*", "/assets/*"]
            [cache]
            enabled = true
            size = "64MiB"
            largest = "1MiB"
            default = "own"
            key-headers = ["X-Tenant", "accept-language", "x-tenant"]
            ignore-query = ["utm_*", "fbclid"]
            collapse = false
            honour-request = false
            cache-errors = "5s"
            stale-while-revalidate = "1m"
            stale-if-error = "1h"
            debug = true
            compress = false
            [cache.policies]
            own = "public, max-age=7"
            [[cache.route]]
            route = "GET /api/*"
            policy = "realtime"
            [[cache.route]]
            route = "GET /api/posts/{id}"
            default = "max-age=9"
            key-headers = []
            ignore-query = ["*"]
            debug = false
            [[cache.route]]
            route = "/api/secret"
            enabled = false
            "#,
        )
        .unwrap();
        let find = |path| manifest.cache.find(&Method::GET, "a.test", path);

        let own = find("/assets/x");
        assert_eq!((manifest.cache.size, own.largest), (Some(64 << 20), 1 << 20));
        assert_eq!(own.options.default.as_ref().unwrap().text(), "public, max-age=7");
        assert_eq!(own.key_rules.fields(), ["accept-language", "x-tenant"]);
        assert_eq!(own.ignore_query[..], ["utm_*", "fbclid"]);
        assert!(
            !own.collapse
                && !own.options.honour_request
                && own.debug
                && own.compress == Compress::Never
        );
        let options = &own.options;
        let seconds = [options.errors, options.stale_while_revalidate, options.stale_if_error];
        assert_eq!(seconds.map(|time| time.as_secs()), [5, 60, 3600]);

        let api = find("/api/x");
        assert_eq!(api.options.policy.as_ref().unwrap().text(), "no-cache, max-age=30");
        let options = own.options.clone();
        assert_eq!(RoutePolicy { options, ..RoutePolicy::clone(api) }, **own);
        let post = find("/api/posts/1");
        assert!(post.options.policy.is_none() && post.key_rules.fields().is_empty());
        assert!(post.ignore_query[..] == ["*"] && !post.collapse && !post.debug);
        assert!(!find("/api/secret").enabled);
        assert_eq!(manifest.cache.find(&Method::POST, "a.test", "/api/posts/1"), own);
        assert_eq!(manifest.cache.iter().count(), 4);
    }

    #[test]
    fn a_small_cache_stores_no_larger_bodies_than_it_is() {
        let manifest = parse("[cache]\nsize = \"1MiB\"").unwrap();

        assert_eq!(manifest.cache.find(&Method::GET, "a", "/").largest, 1 << 20);
    }

    #[test]
    fn mistakes_name_the_key_and_what_to_write() {
        for (text, told) in [
            ("enable = true", "did you mean `enabled`"),
            ("ignore_query = []", "did you mean `ignore-query`"),
            ("size = \"0\"", "cache.size"),
            ("size = \"lots\"", "lots"),
            ("largest = \"0\"", "cache.largest"),
            ("size = \"1MiB\"\nlargest = \"2MiB\"", "is 2MiB, more than `size`, 1MiB"),
            ("default = \"sttic\"", "cache.default`: no policy is called \"sttic\" (did you"),
            ("default = \"max-age=1h\"", "takes a number of seconds"),
            ("policy = \"static\"", "unknown key `policy`"),
            ("key-headers = [\"a b\"]", "cache.key-headers`: \"a b\" is not"),
            ("key-headers = [\"Range\"]", "\"range\" cannot tell entries apart"),
            ("ignore-query = [\"a=b\"]", "cache.ignore-query"),
            ("ignore-query = [\"\"]", "cache.ignore-query"),
            ("ignore-query = [\"*a\"]", "cache.ignore-query"),
            ("cache-errors = \"100ms\"", "cache.cache-errors`: must be whole seconds"),
            ("stale-if-error = \"400d\"", "at most 365d"),
            ("stale-while-revalidate = 60", "has no unit"),
            ("debug = \"yes\"", "debug"),
            (
                "[cache.policies]\nday = \"max-aeg=1\"",
                "cache.policies`: `day`: unknown directive \"max-aeg\", did",
            ),
            ("[[cache.route]]\ndebug = true", "route"),
            ("[[cache.route]]\nroute = \"api\"", "cache.route`: \"api\": the path must begin"),
            ("[[cache.route]]\nroute = \"/shp/*\"", "no such route (did you mean \"/shop/*\"?)"),
            ("[[cache.route]]\nroute = \"/api/posts\"", "no such route (its routes: \"/shop\", "),
            ("[[cache.route]]\nroute = \"/shop\"\nsize = 1", "unknown key `size`"),
            (
                "[[cache.route]]\nroute = \"/shop\"\npolicy = \"x\"",
                "cache.route.policy`: \"/shop\":",
            ),
            ("[[cache.route]]\nroute = \"/shop\"\npolcy = \"x\"", "did you mean `policy`"),
            (
                "[[cache.route]]\nroute = \"/shop\"\n[[cache.route]]\nroute = \"/shop\"",
                "\"/shop\" is there twice",
            ),
        ] {
            let error = parse(&format!("[cache]\n{text}")).expect_err(text);

            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
