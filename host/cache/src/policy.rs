//! Policies: names for `Cache-Control`, and where they take effect.

use std::collections::BTreeMap;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_RANGE, COOKIE, EXPIRES, PRAGMA, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::control::{CDN_CACHE_CONTROL, CacheControl, WHARF_CACHE_CONTROL};
use crate::freshness::is_heuristic;
use crate::options::{Options, Request};

/// The policies that are always there: five for kinds of content, five for scenarios.
pub const NAMED: [(&str, &str); 10] = [
    ("static", "public, max-age=86400, immutable"),
    ("semi-static", "public, max-age=3600"),
    ("dynamic", "private, max-age=300"),
    ("realtime", "no-cache, max-age=30"),
    ("sensitive", "no-store, no-cache"),
    ("ultra-fresh", "max-age=1, must-revalidate"),
    ("frequently-updated", "no-cache, max-age=30"),
    ("user-specific", "private, max-age=60, must-revalidate"),
    ("public-realtime", "public, max-age=300, stale-while-revalidate=900"),
    ("sensitive-realtime", "no-store, no-cache, must-revalidate"),
];

/// The directives that a policy may have, and whether they take seconds.
const DIRECTIVES: [(&str, Takes); 13] = [
    ("immutable", Takes::Nothing),
    ("max-age", Takes::Seconds),
    ("must-revalidate", Takes::Nothing),
    ("must-understand", Takes::Nothing),
    ("no-cache", Takes::Names),
    ("no-store", Takes::Nothing),
    ("no-transform", Takes::Nothing),
    ("private", Takes::Names),
    ("proxy-revalidate", Takes::Nothing),
    ("public", Takes::Nothing),
    ("s-maxage", Takes::Seconds),
    ("stale-if-error", Takes::Seconds),
    ("stale-while-revalidate", Takes::Seconds),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Seconds,
    Names,
}

/// A policy's text, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    value: HeaderValue,
    control: CacheControl,
}

/// Why a text is no policy.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// It has no directive.
    #[error("a policy has at least one directive")]
    Empty,
    /// A name that is no directive of responses.
    #[error("unknown directive {name:?}{}", nearest.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default())]
    Unknown {
        /// What was written.
        name: String,
        /// The nearest directive or policy, if one is near.
        nearest: Option<&'static str>,
    },
    /// Seconds that are none, or are missing.
    #[error("{name} takes a number of seconds, as in {name}=60")]
    Seconds {
        /// The directive.
        name: &'static str,
    },
    /// An argument where there is none.
    #[error("{name} takes no argument")]
    Argument {
        /// The directive.
        name: &'static str,
    },
    /// Field names that are none.
    #[error("{name} takes field names in quotes, as in {name}=\"set-cookie\"")]
    Names {
        /// The directive.
        name: &'static str,
    },
    /// A directive that is there already.
    #[error("{name} is there twice")]
    Twice {
        /// The directive.
        name: &'static str,
    },
    /// Two that cannot both be meant.
    #[error("{one} and {other} contradict each other")]
    Contradiction {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
}

impl Policy {
    /// Reads a `Cache-Control` text strictly: what a cache would read leniently is an error here.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut written: Vec<(&'static str, String)> = Vec::new();
        for directive in split_directives(text) {
            let (name, argument) = match directive.split_once('=') {
                Some((name, argument)) => (name, Some(argument)),
                None => (directive, None),
            };
            let lower = name.to_ascii_lowercase();
            let Some((name, takes)) = DIRECTIVES.iter().find(|(known, _)| *known == lower) else {
                let nearest = nearest(&lower);
                return Err(PolicyError::Unknown { name: name.to_owned(), nearest });
            };
            if written.iter().any(|(known, _)| known == name) {
                return Err(PolicyError::Twice { name });
            }
            written.push((name, checked(name, *takes, argument)?));
        }
        if written.is_empty() {
            return Err(PolicyError::Empty);
        }
        let has = |name| written.iter().any(|(known, _)| *known == name);
        for (one, other) in [("public", "private"), ("public", "no-store")] {
            if has(one) && has(other) {
                return Err(PolicyError::Contradiction { one, other });
            }
        }
        let text: Vec<_> = written.into_iter().map(|(_, text)| text).collect();
        let value = HeaderValue::try_from(text.join(", "))
            .expect("directives are tokens, digits and field names");
        Ok(Self { control: CacheControl::parse([&value]), value })
    }

    /// The `Cache-Control` value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The text of the value.
    pub fn text(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }

    /// What it says.
    pub fn control(&self) -> &CacheControl {
        &self.control
    }

    /// Whether shared caches may not store under it, or use it unasked.
    fn restricts(&self) -> bool {
        let control = &self.control;
        control.no_store || control.private.is_whole() || control.no_cache.is_whole()
    }
}

/// Policies by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    named: BTreeMap<String, Policy>,
}

impl Default for Policies {
    /// [`NAMED`].
    fn default() -> Self {
        let parse = |text| Policy::parse(text).expect("the texts here are policies");
        Self { named: NAMED.map(|(name, text)| (name.to_owned(), parse(text))).into() }
    }
}

impl Policies {
    /// Adds a policy, or puts it in the place of the one that has the name.
    pub fn insert(&mut self, name: &str, policy: Policy) {
        self.named.insert(name.to_owned(), policy);
    }

    /// The policy with a name; `semi_static` is `semi-static` as well.
    pub fn find(&self, name: &str) -> Option<&Policy> {
        self.named.get(name).or_else(|| self.named.get(&name.replace('_', "-")))
    }

    /// The name of the first policy that says the same, whatever the order.
    pub fn name_of(&self, control: &CacheControl) -> Option<&str> {
        self.named
            .iter()
            .find(|(_, policy)| policy.control == *control)
            .map(|(name, _)| name.as_str())
    }

    /// A policy by its name, or by its text.
    ///
    /// # Errors
    ///
    /// Where it is neither; the nearest name is among the policies too.
    pub fn resolve(&self, name_or_text: &str) -> Result<Policy, PolicyError> {
        if let Some(policy) = self.find(name_or_text.trim()) {
            return Ok(policy.clone());
        }
        Policy::parse(name_or_text)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.named.iter().map(|(name, policy)| (name.as_str(), policy))
    }
}

/// What took effect on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The answer is as it was.
    Nothing,
    /// The default, as the answer said nothing.
    Default,
    /// The policy, whatever the answer said.
    Policy,
}

/// Gives an answer the policies of its options, before [`crate::storable()`] and before it is sent:
///
/// - `policy` takes the place of all that the answer said. On an error (4xx, 5xx) only where it
///   restricts: how long a page is kept says nothing of its failure.
/// - `default` is for an answer that says nothing itself, whose status may be cached so
///   ([`is_heuristic`], no error), and which is nobody's own: no `Set-Cookie`, and no `Authorization` or
///   `Cookie` in the request.
pub fn apply(
    request: Request<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
    options: &Options,
) -> Applied {
    let is_error = status.is_client_error() || status.is_server_error();
    if let Some(policy) = &options.policy
        && (!is_error || policy.restricts())
    {
        for name in [WHARF_CACHE_CONTROL, CDN_CACHE_CONTROL, EXPIRES, PRAGMA] {
            headers.remove(name);
        }
        headers.insert(CACHE_CONTROL, policy.value.clone());
        return Applied::Policy;
    }
    let Some(policy) = &options.default else { return Applied::Nothing };
    let said = [CACHE_CONTROL, EXPIRES, PRAGMA, WHARF_CACHE_CONTROL, CDN_CACHE_CONTROL];
    let is_own = headers.contains_key(SET_COOKIE)
        || [AUTHORIZATION, COOKIE].iter().any(|name| request.headers.contains_key(name));
    let is_whole = is_heuristic(status) && !is_error && !headers.contains_key(CONTENT_RANGE);
    let applies = is_whole && !said.iter().any(|name| headers.contains_key(name));
    if !applies || is_own && !policy.restricts() {
        return Applied::Nothing;
    }
    headers.insert(CACHE_CONTROL, policy.value.clone());
    Applied::Default
}

/// The directives of a text; commas in quotes do not separate.
fn split_directives(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
    .map(str::trim_ascii)
    .filter(|directive| !directive.is_empty())
}

/// The directive as it is sent.
fn checked(
    name: &'static str,
    takes: Takes,
    argument: Option<&str>,
) -> Result<String, PolicyError> {
    match (takes, argument) {
        (Takes::Nothing | Takes::Names, None) => Ok(name.to_owned()),
        (Takes::Nothing, Some(_)) => Err(PolicyError::Argument { name }),
        (Takes::Seconds, argument) => {
            let digits = argument.unwrap_or_default();
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            // RFC 9111 §1.2.2: more is the same as this for every cache.
            let seconds = digits.parse::<u64>().unwrap_or(u64::MAX).min(1 << 31);
            is_number.then(|| format!("{name}={seconds}")).ok_or(PolicyError::Seconds { name })
        }
        (Takes::Names, Some(argument)) => {
            let list = argument.strip_prefix('"').and_then(|list| list.strip_suffix('"'));
            let names: Option<Vec<_>> = list.and_then(|list| {
                let names = list.split(',').map(str::trim_ascii);
                names.map(|name| http::HeaderName::from_bytes(name.as_bytes()).ok()).collect()
            });
            let names = names.ok_or(PolicyError::Names { name })?;
            let names: Vec<_> = names.iter().map(http::HeaderName::as_str).collect();
            Ok(format!("{name}=\"{}\"", names.join(", ")))
        }
    }
}

/// The nearest name of a directive or policy, where it is near.
fn nearest(name: &str) -> Option<&'static str> {
    let known = DIRECTIVES.iter().map(|(name, _)| *name).chain(NAMED.iter().map(|(name, _)| *name));
    known
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known)
}
