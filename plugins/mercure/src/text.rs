//! Strings of the protocol: which characters they have, and how forms and paths carry them.

use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_decode_str, utf8_percent_encode,
};

/// Fields of a form or a query, at the most.
pub(crate) const MAX_FIELDS: usize = 1000;

/// RFC 3986 §2.3: what RFC 6570 leaves as it is in a simple expansion.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Characters of the Unicode category `Cf`, which nobody sees: they make two strings look like one.
#[rustfmt::skip]
const FORMAT_CHARACTERS: [(char, char); 21] = [
    ('\u{ad}', '\u{ad}'), ('\u{600}', '\u{605}'), ('\u{61c}', '\u{61c}'), ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'), ('\u{890}', '\u{891}'), ('\u{8e2}', '\u{8e2}'), ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'), ('\u{202a}', '\u{202e}'), ('\u{2060}', '\u{2064}'), ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'), ('\u{fff9}', '\u{fffb}'), ('\u{110bd}', '\u{110bd}'), ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'), ('\u{1bca0}', '\u{1bca3}'), ('\u{1d173}', '\u{1d17a}'), ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Whether a topic, a matcher, an id or a type can have these characters (§ Terminology of 1.0): none
/// that could end a line of an event stream, or hide.
pub(crate) fn is_protocol_string(text: &str) -> bool {
    !text.contains(|character: char| {
        character.is_control()
            || FORMAT_CHARACTERS.iter().any(|(from, to)| (*from..=*to).contains(&character))
    })
}

/// Why a form cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FormError {
    NotUtf8,
    TooMany,
}

/// The names and values of `application/x-www-form-urlencoded` (WHATWG URL §5.1), which must be UTF-8
/// here: what is not is refused rather than replaced.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn form(bytes: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    let mut fields = Vec::new();
    for field in bytes.split(|byte| *byte == b'&').filter(|field| !field.is_empty()) {
        if fields.len() == MAX_FIELDS {
            return Err(FormError::TooMany);
        }
        let equals = field.iter().position(|byte| *byte == b'=').unwrap_or(field.len());
        let value = field.get(equals + 1..).unwrap_or_default();
        fields.push((decoded(&field[..equals])?, decoded(value)?));
    }
    Ok(fields)
}

fn decoded(text: &[u8]) -> Result<String, FormError> {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| FormError::NotUtf8)
}

/// As the value of a variable of a URI template is expanded (RFC 6570 §3.2.2).
pub(crate) fn expanded(text: &str) -> String {
    utf8_percent_encode(text, &UNRESERVED).to_string()
}

/// A segment of a path.
pub(crate) fn segment(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// A fresh name, `urn:uuid:…` (RFC 9562 §5.4), which tells nothing.
pub(crate) fn urn() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    let number = u128::from_be_bytes(bytes) & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!("{number:032x}");
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    Ok(format!("urn:uuid:{}", parts.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_line_or_hides_is_no_protocol_string() {
        for text in [
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{7f}b",
            "a\u{9f}b",
            "a\u{202e}b",
            "a\u{200b}b",
            "\u{feff}a",
        ] {
            assert!(!is_protocol_string(text), "{text:?}");
        }
        for text in ["https://example.com/foo", "é", "https://example.com/\u{645}\u{631}", "a b"] {
            assert!(is_protocol_string(text), "{text:?}");
        }
    }

    #[test]
    fn forms_are_read_as_browsers_write_them_and_must_be_utf_8() {
        let fields = form(b"topic=a%20b+c&&private&data=x%3Dy=z&topic=%C3%A9").unwrap();

        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            fields,
            [("topic", "a b c"), ("private", ""), ("data", "x=y=z"), ("topic", "é")]
        );
        assert_eq!(form(b"topic=%ff"), Err(FormError::NotUtf8));
        assert_eq!(form(b"%ff=a"), Err(FormError::NotUtf8));
        assert_eq!(form(b"topic=%4"), Ok(vec![("topic".into(), "%4".into())]));
        assert_eq!(form("a&".repeat(MAX_FIELDS + 1).as_bytes()), Err(FormError::TooMany));
    }

    #[test]
    fn names_are_uuids_of_version_4() {
        let name = urn().unwrap();

        assert_eq!((name.len(), &name[..9]), (45, "urn:uuid:"));
        assert_eq!(name.as_bytes()[23], b'4', "{name}");
        assert!(b"89ab".contains(&name.as_bytes()[28]), "{name}");
        assert_ne!(name, urn().unwrap());
    }
}
