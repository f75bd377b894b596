//! What an unsafe method's answer makes invalid (RFC 9111 §4.4): the target, and what `Location` and
//! `Content-Location` name on the same origin.

use std::borrow::Cow;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

use crate::key::{Key, KeyRules, Target};

/// Whether a request with this method and an answer with this status invalidate: an unsafe or unknown
/// method, and no error.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// The keys of what is now invalid, as [`Key::target`] gives them: with every variant and every value of
/// added request fields. None where nothing is ([`invalidates`]).
///
/// Another origin's URLs are not among them: a plugin could empty its neighbours' cache (§4.4).
pub fn targets(
    rules: &KeyRules,
    namespace: &str,
    target: Target<'_>,
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
) -> Vec<Key> {
    if !invalidates(method, status) {
        return Vec::new();
    }
    let none = HeaderMap::new();
    let key = |target: Target<'_>| Key::new(rules, namespace, target, &none).target();
    let origin = |target: Target<'_>| key(Target { path_and_query: "/", ..target });
    let mut keys = vec![key(target)];
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(reference) = headers.get(name).and_then(|value| value.to_str().ok()) else {
            continue;
        };
        let path_and_query;
        let named = match resolve(target, reference) {
            Some(Resolved::Elsewhere(other)) if origin(other) == origin(target) => other,
            Some(Resolved::Elsewhere(_)) | None => continue,
            Some(Resolved::Here(path)) => {
                path_and_query = path;
                Target { path_and_query: &path_and_query, ..target }
            }
        };
        let key = key(named);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// A reference, resolved (RFC 3986 §5.2).
#[derive(Debug, PartialEq)]
enum Resolved<'a> {
    /// It names its authority.
    Elsewhere(Target<'a>),
    /// Path and query on the same authority.
    Here(Cow<'a, str>),
}

fn resolve<'a>(base: Target<'a>, reference: &'a str) -> Option<Resolved<'a>> {
    let reference = reference.trim_ascii();
    if let Some(absolute) = Target::of_url(reference) {
        return Some(Resolved::Elsewhere(absolute));
    }
    if let Some(rest) = reference.strip_prefix("//") {
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        return Some(Resolved::Elsewhere(Target {
            scheme: base.scheme,
            authority,
            path_and_query,
        }));
    }
    let reference = reference.split('#').next().unwrap_or_default();
    let first = reference.split(['/', '?']).next().unwrap_or_default();
    if first.contains(':') {
        // Another scheme.
        return None;
    }
    let base_path = base.path_and_query.split('?').next().unwrap_or_default();
    let here = match reference.as_bytes().first() {
        None => Cow::Borrowed(base.path_and_query),
        Some(b'/') => Cow::Borrowed(reference),
        Some(b'?') => Cow::Owned(format!("{base_path}{reference}")),
        Some(_) => {
            let (path, query) = match reference.find('?') {
                Some(at) => reference.split_at(at),
                None => (reference, ""),
            };
            let folder = &base_path[..base_path.rfind('/').map_or(0, |at| at + 1)];
            Cow::Owned(format!("{}{query}", without_dots(&format!("{folder}{path}"))))
        }
    };
    Some(Resolved::Here(here))
}

/// RFC 3986 §5.2.4, for a path that was put together; one that came whole stays raw, as keys do.
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let is_last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}
