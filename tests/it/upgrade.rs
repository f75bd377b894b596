//! Protocol switches: the raw byte stream of a connection, both ways, in a plugin's hands.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wharf_tests::{Protocol, TestServer, TunnelReader, TunnelWriter, each_protocol, guest};

/// The one protocol that the HTTP/3 client can ask for.
const NAME: &str = "connect-udp";

async fn server() -> TestServer {
    TestServer::with("up", &guest("p3_upgrade")).await
}

async fn sample() -> TestServer {
    TestServer::builder().sample("switch").start().await
}

async fn switched(
    server: &TestServer,
    protocol: Protocol,
    mode: &str,
) -> (TunnelWriter, TunnelReader) {
    let mut client = server.client(protocol).await;
    let tunnel = client.switch(&format!("/up?protocol={NAME}&mode={mode}"), NAME).await;
    assert_eq!(tunnel.headers["x-switched"], "yes", "{:?}", tunnel.headers);
    tunnel.ends.expect("it has switched")
}

/// Sends `request` as it is and gives what comes back until the server closes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _reset_is_fine_too = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn asking(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

const ASKS: &str = "Connection: Upgrade\r\nUpgrade: test\r\n";

/// Everything up to and including the empty line.
async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

each_protocol!(bytes_come_back_and_each_side_ends_by_itself, |protocol| async move {
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, protocol, "echo").await;

    writer.write("ping").await;
    assert_eq!(reader.take(4).await, b"ping");
    writer.write("pong").await;
    assert_eq!(reader.take(4).await, b"pong");
    writer.finish().await;

    assert!(reader.piece().await.unwrap().is_none());
    server.until_printed("up", "p3_upgrade: input ended").await;
});

each_protocol!(a_half_closed_client_is_answered, |protocol| async move {
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, protocol, "count").await;

    writer.write(vec![b'x'; 100_000]).await;
    writer.finish().await;

    assert_eq!(reader.take(6).await, b"100000");
    assert!(reader.piece().await.unwrap().is_none());
});

each_protocol!(the_plugin_may_speak_first_and_end_first, |protocol| async move {
    let server = server().await;

    let (mut writer, mut reader) = switched(&server, protocol, "greet").await;
    assert_eq!(reader.take(5).await, b"hello");
    writer.finish().await;
    assert!(reader.piece().await.unwrap().is_none());

    let (_writer, mut reader) = switched(&server, protocol, "bye").await;
    assert_eq!(reader.take(3).await, b"bye");
    assert!(reader.piece().await.unwrap().is_none());
});

each_protocol!(ten_megabytes_go_both_ways_at_once, |protocol| async move {
    const BYTES: usize = 10 << 20;
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, protocol, "echo").await;
    let sent: Vec<u8> = (0..BYTES).map(|at| (at / 7 % 251) as u8).collect();

    let pieces: Vec<_> = sent.chunks(50_000).map(Bytes::copy_from_slice).collect();
    let sending = async {
        for piece in pieces {
            writer.write(piece).await;
        }
        writer.finish().await;
    };
    let ((), echoed) = tokio::join!(sending, reader.take(BYTES));

    assert!(echoed == sent, "{} bytes came back", echoed.len());
    assert!(reader.piece().await.unwrap().is_none());
});

each_protocol!(the_connection_is_counted_as_hijacked_meanwhile, |protocol| async move {
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, protocol, "echo").await;
    let hijacked = async |count: u32| {
        let line = format!("{{state=\"hijacked\"}} {count}\n");
        while !server.metrics().await.contains(&line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    hijacked(1).await;
    let busy = server.registered("up").await.unwrap();
    assert_eq!(busy["in_flight"], 1, "{busy}");
    writer.finish().await;
    assert!(reader.piece().await.unwrap().is_none());

    hijacked(0).await;
    server.until_registered("up", |entry| entry["in_flight"] == 0).await;
    server.until_logged("GET /up").await;
});

each_protocol!(a_client_that_leaves_ends_the_plugins_input, |protocol| async move {
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, protocol, "echo").await;
    writer.write("ping").await;
    assert_eq!(reader.take(4).await, b"ping");

    drop((writer, reader));

    server.until_printed("up", "p3_upgrade: input ended").await;
    server.until_registered("up", |entry| entry["in_flight"] == 0).await;
});

each_protocol!(a_plugin_that_does_not_stop_is_given_up, |protocol| async move {
    let server = server().await;
    let (writer, reader) = switched(&server, protocol, "stubborn").await;

    drop((writer, reader));

    server.until_registered("up", |entry| entry["in_flight"] == 0).await;
});

each_protocol!(a_trap_breaks_the_stream_off, |protocol| async move {
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, protocol, "trap").await;

    writer.write("x").await;
    let end = reader.piece().await;

    // A closed TCP connection without TLS cannot say more.
    assert!(protocol == Protocol::H1 || end.is_err(), "{end:?}");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    server.until_logged("plugin failed").await;
    server.until_registered("up", |entry| entry["in_flight"] == 0).await;
});

each_protocol!(a_slow_client_holds_the_plugin_back, |protocol| async move {
    let server = server().await;
    let before = server.memory();
    let (_writer, mut reader) = switched(&server, protocol, "source&bytes=200000000").await;

    assert_eq!(reader.take(1000).await[..1000], [b'x'; 1000]);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes are held");
});

each_protocol!(
    a_drain_ends_the_plugins_input_and_waits_for_its_last_words,
    |protocol| async move {
        let mut server = server().await;
        let (mut writer, mut reader) = switched(&server, protocol, "count").await;
        writer.write("12345").await;
        // Counted, so that it does not come after the end.
        tokio::time::sleep(Duration::from_millis(300)).await;

        server.signal("TERM").await;

        assert_eq!(reader.take(1).await, b"5");
        assert!(!matches!(reader.piece().await, Ok(Some(_))));
        drop((writer, reader));
        assert_eq!(server.wait().await, Some(0), "{}", server.log());
    }
);

#[tokio::test]
async fn a_switch_that_will_not_end_is_cut_at_the_drain_limit() {
    let mut server = TestServer::builder()
        .plugin("up", &guest("p3_upgrade"))
        .config("drain-limit = \"1s\"")
        .start()
        .await;
    let (_writer, mut reader) = switched(&server, Protocol::H1, "stubborn").await;
    let begun = std::time::Instant::now();

    server.signal("TERM").await;

    assert!(!matches!(reader.piece().await, Ok(Some(_))));
    assert_eq!(server.wait().await, Some(1), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

each_protocol!(a_silent_switch_is_closed, |protocol| async move {
    let server = TestServer::builder()
        .plugin("up", &guest("p3_upgrade"))
        .config("[limits]\nswitch-idle-timeout = \"500ms\"")
        .start()
        .await;
    let (mut writer, mut reader) = switched(&server, protocol, "echo").await;
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        writer.write("x").await;
        assert_eq!(reader.take(1).await, b"x");
    }

    assert!(!matches!(reader.piece().await, Ok(Some(_))));
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    server.until_registered("up", |entry| entry["in_flight"] == 0).await;
});

#[tokio::test]
async fn a_switch_outlives_the_reload_of_its_plugin() {
    let server = server().await;
    let (mut writer, mut reader) = switched(&server, Protocol::H1, "echo").await;

    server.install("up", &guest("p3_hello"));
    server.until_get("/up", |answer| answer.text().contains("hello")).await;
    writer.write("still here").await;

    assert_eq!(reader.take(10).await, b"still here");
}

each_protocol!(a_switch_works_behind_middleware, |protocol| async move {
    let server = TestServer::builder()
        .plugin("up", &guest("p3_upgrade"))
        .manifest("up", "middleware = [\"mw\"]\nroutes = [\"/up\"]")
        .plugin("mw", &guest("mw_p3"))
        .start()
        .await;
    let mut client = server.client(protocol).await;

    let tunnel = client.switch(&format!("/up?protocol={NAME}&mode=echo"), NAME).await;

    assert_eq!(tunnel.headers["x-mw"], "p3");
    let (mut writer, mut reader) = tunnel.ends.expect("it has switched");
    writer.write("through").await;
    assert_eq!(reader.take(7).await, b"through");
});

#[tokio::test]
async fn nothing_reaches_the_plugin_before_the_switch_is_confirmed() {
    let server = server().await;
    let mut socket = TcpStream::connect(server.http.unwrap()).await.unwrap();

    // The client does not wait for the 101.
    let eager = asking("/up?mode=greet", ASKS) + "GET /up?mode=requested HTTP/1.1\r\n\r\n";
    socket.write_all(eager.as_bytes()).await.unwrap();
    let head = head(&mut socket).await;
    let mut echoed = vec![0; "helloGET /up?mode=requested HTTP/1.1\r\n\r\n".len()];
    socket.read_exact(&mut echoed).await.unwrap();

    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: test\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(!head.contains("wharf-reply") && !head.contains("content-length"), "{head}");
    assert_eq!(echoed, b"helloGET /up?mode=requested HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn what_follows_a_refused_upgrade_is_the_next_request_or_nothing() {
    let server = server().await;
    let http = server.http.unwrap();

    for mode in ["requested", "forget", "other", "bare", "twice"] {
        let first = asking(&format!("/up?mode={mode}"), ASKS);
        let next = asking("/up?mode=requested", "Connection: close\r\n");

        let answer = raw(http, &format!("{first}{next}")).await;

        let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").collect();
        assert!(!answer.contains("101 Switching"), "{mode}: {answer}");
        assert!((1..=2).contains(&statuses.len()), "{mode}: {answer}");
        let expected = if matches!(mode, "other" | "bare") { "500" } else { "200" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{mode}: {answer}");

        let answer = raw(http, &format!("{first}bytes of the other protocol\r\n\r\n")).await;
        assert!(!answer.contains("101 Switching"), "{mode}: {answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "{mode}: {answer}");
    }
}

#[tokio::test]
async fn only_what_is_clearly_asked_for_is_offered() {
    let server = server().await;
    let http = server.http.unwrap();
    let close = "Connection: close\r\n";

    for (fields, offered) in [
        (format!("{close}Connection: upgrade\r\nUpgrade: a\r\n"), "a"),
        (
            format!("{close}Connection: x, UPGRADE\r\nUpgrade: a, b/1.0\r\nUpgrade: c\r\n"),
            "a|b/1.0|c",
        ),
        (format!("{close}Connection: upgrade\r\nUpgrade: h2c, a, HTTP/2.0, TLS/1.0\r\n"), "a"),
        (
            format!(
                "{close}Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
            ),
            "",
        ),
        (format!("{close}Upgrade: a\r\n"), ""),
        (format!("{close}Connection: upgrade\r\n"), ""),
        (format!("{close}Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 0\r\n"), "a"),
        (format!("{close}Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n"), ""),
        (format!("{close}Connection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n"), ""),
    ] {
        let answer = raw(http, &format!("{}x", asking("/up?mode=requested", &fields))).await;

        assert!(answer.starts_with("HTTP/1.1 200 "), "{fields}: {answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        assert!(
            body.contains(offered) && (!offered.is_empty() || !body.contains('a')),
            "{fields}: {answer}"
        );
    }
    let old =
        "GET /up?mode=requested HTTP/1.0\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n";
    assert!(raw(http, old).await.ends_with("\r\n\r\n"));
    for malformed in ["a b", "a/b/c", "a;q=1", "/1", "\"a\""] {
        let fields = format!("Connection: upgrade\r\nUpgrade: {malformed}\r\n");

        let answer = raw(http, &asking("/up?mode=requested", &fields)).await;

        assert!(answer.starts_with("HTTP/1.1 400 "), "{malformed}: {answer}");
    }
}

#[tokio::test]
async fn plain_connect_is_refused_on_each_protocol() {
    let server = server().await;

    let http1 = raw(server.http.unwrap(), "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    let mut client = server.client(Protocol::H2).await;
    let request = http::Request::connect("localhost:1").body(Bytes::new()).unwrap();
    let http2 = client.try_send(request).await.unwrap();

    assert!(http1.starts_with("HTTP/1.1 501 "), "{http1}");
    assert_eq!(http2.status, 501);
}

#[tokio::test]
async fn curl_sees_the_sample_switch() {
    let server = TestServer::builder()
        .sample("switch")
        .config("[limits]\nswitch-idle-timeout = \"300ms\"")
        .start()
        .await;
    let url = format!("http://{}/hijack", server.http.unwrap());

    let curl = Command::new("curl")
        .args(["-s", "-i", "-H", "Connection: Upgrade", "-H", "Upgrade: echo", &url])
        .output()
        .await
        .unwrap();

    let answer = String::from_utf8(curl.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.ends_with("upgrade: echo\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn the_sample_echoes_to_nodes_clients() {
    let server = sample().await;
    let script = r#"
        const http = require('http'), http2 = require('http2');
        const port = +process.argv[1];
        function h1() {
          return new Promise((done, failed) => {
            const request = http.request({ port, path: '/hijack',
              headers: { Connection: 'Upgrade', Upgrade: 'echo' } });
            request.on('upgrade', (response, socket) => {
              console.log('h1', response.statusCode, response.headers.upgrade);
              socket.on('data', data => { console.log('h1', data.toString()); socket.end(); });
              socket.on('end', done);
              socket.write('over h1');
            });
            request.on('response', response => failed(response.statusCode));
            request.on('error', failed);
            request.end();
          });
        }
        function h2() {
          return new Promise((done, failed) => {
            const client = http2.connect('http://localhost:' + port);
            client.on('error', failed);
            client.on('remoteSettings', settings => {
              console.log('h2', settings.enableConnectProtocol);
              const stream = client.request({ ':method': 'CONNECT', ':protocol': 'echo',
                ':scheme': 'http', ':path': '/hijack', ':authority': 'localhost:' + port });
              stream.on('response', headers => {
                console.log('h2', headers[':status']);
                stream.write('over h2');
              });
              stream.on('data', data => { console.log('h2', data.toString()); stream.end(); });
              stream.on('end', () => { client.close(); done(); });
              stream.on('error', failed);
            });
          });
        }
        h1().then(h2).catch(error => { console.log('failed', error); process.exit(1); });
    "#;

    let port = server.http.unwrap().port().to_string();
    let output = Command::new("node").args(["-e", script, &port]).output().await.unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "h1 101 echo\nh1 over h1\nh2 true\nh2 200\nh2 over h2\n";
    assert_eq!(text, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_sample_refuses_with_426_and_501() {
    let server = sample().await;
    let http = server.http.unwrap();

    for (fields, status) in [
        ("", "426"),
        ("Connection: upgrade\r\nUpgrade: other\r\n", "426"),
        ("Upgrade: echo\r\n", "426"),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", "426"),
        ("Connection: upgrade\r\nUpgrade: echo\r\nContent-Length: 1\r\n", "501"),
    ] {
        let answer = raw(http, &(asking("/hijack", fields) + "x")).await;

        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
        assert!(answer.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer}");
        let named = answer.contains("\r\nupgrade: echo\r\nconnection: upgrade\r\n");
        assert_eq!(named, status == "426", "{answer}");
    }
    let old = "GET /hijack HTTP/1.0\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    assert!(raw(http, old).await.starts_with("HTTP/1.1 501 "));
    for protocol in [Protocol::H2, Protocol::H2c, Protocol::H3] {
        let mut client = server.client(protocol).await;

        let plain = client.get("/hijack").await;
        let other = client.switch("/hijack", NAME).await;

        assert_eq!((plain.status, other.status.as_u16()), (http::StatusCode::NOT_IMPLEMENTED, 501));
        assert_eq!(plain.header("content-type"), "application/problem+json");
        assert_eq!(plain.header("upgrade"), "");
    }
    let request = server.h1().await.request(Method::POST, "/hijack").body(Bytes::new()).unwrap();
    assert_eq!(server.h1().await.send(request).await.status, 405);
}
