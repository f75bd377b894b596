//! Requests in 0-RTT data over HTTP/3 (RFC 8470), and those that a proxy in front took as such.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, Request, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use wharf_tests::{TestServer, each_protocol, guest};

/// A client that keeps its session tickets and sends early data where it can.
fn endpoint(server: &TestServer) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(server.ca()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.enable_early_data = true;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// The answer to one request on this connection. `while_sent` runs once the request is on its way.
async fn ask(
    connection: quinn::Connection,
    method: Method,
    while_sent: impl AsyncFnOnce(),
) -> (StatusCode, Bytes) {
    let quic = h3_quinn::Connection::new(connection);
    let (mut driver, mut sender) = h3::client::new(quic).await.unwrap();
    let driving = tokio::spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    let request =
        Request::builder().method(method).uri("https://localhost/exchange").body(()).unwrap();
    let mut stream = sender.send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    while_sent().await;
    let response = stream.recv_response().await.unwrap();
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.unwrap() {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    drop(sender);
    driving.abort();
    (response.status(), body.into())
}

/// A first connection, for its ticket; then `method` as early data on a second one. The third value:
/// whether the server took early data at all.
async fn early(server: &TestServer, method: Method) -> (StatusCode, Bytes, bool) {
    let endpoint = endpoint(server);
    let connect = || endpoint.connect(server.https.unwrap(), "localhost").unwrap();
    let first = connect().await.unwrap();
    let (status, _) = ask(first.clone(), Method::GET, async || {}).await;
    assert_eq!(status, StatusCode::OK);
    first.close(0_u32.into(), b"");

    let Ok((connection, accepted)) = connect().into_0rtt() else {
        let (status, body) = ask(connect().await.unwrap(), method, async || {}).await;
        return (status, body, false);
    };
    // The request leaves, and then this thread (the only one of its runtime) stands still, so that the
    // handshake cannot end before the request is handled.
    let (status, body) = ask(connection, method, async || {
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(Duration::from_millis(300));
    })
    .await;
    (status, body, accepted.await)
}

#[tokio::test]
async fn a_safe_request_is_answered_as_early_data_and_the_plugin_is_told() {
    let server = TestServer::with("exchange", &guest("p3_exchange")).await;

    let (status, body, accepted) = early(&server, Method::GET).await;

    assert!(accepted);
    assert_eq!(status, StatusCode::OK);
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(seen["early_data"], true, "{seen}");
    assert_eq!(seen["early_data_field"], "1", "{seen}");
}

#[tokio::test]
async fn an_unsafe_request_in_early_data_is_too_early() {
    let server = TestServer::with("exchange", &guest("p3_exchange")).await;

    for method in [Method::POST, Method::DELETE] {
        let (status, body, accepted) = early(&server, method).await;

        assert!(accepted);
        assert_eq!(status, StatusCode::TOO_EARLY);
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], 425);
    }
}

#[tokio::test]
async fn early_data_can_be_turned_off() {
    let server = TestServer::builder()
        .plugin("exchange", &guest("p3_exchange"))
        .env("WHARF_EARLY_DATA", "off")
        .start()
        .await;

    let (status, body, accepted) = early(&server, Method::GET).await;

    assert!(!accepted);
    assert_eq!(status, StatusCode::OK);
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(seen["early_data"], false, "{seen}");
}

each_protocol!(what_a_proxy_took_as_early_data_is_honoured, |protocol| async move {
    let server = TestServer::with("exchange", &guest("p3_exchange")).await;
    let mut client = server.client(protocol).await;
    let request = |client: &wharf_tests::Client, method, value: &str| {
        client.request(method, "/exchange").header("early-data", value).body(Bytes::new()).unwrap()
    };

    let read = request(&client, Method::GET, "1");
    let read = client.send(read).await;
    let write = request(&client, Method::POST, "1");
    let write = client.send(write).await;
    let odd = request(&client, Method::PUT, "0");
    let odd = client.send(odd).await;
    let after = client.get("/exchange").await;

    assert_eq!(read.status, 200);
    assert_eq!(read.json()["early_data_field"], "1");
    assert_eq!(write.status, 425);
    assert_eq!(write.header("content-type"), "application/problem+json");
    assert_eq!(odd.status, 425);
    assert_eq!(after.status, 200);
    assert_eq!(after.json()["early_data_field"], Value::Null);
});
