//! What is stored of a head, what a 304, a HEAD and an unsafe method make of it, and what is said of it.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use wharf_cache::key::Target;
use wharf_cache::lookup::{Conditions, Failure, Missing, bypass, decide_without, stale_on_error};
use wharf_cache::status::Fwd;
use wharf_cache::validate::{HeadEffect, freshen, head};
use wharf_cache::{
    CacheStatus, Decision, Freshness, Key, KeyRules, Options, Stored, Times, decide, invalidate,
    lookup, storable, validate,
};

use crate::scenario::{Head, after, answer, headers, name, options, start, store};

/// Name, value and clause of what is never stored (RFC 9111 §3.1, RFC 9110 §7.6.1).
const NOT_STORED: [(&str, &str); 16] = [
    ("connection: a, b", "§3.1"),
    ("a: 1", "§3.1, named by Connection"),
    ("keep-alive: timeout=5", "§3.1"),
    ("te: trailers", "§3.1"),
    ("transfer-encoding: chunked", "§3.1"),
    ("upgrade: h2c", "§3.1"),
    ("proxy-authenticate: Basic", "§3.1"),
    ("proxy-authentication-info: x", "§3.1"),
    ("proxy-authorization: x", "§3.1"),
    ("proxy-connection: close", "§3.1"),
    ("quiet: 1", "§5.2.2.4, named by no-cache"),
    ("own: 1", "§5.2.2.7, named by private"),
    ("set-cookie: a=b", "§7.3"),
    ("surrogate-key: one two", "ours"),
    ("cache-tag: one, two", "ours"),
    ("wharf-cache-control: public", "ours"),
];

#[test]
fn fields_of_one_connection_proxy_or_client_are_not_stored() {
    let fields: Vec<_> = NOT_STORED.iter().map(|(field, _)| *field).collect();
    let text = format!(
        "200 | cache-control: public, max-age=60, no-cache=\"quiet\", private=\"own\" | {} | c: 3 | age: 1",
        fields.join(" | ").replace("wharf-cache-control: public", "x: y"),
    );

    let stored = store("GET", &text, &options("")).unwrap();

    for (field, clause) in NOT_STORED {
        let name = field.split(':').next().unwrap();
        assert!(!stored.headers().contains_key(name), "{clause}: {field}");
    }
    assert!(!stored.headers().contains_key("age"), "§4: it is made anew");
    assert_eq!(stored.headers()["c"], "3", "§3.1: all others are, unknown ones too");
    assert_eq!(stored.headers()["x"], "y");
    let keys: Vec<_> = stored.surrogate_keys().iter().map(|key| &**key).collect();
    assert_eq!(keys, ["one", "two"]);
}

#[test]
fn a_cookie_is_stored_where_the_route_says_so() {
    let text = "200 | cache-control: max-age=60 | set-cookie: a=b";

    let stored = store("GET", text, &options("[cookies=store]")).unwrap();

    assert_eq!(stored.headers()["set-cookie"], "a=b", "§7.3");
}

#[test]
fn our_own_field_counts_and_is_not_sent() {
    let stored = store(
        "GET",
        "200 | wharf-cache-control: max-age=60 | cdn-cache-control: max-age=1",
        &options(""),
    )
    .unwrap();

    assert_eq!(stored.lifetime(), Duration::from_secs(60));
    assert!(!stored.headers().contains_key("wharf-cache-control"));
    assert_eq!(stored.headers()["cdn-cache-control"], "max-age=1");
}

#[test]
fn a_response_without_a_date_gets_that_of_its_receipt() {
    let stored = store("GET", "200 | cache-control: max-age=60", &options("")).unwrap();

    assert_eq!(stored.headers()["date"], httpdate::fmt_http_date(start()));
    assert_eq!(stored.modified_by(), start(), "§4.3.2");
}

#[test]
fn the_time_a_request_took_is_part_of_the_age() {
    let request = Head::parse("GET");
    let (status, fields) = answer("200 | cache-control: max-age=60 | age: 10");
    let times = Times { requested: start(), received: after(5) };

    let stored = storable(request.request(), status, &fields, times, &Options::default()).unwrap();

    assert_eq!(stored.age(after(5)).as_secs(), 15, "§4.2.3: corrected_age_value");
    assert_eq!(stored.age(after(8)).as_secs(), 18, "§4.2.3: resident_time");
    assert_eq!(stored.age(start()).as_secs(), 15, "a clock that was set back");
}

/// Stored, 304, and what of it is then there; `-` for what is not.
#[test]
fn a_304_replaces_the_fields_that_it_has_and_no_others() {
    let rows = [
        ("§3.2", "test-header: a", "test-header: b", "test-header", "b"),
        ("§3.2", "test-header: a", "", "test-header", "a"),
        ("§3.2", "", "test-header: b", "test-header", "b"),
        ("§3.2", "x: 1 | x: 2", "x: 3", "x", "3"),
        ("§3.2", "x: 1", "x: 2 | x: 3", "x", "2 3"),
        ("§3.2", "content-foo: a", "content-foo: b", "content-foo", "b"),
        (
            "§3.2",
            "content-type: text/plain",
            "content-type: text/html",
            "content-type",
            "text/html",
        ),
        ("§3.2", "content-location: /a", "content-location: /b", "content-location", "/b"),
        (
            "§3.2",
            "content-security-policy: a",
            "content-security-policy: b",
            "content-security-policy",
            "b",
        ),
        ("§3.2", "content-length: 5", "content-length: 10", "content-length", "5"),
        ("§3.2", "", "content-length: 10", "content-length", "-"),
        ("§3.2", "content-encoding: gzip", "content-encoding: br", "content-encoding", "gzip"),
        ("§3.2", "", "content-encoding: br", "content-encoding", "-"),
        ("§3.2", "", "content-range: bytes 0-1/2", "content-range", "-"),
        ("§3.1", "", "connection: x | x: 1", "x", "-"),
        ("§3.1", "x: 1", "connection: x | x: 2", "x", "1"),
        ("§3.1", "", "transfer-encoding: chunked", "transfer-encoding", "-"),
        ("§3.1", "", "proxy-authenticate: x", "proxy-authenticate", "-"),
        (
            "§3.2",
            "cache-control: max-age=60",
            "cache-control: max-age=9",
            "cache-control",
            "max-age=9",
        ),
        ("§3.2", "expires: @60", "expires: @600", "expires", "Fri, 15 Jan 2027 08:10:00 GMT"),
        ("§4.3.4", "date: @0", "date: @100", "date", "Fri, 15 Jan 2027 08:01:40 GMT"),
        ("§4.3.4, RFC 9110 §6.6.1", "date: @0", "", "date", "Fri, 15 Jan 2027 08:03:20 GMT"),
        ("§7.3", "", "set-cookie: a=b", "set-cookie", "a=b"),
    ];
    for (clause, old, new, field, expected) in rows {
        let text = format!("200 | cache-control: max-age=60 | etag: \"a\" | {old}");
        let stored = store("GET", text.trim_end_matches(" | "), &options("")).unwrap();
        let request = Head::parse("GET");

        let freshened = freshen(
            &stored,
            request.request(),
            &headers(&format!("etag: \"a\" | {new}")),
            Times::at(after(200)),
            &Options::default(),
        );

        let freshened = freshened.unwrap();
        let got = |headers: &HeaderMap| {
            let values = headers.get_all(field).iter().map(|value| value.to_str().unwrap());
            let values: Vec<_> = values.collect();
            if values.is_empty() { "-".to_owned() } else { values.join(" ") }
        };
        assert_eq!(got(&freshened.headers), expected, "{clause}: {old} {new}");
        if field != "set-cookie"
            && let Ok(stored) = &freshened.stored
        {
            assert_eq!(got(stored.headers()), expected, "{clause}: {old} {new}");
        }
    }
}

#[test]
fn a_304_makes_the_stored_response_fresh_again() {
    let stored =
        store("GET", "200 | cache-control: max-age=60 | etag: \"a\" | age: 50", &options(""));
    let stored = stored.unwrap();
    let request = Head::parse("GET");
    let times = Times::at(after(200));

    let freshened =
        freshen(&stored, request.request(), &headers("etag: \"a\""), times, &Options::default());

    let freshened = freshened.unwrap();
    assert_eq!(freshened.age, Duration::ZERO, "the old Age is not the 304's");
    let stored = freshened.stored.unwrap();
    assert_eq!(stored.freshness(after(210)), Freshness::Fresh { left: Duration::from_secs(50) });
}

#[test]
fn a_304_that_forbids_storing_removes_the_stored_response_but_answers() {
    for (first, not_modified, refusal) in [
        ("GET", "cache-control: no-store", Ok("no-store")),
        ("GET", "cache-control: private", Ok("private")),
        ("GET", "vary: *", Ok("vary-any")),
        ("GET | cache-control: no-store", "", Err("request-no-store")),
        ("GET | authorization: a", "", Err("authorization")),
    ] {
        let stored =
            store("GET", "200 | cache-control: max-age=60 | etag: \"a\" | b: 1", &options(""));
        let request = Head::parse(first);

        let freshened = freshen(
            &stored.unwrap(),
            request.request(),
            &headers(not_modified),
            Times::at(after(100)),
            &Options::default(),
        );

        let freshened = freshened.unwrap();
        assert_eq!(freshened.headers["b"], "1");
        let refused = freshened.stored.unwrap_err();
        let got = if refused.leaves_stored() { Err(refused.token()) } else { Ok(refused.token()) };
        assert_eq!(got, refusal);
    }
}

/// §4.3.4: stored validators, those of a 304, and whether it speaks of it.
#[test]
fn a_304_speaks_of_what_has_its_validator() {
    for (stored, not_modified, expected) in [
        ("etag: \"a\"", "etag: \"a\"", true),
        ("etag: \"a\"", "etag: \"b\"", false),
        ("etag: \"a\"", "etag: W/\"a\"", true),
        ("etag: W/\"a\"", "etag: W/\"a\"", true),
        ("etag: W/\"a\"", "etag: \"a\"", false),
        ("etag: \"a\"", "", true),
        ("last-modified: @-60", "last-modified: @-60", true),
        ("last-modified: @-60", "last-modified: @-50", false),
        ("last-modified: @-60", "etag: \"a\" | last-modified: @-60", true),
        ("last-modified: @-60", "etag: \"a\"", false),
        ("etag: \"a\" | last-modified: @-60", "last-modified: @-60", true),
        ("etag: \"a\" | last-modified: @-60", "etag: \"b\" | last-modified: @-60", false),
    ] {
        let text = format!("200 | cache-control: max-age=60 | {stored}");
        let entry = store("GET", &text, &options("")).unwrap();

        let got = validate::is_about(&entry, &headers(not_modified));

        assert_eq!(got, expected, "{stored} / {not_modified}");
    }
}

struct Held(Stored);

impl AsRef<Stored> for Held {
    fn as_ref(&self) -> &Stored {
        &self.0
    }
}

fn held(fields: &str, at: u64) -> Held {
    let (status, headers) = answer(&format!("200 | cache-control: max-age=60 | {fields}"));
    let request = Head::parse("GET");
    let times = Times::at(after(at));
    Held(storable(request.request(), status, &headers, times, &Options::default()).unwrap())
}

#[test]
fn a_304_freshens_all_with_its_strong_validator_and_the_latest_with_a_weak_one() {
    let strong = [held("etag: \"a\"", 0), held("etag: \"b\"", 1), held("etag: \"a\"", 2)];
    let weak = [held("etag: W/\"a\"", 0), held("etag: W/\"a\"", 2), held("etag: W/\"a\"", 1)];

    assert_eq!(validate::select(&strong, &headers("etag: \"a\"")), [0, 2]);
    assert_eq!(validate::select(&weak, &headers("etag: W/\"a\"")), [1]);
    assert!(validate::select(&strong, &headers("etag: \"c\"")).is_empty());
    assert!(validate::select(&strong, &headers("")).is_empty());
    assert_eq!(validate::select(&strong[..1], &headers("")), [0]);
}

#[test]
fn of_several_variants_that_match_the_latest_date_is_chosen() {
    let variants = [held("date: @5", 5), held("date: @9", 9), held("date: @7", 10)];

    let chosen = lookup::select(&variants, &HeaderMap::new()).unwrap();

    assert_eq!(chosen.0.date(), after(9), "§4.1");
}

/// §4.3.5: stored, the answer to HEAD, and its effect.
#[test]
fn an_answer_to_head_freshens_what_it_fits_and_makes_the_rest_stale() {
    for (stored, answered, expected) in [
        ("etag: \"a\"", "200 | etag: \"a\"", "fresh"),
        ("etag: \"a\"", "200 | etag: \"b\"", "stale"),
        ("etag: \"a\"", "200", "fresh"),
        ("b: 1", "200", "fresh"),
        ("b: 1", "200 | etag: \"a\"", "stale"),
        ("b: 1", "200 | content-length: 9", "fresh"),
        ("b: 1", "200 | content-length: 8", "stale"),
        ("b: 1", "200 | content-length: x", "stale"),
        ("last-modified: @-9", "200 | last-modified: @-9", "fresh"),
        ("last-modified: @-9", "200 | last-modified: @-8", "stale"),
        ("b: 1", "410 | cache-control: max-age=1000", "none"),
        ("b: 1", "500", "none"),
    ] {
        let text = format!("200 | cache-control: max-age=60 | {stored}");
        let entry = store("GET", &text, &options("")).unwrap();
        let request = Head::parse("HEAD");
        let (status, fields) = answer(&format!("{answered} | c: 2").replace(" |  | ", " | "));

        let effect = head(
            &entry,
            9,
            request.request(),
            (status, &fields),
            Times::at(after(100)),
            &Options::default(),
        );

        let got = match effect {
            HeadEffect::Freshened(freshened) => {
                let entry = freshened.stored.unwrap();
                assert_eq!(entry.headers()["c"], "2");
                assert!(entry.freshness(after(130)).is_fresh());
                "fresh"
            }
            HeadEffect::Stale => "stale",
            HeadEffect::None => "none",
        };
        assert_eq!(got, expected, "{stored} / {answered}");
    }
}

/// RFC 5861 §4: options, response, request, seconds, how validation failed, and what is done.
#[test]
fn stale_responses_stand_in_for_errors_where_that_is_allowed() {
    let status = |code| Failure::Status(StatusCode::from_u16(code).unwrap());
    let allowed = "max-age=60, stale-if-error=30";
    for (says, control, request, wait, failure, expected) in [
        ("", allowed, "GET", 70, status(500), true),
        ("", allowed, "GET", 70, status(502), true),
        ("", allowed, "GET", 70, status(503), true),
        ("", allowed, "GET", 70, status(504), true),
        ("", allowed, "GET", 70, Failure::NoAnswer, true),
        ("", allowed, "GET", 70, status(404), false),
        ("", allowed, "GET", 70, status(501), false),
        ("", allowed, "GET", 70, status(200), false),
        ("", allowed, "GET", 89, status(500), true),
        ("", allowed, "GET", 90, status(500), false),
        ("", allowed, "HEAD", 70, status(500), true),
        ("", allowed, "POST", 70, status(500), false),
        ("", "max-age=60", "GET", 70, status(500), false),
        ("[sie=30]", "max-age=60", "GET", 70, status(500), true),
        ("[sie=30]", "max-age=60, stale-if-error=0", "GET", 70, status(500), false),
        ("", "max-age=60", "GET | cache-control: stale-if-error=30", 70, status(500), true),
        ("", "max-age=60", "GET | cache-control: stale-if-error=10", 70, status(500), false),
        ("[deaf]", "max-age=60", "GET | cache-control: stale-if-error=30", 70, status(500), false),
        ("", allowed, "GET | cache-control: no-cache", 70, status(500), false),
        ("", allowed, "GET | cache-control: max-age=65", 70, status(500), false),
        ("", allowed, "GET | cache-control: min-fresh=1", 70, status(500), false),
        ("", "max-age=60, stale-if-error=30, must-revalidate", "GET", 70, status(500), false),
        (
            "",
            "max-age=60, stale-if-error=30, proxy-revalidate",
            "GET",
            70,
            Failure::NoAnswer,
            false,
        ),
        ("", "max-age=60, stale-if-error=30, no-cache", "GET", 70, Failure::NoAnswer, false),
        ("", "s-maxage=60, stale-if-error=30", "GET", 70, Failure::NoAnswer, false),
    ] {
        let options = options(says);
        let text = format!("200 | cache-control: {control} | etag: \"a\"");
        let stored = store("GET", &text, &options).unwrap();
        let request = Head::parse(request);

        let got = stale_on_error(request.request(), &stored, &options, after(wait), failure);

        assert_eq!(got.is_some(), expected, "{says} {control} {wait} {failure:?}");
        if let Some(decision) = got {
            assert_eq!(name(&decision), "stale stale-if-error");
        }
    }
}

#[test]
fn a_request_that_nothing_matches_is_forwarded_unless_only_if_cached() {
    let decide = |text: &str, missing| {
        let request = Head::parse(text);
        name(&decide_without(request.request(), &Options::default(), missing))
    };

    assert_eq!(decide("GET", Missing::Uri), "forward uri-miss");
    assert_eq!(decide("HEAD", Missing::Variant), "forward vary-miss");
    assert_eq!(decide("GET | cache-control: only-if-cached", Missing::Uri), "504", "§5.2.1.7");
    assert_eq!(decide("PUT | cache-control: only-if-cached", Missing::Uri), "forward method");
    assert!(bypass(Head::parse("GET | cache-control: no-cache").request()).is_none());
}

#[test]
fn a_validation_takes_the_place_of_the_clients_conditions_and_ranges() {
    let stored = store(
        "GET",
        "200 | cache-control: no-cache | etag: W/\"a\" | last-modified: @-9",
        &options(""),
    );
    let mut request = headers(
        "if-none-match: \"b\" | if-match: \"c\" | range: bytes=0-1 | if-range: \"d\" | if-unmodified-since: @0 | if-modified-since: @5 | accept: x",
    );

    Conditions::of(&stored.unwrap()).apply(&mut request);

    assert_eq!(request, headers("if-none-match: W/\"a\" | if-modified-since: @-9 | accept: x"));
}

#[test]
fn a_soft_purge_makes_stale_what_may_then_be_used_as_stale_responses_are() {
    let control = "200 | cache-control: max-age=60, stale-while-revalidate=30 | etag: \"a\"";
    let stored = store("GET", control, &options("")).unwrap().purged(after(10));
    let request = Head::parse("GET");
    let decide = |at| name(&decide(request.request(), &stored, &Options::default(), after(at)));

    assert_eq!(decide(10), "stale stale-while-revalidate+");
    assert_eq!(decide(39), "stale stale-while-revalidate+");
    assert_eq!(decide(40), "validate stale etag");
    assert_eq!(stored.freshness(after(40)).ttl(), -30);
}

/// §4.4.
#[test]
fn unsafe_methods_invalidate_their_target_and_what_they_name_on_the_same_origin() {
    let rows = [
        ("POST", "200", "/a/b"),
        ("PUT", "204", "/a/b"),
        ("DELETE", "302", "/a/b"),
        ("M-SEARCH", "200", "/a/b"),
        ("POST", "400", ""),
        ("PUT", "500", ""),
        ("GET", "200", ""),
        ("HEAD", "200", ""),
        ("OPTIONS", "200", ""),
        ("TRACE", "200", ""),
        ("POST", "201 | location: /c", "/a/b /c"),
        ("POST", "201 | content-location: /c?d", "/a/b /c?d"),
        ("POST", "201 | location: /c | content-location: /d", "/a/b /c /d"),
        ("POST", "201 | location: c", "/a/b /a/c"),
        ("POST", "201 | location: ../c", "/a/b /c"),
        ("POST", "201 | location: ./c/..", "/a/b /a/"),
        ("POST", "201 | location: ?x", "/a/b /a/b?x"),
        ("POST", "201 | location:", "/a/b"),
        ("POST", "201 | location: #x", "/a/b"),
        ("POST", "201 | location: /c#x", "/a/b /c"),
        ("POST", "201 | location: https://EXAMPLE.com:443/c", "/a/b /c"),
        ("POST", "201 | location: https://example.com", "/a/b /"),
        ("POST", "201 | location: //example.com/c", "/a/b /c"),
        ("POST", "201 | location: //evil.com/c", "/a/b"),
        ("POST", "201 | location: https://evil.com/c", "/a/b"),
        ("POST", "201 | location: http://example.com/c", "/a/b"),
        ("POST", "201 | location: https://example.com:444/c", "/a/b"),
        ("POST", "201 | location: https://example.com@evil.com/c", "/a/b"),
        ("POST", "201 | location: mailto:x", "/a/b"),
        ("POST", "404 | location: /c", ""),
    ];
    let target = |path| Target { scheme: "https", authority: "example.com", path_and_query: path };
    let rules = KeyRules::default();
    for (method, answered, expected) in rows {
        let (status, headers) = answer(answered);
        let method: Method = method.parse().unwrap();

        let keys = invalidate::targets(&rules, "shop", target("/a/b"), &method, status, &headers);

        let expected: Vec<_> = expected
            .split_terminator(' ')
            .map(|path| Key::new(&rules, "shop", target(path), &HeaderMap::new()))
            .collect();
        assert_eq!(keys, expected, "{method} {answered}");
    }
}

/// RFC 9211 §2.
#[test]
fn cache_status_says_how_the_request_was_handled() {
    let statuses = [
        (CacheStatus::hit(376), "wharf;hit;ttl=376"),
        (CacheStatus::hit(-412), "wharf;hit;ttl=-412"),
        (CacheStatus::forwarded(Fwd::UriMiss), "wharf;fwd=uri-miss"),
        (
            CacheStatus { collapsed: true, stored: true, ..CacheStatus::forwarded(Fwd::VaryMiss) },
            "wharf;fwd=vary-miss;stored;collapsed",
        ),
        (
            CacheStatus {
                fwd_status: Some(StatusCode::NOT_MODIFIED),
                ttl: Some(60),
                ..CacheStatus::forwarded(Fwd::Stale)
            },
            "wharf;fwd=stale;fwd-status=304;ttl=60",
        ),
        (
            CacheStatus {
                key: Some("a \"b\" \\ é"),
                detail: Some("no-store"),
                ..CacheStatus::forwarded(Fwd::Miss)
            },
            r#"wharf;fwd=miss;key="a \"b\" \\ ?";detail="no-store""#,
        ),
    ];
    for (status, expected) in statuses {
        assert_eq!(status.to_value(), expected);
    }
}

#[test]
fn cache_status_comes_after_those_nearer_to_the_origin() {
    let mut fields = headers("cache-status: origin;hit");

    CacheStatus::forwarded(Fwd::Method).append(&mut fields);

    let all: Vec<_> = fields.get_all("cache-status").iter().collect();
    assert_eq!(all, ["origin;hit", "wharf;fwd=method"]);
}

#[test]
fn every_decision_of_a_stored_response_is_of_its_age() {
    let stored = store("GET", "200 | cache-control: max-age=60 | age: 5", &options("")).unwrap();
    let request = Head::parse("GET");

    let decision = decide(request.request(), &stored, &Options::default(), after(10));

    let (age, left) = (Duration::from_secs(15), Duration::from_secs(45));
    assert_eq!(decision, Decision::Serve { age, left });
}
