//! A template and a topic, split at the first line feed: neither reading nor matching panics, and a
//! template matches itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_hub::{Selector, SelectorKind};

fuzz_target!(|input: &str| {
    let (template, topic) = input.split_once('\n').unwrap_or((input, ""));
    if let Ok(selector) = Selector::parse(SelectorKind::UriTemplate, template) {
        selector.matches(topic);
        assert!(selector.matches(template));
    }
});
