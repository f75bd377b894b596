//! A plugin that waits for its client's leaving is told at once, has the time to clean up, and its
//! instance is free again.

use std::time::{Duration, Instant};

use http::Method;
use tokio::time::timeout;
use wharf_tests::{Protocol, TestServer, each_protocol, guest};

async fn with_waiter() -> TestServer {
    TestServer::with("wait", &guest("p3_cancelled")).await
}

each_protocol!(
    a_plugin_that_waits_for_the_leaving_cleans_up_before_its_head,
    |protocol| async move {
        let server = with_waiter().await;
        let mut client = server.client(protocol).await;
        let request = client.request(Method::GET, "/wait/head").body(bytes::Bytes::new()).unwrap();

        let left = timeout(Duration::from_millis(500), client.try_send(request)).await;
        drop(client);

        assert!(left.is_err(), "it answered");
        server.until_printed("wait", "cleaned up").await;
        server.until_get("/wait/other", |answer| answer.text() == "ok").await;
    }
);

each_protocol!(
    a_plugin_that_waits_for_the_leaving_cleans_up_within_its_body,
    |protocol| async move {
        let server = with_waiter().await;
        let mut client = server.client(protocol).await;
        let mut incoming = client.open("/wait/body").await;

        let begun = incoming.line().await;
        server.until_printed("wait", "waiting").await;
        drop(incoming);
        drop(client);

        assert_eq!(begun.as_deref(), Some("begun"));
        // Over HTTP/1.1 a client that leaves is noticed with the next write, and there is none.
        if !matches!(protocol, Protocol::H1 | Protocol::H1Tls) {
            server.until_printed("wait", "cleaned up").await;
        }
        server.until_get("/wait/other", |answer| answer.text() == "ok").await;
    }
);

#[tokio::test]
async fn the_plugin_is_told_soon_after_the_client_has_left() {
    let server = with_waiter().await;
    for protocol in [Protocol::H2c, Protocol::H3] {
        let mut client = server.client(protocol).await;
        let mut incoming = client.open("/wait/body").await;
        incoming.line().await;
        let log = server.data().join("logs/plugins/wait.log");
        let told = || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.matches("request cancelled").count()
        };
        let before = told();

        let left = Instant::now();
        drop(incoming);
        drop(client);
        while told() == before {
            assert!(left.elapsed() < Duration::from_secs(10), "{protocol:?}: not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        // 100 ms is the aim; the rest is for a machine that does other things as well.
        assert!(left.elapsed() < Duration::from_secs(1), "{protocol:?}: {:?}", left.elapsed());
        println!("{protocol:?}: told after {:?}", left.elapsed());
    }
}

#[tokio::test]
async fn an_exchange_that_ends_as_it_should_is_not_cancelled() {
    let server = with_waiter().await;

    let answer = server.h1().await.get("/wait/other").await;

    assert_eq!(answer.text(), "ok");
    let log = std::fs::read_to_string(server.data().join("logs/plugins/wait.log"));
    assert!(!log.unwrap_or_default().contains("cancelled"));
}
