//! Two targets, a line each for authority and path: they have one key only where nothing but case, dot
//! and default port of the authority or ignored query keys differ.

#![no_main]

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use wharf_cache::key::Target;
use wharf_cache::{Key, KeyRules};

fuzz_target!(|input: &str| {
    let lines: Vec<_> = input.split('\n').collect();
    let [authority, path, other_authority, other_path] = lines[..] else { return };
    let is_path = |path: &str| path.starts_with('/') && !path.contains(['\0', '\r', '#']);
    let is_authority = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b))
    };
    if ![path, other_path].into_iter().all(is_path)
        || ![authority, other_authority].into_iter().all(is_authority)
    {
        return;
    }
    let headers = HeaderMap::new();
    let plain = KeyRules::default();
    let rules = KeyRules::new(["utm_*"], []).expect("a pattern");
    let target = |authority, path_and_query| Target { scheme: "https", authority, path_and_query };
    let key = |rules: &KeyRules, at: Target<'_>| Key::new(rules, "shop", at, &headers);
    let upper = authority.to_ascii_uppercase();
    let one = key(&plain, target(authority, path));
    // What is no port is left as it was written.
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(one, key(&plain, target(&upper, path)));
    }
    assert_eq!(Key::from_bytes(one.as_bytes()), Some(one.clone()));
    assert_eq!(one.target(), one);
    assert_eq!(one.namespace(), "shop");
    let other = key(&plain, target(other_authority, other_path));
    if path != other_path {
        assert_ne!(one, other);
    }
    if key(&rules, target(authority, path)) == key(&rules, target(authority, other_path)) {
        let rest = |path: &str| -> (String, Vec<String>) {
            let (path, query) = path.split_once('?').unwrap_or((path, "utm_"));
            let kept = query.split('&').filter(|pair| !pair.starts_with("utm_"));
            (path.to_owned(), kept.map(str::to_owned).collect())
        };
        assert_eq!(rest(path), rest(other_path));
    }
    let _ = one.to_string();
});
