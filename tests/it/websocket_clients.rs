//! WebSockets as clients that others wrote see them: `ws` and undici, wsproto over h2's and aioquic's
//! streams, and Autobahn's cases by kosoku.

use serde_json::{Value, json};
use wharf_tests::{TestServer, clients, guest};

/// Autobahn's cases that take no time: all of the protocol, and of large messages and compression each kind.
const QUICK: [&str; 16] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.1", "9.2.2", "9.3.9", "9.5.6", "9.7.1",
    "10.*", "12.*.1", "12.*.10", "13.*.5",
];
/// All of them, in steps.
const GROUPS: [&str; 21] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.1.*", "12.2.*", "12.3.*",
    "12.4.*", "12.5.*", "13.1.*", "13.2.*", "13.3.*", "13.4.*", "13.5.*", "13.6.*", "13.7.*",
];

async fn server() -> TestServer {
    // A message of 16 MiB is there several times while it is echoed.
    TestServer::builder()
        .plugin("ws", &guest("p3_websocket"))
        .manifest("ws", "[limits]\nmemory = \"256MiB\"\ncpu-time = \"10s\"\n")
        .start()
        .await
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
    let large = "again and ".repeat(10_000);
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
#[ignore = "takes more than a minute"]
async fn autobahns_quick_cases_are_passed() {
    let server = server().await;

    autobahn(&server, &QUICK).await;
}

#[tokio::test]
#[ignore = "takes some minutes"]
async fn all_of_autobahns_cases_are_passed() {
    let server = server().await;
    let mut cases = 0;

    for group in GROUPS {
        cases += autobahn(&server, &[group]).await;
    }

    assert!(cases == 0 || cases == 517, "{cases}");
}

/// Runs these cases; how many they were, none without kosoku.
async fn autobahn(server: &TestServer, cases: &[&str]) -> u64 {
    let url = format!("ws://{}/ws?compression=1&echo=1", server.http.unwrap());
    let arguments = [&[url.as_str()], cases].concat();

    let Some(seen) = clients::kosoku("autobahn.py", &arguments).await else { return 0 };

    assert_eq!(seen["wrong"], json!([]), "{cases:?}: {seen}");
    seen["cases"].as_u64().unwrap()
}
