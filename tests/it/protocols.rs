//! The same answers over HTTP/1.1, HTTP/2 and HTTP/3.

use http::Method;
use wharf_tests::{Protocol, TestServer, each_protocol, guest};

each_protocol!(a_plugin_answers_with_its_path_and_prefix, |protocol| async move {
    let server = TestServer::with("shop", &guest("p3_hello")).await;

    let answer = server.client(protocol).await.get("/shop/a/b?c=d").await;

    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("hello from p3_hello"), "{answer:?}");
    assert_eq!(answer.header("x-path"), "/a/b");
    assert_eq!(answer.header("x-prefix"), "/shop");
    assert!(!answer.header("date").is_empty());
});

each_protocol!(a_0_2_plugin_answers_too, |protocol| async move {
    let server = TestServer::with("shop", &guest("p2_hello")).await;

    let answer = server.client(protocol).await.get("/shop/a").await;

    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("hello from p2_hello"), "{answer:?}");
});

each_protocol!(a_body_is_echoed_whole, |protocol| async move {
    let server = TestServer::with("echo", &guest("p3_echo")).await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();

    let answer = server.client(protocol).await.post("/echo", body.clone()).await;

    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
});

each_protocol!(a_0_2_plugin_echoes_a_body, |protocol| async move {
    let server = TestServer::with("echo", &guest("p2_echo")).await;
    let body = vec![7_u8; 300_000];

    let answer = server.client(protocol).await.post("/echo", body.clone()).await;

    assert!(answer.body == body, "{} bytes came back", answer.body.len());
});

each_protocol!(head_has_the_head_of_get_and_no_body, |protocol| async move {
    let server = TestServer::with("shop", &guest("p3_hello")).await;
    let mut client = server.client(protocol).await;
    let request = client.request(Method::HEAD, "/shop").body(bytes::Bytes::new()).unwrap();

    let answer = client.send(request).await;

    assert_eq!(answer.status, 200);
    assert!(answer.body.is_empty());
    assert!(answer.broken.is_none(), "{answer:?}");
});

each_protocol!(a_connection_serves_many_requests, |protocol| async move {
    let server = TestServer::with("facts", &guest("p3_exchange")).await;
    let mut client = server.client(protocol).await;

    let mut last = client.get("/facts").await.json();
    for _ in 1..50 {
        last = client.get("/facts").await.json();
    }

    assert_eq!(last["requests"], 50);
});

each_protocol!(nothing_served_is_404_as_a_problem_document, |protocol| async move {
    let server = TestServer::builder().start().await;

    let answer = server.client(protocol).await.get("/nothing").await;

    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["status"], 404);
    assert_eq!(answer.json()["request_id"].as_str().unwrap().len(), 16);
});

each_protocol!(the_wrong_method_is_405_with_allow, |protocol| async move {
    let server = TestServer::builder()
        .plugin("shop", &guest("p3_hello"))
        .manifest("shop", r#"routes = ["GET /x", "POST /x"]"#)
        .start()
        .await;
    let mut client = server.client(protocol).await;
    let request = client.request(Method::DELETE, "/x").body(bytes::Bytes::new()).unwrap();

    let answer = client.send(request).await;

    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "GET, HEAD, POST");
});

each_protocol!(a_body_over_the_limit_is_413, |protocol| async move {
    let server = TestServer::builder()
        .plugin("read", &guest("p3_read"))
        .manifest("read", "[limits]\nbody = \"64KiB\"")
        .start()
        .await;

    let answer = server.client(protocol).await.post("/read", vec![0; 100_000]).await;

    assert_eq!(answer.status, 413, "{answer:?}");
});

each_protocol!(the_exchange_knows_its_connection, |protocol| async move {
    let server = TestServer::with("facts", &guest("p3_exchange")).await;

    let facts = server.client(protocol).await.get("/facts").await.json();

    let expected = match protocol {
        Protocol::H1 | Protocol::H1Tls => "HTTP/1.1",
        Protocol::H2 | Protocol::H2c => "HTTP/2",
        Protocol::H3 => "HTTP/3",
    };
    assert_eq!(facts["protocol"], expected);
    assert_eq!(facts["requests"], 1);
    assert!(facts["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(facts["forged"].as_str().unwrap().contains("unknown-token"), "{facts}");
});

#[tokio::test]
async fn tls_over_tcp_announces_http3() {
    let server = TestServer::with("shop", &guest("p3_hello")).await;
    let port = server.https.unwrap().port();

    let answer = server.client(Protocol::H2).await.get("/shop").await;
    let cleartext = server.client(Protocol::H2c).await.get("/shop").await;

    assert!(answer.header("alt-svc").starts_with(&format!("h3=\":{port}\"")), "{answer:?}");
    assert_eq!(cleartext.status, 200);
    assert!(cleartext.header("alt-svc").is_empty());
}

each_protocol!(the_facts_of_a_connection_are_json_or_a_page, |protocol| async move {
    let server = TestServer::builder().sample("headers").sample("hello").start().await;
    let mut client = server.client(protocol).await;

    let json = client.get("/protocol").await;
    let request = client.request(Method::GET, "/protocol");
    let request = request.header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = client.send(request.body(Default::default()).unwrap()).await;

    assert_eq!((&json.json()["requests"], &json.json()["early_data"]), (&1.into(), &false.into()));
    assert_eq!(json.header("vary"), "accept");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text().contains("\"requests\":2"), "{page:?}");
});

each_protocol!(realtime_connections_are_kept_over_http_1_only, |protocol| async move {
    let server = TestServer::builder().sample("headers").sample("hello").start().await;

    let answer = server.client(protocol).await.get("/api/realtime/connection").await;

    assert!(answer.json()["connection_id"].is_u64(), "{answer:?}");
    let expected = if protocol == Protocol::H1 { "timeout=30, max=100" } else { "" };
    assert_eq!(answer.header("keep-alive"), expected, "{answer:?}");
    assert_eq!(answer.header("connection").is_empty(), protocol != Protocol::H1);
});
