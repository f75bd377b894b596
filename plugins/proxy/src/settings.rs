//! `[config]` of the manifest, checked once an instance.

use std::time::Duration;

use wharf_sdk::client::Timeouts;
use wharf_sdk::{Error, Uri, config};

/// What the manifest asks for.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Scheme and authority.
    pub(crate) origin: String,
    /// What goes before each path; does not end with a slash.
    pub(crate) base: String,
    /// What is taken off each path; does not end with a slash.
    pub(crate) strip: String,
    pub(crate) forwarded: Forwarded,
    pub(crate) via: bool,
    pub(crate) preserve_host: bool,
    pub(crate) timeouts: Timeouts,
}

/// How the upstream learns about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// `X-Forwarded-For`, `-Host`, `-Proto` and, where a prefix is taken off, `-Prefix`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Standard,
    Both,
    /// Not at all; what the client sent goes through.
    Off,
}

impl Settings {
    pub(crate) fn read() -> Result<Self, Error> {
        Self::parse(|name| config::get(name))
    }

    fn parse(get: impl Fn(&str) -> Result<Option<String>, Error>) -> Result<Self, Error> {
        let Some(upstream) = get("upstream")? else {
            return Err(wrong("upstream", "is not set"));
        };
        let (origin, base) = split(&upstream)
            .ok_or_else(|| wrong("upstream", "is no http or https URL without a query"))?;
        let forwarded = match get("forwarded")?.as_deref() {
            None | Some("x-forwarded") => Forwarded::XForwarded,
            Some("forwarded") => Forwarded::Standard,
            Some("both") => Forwarded::Both,
            Some("off") => Forwarded::Off,
            Some(_) => return Err(wrong("forwarded", "is none of its four words")),
        };
        let switch = |name, default| match get(name)?.as_deref() {
            None => Ok(default),
            Some("on" | "true") => Ok(true),
            Some("off" | "false") => Ok(false),
            Some(_) => Err(wrong(name, "is neither \"on\" nor \"off\"")),
        };
        let seconds = |name| match get(name)? {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(seconds @ 1..=86_400_u64) => Ok(Some(Duration::from_secs(seconds))),
                _ => Err(wrong(name, "is no number of seconds from 1 to 86400")),
            },
        };
        Ok(Self {
            origin,
            base,
            strip: get("strip-prefix")?.unwrap_or_default().trim_end_matches('/').to_owned(),
            forwarded,
            via: switch("via", true)?,
            preserve_host: switch("preserve-host", false)?,
            timeouts: Timeouts {
                total: None,
                connect: seconds("connect-timeout")?,
                first_byte: seconds("first-byte-timeout")?,
                between_bytes: seconds("between-bytes-timeout")?,
            },
        })
    }
}

fn wrong(name: &str, why: &str) -> Error {
    Error::internal(format!("setting {name:?} {why}")).detail("the proxy is not set up")
}

/// Origin and base path.
fn split(upstream: &str) -> Option<(String, String)> {
    let uri: Uri = upstream.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    if uri.query().is_some() {
        return None;
    }
    Some((format!("{scheme}://{authority}"), uri.path().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::parse(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn origin_and_base_path_are_told_apart() {
        let plain = settings(&[("upstream", "http://127.0.0.1:9000")]).unwrap();
        let based = settings(&[("upstream", "https://example.com/a/b/")]).unwrap();

        assert_eq!((plain.origin.as_str(), plain.base.as_str()), ("http://127.0.0.1:9000", ""));
        assert_eq!((based.origin.as_str(), based.base.as_str()), ("https://example.com", "/a/b"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for pairs in [
            &[][..],
            &[("upstream", "/path")],
            &[("upstream", "ftp://example.com")],
            &[("upstream", "http://user@example.com")],
            &[("upstream", "http://example.com/?a")],
            &[("upstream", "http://example.com"), ("via", "maybe")],
            &[("upstream", "http://example.com"), ("forwarded", "on")],
            &[("upstream", "http://example.com"), ("connect-timeout", "0")],
        ] {
            assert_eq!(settings(pairs).unwrap_err().status(), 500, "{pairs:?}");
        }
    }
}
