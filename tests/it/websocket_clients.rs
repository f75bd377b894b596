//! WebSockets as clients that others wrote see them: `ws` and undici, wsproto over h2's and aioquic's
//! streams, and Autobahn's cases by kosoku.

use serde_json::{Value, json};
use wharf_tests::{TestServer, clients, guest};

/// Cases of the set that a server can pass.
const CASES: u64 = 517;

async fn server() -> TestServer {
    TestServer::with("ws", &guest("p3_websocket")).await
}

fn check(seen: &Value) {
    assert_eq!(seen["error"], Value::Null, "{seen}");
    assert_eq!(seen["same"], json!([true, true, true, true]), "{seen}");
    assert_eq!(seen["code"], 4321, "{seen}");
}

fn check_answers(seen: &Value, large: &str) {
    assert_eq!(seen["status"], 200, "{}", seen["headers"]);
    assert_eq!(seen["answers"][0], "grüße");
    assert!(seen["answers"][1] == large);
    assert_eq!(seen["code"], 4321);
}

#[tokio::test]
async fn ws_and_undici_get_back_what_they_send() {
    let server = server().await;
    let http = server.http.unwrap();
    for (client, query, extensions) in [
        ("ws", "", ""),
        ("ws", "?compression=1", "permessage-deflate"),
        ("undici", "", ""),
        ("undici", "?compression=1", "permessage-deflate"),
    ] {
        let url = format!("ws://{http}/ws{query}");

        let Some(seen) = clients::node("websocket.mjs", &[client, &url]).await else { return };

        check(&seen);
        assert!(seen["extensions"].as_str().unwrap().starts_with(extensions), "{seen}");
    }
    server.until_printed("ws", "closed somebody 4321").await;
}

#[tokio::test]
async fn h2_gets_back_what_it_sends_over_http2() {
    let server = server().await;
    let large = "again and ".repeat(20_000);
    for url in [
        format!("https://localhost:{}/ws", server.https.unwrap().port()),
        format!("http://{}/ws", server.http.unwrap()),
    ] {
        let arguments = [url.as_str(), "grüße", &large];
        let Some(seen) = clients::python("websocket_h2.py", &arguments).await else { return };

        check_answers(&seen[0], &large);
    }
}

#[tokio::test]
async fn aioquic_gets_back_what_it_sends_over_http3() {
    let server = server().await;
    let url = format!("https://localhost:{}/ws", server.https.unwrap().port());
    let large = "again and ".repeat(10_000);

    let arguments = [url.as_str(), "grüße", &large];
    let Some(seen) = clients::python("websocket_h3.py", &arguments).await else { return };

    check_answers(&seen[0], &large);
    server.until_printed("ws", "closed somebody 4321").await;
}

#[tokio::test]
async fn autobahns_cases_are_passed() {
    let server = server().await;
    let url = format!("ws://{}/ws?compression=1", server.http.unwrap());

    let Some(seen) = clients::kosoku("autobahn.py", &[&url]).await else { return };

    assert_eq!(seen["wrong"], json!([]), "{seen}");
    assert_eq!(seen["cases"], CASES, "{seen}");
}
