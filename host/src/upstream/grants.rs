//! Which origins a plugin may send requests to: `capabilities.outbound` of its manifest, checked.
//! Nothing is granted that is not named (RFC 6454: scheme, host and port must all match).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use http::uri::Scheme;

/// A scheme, host and port: what is granted, and what connections are pooled by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
}

/// The host of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A name, lower-case.
    Name(Box<str>),
}

impl Origin {
    /// The origin of an absolute `http` or `https` URI without user information.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?;
        let tls = *scheme == Scheme::HTTPS;
        if !tls && *scheme != Scheme::HTTP {
            return None;
        }
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = Host::parse(authority.host())?;
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = match after_host.strip_prefix(':') {
            None | Some("") => default_port(tls),
            Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
        };
        Some(Self { tls, host, port })
    }

    /// Host and port as `Host` and `:authority` carry them: without the scheme's own port.
    pub(super) fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address));
        }
        is_name(text).then(|| Self::Name(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Letters, digits, hyphens, underscores and dots, as resolvers take them; no empty label.
fn is_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// Why a granted origin makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outbound origin \"{origin}\": {fault}")]
pub struct GrantError {
    /// The origin as written.
    pub origin: String,
    /// What is wrong with it.
    pub fault: GrantFault,
}

/// What is wrong with a granted origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantFault {
    /// Neither `http://` nor `https://`.
    #[error("an origin begins with http:// or https://")]
    Scheme,
    /// A path, query or user information.
    #[error("an origin has no path, query or user")]
    MoreThanOrigin,
    /// No valid host or port.
    #[error("the host or port is not valid")]
    Authority,
    /// A `*` elsewhere than before a domain of at least two labels.
    #[error("a wildcard is written https://*.example.com")]
    Wildcard,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    Exact(Origin),
    /// Any name below this origin's host: one or more labels, never the host itself.
    Below(Origin),
}

/// The origins that a plugin was granted.
#[derive(Clone, Debug, Default)]
pub struct OutboundGrants {
    grants: Vec<Grant>,
}

impl OutboundGrants {
    /// Reads origins as manifests write them: `scheme://host[:port]`, where the host may begin with
    /// `*.`.
    ///
    /// # Errors
    /// The first origin that makes no sense.
    pub fn parse(origins: &[String]) -> Result<Self, GrantError> {
        let grants = origins
            .iter()
            .map(|origin| {
                grant(origin).map_err(|fault| GrantError { origin: origin.clone(), fault })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { grants })
    }

    /// Whether a request for this absolute URI may be sent. That its name leads to a public address
    /// is checked when it is connected to.
    pub fn allows(&self, uri: &Uri) -> bool {
        Origin::of(uri).is_some_and(|origin| self.covers(&origin))
    }

    /// Whether nothing at all is granted.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    pub(super) fn covers(&self, origin: &Origin) -> bool {
        self.grants.iter().any(|grant| match grant {
            Grant::Exact(granted) => granted == origin,
            Grant::Below(granted) => {
                granted.tls == origin.tls
                    && granted.port == origin.port
                    && is_below(&origin.host, &granted.host)
            }
        })
    }
}

fn is_below(host: &Host, domain: &Host) -> bool {
    let (Host::Name(name), Host::Name(domain)) = (host, domain) else {
        return false;
    };
    name.strip_suffix(&**domain).and_then(|labels| labels.strip_suffix('.')).is_some()
}

fn grant(written: &str) -> Result<Grant, GrantFault> {
    let lower = written.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or(GrantFault::Scheme)?;
    if scheme != "http" && scheme != "https" {
        return Err(GrantFault::Scheme);
    }
    // Browsers write an origin's root with a slash; nothing is lost by taking it.
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(GrantFault::MoreThanOrigin);
    }
    let (wildcard, authority) = match authority.strip_prefix("*.") {
        Some(domain) => (true, domain),
        None => (false, authority),
    };
    if authority.contains('*') {
        return Err(GrantFault::Wildcard);
    }
    let uri: Uri = format!("{scheme}://{authority}/").parse().map_err(|_| GrantFault::Authority)?;
    let origin = Origin::of(&uri).ok_or(GrantFault::Authority)?;
    if !wildcard {
        return Ok(Grant::Exact(origin));
    }
    match &origin.host {
        Host::Name(name) if name.contains('.') => Ok(Grant::Below(origin)),
        _ => Err(GrantFault::Wildcard),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(origins: &[&str]) -> OutboundGrants {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        OutboundGrants::parse(&origins).unwrap()
    }

    #[test]
    fn grants_cover_their_origin_and_nothing_else() {
        let table: &[(&str, &str, bool)] = &[
            ("https://api.example.com", "https://api.example.com/v1?x=1", true),
            ("https://api.example.com", "https://API.Example.com/", true),
            ("HTTPS://Api.example.com/", "https://api.example.com/", true),
            ("https://api.example.com", "https://api.example.com:443/", true),
            ("https://api.example.com:443", "https://api.example.com/", true),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "https://api.example.com.evil.test/", false),
            ("https://api.example.com", "https://api.example.com@evil.test/", false),
            ("https://api.example.com", "https://evil.test@api.example.com/", false),
            ("https://api.example.com", "https://www.example.com/", false),
            ("https://api.example.com", "https://api.example.com./", false),
            ("https://*.example.com", "https://a.example.com/", true),
            ("https://*.example.com", "https://a.b.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://evilexample.com/", false),
            ("https://*.example.com", "https://.example.com/", false),
            ("https://*.example.com:8443", "https://a.example.com/", false),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", true),
            ("http://127.0.0.1:8080", "http://127.0.0.2:8080/", false),
            ("http://127.0.0.1:8080", "http://localhost:8080/", false),
            ("http://127.0.0.1:8080", "http://127.1:8080/", false),
            ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080/", true),
            ("http://[::1]:8080", "http://[::ffff:127.0.0.1]:8080/", false),
            ("http://localhost:8080", "http://localhost:8080/", true),
            ("http://localhost:8080", "http://a.localhost:8080/", false),
        ];
        for (grant, uri, allowed) in table {
            let allows = uri.parse::<Uri>().is_ok_and(|uri| granted(&[grant]).allows(&uri));

            assert_eq!(allows, *allowed, "{grant} for {uri}");
        }
        assert!(!OutboundGrants::default().allows(&"https://example.com/".parse().unwrap()));
    }

    #[test]
    fn origins_that_make_no_sense_are_refused_with_their_fault() {
        for (origin, fault) in [
            ("example.com", GrantFault::Scheme),
            ("ftp://example.com", GrantFault::Scheme),
            ("*", GrantFault::Scheme),
            ("https://example.com/path", GrantFault::MoreThanOrigin),
            ("https://user@example.com", GrantFault::MoreThanOrigin),
            ("https://", GrantFault::Authority),
            ("https://example.com:0", GrantFault::Authority),
            ("https://example.com:99999", GrantFault::Authority),
            ("https://*", GrantFault::Wildcard),
            ("https://*.com", GrantFault::Wildcard),
            ("https://a.*.example.com", GrantFault::Wildcard),
            ("https://*.127.0.0.1", GrantFault::Wildcard),
        ] {
            let error = OutboundGrants::parse(&[origin.to_owned()]).unwrap_err();

            assert_eq!(error.fault, fault, "{origin}");
        }
    }
}
