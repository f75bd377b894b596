//! A pattern, with its base URL where there is a space, and a topic, split at the first line feed: neither
//! reading nor matching panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_hub::{Selector, SelectorKind};

fuzz_target!(|input: &str| {
    let (pattern, topic) = input.split_once('\n').unwrap_or((input, "https://example.com/"));
    if let Ok(selector) = Selector::parse(SelectorKind::UrlPattern, pattern) {
        selector.matches(topic);
    }
});
