//! `[[response]]` of a manifest: what the host does to the responses of some paths, whatever the
//! plugin says. Of several policies that match a request the most specific one holds, alone. The
//! plugin's own calls of `exchange` come after it and so prevail.

use std::num::NonZeroU32;
use std::time::Duration;

use http::Method;
use serde::Deserialize;

use crate::config::units::{DurationValue, SizeValue};
use crate::http::conn::Persistence;
use crate::route::Pattern;

/// Longest idle time that a manifest may give a connection.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(3600);
/// Most policies of one plugin.
const MAX_POLICIES: usize = 64;

/// What is done to the responses that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponsePolicy {
    /// Which.
    pub pattern: Pattern,
    /// Links of earlier responses are sent as early hints.
    pub early_hints: bool,
    /// Bytes of body a second.
    pub bandwidth: Option<u64>,
    /// From the request's arrival to the response's last byte.
    pub write_deadline: Option<Duration>,
    /// The body is held back until it ends.
    pub buffered: bool,
    /// What becomes of an HTTP/1.1 connection.
    pub persistence: Option<Persistence>,
}

/// The policies of one plugin, most specific first.
#[derive(Clone, Debug, Default)]
pub struct ResponsePolicies(Box<[ResponsePolicy]>);

impl ResponsePolicies {
    /// The most specific policy for a request. `host` is without its port.
    pub fn find(&self, method: &Method, host: &str, path: &str) -> Option<&ResponsePolicy> {
        self.0.iter().find(|policy| policy.pattern.covers(method, host, path))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawResponse {
    path: String,
    #[serde(default)]
    early_hints: bool,
    bandwidth: Option<SizeValue>,
    write_deadline: Option<DurationValue>,
    #[serde(default)]
    buffered: bool,
    keep_alive: Option<RawKeepAlive>,
    connection: Option<RawConnection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeepAlive {
    timeout: Option<DurationValue>,
    max: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawConnection {
    Close,
}

/// Checks what was written; the error is the key and what is wrong with it.
pub(super) fn policies(raw: Vec<RawResponse>) -> Result<ResponsePolicies, (&'static str, String)> {
    if raw.len() > MAX_POLICIES {
        return Err(("response", format!("more than {MAX_POLICIES}")));
    }
    let mut policies: Vec<ResponsePolicy> = Vec::with_capacity(raw.len());
    for response in raw {
        let policy = policy(response)?;
        if policies.iter().any(|other| other.pattern.conflicts(&policy.pattern)) {
            return Err(("response.path", format!("\"{}\" is there twice", policy.pattern)));
        }
        policies.push(policy);
    }
    policies.sort_by_cached_key(|policy| std::cmp::Reverse(policy.pattern.rank()));
    Ok(ResponsePolicies(policies.into()))
}

fn policy(raw: RawResponse) -> Result<ResponsePolicy, (&'static str, String)> {
    let pattern = Pattern::parse(&raw.path)
        .map_err(|error| ("response.path", format!("\"{}\": {error}", raw.path)))?;
    let bandwidth = raw.bandwidth.map(|SizeValue(bytes)| bytes);
    if bandwidth == Some(0) {
        return Err(("response.bandwidth", "must be at least 1 byte a second".to_owned()));
    }
    let write_deadline = raw.write_deadline.map(|DurationValue(time)| time);
    if write_deadline.is_some_and(|time| time.is_zero()) {
        return Err(("response.write-deadline", "must be longer than nothing".to_owned()));
    }
    let persistence = match (raw.keep_alive, raw.connection) {
        (Some(_), Some(RawConnection::Close)) => {
            let cause = "a connection is either kept or closed".to_owned();
            return Err(("response.connection", cause));
        }
        (None, Some(RawConnection::Close)) => Some(Persistence::Close),
        (Some(RawKeepAlive { timeout: None, max: None }), None) => {
            return Err(("response.keep-alive", "needs `timeout`, `max` or both".to_owned()));
        }
        (Some(RawKeepAlive { timeout, max }), None) => {
            let timeout = timeout.map(|DurationValue(time)| time);
            // The field tells whole seconds.
            let fits = |time: Duration| {
                time.subsec_nanos() == 0 && !time.is_zero() && time <= MAX_KEEP_ALIVE
            };
            if !timeout.is_none_or(fits) {
                let cause = "must be whole seconds, from 1s to 1h".to_owned();
                return Err(("response.keep-alive.timeout", cause));
            }
            Some(Persistence::KeepAlive { timeout, max: max.map(NonZeroU32::get) })
        }
        (None, None) => None,
    };
    Ok(ResponsePolicy {
        pattern,
        early_hints: raw.early_hints,
        bandwidth,
        write_deadline,
        buffered: raw.buffered,
        persistence,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    fn found<'a>(policies: &'a ResponsePolicies, path: &str) -> Option<&'a str> {
        policies.find(&Method::GET, "a.test", path).map(|policy| &*policy.pattern.text)
    }

    #[test]
    fn policies_are_read_and_the_most_specific_one_holds() {
        let manifest = parse(
            r#"
            [[response]]
            path = "/*"
            bandwidth = "1MiB"
            write-deadline = "30s"
            [[response]]
            path = "/api/realtime/*"
            keep-alive = { timeout = "60s", max = 100 }
            [[response]]
            path = "GET /api/{kind}/now"
            early-hints = true
            buffered = true
            [[response]]
            path = "POST /api/upload/*"
            connection = "close"
            "#,
        )
        .unwrap();
        let policies = &manifest.responses;

        assert_eq!(found(policies, "/x"), Some("/*"));
        assert_eq!(found(policies, "/api/realtime/now"), Some("/api/realtime/*"));
        assert_eq!(found(policies, "/api/other/now"), Some("GET /api/{kind}/now"));
        assert_eq!(found(policies, "/api/upload/x"), Some("/*"));
        let any = policies.find(&Method::GET, "a", "/").unwrap();
        assert_eq!(any.bandwidth, Some(1 << 20));
        assert_eq!(any.write_deadline, Some(Duration::from_secs(30)));
        let kept = policies.find(&Method::GET, "a", "/api/realtime/").unwrap();
        let timeout = Some(Duration::from_secs(60));
        assert_eq!(kept.persistence, Some(Persistence::KeepAlive { timeout, max: Some(100) }));
        let upload = policies.find(&Method::POST, "a", "/api/upload/x").unwrap();
        assert_eq!(upload.persistence, Some(Persistence::Close));
    }

    #[test]
    fn mistakes_name_the_key() {
        for (text, expected) in [
            ("early-hint = true", "did you mean `early-hints`"),
            ("bandwidth = \"0\"", "response.bandwidth"),
            ("bandwidth = \"fast\"", "fast"),
            ("write-deadline = \"0s\"", "response.write-deadline"),
            ("keep-alive = {}", "response.keep-alive"),
            ("keep-alive = { max = 0 }", "nonzero"),
            ("keep-alive = { timeout = \"1500ms\" }", "response.keep-alive.timeout"),
            ("keep-alive = { timeot = \"1s\" }", "did you mean `timeout`"),
            ("connection = \"keep-alive\"", "close"),
            ("connection = \"close\"\nkeep-alive = { max = 1 }", "response.connection"),
            ("[[response]]\npath = \"/a\"", "\"/a\" is there twice"),
        ] {
            let error = parse(&format!("[[response]]\npath = \"/a\"\n{text}")).unwrap_err();

            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(parse("[[response]]\npath = \"a\"").unwrap_err().contains("response.path"));
        assert!(parse("[[response]]\nbuffered = true").unwrap_err().contains("path"));
    }
}
