//! How long an answer took, told to the client on demand: `X-Response-Time` and `Server-Timing`
//! (W3C Server Timing).

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Milliseconds until the head of the answer was ready.
pub const RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
/// Shown by browsers' developer tools.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing<'a> {
    /// From the request's head to the answer's.
    pub total: Duration,
    /// Of that, in the plugin and its middleware; `None` where they were not asked.
    pub plugin: Option<Duration>,
    /// What the cache did, as `X-Cache-Status` says it; `None` where there is none.
    pub cache: Option<&'a str>,
}

/// Adds both fields; what the plugin says of its own times stays.
pub fn announce(headers: &mut HeaderMap, timing: &Timing<'_>) {
    let total = Milliseconds(timing.total);
    if let Ok(value) = HeaderValue::try_from(format!("{total}ms")) {
        headers.insert(RESPONSE_TIME, value);
    }
    let mut metrics = format!("total;dur={total}");
    if let Some(plugin) = timing.plugin {
        let _infallible = write!(metrics, ", plugin;dur={}", Milliseconds(plugin));
    }
    if let Some(cache) = timing.cache {
        // A token or a quoted string; what would need escapes is left out.
        let text: String =
            cache.chars().filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c)).collect();
        let _infallible = write!(metrics, ", cache;desc=\"{text}\"");
    }
    if let Ok(value) = HeaderValue::try_from(metrics) {
        headers.append(SERVER_TIMING, value);
    }
}

/// With three places.
struct Milliseconds(Duration);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds() {
        let mut headers = HeaderMap::new();

        announce(
            &mut headers,
            &Timing {
                total: Duration::from_micros(12_345),
                plugin: Some(Duration::from_micros(7)),
                cache: Some("MISS"),
            },
        );

        assert_eq!(headers[RESPONSE_TIME], "12.345ms");
        assert_eq!(
            headers[SERVER_TIMING],
            "total;dur=12.345, plugin;dur=0.007, cache;desc=\"MISS\""
        );
    }

    #[test]
    fn what_the_plugin_measured_stays() {
        let own = HeaderValue::from_static("db;dur=3");
        let mut headers = HeaderMap::from_iter([(SERVER_TIMING, own)]);

        announce(&mut headers, &Timing::default());

        let values: Vec<_> = headers.get_all(SERVER_TIMING).iter().collect();
        assert_eq!(values, ["db;dur=3", "total;dur=0.000"]);
    }
}
