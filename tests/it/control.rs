//! What a plugin may ask for its response: early hints, a write deadline, a bandwidth limit,
//! buffering.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wharf_tests::{TestServer, each_protocol, guest};

const LINK: &str = "%3C/app.css%3E;%20rel=preload;%20as=style";

/// Every head that curl gets, interim ones included.
async fn heads(arguments: &[&str], url: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--insecure"])
        .args(["--dump-header", "-", "--output", "/dev/null"])
        .args(arguments)
        .arg(url)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn curl_gets_early_hints_before_the_response() {
    let server = TestServer::with("page", &guest("p3_control")).await;
    let http = server.http.unwrap();
    let tls = server.https.unwrap().port();
    let path = format!("page?hints={LINK}");

    for (arguments, url, version) in [
        ("--http1.1", format!("http://{http}/{path}"), "HTTP/1.1"),
        ("--http2-prior-knowledge", format!("http://{http}/{path}"), "HTTP/2"),
        ("--http1.1", format!("https://localhost:{tls}/{path}"), "HTTP/1.1"),
        ("--http2", format!("https://localhost:{tls}/{path}"), "HTTP/2"),
    ] {
        let heads = heads(&[arguments], &url).await;

        let (hints, last) = heads.split_once("\r\n\r\n").unwrap();
        assert!(hints.starts_with(&format!("{version} 103")), "{heads}");
        assert!(
            hints.to_lowercase().contains("link: </app.css>; rel=preload; as=style"),
            "{heads}"
        );
        assert!(last.starts_with(&format!("{version} 200")), "{heads}");
        assert!(last.contains("x-hints: sent"), "{heads}");
    }
}

async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_http_1_client_that_is_not_known_to_cope_gets_no_hints() {
    let server = TestServer::with("page", &guest("p3_control")).await;
    let request = |version: &str, agent: &str| {
        format!(
            "GET /page?hints={LINK} HTTP/{version}\r\nhost: a\r\nuser-agent: {agent}\r\nconnection: close\r\n\r\n"
        )
    };

    for request in [request("1.1", "lynx/2.9"), request("1.0", "curl/8.0")] {
        let answer = raw(server.http.unwrap(), &request).await;

        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("x-hints: unsupported"), "{answer}");
    }
}

#[tokio::test]
async fn hints_cannot_carry_other_fields() {
    let server = TestServer::with("page", &guest("p3_control")).await;

    let answer = server.h1().await.get("/page?hints=%3C/a%3E%0D%0Aset-cookie:%20x").await;
    let over_h2 = server
        .client(wharf_tests::Protocol::H2)
        .await
        .get("/page?hints=%3C/a%3E%0D%0Aset-cookie:%20x")
        .await;

    assert!(["unsupported", "invalid"].contains(&answer.header("x-hints")), "{answer:?}");
    assert_eq!(over_h2.header("x-hints"), "invalid");
}

each_protocol!(a_response_past_its_write_deadline_is_cut_off, |protocol| async move {
    let server = TestServer::with("page", &guest("p3_control")).await;

    let answer =
        server.client(protocol).await.get("/page?chunks=100000&delay_ms=20&deadline_ms=300").await;

    assert_eq!(answer.status, 200);
    assert!(answer.broken.is_some(), "{answer:?}");
    server.until_get("/page", |answer| answer.status == 200).await;
});

each_protocol!(a_response_within_its_write_deadline_is_whole, |protocol| async move {
    let server = TestServer::with("page", &guest("p3_control")).await;

    let answer = server.client(protocol).await.get("/page?chunks=5&deadline_ms=20000").await;

    assert_eq!(answer.body.len(), 50);
    assert!(answer.broken.is_none(), "{answer:?}");
});

each_protocol!(a_limited_or_buffered_response_is_whole, |protocol| async move {
    let server = TestServer::with("page", &guest("p3_control")).await;
    let mut client = server.client(protocol).await;

    let limited = client.get("/page?chunks=4&size=20000&rate=200000").await;
    let buffered = client.get("/page?chunks=4&size=20000&delay_ms=20&buffered=1").await;
    let over = client.get("/page?chunks=40&size=100000&buffered=1").await;

    assert_eq!(limited.body.len(), 80_000, "{limited:?}");
    assert_eq!(buffered.body.len(), 80_000, "{buffered:?}");
    assert_eq!(over.body.len(), 4_000_000);
    for answer in [limited, buffered, over] {
        assert!(answer.broken.is_none());
    }
});
