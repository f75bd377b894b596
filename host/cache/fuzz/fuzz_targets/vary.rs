//! A `Vary`, then the values of one field of two requests: a request matches itself, matching is the
//! same both ways, and what matches has the same normal form.

#![no_main]

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wharf_cache::{Selecting, Vary};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut response = HeaderMap::new();
    if let Ok(vary) = HeaderValue::from_bytes(lines.next().unwrap_or_default()) {
        response.insert(VARY, vary);
    }
    let _ = Vary::of(&response);
    let mut requests = [HeaderMap::new(), HeaderMap::new()];
    let fields =
        [ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, HeaderName::from_static("foo")];
    for (at, line) in lines.enumerate() {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            for name in &fields {
                requests[at % 2].append(name, value.clone());
            }
        }
    }
    for name in fields {
        let [one, other] = requests.each_ref().map(|request| {
            (request, Selecting::of(std::slice::from_ref(&name), request))
        });
        let ((one, Some(of_one)), (other, Some(of_other))) = (one, other) else { continue };
        assert!(of_one.matches(one));
        assert_eq!(of_one.matches(other), of_other.matches(one));
        assert_eq!(of_one.matches(other), of_one == of_other);
    }
});
