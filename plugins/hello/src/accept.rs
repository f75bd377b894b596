//! Whether a client would rather have a page than JSON (RFC 9110 §12.5.1).

use wharf_sdk::{HeaderMap, header};

/// True if `Accept` gives `text/html` more weight than `application/json`, as browsers do. A client
/// that takes anything gets JSON.
pub(crate) fn prefers_page(headers: &HeaderMap) -> bool {
    let ranges: Vec<(&str, f32)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(range)
        .collect();
    weight(&ranges, "text", "html") > weight(&ranges, "application", "json")
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

/// The weight of the most specific range that covers `kind/name`.
fn weight(ranges: &[(&str, f32)], kind: &str, name: &str) -> f32 {
    let covers = |media: &str| match media.split_once('/') {
        Some(("*", "*")) => Some(0),
        Some((k, "*")) if k.eq_ignore_ascii_case(kind) => Some(1),
        Some((k, n)) if k.eq_ignore_ascii_case(kind) && n.eq_ignore_ascii_case(name) => Some(2),
        _ => None,
    };
    ranges
        .iter()
        .filter_map(|(media, weight)| Some((covers(media)?, *weight)))
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
            ("", false),
            ("*/*", false),
            (browser, true),
            ("text/html", true),
            ("text/*", true),
            ("application/json", false),
            ("application/json, text/html", false),
            ("application/json;q=0.9, text/html", true),
            ("text/html;q=0, */*;q=0.1", false),
            ("Text/HTML", true),
            ("text/html;q=nonsense", false),
        ];

        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers_page(&headers), expected, "{accept}");
        }
    }
}
