//! Lines of a `Cache-Control`: reading them never fails, and what forbids on one line forbids on all.

#![no_main]

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wharf_cache::{CacheControl, RequestControl};

fuzz_target!(|input: &[u8]| {
    let lines: Vec<_> = input
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let all = CacheControl::parse(&lines);
    for line in &lines {
        let one = CacheControl::parse([line]);
        assert!(all.no_store || !one.no_store);
        assert!(all.private.is_whole() || !one.private.is_whole());
        assert!(all.no_cache.is_whole() || !one.no_cache.is_whole());
        assert!(all.must_revalidate || !one.must_revalidate);
        assert!(all.max_age.is_some() || one.max_age.is_none());
        if let (Some(all), Some(one)) = (all.max_age, one.max_age) {
            assert!(all == one || all.is_zero());
        }
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CACHE_CONTROL, line);
    }
    assert_eq!(CacheControl::of(&headers), all);
    let request = RequestControl::of(&headers);
    assert_eq!(request.no_store, all.no_store);
});
