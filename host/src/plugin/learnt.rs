//! Early hints without the plugin's help: the links of a route's responses are learnt, and sent to
//! the next client before the plugin is called (RFC 8297). Where the manifest asks for it.
//!
//! What is learnt from one client's response is told to another, so nothing is learnt from a response
//! that a shared cache could not store either: `private`, `no-store`, with `Set-Cookie`, or to a
//! request with credentials (RFC 9111 §3.5). Kept with the plugin's version: a reload forgets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, LINK, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

/// Paths whose links are kept, twice; of one plugin.
const MAX_PATHS: usize = 256;
/// Links of one path.
pub const MAX_LINKS: usize = 16;
/// Bytes of them.
pub const MAX_LINK_BYTES: usize = 8 * 1024;
/// Bytes of an authority and path that are worth remembering.
const MAX_KEY_BYTES: usize = 1024;
/// Relations that tell a client what to begin with.
const RELATIONS: [&str; 3] = ["preload", "preconnect", "modulepreload"];

/// Values of `Link`.
pub type Links = Arc<[Box<str>]>;

/// Links by authority and path. Two generations: when the young one is full it becomes the old one,
/// and what is asked for again moves back, so that what is not used is what is lost.
#[derive(Default)]
pub struct LearntLinks(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Box<str>, Links>,
    old: HashMap<Box<str>, Links>,
}

impl Generations {
    fn insert(&mut self, key: &str, links: Links) {
        if self.young.len() >= MAX_PATHS && !self.young.contains_key(key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.into(), links);
    }
}

/// The name of a path of an authority.
fn key(authority: &str, path: &str) -> Option<String> {
    (authority.len() + path.len() <= MAX_KEY_BYTES).then(|| format!("{authority}{path}"))
}

impl LearntLinks {
    /// What earlier responses to this path named.
    pub fn of(&self, authority: &str, path: &str) -> Option<Links> {
        let key = key(authority, path)?;
        let mut generations = self.0.lock();
        if let Some(links) = generations.young.get(key.as_str()) {
            return Some(Arc::clone(links));
        }
        let links = generations.old.remove(key.as_str())?;
        generations.insert(&key, Arc::clone(&links));
        Some(links)
    }

    /// Learns from a response; what it names replaces what was known.
    pub fn learn(
        &self,
        authority: &str,
        path: &str,
        is_with_credentials: bool,
        status: StatusCode,
        headers: &HeaderMap,
    ) {
        let is_answer = status.is_success() || status.is_redirection();
        if !is_answer || !is_for_everybody(is_with_credentials, headers) {
            return;
        }
        let links = links(headers);
        if links.is_empty() && status == StatusCode::NOT_MODIFIED {
            // It says nothing of what the whole response would name.
            return;
        }
        let Some(key) = key(authority, path) else { return };
        let mut generations = self.0.lock();
        if !links.is_empty() {
            generations.insert(&key, links.into());
        } else if generations.young.remove(key.as_str()).is_none() {
            generations.old.remove(key.as_str());
        }
    }
}

impl fmt::Debug for LearntLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LearntLinks").field(&self.0.lock().young.len()).finish()
    }
}

/// Whether a request carries credentials of HTTP itself.
pub fn has_credentials(request: &HeaderMap) -> bool {
    request.contains_key(AUTHORIZATION)
}

fn is_for_everybody(is_with_credentials: bool, headers: &HeaderMap) -> bool {
    let mut is_public = false;
    for directive in
        headers.get_all(CACHE_CONTROL).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','))
    {
        let name = directive.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"private") || name.eq_ignore_ascii_case(b"no-store") {
            return false;
        }
        is_public |= name.eq_ignore_ascii_case(b"public");
    }
    !headers.contains_key(SET_COOKIE) && (!is_with_credentials || is_public)
}

/// The links worth hinting at, one a value, within the bounds.
fn links(headers: &HeaderMap) -> Vec<Box<str>> {
    let mut bytes = 0;
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| split(value, ','))
        .map(str::trim)
        .filter(|link| is_hint(link))
        .take(MAX_LINKS)
        .take_while(|link| {
            bytes += link.len();
            bytes <= MAX_LINK_BYTES
        })
        .map(Box::from)
        .collect()
}

/// Whether a link (RFC 8288 §3) has one of [`RELATIONS`]. Its first `rel` counts (§3.3).
fn is_hint(link: &str) -> bool {
    let Some((_, parameters)) = link.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return false;
    };
    let rel = split(parameters, ';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("rel").then_some(value)
    });
    let Some(rel) = rel else { return false };
    rel.trim()
        .trim_matches('"')
        .split_ascii_whitespace()
        .any(|relation| RELATIONS.iter().any(|known| relation.eq_ignore_ascii_case(known)))
}

/// Splits at `separator` outside of `<…>` and quoted strings.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    text.split(move |c: char| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            _ => {}
        }
        c == separator && !quoted && !bracketed
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn learnt(list: &[(&'static str, &str)]) -> Vec<String> {
        let links = LearntLinks::default();
        links.learn("a", "/p", false, StatusCode::OK, &fields(list));
        let known = links.of("a", "/p");
        known.iter().flat_map(|links| links.iter().map(|link| link.to_string())).collect()
    }

    #[test]
    fn links_that_a_client_can_begin_with_are_learnt() {
        let known = learnt(&[
            (
                "link",
                "</a,b;c.css>; rel=preload; as=style; title=\"x, y; rel=z\", </next>; rel=next",
            ),
            ("link", "<https://cdn.test>; REL=\"dns-prefetch preconnect\""),
            ("link", "</m.js>;rel=modulepreload, nonsense, </c>; rel=\"next\"; rel=preload"),
        ]);

        assert_eq!(
            known,
            [
                "</a,b;c.css>; rel=preload; as=style; title=\"x, y; rel=z\"",
                "<https://cdn.test>; REL=\"dns-prefetch preconnect\"",
                "</m.js>;rel=modulepreload",
            ]
        );
    }

    #[test]
    fn nothing_is_learnt_from_what_is_for_one_client() {
        const PRELOAD: (&str, &str) = ("link", "</a>; rel=preload");
        for personal in [
            ("set-cookie", "a=b"),
            ("cache-control", "max-age=1, Private"),
            ("cache-control", "no-store"),
            ("cache-control", "private=\"x\""),
        ] {
            assert!(learnt(&[PRELOAD, personal]).is_empty(), "{personal:?}");
        }
        let links = LearntLinks::default();
        links.learn("a", "/p", true, StatusCode::OK, &fields(&[PRELOAD]));
        assert!(links.of("a", "/p").is_none());
        links.learn(
            "a",
            "/p",
            true,
            StatusCode::OK,
            &fields(&[PRELOAD, ("cache-control", "public")]),
        );
        assert!(links.of("a", "/p").is_some());
    }

    #[test]
    fn the_last_answer_counts_and_errors_and_304_change_nothing() {
        let links = LearntLinks::default();
        let preload = |path: &str| fields(&[("link", &format!("<{path}>; rel=preload"))]);
        links.learn("a", "/p", false, StatusCode::OK, &preload("/1"));

        for status in [StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            links.learn("a", "/p", false, status, &preload("/error"));
        }
        links.learn("a", "/p", false, StatusCode::NOT_MODIFIED, &HeaderMap::new());
        let kept = links.of("a", "/p").unwrap();
        links.learn("a", "/p", false, StatusCode::FOUND, &preload("/2"));
        let replaced = links.of("a", "/p").unwrap();
        links.learn("a", "/p", false, StatusCode::OK, &HeaderMap::new());

        assert_eq!(&*kept[0], "</1>; rel=preload");
        assert_eq!(&*replaced[0], "</2>; rel=preload");
        assert!(links.of("a", "/p").is_none());
        assert!(links.of("b", "/p").is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_used_stays() {
        let many = "</x>; rel=preload, ".repeat(MAX_LINKS + 5);
        assert_eq!(learnt(&[("link", &many)]).len(), MAX_LINKS);
        let large = format!("<{}>; rel=preload, </y>; rel=preload", "x".repeat(MAX_LINK_BYTES));
        assert!(learnt(&[("link", &large)]).is_empty());

        let links = LearntLinks::default();
        let preload = fields(&[("link", "</x>; rel=preload")]);
        let learn = |path: &str| links.learn("a", path, false, StatusCode::OK, &preload);
        learn("/used");
        for path in 0..MAX_PATHS * 4 {
            learn(&format!("/{path}"));
            assert!(links.of("a", "/used").is_some(), "{path}");
        }
        assert!(links.of("a", "/1").is_none());
        let generations = links.0.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * MAX_PATHS);
    }
}
