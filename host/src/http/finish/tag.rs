//! Entity tags that the host makes of content (RFC 9110 §8.8.3).
//!
//! BLAKE3, cut to 128 bits: whoever can choose a part of the content cannot make two versions with
//! one tag, and it is in the tree already. Stable over restarts, versions of the plugin and
//! machines. It costs a third of a microsecond for 100 bytes and a few for 10 KB.

use std::fmt::Write;

use http::header::{CACHE_CONTROL, ETAG, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::head::has_member;

/// Bytes of content past which no tag is made of it: a longer one is worth a version of the
/// plugin's own, and hashing it would hold up the core.
pub const MAX_TAGGED: usize = 64 * 1024;

/// Bytes of the digest that make the tag.
const DIGEST: usize = 16;

/// The strong tag of these bytes.
pub fn content_tag(content: &[u8]) -> HeaderValue {
    let digest = blake3::hash(content);
    let mut tag = String::with_capacity(2 * DIGEST + 2);
    tag.push('"');
    for byte in &digest.as_bytes()[..DIGEST] {
        let _infallible = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::try_from(tag).expect("digits and quotes")
}

/// Gives the head of a whole 200 a tag of its `content`, where that is worth something: not where
/// it has one, is too long, sets a cookie (it is not to be repeated), or is not to be stored by
/// anyone (there is nothing to validate).
pub fn complete(headers: &mut HeaderMap, content: &[u8]) {
    if content.len() <= MAX_TAGGED
        && !headers.contains_key(ETAG)
        && !headers.contains_key(SET_COOKIE)
        && !has_member(headers, &CACHE_CONTROL, "no-store")
    {
        headers.insert(ETAG, content_tag(content));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_contents_apart_and_stay() {
        let tag = content_tag(b"hello");

        assert_eq!(tag, "\"ea8f163db38682925e4491c5e58d4bb3\"");
        assert_ne!(tag, content_tag(b"hello "));
    }

    #[test]
    fn what_cannot_be_validated_gets_no_tag() {
        for (fields, tagged) in [
            (&[][..], true),
            (&[("cache-control", "no-cache, max-age=0")], true),
            (&[("cache-control", "private")], true),
            (&[("cache-control", "No-Store")], false),
            (&[("set-cookie", "a=b")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }

            complete(&mut headers, b"x");

            assert_eq!(headers.contains_key(ETAG), tagged, "{fields:?}");
        }
    }

    #[test]
    fn the_origins_tag_stays_and_long_contents_get_none() {
        let mut own = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"own\""))]);
        let mut long = HeaderMap::new();

        complete(&mut own, b"x");
        complete(&mut long, &[0; MAX_TAGGED + 1]);

        assert_eq!(own[ETAG], "\"own\"");
        assert!(long.is_empty());
    }
}
