//! What parsing, keys and decisions cost. A fresh hit's decision is to take less than 200 ns:
//! `cargo bench -p wharf-cache`.

#![expect(clippy::unwrap_used, reason = "a failing bench must panic")]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use wharf_cache::key::Target;
use wharf_cache::{
    CacheControl, CacheStatus, Key, KeyRules, Options, Request, RequestControl, Stored, Times,
    control, decide, storable,
};

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(pair).collect()
}

/// What a browser sends.
fn browser() -> HeaderMap {
    headers(&[
        ("host", "example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "session=0123456789abcdef"),
        ("priority", "u=0, i"),
    ])
}

fn stored(request: &HeaderMap, fields: &[(&'static str, &'static str)], now: SystemTime) -> Stored {
    let request = Request { method: &Method::GET, headers: request, has_body: false };
    let answer = headers(fields);
    storable(request, StatusCode::OK, &answer, Times::at(now), &Options::default()).unwrap()
}

fn parsing(c: &mut Criterion) {
    let plain = headers(&[("cache-control", "public, max-age=300, stale-while-revalidate=900")]);
    let targeted = headers(&[("cdn-cache-control", "max-age=300, stale-while-revalidate=900")]);
    let request = headers(&[("cache-control", "max-age=0")]);
    c.bench_function("cache-control of a response", |b| {
        b.iter(|| CacheControl::of(black_box(&plain)))
    });
    c.bench_function("a targeted field", |b| b.iter(|| control::effective(black_box(&targeted))));
    c.bench_function("cache-control of a request", |b| {
        b.iter(|| RequestControl::of(black_box(&request)));
    });
}

fn keys(c: &mut Criterion) {
    let headers = browser();
    let target = Target {
        scheme: "https",
        authority: "example.com",
        path_and_query: "/shop/items/4711?page=2&utm_source=news",
    };
    let plain = KeyRules::default();
    let ignoring = KeyRules::new(["utm_*"], [HeaderName::from_static("accept")]).unwrap();
    c.bench_function("key", |b| {
        b.iter(|| Key::new(&plain, "shop", black_box(target), &headers));
    });
    c.bench_function("key, a query key ignored, a field added", |b| {
        b.iter(|| Key::new(&ignoring, "shop", black_box(target), &headers));
    });
}

fn decisions(c: &mut Criterion) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let later = now + Duration::from_secs(10);
    let headers = browser();
    let request = Request { method: &Method::GET, headers: &headers, has_body: false };
    let options = Options::default();
    let plain = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
    let plain = stored(&headers, &plain, now);
    let varying = [("cache-control", "max-age=60"), ("vary", "accept-encoding, accept-language")];
    let varying = stored(&headers, &varying, now);
    c.bench_function("fresh hit", |b| {
        b.iter(|| {
            let stored = black_box(&plain);
            (stored.matches(request.headers), decide(request, stored, &options, later))
        });
    });
    c.bench_function("fresh hit, varying by coding and language", |b| {
        b.iter(|| {
            let stored = black_box(&varying);
            (stored.matches(request.headers), decide(request, stored, &options, later))
        });
    });
    let answer = plain.headers().clone();
    c.bench_function("storable", |b| {
        b.iter(|| storable(request, StatusCode::OK, black_box(&answer), Times::at(now), &options));
    });
    c.bench_function("cache-status of a hit", |b| {
        b.iter(|| CacheStatus::hit(black_box(50)).to_value())
    });
}

criterion_group!(benches, parsing, keys, decisions);
criterion_main!(benches);
