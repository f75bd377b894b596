//! Chains of plugins, across WASI versions.

use bytes::Bytes;
use http::Method;
use wharf_tests::{Protocol, TestServer, guest};

#[tokio::test]
async fn middleware_of_either_wasi_wraps_plugins_of_either() {
    let server = TestServer::builder()
        .plugin("mw3", &guest("mw_p3"))
        .manifest("mw3", "routes = []")
        .plugin("mw2", &guest("mw_p2"))
        .manifest("mw2", "routes = []")
        .plugin("a", &guest("p3_headers"))
        .manifest("a", r#"middleware = ["mw3", "mw2"]"#)
        .plugin("b", &guest("p2_hello"))
        .manifest("b", r#"middleware = ["mw2", "mw3"]"#)
        .start()
        .await;
    let mut client = server.h1().await;

    let a = client.get("/a/x").await;
    let b = client.get("/b/x").await;

    assert_eq!(a.status, 200, "{a:?}");
    assert_eq!(a.header("x-mw"), "p3");
    assert!(a.text().contains("x-mw-request"), "{a:?}");
    assert_eq!(b.status, 200, "{b:?}");
    assert_eq!(b.header("x-mw"), "p3");
    assert!(b.text().starts_with("hello from p2_hello"));
}

#[tokio::test]
async fn middleware_may_answer_itself() {
    let server = TestServer::builder()
        .plugin("guard", &guest("mw_p3"))
        .manifest("guard", "routes = []")
        .plugin("shop", &guest("p3_hello"))
        .manifest("shop", "routes = [\"/*\"]\nmiddleware = [\"guard\"]")
        .start()
        .await;

    assert_eq!(server.h1().await.get("/blocked").await.status, 403);
    assert_eq!(server.h1().await.get("/open").await.status, 200);
}

#[tokio::test]
async fn bodies_pass_through_middleware_whole() {
    let server = TestServer::builder()
        .plugin("mw", &guest("mw_p3"))
        .manifest("mw", "routes = []")
        .plugin("echo", &guest("p3_echo"))
        .manifest("echo", r#"middleware = ["mw"]"#)
        .start()
        .await;
    let mut client = server.h1().await;
    let body = Bytes::from(vec![3; 2_000_000]);
    let request = client.request(Method::POST, "/echo").body(body.clone()).unwrap();

    let answer = client.send(request).await;

    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

#[tokio::test]
async fn a_plugin_is_never_served_without_its_middleware() {
    let server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .manifest("shop", r#"middleware = ["guard"]"#)
        .start()
        .await;
    assert_eq!(server.h1().await.get("/shop").await.status, 404);
    let entry = server.registered("shop").await.unwrap();
    assert!(entry["last_error"].as_str().unwrap().contains("\"guard\""), "{entry}");

    std::fs::write(server.plugins().join("guard.toml"), "routes = []").unwrap();
    server.install("guard", &guest("mw_p3"));
    server.until_get("/shop", |answer| answer.status == 200).await;

    std::fs::remove_file(server.plugins().join("guard.wasm")).unwrap();
    server.until_get("/shop", |answer| answer.status == 404).await;
}

#[tokio::test]
async fn requests_beside_open_streams_reach_their_own_plugin() {
    let server = TestServer::builder()
        .plugin("mw", &guest("mw_p3"))
        .manifest("mw", "routes = []")
        .plugin("stream", &guest("p3_stream"))
        .manifest("stream", r#"middleware = ["mw"]"#)
        .plugin("facts", &guest("p3_exchange"))
        .manifest("facts", r#"middleware = ["mw"]"#)
        .start()
        .await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut client = server.h1().await;
        let stream = client.open("/stream?chunks=0&size=1&delay_ms=50").await;
        open.push((client, stream));
    }

    for _ in 0..4 {
        let answer = server.client(Protocol::H2).await.get("/facts").await;

        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["protocol"], "HTTP/2");
    }
}

#[tokio::test]
async fn middleware_has_at_least_the_time_of_what_it_wraps() {
    let server = TestServer::builder()
        .plugin("mw", &guest("mw_p3"))
        .manifest("mw", "routes = []\n[limits]\nrequest-timeout = \"200ms\"")
        .plugin("sleep", &guest("p3_sleep"))
        .manifest("sleep", r#"middleware = ["mw"]"#)
        .plugin("stream", &guest("p3_stream"))
        .manifest("stream", r#"middleware = ["mw"]"#)
        .start()
        .await;

    let slow = server.h1().await.get("/sleep?ms=600").await;
    let stream = server.h1().await.get("/stream?chunks=2&size=1&delay_ms=600").await;

    assert_eq!(slow.status, 200, "{slow:?}");
    assert_eq!(stream.text(), "ab");
    assert!(stream.broken.is_none(), "{stream:?}");
}
