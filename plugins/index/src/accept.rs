//! Whether a client would rather have JSON than a page (RFC 9110 §12.5.1).

use wharf_sdk::{HeaderMap, header};

/// True if `Accept` gives `application/json` more weight than `text/html`. A client that takes
/// anything gets the page.
pub(crate) fn prefers_json(headers: &HeaderMap) -> bool {
    let ranges: Vec<(&str, f32)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(range)
        .collect();
    weight(&ranges, "application", "json") > weight(&ranges, "text", "html")
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
            (browser, false),
            ("application/json", true),
            ("application/*", true),
            ("application/json, text/html", false),
            ("application/json, text/html;q=0.9", true),
            ("application/json;q=0.5, */*", false),
            ("text/html;q=0, */*;q=0.1", true),
            ("Application/JSON", true),
            ("application/json;q=nonsense", false),
        ];

        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers_json(&headers), expected, "{accept}");
        }
    }
}
