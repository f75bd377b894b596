//! One connection to the server over one protocol, made of libraries that others wrote.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 in cleartext.
    H1,
    /// HTTP/1.1 over TLS.
    H1Tls,
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/3.
    H3,
}

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;
pub(crate) type H3Sender = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

pub(crate) enum Connection {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
    H3 { sender: H3Sender, _endpoint: quinn::Endpoint },
}

/// A client with one connection.
pub struct Client {
    pub(crate) connection: Connection,
    authority: String,
    scheme: &'static str,
}

/// A whole answer.
#[derive(Clone)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Fields.
    pub headers: HeaderMap,
    /// The whole body, as far as it came.
    pub body: Bytes,
    /// Trailers.
    pub trailers: HeaderMap,
    /// Why the body ended early, if it did.
    pub broken: Option<String>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// A field as text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?} {:?}", self.status, self.headers, self.text(), self.broken)
    }
}

impl Client {
    /// Another client on the same connection, for exchanges at the same time.
    ///
    /// # Panics
    /// Over HTTP/1.1, which has none.
    #[must_use]
    pub fn beside(&self) -> Self {
        let connection = match &self.connection {
            Connection::H1(_) => panic!("HTTP/1.1 has one exchange at a time"),
            Connection::H2(sender) => Connection::H2(sender.clone()),
            Connection::H3 { sender, _endpoint } => {
                Connection::H3 { sender: sender.clone(), _endpoint: _endpoint.clone() }
            }
        };
        Self { connection, authority: self.authority.clone(), scheme: self.scheme }
    }

    /// HTTP/1.1 in cleartext.
    pub async fn h1(address: SocketAddr) -> Self {
        let tcp = connect(address).await;
        Self::over_h1(tcp, address, "http").await
    }

    /// HTTP/1.1 over TLS.
    pub async fn h1_tls(address: SocketAddr, ca: &Path) -> Self {
        let tls = handshake(address, ca, b"http/1.1").await;
        Self::over_h1(tls, address, "https").await
    }

    /// HTTP/2 by prior knowledge.
    pub async fn h2c(address: SocketAddr) -> Self {
        let tcp = connect(address).await;
        Self::over_h2(tcp, address, "http").await
    }

    /// HTTP/2 over TLS.
    pub async fn h2(address: SocketAddr, ca: &Path) -> Self {
        let tls = handshake(address, ca, b"h2").await;
        Self::over_h2(tls, address, "https").await
    }

    /// HTTP/3.
    pub async fn h3(address: SocketAddr, ca: &Path) -> Self {
        let tls = tls_config(ca, b"h3");
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
        let (mut driver, sender) =
            h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
        spawn(async move {
            std::future::poll_fn(|cx| driver.poll_close(cx)).await;
        });
        Self {
            connection: Connection::H3 { sender, _endpoint: endpoint },
            authority: format!("localhost:{}", address.port()),
            scheme: "https",
        }
    }

    async fn over_h1<IO>(io: IO, address: SocketAddr, scheme: &'static str) -> Self
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, driver) = http1::handshake(TokioIo::new(io)).await.unwrap();
        spawn(async move {
            let _closed = driver.with_upgrades().await;
        });
        let authority = format!("localhost:{}", address.port());
        Self { connection: Connection::H1(sender), authority, scheme }
    }

    async fn over_h2<IO>(io: IO, address: SocketAddr, scheme: &'static str) -> Self
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        spawn(async move {
            let _closed = driver.await;
        });
        let authority = format!("localhost:{}", address.port());
        Self { connection: Connection::H2(sender), authority, scheme }
    }

    /// A request for `path`, with the authority and scheme of this connection.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let builder = Request::builder().method(method);
        match &self.connection {
            Connection::H1(_) => builder.uri(path).header("host", &self.authority),
            _ => builder.uri(format!("{}://{}{path}", self.scheme, self.authority)),
        }
    }

    /// GETs `path`.
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path).body(Bytes::new()).unwrap();
        self.send(request).await
    }

    /// GETs `path`.
    ///
    /// # Errors
    /// When the exchange ends before the head of the answer.
    pub async fn try_send_get(&mut self, path: &str) -> anyhow::Result<Answer> {
        let request = self.request(Method::GET, path).body(Bytes::new())?;
        self.try_send(request).await
    }

    /// GETs `path`, unless the server has said that it takes no more requests on this connection:
    /// then it is `None`, and another connection is to be made.
    ///
    /// # Errors
    /// When the exchange, once begun, does not end with a whole answer.
    pub async fn get_if_open(&mut self, path: &str) -> anyhow::Result<Option<Answer>> {
        let request = self.request(Method::GET, path).body(Bytes::new())?;
        let whole = |request: Request<Bytes>| request.map(|body| Full::new(body).boxed_unsync());
        let answer = match &mut self.connection {
            Connection::H1(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                match sender.try_send_request(whole(request)).await {
                    Ok(response) => collect(response).await?,
                    Err(failed) => return unsent(failed),
                }
            }
            Connection::H2(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                match sender.try_send_request(whole(request)).await {
                    Ok(response) => collect(response).await?,
                    Err(failed) => return unsent(failed),
                }
            }
            Connection::H3 { sender, .. } => {
                let mut stream = match sender.send_request(request.map(|_| ())).await {
                    Ok(stream) => stream,
                    // Refused by the library: nothing was sent.
                    Err(h3::error::StreamError::RemoteClosing { .. }) => return Ok(None),
                    Err(error) if error.is_h3_no_error() => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                stream.finish().await?;
                let response = stream.recv_response().await?;
                collect_h3(response, stream).await?
            }
        };
        match &answer.broken {
            None => Ok(Some(answer)),
            Some(why) => anyhow::bail!("{why}"),
        }
    }

    /// POSTs `body` to `path`.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.request(Method::POST, path).body(body.into()).unwrap();
        self.send(request).await
    }

    /// Sends a request and takes the whole answer; panics if no head comes.
    pub async fn send(&mut self, request: Request<Bytes>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// Sends a request and takes the whole answer.
    ///
    /// # Errors
    /// When the exchange ends before the head of the answer.
    pub async fn try_send(&mut self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let bodiless = |body: &Bytes| body.is_empty();
        match &mut self.connection {
            Connection::H1(sender) => {
                sender.ready().await?;
                let request = request.map(|body| Full::new(body).boxed_unsync());
                collect(sender.send_request(request).await?).await
            }
            Connection::H2(sender) => {
                sender.ready().await?;
                let request = request.map(|body| Full::new(body).boxed_unsync());
                collect(sender.send_request(request).await?).await
            }
            Connection::H3 { sender, .. } => {
                let (parts, body) = request.into_parts();
                let mut stream = sender.send_request(Request::from_parts(parts, ())).await?;
                if !bodiless(&body) {
                    stream.send_data(body).await?;
                }
                stream.finish().await?;
                let response = stream.recv_response().await?;
                collect_h3(response, stream).await
            }
        }
    }
}

/// `None` if the request comes back: then it was not sent.
fn unsent<T>(mut failed: hyper::client::conn::TrySendError<T>) -> anyhow::Result<Option<Answer>> {
    match failed.take_message() {
        Some(_) => Ok(None),
        None => Err(failed.into_error().into()),
    }
}

async fn collect(response: http::Response<hyper::body::Incoming>) -> anyhow::Result<Answer> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut trailers = HeaderMap::new();
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            Err(error) => {
                broken = Some(format!("{error:?}"));
                break;
            }
        }
    }
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: bytes.into(),
        trailers,
        broken,
    })
}

async fn collect_h3<S>(
    response: http::Response<()>,
    mut stream: h3::client::RequestStream<S, Bytes>,
) -> anyhow::Result<Answer>
where
    S: h3::quic::RecvStream,
{
    use bytes::Buf;
    let mut bytes = Vec::new();
    let mut broken = None;
    loop {
        match stream.recv_data().await {
            Ok(Some(mut data)) => {
                while data.has_remaining() {
                    let chunk = data.chunk();
                    bytes.extend_from_slice(chunk);
                    let read = chunk.len();
                    data.advance(read);
                }
            }
            Ok(None) => break,
            Err(error) => {
                broken = Some(format!("{error:?}"));
                break;
            }
        }
    }
    let trailers = match broken {
        None => stream.recv_trailers().await?.unwrap_or_default(),
        Some(_) => HeaderMap::new(),
    };
    let (parts, ()) = response.into_parts();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: bytes.into(),
        trailers,
        broken,
    })
}

async fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}

async fn handshake(
    address: SocketAddr,
    ca: &Path,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(tls_config(ca, alpn)));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, connect(address).await).await.unwrap()
}

fn tls_config(ca: &Path, alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
