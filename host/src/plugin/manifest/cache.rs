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
use wharf_cache::{KeyRules, Options};

use crate::config::nearest_key;
use crate::config::policies::{NamedPolicies, Policy};
use crate::config::units::{DurationValue, SizeValue, show_size};
use crate::route::Pattern;

/// Bytes of the largest body that is stored.
pub const DEFAULT_CACHE_LARGEST: u64 = 16 << 20;
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
    /// For answers that say nothing of freshness themselves: none.
    pub default: Option<Policy>,
    /// Takes the place of what the answer says: none.
    pub policy: Option<Policy>,
    /// Request fields that tell entries apart, beside `Vary`; sorted, each once: none.
    pub key_headers: Arc<[HeaderName]>,
    /// Query keys that do not tell entries apart: none.
    pub ignore_query: Arc<QueryKeys>,
    /// Requests for one missing entry wait for one answer: yes.
    pub collapse: bool,
    /// The client's own `Cache-Control` counts: yes.
    pub honour_request: bool,
    /// How long an error that says nothing of freshness is kept: not at all.
    pub cache_errors: Duration,
    /// RFC 5861 §3, where the answer does not say: not at all.
    pub stale_while_revalidate: Duration,
    /// RFC 5861 §4, where the answer does not say: not at all.
    pub stale_if_error: Duration,
    /// Answers tell what the cache did, and how long it took: no.
    pub debug: bool,
    /// The host may code answers: yes.
    pub compress: bool,
    /// The same, as decisions take it.
    pub options: Options,
    /// The same, as keys are made by it.
    pub key_rules: KeyRules,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            largest: DEFAULT_CACHE_LARGEST,
            default: None,
            policy: None,
            key_headers: Arc::default(),
            ignore_query: Arc::default(),
            collapse: true,
            honour_request: true,
            cache_errors: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            debug: false,
            compress: true,
            options: Options::default(),
            key_rules: KeyRules::default(),
        }
    }
}

impl RoutePolicy {
    /// Makes what requests take of it.
    fn prepare(&mut self) -> Result<(), Fault> {
        let policy = |policy: &Option<Policy>| {
            let policy = policy.as_ref().map(|policy| wharf_cache::Policy::parse(policy.as_str()));
            policy.transpose().map_err(|error| ("cache.route.policy", error.to_string()))
        };
        self.options = Options {
            honour_request: self.honour_request,
            policy: policy(&self.policy)?,
            default: policy(&self.default)?,
            errors: self.cache_errors,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            ..Options::default()
        };
        let exact = self.ignore_query.exact.iter().map(|key| key.to_string());
        let beginnings = self.ignore_query.beginnings.iter().map(|key| format!("{key}*"));
        let ignored: Vec<String> = exact.chain(beginnings).collect();
        let fields = self.key_headers.iter().cloned();
        self.key_rules = KeyRules::new(ignored.iter().map(String::as_str), fields)
            .map_err(|error| ("cache.ignore-query", error.to_string()))?;
        Ok(())
    }
}

/// A set of query keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryKeys {
    exact: Box<[Box<str>]>,
    /// Those written with a `*` at the end.
    beginnings: Box<[Box<str>]>,
}

impl QueryKeys {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.beginnings.is_empty()
    }

    /// Whether `key` is one of them: as it is in the query, before the `=`, nothing decoded.
    pub fn contains(&self, key: &str) -> bool {
        self.exact.iter().any(|exact| **exact == *key)
            || self.beginnings.iter().any(|beginning| key.starts_with(&**beginning))
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
    let mut policy = RoutePolicy {
        enabled: raw.enabled.unwrap_or(base.enabled),
        largest,
        default: policy("cache.default", raw.default)?.or_else(|| base.default.clone()),
        policy: policy("cache.route.policy", raw.policy)?,
        key_headers: match raw.key_headers {
            None => base.key_headers.clone(),
            Some(names) => key_headers(&names)?,
        },
        ignore_query: match raw.ignore_query {
            None => base.ignore_query.clone(),
            Some(keys) => Arc::new(query_keys(&keys)?),
        },
        collapse: raw.collapse.unwrap_or(base.collapse),
        honour_request: raw.honour_request.unwrap_or(base.honour_request),
        cache_errors: time("cache.cache-errors", raw.cache_errors, base.cache_errors)?,
        stale_while_revalidate: time(
            "cache.stale-while-revalidate",
            raw.stale_while_revalidate,
            base.stale_while_revalidate,
        )?,
        stale_if_error: time("cache.stale-if-error", raw.stale_if_error, base.stale_if_error)?,
        debug: raw.debug.unwrap_or(base.debug),
        compress: raw.compress.unwrap_or(base.compress),
        options: Options::default(),
        key_rules: KeyRules::default(),
    };
    policy.prepare()?;
    Ok(policy)
}

fn key_headers(names: &[String]) -> Result<Arc<[HeaderName]>, Fault> {
    const KEY: &str = "cache.key-headers";
    if names.len() > MAX_KEY_HEADERS {
        return Err((KEY, format!("more than {MAX_KEY_HEADERS}")));
    }
    let mut parsed = Vec::with_capacity(names.len());
    for text in names {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| (KEY, format!("\"{text}\" is not the name of a field")))?;
        if NOT_KEYS.contains(&name.as_str()) {
            let cause =
                format!("\"{name}\" cannot tell entries apart: the cache sees to it itself");
            return Err((KEY, cause));
        }
        parsed.push(name);
    }
    parsed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    parsed.dedup();
    Ok(parsed.into())
}

fn query_keys(keys: &[String]) -> Result<QueryKeys, Fault> {
    const KEY: &str = "cache.ignore-query";
    if keys.len() > MAX_IGNORED_QUERY {
        return Err((KEY, format!("more than {MAX_IGNORED_QUERY}")));
    }
    let (mut exact, mut beginnings) = (Vec::new(), Vec::new());
    for key in keys {
        let (name, list) = match key.strip_suffix('*') {
            Some(beginning) => (beginning, &mut beginnings),
            None => (key.as_str(), &mut exact),
        };
        let fits = |b: u8| (0x21..0x7f).contains(&b) && !matches!(b, b'*' | b'&' | b'=' | b'#');
        if !name.bytes().all(fits) || key.is_empty() {
            let cause = format!("\"{key}\" is not a key, or a beginning and `*`, as in \"utm_*\"");
            return Err((KEY, cause));
        }
        list.push(name.into());
    }
    Ok(QueryKeys { exact: exact.into(), beginnings: beginnings.into() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn without_the_table_everything_is_as_the_answer_says() {
        let manifest = parse("").unwrap();

        let policy = manifest.cache.find(&Method::GET, "a.test", "/shop/x");

        assert_eq!(**policy, RoutePolicy::default());
        assert!(policy.enabled && policy.collapse && policy.honour_request && policy.compress);
        assert_eq!((policy.largest, manifest.cache.size), (16 << 20, None));
        assert!(policy.default.is_none() && policy.ignore_query.is_empty() && !policy.debug);
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
        assert_eq!(own.default.as_ref().unwrap().as_str(), "public, max-age=7");
        assert_eq!(own.key_headers[..], ["accept-language", "x-tenant"]);
        assert!(own.ignore_query.contains("utm_source") && own.ignore_query.contains("fbclid"));
        assert!(!own.ignore_query.contains("fbclid2") && !own.ignore_query.contains("utm"));
        assert!(!own.collapse && !own.honour_request && own.debug && !own.compress);
        let seconds = [own.cache_errors, own.stale_while_revalidate, own.stale_if_error];
        assert_eq!(seconds.map(|time| time.as_secs()), [5, 60, 3600]);

        let api = find("/api/x");
        assert_eq!(api.policy.as_ref().unwrap().as_str(), "no-cache, max-age=30");
        let own_options = own.options.clone();
        let without = RoutePolicy { policy: None, options: own_options, ..RoutePolicy::clone(api) };
        assert_eq!(without, **own);
        let post = find("/api/posts/1");
        assert!(post.policy.is_none() && post.key_headers.is_empty() && !post.debug);
        assert!(post.ignore_query.contains("anything") && !post.collapse);
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
            ("default = \"max-age=1h\"", "write whole seconds"),
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
            ("[cache.policies]\nday = \"max-aeg=1\"", "cache.policies`: `day`: `max-aeg=1`: did"),
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
