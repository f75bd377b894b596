//! Which content is worth a coding, by its media type.

use http::HeaderValue;

/// What a media type says of a coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// Text, or as redundant as text.
    Compressible,
    /// Server-sent events: each is short, and intermediaries and clients handle them best as they
    /// are.
    Events,
    /// Compressed already, or unknown.
    Other,
}

/// Types besides `text/*`, `*+json`, `*+xml` and `*+text`.
const COMPRESSIBLE: &[&str] = &[
    "application/dart",
    "application/ecmascript",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/json-seq",
    "application/jsonl",
    "application/manifest",
    "application/ndjson",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.apple.mpegurl",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-font-opentype",
    "application/x-font-ttf",
    "application/x-javascript",
    "application/x-mpegurl",
    "application/x-ndjson",
    "application/x-sh",
    "application/x-www-form-urlencoded",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
    "font/collection",
    "font/otf",
    "font/sfnt",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

impl Media {
    /// By a `content-type`; parameters do not count, nor does case (RFC 9110 §8.3.1).
    pub(super) fn of(content_type: &HeaderValue) -> Self {
        let bytes = content_type.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
        let Ok(essence) = str::from_utf8(bytes.trim_ascii()) else { return Self::Other };
        let begins = |prefix: &str| {
            essence.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        };
        let ends = |suffix: &str| {
            let at = essence.len().saturating_sub(suffix.len());
            essence.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        if essence.eq_ignore_ascii_case("text/event-stream") {
            return Self::Events;
        }
        let listed = || COMPRESSIBLE.iter().any(|known| essence.eq_ignore_ascii_case(known));
        if begins("text/") || ends("+json") || ends("+xml") || ends("+text") || listed() {
            return Self::Compressible;
        }
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        for (content_type, expected) in [
            ("text/html; charset=utf-8", Media::Compressible),
            ("TEXT/CSS", Media::Compressible),
            ("application/json", Media::Compressible),
            ("Application/JSON ;charset=utf-8", Media::Compressible),
            ("application/problem+json", Media::Compressible),
            ("image/svg+xml", Media::Compressible),
            ("application/wasm", Media::Compressible),
            ("font/ttf", Media::Compressible),
            ("text/event-stream", Media::Events),
            ("Text/Event-Stream;charset=utf-8", Media::Events),
            ("font/woff2", Media::Other),
            ("image/png", Media::Other),
            ("video/mp4", Media::Other),
            ("application/octet-stream", Media::Other),
            ("application/zip", Media::Other),
            ("application/grpc", Media::Other),
            ("multipart/x-mixed-replace", Media::Other),
            ("json", Media::Other),
            ("", Media::Other),
            ("text", Media::Other),
        ] {
            assert_eq!(
                Media::of(&HeaderValue::from_static(content_type)),
                expected,
                "{content_type}"
            );
        }
    }

    #[test]
    fn what_is_no_text_is_no_type() {
        let value = HeaderValue::from_bytes(b"text/\xff").unwrap();

        assert_eq!(Media::of(&value), Media::Other);
    }
}
