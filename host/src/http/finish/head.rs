//! What becomes of a response's fields when it is sent in another form than its origin gave it: as
//! a 304, a 412 or 416, in part, or coded (RFC 9110 §15.4.5, RFC 9530).

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, HeaderName,
    PRAGMA, TRAILER, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode, response};

/// RFC 1864, gone with RFC 7231; about the bytes that are sent.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// RFC 9530 §2; about the bytes that are sent.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// RFC 9530 §3; about the whole representation, coded as it is.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// RFC 3230; about the whole representation, coded as it is.
const DIGEST: HeaderName = HeaderName::from_static("digest");
/// RFC 9213.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Adds `Accept-Encoding` to `vary`.
pub(in crate::http) fn vary(headers: &mut HeaderMap) {
    if !has_member(headers, &VARY, ACCEPT_ENCODING.as_str()) && !has_member(headers, &VARY, "*") {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Whether a list has a member of this name, whatever case, with or without a value.
pub(super) fn has_member(headers: &HeaderMap, list: &HeaderName, member: &str) -> bool {
    headers.get_all(list).iter().any(|value| {
        value.as_bytes().split(|&byte| byte == b',').any(|element| {
            let name = element.split(|&byte| byte == b'=').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(member.as_bytes())
        })
    })
}

/// Takes away what describes content that is not sent.
pub(in crate::http) fn without_content(headers: &mut HeaderMap) {
    for name in [
        CONTENT_TYPE,
        CONTENT_DISPOSITION,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        TRAILER,
        CONTENT_MD5,
        CONTENT_DIGEST,
        REPR_DIGEST,
        DIGEST,
    ] {
        headers.remove(name);
    }
}

/// Makes the head a 304 (§15.4.5): what guides caches and does not describe content stays.
pub(super) fn not_modified(head: &mut response::Parts) {
    head.status = StatusCode::NOT_MODIFIED;
    without_content(&mut head.headers);
    head.headers.remove(CONTENT_RANGE);
}

/// Makes the head one of a 412 or 416 that this request alone has earned: no cache may answer
/// others with it, as the freshness of what it stands for would allow (RFC 9111 §3).
pub(in crate::http) fn refused(head: &mut response::Parts, status: StatusCode) {
    head.status = status;
    without_content(&mut head.headers);
    for name in [EXPIRES, AGE, PRAGMA, CDN_CACHE_CONTROL] {
        head.headers.remove(name);
    }
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Fits the fields to a part of the content.
pub(super) fn partial(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, TRAILER, CONTENT_MD5, CONTENT_DIGEST] {
        headers.remove(name);
    }
}

/// Fits the fields to content that is coded on the way. Ranges of that cannot be had: it is not
/// made the same way twice.
pub(super) fn coded(headers: &mut HeaderMap, token: &'static str) {
    for name in [CONTENT_LENGTH, ACCEPT_RANGES, CONTENT_MD5, CONTENT_DIGEST, REPR_DIGEST, DIGEST] {
        headers.remove(name);
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(token));
    weaken(headers);
}

/// Makes a strong `etag` weak: other bytes are sent than it was made for, which mean the same
/// (§8.8.1). What it says between the quotes stays, so that `If-None-Match` finds it again wherever
/// it is evaluated, here or in the plugin.
pub(super) fn weaken(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get_mut(ETAG)
        && tag.as_bytes().starts_with(b"\"")
    {
        let weak = [b"W/", tag.as_bytes()].concat();
        *tag = HeaderValue::try_from(weak).expect("a tag with two letters before it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn vary_is_said_once() {
        for (given, expected) in [
            (None, "Accept-Encoding"),
            (Some("cookie"), "cookie|Accept-Encoding"),
            (Some("Accept-Encoding, cookie"), "Accept-Encoding, cookie"),
            (Some("*"), "*"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(given.map(|value| (VARY, HeaderValue::from_static(value))));

            vary(&mut headers);

            let values: Vec<_> =
                headers.get_all(VARY).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values.join("|"), expected);
        }
    }

    #[test]
    fn members_are_names_in_any_case() {
        for (value, expected) in [
            ("no-store", true),
            ("private, No-Store", true),
            ("x=1,no-store=now", true),
            ("no-stores", false),
            ("no", false),
            ("", false),
        ] {
            let headers = headers(&[("cache-control", value)]);
            assert_eq!(has_member(&headers, &CACHE_CONTROL, "no-store"), expected, "{value}");
        }
    }

    #[test]
    fn only_strong_tags_are_weakened() {
        for (given, expected) in
            [("\"a\"", "W/\"a\""), ("\"\"", "W/\"\""), ("W/\"a\"", "W/\"a\""), ("no tag", "no tag")]
        {
            let mut headers = headers(&[("etag", given)]);
            weaken(&mut headers);
            assert_eq!(headers[ETAG], expected);
        }
    }
}
