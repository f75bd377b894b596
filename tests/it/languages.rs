//! The sample plugins in JavaScript, Python and C on the realtime interfaces, through the helpers of
//! `guest-sdk/js` and `guest-sdk/python` and through raw bindings: a Hono app, an app of WASI 0.3, and one
//! of WASI 0.2. Whatever language an event is published in, streams of each get it.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::timeout;
use wharf_tests::websocket::{BINARY, WebSocket, ask, request};
use wharf_tests::{Incoming, Protocol, TestServer};

/// How long something may take that is to happen.
const LIMIT: Duration = Duration::from_secs(60);

/// One server for all: the engines of JavaScript and Python take a minute to compile on a busy machine.
#[tokio::test]
async fn samples_in_other_languages_use_the_realtime_interfaces() {
    let mut builder = TestServer::builder().sample("headers");
    for name in ["hello-js", "hello-python", "hello-c"] {
        let Some(with) = builder.sample_unless_skipped(name) else { return };
        builder = with;
    }
    let server = builder.start().await;

    events_reach_the_streams_of_each_language(&server).await;
    streams_that_a_plugin_feeds_end_its_work_when_the_client_leaves(&server).await;
    web_sockets_echo_and_refuse_what_is_none(&server).await;
    events_that_cannot_be_so_are_refused(&server).await;
    answers_are_cached_until_they_are_purged(&server).await;
}

/// The next event: its fields that are no `retry`, by line.
async fn event(stream: &mut Incoming) -> Vec<String> {
    let mut fields = Vec::new();
    loop {
        let line = timeout(LIMIT, stream.line()).await.unwrap().expect("the stream goes on");
        match line.as_str() {
            "" if !fields.is_empty() => return fields,
            "" => {}
            line if line.starts_with(':') || line.starts_with("retry:") => {}
            line => fields.push(line.to_owned()),
        }
    }
}

/// Publishes, and gives what streams get of it.
async fn publish(server: &TestServer, language: &str, text: &str) -> Vec<String> {
    let answer = server.h1().await.post(&format!("/{language}/events"), text.to_owned()).await;
    assert_eq!(answer.status, 201, "{language}: {answer:?}");
    let answer = answer.json();
    let id = answer["id"].as_str().unwrap();
    vec!["event: greeting".to_owned(), format!("id: {id}"), format!("data: {text}")]
}

/// And streams go on where their clients were.
async fn events_reach_the_streams_of_each_language(server: &TestServer) {
    let languages = ["js", "python", "c"];
    let mut streams = Vec::new();
    for language in languages {
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            let mut client = server.client(protocol).await;
            let stream = client.open(&format!("/{language}/events")).await;
            assert_eq!(stream.status, 200, "{language}");
            assert_eq!(stream.headers["content-type"], "text/event-stream", "{language}");
            assert_eq!(stream.headers["cache-control"], "no-cache", "{language}");
            assert!(!stream.headers.contains_key("wharf-reply"), "{language}");
            streams.push((language, client, stream));
        }
    }

    let mut published = Vec::new();
    for language in languages {
        published.push(publish(server, language, &format!("from {language}")).await);
    }

    for (language, _, stream) in &mut streams {
        for expected in &published {
            assert_eq!(&event(stream).await, expected, "{language}");
        }
    }
    let first = published[0][1].strip_prefix("id: ").unwrap();
    for language in languages {
        let mut client = server.h1().await;
        let path = format!("/{language}/events?last-event-id={first}");
        let mut stream = client.open(&path).await;
        for expected in &published[1..] {
            assert_eq!(&event(&mut stream).await, expected, "{language}");
        }
    }
}

async fn streams_that_a_plugin_feeds_end_its_work_when_the_client_leaves(server: &TestServer) {
    for (language, name) in [("js", "hello-js"), ("python", "hello-python")] {
        let mut client = server.h1().await;
        let mut stream = client.open(&format!("/{language}/clock")).await;

        for _ in 0..2 {
            let tick = event(&mut stream).await;
            assert_eq!(tick[0], "event: tick", "{language}");
            assert!(tick[1].starts_with("data: {\"now\":\"20"), "{language}: {tick:?}");
        }
        drop((stream, client));

        server.until_registered(name, |plugin| plugin["in_flight"] == 0).await;
    }
}

async fn web_sockets_echo_and_refuse_what_is_none(server: &TestServer) {
    let address = server.http.unwrap();
    for path in ["/js/ws", "/python/ws"] {
        let mut socket = WebSocket::open(address, path).await;

        assert_eq!(socket.ask("h\u{e9}llo").await, "h\u{e9}llo", "{path}");
        socket.send(BINARY, &[0, 255]).await;
        assert_eq!(socket.frame().await, Some((BINARY, vec![0, 255])), "{path}");
        assert_eq!(socket.close(1000).await, 1000, "{path}");

        let plain = server.h1().await.get(path).await;
        assert_eq!(plain.status, 426, "{path}");
        assert_eq!(plain.header("upgrade"), "websocket", "{path}");
        assert_eq!(plain.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(server.client(Protocol::H2).await.get(path).await.status, 426, "{path}");
        let other = request(path, "").replace("Version: 13", "Version: 8");
        let (head, _) = ask(address, &other).await;
        assert!(head.starts_with("HTTP/1.1 426 "), "{path}: {head}");
        assert!(head.contains("sec-websocket-version: 13\r\n"), "{path}: {head}");
        let (head, _) = ask(address, &request(path, "Origin: https://evil.example\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{path}: {head}");
    }
}

async fn events_that_cannot_be_so_are_refused(server: &TestServer) {
    for path in ["/python/events", "/c/events"] {
        let large = server.h1().await.post(path, vec![b'x'; 70_000]).await;
        let mut client = server.h1().await;
        let put = client.request(Method::PUT, path).body(Bytes::new()).unwrap();
        let put = client.send(put).await;

        assert_eq!((large.status.as_u16(), put.status.as_u16()), (413, 405), "{path}");
    }
    let no_text = server.h1().await.post("/c/events", vec![0xff]).await;
    assert_eq!(no_text.status, 400);
}

/// By policies that the plugin names through `wharf:host/cache`.
async fn answers_are_cached_until_they_are_purged(server: &TestServer) {
    for language in ["js", "python"] {
        let path = format!("/{language}/cached");
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            let mut client = server.client(protocol).await;
            let first = client.get(&path).await;
            let second = client.get(&path).await;
            let known =
                client.request(Method::GET, &path).header("if-none-match", first.header("etag"));
            let known = client.send(known.body(Bytes::new()).unwrap()).await;
            let purge = client.request(Method::DELETE, &path).body(Bytes::new()).unwrap();
            let purged = client.send(purge).await;
            let third = client.get(&path).await;

            assert_eq!(first.status, 200, "{language}: {first:?}");
            assert_eq!(first.header("cache-control"), "public, max-age=60", "{language}");
            assert!(first.header("etag").starts_with('"'), "{language}: {first:?}");
            assert_eq!(second.body, first.body, "{language}: asked once");
            assert_eq!(known.status, 304, "{language}");
            // Those over the other scheme, too.
            assert!(purged.json()["purged"].as_u64() >= Some(1), "{language}: {purged:?}");
            assert_ne!(third.body, first.body, "{language}: purged");
        }
    }
}
