//! The ceiling: a native server of the same stack as the host, with a fixed answer where the host has
//! plugins. One current-thread runtime and one set of listeners a core, hyper for HTTP/1.1 and
//! HTTP/2, rustls with ring, quinn and h3. It defends itself against nothing: it is for this
//! benchmark only.
//!
//! `/` answers 14 bytes, `/bytes/N` N of them (at most 10,240) that may be kept for an hour, `/download`
//! 1 GiB in chunks of 64 KiB, `/upload` takes whatever comes.

#![expect(clippy::disallowed_methods, reason = "a server that is killed needs no drain")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf, Bytes};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const HELLO: &[u8] = b"Hello, world!\n";
/// What `/bytes/N` is a part of.
static BYTES: [u8; 10_240] = [b'x'; 10_240];
const CHUNK: usize = 64 * 1024;
const DOWNLOAD: u64 = 1 << 30;
const BACKLOG: i32 = 4096;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to write the addresses.
    #[arg(long)]
    ready_file: PathBuf,
}

/// One core's sockets.
struct Sockets {
    http: std::net::TcpListener,
    https: std::net::TcpListener,
    quic: std::net::UdpSocket,
}

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let first = Sockets::bind("127.0.0.1:0".parse()?, "127.0.0.1:0".parse()?)?;
    let (http, https) = (first.http.local_addr()?, first.https.local_addr()?);
    let mut sockets = vec![first];
    for _ in 1..cores {
        sockets.push(Sockets::bind(http, https)?);
    }
    let (certificate, key) = certificate()?;
    let threads: Vec<_> = sockets
        .into_iter()
        .map(|sockets| {
            let (certificate, key) = (certificate.clone(), key.clone_key());
            std::thread::spawn(move || serve_core(sockets, certificate, key))
        })
        .collect();
    let ready = serde_json::json!({"http": http.to_string(), "https": https.to_string()});
    let aside = arguments.ready_file.with_extension("part");
    std::fs::write(&aside, ready.to_string())?;
    std::fs::rename(aside, &arguments.ready_file)?;
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a core panicked"))??;
    }
    Ok(())
}

impl Sockets {
    fn bind(http: SocketAddr, https: SocketAddr) -> Result<Self> {
        let http = shared(http, Type::STREAM, Protocol::TCP)?.into();
        let tcp = shared(https, Type::STREAM, Protocol::TCP)?;
        let https: std::net::TcpListener = tcp.into();
        let quic = shared(https.local_addr()?, Type::DGRAM, Protocol::UDP)?.into();
        Ok(Self { http, https, quic })
    }
}

fn shared(address: SocketAddr, kind: Type, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn certificate() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((made.cert.der().clone(), key))
}

fn tls(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    alpn: &[&str],
) -> Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

fn serve_core(
    sockets: Sockets,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let config = tls(certificate.clone(), key.clone_key(), &["h2", "http/1.1"])?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let https = TcpListener::from_std(sockets.https)?;
        tokio::spawn(async move {
            while let Ok((socket, _)) = https.accept().await {
                tokio::spawn(serve_tls(acceptor.clone(), socket));
            }
        });
        let quic =
            quinn::crypto::rustls::QuicServerConfig::try_from(tls(certificate, key, &["h3"])?)?;
        let endpoint = quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            Some(quinn::ServerConfig::with_crypto(Arc::new(quic))),
            sockets.quic,
            Arc::new(quinn::TokioRuntime),
        )?;
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        serve_h3(connection).await;
                    }
                });
            }
        });
        let http = TcpListener::from_std(sockets.http)?;
        loop {
            let (socket, _) = http.accept().await?;
            tokio::spawn(serve_cleartext(socket));
        }
    })
}

async fn serve_cleartext(socket: TcpStream) {
    let _plain = socket.set_nodelay(true);
    let mut first = [0];
    // No HTTP/1.1 method in use here begins like the HTTP/2 preface, "PRI".
    let is_h2 = socket.peek(&mut first).await.is_ok_and(|read| read == 1) && {
        let mut two = [0; 2];
        socket.peek(&mut two).await.is_ok_and(|_| &two == b"PR")
    };
    serve(TokioIo::new(socket), is_h2).await;
}

async fn serve_tls(acceptor: TlsAcceptor, socket: TcpStream) {
    let _plain = socket.set_nodelay(true);
    if let Ok(tls) = acceptor.accept(socket).await {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        serve(TokioIo::new(tls), is_h2).await;
    }
}

async fn serve<T: Read + Write + Unpin + Send + 'static>(io: T, is_h2: bool) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    if is_h2 {
        let _gone = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _gone = hyper::server::conn::http1::Builder::new()
            .pipeline_flush(true)
            .serve_connection(io, service)
            .await;
    }
}

async fn answer(request: Request<Incoming>) -> Response<Answer> {
    match request.uri().path() {
        path if path.starts_with("/bytes/") => {
            let asked = path["/bytes/".len()..].parse().unwrap_or(BYTES.len());
            let bytes = Bytes::from_static(&BYTES[..asked.min(BYTES.len())]);
            let mut response = Response::new(Answer::Hello(Some(bytes)));
            let fields = response.headers_mut();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        "/download" => Response::new(Answer::Download { left: DOWNLOAD }),
        "/upload" => {
            let mut body = request.into_body();
            let mut received = 0;
            while let Some(Ok(frame)) = body.frame().await {
                received += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(Answer::Hello(Some(Bytes::from(received.to_string()))))
        }
        _ => Response::new(Answer::Hello(Some(Bytes::from_static(HELLO)))),
    }
}

enum Answer {
    Hello(Option<Bytes>),
    Download { left: u64 },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Hello(bytes) => bytes.take(),
            Self::Download { left: 0 } => None,
            Self::Download { left } => {
                *left -= CHUNK as u64;
                Some(Bytes::from(vec![b'x'; CHUNK]))
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Hello(None) | Self::Download { left: 0 })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hello(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            // As a plugin's stream: nobody says how long it is.
            Self::Download { .. } => SizeHint::default(),
        }
    }
}

async fn serve_h3(connection: quinn::Connection) {
    let quic = h3_quinn::Connection::new(connection);
    let Ok(mut connection) = h3::server::Connection::<_, Bytes>::new(quic).await else { return };
    while let Ok(Some(resolver)) = connection.accept().await {
        tokio::spawn(async move {
            let _gone = answer_h3(resolver).await;
        });
    }
}

async fn answer_h3(
    resolver: h3::server::RequestResolver<h3_quinn::Connection, Bytes>,
) -> Result<()> {
    let (request, mut stream) = resolver.resolve_request().await?;
    let mut received = 0;
    while let Some(mut data) = stream.recv_data().await? {
        received += data.remaining();
        data.advance(data.remaining());
    }
    let mut body = match request.uri().path() {
        "/upload" => Answer::Hello(Some(Bytes::from(received.to_string()))),
        "/download" => Answer::Download { left: DOWNLOAD },
        _ => Answer::Hello(Some(Bytes::from_static(HELLO))),
    };
    let length = body.size_hint().exact();
    let mut response = Response::builder();
    if let Some(length) = length {
        response = response.header(http::header::CONTENT_LENGTH, length);
    }
    stream.send_response(response.body(())?).await?;
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            stream.send_data(data).await?;
        }
    }
    stream.finish().await?;
    Ok(())
}
