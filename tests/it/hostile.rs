//! Guests that misbehave: each gets its proper end, and costs the others nothing.

use std::time::{Duration, Instant};

use wharf_tests::{TestServer, each_protocol, guest};

const QUICK: &str = "[limits]\nrequest-timeout = \"1s\"\ncpu-time = \"300ms\"";

each_protocol!(a_guest_that_loops_for_ever_is_504, |protocol| async move {
    let server = TestServer::builder()
        .plugin("loop", &guest("hostile_loop"))
        .manifest("loop", "[limits]\ncpu-time = \"300ms\"")
        .start()
        .await;

    let answer = server.client(protocol).await.get("/loop/").await;

    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.json()["request_id"].is_string());
    assert_eq!(server.client(protocol).await.get("/loop/ok").await.status, 200);
});

#[tokio::test]
async fn a_guest_that_allocates_for_ever_is_503_and_the_server_stays_small() {
    let server = TestServer::with("alloc", &guest("hostile_alloc")).await;
    server.h1().await.get("/alloc/").await;
    let before = server.memory();

    for _ in 0..5 {
        let answer = server.h1().await.get("/alloc/").await;
        assert_eq!(answer.status, 503, "{answer:?}");
    }

    let grown = server.memory().saturating_sub(before);
    assert!(grown < 96 << 20, "grew by {grown} bytes");
}

each_protocol!(a_guest_that_never_answers_is_504, |protocol| async move {
    let server = TestServer::builder()
        .plugin("silent", &guest("hostile_silent"))
        .manifest("silent", QUICK)
        .start()
        .await;

    let answer = server.client(protocol).await.get("/silent/").await;

    assert_eq!(answer.status, 504, "{answer:?}");
});

each_protocol!(a_guest_that_traps_is_500_with_the_request_id, |protocol| async move {
    let server = TestServer::with("trap", &guest("hostile_trap")).await;

    let answer = server.client(protocol).await.get("/trap/").await;

    assert_eq!(answer.status, 500);
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    server.until_logged(&id).await;
    assert!(!answer.text().contains("wasm"), "the backtrace is for the log: {answer:?}");
});

each_protocol!(a_guest_that_traps_mid_body_never_looks_complete, |protocol| async move {
    let server = TestServer::with("trap", &guest("hostile_trap_mid_body")).await;

    let answer = server.client(protocol).await.try_send_get("/trap/").await;

    // The head may be lost with the stream; what must not happen is a clean end.
    if let Ok(answer) = answer {
        assert!(answer.broken.is_some(), "{answer:?}");
    }
});

each_protocol!(a_guest_that_writes_nothing_for_ever_is_cut_off, |protocol| async move {
    let server = TestServer::builder()
        .plugin("zero", &guest("hostile_zero_chunks"))
        .manifest("zero", "[limits]\nrequest-timeout = \"1s\"\ncpu-time = \"60s\"")
        .start()
        .await;
    let begun = Instant::now();

    let answer = server.client(protocol).await.try_send_get("/zero/").await;

    if let Ok(answer) = answer {
        assert!(answer.broken.is_some(), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
});

#[tokio::test]
async fn a_guest_that_floods_its_output_fills_no_disk() {
    let server = TestServer::builder()
        .plugin("flood", &guest("hostile_flood_output"))
        .manifest("flood", "[limits]\ncpu-time = \"20s\"")
        .start()
        .await;

    let answer = server.h1().await.get("/flood/much").await;
    let logs = server.data().join("logs/plugins");
    let bytes: u64 = std::fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();

    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(bytes < 24 << 20, "{bytes} bytes of log");
    assert_eq!(server.h1().await.get("/flood/ok").await.status, 200);
}

#[tokio::test]
async fn spinning_guests_leave_other_plugins_responsive() {
    let server = TestServer::builder()
        .plugin("loop", &guest("hostile_loop"))
        .plugin("shop", &guest("p3_hello"))
        .start()
        .await;
    let mut spinning = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = server.h1().await;
        spinning.spawn(async move { client.get("/loop/").await.status });
    }

    let mut answered = 0;
    let mut client = server.h1().await;
    for _ in 0..100 {
        assert_eq!(client.get("/shop").await.status, 200);
        answered += 1;
    }

    assert_eq!(answered, 100);
    while let Some(status) = spinning.join_next().await {
        assert_eq!(status.unwrap(), 504);
    }
}

#[tokio::test]
async fn past_its_concurrency_a_plugin_is_503_with_retry_after() {
    let server = TestServer::builder()
        .plugin("sleep", &guest("p3_sleep"))
        .manifest("sleep", "[limits]\nconcurrency = 1")
        .start()
        .await;
    let mut first = server.h1().await;
    let held = async { first.get("/sleep?ms=4000").await.status };
    let refused = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.h1().await.get("/sleep?ms=1").await
    };

    let (held, refused) = tokio::join!(held, refused);

    assert_eq!(held, 200);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let server = TestServer::builder()
        .plugin("sleep", &guest("p3_sleep"))
        .manifest("sleep", "[limits]\nconcurrency = 1")
        .start()
        .await;

    let mut leaving = server.h1().await;
    let left =
        tokio::time::timeout(Duration::from_millis(300), leaving.get("/sleep?ms=20000")).await;
    drop(leaving);
    assert!(left.is_err());

    let answer = server.until_get("/sleep?ms=1", |answer| answer.status == 200).await;
    assert_eq!(answer.text(), "1");
}
