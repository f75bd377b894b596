//! The `Date` field (RFC 9110 §6.6.1) for the protocols that we frame ourselves. Formatting it costs
//! more than a small response, so each thread keeps the text of the current second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

struct Cached {
    second: u64,
    value: HeaderValue,
}

thread_local! {
    static CACHED: RefCell<Cached> = RefCell::new(Cached { second: 0, value: format(0) });
}

/// The field value for now.
pub(crate) fn now() -> HeaderValue {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    CACHED.with_borrow_mut(|cached| {
        if cached.second != second {
            *cached = Cached { second, value: format(second) };
        }
        cached.value.clone()
    })
}

fn format(second: u64) -> HeaderValue {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
    HeaderValue::try_from(text).expect("an HTTP date is ASCII without controls")
}
