//! TLS: certificates chosen by server name, and the configurations for TCP and QUIC that share them.
//!
//! Certificates are an immutable set behind an atomic pointer. [`Tls::watch`] builds a new one when
//! the files change and publishes it whole; a set that cannot be used leaves the old one in place and
//! is reported once. Connections keep what they were made with. rustls with ring; TLS 1.2 and 1.3.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::devcert::{self, DevCert, DevCertError};
use crate::drain::Drain;
use crate::http::conn::TlsFacts;

/// ALPN names (RFC 7301, RFC 9113 §3.2, RFC 9114 §3.1).
const ALPN_H1: &[u8] = b"http/1.1";
const ALPN_H2: &[u8] = b"h2";
const ALPN_H3: &[u8] = b"h3";

/// Files are read again when they have been quiet for this long, and after this long at the latest.
const SETTLE: Duration = Duration::from_millis(200);
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);
/// How often files are looked at without an event: file systems without events, and the renewal of
/// the development certificate.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Bytes of a certificate or key file; a chain has a few thousand.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Sessions that can be resumed with early data, over all QUIC connections; about 4 MiB.
const EARLY_DATA_SESSIONS: usize = 8192;

/// A certificate chain and its private key, as PEM files; they may be the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files that the user names. The first is for clients that ask for no name, or for an unknown.
    Files(Vec<Pair>),
    /// A development certificate, made in this folder.
    Development(PathBuf),
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No pair was named.
    #[error("no certificate is configured")]
    None,
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file has no certificate in it.
    #[error("{path} has no PEM certificate in it")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file has no key in it.
    #[error("{path} has no PEM private key in it (an encrypted one cannot be used)")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is not the certificate's.
    #[error("the private key in {key} is not that of the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate or key is of a kind that cannot be used.
    #[error("the certificate in {certificate} cannot be used with the key in {key}")]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// There is no development certificate.
    #[error(transparent)]
    Development(#[from] DevCertError),
    /// rustls refuses the configuration.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The one cryptography provider.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a pair of files held, to tell whether anything changed and to parse from.
type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// The certificates of one moment.
#[derive(Debug)]
struct CertificateSet {
    keys: Vec<Arc<CertifiedKey>>,
    /// Index of the key for a name in lower case.
    exact: HashMap<Box<str>, usize>,
    /// The same for `*.NAME`, by NAME.
    wildcard: HashMap<Box<str>, usize>,
}

impl CertificateSet {
    fn parse(pairs: &[Pair], contents: &Contents) -> Result<Self, TlsError> {
        let mut set = Self { keys: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for (pair, (certificate, key)) in pairs.iter().zip(contents) {
            let key = certified_key(pair, certificate, key)?;
            set.add(key);
        }
        if set.keys.is_empty() { Err(TlsError::None) } else { Ok(set) }
    }

    fn add(&mut self, key: CertifiedKey) {
        let index = self.keys.len();
        if let Some(leaf) = key.cert.first()
            && let Ok(leaf) = webpki::EndEntityCert::try_from(leaf)
        {
            for name in leaf.valid_dns_names() {
                let name = name.to_ascii_lowercase();
                // Where two certificates have one name, the first named by the user is taken.
                match name.strip_prefix("*.") {
                    Some(parent) => self.wildcard.entry(parent.into()).or_insert(index),
                    None => self.exact.entry(name.into()).or_insert(index),
                };
            }
        }
        self.keys.push(Arc::new(key));
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let index = name.and_then(|name| {
            // rustls gives the name in lower case.
            let wildcard = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(wildcard)
        });
        self.keys.get(index.copied().unwrap_or(0)).cloned()
    }
}

fn certified_key(pair: &Pair, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificate { path: pair.certificate.clone() })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: pair.certificate.clone() });
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| TlsError::NoKey { path: pair.key.clone() })?;
    let (certificate, key_path) = (pair.certificate.clone(), pair.key.clone());
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate, key: key_path },
        source => TlsError::Unusable { certificate, key: key_path, source },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use io::Read;

    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Chooses the certificate of a handshake.
struct Resolver(ArcSwap<CertificateSet>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// TLS for all listeners and cores.
#[derive(Debug)]
pub struct Tls {
    source: Source,
    resolver: Arc<Resolver>,
    /// What was last tried, good or bad: a set is tried, and a fault reported, once.
    tried: Mutex<Contents>,
    tcp: Arc<ServerConfig>,
    quic: Arc<ServerConfig>,
}

/// What came of a TCP connection on the TLS port.
#[derive(Debug)]
pub enum Accepted {
    /// A TLS session; boxed, for it is a thousand bytes and moved through several tasks' states.
    Tls(Box<TlsStream<TcpStream>>, TlsFacts),
    /// The client spoke plain HTTP; it was told.
    Plain,
}

impl Tls {
    /// Reads (or makes) the certificates and prepares the configurations. Blocks on files.
    ///
    /// # Errors
    /// See [`TlsError`]: the messages name the file.
    pub fn new(source: Source, http2: bool, early_data: bool) -> Result<Self, TlsError> {
        let (pairs, contents) = load(&source)?;
        let set = CertificateSet::parse(&pairs, &contents)?;
        let resolver = Arc::new(Resolver(ArcSwap::from_pointee(set)));
        let tickets = rustls::crypto::ring::Ticketer::new()?;

        let mut tcp = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as _);
        tcp.alpn_protocols =
            if http2 { vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()] } else { vec![ALPN_H1.to_vec()] };
        tcp.ticketer = Arc::clone(&tickets);

        let mut quic = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as _);
        quic.alpn_protocols = vec![ALPN_H3.to_vec()];
        if early_data {
            // Each ticket is good once, which rustls asks for before it takes early data: what was
            // recorded cannot be replayed to this process (RFC 8446 §8.1).
            quic.session_storage = ServerSessionMemoryCache::new(EARLY_DATA_SESSIONS);
            // QUIC has its own limits (RFC 9001 §4.6.1).
            quic.max_early_data_size = u32::MAX;
        } else {
            quic.ticketer = tickets;
        }

        Ok(Self {
            source,
            resolver,
            tried: Mutex::new(contents),
            tcp: Arc::new(tcp),
            quic: Arc::new(quic),
        })
    }

    /// The configuration for QUIC, with the same certificates.
    pub fn quic_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.quic)
    }

    /// The authority to trust, where the certificate is the development one.
    pub fn development_ca(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Files(_) => None,
            Source::Development(folder) => Some(DevCert::in_folder(folder).ca),
        }
    }

    /// Reads the files again. True if new certificates are in use now; an error is returned once for
    /// what the files hold, and the certificates before stay in use. Blocks on files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut tried = self.tried.lock();
        let (pairs, contents) = match load(&self.source) {
            Ok(loaded) => loaded,
            // Replacing files one by one, a file may be missing for a moment: reported once, too.
            Err(error) if tried.is_empty() => {
                debug!(%error, "certificates still cannot be read");
                return Ok(false);
            }
            Err(error) => {
                tried.clear();
                return Err(error);
            }
        };
        if *tried == contents {
            return Ok(false);
        }
        let parsed = CertificateSet::parse(&pairs, &contents);
        *tried = contents;
        self.resolver.0.store(Arc::new(parsed?));
        Ok(true)
    }

    /// Reloads the certificates when their files change, until the drain.
    ///
    /// # Cancel safety
    /// Dropping the future ends the watch; a reload that has begun on a blocking thread finishes.
    pub async fn watch(self: Arc<Self>, drain: Drain) {
        let changed = Arc::new(Notify::new());
        let on_change = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event as well.
            if event.map_or(true, |event| !event.kind.is_access()) {
                on_change.notify_one();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(%error, "certificate files cannot be watched; looking hourly instead");
                None
            }
        };
        for folder in self.folders() {
            // The folder, not the file: files are replaced by renaming over them.
            if let Some(watcher) = &mut watcher
                && let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive)
            {
                warn!(%error, folder = %folder.display(), "certificate folder cannot be watched");
            }
        }
        loop {
            tokio::select! {
                () = drain.draining() => return,
                _ = timeout(LOOK_AGAIN, changed.notified()) => {}
            }
            let at_most = Instant::now() + SETTLE_AT_MOST;
            while Instant::now() < at_most {
                let quiet = (Instant::now() + SETTLE).min(at_most);
                if timeout_at(quiet, changed.notified()).await.is_err() {
                    break;
                }
            }
            let tls = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => info!("certificates reloaded"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "certificates not reloaded; those before stay in use");
                }
                Err(error) => warn!(%error, "certificates not reloaded"),
            }
        }
    }

    /// The folders that hold the files.
    fn folders(&self) -> Vec<PathBuf> {
        let files: Vec<&Path> = match &self.source {
            Source::Files(pairs) => {
                pairs.iter().flat_map(|pair| [&*pair.certificate, &*pair.key]).collect()
            }
            Source::Development(folder) => return vec![folder.clone()],
        };
        let mut folders: Vec<PathBuf> = files
            .into_iter()
            .filter_map(Path::parent)
            .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            .map(Path::to_owned)
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Shakes hands. The caller has the deadline.
    ///
    /// # Errors
    /// Whatever the connection or TLS says.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept(&self, mut stream: TcpStream) -> io::Result<Accepted> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            // A handshake record begins with 22 (RFC 8446 §5.1), a plain request with its method.
            say_https(&mut stream).await?;
            return Ok(Accepted::Plain);
        }
        let stream = TlsAcceptor::from(Arc::clone(&self.tcp)).accept(stream).await?;
        let facts = facts(stream.get_ref().1);
        Ok(Accepted::Tls(Box::new(stream), facts))
    }
}

fn load(source: &Source) -> Result<(Vec<Pair>, Contents), TlsError> {
    let pairs = match source {
        Source::Files(pairs) => pairs.clone(),
        Source::Development(folder) => {
            let made = devcert::ensure(folder, SystemTime::now())?;
            vec![Pair { certificate: made.pair.clone(), key: made.pair }]
        }
    };
    let contents = pairs
        .iter()
        .map(|pair| Ok((read(&pair.certificate)?, read(&pair.key)?)))
        .collect::<Result<_, TlsError>>()?;
    Ok((pairs, contents))
}

async fn say_https(stream: &mut TcpStream) -> io::Result<()> {
    let text = "this port speaks TLS: use https://\n";
    let length = text.len();
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{text}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer might not arrive.
    let mut discarded = [0; 4096];
    for _ in 0..16 {
        if stream.read(&mut discarded).await? == 0 {
            break;
        }
    }
    Ok(())
}

fn facts(session: &rustls::ServerConnection) -> TlsFacts {
    let version = session.protocol_version().and_then(|version| version.as_str());
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsFacts {
        // rustls writes TLSv1_3 and TLS13_AES_128_GCM_SHA256.
        version: version.unwrap_or("unknown").replace('_', "."),
        cipher: suite.unwrap_or("unknown").replacen("TLS13_", "TLS_", 1),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        sni: session.server_name().map(ToOwned::to_owned),
        early_data: false,
    }
}

#[cfg(test)]
mod tests;
