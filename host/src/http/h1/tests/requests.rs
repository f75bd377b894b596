//! What is understood, and what is refused.

use super::*;

#[tokio::test]
async fn ambiguous_and_malformed_requests_are_refused_and_the_connection_closed() {
    let host = "Host: a\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases: Vec<(String, &str, &str)> = vec![
        // RFC 9112 §6.1, §6.3: framing.
        (
            format!("POST /see HTTP/1.1\r\n{host}Content-Length: 3\r\n{chunked}\r\nabc"),
            "400",
            "CL+TE",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}{chunked}Content-Length: 3\r\n\r\nabc"),
            "400",
            "TE+CL",
        ),
        (
            format!(
                "POST /see HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
            ),
            "400",
            "CL twice",
        ),
        (
            format!(
                "POST /see HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"
            ),
            "400",
            "CL differing",
        ),
        (format!("POST /see HTTP/1.1\r\n{host}Content-Length: 3, 3\r\n\r\nabc"), "400", "CL list"),
        (format!("POST /see HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\nabc"), "400", "CL sign"),
        (format!("POST /see HTTP/1.1\r\n{host}Content-Length: 1 3\r\n\r\nabc"), "400", "CL space"),
        (format!("POST /see HTTP/1.1\r\n{host}Content-Length: 0x3\r\n\r\nabc"), "400", "CL hex"),
        (format!("POST /see HTTP/1.1\r\n{host}Content-Length:\r\n\r\nabc"), "400", "CL empty"),
        (
            format!("POST /see HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\nabc"),
            "400",
            "CL negative",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}Content-Length: 99999999999999999999\r\n\r\n"),
            "400",
            "CL overflow",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}Content-Length : 3\r\n\r\nabc"),
            "400",
            "space before colon",
        ),
        (format!("POST /see HTTP/1.1\r\n{host}{chunked}{chunked}\r\n0\r\n\r\n"), "400", "TE twice"),
        (
            format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding: identity\r\n\r\n"),
            "400",
            "TE identity",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\n"),
            "400",
            "TE not last",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
            "400",
            "TE unknown",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            "501",
            "TE gzip",
        ),
        (format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding:\r\n\r\n"), "400", "TE empty"),
        (
            format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding: \x0bchunked\r\n\r\n"),
            "400",
            "TE vertical tab",
        ),
        (
            format!("POST /see HTTP/1.1\r\n{host}Transfer-Encoding\r\n : chunked\r\n\r\n"),
            "400",
            "TE folded name",
        ),
        (format!("POST /see HTTP/1.0\r\n{host}{chunked}\r\n0\r\n\r\n"), "400", "TE in 1.0"),
        // RFC 9112 §2.2, §5: line ends, folds, bytes.
        ("GET /see HTTP/1.1\nHost: a\n\n".to_owned(), "400", "bare LF"),
        ("GET /see HTTP/1.1\r\nHost: a\n\r\n".to_owned(), "400", "one bare LF"),
        ("GET /see HTTP/1.1\r\nHost: a\r\n\n".to_owned(), "400", "bare LF as the end"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n".to_owned(), "400", "bare CR"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n".to_owned(), "400", "fold"),
        ("GET /see HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), "400", "blank before the first field"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n".to_owned(), "400", "NUL in a name"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned(), "400", "NUL in a value"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n".to_owned(), "400", "blank in a name"),
        ("GET /see HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n".to_owned(), "400", "no name"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nX\r\n\r\n".to_owned(), "400", "no colon"),
        // RFC 9112 §3: the request line.
        ("GET  /see HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "two spaces"),
        ("GET /see  HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "two spaces after the target"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "space in the target"),
        ("GET /see\r\nHost: a\r\n\r\n".to_owned(), "400", "no version"),
        ("GET see HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "no slash"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "GET *"),
        ("GET /see#x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "fragment"),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "backslash"),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "not ASCII"),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "DEL"),
        ("G@T /see HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "method"),
        ("\x16\x03\x01\x02\0".to_owned(), "400", "a TLS hello"),
        ("GET /see HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), "505", "HTTP/2.0"),
        ("GET /see HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), "505", "HTTP/1.2"),
        ("GET /see http/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "version in lower case"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), "501", "CONNECT"),
        // RFC 9112 §3.2: one authority.
        ("GET /see HTTP/1.1\r\n\r\n".to_owned(), "400", "no host"),
        ("GET /see HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), "400", "host twice"),
        ("GET /see HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), "400", "host empty"),
        ("GET /see HTTP/1.1\r\nHost: u@a\r\n\r\n".to_owned(), "400", "userinfo"),
        ("GET /see HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), "400", "path in host"),
        ("GET /see HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned(), "400", "two in one host"),
        ("GET /see HTTP/1.1\r\nHost: a:99999\r\n\r\n".to_owned(), "400", "port"),
        ("GET http://a/see HTTP/1.1\r\nHost: b\r\n\r\n".to_owned(), "400", "target and host"),
        (
            "GET http://u@a/see HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
            "userinfo in the target",
        ),
        ("GET ftp://a/see HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "scheme"),
        // RFC 9110 §7.6.1, §10.1.1.
        (
            "GET /see HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n".to_owned(),
            "400",
            "option host",
        ),
        ("GET /see HTTP/1.1\r\nHost: a\r\nExpect: cake\r\n\r\n".to_owned(), "417", "expectation"),
        // Limits.
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17_000)), "414", "URL"),
        (format!("GET /{}", "x".repeat(40_000)), "414", "URL without end"),
        (
            format!("GET /see HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(66_000)),
            "431",
            "field bytes",
        ),
        (
            format!("GET /see HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(66_000)),
            "431",
            "field without end",
        ),
        (
            format!("GET /see HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(100)),
            "431",
            "field count",
        ),
    ];

    for (request, status, what) in cases {
        let mut connection = TestConnection::new();
        // What follows must not be taken for a request, whatever the first one was.
        connection.send(&request).await;
        connection.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
        connection.client.shutdown().await.unwrap();

        let answers = connection.receive_rest().await;

        assert_eq!(statuses(&answers), [status], "{what}: {answers}");
        assert!(answers.contains("\r\nconnection: close\r\n"), "{what}: {answers}");
        assert_eq!(connection.asked(), 0, "{what}");
    }
}

#[tokio::test]
async fn a_request_reaches_the_handler_without_what_concerns_the_connection() {
    let seen = answer(
        "GET /see?a=%00 HTTP/1.1\r\nHOST: ExAmple.com:8080\r\nConnection: X-Hop, keep-alive, TE\r\n\
         X-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip, trailers\r\nProxy: http://evil\r\nX-Kept:  v \r\n\
         X-Forwarded-Prefix: /evil\r\nWharf-Exchange: stolen\r\nWharf-Reply: stolen\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nProxy-Connection: x\r\n\r\n",
    )
    .await;

    let (_, seen) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = seen.lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "GET http://example.com:8080/see?a=%00",
            "host=example.com:8080",
            "te=trailers",
            "x-kept=v"
        ]
    );
}

#[tokio::test]
async fn absolute_form_asterisk_and_http_1_0_have_one_authority_too() {
    let absolute = answer("GET http://A/see HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let asterisk = answer("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hostless = answer("GET /see HTTP/1.0\r\n\r\n").await;

    assert!(absolute.contains("GET http://a/see\n"), "{absolute}");
    assert_eq!(statuses(&asterisk), ["404"]);
    assert!(hostless.contains("GET http://127.0.0.1:8080/see\n"), "{hostless}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let answers = answer(
        "\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\n\
         Content-Length: 4\r\n\r\nbodyGET /204 HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /see HTTP/1.1\r\n",
    )
    .await;

    assert_eq!(statuses(&answers), ["200", "200", "204", "200"]);
    let at = |text| answers.find(text).unwrap();
    assert!(at("slow") < at("body") && at("body") < at(" 204 ") && at(" 204 ") < at("hello"));
    assert!(answers.ends_with("hello"));
}

#[tokio::test]
async fn a_head_may_come_in_any_pieces() {
    let mut connection = TestConnection::new();
    let request = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

    for byte in request.bytes() {
        connection.send([byte]).await;
        tokio::task::yield_now().await;
    }
    let answer = connection.receive_until("hello").await;

    assert_eq!(statuses(&answer), ["200"]);
    assert_eq!(connection.conn.requests(), 1);
}

#[tokio::test]
async fn http_1_0_closes_unless_it_asks_to_stay() {
    let closing = answer("GET /hello HTTP/1.0\r\n\r\nGET /hello HTTP/1.0\r\n\r\n").await;
    let staying = "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let staying = answer(staying.repeat(2)).await;

    assert_eq!(statuses(&closing), ["200"]);
    assert!(closing.contains("connection: close\r\n"));
    assert_eq!(statuses(&staying), ["200", "200"]);
    assert!(staying.contains("connection: keep-alive\r\n"));
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let (_client, server) = duplex(1);
    let mut connection = TestConnection::new();
    let serving = Serving {
        handler: Arc::clone(&connection.handler),
        drain: connection.drain.clone(),
        limits: Arc::default(),
        states: Arc::clone(&connection.states),
        core: 0,
        alt_svc: None,
        http2: true,
    };

    let future = serve(server, Bytes::new(), Arc::clone(&connection.conn), serving);

    // Handler state and buffers are not in it.
    let size = size_of_val(&future);
    assert!(size <= 2048, "{size} bytes");
    connection.client.shutdown().await.unwrap();
}
