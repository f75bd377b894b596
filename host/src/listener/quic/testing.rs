//! A QUIC server on loopback and a client for it, for the tests of this module and of `http::h3`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::{Admit, Lineage, Quic, serve};
use crate::drain::Drain;
use crate::http::conn::ConnStates;
use crate::http::limits::Limits;
use crate::http::{Handle, Serving, h3};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How often a client sends PING: no test may depend on quinn's idle timeout.
const KEEP_ALIVE: Duration = Duration::from_millis(50);

/// Endpoints of all "cores" on one port, in one runtime.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) states: Arc<ConnStates>,
    roots: rustls::RootCertStore,
}

impl TestServer {
    pub(crate) fn start<H: Handle>(handler: H) -> Self {
        Self::with(handler, 1, Limits::default(), Arc::new(|_| Ok(Box::new(()))))
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better in tests")]
    pub(crate) fn with<H: Handle>(handler: H, cores: usize, limits: Limits, admit: Admit) -> Self {
        let cert = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.cert.der().clone()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.cert.der().clone()],
                PrivatePkcs8KeyDer::from(cert.signing_key.serialize_der()).into(),
            )
            .unwrap();
        tls.alpn_protocols = vec![h3::ALPN.to_vec()];

        let drain = Drain::new();
        let states = Arc::new(ConnStates::default());
        let handler = Arc::new(handler);
        let limits = Arc::new(limits);
        let quic =
            Arc::new(Quic::new(Arc::new(tls), cores, cores, &limits, Lineage::first()).unwrap());
        let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
        for core in 0..cores {
            let socket = reuse_port(addr);
            addr = socket.local_addr().unwrap();
            let endpoint = quic.bind(core, vec![socket], true, &drain).unwrap();
            let serving = Serving {
                handler: Arc::clone(&handler),
                drain: drain.clone(),
                limits: Arc::clone(&limits),
                states: Arc::clone(&states),
                core,
                alt_svc: None,
                http2: true,
            };
            let (quic, admit) = (Arc::clone(&quic), Arc::clone(&admit));
            drain.spawn(async move { serve(&quic, endpoint, serving, admit).await });
        }
        Self { addr, drain, states, roots }
    }

    /// A client that offers `alpn`.
    pub(crate) fn client(&self, alpn: &[u8]) -> Endpoint {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut config = ClientConfig::new(Arc::new(tls));
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
        endpoint
    }

    /// A connection of a new client.
    pub(crate) async fn connect(&self) -> Connection {
        let connecting = self.client(h3::ALPN).connect(self.addr, "localhost").unwrap();
        tokio::time::timeout(PATIENCE, connecting).await.unwrap().unwrap()
    }
}

pub(crate) fn reuse_port(addr: SocketAddr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    socket.into()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
