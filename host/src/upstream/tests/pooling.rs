//! Connections: reused, limited, given up.

use std::time::Duration;

use http::Method;
use http_body::Frame;
use tokio::sync::Semaphore;

use super::*;

fn at_most(connections: usize) -> Settings {
    Settings { connections_per_origin: connections, ..Settings::default() }
}

#[tokio::test]
async fn a_connection_is_reused_once_its_response_is_read() {
    let drain = Drain::new();
    let (origin, seen) = serve(&drain, |_| async { Response::new(text("hello")) }).await;
    let client = Client::reaching(&origin);

    for _ in 0..20 {
        assert_eq!(client.text(&format!("{origin}/")).await.unwrap(), "hello");
    }

    assert_eq!(seen.accepted(), 1);
}

#[tokio::test]
async fn no_more_connections_are_open_than_the_limit_says() {
    let drain = Drain::new();
    let (origin, seen) = serve(&drain, |_| async {
        tokio::task::yield_now().await;
        Response::new(text("hello"))
    })
    .await;
    let client = Client::with(&origin, at_most(3));
    let uri = format!("{origin}/");

    let answers = futures_util::future::join_all((0..60).map(|_| client.text(&uri))).await;

    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("hello")), "{answers:?}");
    assert!(seen.most_open.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn waiting_for_a_free_connection_has_an_end() {
    let drain = Drain::new();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let (origin, _) = serve(&drain, move |_| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.unwrap().forget();
            Response::new(text("late"))
        }
    })
    .await;
    let client = Client::with(&origin, at_most(1));
    let uri = format!("{origin}/");
    let timeouts = Timeouts { connect: Some(Duration::from_millis(50)), ..Timeouts::default() };

    let (first, second) = tokio::join!(client.text(&uri), async {
        let refused = client.send_within(get(&uri), timeouts).await.map(|_| ());
        gate.add_permits(1);
        refused
    });

    assert_eq!(second, Err(UpstreamError::ConnectionLimitReached));
    assert_eq!(first.unwrap(), "late");
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced() {
    let (listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let uri = format!("{origin}/");

    for _ in 0..5 {
        // The server keeps the connection for one exchange and closes it without a word.
        let (response, _head) =
            tokio::join!(client.send(post(&uri, full("body"))), answer_once(&listener, answer));

        let body = response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
    }
}

/// Answers the first request, takes the second and closes; then serves a second connection.
async fn closes_on_the_second(listener: &TcpListener) -> usize {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (mut first, _) = listener.accept().await.unwrap();
    read_head(&mut first).await;
    first.write_all(ok).await.unwrap();
    read_head(&mut first).await;
    drop(first);
    let accepted = tokio::time::timeout(Duration::from_millis(500), listener.accept()).await;
    let Ok(Ok((mut second, _))) = accepted else { return 2 };
    read_head(&mut second).await;
    second.write_all(ok).await.unwrap();
    3
}

#[tokio::test]
async fn what_a_closing_connection_swallowed_is_sent_again_only_where_that_is_safe() {
    for (method, requests) in [(Method::GET, 3), (Method::PUT, 3), (Method::POST, 2)] {
        let (listener, origin) = listen().await;
        let client = Client::reaching(&origin);
        let request =
            |method: &Method| Request::builder().method(method).uri(&origin).body(empty()).unwrap();

        let both = async {
            let first = client.send(request(&method)).await.unwrap();
            first.into_body().collect().await.unwrap();
            client.send(request(&method)).await.map(|response| response.status())
        };
        let (second, taken) = tokio::join!(both, closes_on_the_second(&listener));

        assert_eq!(taken, requests, "{method}");
        assert_eq!(second.is_ok(), requests == 3, "{method}: {second:?}");
    }
}

#[tokio::test]
async fn a_connection_rests_no_longer_than_the_upstream_says() {
    let drain = Drain::new();
    let (origin, seen) = serve(&drain, |_| async {
        let mut response = Response::new(text("ok"));
        let soon = http::HeaderValue::from_static("timeout=1, max=100");
        response.headers_mut().insert("keep-alive", soon);
        response
    })
    .await;
    let client = Client::reaching(&origin);

    for _ in 0..3 {
        client.text(&format!("{origin}/")).await.unwrap();
    }

    assert_eq!(seen.accepted(), 3);
}

#[tokio::test]
async fn a_dropped_response_body_closes_the_connection() {
    let (listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfirst";
        socket.write_all(head).await.unwrap();
        socket
    };
    let (response, mut socket) = tokio::join!(client.send(get(&origin)), server);
    let mut body = response.unwrap().into_body();
    body.frame().await.unwrap().unwrap();

    drop(body);

    assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_dropped_request_closes_the_connection() {
    let (listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let mut socket = tokio::select! {
        _ = client.send(get(&origin)) => panic!("nobody answers"),
        socket = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_head(&mut socket).await;
            socket
        } => socket,
    };

    assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_unread_upload_does_not_reach_the_next_exchange() {
    let drain = Drain::new();
    let (origin, seen) = serve(&drain, |_| async { Response::new(text("enough")) }).await;
    let client = Client::reaching(&origin);
    let uri = format!("{origin}/");
    let (sender, body) = channel();
    sender.send(Ok(Frame::data(Bytes::from_static(b"part")))).await.unwrap();

    let early = client.send(post(&uri, body)).await.unwrap().into_body().collect().await.unwrap();
    let next = client.text(&uri).await.unwrap();

    assert_eq!((early.to_bytes(), &*next), (Bytes::from_static(b"enough"), "enough"));
    assert_eq!(seen.accepted(), 2);
    drop(sender);
}

#[tokio::test]
async fn idle_connections_are_closed_after_the_idle_timeout() {
    let drain = Drain::new();
    let (origin, seen) = serve(&drain, |_| async { Response::new(text("hello")) }).await;
    let idle_timeout = Duration::from_millis(50);
    let client = Client::with(&origin, Settings { idle_timeout, ..Settings::default() });
    let before = std::time::Instant::now();

    client.text(&origin).await.unwrap();
    while seen.open.load(Ordering::SeqCst) > 0 || client.drain.running() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    assert!(before.elapsed() >= idle_timeout);
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_waits_for_none() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |_| async { Response::new(text("hello")) }).await;
    let client = Client::reaching(&origin);
    client.text(&format!("{origin}/")).await.unwrap();

    assert!(client.drain.finish(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn the_oldest_idle_connection_makes_room_for_another_origin() {
    let drain = Drain::new();
    let (first, seen) = serve(&drain, |_| async { Response::new(text("first")) }).await;
    let (second, _) = serve(&drain, |_| async { Response::new(text("second")) }).await;
    let upstream =
        Upstream::with_settings(Drain::new(), Settings { connections: 1, ..Settings::default() });
    let grants = OutboundGrants::parse(&[first.clone(), second.clone()]).unwrap();

    for origin in [&first, &second] {
        let response = upstream.send(&grants, get(origin), Timeouts::default()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }

    while seen.open.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn cores_have_connections_of_their_own_within_one_limit() {
    let core = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (limit, connections) in [(6, 2), (1, 1)] {
        let drain = Drain::new();
        let (server, first, second) = (core(), core(), core());
        let (origin, seen) = server.block_on(serve(&drain, |_| async { Response::new(text("x")) }));
        let client = Client::with(&origin, at_most(limit));
        // Tasks of a current-thread runtime run while somebody blocks on it.
        let (stop, stopped) = tokio::sync::watch::channel(());
        std::thread::scope(|scope| {
            for runtime in [&server, &first] {
                let mut stopped = stopped.clone();
                let client = &client;
                let origin = &origin;
                let is_client = std::ptr::eq(runtime, &first);
                scope.spawn(move || {
                    runtime.block_on(async {
                        if is_client {
                            client.text(origin).await.unwrap();
                        }
                        let _sender_gone = stopped.changed().await;
                    });
                });
            }
            second.block_on(async {
                while seen.accepted() == 0 || client.upstream.pool.idle() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                for _ in 0..20 {
                    client.text(&origin).await.unwrap();
                }
            });
            drop(stop);
        });

        assert_eq!(seen.accepted(), connections, "limit {limit}");
    }
}
