//! What a request says: which resource, the version that the client has, how long it waits.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_sdk::{Error, Request};

/// Bytes of a resource's name, at the most: encoded, it is a topic of at most 1,024.
const MAX_NAME: usize = 128;
/// How long a poll waits that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a poll waits at the most.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The resource that the path names.
pub(crate) fn name(request: &Request) -> Result<&str, Error> {
    let name = request.param("resource")?;
    if name.len() > MAX_NAME || name.contains(char::is_control) {
        let rule =
            format!("a resource's name has at most {MAX_NAME} bytes and no control characters");
        return Err(Error::bad_request(rule));
    }
    Ok(name)
}

/// The topic of a resource: one segment, whatever characters the name has.
pub(crate) fn topic(name: &str) -> String {
    format!("poll/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// The version that the client has; `None` where it has none.
pub(crate) fn last_version(request: &Request) -> Result<Option<u64>, Error> {
    let Some(value) = request.headers().get("x-last-version") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Error::bad_request("X-Last-Version is a number that X-Current-Version gave"))
}

/// How long the client waits: `timeout`, in seconds. What is longer than a minute is a minute.
pub(crate) fn timeout(request: &Request) -> Result<Duration, Error> {
    let Some(seconds) = request.parse_query::<f64>("timeout")? else { return Ok(DEFAULT_TIMEOUT) };
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(Error::bad_request("timeout is a number of seconds, at most 60"));
    }
    Ok(Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use wharf_sdk::{HeaderValue, Method};

    use super::*;

    fn request(uri: &str) -> Request {
        Request::new(Method::GET, uri, ()).unwrap()
    }

    #[test]
    fn timeouts_are_seconds_and_at_most_a_minute() {
        for (uri, expected) in [
            ("/", Some(30.0)),
            ("/?timeout=0", Some(0.0)),
            ("/?timeout=1.5", Some(1.5)),
            ("/?timeout=61", Some(60.0)),
            ("/?timeout=1e300", Some(60.0)),
            ("/?timeout=-1", None),
            ("/?timeout=NaN", None),
            ("/?timeout=inf", None),
            ("/?timeout=", None),
            ("/?timeout=5s", None),
        ] {
            let told = timeout(&request(uri));

            assert_eq!(told.as_ref().map(Duration::as_secs_f64).ok(), expected, "{uri}");
            assert!(told.is_ok() || told.unwrap_err().status() == 400, "{uri}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        for (value, expected) in
            [("0", Some(0)), (" 7 ", Some(7)), ("", None), ("-1", None), ("x", None)]
        {
            let mut request = request("/");
            request.headers_mut().insert("x-last-version", HeaderValue::from_static(value));

            let told = last_version(&request);

            assert_eq!(told.ok().flatten(), expected, "{value:?}");
        }
        assert_eq!(last_version(&request("/")).unwrap(), None);
    }

    #[test]
    fn names_become_one_segment() {
        assert_eq!(topic("board"), "poll/board");
        assert_eq!(topic("a/b"), "poll/a%2Fb");
        assert_eq!(topic("*"), "poll/%2A");
        assert!(topic(&"ü".repeat(64)).len() <= 1024);
    }
}
