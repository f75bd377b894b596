//! Entity tags (RFC 9110 §8.8.3) made of content, or of what a plugin calls a version.

/// Hexadecimal digits of a tag made of content: 128 bits, so that nobody finds two contents of one
/// tag by chance, and hardly on purpose.
const DIGITS: usize = 32;
/// Longest version that is told as it is, in bytes.
const MAX_VERSION_BYTES: usize = 128;

/// The tag of these bytes: the same for the same bytes, on every server.
pub fn of_content(content: &[u8], weak: bool) -> String {
    let hash = blake3::hash(content).to_hex();
    tag(&hash[..DIGITS], weak)
}

/// The tag of a version: as it is where a tag can hold it, else made of its bytes.
pub fn of_version(version: &str, weak: bool) -> String {
    // §8.8.3 allows more bytes, of which clients make different things.
    let fits = |byte: u8| byte == 0x21 || (0x23..0x7f).contains(&byte) && byte != b'\\';
    if !version.is_empty() && version.len() <= MAX_VERSION_BYTES && version.bytes().all(fits) {
        return tag(version, weak);
    }
    of_content(version.as_bytes(), weak)
}

fn tag(opaque: &str, weak: bool) -> String {
    format!("{}\"{opaque}\"", if weak { "W/" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let tag = of_content(b"hello", false);

        assert_eq!(tag, of_content(b"hello", false));
        assert_ne!(tag, of_content(b"hello!", false));
        assert_eq!(of_content(b"hello", true), format!("W/{tag}"));
        assert_eq!((tag.len(), tag.matches('"').count()), (DIGITS + 2, 2));
    }

    #[test]
    fn versions_are_told_as_they_are_where_a_tag_can_hold_them() {
        for (version, told) in [
            ("7", "\"7\""),
            ("AAPL-2026-01-02T03:04:05Z", "\"AAPL-2026-01-02T03:04:05Z\""),
            ("a,b", "\"a,b\""),
        ] {
            assert_eq!(of_version(version, false), told);
        }
        for odd in ["", "a\"b", "a b", "é", "a\r\nx: y", &"x".repeat(200)] {
            assert_eq!(of_version(odd, false), of_content(odd.as_bytes(), false), "{odd:?}");
        }
    }
}
