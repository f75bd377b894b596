//! Two patterns and a topic, one a line: what covers or does not overlap says the same of the topic, and
//! matching is that of the literal recursion.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_hub::Pattern;

fn matches(own: &[&str], theirs: &[&str]) -> bool {
    match (own, theirs) {
        ([], []) => true,
        (["*"], [_, ..]) => true,
        (["*", own @ ..], [_, theirs @ ..]) => matches(own, theirs),
        ([first, own @ ..], [other, theirs @ ..]) => first == other && matches(own, theirs),
        _ => false,
    }
}

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (Ok(one), Ok(other), topic) = (Pattern::parse(next()), Pattern::parse(next()), next()) else {
        return;
    };
    let segments = |text: &'_ str| -> Vec<String> { text.split('/').map(str::to_owned).collect() };
    let (own, theirs) = (segments(one.as_str()), segments(topic));
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    let theirs: Vec<_> = theirs.iter().map(String::as_str).collect();
    let matched = one.matches(topic);
    assert_eq!(matched, matches(&own, &theirs));
    if one.covers(&other) {
        assert!(matched || !other.matches(topic));
    }
    if !one.overlaps(&other) {
        assert!(!matched || !other.matches(topic));
    }
    if one.covers_prefix(topic) {
        assert!(one.matches(&format!("{topic}x")));
    }
});
