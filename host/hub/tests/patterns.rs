//! Patterns against a model that tries every topic there is, of few segments and few letters.

use wharf_hub::Pattern;

/// All strings of up to `most` segments.
fn all(segments: &[&str], most: usize) -> Vec<String> {
    let mut all: Vec<String> = segments.iter().map(|segment| (*segment).to_owned()).collect();
    let mut longest = all.clone();
    for _ in 1..most {
        longest = longest
            .iter()
            .flat_map(|begin| segments.iter().map(move |segment| format!("{begin}/{segment}")))
            .collect();
        all.extend(longest.clone());
    }
    all.retain(|text| !text.is_empty());
    all
}

/// Literally what the documentation says.
fn matches(pattern: &str, topic: &str) -> bool {
    fn rest(own: &[&str], theirs: &[&str]) -> bool {
        match (own, theirs) {
            ([], []) => true,
            (["*"], [_, ..]) => true,
            (["*", own @ ..], [_, theirs @ ..]) => rest(own, theirs),
            ([first, own @ ..], [other, theirs @ ..]) => first == other && rest(own, theirs),
            _ => false,
        }
    }
    let own: Vec<_> = pattern.split('/').collect();
    rest(&own, &topic.split('/').collect::<Vec<_>>())
}

#[test]
fn patterns_match_cover_and_overlap_as_the_topics_say() {
    let topics = all(&["a", "b", ""], 5);
    let patterns = all(&["a", "", "*"], 3);
    let matched: Vec<Vec<bool>> = patterns
        .iter()
        .map(|pattern| topics.iter().map(|topic| matches(pattern, topic)).collect())
        .collect();
    let parsed: Vec<_> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();

    for (pattern, matched) in parsed.iter().zip(&matched) {
        for (topic, expected) in topics.iter().zip(matched) {
            assert_eq!(pattern.matches(topic), *expected, "{pattern:?} {topic}");
        }
    }
    for (one, those) in parsed.iter().zip(&matched) {
        for (other, others) in parsed.iter().zip(&matched) {
            let all = those.iter().zip(others).all(|(this, that)| *this || !that);
            let any = those.iter().zip(others).any(|(this, that)| *this && *that);

            assert_eq!(one.covers(other), all, "{one:?} {other:?}");
            assert_eq!(one.overlaps(other), any, "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_prefix_is_covered_if_all_that_begins_so_is() {
    let topics = all(&["a", "ab", "b", ""], 4);
    for text in all(&["a", "", "*"], 3) {
        let pattern = Pattern::parse(&text).unwrap();
        for prefix in ["", "a", "a/", "a/a", "a/a/", "/", "b/", "a/b"] {
            let mut below = topics.iter().filter(|topic| topic.starts_with(prefix));
            if pattern.covers_prefix(prefix) {
                assert!(below.clone().all(|topic| pattern.matches(topic)), "{text} {prefix:?}");
            }
            if !pattern.overlaps_prefix(prefix) {
                assert!(!below.any(|topic| pattern.matches(topic)), "{text} {prefix:?}");
            }
        }
    }
}
