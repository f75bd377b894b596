//! What a file's name says of it: `content-disposition` (RFC 6266, RFC 8187) and `content-type`.
//!
//! Names come from users. Whatever a name is made of, the field is one field, and what a browser saves
//! is one plain name in the folder that its user chose.

use http::HeaderValue;

/// Bytes of UTF-8 of a name; what most file systems take.
const MAX_NAME: usize = 255;
/// Stands for a name of which nothing is left.
const NAMELESS: &str = "download";
/// Where nothing better is known (RFC 9110 §8.3).
const UNKNOWN_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Whether a browser shows a file or saves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Shown where it can be.
    Inline,
    /// Saved.
    Attachment,
}

/// The field value for a file that is to be called `name`.
pub fn content_disposition(disposition: Disposition, name: &str) -> HeaderValue {
    let name = plain_name(name);
    // RFC 6266 appendix D: no escapes inside the quotes, and no `%`, which some clients decode.
    let fits = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%');
    let fallback: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    let word = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let mut value = format!("{word}; filename=\"{fallback}\"");
    if fallback != name {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            // RFC 8187 §3.2.1: `attr-char`.
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                value.push(char::from(byte));
            } else {
                value.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    HeaderValue::try_from(value).expect("printable ASCII")
}

/// The last segment of a path of any system, without what would not be seen, or would be seen as
/// something else.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut plain: String = last.chars().filter(|&c| !is_hidden(c)).collect();
    if plain.len() > MAX_NAME {
        // The extension says what it is: that is kept where it is short.
        let extension = plain.rfind('.').map(|dot| plain[dot..].to_owned());
        let extension = extension.filter(|extension| extension.len() <= 16).unwrap_or_default();
        plain.truncate(plain.floor_char_boundary(MAX_NAME - extension.len()));
        plain.push_str(&extension);
    }
    let plain = plain.trim();
    if plain.trim_matches('.').is_empty() { NAMELESS.to_owned() } else { plain.to_owned() }
}

/// Controls, and what changes how the rest is displayed: `exe.fdp` that reads `pdf.exe`.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

/// The media type that a name's extension stands for. Text is taken for UTF-8.
pub fn content_type(name: &str) -> HeaderValue {
    let Some(guess) = mime_guess::from_path(name).first_raw() else { return UNKNOWN_TYPE };
    // RFC 9239 §6 made the other names of it obsolete.
    let guess = if guess == "application/javascript" { "text/javascript" } else { guess };
    if guess.starts_with("text/") {
        let text = format!("{guess}; charset=utf-8");
        return HeaderValue::try_from(text).unwrap_or(UNKNOWN_TYPE);
    }
    HeaderValue::from_static(guess)
}

/// Whether files of this type are worth a coding: not those that are compressed as they are.
pub fn is_compressible(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let text = text.split(';').next().unwrap_or_default().trim_end();
    let (kind, subtype) = text.split_once('/').unwrap_or((text, ""));
    match kind {
        "text" => true,
        "image" => matches!(subtype, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        "font" => matches!(subtype, "ttf" | "otf" | "sfnt" | "collection"),
        "application" => {
            subtype.ends_with("json")
                || subtype.ends_with("xml")
                || matches!(subtype, "wasm" | "javascript" | "manifest+json" | "octet-stream")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_rfc_6266_says() {
        for (clause, name, expected) in [
            ("§4.1 plain", "a b.txt", r#"attachment; filename="a b.txt""#),
            (
                "§4.3 beyond ASCII",
                "na\u{ef}ve \u{20ac}.txt",
                r#"attachment; filename="na_ve _.txt"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt"#,
            ),
            (
                "appendix D: no escapes",
                "a\"b%41.txt",
                r#"attachment; filename="a_b_41.txt"; filename*=UTF-8''a%22b%2541.txt"#,
            ),
            (
                "RFC 8187 §3.2.1: only attr-char is bare",
                "\u{e9}'(1)*;,=.txt",
                r#"attachment; filename="_'(1)*;,=.txt"; filename*=UTF-8''%C3%A9%27%281%29%2A%3B%2C%3D.txt"#,
            ),
        ] {
            let value = content_disposition(Disposition::Attachment, name);
            assert_eq!(value.to_str().unwrap(), expected, "{clause}");
        }
    }

    #[test]
    fn names_inject_nothing() {
        for (name, expected) in [
            ("a\r\nset-cookie: b=1", "aset-cookie: b=1"),
            ("a\0b\u{7f}\u{85}c", "abc"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("C:\\x\\y.txt", "y.txt"),
            ("/", "download"),
            ("..", "download"),
            ("...", "download"),
            ("", "download"),
            ("\u{202e}", "download"),
            ("invoice\u{202e}fdp.exe", "invoicefdp.exe"),
            ("a\u{2066}\u{200b}\u{feff}b", "ab"),
        ] {
            let value = content_disposition(Disposition::Inline, name);
            assert_eq!(value.to_str().unwrap(), format!("inline; filename=\"{expected}\""));
        }
    }

    #[test]
    fn a_quote_does_not_end_the_name() {
        let value = content_disposition(Disposition::Attachment, "a\"; filename=\"b.exe");

        let text = value.to_str().unwrap();
        assert!(text.starts_with(r#"attachment; filename="a_; filename=_b.exe"; filename*="#));
        assert_eq!(text.matches('"').count(), 2);
    }

    #[test]
    fn long_names_keep_their_extension() {
        let name = format!("{}.pdf", "\u{20ac}".repeat(200));

        let plain = plain_name(&name);

        assert!(plain.len() <= MAX_NAME && plain.ends_with("\u{20ac}.pdf"), "{plain}");
    }

    #[test]
    fn types_come_from_the_extension() {
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("a.mp4", "video/mp4"),
            ("a.MP4", "video/mp4"),
            ("a.wasm", "application/wasm"),
            ("a.woff2", "font/woff2"),
            ("a.tar.gz", "application/gzip"),
            ("data/x.webp", "image/webp"),
            ("a", "application/octet-stream"),
            ("a.no-such-thing", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }
}
