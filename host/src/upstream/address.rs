//! The guard against server-side request forgery: which addresses a *name* may lead to, and the
//! resolver that asks for it.
//!
//! A name is resolved once, every address is checked, and the connection goes to the addresses that
//! were checked: there is no second look-up that could answer differently (DNS rebinding). A literal
//! address or `localhost` is reached only where a grant names it, and is then not looked up at all.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::UpstreamError;

/// Look-ups at once: each holds a thread of the blocking pool for as long as the system's resolver
/// takes, which no timeout of ours can cut short.
const MAX_LOOKUPS: usize = 32;

/// Where addresses come from.
pub(super) trait LookUp: Send + Sync {
    fn look_up(
        &self,
        name: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The operating system's resolver: `/etc/hosts` and all.
pub(super) struct SystemLookUp {
    free: Arc<Semaphore>,
}

impl SystemLookUp {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl LookUp for SystemLookUp {
    fn look_up(
        &self,
        name: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let free = Arc::clone(&self.free);
        Box::pin(async move {
            let permit = free.acquire_owned().await.map_err(io::Error::other)?;
            // The permit goes into the thread: a caller that gives up does not end the look-up.
            tokio::task::spawn_blocking(move || {
                let _held = permit;
                let found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0))?;
                Ok(found.map(|address| address.ip()).collect())
            })
            .await?
        })
    }
}

/// Resolves a name for one connection, under that connection's deadline.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    pub(super) look_up: Arc<dyn LookUp>,
    pub(super) deadline: Instant,
}

impl tower_service::Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = UpstreamError;
    type Future =
        Pin<Box<dyn Future<Output = Result<std::vec::IntoIter<SocketAddr>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let name = name.as_str().to_owned();
        let Self { look_up, deadline } = self.clone();
        Box::pin(async move {
            let addresses = resolve(&*look_up, name, deadline).await?;
            // The connector puts the origin's port in.
            Ok(addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, 0))
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}

async fn resolve(
    look_up: &dyn LookUp,
    name: String,
    deadline: Instant,
) -> Result<Vec<IpAddr>, UpstreamError> {
    // RFC 6761 §6.3: never asked of a resolver, which might say anything.
    if name == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let found = tokio::time::timeout_at(deadline, look_up.look_up(name))
        .await
        .map_err(|_| UpstreamError::DnsTimeout)?
        .map_err(|error| UpstreamError::Dns { reason: error.to_string() })?;
    if found.is_empty() {
        return Err(UpstreamError::DestinationNotFound);
    }
    // One address that is not public spoils the answer: connecting to the others would let the name
    // choose by failing.
    if !found.iter().copied().all(is_public) {
        return Err(UpstreamError::DestinationIpProhibited);
    }
    Ok(found)
}

/// Whether an address is globally reachable unicast (the IANA special-purpose registries of RFC 6890,
/// and multicast). IPv6 forms that carry an IPv4 address are judged by what they carry.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0                                        // "this network", RFC 791 §3.2
        || address.is_private()                     // RFC 1918
        || (a == 100 && (64..128).contains(&b))     // shared, carrier-grade NAT, RFC 6598
        || address.is_loopback()
        || address.is_link_local()                  // RFC 3927: cloud metadata services too
        || (a == 192 && b == 0 && c == 0)           // IETF protocol assignments, RFC 6890
        || address.is_documentation()
        || (a == 192 && b == 88 && c == 99)         // 6to4 relay anycast, RFC 7526
        || (a == 198 && (18..20).contains(&b))      // benchmarking, RFC 2544
        || address.is_multicast()
        || a >= 240) // reserved and broadcast, RFC 1112
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // Mapped (RFC 4291 §2.5.5.2): the socket would speak IPv4. No resolver has reason to say it.
        [0, 0, 0, 0, 0, 0xffff, ..] => false,
        // NAT64, RFC 6052: only as public as what it leads to.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        // 6to4, RFC 3056.
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Teredo, ORCHID, benchmarking and the rest of the IETF's block (RFC 2928), documentation
        // (RFC 3849, RFC 9637).
        [0x2001, second, ..] if second < 0x200 => false,
        [0x2001, 0xdb8, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Global unicast is 2000::/3 (RFC 4291 §2.4); loopback, unspecified, link-local, unique
        // local (RFC 4193), site-local, discard and multicast are all outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_globally_reachable_addresses_are_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    struct Answer(Vec<&'static str>);

    impl LookUp for Answer {
        fn look_up(
            &self,
            _: String,
        ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
            let addresses = self.0.iter().map(|address| address.parse().unwrap()).collect();
            Box::pin(async move { Ok(addresses) })
        }
    }

    async fn resolved(answer: &[&'static str]) -> Result<Vec<IpAddr>, UpstreamError> {
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        resolve(&Answer(answer.to_vec()), "name.test".to_owned(), deadline).await
    }

    #[tokio::test]
    async fn a_name_is_refused_when_any_of_its_addresses_is_not_public() {
        assert_eq!(resolved(&["8.8.8.8"]).await.unwrap().len(), 1);
        assert_eq!(
            resolved(&["8.8.8.8", "127.0.0.1"]).await,
            Err(UpstreamError::DestinationIpProhibited)
        );
        assert_eq!(resolved(&[]).await, Err(UpstreamError::DestinationNotFound));
    }

    #[tokio::test]
    async fn localhost_is_this_machine_whatever_the_resolver_says() {
        let deadline = Instant::now() + std::time::Duration::from_secs(5);

        let found = resolve(&Answer(vec!["8.8.8.8"]), "localhost".to_owned(), deadline).await;

        assert!(found.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[tokio::test]
    async fn a_resolver_that_never_answers_ends_at_the_deadline() {
        struct Silent;
        impl LookUp for Silent {
            fn look_up(
                &self,
                _: String,
            ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
                Box::pin(std::future::pending())
            }
        }
        let deadline = Instant::now() + std::time::Duration::from_millis(20);

        let found = resolve(&Silent, "name.test".to_owned(), deadline).await;

        assert_eq!(found, Err(UpstreamError::DnsTimeout));
    }
}
