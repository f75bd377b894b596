//! What the outcome of a validation, or an answer to HEAD, makes of a stored response (RFC 9111 §3.2,
//! §4.3.3 to §4.3.5).

use std::time::Duration;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::control;
use crate::freshness;
use crate::options::{Options, Request, Times};
use crate::storable::{Refusal, assemble, refuse_directives, split};
use crate::stored::Stored;

/// A stored response with the fields of a newer head.
#[derive(Clone, Debug, PartialEq)]
pub struct Freshened {
    /// What answers the request that was validated: as [`Stored::headers`], and with the `Set-Cookie` of
    /// the newer head, which is for this client alone.
    pub headers: HeaderMap,
    /// For `Age`.
    pub age: Duration,
    /// What takes the place of the stored response; or why it is removed, or left as it is
    /// ([`Refusal::leaves_stored`]).
    pub stored: Result<Stored, Refusal>,
}

/// Whether a 304 speaks of this stored response (§4.3.4): the same entity tag, strong for strong; else
/// the same `Last-Modified`. One with neither speaks of what was asked about.
pub fn is_about(stored: &Stored, not_modified: &HeaderMap) -> bool {
    let known = stored.validators();
    let modified = not_modified.get(LAST_MODIFIED);
    match (not_modified.get(ETAG), &known.etag) {
        (Some(tag), Some(known)) => is_same_tag(tag, known),
        (Some(_), None) => modified.is_some() && modified == known.last_modified.as_ref(),
        (None, _) => modified.is_none_or(|modified| Some(modified) == known.last_modified.as_ref()),
    }
}

/// Which of the variants that a request selects a 304 freshens: all with the same strong validator,
/// else the one that came last (§4.3.4). Their places in the list.
pub fn select<S: AsRef<Stored>>(variants: &[S], not_modified: &HeaderMap) -> Vec<usize> {
    let about = |at: &usize| is_about(variants[*at].as_ref(), not_modified);
    let all: Vec<_> = (0..variants.len()).filter(about).collect();
    let has_validator = not_modified.contains_key(ETAG) || not_modified.contains_key(LAST_MODIFIED);
    if not_modified.get(ETAG).is_some_and(|tag| !is_weak(tag)) {
        return all;
    }
    if !has_validator && variants.len() > 1 {
        return Vec::new();
    }
    all.into_iter().max_by_key(|at| variants[*at].as_ref().received()).into_iter().collect()
}

/// What a 304 makes of the stored response that was validated. Nothing where the 304 speaks of another
/// ([`is_about`]): then the plugin is asked once more, without conditions.
///
/// The head of the 304 has been through [`crate::policy::apply`].
pub fn freshen(
    stored: &Stored,
    request: Request<'_>,
    not_modified: &HeaderMap,
    times: Times,
    options: &Options,
) -> Option<Freshened> {
    is_about(stored, not_modified).then(|| update(stored, request, not_modified, times, options))
}

/// What an answer to HEAD makes of the stored response to GET (§4.3.5).
#[derive(Clone, Debug, PartialEq)]
pub enum HeadEffect {
    /// It is the same representation: it is freshened.
    Freshened(Box<Freshened>),
    /// It is another: the stored response is stale, as after a soft purge.
    Stale,
    /// Another status: it says nothing of the stored response.
    None,
}

/// Looks at an answer to HEAD; `length` is the stored body's.
pub fn head(
    stored: &Stored,
    length: u64,
    request: Request<'_>,
    (status, headers): (StatusCode, &HeaderMap),
    times: Times,
    options: &Options,
) -> HeadEffect {
    if status != stored.status() {
        return HeadEffect::None;
    }
    let known = stored.validators();
    let differs = |name, known: Option<&HeaderValue>| {
        headers.get(name).is_some_and(|value| Some(value) != known)
    };
    let other_length = headers.get(CONTENT_LENGTH).is_some_and(|value| {
        value.to_str().ok().and_then(|value| value.parse().ok()) != Some(length)
    });
    if other_length
        || differs(ETAG, known.etag.as_ref())
        || differs(LAST_MODIFIED, known.last_modified.as_ref())
    {
        return HeadEffect::Stale;
    }
    HeadEffect::Freshened(Box::new(update(stored, request, headers, times, options)))
}

/// Puts the fields of a newer head into a stored response (§3.2).
fn update(
    stored: &Stored,
    request: Request<'_>,
    newer: &HeaderMap,
    times: Times,
    options: &Options,
) -> Freshened {
    let date = control::date(newer).unwrap_or(times.received);
    let newer_kept = split(newer, &control::effective(newer).1, date, options);
    let mut merged = stored.all_headers();
    for fields in &newer_kept {
        for name in fields.keys().filter(|name| !KEPT_OF_STORED.contains(name)) {
            merged.remove(name);
            for value in fields.get_all(name) {
                merged.append(name, value.clone());
            }
        }
    }
    if let Some(age) = newer.get(AGE) {
        merged.insert(AGE, age.clone());
    }
    let (source, control) = control::effective(&merged);
    let age = freshness::initial_age(&merged, times);
    let outcome = refuse_directives(request, stored.status(), &control, options)
        .and_then(|()| {
            let said = (source, &control);
            assemble(request, stored.status(), &merged, said, times, options)
        })
        .and_then(|stored| if stored.is_never_used() { Err(Refusal::Stale) } else { Ok(stored) });
    let mut headers = match &outcome {
        Ok(stored) => stored.headers().clone(),
        Err(_) => split(&merged, &control, date, options)[0].clone(),
    };
    if newer.contains_key(SET_COOKIE) {
        headers.remove(SET_COOKIE);
    }
    for cookie in newer.get_all(SET_COOKIE) {
        headers.append(SET_COOKIE, cookie.clone());
    }
    Freshened { headers, age, stored: outcome }
}

/// What says how the stored body is to be read stays, whatever a 304 says (§3.2).
const KEPT_OF_STORED: [HeaderName; 3] = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE];

/// RFC 9110 §8.8.3.2, but what is strong in the newer head must be strong in the stored one.
fn is_same_tag(newer: &HeaderValue, known: &HeaderValue) -> bool {
    if is_weak(newer) { opaque(newer) == opaque(known) } else { newer == known }
}

fn opaque(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/")
}
