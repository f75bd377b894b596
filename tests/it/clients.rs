//! What clients that others wrote see: Node's `http2`, aioquic.

use serde_json::Value;
use wharf_tests::{TestServer, clients, guest};

const LINK: &str = "</app.css>; rel=preload; as=style";

#[tokio::test]
async fn node_sees_early_hints_before_the_response() {
    let server = TestServer::with("page", &guest("p3_control")).await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let path = "/page?hints=%3C/app.css%3E;%20rel=preload;%20as=style&wait=300";
    let Some(seen) = clients::node("http2.mjs", &[&origin, path]).await else { return };

    assert_eq!(seen["error"], Value::Null, "{seen}");
    assert_eq!(seen["interim"][0]["headers"][":status"], 103, "{seen}");
    assert_eq!(seen["interim"][0]["headers"]["link"], LINK, "{seen}");
    assert_eq!(seen["headers"][":status"], 200, "{seen}");
}

#[tokio::test]
async fn aioquic_sees_early_hints_before_the_response() {
    let server = TestServer::with("page", &guest("p3_control")).await;
    let port = server.https.unwrap().port();
    let url =
        format!("https://localhost:{port}/page?hints=%3C/app.css%3E;%20rel=preload;%20as=style");

    let Some(seen) = clients::python("h3_client.py", &[&url]).await else { return };

    assert_eq!(seen[0]["status"], 200, "{seen:?}");
    let interim = seen[0]["interim"].to_string();
    assert!(interim.contains("103") && interim.contains(LINK), "{seen:?}");
}

#[tokio::test]
async fn node_and_aioquic_get_trailers() {
    let server = TestServer::builder().sample("headers").sample("streaming").start().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(node) = clients::node("http2.mjs", &[&origin, "/trailers", "te=trailers"]).await
    else {
        return;
    };
    let url = format!("{origin}/trailers");
    let arguments = ["--header", "te: trailers", &url];
    let Some(aioquic) = clients::python("h3_client.py", &arguments).await else { return };

    let checksum = node["trailers"]["x-checksum"].as_str().unwrap();
    assert!(checksum.contains(|c: char| c.is_ascii_hexdigit()), "{node}");
    assert!(aioquic[0]["trailers"].to_string().contains(checksum), "{aioquic:?}");
}
