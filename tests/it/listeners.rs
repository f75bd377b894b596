//! Certificates, slow clients, switches, and what the operator did wrong.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_tests::{Protocol, TestServer, guest, wharf};

/// Waits for the server to close the connection; what it sent before.
async fn until_closed(mut socket: TcpStream) -> (Vec<u8>, Duration) {
    let begun = Instant::now();
    let mut received = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut received)).await;
    assert!(ended.is_ok(), "the connection was not closed");
    (received, begun.elapsed())
}

#[tokio::test]
async fn slow_clients_are_closed_and_others_served() {
    let server = TestServer::builder()
        .plugin("read", &guest("p3_read"))
        .config(
            "[limits]\nhandshake-timeout = \"1s\"\nsniff-timeout = \"1s\"\nheader-timeout = \"1s\"\n\
             idle-timeout = \"2s\"\nbody-idle-timeout = \"1s\"",
        )
        .start()
        .await;
    let http = server.http.unwrap();
    let https = server.https.unwrap();

    let silent_tls = TcpStream::connect(https).await.unwrap();
    let silent = TcpStream::connect(http).await.unwrap();
    let mut half_head = TcpStream::connect(http).await.unwrap();
    half_head.write_all(b"GET /read HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut half_body = TcpStream::connect(http).await.unwrap();
    half_body
        .write_all(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        .await
        .unwrap();
    assert_eq!(server.h1().await.get("/read").await.status, 200);

    let (_, _, (half_head, _), (half_body, _)) = tokio::join!(
        until_closed(silent_tls),
        until_closed(silent),
        until_closed(half_head),
        until_closed(half_body)
    );

    assert!(half_head.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&half_head));
    assert!(half_body.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&half_body));
}

#[tokio::test]
async fn connections_per_address_are_bounded() {
    let server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .config("[limits]\nconnections-per-address = 3")
        .start()
        .await;
    let http = server.http.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(http).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;

    // The reset may be seen by any of the three.
    let refused = async {
        let mut fourth = TcpStream::connect(http).await?;
        fourth.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        fourth.read(&mut [0]).await
    };
    let refused = refused.await;

    assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
    let metrics = server.metrics().await;
    assert!(metrics.contains("wharf_connections_refused_total{reason=\"address\"} 1"), "{metrics}");
    drop(held);
    server.until_get("/shop", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn http2_and_http3_can_be_turned_off() {
    let server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .arguments(&["--http2", "off", "--http3", "off"])
        .start()
        .await;

    let answer = server.client(Protocol::H1Tls).await.get("/shop").await;

    assert_eq!(answer.status, 200);
    assert!(answer.header("alt-svc").is_empty());
}

#[tokio::test]
async fn mistakes_in_configuration_are_told_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    let config = dir.path().join("wharf.toml");
    for (text, arguments, expected) in [
        ("htttp = \"off\"", &[][..], "did you mean `http`"),
        ("", &["--http", "nonsense"], "nonsense"),
        ("", &["--http2", "perhaps"], "perhaps"),
        ("[limits]\nheader-timeout = \"soon\"", &[], "`header-timeout`: `soon` is not a duration"),
    ] {
        std::fs::write(&config, text).unwrap();

        let output = Command::new(wharf())
            .current_dir(dir.path())
            .arg("serve")
            .args(arguments)
            .output()
            .unwrap();

        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

#[tokio::test]
async fn a_taken_port_is_said_plainly() {
    let server = TestServer::builder().start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    let http = server.http.unwrap().to_string();

    let output = Command::new(wharf())
        .current_dir(dir.path())
        .args(["serve", "--http", &http, "--https", "off", "--admin", "off"])
        .output()
        .unwrap();

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("in use") && told.contains(&http), "{told}");
}
