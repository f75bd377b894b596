//! Which of two media types a client would rather have (RFC 9110 §12.5.1).

use http::{HeaderMap, header};

/// True if `Accept` gives `media` more weight than `other`; a client that takes both alike prefers
/// neither.
pub(crate) fn prefers(headers: &HeaderMap, media: &str, other: &str) -> bool {
    let ranges: Vec<(&str, f32)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(range)
        .collect();
    weight(&ranges, media) > weight(&ranges, other)
}

fn range(part: &str) -> (&str, f32) {
    let mut parts = part.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .map_or(1.0, |(_, value)| value.trim().parse().unwrap_or(0.0));
    (media, weight)
}

/// The weight of the most specific range that covers `media`.
fn weight(ranges: &[(&str, f32)], media: &str) -> f32 {
    let kind = media.split('/').next().unwrap_or_default();
    let specificity = |range: &str| match range.split_once('/') {
        Some(("*", "*")) => Some(0),
        Some((k, "*")) if k.eq_ignore_ascii_case(kind) => Some(1),
        _ if range.eq_ignore_ascii_case(media) => Some(2),
        _ => None,
    };
    ranges
        .iter()
        .filter_map(|(range, weight)| Some((specificity(range)?, *weight)))
        .max_by_key(|(specificity, _)| *specificity)
        .map_or(0.0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_specificity_decide() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let cases = [
            ("", false, false),
            ("*/*", false, false),
            (browser, true, false),
            ("text/html", true, false),
            ("text/*", true, false),
            ("application/json", false, true),
            ("application/*", false, true),
            ("application/json, text/html", false, false),
            ("application/json;q=0.9, text/html", true, false),
            ("application/json, text/html;q=0.9", false, true),
            ("application/json;q=0.5, */*", true, false),
            ("text/html;q=0, */*;q=0.1", false, true),
            ("Text/HTML", true, false),
            ("Application/JSON", false, true),
            ("text/html;q=nonsense", false, false),
        ];

        for (accept, page, json) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());

            let prefers = |media, other| prefers(&headers, media, other);
            assert_eq!(prefers("text/html", "application/json"), page, "{accept}");
            assert_eq!(prefers("application/json", "text/html"), json, "{accept}");
        }
    }
}
