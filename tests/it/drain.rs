//! The end: what has begun is finished.

use std::time::Duration;

use wharf_tests::{TestServer, each_protocol, guest};

each_protocol!(sigterm_lets_a_request_finish, |protocol| async move {
    let mut server = TestServer::with("sleep", &guest("p3_sleep")).await;
    let mut client = server.client(protocol).await;

    let slow = async { client.get("/sleep?ms=1500").await };
    let end = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.signal("TERM").await;
    };
    let (answer, ()) = tokio::join!(slow, end);
    drop(client);

    assert_eq!(answer.text(), "1500");
    assert_eq!(server.wait().await, Some(0), "{}", server.log());
});

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let mut server = TestServer::with("shop", &guest("p3_hello")).await;
    server.h1().await.get("/shop").await;
    let begun = std::time::Instant::now();

    server.signal("INT").await;

    assert_eq!(server.wait().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_with_work_left() {
    let mut server = TestServer::with("sleep", &guest("p3_sleep")).await;
    let mut client = server.h1().await;
    let slow = async { client.try_send_get("/sleep?ms=20000").await };
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.signal("TERM").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.signal("TERM").await;
        server.wait().await
    };

    let (_cut_off, code) = tokio::join!(slow, end);

    assert_eq!(code, Some(1));
}
