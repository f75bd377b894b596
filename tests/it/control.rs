//! What a plugin may ask for its response: early hints, a write deadline, a bandwidth limit,
//! buffering.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wharf_tests::{Protocol, TestServer, each_protocol, guest};

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
    let over_h2 =
        server.client(Protocol::H2).await.get("/page?hints=%3C/a%3E%0D%0Aset-cookie:%20x").await;

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

/// The server with this `[[response]]` for everything below `/page`.
async fn with_policy(policy: &str) -> TestServer {
    TestServer::builder()
        .plugin("page", &guest("p3_control"))
        .manifest(
            "page",
            &format!("routes = [\"/page/*\"]\n[[response]]\npath = \"/page/p/*\"\n{policy}\n"),
        )
        .start()
        .await
}

const LEARNT: &str = "link=%3C/a.css%3E;%20rel=preload,%20%3C/next%3E;%20rel=next&head_ms=300";

#[tokio::test]
async fn links_of_a_response_are_the_early_hints_of_the_next() {
    let server = with_policy("early-hints = true").await;
    let tls = server.https.unwrap().port();

    for arguments in ["--http1.1", "--http2"] {
        let url = format!("https://localhost:{tls}/page/p/{arguments}?{LEARNT}");
        let first = heads(&[arguments], &url).await;
        let second = heads(&[arguments], &url).await;

        assert!(!first.contains(" 103"), "{first}");
        let (hints, last) = second.split_once("\r\n\r\n").unwrap();
        assert!(hints.contains(" 103"), "{second}");
        assert!(hints.contains("link: </a.css>; rel=preload"), "{second}");
        assert!(!hints.contains("/next"), "{second}");
        assert!(last.contains(" 200"), "{second}");
    }
}

#[tokio::test]
async fn nothing_is_learnt_where_it_is_not_asked_for_or_for_one_client_only() {
    let server = with_policy("early-hints = true").await;
    let tls = server.https.unwrap().port();

    for target in [format!("/page/other?{LEARNT}"), format!("/page/p/x?{LEARNT}&cache=private")] {
        let url = format!("https://localhost:{tls}{target}");
        heads(&["--http2"], &url).await;
        let second = heads(&["--http2"], &url).await;

        assert!(!second.contains(" 103"), "{second}");
    }
}

#[tokio::test]
async fn a_route_keeps_or_closes_its_http_1_connections() {
    let kept = with_policy("keep-alive = { timeout = \"2s\", max = 2 }").await;
    let closed = with_policy("connection = \"close\"").await;
    let request = "GET /page/p/x HTTP/1.1\r\nhost: a\r\n\r\n";

    let until_max = raw(kept.http.unwrap(), &request.repeat(3)).await;
    let until_idle = raw(kept.http.unwrap(), request).await;
    let at_once = raw(closed.http.unwrap(), &request.repeat(2)).await;

    assert_eq!(until_max.matches("HTTP/1.1 200").count(), 2, "{until_max}");
    assert_eq!(until_max.matches("keep-alive: timeout=2, max=2").count(), 1, "{until_max}");
    assert_eq!(until_max.matches("connection: close").count(), 1, "{until_max}");
    assert!(until_idle.contains("keep-alive: timeout=2, max=2"), "{until_idle}");
    assert_eq!(at_once.matches("HTTP/1.1 200").count(), 1, "{at_once}");
    assert!(at_once.contains("connection: close"), "{at_once}");
}

each_protocol!(connection_policies_are_of_http_1_only, |protocol| async move {
    let server = with_policy("keep-alive = { timeout = \"60s\", max = 100 }").await;
    let mut client = server.client(protocol).await;

    let first = client.get("/page/p/x").await;
    let second = client.get("/page/p/x").await;

    let is_h1 = matches!(protocol, Protocol::H1 | Protocol::H1Tls);
    let expected = |left| if is_h1 { format!("timeout=60, max={left}") } else { String::new() };
    assert_eq!(first.header("keep-alive"), expected(100), "{first:?}");
    assert_eq!(second.header("keep-alive"), expected(99), "{second:?}");
    assert_eq!(second.header("connection"), if is_h1 { "keep-alive" } else { "" });
});

each_protocol!(the_manifest_sets_a_deadline_and_the_plugin_overrides_it, |protocol| async move {
    let server = with_policy("write-deadline = \"300ms\"").await;
    let mut client = server.client(protocol).await;

    let over = client.get("/page/p/x?chunks=5&deadline_ms=30000&delay_ms=100").await;
    let cut = client.get("/page/p/x?chunks=100000&delay_ms=20").await;

    assert!(over.broken.is_none(), "{over:?}");
    assert!(cut.broken.is_some());
});

#[tokio::test]
async fn the_manifest_limits_bandwidth_and_the_plugin_overrides_it() {
    let server = with_policy("bandwidth = \"50KB\"").await;
    let mut client = server.h1().await;

    let begun = std::time::Instant::now();
    let limited = client.get("/page/p/x?chunks=4&size=12500").await;
    let slow = begun.elapsed();
    let begun = std::time::Instant::now();
    client.get("/page/p/x?chunks=40&size=12500&rate=100000000").await;
    let fast = begun.elapsed();

    assert_eq!(limited.body.len(), 50_000);
    assert!(slow.as_millis() >= 800, "{slow:?}");
    assert!(fast.as_secs() < 9, "{fast:?}");
}
