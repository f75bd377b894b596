//! Lines of a `CDN-Cache-Control`: where they can be used, `Cache-Control` does not count; where not, it
//! does.

#![no_main]

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wharf_cache::control::{CDN_CACHE_CONTROL, Source, effective};

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-transform, max-age=12345"));
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append(CDN_CACHE_CONTROL, line);
        }
    }
    let (source, control) = effective(&headers);
    match source {
        Source::Cdn => {}
        Source::CacheControl => assert_eq!(control.max_age.map(|age| age.as_secs()), Some(12345)),
        other => panic!("{other:?}"),
    }
});
