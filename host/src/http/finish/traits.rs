//! What an answer's head comes to for every request: who may get it coded, whether it has parts.
//!
//! Decided when the plugin has answered; for a stored answer once, so that a hit that asks for
//! nothing costs nothing.

use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, LAST_MODIFIED, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, response};
use http_body::Body;

use super::head::{self, has_member};
use super::media::Media;
use super::tag;
use super::{CODED_FROM, Compress, FinishPolicy};
use crate::http::body::ResponseBody;
use crate::http::condition::{EntityTag, is_settled};
use crate::http::validate::parse_content_length;

/// What an answer's head comes to for every request. Of a stored answer it is made once.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Bytes of the content, where they are known.
    pub(super) size: Option<u64>,
    pub(super) coding: Codable,
    /// It is a whole 200, to which conditions and ranges apply.
    pub(super) is_whole: bool,
    pub(super) has_ranges: bool,
}

/// Who may get an answer coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codable {
    Nobody,
    /// Whoever sent no credentials.
    Anonymous,
    Everybody,
}

impl Traits {
    const NONE: Self =
        Self { size: None, coding: Codable::Nobody, is_whole: false, has_ranges: false };
}

/// Completes a head with what its answers to all clients carry (`etag`, `accept-ranges`, `vary`),
/// and tells what else is to be known of it.
///
/// For an answer that is stored, `is_stored` says so and `method` is GET; the head is kept as it is
/// made here, and `vary` as the origin gave it apart from it: what is added depends on nothing that
/// is stored.
pub fn prepare(
    method: &Method,
    head: &mut response::Parts,
    body: &ResponseBody,
    policy: &FinishPolicy,
    is_stored: bool,
) -> Traits {
    prepare_at(method, head, body, policy, is_stored, SystemTime::now)
}

pub(super) fn prepare_at(
    method: &Method,
    head: &mut response::Parts,
    body: &ResponseBody,
    policy: &FinishPolicy,
    is_stored: bool,
    now: impl FnOnce() -> SystemTime,
) -> Traits {
    if body.is_switching() || body.is_file() {
        return Traits::NONE;
    }
    let headers = &mut head.headers;
    let is_head = *method == Method::HEAD;
    let Some(size) = size(headers, body, is_head) else { return Traits::NONE };
    let coding = codable(method, head.status, headers, size, policy, is_stored);
    if coding != Codable::Nobody {
        head::vary(headers);
    }
    let is_whole = head.status == StatusCode::OK
        && (is_head || *method == Method::GET)
        && !headers.contains_key(CONTENT_RANGE);
    let mut has_ranges = false;
    if is_whole {
        if policy.tags
            && let Some(content) = body.bytes().filter(|content| !(content.is_empty() && is_head))
        {
            tag::complete(headers, &content);
        }
        has_ranges = size.is_some_and(|size| size > 0)
            && headers.get(ACCEPT_RANGES).is_none_or(|value| value == "bytes")
            && is_strong(headers, now);
        if has_ranges {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
    }
    // The length of a body that is not there is not known to be worth it.
    let coding = if is_head && size.is_none() { Codable::Nobody } else { coding };
    Traits { size, coding, is_whole, has_ranges }
}

/// Bytes of the content, as far as they are known: `Some(None)` where they are not, `None` where
/// what the head says of them is wrong, which the protocol deals with.
fn size(headers: &HeaderMap, body: &ResponseBody, is_head: bool) -> Option<Option<u64>> {
    let here = body.size_hint().exact();
    match headers.get(CONTENT_LENGTH) {
        Some(declared) => {
            let declared = parse_content_length(declared)?;
            let fits = here.is_none_or(|here| here == declared || is_head && here == 0);
            fits.then_some(Some(declared))
        }
        None if is_head && here == Some(0) => Some(None),
        None => Some(here),
    }
}

/// Who may get the content coded.
fn codable(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    size: Option<u64>,
    policy: &FinishPolicy,
    is_stored: bool,
) -> Codable {
    let has_content = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        )
        && *method != Method::CONNECT;
    if policy.compress == Compress::Never
        || !has_content
        || size.is_some_and(|size| size < CODED_FROM)
    {
        return Codable::Nobody;
    }
    let always = policy.compress == Compress::Always;
    let is_worth_it = match headers.get(CONTENT_TYPE).map_or(Media::Other, Media::of) {
        Media::Compressible => true,
        Media::Events => always,
        Media::Other => false,
    };
    if !is_worth_it
        || headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || has_member(headers, &CACHE_CONTROL, "no-transform")
        || headers.contains_key(SET_COOKIE) && !always
    {
        return Codable::Nobody;
    }
    // What is for all holds nobody's secrets.
    let is_for_all = always
        || is_stored
        || has_member(headers, &CACHE_CONTROL, "public")
        || has_member(headers, &CACHE_CONTROL, "s-maxage");
    if is_for_all { Codable::Everybody } else { Codable::Anonymous }
}

/// Whether parts of the same version are known to be that (§8.8.1). A date may stand for two
/// versions while it is fresh (§8.8.2.2); beside a weak tag it stands for as many as that.
fn is_strong(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> bool {
    match headers.get(ETAG).and_then(EntityTag::of) {
        Some(tag) => !tag.weak,
        None => modified(headers).is_some_and(|modified| is_settled(modified, now())),
    }
}

pub(super) fn modified(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(LAST_MODIFIED)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
}
