use std::time::{Duration, Instant};

use super::super::tests::Random;
use super::super::{MAX_SELECTOR_BYTES, Selector, SelectorKind};
use super::*;

fn matches(pattern: &str, topic: &str) -> bool {
    UrlPattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(topic)
}

#[test]
fn patterns_match_the_components_of_a_url() {
    for (pattern, topic, expected) in [
        // §2.3, a named group is a segment of the path
        ("https://example.com/books/:id", "https://example.com/books/1", true),
        ("https://example.com/books/:id", "https://example.com/books/1/pages", false),
        ("https://example.com/books/:id", "https://example.com/books/", false),
        ("https://example.com/books/:id", "http://example.com/books/1", false),
        ("https://example.com/books/:id", "https://example.com.evil/books/1", false),
        ("https://example.com/books/:id", "https://example.com:8443/books/1", false),
        ("https://example.com/books/:id", "https://user@example.com/books/1", true),
        // the default port is no port
        ("https://example.com:443/:a", "https://example.com/x", true),
        // modifiers
        ("https://example.com/books/:id?", "https://example.com/books", true),
        ("https://example.com/books/:id+", "https://example.com/books/1/2/3", true),
        ("https://example.com/books/:id*", "https://example.com/books", true),
        ("https://example.com/books/*", "https://example.com/books/1/2", true),
        ("https://example.com/{v:major/}?books", "https://example.com/books", true),
        ("https://example.com/{v:major/}?books", "https://example.com/v2/books", true),
        // groups
        (r"https://example.com/books/:id(\d+)", "https://example.com/books/42", true),
        (r"https://example.com/books/:id(\d+)", "https://example.com/books/4x", false),
        (r"https://example.com/(en|fr)/:page", "https://example.com/fr/a", true),
        (r"https://example.com/(en|fr)/:page", "https://example.com/de/a", false),
        (
            "https://example.com/:id([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
            "https://example.com/bb3de268-05b0-4c65-b44e-8f9acefc29d6",
            true,
        ),
        // the host ignores case, the path does not
        ("https://EXAMPLE.com/A", "https://example.COM/A", true),
        ("https://example.com/A", "https://example.com/a", false),
        ("https://*.example.com/x", "https://a.b.example.com/x", true),
        ("https://:sub.example.com/x", "https://a.b.example.com/x", false),
        // a component that comes later is anything, an earlier one is nothing
        ("https://example.com/books", "https://example.com/books?page=2#top", true),
        ("https://example.com/books?page=*", "https://example.com/books?page=2", true),
        ("https://example.com/books?page=*", "https://example.com/books", false),
        ("*://*/books", "urn://x/books", true),
        (r"urn\:uuid\:*", "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6", true),
        // both are written in their canonical form
        ("https://example.com/café", "https://example.com/caf%C3%A9", true),
        ("https://example.com/a/../b", "https://example.com/b", true),
        ("https://example.com/b", "https://example.com/a/../b", true),
        ("https://xn--caf-dma.example/", "https://café.example/", true),
    ] {
        assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
    }
}

#[test]
fn topics_that_are_no_urls_match_nothing_without_a_base() {
    for pattern in ["*://*/*", "https://example.com/*", "*:*"] {
        for topic in ["orders/42", "/books/1", "", "https://", "https://[::1/x", pattern] {
            let is_url = Url::parse(topic).is_ok();
            assert!(is_url || !matches(pattern, topic), "{pattern} {topic}");
        }
    }
}

#[test]
fn a_base_url_is_what_relative_patterns_and_topics_are_resolved_against() {
    const HUB: &str = "https://hub.example.com/.well-known/mercure";
    for (pattern, topic, expected) in [
        ("/books/:id", "/books/1", true),
        ("/books/:id", "https://hub.example.com/books/1", true),
        ("/books/:id", "https://example.com/books/1", false),
        ("https://hub.example.com/books/:id", "/books/1", true),
        ("https://example.com/books/:id", "/books/1", false),
        ("https://example.com/books/:id", "https://example.com/books/1", true),
        ("subscriptions/*", "subscriptions/x", true),
        (
            "/.well-known/mercure/subscriptions/:type/:match/:subscriber",
            "/.well-known/mercure/subscriptions/exact/https%3A%2F%2Fexample.com%2Fa/urn%3Auuid%3Ax",
            true,
        ),
        ("/.well-known/mercure/subscriptions{/*}?", "/.well-known/mercure/subscriptions", true),
    ] {
        assert_eq!(matches(&format!("{pattern} {HUB}"), topic), expected, "{pattern} {topic}");
    }
    for text in ["/books/:id", "https://a/b mailto:x", "https://a/b c", "/a https://a/b c d"] {
        assert!(UrlPattern::parse(text).is_err() || text.contains(' '), "{text}");
    }
    assert!(UrlPattern::parse("/books/:id").is_err());
    assert!(UrlPattern::parse("/books/:id mailto:a@example.com").is_err());
    assert!(UrlPattern::parse("/books/:id books").is_err());
}

#[test]
fn patterns_with_faults_are_refused() {
    for text in [
        "",
        "https://example.com/(unclosed",
        "https://example.com/:id(",
        "https://example.com/{a",
        "https://example.com/(?=a)",
        r"https://example.com/((a)\1)",
        "https://example.com/:a/:a",
        "https://example.com/a\nb",
        "https://exa mple.com/",
        "https://[::1/x",
        "https://a]",
    ] {
        assert!(UrlPattern::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn patterns_that_blow_up_are_refused_or_run_in_bounded_time() {
    let long = format!("https://example.com/{}!", "a".repeat(1000));
    let mut refused = 0;
    for group in [
        r"((?:a+)+)",
        r"((?:a|a)*)",
        r"((?:a|aa)+)",
        r"(a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaa)",
        r"((?:(?:(?:a*)*)*)*)",
        r"(a{1000})",
        r"((?:a{1,100}){1,100})",
        r"((?:(?:(?:a{50}){50}){50}){50})",
        r"(\w{1,500})",
        "([ab]*a[ab]{90}x)",
        &format!("({})", "a?".repeat(400)),
        &format!("({})", "(?:a|".repeat(100) + "b" + &")".repeat(100)),
        &(0..120).map(|n| format!("/:a{n}*")).collect::<String>(),
        &(0..200).map(|_| "*{a}").collect::<String>(),
    ] {
        let begun = Instant::now();
        let pattern =
            Selector::parse(SelectorKind::UrlPattern, &format!("https://example.com/{group}"));
        refused += usize::from(pattern.is_err());
        let matched = pattern.map(|pattern| (0..10).any(|_| pattern.matches(&long)));
        // Milliseconds, in truth; a machine may be busy.
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{group}: {matched:?} {:?}",
            begun.elapsed()
        );
    }
    assert!(refused >= 4, "{refused}");
}

#[test]
fn any_text_is_read_or_refused() {
    const PIECES: &[&str] = &[
        ":",
        "/",
        "?",
        "#",
        "*",
        "(",
        ")",
        "{",
        "}",
        "\\",
        "[",
        "]",
        "@",
        ".",
        "a",
        "1",
        "é",
        "%41",
        "%",
        "https://",
        "://",
        "+",
        "-",
        "_",
        "|",
        "^",
        "$",
        "[^",
        "\\d",
        "::1",
        "xn--",
        "😀",
        ":id",
        "(.*)",
        "{/a}?",
        " ",
        " https://a/b",
        "data:",
        "\u{200b}",
    ];
    const TOPICS: &[&str] = &[
        "https://a/b",
        "data:x",
        "/a/b?c#d",
        "https://é/%41",
        "mailto:a@b",
        "//a",
        "https://[::1]:1/",
        "a:b",
    ];
    let mut random = Random::new(0x0A11);
    let mut read = 0;
    for _ in 0..20_000 {
        let text: String = (0..random.below(12)).map(|_| random.pick(PIECES)).collect();
        if text.len() <= MAX_SELECTOR_BYTES
            && let Ok(pattern) = UrlPattern::parse(&text)
        {
            read += 1;
            for topic in TOPICS {
                let _ = pattern.matches(topic);
            }
        }
    }
    assert!(read > 500, "{read}");
}

/// Paths of literal segments, `:names` with modifiers and `*`, by trying everything.
fn model(segments: &[String], path: &[&str]) -> bool {
    let Some((first, rest)) = segments.split_first() else { return path.is_empty() };
    let named = |least: usize, most: usize| {
        (least..=most.min(path.len()))
            .any(|taken| path[..taken].iter().all(|s| !s.is_empty()) && model(rest, &path[taken..]))
    };
    match first.as_str() {
        // The standard: `/*` is the slash and anything.
        "*" => (1..=path.len()).any(|taken| model(rest, &path[taken..])),
        name if name.starts_with(':') => match name.as_bytes()[name.len() - 1] {
            b'?' => named(0, 1),
            b'+' => named(1, path.len()),
            b'*' => named(0, path.len()),
            _ => named(1, 1),
        },
        literal => path.first().is_some_and(|s| *s == literal) && model(rest, &path[1..]),
    }
}

#[test]
fn paths_agree_with_a_model_that_tries_everything() {
    let mut random = Random::new(0x0BEE);
    let (mut both, mut neither) = (0, 0);
    for round in 0..4_000 {
        let segments: Vec<String> = (0..random.below(5) + 1)
            .map(|index| match random.below(6) {
                0 | 1 => random.pick(&["a", "b", "books"]).to_owned(),
                2 => "*".to_owned(),
                _ => format!(":n{index}{}", random.pick(&["", "", "?", "+", "*"])),
            })
            .collect();
        let text = format!("https://example.com/{}", segments.join("/"));
        let pattern = UrlPattern::parse(&text).unwrap();
        for _ in 0..8 {
            let path: Vec<_> = (0..random.below(5) + 1)
                .map(|_| random.pick(&["a", "b", "books", "1", ""]))
                .collect();
            let topic = format!("https://example.com/{}", path.join("/"));

            let expected = model(&segments, &path);

            assert_eq!(pattern.matches(&topic), expected, "round {round}: {text} {topic}");
            if expected { both += 1 } else { neither += 1 }
        }
    }
    assert!(both > 1_000 && neither > 1_000, "{both} {neither}");
}
