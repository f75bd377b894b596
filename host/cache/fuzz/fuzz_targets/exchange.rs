//! Two requests and two answers, a line a field: whatever they are, nothing panics; a decision is of an
//! entry that may be stored; what is never stored is not.

#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use wharf_cache::key::Target;
use wharf_cache::lookup::{Failure, stale_on_error};
use wharf_cache::{
    Decision, KeyRules, Options, Request, Times, decide, invalidate, storable, validate,
};

fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    headers
}

fuzz_target!(|input: (u16, u32, &[u8])| {
    let (status, wait, text) = input;
    let mut parts = text.split(|byte| *byte == 0).map(headers);
    let mut next = || parts.next().unwrap_or_default();
    let (asked, answer, again, newer) = (next(), next(), next(), next());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let later = now + Duration::from_millis(wait.into());
    let options = Options::default();
    let get = |headers| Request { method: &Method::GET, headers, has_body: false };
    let target = Target { scheme: "https", authority: "a", path_and_query: "/b/c?d" };
    let _ = invalidate::targets(
        &KeyRules::default(),
        "shop",
        target,
        &Method::POST,
        StatusCode::OK,
        &answer,
    );
    let Ok(stored) = storable(get(&asked), status, &answer, Times::at(now), &options) else { return };
    for name in ["set-cookie", "connection", "age", "surrogate-key", "wharf-cache-control"] {
        assert!(!stored.headers().contains_key(name));
    }
    assert!(stored.matches(&asked));
    match decide(get(&again), &stored, &options, later) {
        Decision::Serve { age, left } => {
            assert_eq!(age + left, stored.lifetime());
            assert!(!stored.always_validate());
        }
        Decision::ServeStale { .. } => assert!(!stored.never_stale()),
        _ => {}
    }
    let _ = stale_on_error(get(&again), &stored, &options, later, Failure::NoAnswer);
    if let Some(freshened) = validate::freshen(&stored, get(&again), &newer, Times::at(later), &options)
        && let Ok(freshened) = freshened.stored
    {
        assert_eq!(freshened.status(), stored.status());
        assert!(!freshened.headers().contains_key("set-cookie"));
    }
});
