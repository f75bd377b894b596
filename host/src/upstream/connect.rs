//! From an origin to a connection that speaks HTTP: TCP (happy eyeballs over the checked
//! addresses), TLS with ALPN, and hyper's handshake. `http` is HTTP/1.1; for `https`, ALPN decides
//! between HTTP/2 and HTTP/1.1.

use std::future::Future;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper::rt::{Executor, Read, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::address::{GuardedResolver, LookUp};
use super::grants::{Host, Origin};
use super::outgoing::Outgoing;
use super::slot::Slot;
use super::{MAX_FIELD_BYTES, MAX_FIELDS, UpstreamError};
use crate::drain::Drain;

/// Whom to believe that an upstream is who it says.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The system's certificates, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name; Mozilla's, built
    /// in, where there are none.
    #[default]
    System,
    /// Only these certificates, in PEM.
    Pem(Vec<u8>),
}

/// What a request is sent through.
pub(super) enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

pub(super) struct Connector {
    look_up: Arc<dyn LookUp>,
    roots: Roots,
    /// Reading and parsing the system's certificates takes tens of milliseconds and half a megabyte:
    /// only who sends to `https` pays.
    tls: OnceCell<Arc<ClientConfig>>,
    drain: Drain,
}

impl Connector {
    pub(super) fn new(look_up: Arc<dyn LookUp>, roots: Roots, drain: Drain) -> Self {
        Self { look_up, roots, tls: OnceCell::new(), drain }
    }

    /// Opens a connection. `slot` lives as long as it does.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened and frees the slot.
    pub(super) async fn open(
        &self,
        origin: &Origin,
        slot: Slot,
        deadline: Instant,
    ) -> Result<(Sender, tokio::task::AbortHandle), UpstreamError> {
        let opening = async {
            let tcp = self.tcp(origin, deadline).await?;
            if !origin.tls {
                return self.http1(TokioIo::new(tcp), slot).await;
            }
            let config = self.tls.get_or_try_init(|| client_config(self.roots.clone())).await?;
            let tls = TlsConnector::from(Arc::clone(config))
                .connect(server_name(&origin.host)?, tcp)
                .await
                .map_err(|error| UpstreamError::tls(&error))?;
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                self.http2(TokioIo::new(tls), slot).await
            } else {
                self.http1(TokioIo::new(tls), slot).await
            }
        };
        tokio::time::timeout_at(deadline, opening)
            .await
            .unwrap_or(Err(UpstreamError::ConnectionTimeout))
    }

    async fn tcp(&self, origin: &Origin, deadline: Instant) -> Result<TcpStream, UpstreamError> {
        let resolver = GuardedResolver { look_up: Arc::clone(&self.look_up), deadline };
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let uri = format!("http://{}:{}/", origin.host, origin.port)
            .parse()
            .map_err(|_| UpstreamError::RequestUriInvalid)?;
        let connected =
            connector.call(uri).await.map_err(|error| UpstreamError::connect(&error))?;
        Ok(connected.into_inner())
    }

    async fn http1<T>(
        &self,
        io: T,
        slot: Slot,
    ) -> Result<(Sender, tokio::task::AbortHandle), UpstreamError>
    where
        T: Read + Write + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_FIELDS)
            .max_header_size(MAX_FIELD_BYTES)
            .handshake(io)
            .await
            .map_err(|error| UpstreamError::exchange(&error))?;
        Ok((Sender::Http1(sender), self.drive(connection, slot)))
    }

    async fn http2<T>(
        &self,
        io: T,
        slot: Slot,
    ) -> Result<(Sender, tokio::task::AbortHandle), UpstreamError>
    where
        T: Read + Write + Send + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(Tracked(self.drain.clone()))
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_FIELD_BYTES as u32)
            .handshake(io)
            .await
            .map_err(|error| UpstreamError::exchange(&error))?;
        Ok((Sender::Http2(sender), self.drive(connection, slot)))
    }

    /// Runs a connection. Its errors reach whoever waits for an exchange on it.
    fn drive<C>(&self, connection: C, slot: Slot) -> tokio::task::AbortHandle
    where
        C: Future<Output = hyper::Result<()>> + Send + 'static,
    {
        let driver = self.drain.spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                tracing::trace!(%error, "upstream connection ended");
            }
        });
        driver.abort_handle()
    }
}

/// Spawns hyper's tasks where the drain sees them.
#[derive(Clone)]
struct Tracked(Drain);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, UpstreamError> {
    match host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => DnsName::try_from(name.to_string())
            .map(ServerName::DnsName)
            .map_err(|_| UpstreamError::RequestUriInvalid),
    }
}

async fn client_config(roots: Roots) -> Result<Arc<ClientConfig>, UpstreamError> {
    tokio::task::spawn_blocking(move || {
        let refused = |reason: String| UpstreamError::Configuration { reason };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?
            .with_root_certificates(root_store(roots)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    })
    .await
    .map_err(|error| UpstreamError::Internal { reason: error.to_string() })?
}

fn root_store(roots: Roots) -> Result<rustls::RootCertStore, UpstreamError> {
    let mut store = rustls::RootCertStore::empty();
    match roots {
        Roots::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let refused = |reason: String| UpstreamError::Configuration { reason };
                let certificate = certificate.map_err(|error| refused(error.to_string()))?;
                store.add(certificate).map_err(|error| refused(error.to_string()))?;
            }
        }
        Roots::System => {
            let loaded = rustls_native_certs::load_native_certs();
            for error in &loaded.errors {
                tracing::warn!(%error, "a root certificate source was not readable");
            }
            // Systems carry certificates that webpki finds malformed; they vouch for nobody.
            let (_used, _ignored) = store.add_parsable_certificates(loaded.certs);
            if store.is_empty() {
                store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
        }
    }
    Ok(store)
}
