//! Nothing is granted that is not named.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharf_tests::{TestServer, guest};

#[tokio::test]
async fn files_are_seen_only_where_granted() {
    let component = guest("p2_files");
    let server = TestServer::builder()
        .plugin("none", &component)
        .plugin("own", &component)
        .manifest("own", "[capabilities]\nfiles = { data = \"rw\" }")
        .plugin("read", &component)
        .manifest("read", "[capabilities]\nfiles = { data = \"r\" }")
        .start()
        .await;
    let mut client = server.h1().await;

    assert_ne!(client.get("/none?op=write&path=data/x").await.status, 200);
    assert_eq!(client.get("/own?op=write&path=data/x").await.status, 200);
    assert!(server.data().join("plugins/own/data/x").exists());
    assert_ne!(client.get("/own?op=read&path=data/../../../../ready.json").await.status, 200);
    assert_ne!(client.get("/own?op=read&path=/etc/passwd").await.status, 200);
    assert_ne!(client.get("/read?op=write&path=data/x").await.status, 200);
}

#[tokio::test]
async fn environment_and_settings_come_from_the_manifest() {
    let server = TestServer::builder()
        .plugin("env", &guest("p2_env_config"))
        .manifest("env", "[capabilities]\nenv = [\"GRANTED\"]\n[config]\ngreeting = \"hello\"")
        .env("GRANTED", "yes")
        .env("SECRET", "no")
        .start()
        .await;

    let answer = server.h1().await.get("/env").await.text();

    assert!(answer.contains("GRANTED") && answer.contains("yes"), "{answer}");
    assert!(!answer.contains("SECRET"), "{answer}");
    assert!(answer.contains("greeting") && answer.contains("hello"), "{answer}");
}

/// A server that answers every connection once.
async fn upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _read = socket.read(&mut request).await;
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nupstream";
            let _written = socket.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn outbound_requests_reach_granted_origins_only() {
    let address = upstream().await;
    let grant = format!("[capabilities]\noutbound = [\"http://{address}\"]");
    let server = TestServer::builder()
        .plugin("p3", &guest("p3_outbound"))
        .manifest("p3", &grant)
        .plugin("p2", &guest("p2_outbound"))
        .manifest("p2", &grant)
        .plugin("none", &guest("p3_outbound"))
        .start()
        .await;
    let mut client = server.h1().await;

    for name in ["p3", "p2"] {
        let answer = client.get(&format!("/{name}?url=http://{address}/x")).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "upstream"), "{name}");
    }
    assert_eq!(client.get(&format!("/none?url=http://{address}/x")).await.status, 502);
    assert_eq!(client.get("/p3?url=http://127.0.0.1:1/x").await.status, 502);
}

#[tokio::test]
async fn the_servers_figures_are_told_where_granted() {
    let server = TestServer::builder()
        .plugin("open", &guest("p3_events"))
        .manifest("open", "routes = [\"/open/*\", \"/figures\"]\n[capabilities]\nmetrics = true\n")
        .plugin("closed", &guest("p3_events"))
        .start()
        .await;
    let mut client = server.h1().await;

    let refused = client.get("/closed/figures").await.text();
    let first: Value = serde_json::from_slice(&client.get("/figures").await.body).unwrap();
    let second: Value = serde_json::from_slice(&client.get("/figures").await.body).unwrap();

    assert!(refused.contains("`metrics = true`"), "{refused}");
    let number = |figures: &Value, name: &str| figures[name].as_u64().unwrap();
    for name in ["cpu_us", "cores", "resident_bytes", "total_bytes", "uptime_us", "requests"] {
        assert!(number(&first, name) > 0, "{name}: {first}");
    }
    for name in ["cpu_us", "uptime_us", "requests"] {
        assert!(number(&second, name) > number(&first, name), "{name}: {first} {second}");
    }
    assert_eq!((number(&second, "in_flight"), number(&second, "connections")), (1, 1));
    assert_eq!((number(&second, "event_streams"), number(&second, "websockets")), (0, 0));
    let resident = number(&second, "resident_bytes");
    assert!(resident.abs_diff(server.memory()) < 64 << 20, "{resident}");
    let metrics = server.metrics().await;
    assert!(metrics.contains("wharf_event_streams 0"), "{metrics}");
}
