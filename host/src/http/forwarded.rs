//! What a request says of an earlier hop: whom it came from, and under which name it was asked for.
//!
//! Anybody can say so, plugins believe it (frameworks make links and redirects of it), and no key of the
//! shared cache has it: one client's word would be in the answers of all. So only proxies that the
//! operator named are believed; of all others plugins see nothing of the kind.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// `Forwarded` (RFC 7239) and what stood in its place before; everything that begins with
/// `x-forwarded` besides.
const FIELDS: [&str; 9] = [
    "forwarded",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-original-host",
    "x-real-ip",
    "x-url-scheme",
];

/// The addresses whose word counts: nobody's by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Box<[IpNet]>);

impl TrustedProxies {
    /// Of addresses, and networks as `ADDRESS/LENGTH`.
    ///
    /// # Errors
    /// The first that is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let parse = |text: &'a str| match text.parse::<IpNet>() {
            Ok(network) => Ok(network.trunc()),
            Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| text),
        };
        Ok(Self(texts.into_iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// Takes out of a request what its peer says of earlier hops, unless it is one of them.
    pub fn strip(&self, peer: SocketAddr, headers: &mut HeaderMap) {
        if !self.strips(peer, headers) {
            return;
        }
        let said = headers.keys().filter(|name| is_forwarded(name.as_str()));
        for name in said.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }

    /// Whether [`TrustedProxies::strip`] would take something out of these.
    pub fn strips(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        headers.keys().any(|name| is_forwarded(name.as_str())) && !self.contains(peer.ip())
    }

    fn contains(&self, address: IpAddr) -> bool {
        // A dual-stack socket sees IPv4 peers by mapped addresses.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// As written.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

fn is_forwarded(name: &str) -> bool {
    match name.as_bytes()[0] {
        b'x' => name.starts_with("x-forwarded") || FIELDS.contains(&name),
        b'f' | b't' => FIELDS.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn left(trusted: &[&str], peer: &str) -> usize {
        let names = ["forwarded", "x-forwarded-host", "x-forwarded-for", "x-real-ip", "x-other"];
        let mut headers: HeaderMap = names
            .iter()
            .chain(&FIELDS)
            .map(|name| (HeaderName::from_static(name), "a".parse().unwrap()))
            .collect();
        let all = headers.len();
        let trusted = TrustedProxies::parse(trusted.iter().copied()).unwrap();
        trusted.strip(SocketAddr::new(peer.parse().unwrap(), 1), &mut headers);
        assert!(headers.contains_key("x-other"));
        if headers.len() == all { usize::MAX } else { headers.len() }
    }

    #[test]
    fn only_named_proxies_are_believed() {
        for (trusted, peer, believed) in [
            (&[][..], "127.0.0.1", false),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "::ffff:127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", false),
            (&["10.1.2.3/8", "fd00::/8"], "10.255.0.1", true),
            (&["10.1.2.3/8", "fd00::/8"], "fd12::1", true),
            (&["10.1.2.3/8", "fd00::/8"], "11.0.0.1", false),
        ] {
            let expected = if believed { usize::MAX } else { 1 };
            assert_eq!(left(trusted, peer), expected, "{trusted:?} {peer}");
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        assert_eq!(TrustedProxies::parse(["::1", "10.0.0.0/33"]), Err("10.0.0.0/33"));
        assert_eq!(TrustedProxies::parse(["localhost"]), Err("localhost"));
    }
}
