//! TLS and both TCP listeners, with real sockets and the rustls client.

use std::net::SocketAddr;

use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::conn::{Conn, ConnStates, RefusedConnection};
use crate::http::h2::PREFACE;
use crate::http::limits::Limits;
use crate::http::{Handle, Serving};
use crate::listener::gate::Gate;
use crate::listener::slots::Slots;
use crate::listener::tcp;

/// Answers with what it knows of the connection.
struct Facts;

impl Handle for Facts {
    async fn handle(
        &self,
        conn: &Arc<Conn>,
        _: Request<RequestBody>,
        _: Arc<crate::http::interim::Interim>,
    ) -> Response<ResponseBody> {
        let tls = conn.tls.as_ref().map(|tls| (tls.version.as_str(), tls.sni.as_deref()));
        Response::new(ResponseBody::full(format!("{} {tls:?}", conn.protocol.label())))
    }
}

struct Server {
    address: SocketAddr,
    slots: Arc<Slots>,
    serving: Serving<Facts>,
}

fn start(limits: Limits, tls: Option<Arc<Tls>>) -> Server {
    let bound = tcp::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let slots = Slots::new(&limits);
    let limits = Arc::new(limits);
    let serving = Serving {
        handler: Arc::new(Facts),
        drain: Drain::new(),
        limits,
        states: Arc::new(ConnStates::default()),
        core: 0,
        alt_svc: None,
        http2: true,
    };
    let socket = bound.sockets.into_iter().next().unwrap();
    let (mine, of_others) = (serving.clone(), Arc::clone(&slots));
    serving.drain.spawn(async move {
        let gate = Gate::default();
        tcp::serve(socket, tls, of_others, mine, &gate).await.unwrap();
    });
    Server { address: bound.address, slots, serving }
}

fn development(folder: &Path) -> Arc<Tls> {
    Arc::new(Tls::new(Source::Development(folder.to_owned()), true, true).unwrap())
}

/// Writes a self-signed certificate for `names`.
fn make_pair(folder: &Path, file: &str, names: &[&str]) -> Pair {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pair = Pair {
        certificate: folder.join(format!("{file}.crt")),
        key: folder.join(format!("{file}.key")),
    };
    std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
    pair
}

fn chosen(tls: &Tls, name: Option<&str>) -> Vec<u8> {
    tls.resolver.0.load().find(name).unwrap().cert[0].to_vec()
}

fn first_certificate(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_file(&pair.certificate).unwrap().to_vec()
}

async fn client(
    server: &Server,
    ca: &Path,
    alpn: &[&[u8]],
    name: &'static str,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

async fn h2_text(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    drain: &Drain,
) -> String {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    drain.spawn(async move {
        let _ended = connection.await;
    });
    let mut client = client.ready().await.unwrap();
    let request = Request::get("https://localhost/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    String::from_utf8(body.data().await.unwrap().unwrap().to_vec()).unwrap()
}

async fn h1_text(mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    io.write_all(request).await.unwrap();
    let mut response = String::new();
    io.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn the_development_certificate_is_good_for_every_local_name() {
    let folder = tempfile::tempdir().unwrap();
    let tls = development(folder.path());
    let ca = tls.development_ca().unwrap();
    let server = start(Limits::default(), Some(tls));

    for name in ["localhost", "127.0.0.1", "::1"] {
        let shaken = client(&server, &ca, &[b"h2"], name).await;
        assert!(shaken.is_ok(), "{name}: {shaken:?}");
    }
    assert!(client(&server, &ca, &[b"h2"], "example.com").await.is_err());
}

#[tokio::test]
async fn alpn_decides_the_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let tls = development(folder.path());
    let ca = tls.development_ca().unwrap();
    let server = start(Limits::default(), Some(tls));

    let h2 = client(&server, &ca, &[b"h2", b"http/1.1"], "localhost").await.unwrap();
    let h1 = client(&server, &ca, &[b"http/1.1"], "localhost").await.unwrap();
    let none = client(&server, &ca, &[], "localhost").await.unwrap();

    let facts = "Some((\"TLSv1.3\", Some(\"localhost\")))";
    assert_eq!(h2_text(h2, &server.serving.drain).await, format!("h2 {facts}"));
    assert!(h1_text(h1).await.ends_with(&format!("h1 {facts}")));
    assert!(h1_text(none).await.ends_with(&format!("h1 {facts}")));
}

#[tokio::test]
async fn http2_can_be_turned_off() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::new(Source::Development(folder.path().to_owned()), false, false).unwrap();
    let ca = tls.development_ca().unwrap();
    let server = start(Limits::default(), Some(Arc::new(tls)));

    let io = client(&server, &ca, &[b"h2", b"http/1.1"], "localhost").await.unwrap();

    assert_eq!(io.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(Limits::default(), Some(development(folder.path())));

    let response = h1_text(TcpStream::connect(server.address).await.unwrap()).await;

    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(response.ends_with("this port speaks TLS: use https://\n"), "{response}");
}

#[tokio::test]
async fn the_cleartext_listener_speaks_both_protocols() {
    let server = start(Limits::default(), None);

    let h1 = h1_text(TcpStream::connect(server.address).await.unwrap()).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let h2 = h2_text(io, &server.serving.drain).await;

    assert!(h1.ends_with("h1 None"), "{h1}");
    assert_eq!(h2, "h2 None");
}

#[tokio::test]
async fn a_preface_that_arrives_byte_by_byte_is_http2() {
    let server = start(Limits::default(), None);
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.set_nodelay(true).unwrap();

    for byte in PREFACE {
        io.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut settings = [0; 9];
    io.read_exact(&mut settings).await.unwrap();

    assert_eq!(settings[3], 4);
}

#[tokio::test]
async fn silent_connections_are_closed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        sniff_timeout: Duration::from_millis(50),
        handshake_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    for tls in [None, Some(development(folder.path()))] {
        let server = start(limits.clone(), tls);
        let mut io = TcpStream::connect(server.address).await.unwrap();

        let read = timeout(Duration::from_secs(5), io.read(&mut [0; 16])).await;

        assert_eq!(read.expect("closed by the server").unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_and_counted() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let server = start(limits, None);
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let second = TcpStream::connect(server.address).await.unwrap();
    while server.slots.taken() < 2 {
        tokio::task::yield_now().await;
    }

    let mut third = TcpStream::connect(server.address).await.unwrap();
    let refused = third.read(&mut [0; 16]).await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answered = String::new();
    first.read_to_string(&mut answered).await.unwrap();
    drop((first, second));
    while server.slots.taken() > 0 {
        tokio::task::yield_now().await;
    }

    assert_eq!(refused.unwrap_or(0), 0);
    assert!(answered.starts_with("HTTP/1.1 200 "));
    assert_eq!(server.serving.states.refused(RefusedConnection::Address), 1);
}

#[tokio::test]
async fn the_drain_ends_the_accept_loops() {
    let server = start(Limits::default(), None);

    let clean = server.serving.drain.finish(Duration::from_secs(5)).await;

    assert!(clean);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[test]
fn the_certificate_follows_the_server_name() {
    let folder = tempfile::tempdir().unwrap();
    let a = make_pair(folder.path(), "a", &["a.example", "also-a.example"]);
    let wild = make_pair(folder.path(), "wild", &["*.b.example"]);
    let exact = make_pair(folder.path(), "exact", &["x.b.example"]);
    let tls =
        Tls::new(Source::Files(vec![a.clone(), wild.clone(), exact.clone()]), true, true).unwrap();

    for (name, pair) in [
        (Some("a.example"), &a),
        (Some("also-a.example"), &a),
        (Some("any.b.example"), &wild),
        (Some("x.b.example"), &exact),
        (Some("deep.any.b.example"), &a),
        (Some("b.example"), &a),
        (Some("unknown.example"), &a),
        (None, &a),
    ] {
        assert_eq!(chosen(&tls, name), first_certificate(pair), "{name:?}");
    }
}

#[test]
fn a_changed_pair_is_used_and_a_broken_one_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let pair = make_pair(folder.path(), "a", &["a.example"]);
    let tls = Tls::new(Source::Files(vec![pair.clone()]), true, true).unwrap();
    let first = chosen(&tls, None);

    let unchanged = tls.reload();
    let other = make_pair(folder.path(), "b", &["a.example"]);
    std::fs::copy(&other.certificate, &pair.certificate).unwrap();
    let mismatched = tls.reload();
    let again = tls.reload();
    let meanwhile = chosen(&tls, None);
    std::fs::copy(&other.key, &pair.key).unwrap();
    let whole = tls.reload();

    assert!(matches!(unchanged, Ok(false)));
    assert!(matches!(mismatched, Err(TlsError::Mismatch { .. })), "{mismatched:?}");
    assert!(matches!(again, Ok(false)));
    assert_eq!(meanwhile, first);
    assert!(matches!(whole, Ok(true)));
    assert_eq!(chosen(&tls, None), first_certificate(&other));
}

#[tokio::test]
async fn changed_files_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let pair = make_pair(folder.path(), "a", &["a.example"]);
    let tls = Arc::new(Tls::new(Source::Files(vec![pair.clone()]), true, true).unwrap());
    let drain = Drain::new();
    drain.spawn(Arc::clone(&tls).watch(drain.clone()));
    tokio::task::yield_now().await;

    let other = make_pair(folder.path(), "new", &["a.example"]);
    std::fs::rename(&other.key, &pair.key).unwrap();
    std::fs::rename(&other.certificate, &pair.certificate).unwrap();
    let new = first_certificate(&pair);
    let noticed = timeout(Duration::from_secs(10), async {
        while chosen(&tls, None) != new {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });

    assert!(noticed.await.is_ok());
    assert!(drain.finish(Duration::from_secs(5)).await);
}

#[test]
fn unusable_files_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let good = make_pair(folder.path(), "good", &["a.example"]);
    let other = make_pair(folder.path(), "other", &["a.example"]);
    let missing = folder.path().join("missing.pem");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();

    for (certificate, key, named) in [
        (&missing, &good.key, "missing.pem"),
        (&good.certificate, &missing, "missing.pem"),
        (&empty, &good.key, "empty.pem"),
        (&good.certificate, &empty, "empty.pem"),
        (&good.certificate, &other.key, "other.key"),
    ] {
        let pair = Pair { certificate: certificate.clone(), key: key.clone() };
        let error = Tls::new(Source::Files(vec![pair]), true, true).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(matches!(Tls::new(Source::Files(vec![]), true, true), Err(TlsError::None)));
}

#[test]
fn quic_shares_the_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let quic = development(folder.path()).quic_config();

    assert_eq!(quic.alpn_protocols, [b"h3"]);
    assert_eq!(quic.max_early_data_size, 0);
}
