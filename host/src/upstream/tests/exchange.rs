//! One request and its response: what leaves, what comes back, how it ends.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body, Frame};

use super::*;

async fn sent_head(request: Request<UpstreamRequestBody>, listener: TcpListener) -> String {
    let client = Client::reaching(&format!("http://{}", listener.local_addr().unwrap()));
    let ok = "HTTP/1.1 204 No Content\r\n\r\n";

    let (response, head) = tokio::join!(client.send(request), answer_once(&listener, ok));

    response.unwrap();
    head
}

#[tokio::test]
async fn a_request_without_a_grant_is_denied_before_anything_connects() {
    let (_listener, origin) = listen().await;
    let client = Client::reaching("https://elsewhere.example.com");

    let error = client.send(get(&format!("{origin}/secret"))).await.unwrap_err();

    assert_eq!(error, UpstreamError::RequestDenied { origin });
}

#[tokio::test]
async fn a_granted_name_that_leads_to_a_private_address_is_refused() {
    let (listener, origin) = listen().await;
    let port = port_of(&origin);
    let grants = OutboundGrants::parse(&[format!("http://rebound.example.com:{port}")]).unwrap();
    let look_up = Arc::new(Everywhere(listener.local_addr().unwrap()));
    let upstream = Upstream::with_look_up(Drain::new(), Settings::default(), look_up);

    let request = get(&format!("http://rebound.example.com:{port}/"));
    let error = upstream.send(&grants, request, Timeouts::default()).await.unwrap_err();

    assert_eq!(error, UpstreamError::DestinationIpProhibited);
}

#[tokio::test]
async fn localhost_is_reached_where_it_is_named() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |_| async { Response::new(text("here")) }).await;
    let origin = format!("http://localhost:{}", port_of(&origin));

    let answer = Client::reaching(&origin).text(&format!("{origin}/")).await;

    assert_eq!(answer.unwrap(), "here");
}

#[tokio::test]
async fn a_closed_port_is_connection_refused() {
    let (listener, origin) = listen().await;
    drop(listener);

    let error = Client::reaching(&origin).text(&format!("{origin}/")).await.unwrap_err();

    assert_eq!(error, UpstreamError::ConnectionRefused);
}

#[tokio::test]
async fn what_belongs_to_this_hop_or_to_wharf_does_not_leave() {
    let (listener, origin) = listen().await;
    let request = Request::post(format!("{origin}/path?q=1"))
        .header("host", "other.example.com")
        .header("connection", "close, x-private")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("transfer-encoding", "chunked")
        .header("upgrade", "websocket")
        .header("te", "gzip")
        .header("expect", "100-continue")
        .header("wharf-exchange", "secret")
        .header("wharf-reply", "secret")
        .header("x-kept", "1")
        .body(full("hello"))
        .unwrap();

    let head = sent_head(request, listener).await;

    let authority = origin.strip_prefix("http://").unwrap();
    assert_eq!(
        head,
        format!(
            "POST /path?q=1 HTTP/1.1\r\nhost: {authority}\r\nx-kept: 1\r\ncontent-length: 5\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn fields_leave_in_their_order_and_as_often_as_they_are_given() {
    let (listener, origin) = listen().await;
    let request = Request::builder()
        .method("REPORT")
        .uri(&origin)
        .header("te", "trailers")
        .header("b", "1")
        .header("connection", "x-hop")
        .header("a", "2")
        .header("x-hop", "1")
        .header("b", "3")
        .header("c", "4")
        .body(empty())
        .unwrap();

    let head = sent_head(request, listener).await;

    let lines: Vec<_> = head.lines().filter(|line| !line.starts_with("host")).collect();
    let expected =
        ["REPORT / HTTP/1.1", "b: 1", "b: 3", "a: 2", "c: 4", "te: trailers", "connection: te", ""];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn host_goes_out_as_it_is_only_where_that_is_wished() {
    for keeps_host in [false, true] {
        let (listener, origin) = listen().await;
        let mut request = get(&origin);
        request.headers_mut().insert("host", HeaderValue::from_static("public.example.com"));
        request.extensions_mut().insert(Forwarding { keeps_host, on_interim: None });

        let head = sent_head(request, listener).await;

        assert_eq!(head.contains("host: public.example.com\r\n"), keeps_host, "{head}");
        assert_eq!(head.matches("host:").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn interim_responses_are_told_to_who_asked_for_them() {
    let (listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut request = get(&origin);
    let told = Arc::clone(&heard);
    let on_interim: OnInterim = Arc::new(move |status, fields| {
        let link = fields.get("link").map(|link| link.to_str().unwrap().to_owned());
        told.lock().push((status.as_u16(), link));
    });
    let forwarding = Forwarding { keeps_host: false, on_interim: Some(on_interim) };
    request.extensions_mut().insert(forwarding);
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    let (response, _head) = tokio::join!(client.send(request), answer_once(&listener, answer));

    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(*heard.lock(), [(102, None), (103, Some("</a.css>".to_owned()))]);
}

#[tokio::test]
async fn a_get_without_content_has_no_framing() {
    let (listener, origin) = listen().await;

    let head = sent_head(get(&origin), listener).await;

    let authority = origin.strip_prefix("http://").unwrap();
    assert_eq!(head, format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n"));
}

#[tokio::test]
async fn a_get_with_streamed_content_is_sent_with_it() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync())
    })
    .await;
    let (sender, body) = channel();
    sender.send(Ok(Frame::data(Bytes::from("query")))).await.unwrap();
    drop(sender);
    let request = Request::get(format!("{origin}/")).body(body).unwrap();

    let response = Client::reaching(&origin).send(request).await.unwrap();

    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "query");
}

#[tokio::test]
async fn requests_that_cannot_be_sent_are_refused_with_their_fault() {
    let (_listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let build = |method: Method, uri: &str, fields: &[(&str, &str)], body| {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(body).unwrap()
    };
    let uri = format!("{origin}/");
    let long = format!("{origin}/{}", "x".repeat(20_000));
    let large = "x".repeat(70_000);

    for (request, label) in [
        (build(Method::CONNECT, &uri, &[], empty()), "http-request-method-invalid"),
        (build(Method::GET, "/relative", &[], empty()), "http-request-uri-invalid"),
        (build(Method::GET, "ftp://a.test/", &[], empty()), "http-request-uri-invalid"),
        (build(Method::GET, &long, &[], empty()), "http-request-uri-too-long"),
        (build(Method::GET, &uri, &[("x", &large)], empty()), "http-request-header-section-size"),
        (
            build(Method::POST, &uri, &[("content-length", "9")], full("a")),
            "http-request-body-size",
        ),
        (build(Method::POST, &uri, &[("content-length", "+1")], full("a")), "http-protocol-error"),
        (
            build(
                Method::POST,
                &uri,
                &[("content-length", "1"), ("content-length", "2")],
                full("a"),
            ),
            "http-protocol-error",
        ),
    ] {
        let error = client.send(request).await.unwrap_err();

        assert_eq!(error.label(), label);
    }
}

#[tokio::test]
async fn a_streamed_body_is_held_to_its_content_length() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |request| async {
        let _read = request.into_body().collect().await;
        Response::new(text("read"))
    })
    .await;
    for (chunks, size) in [(vec!["1234", "56"], 6), (vec!["12", "3"], 3)] {
        let (sender, body) = channel();
        let request =
            Request::post(format!("{origin}/")).header("content-length", 5).body(body).unwrap();
        let client = Client::reaching(&origin);

        let (answer, ()) = tokio::join!(client.send(request), async {
            for chunk in chunks {
                let _refused = sender.send(Ok(Frame::data(Bytes::from(chunk)))).await;
            }
            drop(sender);
        });

        assert_eq!(answer.unwrap_err(), UpstreamError::RequestBodySize { size });
    }
}

#[tokio::test]
async fn a_failing_request_body_is_the_error() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |request| async {
        let _read = request.into_body().collect().await;
        Response::new(text("read"))
    })
    .await;
    let (sender, body) = channel();
    let client = Client::reaching(&origin);

    let (answer, _sent) = tokio::join!(client.send(post(&format!("{origin}/"), body)), async {
        sender.send(Err("the guest trapped".into())).await
    });

    assert_eq!(
        answer.unwrap_err(),
        UpstreamError::RequestBody { reason: "the guest trapped".to_owned() }
    );
}

#[tokio::test]
async fn responses_lose_what_belongs_to_the_hop() {
    let response = answered_with(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\n\
         wharf-reply: forged\r\nx-kept: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await
    .unwrap();

    let names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-kept"]);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn broken_responses_are_told_apart() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(70_000));
    for (answer, label) in [
        ("", "connection-terminated"),
        ("HTTP/1.1 200", "connection-terminated"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "http-protocol-error"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "http-protocol-error",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "http-upgrade-failed"),
        (&many, "http-response-header-section-size"),
        (&large, "http-response-header-section-size"),
    ] {
        let error = answered_with(answer).await.unwrap_err();

        assert_eq!(error.label(), label, "{answer:.40}");
    }
    for (answer, label) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "http-response-incomplete"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "http-response-incomplete",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "http-protocol-error"),
    ] {
        let body = answered_with(answer).await.unwrap().into_body();

        assert_eq!(body.collect().await.unwrap_err().label(), label, "{answer}");
    }
}

#[tokio::test]
async fn responses_without_content_end_at_once() {
    let (listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let head = Request::head(format!("{origin}/")).body(empty()).unwrap();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";

    let (response, _) = tokio::join!(client.send(head), answer_once(&listener, answer));

    let response = response.unwrap();
    assert_eq!(response.headers()["content-length"], "100");
    assert!(response.body().is_end_stream());
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n"] {
        assert!(answered_with(answer).await.unwrap().body().is_end_stream());
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |request| async {
        let trailers = request.into_body().collect().await.unwrap().trailers().cloned();
        let body = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))),
            Ok(Frame::trailers(trailers.unwrap_or_default())),
        ]));
        Response::builder().header("trailer", "x-sum").body(body.boxed_unsync()).unwrap()
    })
    .await;
    let (sender, body) = channel();
    let request = Request::post(format!("{origin}/"))
        .header("te", "trailers")
        .header("trailer", "x-sum, wharf-reply")
        .body(body)
        .unwrap();
    let trailers = HeaderMap::from_iter([
        ("x-sum".parse().unwrap(), HeaderValue::from_static("42")),
        ("wharf-reply".parse().unwrap(), HeaderValue::from_static("secret")),
    ]);
    let client = Client::reaching(&origin);

    let (response, ()) = tokio::join!(client.send(request), async {
        sender.send(Ok(Frame::data(Bytes::from_static(b"y")))).await.unwrap();
        sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(sender);
    });

    let collected = response.unwrap().into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("42")));
}

#[tokio::test]
async fn a_silent_upstream_is_left_when_the_timeouts_say_so() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |request| async move {
        if request.uri().path() == "/silent" {
            std::future::pending::<()>().await;
        }
        let (sender, body) = channel();
        sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
        Box::leak(Box::new(sender));
        Response::new(body)
    })
    .await;
    let client = Client::reaching(&origin);
    let short = Some(Duration::from_millis(40));

    let timeouts = Timeouts { first_byte: short, ..Timeouts::default() };
    let head = client.send_within(get(&format!("{origin}/silent")), timeouts).await;
    let timeouts = Timeouts { between_bytes: short, ..Timeouts::default() };
    let stalled = client.send_within(get(&format!("{origin}/")), timeouts).await;

    assert_eq!(head.unwrap_err(), UpstreamError::ResponseTimeout);
    let error = stalled.unwrap().into_body().collect().await.unwrap_err();
    assert_eq!(error, UpstreamError::ConnectionReadTimeout);
}

#[tokio::test]
async fn zero_timeouts_are_errors_and_not_panics() {
    let (listener, origin) = listen().await;
    let zero = Some(Duration::ZERO);
    let timeouts = Timeouts { connect: None, first_byte: zero, between_bytes: zero };

    let answer = Client::reaching(&origin).send_within(get(&origin), timeouts).await;

    assert_eq!(answer.unwrap_err(), UpstreamError::ResponseTimeout);
    drop(listener);
}

#[tokio::test]
async fn an_upload_that_moves_outlasts_the_first_byte_timeout() {
    let drain = Drain::new();
    let (origin, _) = serve(&drain, |request| async {
        let size = request.into_body().collect().await.unwrap().to_bytes().len();
        assert_eq!(size, 10);
        Response::new(text("read"))
    })
    .await;
    let (sender, body) = channel();
    let timeouts = Timeouts { first_byte: Some(Duration::from_millis(200)), ..Timeouts::default() };
    let client = Client::reaching(&origin);
    let request = post(&format!("{origin}/"), body);

    let (answer, ()) = tokio::join!(client.send_within(request, timeouts), async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
        }
        drop(sender);
    });

    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_upstream() {
    let drain = Drain::new();
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&produced);
    let (origin, _) = serve(&drain, move |_| {
        let counter = Arc::clone(&counter);
        async move {
            let chunks = futures_util::stream::repeat_with(move || {
                counter.fetch_add(64 * 1024, Ordering::SeqCst);
                Ok::<_, BoxError>(Frame::data(Bytes::from(vec![0; 64 * 1024])))
            });
            Response::new(http_body_util::StreamBody::new(chunks).boxed_unsync())
        }
    })
    .await;
    let client = Client::reaching(&origin);
    let mut body = client.send(get(&origin)).await.unwrap().into_body();

    let mut read = 0;
    while read < 8 << 20 {
        read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    // The producer runs on this thread too: it has had its chance once it stands still.
    let mut before = 0;
    while before != produced.load(Ordering::SeqCst) {
        before = produced.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // What sockets and buffers of both sides hold: a few megabytes on loopback.
    assert!(before < read + (16 << 20), "{before} produced for {read} read");
}
