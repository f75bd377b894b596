//! The sample plugin `events`: event streams and long polls that the host holds.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use wharf_tests::{Answer, Client, EventStream, Protocol, StreamEvent, TestServer};
use wharf_tests::{clients, each_protocol};

const NOTIFICATIONS: &str = "/sse/notifications";
const ORDERS: &str = "/api/trading/orders";
const STREAM: &str = "/api/realtime/events/stream";
const EVENTS: &str = "/api/realtime/events";

async fn server() -> TestServer {
    TestServer::builder().sample("headers").sample("events").start().await
}

async fn open(server: &TestServer, protocol: Protocol, path: &str) -> EventStream {
    EventStream::open(server.client(protocol).await, path, &[]).await
}

async fn post(client: &mut Client, path: &str, content: &Value) -> Answer {
    client.post(path, content.to_string()).await
}

async fn send(client: &mut Client, method: Method, path: &str) -> Answer {
    let request = client.request(method, path).body(Bytes::new()).unwrap();
    client.send(request).await
}

/// Begins a session; its cookie.
async fn session(server: &TestServer, user: &str) -> String {
    let begun = post(&mut server.h1().await, "/session", &json!({ "user_id": user })).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let (cookie, _) = begun.header("set-cookie").split_once(';').unwrap();
    cookie.to_owned()
}

async fn notify(server: &TestServer, user: &str, message: &str) -> Answer {
    let content = json!({ "user_id": user, "type": "info", "message": message });
    let added = post(&mut server.h1().await, NOTIFICATIONS, &content).await;
    assert_eq!(added.status, 201, "{added:?}");
    added
}

async fn notifications(
    server: &TestServer,
    protocol: Protocol,
    cookie: &str,
    last: &str,
) -> (EventStream, StreamEvent) {
    let mut fields = vec![("cookie", cookie)];
    if !last.is_empty() {
        fields.push(("last-event-id", last));
    }
    let client = server.client(protocol).await;
    let mut stream = EventStream::open(client, NOTIFICATIONS, &fields).await;
    assert_eq!(stream.status, 200);
    let connected = stream.next().await.unwrap();
    assert_eq!(connected.name, "connected");
    (stream, connected)
}

/// The next notification's message and id.
async fn message(stream: &mut EventStream) -> (String, String) {
    let event = stream.next_but("heartbeat").await.expect("the stream goes on");
    assert_eq!(event.name, "notification");
    assert!(!event.id.is_empty());
    (event.json()["message"].as_str().unwrap().to_owned(), event.id)
}

/// Puts another version of the plugin in place: a custom section more, which does nothing.
async fn swap(server: &TestServer, name: &str) {
    let version = server.registered(name).await.unwrap()["version"].clone();
    let component = server.plugins().join(format!("{name}/{name}.wasm"));
    let mut swapped = std::fs::read(&component).unwrap();
    swapped.extend_from_slice(&[0, 5, 4, b's', b'w', b'a', b'p']);
    std::fs::write(&component, swapped).unwrap();
    let is_new = |entry: &Value| entry["version"] != version && entry["state"] == "serving";
    server.until_registered(name, is_new).await;
}

fn is_event_stream(stream: &EventStream) {
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert!(stream.headers["cache-control"].to_str().unwrap().contains("no-cache"));
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    assert!(!stream.headers.contains_key("content-encoding"));
    assert!(!stream.headers.contains_key("content-length"));
}

each_protocol!(the_time_comes_once_a_second, |protocol| async move {
    let server = server().await;

    let mut stream = open(&server, protocol, "/sse/time").await;
    let mut seconds = Vec::new();
    let mut arrived = Vec::new();
    for _ in 0..4 {
        let event = stream.next().await.unwrap();
        arrived.push(Instant::now());
        assert_eq!((event.name.as_str(), event.data.len()), ("message", 20), "{event:?}");
        assert!(event.data.ends_with('Z') && event.data.as_bytes()[10] == b'T', "{event:?}");
        let second: u32 = event.data[17..19].parse().unwrap();
        let minute: u32 = event.data[14..16].parse().unwrap();
        seconds.push(minute * 60 + second);
    }

    is_event_stream(&stream);
    assert_eq!(stream.headers["access-control-allow-origin"], "*");
    for pair in seconds.windows(2) {
        assert_eq!((pair[0] + 1) % 3600, pair[1], "{seconds:?}");
    }
    let whole = arrived[3] - arrived[0];
    assert!(whole > Duration::from_secs(2) && whole < Duration::from_secs(10), "{whole:?}");
});

each_protocol!(metrics_are_the_servers_own, |protocol| async move {
    let server = server().await;
    let begun = Instant::now();

    let mut slow = open(&server, protocol, "/sse/live-metrics").await;
    let first = slow.next().await.unwrap();
    let waited = begun.elapsed();
    let mut fast = open(&server, protocol, "/sse/live-metrics?interval=0.2").await;
    // Over HTTP/1.1 a connection ends after a hundred.
    let mut client = server.client(Protocol::H2).await;
    let mut most = 0.0_f64;
    let mut users = 0;
    let until = Instant::now() + Duration::from_secs(20);
    while (most <= 1.0 || users < 2) && Instant::now() < until {
        for _ in 0..20 {
            client.get("/api/realtime/websocket/info").await;
        }
        let event = fast.next().await.unwrap();
        assert_eq!(event.name, "metrics");
        most = most.max(event.json()["requests_per_second"].as_f64().unwrap());
        users = users.max(event.json()["active_users"].as_u64().unwrap());
    }

    is_event_stream(&slow);
    assert_eq!(first.name, "metrics");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    let now = first.json();
    let memory = now["memory"].as_u64().unwrap();
    let real = server.memory();
    assert!(memory > real / 4 && memory < real * 4, "{memory} of {real}");
    assert!(now["cpu"].as_f64().unwrap() >= 0.0);
    assert!(now["timestamp"].as_f64().unwrap() > 1.7e9);
    assert!(most > 1.0, "no request was counted");
    assert!(users >= 2, "{users} follow");
});

#[tokio::test]
async fn metrics_come_at_the_interval_that_was_asked_for() {
    let server = server().await;
    let mut stream = open(&server, Protocol::H1, "/sse/live-metrics?interval=2").await;

    let first = stream.next().await.unwrap().json()["timestamp"].as_f64().unwrap();
    let second = stream.next().await.unwrap().json()["timestamp"].as_f64().unwrap();
    let wrong = server.h1().await.get("/sse/live-metrics?interval=0").await;

    assert!((second - first - 2.0).abs() < 1.5, "{first} {second}");
    assert_eq!(wrong.status, 400, "{wrong:?}");
}

each_protocol!(a_users_notifications_come_with_ids, |protocol| async move {
    let server = server().await;
    let cookie = session(&server, "ada").await;

    let (mut stream, connected) = notifications(&server, protocol, &cookie, "").await;
    notify(&server, "bob", "not for ada").await;
    // What would be fields of the stream is text.
    let evil = "one\r\ndata: two\n\nid: 5\r\revent: x\u{2028}\u{0}";
    notify(&server, "ada", evil).await;
    notify(&server, "ada", "second").await;
    let (first, first_id) = message(&mut stream).await;
    let (second, second_id) = message(&mut stream).await;
    let beat = stream.next().await.unwrap();

    is_event_stream(&stream);
    assert_eq!(connected.json()["type"], "connected");
    assert_eq!(connected.json()["user_id"], "ada");
    assert_eq!(first, evil);
    assert_eq!(second, "second");
    assert_ne!(first_id, second_id);
    assert_eq!((beat.name.as_str(), beat.id.as_str()), ("heartbeat", ""));
});

#[tokio::test]
async fn heartbeats_come_every_two_seconds() {
    let server = server().await;
    let cookie = session(&server, "idle").await;
    let (mut stream, _) = notifications(&server, Protocol::H1, &cookie, "").await;

    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(stream.next().await.unwrap().name, "heartbeat");
    }
    let waited = begun.elapsed();

    assert!(waited > Duration::from_secs(3) && waited < Duration::from_secs(12), "{waited:?}");
}

each_protocol!(nobody_gets_notifications_without_a_session, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let without = client.get(NOTIFICATIONS).await;
    let request = client.request(Method::GET, NOTIFICATIONS).header("cookie", "session=forged");
    let forged = client.send(request.body(Bytes::new()).unwrap()).await;

    for answer in [without, forged] {
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
});

#[tokio::test]
async fn a_session_is_a_cookie_that_scripts_do_not_see() {
    let server = server().await;
    let content = json!({ "user_id": "ada" });

    let clear = post(&mut server.h1().await, "/session", &content).await;
    let tls = post(&mut server.client(Protocol::H2).await, "/session", &content).await;

    let clear = clear.header("set-cookie");
    assert!(clear.contains("; HttpOnly; SameSite=Lax") && !clear.contains("Secure"), "{clear}");
    assert!(tls.header("set-cookie").ends_with("; HttpOnly; SameSite=Lax; Secure"), "{tls:?}");
    for (wrong, status) in [("{", 400), ("{}", 422), ("{\"user_id\":\"\"}", 422), ("[]", 422)] {
        let answer = server.h1().await.post("/session", wrong).await;
        assert_eq!(answer.status, status, "{wrong}: {answer:?}");
    }
}

/// Cut off at every moment that there is: between notifications, by a hot swap, by `kill -9`, before the
/// first one; by the header and by the query.
#[tokio::test]
async fn notifications_resume_without_loss_or_repeats() {
    let server = server().await;
    let cookie = session(&server, "ada").await;
    let (stream, connected) = notifications(&server, Protocol::H1, &cookie, "").await;
    drop(stream);

    // Nothing was got yet but `connected`.
    notify(&server, "ada", "1").await;
    let (mut stream, again) = notifications(&server, Protocol::H2, &cookie, &connected.id).await;
    let (first, id) = message(&mut stream).await;
    drop(stream);
    notify(&server, "ada", "2").await;
    notify(&server, "ada", "3").await;
    // In the query, as a page does that was reloaded; and across a swap, which the stream outlives.
    let path = format!("{NOTIFICATIONS}?lastEventId={id}");
    let fields = [("cookie", cookie.as_str())];
    let mut stream = EventStream::open(server.h1().await, &path, &fields).await;
    stream.next().await.unwrap();
    let second = message(&mut stream).await;
    swap(&server, "events").await;
    notify(&server, "ada", "4").await;
    let (third, fourth) = (message(&mut stream).await, message(&mut stream).await);
    drop(stream);
    let (mut stream, _) = notifications(&server, Protocol::H3, &cookie, &second.1).await;
    let replayed = (message(&mut stream).await, message(&mut stream).await);
    drop(stream);
    // And a restart, with something that nobody was there for.
    notify(&server, "ada", "5").await;
    let server = server.restart().await;
    notify(&server, "ada", "6").await;
    let (mut stream, resumed) = notifications(&server, Protocol::H1, &cookie, &fourth.1).await;
    let (fifth, sixth) = (message(&mut stream).await, message(&mut stream).await);
    let then = stream.next().await.unwrap();

    assert!(!connected.id.is_empty());
    assert_eq!(connected.json()["resumed"], false);
    assert_eq!((&again.json()["resumed"], &again.json()["missed"]), (&json!(true), &json!(false)));
    assert_eq!((first.as_str(), second.0.as_str()), ("1", "2"));
    assert_eq!((third.0.as_str(), fourth.0.as_str()), ("3", "4"));
    assert_eq!(replayed, (third, fourth));
    assert_eq!(resumed.json()["missed"], false);
    assert_eq!((fifth.0.as_str(), sixth.0.as_str()), ("5", "6"));
    assert_eq!(then.name, "heartbeat");
}

#[tokio::test]
async fn notifications_are_listed_with_where_to_go_on() {
    let server = server().await;
    let cookie = session(&server, "ada").await;
    notify(&server, "ada", "old").await;
    notify(&server, "ada", "new").await;
    let mut client = server.h1().await;
    let request = client.request(Method::GET, "/api/notifications").header("cookie", &cookie);
    let list = client.send(request.body(Bytes::new()).unwrap()).await.json();

    let last = list["last_id"].as_str().unwrap();
    let (mut stream, _) = notifications(&server, Protocol::H1, &cookie, last).await;
    notify(&server, "ada", "newest").await;

    assert_eq!(list["notifications"][0]["message"], "new");
    assert_eq!(list["notifications"][1]["message"], "old");
    assert_eq!(message(&mut stream).await.0, "newest");
}

each_protocol!(published_events_reach_streams_and_polls, |protocol| async move {
    let server = server().await;
    let mut all = open(&server, protocol, STREAM).await;
    let mut one = open(&server, protocol, &format!("{STREAM}?topic=b")).await;
    let mut client = server.client(protocol).await;
    let quiet = client.get(&format!("{EVENTS}?timeout=0.1")).await;
    let last = quiet.header("last-event-id").to_owned();

    let first = json!({ "topic": "a", "text": "x\ny" });
    let published = post(&mut client, EVENTS, &first).await;
    let second = json!([1, { "two": null }]);
    post(&mut client, &format!("{EVENTS}?topic=b"), &second).await;
    let request = client.request(Method::GET, EVENTS).header("last-event-id", &last);
    let polled = client.send(request.body(Bytes::new()).unwrap()).await;
    let after = polled.header("last-event-id").to_owned();
    let third = client.get(&format!("{EVENTS}?timeout=0.1&lastEventId={after}")).await;

    is_event_stream(&all);
    assert_eq!(published.status, 201, "{published:?}");
    assert_eq!(quiet.status, 204);
    let got = all.next_but("heartbeat").await.unwrap();
    assert_eq!(
        (got.json(), got.id.as_str()),
        (first.clone(), published.json()["id"].as_str().unwrap())
    );
    assert_eq!(all.next_but("heartbeat").await.unwrap().json(), second);
    assert_eq!(one.next_but("heartbeat").await.unwrap().json(), second);
    assert_eq!(polled.json(), json!([first, second]));
    assert_eq!(polled.header("content-type"), "application/json");
    assert_eq!(third.status, 204, "{third:?}");
    assert_eq!(all.next().await.unwrap().name, "heartbeat");
});

each_protocol!(a_long_poll_waits_for_an_event, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let poll = tokio::spawn(async move { client.get(EVENTS).await });
    // Until it is held: what is published before the poll is none of its events.
    let gauge = "wharf_requests_in_flight{plugin=\"events\"} 1";
    let begun = Instant::now();
    while !server.metrics().await.contains(gauge) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", server.metrics().await);
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(200)).await;

    post(&mut server.h1().await, EVENTS, &json!("now")).await;
    let answer = timeout(Duration::from_secs(20), poll).await.unwrap().unwrap();

    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!(["now"])));
    assert_eq!(answer.header("cache-control"), "no-cache");
    let kept = if protocol == Protocol::H1 { "timeout=30, max=100" } else { "" };
    assert_eq!(answer.header("keep-alive"), kept);
});

each_protocol!(orders_change_ten_times_a_second, |protocol| async move {
    let server = server().await;
    let mut stream = open(&server, protocol, &format!("{ORDERS}/stream")).await;

    let mut last = Value::Null;
    for _ in 0..10 {
        last = stream.next().await.unwrap().json();
    }
    let path = format!("{ORDERS}/{}", last["id"]);
    let stored = server.h1().await.get(&path).await.json();

    is_event_stream(&stream);
    assert_eq!(stream.headers["cache-control"], "no-cache, no-store");
    assert!(["partial", "filled"].contains(&last["status"].as_str().unwrap()), "{last}");
    assert_eq!((&stored["id"], &stored["symbol"]), (&last["id"], &last["symbol"]));
    assert!(stored["filled"].as_i64() >= last["filled"].as_i64(), "{stored} {last}");
});

#[tokio::test]
async fn orders_are_placed_told_and_cancelled() {
    let server = server().await;
    let mut stream = open(&server, Protocol::H2, &format!("{ORDERS}/stream")).await;
    let mut client = server.h1().await;
    let order = json!({ "symbol": "zzz", "side": "buy", "quantity": 1_000_000, "price": 12.345 });

    let placed = post(&mut client, ORDERS, &order).await;
    let cancelled = send(&mut client, Method::DELETE, placed.header("location")).await;
    let again = send(&mut client, Method::DELETE, placed.header("location")).await;
    let unknown = send(&mut client, Method::DELETE, &format!("{ORDERS}/999999")).await;
    let wrong = post(&mut client, ORDERS, &json!({ "symbol": "zzz" })).await;
    let mut told = Vec::new();
    while told.last() != Some(&"cancelled".to_owned()) {
        let event = stream.next().await.unwrap().json();
        if event["symbol"] == "ZZZ" {
            told.push(event["status"].as_str().unwrap().to_owned());
        }
    }

    assert_eq!((placed.status.as_u16(), &placed.json()["price"]), (201, &json!(12.35)));
    assert_eq!(
        (cancelled.status.as_u16(), &cancelled.json()["status"]),
        (200, &json!("cancelled"))
    );
    assert_eq!((again.status.as_u16(), unknown.status.as_u16()), (409, 404));
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert_eq!(told[0], "open");
}

#[tokio::test]
async fn the_market_stands_still_while_nobody_listens() {
    let server = server().await;
    let mut client = server.h1().await;
    let before = client.get(ORDERS).await.text();

    sleep(Duration::from_millis(600)).await;
    let after = client.get(ORDERS).await.text();

    assert_eq!(before, after);
    assert!(before.contains("\"open\""), "{before}");
}

each_protocol!(the_websockets_place_is_told, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let info = client.get("/api/realtime/websocket/info").await;
    let preflight = send(&mut client, Method::OPTIONS, "/api/realtime/websocket/info").await;
    let wrong = send(&mut client, Method::PUT, "/api/realtime/websocket/info").await;

    assert_eq!(info.header("cache-control"), "no-cache, max-age=60");
    assert_eq!(info.header("access-control-allow-origin"), "*");
    let scheme = if protocol == Protocol::H1 { "ws://" } else { "wss://" };
    let url = info.json()["websocket_url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(scheme) && url.ends_with("/ws/chat"), "{url}");
    assert!(info.json()["protocols"].is_array() && info.json()["version"] == "13", "{info:?}");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-methods"), "GET, HEAD, OPTIONS");
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, "GET, HEAD, OPTIONS"));
});

#[tokio::test]
async fn a_user_is_told_through_mercure() {
    let samples = TestServer::builder().sample("headers").sample("events").sample("mercure");
    let server = samples.start().await;
    let topic = "https%3A%2F%2Fexample.com%2Fnotifications%2F42";
    let path = format!("/.well-known/mercure?topic={topic}");
    let mut stream = open(&server, Protocol::H2, &path).await;
    let mut client = server.h1().await;

    post(&mut client, "/notify", &json!({ "user_id": 43, "message": "for another" })).await;
    let sent = post(&mut client, "/notify", &json!({ "user_id": 42, "message": "hello" })).await;
    let wrong = post(&mut client, "/notify", &json!({ "user_id": 42 })).await;
    let told = stream.next().await.unwrap();

    assert_eq!((sent.status.as_u16(), sent.json()), (200, json!({ "status": "sent" })));
    assert_eq!((told.name.as_str(), &told.json()["message"]), ("message", &json!("hello")));
    assert!(told.id.starts_with("urn:uuid:"), "{told:?}");
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert_eq!(wrong.header("content-type"), "application/problem+json");
}

each_protocol!(heads_are_those_of_get, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for (path, content_type) in [
        ("/sse/time", "text/event-stream"),
        ("/sse/live-metrics", "text/event-stream"),
        ("/api/realtime/events/stream", "text/event-stream"),
        ("/api/trading/orders/stream", "text/event-stream"),
        ("/api/trading/orders", "application/json"),
        ("/live", "text/html; charset=utf-8"),
    ] {
        let head = timeout(Duration::from_secs(20), send(&mut client, Method::HEAD, path)).await;
        let head = head.unwrap_or_else(|_| panic!("HEAD {path} is not answered"));

        assert_eq!(
            (head.status.as_u16(), head.header("content-type")),
            (200, content_type),
            "{path}"
        );
        assert!(head.body.is_empty());
    }
    let poll = send(&mut client, Method::HEAD, EVENTS).await;
    assert_eq!(poll.status, 204);
});

/// A client that does not read is cut off when the history has moved on without it; the others, and the
/// publisher, do not notice.
#[tokio::test]
async fn a_client_that_never_reads_holds_nobody_up() {
    const EVENTS_SENT: usize = 600;
    let server = server().await;
    let mut stuck = open(&server, Protocol::H1, STREAM).await;
    let mut reader = open(&server, Protocol::H1, STREAM).await;
    let before = server.memory();
    let read = tokio::spawn(async move {
        for i in 0..EVENTS_SENT {
            let event = reader.next_but("heartbeat").await.expect("the reader is not cut off");
            assert_eq!(event.json()[0], i);
        }
    });

    let mut publisher = server.client(Protocol::H2c).await;
    let filler = "x".repeat(60_000);
    for i in 0..EVENTS_SENT {
        let published = post(&mut publisher, EVENTS, &json!([i, filler])).await;
        assert_eq!(published.status, 201, "{published:?}");
    }
    timeout(Duration::from_secs(60), read).await.unwrap().unwrap();
    let grown = server.memory().saturating_sub(before);
    let mut got = 0;
    while stuck.next().await.is_some() {
        got += 1;
    }

    assert!(got < EVENTS_SENT, "the client that did not read got {got}");
    // 36 MB were published; the history is 1 MiB.
    assert!(grown < 30 << 20, "{grown} bytes more");
}

/// What is held is held by the host: with room for two requests, three hundred streams are open.
#[tokio::test]
async fn held_streams_take_no_room_in_the_plugin() {
    let server = server().await;
    let manifest = server.plugins().join("events/plugin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n[limits]\nconcurrency = 2\n")).unwrap();
    let server = server.restart().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        // A hundred streams of one connection.
        let client = server.client(Protocol::H2c).await;
        for _ in 0..100 {
            streams.push(EventStream::open(client.beside(), STREAM, &[]).await);
        }
    }
    let resting = server.until_registered("events", |plugin| plugin["in_flight"] == 0).await;

    let published = post(&mut server.h1().await, EVENTS, &json!("to all")).await;

    assert_eq!(published.status, 201, "{published:?}");
    assert!(resting["instances"].as_u64().unwrap() <= 8, "{resting}");
    for stream in &mut streams {
        assert_eq!(stream.next_but("heartbeat").await.unwrap().json(), json!("to all"));
    }
}

#[tokio::test]
async fn eventsource_and_undici_follow_notifications() {
    let server = server().await;
    let origin = format!("http://{}", server.http.unwrap());

    let Some(told) = clients::node("events.mjs", &[&origin]).await else { return };

    assert_eq!(told["refused"], 401);
    assert_eq!(told["messages"], json!(["one", "two\r\nlines", "three"]));
    assert_eq!(told["resumed"], json!(["two\r\nlines", "three"]));
    assert_eq!(told["heartbeat"], true);
    assert_eq!(told["undici"].as_array().unwrap().len(), 2, "{told}");
    assert_eq!(told["polled"], json!([{ "text": "polled" }]));
}

#[tokio::test]
async fn curl_reads_the_time() {
    let server = server().await;
    let url = format!("http://{}/sse/time", server.http.unwrap());

    let arguments = ["-sSN", "-i", "--max-time", "3", &url];
    let Some(output) = clients::program("curl", &arguments).await else { return };

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.to_lowercase().contains("content-type: text/event-stream"), "{text}");
    assert!(text.matches("\ndata: 20").count() >= 2, "{text}");
}

/// The pages in Chromium, over HTTP/2: what is published in one is seen in the others.
#[tokio::test]
async fn the_pages_show_what_happens() {
    let server = server().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(told) = clients::browser("events-page.mjs", &[&origin]).await else { return };

    assert_eq!(told["errors"], json!([]));
    assert_eq!(told["published"], "hello to all windows");
    assert!(told["points"].as_u64().unwrap() >= 3, "{told}");
    assert_eq!(told["notifications"], json!(["second <b>", "first"]));
    assert_eq!(told["again"], json!(["second <b>", "first"]));
    assert!(told["orders"].as_u64().unwrap() >= 10, "{told}");
    assert!(told["placed"].as_str().unwrap().ends_with("is open"), "{told}");
}
