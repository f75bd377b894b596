//! The sample plugin `polling`: documents with versions, and polls that the host holds.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use wharf_tests::{Answer, Client, Protocol, TestServer, clients, each_protocol};

const PATH: &str = "/api/realtime/poll/board";
/// How late an answer may be on a busy machine.
const LATE: Duration = Duration::from_secs(5);

async fn server() -> TestServer {
    TestServer::builder().sample("headers").sample("polling").start().await
}

async fn put(client: &mut Client, path: &str, content: &str) -> Answer {
    let request = client.request(Method::PUT, path).body(Bytes::from(content.to_owned()));
    client.send(request.unwrap()).await
}

async fn poll(client: &mut Client, path: &str, last: &str) -> Answer {
    let request = client.request(Method::GET, path).header("x-last-version", last);
    client.send(request.body(Bytes::new()).unwrap()).await
}

/// A poll in a task of its own, which is held when this returns.
async fn held(server: &TestServer, protocol: Protocol, path: &str, last: &str) -> Held {
    let before = waiting(server).await;
    let mut client = server.client(protocol).await;
    let (path, last) = (path.to_owned(), last.to_owned());
    let task = tokio::spawn(async move {
        let answer = poll(&mut client, &path, &last).await;
        (answer, Instant::now())
    });
    while waiting(server).await <= before {
        sleep(Duration::from_millis(5)).await;
    }
    // The plugin has its request; what it does then takes no longer than this on any machine.
    sleep(Duration::from_millis(100)).await;
    Held(task)
}

struct Held(tokio::task::JoinHandle<(Answer, Instant)>);

impl Held {
    async fn answer(self) -> (Answer, Instant) {
        timeout(Duration::from_secs(90), self.0).await.unwrap().unwrap()
    }
}

/// Exchanges under way.
async fn waiting(server: &TestServer) -> u64 {
    let metrics = server.metrics().await;
    let gauge = "wharf_requests_in_flight{plugin=\"polling\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(gauge));
    value.map_or(0, |value| value.parse().unwrap())
}

each_protocol!(a_poll_is_answered_by_the_next_put, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let made = put(&mut client, PATH, "{\"a\":1}").await;
    let poll = held(&server, protocol, &format!("{PATH}?timeout=60"), "1").await;

    let changed = put(&mut client, PATH, " [\"two\"]\r\n").await;
    let told = Instant::now();
    let (answer, at) = poll.answer().await;

    assert_eq!((made.status.as_u16(), made.header("x-current-version")), (201, "1"));
    assert_eq!(made.json(), json!({ "resource": "board", "version": 1 }));
    assert_eq!((changed.status.as_u16(), changed.header("x-current-version")), (200, "2"));
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "[\"two\"]"));
    assert_eq!(answer.header("x-current-version"), "2");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-cache, no-store");
    let late = at.saturating_duration_since(told);
    assert!(late < LATE, "answered {late:?} after the PUT");
});

each_protocol!(what_is_newer_is_answered_at_once, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    put(&mut client, PATH, "1").await;
    put(&mut client, PATH, "2").await;

    let first = client.get(PATH).await;
    let older = poll(&mut client, PATH, "1").await;
    let request = client.request(Method::HEAD, PATH).body(Bytes::new()).unwrap();
    let head = client.send(request).await;

    for answer in [&first, &older] {
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "2"));
        assert_eq!(answer.header("x-current-version"), "2");
    }
    assert_eq!((head.status.as_u16(), head.header("x-current-version")), (200, "2"));
    assert!(head.body.is_empty());
});

each_protocol!(nothing_new_is_204_after_the_timeout, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    put(&mut client, PATH, "1").await;
    let begun = Instant::now();

    let quiet = poll(&mut client, &format!("{PATH}?timeout=1"), "1").await;
    let waited = begun.elapsed();
    let unknown = poll(&mut client, "/api/realtime/poll/unknown?timeout=0.2", "0").await;
    let request = client.request(Method::HEAD, PATH).header("x-last-version", "1");
    let head = client.send(request.body(Bytes::new()).unwrap()).await;

    assert_eq!((quiet.status.as_u16(), quiet.text().as_str()), (204, ""));
    assert_eq!(quiet.header("x-current-version"), "1");
    assert_eq!(quiet.header("content-type"), "");
    assert!(waited >= Duration::from_secs(1) && waited < LATE, "{waited:?}");
    assert_eq!((unknown.status.as_u16(), unknown.header("x-current-version")), (204, "0"));
    assert_eq!(head.status, 204);
});

#[tokio::test]
async fn a_document_can_be_awaited_before_it_is_there() {
    let server = server().await;
    let refused = poll(&mut server.h1().await, "/api/realtime/poll/a%2F*?timeout=60", "").await;
    let request = "/api/realtime/poll/a%2F*?timeout=60";
    let waiting = held(&server, Protocol::H2, request, "0").await;

    let made = put(&mut server.h1().await, "/api/realtime/poll/a%2F*", "null").await;
    let (answer, _) = waiting.answer().await;

    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "null"));
    assert_eq!(answer.header("x-current-version"), "1");
}

#[tokio::test]
async fn mistakes_are_told() {
    let server = server().await;
    let mut client = server.h1().await;
    put(&mut client, PATH, "1").await;

    for (path, last, status) in [
        (format!("{PATH}?timeout=x"), "1", 400),
        (format!("{PATH}?timeout=-1"), "1", 400),
        (PATH.to_owned(), "one", 400),
        (format!("/api/realtime/poll/{}", "x".repeat(129)), "1", 400),
        ("/api/realtime/poll/".to_owned(), "1", 404),
    ] {
        let answer = poll(&mut client, &path, last).await;

        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    let wrong = put(&mut client, PATH, "{").await;
    let deleted = client.request(Method::DELETE, PATH).body(Bytes::new()).unwrap();
    let deleted = client.send(deleted).await;

    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert_eq!((deleted.status.as_u16(), deleted.header("allow")), (405, "GET, HEAD, PUT"));
}

#[tokio::test]
async fn versions_go_on_after_a_restart_and_a_swap() {
    let server = server().await;
    put(&mut server.h1().await, PATH, "1").await;
    put(&mut server.h1().await, PATH, "2").await;

    let server = server.restart().await;
    let current = server.h1().await.get(PATH).await;
    let waits = held(&server, Protocol::H1, &format!("{PATH}?timeout=60"), "2").await;
    let version = server.registered("polling").await.unwrap()["version"].clone();
    let component = server.plugins().join("polling/polling.wasm");
    let mut swapped = std::fs::read(&component).unwrap();
    // A custom section: another component that does the same.
    swapped.extend_from_slice(&[0, 5, 4, b's', b'w', b'a', b'p']);
    std::fs::write(&component, swapped).unwrap();
    server
        .until_registered("polling", |entry| {
            entry["version"] != version && entry["state"] == "serving"
        })
        .await;
    put(&mut server.h1().await, PATH, "3").await;
    let (answer, _) = waits.answer().await;

    assert_eq!((current.text().as_str(), current.header("x-current-version")), ("2", "2"));
    assert_eq!((answer.text().as_str(), answer.header("x-current-version")), ("3", "3"));
}

/// Every change is seen or skipped over, none is missed between two polls, and none comes twice or in
/// another order, while several clients write at once.
#[tokio::test]
async fn polls_in_a_row_miss_nothing() {
    const WRITERS: u64 = 4;
    /// Together fewer than the requests of one connection over HTTP/1.1.
    const CHANGES: u64 = 20;
    let server = server().await;
    let mut pollers = Vec::new();
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        let mut client = server.client(protocol).await;
        pollers.push(tokio::spawn(async move {
            let mut last = 0;
            while last < WRITERS * CHANGES {
                let (path, have) = (format!("{PATH}?timeout=20"), last.to_string());
                let answer = poll(&mut client, &path, &have).await;
                assert_eq!(answer.status, 200, "after {last}: {answer:?}");
                let version: u64 = answer.header("x-current-version").parse().unwrap();
                assert!(version > last, "{version} after {last}");
                last = version;
            }
        }));
    }

    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut client = server.h1().await;
        writers.push(tokio::spawn(async move {
            for change in 0..CHANGES {
                let made = put(&mut client, PATH, &format!("[{writer},{change}]")).await;
                assert!(made.status.is_success(), "{made:?}");
            }
        }));
    }
    for task in writers.into_iter().chain(pollers) {
        timeout(Duration::from_secs(120), task).await.unwrap().unwrap();
    }
}

/// What is held is held by the host: with room for eight requests, three hundred polls wait.
#[tokio::test]
async fn held_polls_take_no_room_in_the_plugin() {
    let server = server().await;
    let manifest = server.plugins().join("polling/plugin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[limits]\nconcurrency = 8\n")).unwrap();
    let server = server.restart().await;
    put(&mut server.h1().await, PATH, "1").await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        // One connection: a hundred streams of it.
        let client = server.client(Protocol::H2c).await;
        for _ in 0..100 {
            let mut client = client.beside();
            tasks.push(tokio::spawn(async move {
                loop {
                    let answer = poll(&mut client, &format!("{PATH}?timeout=60"), "1").await;
                    // Those that came faster than they were let in.
                    if answer.status != 503 {
                        return answer;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            }));
            sleep(Duration::from_millis(20)).await;
        }
    }
    let begun = Instant::now();
    let resting = loop {
        let entry = server.registered("polling").await.unwrap();
        if entry["in_flight"] == 0 && waiting(&server).await == 300 {
            break entry;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{entry} {}", server.metrics().await);
        sleep(Duration::from_millis(50)).await;
    };

    let changed = put(&mut server.h1().await, PATH, "2").await;

    assert_eq!(changed.status, 200, "{changed:?}");
    assert!(resting["instances"].as_u64().unwrap() <= 8, "{resting}");
    for task in tasks {
        let answer = timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "2"), "{answer:?}");
    }
}

#[tokio::test]
async fn curl_and_undici_poll() {
    let server = server().await;
    put(&mut server.h1().await, PATH, "{\"n\":1}").await;
    let origin = format!("http://{}", server.http.unwrap());

    let url = format!("{origin}{PATH}");
    let arguments = ["-sS", "-i", "-H", "X-Last-Version: 0", url.as_str()];
    if let Some(output) = clients::program("curl", &arguments).await {
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(text.contains("x-current-version: 1") && text.contains("{\"n\":1}"), "{text}");
    }
    if let Some(told) = clients::node("polling.mjs", &[&origin]).await {
        assert_eq!(told["quiet"], 204);
        assert_eq!(told["version"], "2");
        assert_eq!(told["content"], json!({ "n": 2 }));
        let late = told["milliseconds"].as_f64().unwrap();
        assert!(late < LATE.as_millis() as f64, "{late} ms from PUT to answer");
    }
}

/// What is painted in one window is seen in the other.
#[tokio::test]
async fn two_windows_share_the_board() {
    let server = server().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(told) = clients::browser("polling-page.mjs", &[&origin]).await else { return };

    assert_eq!(told["errors"], json!([]));
    assert_eq!(told["seen"], told["painted"]);
    assert!(told["painted"].as_str().unwrap().contains('2'), "{told}");
}
