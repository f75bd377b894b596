//! The hub over HTTP: event streams, long polls, histories, durable topics.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::timeout;
use wharf_tests::{Answer, Client, Incoming, Protocol, TestServer, each_protocol, guest};

/// How long anything may take that comes at once by itself.
const LIMIT: Duration = Duration::from_secs(30);

const MANIFEST: &str = "\
[capabilities]
hub = { publish = [\"t/*\", \"durable/*\", \"left\", \"report\"], subscribe = [\"t/*\", \"durable/*\", \"left\", \"report\"] }
[limits]
held = 40
[[topic]]
pattern = \"t/short\"
events = 3
[[topic]]
pattern = \"durable/*\"
durable = true
events = 100000
bytes = \"32MiB\"
age = \"2h\"
";

async fn server() -> TestServer {
    builder().start().await
}

fn builder() -> wharf_tests::Builder {
    TestServer::builder().plugin("hub", &guest("p3_hub")).manifest("hub", MANIFEST)
}

/// An event as WHATWG's parser has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    id: String,
    name: String,
    data: String,
}

/// An event stream that is read.
struct Events {
    body: Incoming,
    id: String,
    comments: usize,
    retry: Option<u64>,
}

impl Events {
    async fn open(client: &mut Client, query: &str) -> Self {
        let body = client.open(&format!("/hub/stream?{query}")).await;
        assert_eq!(body.status, 200, "{query}");
        assert_eq!(body.headers["content-type"], "text/event-stream");
        Self { body, id: String::new(), comments: 0, retry: None }
    }

    fn header(&self, name: &str) -> &str {
        self.body.headers[name].to_str().unwrap()
    }

    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut data: Option<String> = None;
        loop {
            let line = timeout(LIMIT, self.body.line()).await.expect("something comes")?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    if let Some(data) = data.take() {
                        event.id.clone_from(&self.id);
                        event.data = data;
                        return Some(event);
                    }
                    event = Event::default();
                }
                "" => self.comments += 1,
                "id" => value.clone_into(&mut self.id),
                "event" => value.clone_into(&mut event.name),
                "retry" => self.retry = value.parse().ok(),
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                _ => panic!("no such field: {line:?}"),
            }
        }
    }

    async fn data(&mut self) -> String {
        self.next().await.expect("the stream goes on").data
    }

    async fn all(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event.data);
        }
        all
    }
}

async fn publish(client: &mut Client, query: &str, data: &str) -> String {
    let answer = client.post(&format!("/hub/publish?{query}"), data.to_owned()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text()
}

async fn many(client: &mut Client, topic: &str, from: usize, count: usize) -> String {
    let mut last = String::new();
    for begin in (from..from + count).step_by(100) {
        let count = (from + count - begin).min(100);
        let path = format!("/hub/many?topic={topic}&from={begin}&count={count}");
        let answer = client.post(&path, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        last = answer.text();
    }
    last
}

async fn send(client: &mut Client, path: &str, header: (&str, &str)) -> Answer {
    let request = client.request(Method::GET, path).header(header.0, header.1);
    client.send(request.body(Bytes::new()).unwrap()).await
}

/// Waits until a topic has so many subscribers.
async fn until_followed(server: &TestServer, topic: &str, by: usize) {
    let path = format!("/hub/count?topic={topic}");
    server.until_get(&path, |answer| answer.text() == by.to_string()).await;
}

each_protocol!(events_come_in_order_with_their_names_and_ids, |protocol| async move {
    let server = server().await;
    let mut publisher = server.h1().await;
    let mut client = server.client(protocol).await;
    let mut events = Events::open(&mut client, "topic=t/1&pattern=t/2/*&retry=1500&first=hi").await;

    let id = publish(&mut publisher, "topic=t/1&name=order", "one\ntwo\r\nthree").await;
    publish(&mut publisher, "topic=t/3", "not for it").await;
    // Once, though it follows both.
    publish(&mut publisher, "topic=t/2/x&topic=t/1&id=urn:own", "both").await;
    many(&mut publisher, "t/1", 0, 200).await;

    assert_eq!(events.header("x-resumption"), "fresh");
    assert_eq!(events.header("cache-control"), "no-cache");
    let first = events.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.data.as_str(), first.id.as_str()), ("first", "hi", ""));
    assert_eq!(events.retry, Some(1500));
    let data = "one\ntwo\nthree".to_owned();
    assert_eq!(events.next().await.unwrap(), Event { id, name: "order".to_owned(), data });
    let both = events.next().await.unwrap();
    assert_eq!((both.id.as_str(), both.data.as_str()), ("urn:own", "both"));
    for index in 0..200 {
        assert_eq!(events.data().await, index.to_string());
    }
});

each_protocol!(a_client_that_comes_back_misses_nothing, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let mut publisher = server.h1().await;
    let third = many(&mut publisher, "t/1", 0, 3).await;
    publish(&mut publisher, "topic=t/1&id=own%20id/1", "own").await;
    many(&mut publisher, "t/1", 3, 150).await;

    let by_query = format!("topic=t/1&ends=end&Last-Event-ID={third}");
    let mut by_query = Events::open(&mut client, &by_query).await;
    let by_own = "topic=t/1&lastEventID=own%20id/1&ends=end";
    let mut by_own = Events::open(&mut server.h1().await, by_own).await;
    publish(&mut publisher, "topic=t/1&name=end", "the end").await;
    let path = "/hub/stream?topic=t/1&ends=end";
    let by_header = send(&mut server.client(protocol).await, path, ("last-event-id", &third)).await;

    let mut expected = vec!["own".to_owned()];
    expected.extend((3..153).map(|index| index.to_string()));
    expected.push("the end".to_owned());
    assert_eq!(by_query.header("x-resumption"), "complete");
    assert_eq!(by_query.header("x-last-id"), third);
    assert_eq!(by_query.all().await, expected);
    assert_eq!(by_own.all().await, expected[1..]);
    let lines = by_header.text();
    let data: Vec<_> = lines.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data, expected);
});

#[tokio::test]
async fn what_is_not_kept_any_more_is_told() {
    let server = server().await;
    let mut client = server.h1().await;
    let first = many(&mut client, "t/short", 0, 1).await;
    let second = many(&mut client, "t/short", 1, 1).await;
    many(&mut client, "t/short", 2, 3).await;

    for (id, expected, count) in [
        (second.as_str(), "complete", 3),
        (first.as_str(), "lost", 3),
        ("nonsense", "lost", 3),
        ("0-0-0", "lost", 3),
        ("earliest", "complete", 3),
        ("", "fresh", 0),
    ] {
        let mut client = server.h1().await;
        let query = format!("topic=t/short&start={id}&ends=end");
        let events = Events::open(&mut client, &query).await;
        let past = server.h1().await.get(&format!("/hub/history?topic=t/short&start={id}")).await;

        assert_eq!(events.header("x-resumption"), expected, "{id}");
        assert_eq!(past.json()["resumption"], expected, "{id}");
        assert_eq!(past.json()["events"].as_array().unwrap().len(), count, "{id}");
    }
}

#[tokio::test]
async fn earliest_over_several_topics_is_not_taken_for_a_slow_reader() {
    let server = server().await;
    let mut client = server.h1().await;
    many(&mut client, "t/1", 0, 300).await;
    many(&mut client, "t/short", 300, 10).await;
    publish(&mut client, "topic=t/1&name=end", "end").await;

    let mut events = Events::open(&mut client, "pattern=t/*&start=earliest&ends=end").await;

    let all = events.all().await;
    assert_eq!(all.len(), 304, "{all:?}");
    assert_eq!(all.last().unwrap(), "end");
}

#[tokio::test]
async fn heartbeats_come_while_nothing_else_does() {
    let server = server().await;
    let mut comments =
        Events::open(&mut server.h1().await, "topic=t/1&heartbeat=100&ends=end").await;
    let mut events =
        Events::open(&mut server.h1().await, "topic=t/1&heartbeat=100&beat=beat&ends=end").await;

    let beat = events.next().await.unwrap();
    let _second = events.next().await.unwrap();
    let end = publish(&mut server.h1().await, "topic=t/1&name=end", "end").await;
    while comments.next().await.is_some() {}

    assert_eq!((beat.name.as_str(), beat.id.as_str()), ("beat", ""));
    assert!(comments.comments >= 1);
    assert_eq!(comments.id, end);
}

#[tokio::test]
async fn a_stream_lasts_as_long_as_its_age() {
    let server = server().await;
    let begun = std::time::Instant::now();

    let mut events = Events::open(&mut server.h1().await, "topic=t/1&age=300").await;
    assert_eq!(events.next().await, None);

    let took = begun.elapsed();
    // Not the heartbeat's 15 seconds.
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
}

each_protocol!(who_comes_and_goes_is_published, |protocol| async move {
    let server = server().await;
    let mut watching = Events::open(&mut server.h1().await, "topic=left").await;
    let mut client = server.client(protocol).await;
    let stream = Events::open(&mut client, "topic=t/1&open=left&close=left&who=me").await;

    assert_eq!(watching.next().await.unwrap().name, "open");
    until_followed(&server, "t/1", 1).await;
    let listed = server.h1().await.get("/hub/subscribers?within=t/").await.json();
    assert_eq!(listed[0]["attributes"], serde_json::json!([["who", "me"]]));
    assert_eq!(listed[0]["id"], stream.header("x-stream"));
    drop((stream, client));

    assert_eq!(watching.next().await.unwrap().name, "close");
    until_followed(&server, "t/1", 0).await;
});

#[tokio::test]
async fn grants_and_bounds_are_kept() {
    let server = server().await;
    let mut client = server.h1().await;

    for (path, status) in [
        ("/hub/stream?topic=other", 403_u16),
        ("/hub/stream?pattern=*", 403),
        ("/hub/stream?topic=t/1&pattern=*", 403),
        ("/hub/history?topic=other&start=earliest", 403),
        ("/hub/poll?topic=other", 403),
        ("/hub/count?topic=other", 403),
        ("/hub/subscribers?within=", 403),
        ("/hub/stream?topics=10000", 400),
        ("/hub/stream?topics=257", 400),
        ("/hub/stream", 400),
        ("/hub/stream?topic=t/%0a", 400),
        ("/hub/stream?pattern=t/a*", 400),
        ("/hub/stream?topic=t/1&heartbeat=1", 400),
        ("/hub/stream?topic=t/1&open=other", 403),
    ] {
        let answer = timeout(LIMIT, client.get(path)).await.expect("it is not held");
        assert_eq!(answer.status, status, "{path} {answer:?}");
    }
    for (topics, bytes, status) in [
        ("topic=other", 1, 403_u16),
        ("topic=t/1&topic=other", 1, 403),
        ("topic=t/1", (1 << 20) + 1, 413),
        ("topic=t/1", 1 << 20, 200),
    ] {
        let answer = client.post(&format!("/hub/publish?{topics}"), "x".repeat(bytes)).await;
        assert_eq!(answer.status, status, "{topics} {bytes} {answer:?}");
    }
}

#[tokio::test]
async fn a_plugin_holds_so_many_and_no_more() {
    let server = server().await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        let mut client = server.h1().await;
        streams.push((Events::open(&mut client, "topic=t/1").await, client));
    }

    let refused = server.h1().await.get("/hub/stream?topic=t/1").await;
    streams.pop();
    let path = "/hub/stream?topic=t/1&age=1";
    let again = server.until_get(path, |answer| answer.status == 200).await;

    assert_eq!(refused.status, 503);
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(again.text(), "");
}

#[tokio::test]
async fn no_field_can_begin_another() {
    let server = server().await;
    let mut client = server.h1().await;
    let mut events = Events::open(&mut server.h1().await, "pattern=t/*").await;
    let bad = ["a\nb", "a\rb", "a\r\nb", "a\0b", "\n", "a\u{85}b", "a\u{7f}"];

    for value in bad {
        for field in ["topic", "alternate", "id", "name"] {
            let mut given = serde_json::json!({ "topic": "t/1", "data": "x" });
            given[field] = format!("t/{value}").into();
            let answer = client.post("/hub/publish-plain", given.to_string()).await;
            assert!(answer.text().contains("Invalid"), "{field} {value:?}: {answer:?}");
        }
    }
    for (field, value) in [("id", ""), ("name", ""), ("topic", ""), ("except", "x"), ("id", "#x")] {
        let mut given = serde_json::json!({ "topic": "t/1", "data": "x" });
        given[field] = value.into();
        let answer = client.post("/hub/publish-plain", given.to_string()).await;
        assert!(answer.text().contains("Invalid"), "{field} {value:?}: {answer:?}");
    }
    let evil = "x\nid: 7\r\rdata: y\n\nevent: evil\0\u{85}\u{2028}";
    let given = serde_json::json!({ "topic": "t/1", "data": evil, "field": "a\r\nset-cookie: b" });
    assert_eq!(client.post("/hub/publish-plain", given.to_string()).await.text(), "published");
    let id = client.get("/hub/position").await.text();
    let polled = client.get("/hub/poll?topic=t/1&start=earliest").await;

    let event = events.next().await.unwrap();
    let data = "x\nid: 7\n\ndata: y\n\nevent: evil\0\u{85}\u{2028}".to_owned();
    assert_eq!(event, Event { id, name: String::new(), data });
    assert_eq!(polled.header("set-cookie"), "");
    assert_eq!(polled.header("x-field"), "");
    assert_eq!(polled.text(), evil);
}

#[tokio::test]
async fn private_events_and_those_of_oneself_stay_away() {
    let server = server().await;
    let mut publisher = server.h1().await;
    let mut plain = Events::open(&mut server.h1().await, "topic=t/1&ends=end").await;
    let mut other = Events::open(&mut server.h1().await, "topic=t/1&ends=end&private=t/2").await;
    let mut member = Events::open(&mut server.h1().await, "topic=t/1&ends=end&private=t/*").await;
    let own = plain.header("x-stream").to_owned();

    publish(&mut publisher, "topic=t/1&private", "secret").await;
    publish(&mut publisher, &format!("topic=t/1&except={own}"), "by plain").await;
    publish(&mut publisher, "topic=t/1&name=end", "end").await;

    assert_eq!(plain.all().await, ["end"]);
    assert_eq!(other.all().await, ["by plain", "end"]);
    assert_eq!(member.all().await, ["secret", "by plain", "end"]);
    let mut replayed =
        Events::open(&mut server.h1().await, "topic=t/1&ends=end&start=earliest").await;
    assert_eq!(replayed.all().await, ["by plain", "end"]);
}

each_protocol!(a_poll_is_answered_when_there_is_something, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let mut publisher = server.h1().await;

    let polled = async { client.get("/hub/poll?topic=t/1").await };
    let published = async {
        until_followed(&server, "t/1", 1).await;
        publish(&mut publisher, "topic=t/1&field=x-kind:7", "{\"n\":1}").await
    };
    let (polled, id) = tokio::join!(polled, published);
    many(&mut publisher, "t/1", 5, 2).await;
    let path = format!("/hub/poll?topic=t/1&array=1&start={id}");
    let array = client.get(&path).await;
    let nothing = client.get("/hub/poll?topic=t/1&timeout=50").await;

    assert_eq!((polled.status.as_u16(), polled.text().as_str()), (200, "{\"n\":1}"));
    assert_eq!((polled.header("x-kind"), polled.header("x-last-id")), ("7", id.as_str()));
    assert_eq!(array.json(), serde_json::json!([5, 6]));
    assert_eq!((nothing.status.as_u16(), nothing.text().as_str()), (204, ""));
});

each_protocol!(a_plugin_feeds_a_stream_as_fast_as_it_is_read, |protocol| async move {
    let server = server().await;
    let mut report = Events::open(&mut server.h1().await, "topic=report").await;
    let mut client = server.client(protocol).await;

    // Far more than the queue and every buffer on the way hold.
    let path = "/hub/emit?count=2000&size=50000&report=report";
    let slow = client.open(path).await;
    assert_eq!(slow.headers["content-type"], "text/event-stream");
    let waiting = timeout(Duration::from_millis(500), report.next()).await;
    drop((slow, client));
    let told = report.data().await;
    let whole = server.client(protocol).await.get("/hub/emit?count=100&size=1000").await.text();

    assert!(waiting.is_err(), "{waiting:?}");
    let sent: usize =
        told.strip_prefix("sent=").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(told.ends_with("closed=true") && sent < 2000, "{told}");
    assert_eq!(whole.matches("data: ").count(), 100);
});

#[tokio::test]
async fn a_plugin_of_0_2_has_streams_by_plain_functions() {
    let manifest = MANIFEST.split("[[topic]]").next().unwrap();
    let server = builder().plugin("p2", &guest("p2_hub")).manifest("p2", manifest).start().await;
    let mut client = server.h1().await;
    let topic = client.open("/p2?topic=t/1").await;
    let mut topic = Events { body: topic, id: String::new(), comments: 0, retry: None };

    let slow = server.h1().await.open("/p2?count=2000&size=50000").await;
    let whole = server.h1().await.get("/p2?count=100&size=1000").await.text();
    publish(&mut server.h1().await, "topic=t/1&name=end", "end").await;

    assert!(whole.starts_with("retry: 7\n"), "{whole}");
    assert_eq!(whole.matches("data: ").count(), 100);
    assert_eq!(topic.all().await, ["first", "end"]);
    drop(slow);
    server.until_printed("p2", "closed at ").await;
}

#[tokio::test]
async fn streams_outlive_the_version_that_began_them() {
    let server = server().await;
    let mut publisher = server.h1().await;
    let mut events = Events::open(&mut server.h1().await, "topic=t/1&ends=end").await;
    let before = server.registered("hub").await.unwrap()["version"].clone();

    many(&mut publisher, "t/1", 0, 10).await;
    // The same component with a byte more, in a section of its own.
    let mut changed = guest("p3_hub");
    changed.extend([0, 3, 1, b'x', 0]);
    server.install("hub", &changed);
    server.until_registered("hub", |entry| entry["version"] != before).await;
    many(&mut publisher, "t/1", 10, 10).await;
    std::fs::remove_file(server.plugins().join("hub.wasm")).unwrap();
    server.until_get("/hub/position", |answer| answer.status == 404).await;
    server.install("hub", &guest("p3_hub"));
    server.until_get("/hub/position", |answer| answer.status == 200).await;
    publish(&mut publisher, "topic=t/1&name=end", "end").await;

    let mut expected: Vec<_> = (0..20).map(|index| index.to_string()).collect();
    expected.push("end".to_owned());
    assert_eq!(events.all().await, expected);
}

each_protocol!(a_drain_ends_streams_cleanly, |protocol| async move {
    let mut server = builder().config("drain-limit = \"8s\"").start().await;
    let mut client = server.client(protocol).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut client = server.client(protocol).await;
        streams.push((Events::open(&mut client, "topic=t/1&retry=9999999").await, client));
    }
    // The plugin's own end first.
    let mut fed = client.open("/hub/emit?count=1&waits=1&report=report").await;
    publish(&mut server.h1().await, "topic=t/1", "last").await;
    let begun = std::time::Instant::now();

    server.signal("TERM").await;
    let mut ends = BTreeSet::new();
    for (events, _client) in &mut streams {
        // The harness panics on a body that breaks off.
        assert_eq!(events.all().await, ["last"]);
        ends.insert(events.retry.unwrap());
    }
    let mut rest = String::new();
    while let Some(line) = fed.line().await {
        rest.push_str(&line);
    }
    drop((streams, client, fed));

    assert!(rest.starts_with("data: 0") && rest.contains("retry: "), "{rest}");
    assert!(ends.len() > 3 && ends.iter().all(|retry| (500..1000).contains(retry)), "{ends:?}");
    assert_eq!(server.wait().await, Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
});

each_protocol!(a_head_request_holds_nothing, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let request = client.request(Method::HEAD, "/hub/stream?topic=t/1").body(Bytes::new()).unwrap();
    let answer = timeout(LIMIT, client.send(request)).await.expect("it has no body");

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.text(), "");
    until_followed(&server, "t/1", 0).await;
});

#[tokio::test]
async fn durable_events_outlive_a_kill() {
    let mut server = server().await;
    let mut client = server.h1().await;
    let mut live = Events::open(&mut client, "topic=durable/1").await;
    let mut publisher = server.h1().await;
    // More than is kept of topics that nobody says anything of.
    let tenth = many(&mut publisher, "durable/1", 0, 10).await;
    many(&mut publisher, "durable/1", 10, 1190).await;
    for index in 0..1200 {
        assert_eq!(live.data().await, index.to_string());
    }
    let last = live.id.clone();
    server.signal("KILL").await;
    server = server.restart().await;

    let mut publisher = server.h1().await;
    let mut from_last =
        Events::open(&mut server.h1().await, &format!("topic=durable/1&start={last}&ends=end"))
            .await;
    let mut from_tenth =
        Events::open(&mut server.h1().await, &format!("pattern=durable/*&start={tenth}&ends=end"))
            .await;
    let mixed =
        Events::open(&mut server.h1().await, &format!("topic=durable/1&topic=t/1&start={last}"))
            .await;
    publish(&mut publisher, "topic=durable/1&name=end", "end").await;

    assert_eq!(from_last.header("x-resumption"), "complete");
    assert_eq!(from_last.all().await, ["end"]);
    assert_eq!(from_tenth.header("x-resumption"), "complete");
    let mut expected: Vec<_> = (10..1200).map(|index| index.to_string()).collect();
    expected.push("end".to_owned());
    assert_eq!(from_tenth.all().await, expected);
    // What was published to the other topic is gone, if there was anything.
    assert_eq!(mixed.header("x-resumption"), "lost");
}

#[tokio::test]
async fn a_takeover_neither_loses_nor_repeats_durable_events() {
    let mut server = server().await;
    let mut old_publisher = server.h1().await;
    let mut subscriber = Events::open(&mut server.h1().await, "topic=durable/1").await;
    let mut got = Vec::new();
    many(&mut old_publisher, "durable/1", 0, 50).await;
    while got.len() < 50 {
        got.push(subscriber.data().await);
    }
    // It goes on in the old process while the new one begins.
    let busy = tokio::spawn(async move {
        let mut next = 50;
        loop {
            let path = format!("/hub/many?topic=durable/1&from={next}&count=1");
            let request = old_publisher.request(Method::POST, &path).body(Bytes::new()).unwrap();
            match old_publisher.try_send(request).await {
                Ok(answer) if answer.status == 200 => next += 1,
                _ => return next,
            }
        }
    });

    let mut old = server.take_over(&[]).await;
    let mut fresh = Events::open(&mut server.h1().await, "topic=durable/1&start=earliest").await;
    let mut from_new = 0;
    let mut new_publisher = server.h1().await;
    while !busy.is_finished() {
        publish(&mut new_publisher, "topic=durable/1", &format!("new-{from_new}")).await;
        from_new += 1;
    }
    let from_old = busy.await.unwrap();
    while let Some(event) = subscriber.next().await {
        got.push(event.data);
    }
    let last = subscriber.id.clone();
    let mut again =
        Events::open(&mut server.h1().await, &format!("topic=durable/1&ends=end&start={last}"))
            .await;
    assert_eq!(again.header("x-resumption"), "complete");
    drop(subscriber);
    assert_eq!(old.wait().await, Some(0), "{}", server.log());
    // What the old one published last is here after its next look at the disk.
    publish(&mut new_publisher, "topic=durable/1&name=end", "end").await;
    got.extend(again.all().await);
    let mut seen_fresh = Vec::new();
    while seen_fresh.last().map(String::as_str) != Some("end") {
        seen_fresh.push(fresh.data().await);
    }

    for seen in [&got, &seen_fresh] {
        // The last that the old one published may not have been acknowledged.
        let of_old: Vec<_> = seen.iter().filter_map(|data| data.parse::<usize>().ok()).collect();
        assert!(of_old.len() == from_old || of_old.len() == from_old + 1, "{from_old} {of_old:?}");
        assert!(of_old.iter().copied().eq(0..of_old.len()), "{of_old:?}");
        let of_new: Vec<_> = seen.iter().filter(|data| data.starts_with("new-")).cloned().collect();
        let expected: Vec<_> = (0..from_new).map(|index| format!("new-{index}")).collect();
        assert_eq!(of_new, expected);
    }
    assert_eq!(got, seen_fresh);
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_ended_or_skips() {
    let server = server().await;
    let mut publisher = server.h1().await;
    let mut ended = Events::open(&mut server.client(Protocol::H1).await, "topic=t/1").await;
    let mut skips = Events::open(&mut server.h1().await, "topic=t/1&lag=drop-oldest").await;

    // Beyond the sockets' buffers and what is kept of the topic.
    let large = "x".repeat(100_000);
    for index in 0..300 {
        publish(&mut publisher, "topic=t/1", &format!("{index} {large}")).await;
    }
    publish(&mut publisher, "topic=t/1&name=end", "end").await;
    let got = ended.all().await;
    let mut skipped = Vec::new();
    while skipped.last().map(String::as_str) != Some("end") {
        skipped.push(skips.data().await);
    }

    let numbers = |got: &[String]| -> Vec<usize> {
        got.iter().filter_map(|data| data.split(' ').next()?.parse().ok()).collect()
    };
    let (ended_numbers, skipped_numbers) = (numbers(&got), numbers(&skipped));
    assert!(ended_numbers.len() < 300 && ended_numbers.iter().copied().eq(0..ended_numbers.len()));
    assert!(skipped_numbers.len() < 300 && skipped_numbers.is_sorted());
    assert_eq!(skipped_numbers.last(), Some(&299));
}
