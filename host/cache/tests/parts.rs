//! Keys, policies and the names of outcomes.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

use http::{HeaderMap, HeaderName, HeaderValue};
use wharf_cache::key::Target;
use wharf_cache::status::Fwd;
use wharf_cache::{CacheControl, Key, KeyRules, Policies, Policy, Refusal};

fn key(rules: &KeyRules, url: &str, headers: &HeaderMap) -> Key {
    Key::new(rules, "shop", Target::of_url(url).unwrap(), headers)
}

fn plain(url: &str) -> Key {
    key(&KeyRules::default(), url, &HeaderMap::new())
}

#[test]
fn authorities_that_are_the_same_have_one_key() {
    for (one, other) in [
        ("http://example.com/", "http://EXAMPLE.com/"),
        ("http://example.com/", "HTTP://example.com/"),
        ("http://example.com/", "http://example.com:80/"),
        ("http://example.com/", "http://example.com:/"),
        ("http://example.com/", "http://example.com./"),
        ("http://example.com/", "http://example.com.:080/"),
        ("http://example.com/", "http://example.com"),
        ("https://example.com/?a", "https://example.com:443?a"),
        ("http://[::1]/", "http://[0:0:0:0:0:0:0:1]:80/"),
        ("http://[::1]:8080/", "http://[::1]:08080/"),
        ("http://example.com/", "http://example.com/#x"),
    ] {
        assert_eq!(plain(one), plain(other), "{one} {other}");
    }
}

/// RUNTIME.md, cache deception: what the plugin may tell apart, the key does.
#[test]
fn targets_that_differ_for_the_plugin_have_different_keys() {
    let urls = [
        "http://example.com/",
        "https://example.com/",
        "http://example.com:443/",
        "http://example.com:8080/",
        "http://example.com:+80/",
        "http://example.org/",
        "http://example.com/a",
        "http://example.com/A",
        "http://example.com/a/",
        "http://example.com//a",
        "http://example.com/a?",
        "http://example.com/a?b",
        "http://example.com/a?B",
        "http://example.com/a?b&c",
        "http://example.com/a?c&b",
        "http://example.com/a%3Fb",
        "http://example.com/a%3fb",
        "http://example.com/a;b",
        "http://example.com/a;.css",
        "http://example.com/a%2f",
        "http://example.com/a%00",
        "http://example.com/a/../b",
        "http://example.com/b",
        "http://example.com/%61",
        "http://example.com/a%0Ab",
        "http://[::1]/",
        "http://[::2]/",
    ];
    for (at, one) in urls.iter().enumerate() {
        for other in &urls[at + 1..] {
            assert_ne!(plain(one), plain(other), "{one} {other}");
        }
    }
}

#[test]
fn plugins_do_not_share_entries() {
    let target = Target::of_url("http://example.com/a").unwrap();
    let (rules, none) = (KeyRules::default(), HeaderMap::new());

    let one = Key::new(&rules, "shop", target, &none);

    assert_ne!(one, Key::new(&rules, "blog", target, &none));
    assert_eq!(one.namespace(), "shop");
}

#[test]
fn ignored_query_keys_make_no_difference_and_others_do() {
    let rules = KeyRules::new(["utm_*", "ref"], []).unwrap();
    let key = |query: &str| key(&rules, &format!("http://example.com/a{query}"), &HeaderMap::new());

    for query in ["?utm_source=x", "?ref", "?ref=1&utm_x", "?utm_=&ref=2&ref="] {
        assert_eq!(key(query), key(""), "{query}");
    }
    assert_eq!(key("?a=1&utm_x=2&b=3"), key("?a=1&b=3"));
    assert_eq!(key("?a=1&a=2"), key("?a=1&ref=x&a=2"));
    for query in ["?refer=1", "?Ref=1", "?utm=1", "?xutm_a=1", "?utm%5fa=1", "?a=ref"] {
        assert_ne!(key(query), key(""), "{query}");
    }
    assert_ne!(key("?a=1&b=3"), key("?b=3&a=1"));
}

#[test]
fn patterns_that_could_match_nothing_are_errors() {
    for pattern in ["", "a*b", "*a", "a=b", "a&b", "**"] {
        assert!(KeyRules::new([pattern], []).is_err(), "{pattern}");
    }
    assert!(KeyRules::new(["*"], []).is_ok());
}

#[test]
fn added_fields_tell_entries_apart_and_purges_reach_all_of_them() {
    let rules = KeyRules::new([], ["x-tenant", "x-a"].map(HeaderName::from_static)).unwrap();
    let with = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-tenant", HeaderValue::from_static(value));
        }
        key(&rules, "http://example.com/a", &headers)
    };

    let keys =
        [with(&[]), with(&[""]), with(&["1"]), with(&["1", "2"]), with(&["1, 2"]), with(&["2"])];

    for (at, one) in keys.iter().enumerate() {
        for other in &keys[at + 1..] {
            assert_ne!(one, other);
        }
        assert!(one.has_fields());
        assert_eq!(one.target(), plain("http://example.com/a"));
        assert_eq!(Key::from_bytes(one.as_bytes()).as_ref(), Some(one));
    }
}

#[test]
fn keys_are_shown_without_the_values_of_added_fields() {
    let rules = KeyRules::new([], [HeaderName::from_static("authorization")]).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("secret"));

    let shown = key(&rules, "http://example.com/a?b", &headers).to_string();

    assert_eq!(shown, "shop http://example.com/a?b +1");
}

#[test]
fn long_keys_are_keys_like_any_other() {
    let url = |length| format!("http://example.com/{}", "a".repeat(length));
    let keys: Vec<_> = (450..550).map(|length| plain(&url(length))).collect();

    for (at, one) in keys.iter().enumerate() {
        assert_eq!(*one, plain(&url(450 + at)));
        assert!(one.to_string().ends_with(&url(450 + at)));
    }
}

#[test]
fn the_documents_policies_are_there_by_name() {
    let policies = Policies::default();
    for (name, text) in [
        ("static", "public, max-age=86400, immutable"),
        ("semi-static", "public, max-age=3600"),
        ("semi_static", "public, max-age=3600"),
        ("dynamic", "private, max-age=300"),
        ("realtime", "no-cache, max-age=30"),
        ("sensitive", "no-store, no-cache"),
        ("ultra-fresh", "max-age=1, must-revalidate"),
        ("frequently-updated", "no-cache, max-age=30"),
        ("user-specific", "private, max-age=60, must-revalidate"),
        ("public-realtime", "public, max-age=300, stale-while-revalidate=900"),
        ("sensitive-realtime", "no-store, no-cache, must-revalidate"),
    ] {
        assert_eq!(policies.resolve(name).unwrap().text(), text);
        let policy = Policy::parse(text).unwrap();
        let back = policies.name_of(policy.control()).unwrap();
        assert_eq!(policies.find(back).unwrap().control(), policy.control());
    }
}

#[test]
fn a_policy_is_sent_as_it_is_meant() {
    for (text, sent) in [
        ("public,max-age=60", "public, max-age=60"),
        (" Public , MAX-AGE=060 ,", "public, max-age=60"),
        ("max-age=99999999999999999999", "max-age=2147483648"),
        ("no-cache=\"set-cookie\"", "no-cache=\"set-cookie\""),
        ("private=\"A,b\", max-age=1", "private=\"a, b\", max-age=1"),
    ] {
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.text(), sent);
        assert_eq!(CacheControl::parse([policy.value()]), *policy.control());
    }
}

#[test]
fn what_is_no_policy_is_an_error_that_helps() {
    for (text, error) in [
        ("", "a policy has at least one directive"),
        ("max-agee=60", "unknown directive \"max-agee\", did you mean \"max-age\"?"),
        ("semistatic", "unknown directive \"semistatic\", did you mean \"semi-static\"?"),
        ("Privat", "unknown directive \"Privat\", did you mean \"private\"?"),
        ("colour", "unknown directive \"colour\""),
        ("max-stale=1", "unknown directive \"max-stale\""),
        ("max-age", "max-age takes a number of seconds, as in max-age=60"),
        ("max-age=1h", "max-age takes a number of seconds, as in max-age=60"),
        ("max-age=-1", "max-age takes a number of seconds, as in max-age=60"),
        ("public=1", "public takes no argument"),
        ("private=user", "private takes field names in quotes, as in private=\"set-cookie\""),
        ("no-cache=\"a b\"", "no-cache takes field names in quotes, as in no-cache=\"set-cookie\""),
        ("max-age=1, max-age=1", "max-age is there twice"),
        ("public, private", "public and private contradict each other"),
        ("no-store, public", "public and no-store contradict each other"),
    ] {
        assert_eq!(Policies::default().resolve(text).unwrap_err().to_string(), error);
    }
}

#[test]
fn names_of_outcomes_are_short_and_each_its_own() {
    let tokens: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.token()).collect();
    let reasons: Vec<_> = Fwd::ALL.iter().map(|reason| reason.token()).collect();
    for tokens in [tokens, reasons] {
        for (at, token) in tokens.iter().enumerate() {
            assert!(
                token.len() <= 24 && token.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            );
            assert!(!tokens[at + 1..].contains(token));
        }
    }
}
