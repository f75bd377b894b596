//! WebSockets that the host holds, as clients see them: handshakes, messages, topics, limits, hostile
//! clients, reloads and the drain. Those that others wrote are in `websocket_clients`.

use std::net::SocketAddr;
use std::time::Duration;

use wharf_tests::websocket::{BINARY, CLOSE, PING, PONG, TEXT, WebSocket, ask, masked, request};
use wharf_tests::{TestServer, guest};

const HUB: &str = "[capabilities]\nhub = { publish = [\"room/*\"], subscribe = [\"room/*\"] }\n";

async fn server() -> TestServer {
    configured("").await
}

async fn configured(more: &str) -> TestServer {
    let manifest = format!("{HUB}{more}");
    let builder = TestServer::builder().plugin("ws", &guest("p3_websocket"));
    builder.manifest("ws", &manifest).start().await
}

async fn open(server: &TestServer, query: &str) -> WebSocket {
    WebSocket::open(http(server), &format!("/ws?{query}")).await
}

fn http(server: &TestServer) -> SocketAddr {
    server.http.unwrap()
}

#[tokio::test]
async fn handshakes_say_what_was_agreed_on() {
    let server = server().await;
    let offer = "Sec-WebSocket-Protocol: b, a\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";

    let plain = open(&server, "").await;
    let path = "/ws?protocols=a,b&compression=1";
    let rich = WebSocket::open_with(http(&server), path, offer).await;

    assert_eq!(plain.field("upgrade"), Some("websocket"));
    assert_eq!(plain.field("sec-websocket-protocol"), None);
    assert_eq!(plain.field("sec-websocket-extensions"), None);
    assert_eq!(plain.field("x-socket").unwrap().len(), 32);
    assert_eq!(rich.field("sec-websocket-protocol"), Some("a"));
    assert_eq!(
        rich.field("sec-websocket-extensions"),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
}

#[tokio::test]
async fn handshakes_that_are_wrong_are_refused() {
    let server = server().await;
    let whole = request("/ws", "");
    let with = |fields: &str| request("/ws", fields);
    for (what, request, status, field) in [
        (
            "no upgrade",
            "GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            426,
            "upgrade: websocket",
        ),
        (
            "another protocol",
            whole.replace("Upgrade: websocket", "Upgrade: echo"),
            426,
            "upgrade: websocket",
        ),
        (
            "another version",
            whole.replace("Version: 13", "Version: 8"),
            426,
            "sec-websocket-version: 13",
        ),
        ("no key", whole.replace("Sec-WebSocket-Key", "X-Key"), 400, ""),
        ("a short key", whole.replace("dGhlIHNh", ""), 400, ""),
        ("POST", whole.replace("GET", "POST"), 400, ""),
        ("a foreign origin", with("Origin: https://evil.example\r\n"), 403, ""),
        ("a sandboxed page", with("Origin: null\r\n"), 403, ""),
        ("a broken list", with("Sec-WebSocket-Protocol: a,,b\r\n"), 400, ""),
        ("HTTP/1.0", whole.replace("HTTP/1.1", "HTTP/1.0"), 501, ""),
    ] {
        let (head, _) = ask(http(&server), &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        assert!(head.to_ascii_lowercase().contains(field), "{what}: {head}");
    }
    let own = WebSocket::open_with(http(&server), "/ws", "Origin: http://localhost\r\n").await;
    assert_eq!(own.close(1000).await, 1000);
    let path = "/ws?origins=https://a.example,https://b.example";
    WebSocket::open_with(http(&server), path, "Origin: https://b.example\r\n").await;
}

#[tokio::test]
async fn messages_come_back_as_they_were() {
    let server = server().await;
    let mut socket = open(&server, "").await;
    let large = vec![7; 300_000];

    assert_eq!(socket.ask("grüße 🦀").await, "grüße 🦀");
    socket.send(BINARY, &large).await;
    assert!(socket.frame().await == Some((BINARY, large)));
    socket.send(0x01, b"Hel").await;
    socket.send(PING, b"?").await;
    assert_eq!(socket.frame().await, Some((PONG, b"?".to_vec())));
    socket.send(0x00, b"").await;
    socket.send(0x80, b"lo").await;
    assert_eq!(socket.message().await, "Hello");
    socket.send(TEXT, b"").await;
    assert_eq!(socket.message().await, "");

    assert_eq!(socket.close(3999).await, 3999);
    server.until_printed("ws", "closed somebody 3999").await;
}

#[tokio::test]
async fn the_plugin_knows_its_sockets() {
    let server = server().await;
    let path = "/ws?protocols=chat&name=ada&role=admin";
    let mut ada =
        WebSocket::open_with(http(&server), path, "Sec-WebSocket-Protocol: chat\r\n").await;
    let mut bob = open(&server, "name=bob").await;
    let id = ada.field("x-socket").unwrap().to_owned();

    let about = ada.ask("/about").await;
    assert_eq!(about, format!("{id} Some(\"chat\") [(\"name\", \"ada\"), (\"role\", \"admin\")]"));
    assert_eq!(bob.ask(&format!("/tell {id} hello")).await, "Ok(())");
    assert_eq!(ada.message().await, "hello");
    assert_eq!(bob.ask("/tell 0123456789abcdef0123456789abcdef x").await, "Err(Gone)");
    ada.text("/close 4001 enough").await;
    assert_eq!(ada.frame().await, Some((CLOSE, [&4001u16.to_be_bytes()[..], b"enough"].concat())));
    ada.send(CLOSE, &4001u16.to_be_bytes()).await;

    assert_eq!(ada.frame().await, None);
    server.until_printed("ws", "closed ada 4001").await;
    assert_eq!(bob.ask(&format!("/tell {id} too late")).await, "Err(Gone)");
}

#[tokio::test]
async fn a_broadcast_takes_one_publication() {
    let server = server().await;
    let mut sockets = Vec::new();
    for n in 0..20 {
        let offer =
            if n % 2 == 0 { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let path = format!("/ws?compression=1&topic=room/1&publish=room/1&name={n}");
        sockets.push(WebSocket::open_with(http(&server), &path, offer).await);
    }

    sockets[0].text("hello").await;
    for socket in &mut sockets {
        assert_eq!(socket.message().await, "0: hello");
    }
    sockets[1].text("/others room/1 not to me").await;
    sockets[1].text("/publish room/2 to nobody").await;
    for (n, socket) in sockets.iter_mut().enumerate() {
        if n != 1 {
            assert_eq!(socket.message().await, "not to me");
        }
    }
    sockets[2].text("last").await;

    for socket in &mut sockets {
        assert_eq!(socket.message().await, "2: last");
    }
}

#[tokio::test]
async fn topics_are_joined_and_left() {
    let server = server().await;
    let mut one = open(&server, "").await;
    let mut other = open(&server, "topic=room/1").await;

    for command in ["/join room/a", "/pattern room/b/*", "/join forbidden/x"] {
        one.text(command).await;
    }
    assert_eq!(one.ask("there").await, "there");
    for command in ["/publish room/a 1", "/publish room/b/c 2", "/publish forbidden/x 3"] {
        other.text(command).await;
    }
    assert_eq!(one.message().await, "1");
    assert_eq!(one.message().await, "2");
    one.text("/leave room/a").await;
    assert_eq!(one.ask("gone").await, "gone");
    other.text("/publish room/a 4").await;
    other.text("/publish room/b/d 5").await;
    other.text("/publish room/1 6").await;

    assert_eq!(one.message().await, "5");
    assert_eq!(other.message().await, "6");
}

#[tokio::test]
async fn coming_and_going_is_published() {
    let server = server().await;
    let mut watcher = open(&server, "topics=room/*").await;
    let query =
        |name: &str| format!("topic=room/x&opened=room/x&left=room/x&ended=room/end&name={name}");

    let mut ada = open(&server, &query("ada")).await;
    assert_eq!(watcher.message().await, "ada is here");
    assert_eq!(ada.ask("nothing of myself").await, "nothing of myself");
    let bob = open(&server, &query("bob")).await;
    assert_eq!(ada.message().await, "bob is here");
    assert_eq!(watcher.message().await, "bob is here");
    drop(bob);
    assert_eq!(ada.message().await, "bob left");
    assert_eq!(watcher.message().await, "bob left");
    assert_eq!(watcher.message().await, "bob ended 1006");
    ada.close(1000).await;

    assert_eq!(watcher.message().await, "ada left");
    assert_eq!(watcher.message().await, "ada ended 1000");
    assert!(watcher.is_quiet().await);
}

#[tokio::test]
async fn sockets_outlive_a_reload_and_are_told_by_the_new_version() {
    let server = server().await;
    let mut socket = open(&server, "topic=room/1&name=ada").await;
    let before = socket.ask("/about").await;
    let version = |entry: &serde_json::Value| entry["version"].as_str().unwrap().to_owned();
    let first = version(&server.registered("ws").await.unwrap());
    // Another custom section: another version of the same.
    let changed = [&guest("p3_websocket")[..], &[0, 3, 1, b'x', 0]].concat();

    server.install("ws", &changed);
    server.until_registered("ws", |entry| version(entry) != first).await;

    assert_eq!(socket.ask("/about").await, before);
    socket.text("/publish room/1 still here").await;
    assert_eq!(socket.message().await, "still here");
    assert_eq!(socket.close(1000).await, 1000);
    server.until_printed("ws", "closed ada 1000").await;
}

#[tokio::test]
async fn a_plugin_that_fails_costs_only_the_socket_that_it_failed() {
    let server = configured("[limits]\ncpu-time = \"200ms\"\nrequest-timeout = \"2s\"\n").await;
    let mut good = open(&server, "").await;
    for command in ["/trap", "/loop", "/sleep 60000"] {
        let mut bad = open(&server, "name=bad").await;
        bad.text(command).await;
        bad.text("never read").await;

        assert_eq!(bad.code().await, 1011, "{command}");
        assert_eq!(good.ask("fine").await, "fine", "{command}");
    }
    server.until_printed("ws", "closed bad 1011").await;
}

#[tokio::test]
async fn what_no_client_should_send_is_refused() {
    let server = server().await;
    let mut huge = vec![0x82, 0xff];
    huge.extend_from_slice(&(1u64 << 63).to_be_bytes());
    let mut nearly = vec![0x82, 0xff];
    nearly.extend_from_slice(&(u64::MAX >> 1).to_be_bytes());
    nearly.extend_from_slice(&[0; 4]);
    let endless: Vec<u8> = std::iter::once(masked(0x01, b""))
        .chain((0..2000).map(|_| masked(0x00, b"")))
        .flatten()
        .collect();
    for (what, wire, code) in [
        ("2^63 bytes", huge, 1009),
        ("nearly so many", nearly, 1009),
        ("more than it may", masked(BINARY, &[0; 1001]), 1009),
        ("no mask", vec![0x81, 1, b'x'], 1002),
        ("reserved bits", masked(0xf1, b""), 1002),
        ("a compressed frame that nobody agreed on", masked(0xc1, b""), 1002),
        ("a reserved opcode", masked(0x83, b""), 1002),
        ("a long ping", masked(0x89, &[0; 126]), 1002),
        ("half a ping", masked(0x09, b""), 1002),
        ("no text", masked(TEXT, b"\xff"), 1007),
        ("a code that must not be sent", masked(CLOSE, &[3, 237]), 1002),
        ("fragments without end", endless, 1008),
    ] {
        let mut socket = open(&server, "max=1000").await;
        socket.raw(&wire).await;
        assert_eq!(socket.code().await, code, "{what}");
    }
}

#[tokio::test]
async fn a_compressed_bomb_costs_no_more_than_the_limit() {
    let server = server().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let path = "/ws?compression=1";
    // 100 MB of zeros: one literal, then copies of 258 bytes at distance 1 (RFC 1951 §3.2.6).
    let bomb = bomb(100_000_000);
    let mut socket = WebSocket::open_with(http(&server), path, offer).await;
    assert_eq!(socket.ask("warm").await, "warm");
    let before = server.memory();

    socket.send(0xc2, &bomb).await;

    assert_eq!(socket.code().await, 1009);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 80 << 20, "{grown}");
}

/// DEFLATE of so many zeros, by fixed Huffman codes.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![false, true, false];
    // The literal 0 is 0x30 in 8 bits, the length 258 is code 285: 0xc5 in 8 bits; distance 1: 5 zeros.
    let code = |value: u8| (0..8).rev().map(move |bit| value >> bit & 1 == 1);
    bits.extend(code(0x30));
    for _ in 0..bytes / 258 {
        bits.extend(code(0xc5));
        bits.extend([false; 5]);
    }
    // End of block, an empty stored block begins.
    bits.extend([false; 7]);
    bits.extend([false; 3]);
    bits.chunks(8)
        .map(|byte| byte.iter().rev().fold(0, |all, &bit| all << 1 | u8::from(bit)))
        .collect()
}

#[tokio::test]
async fn a_client_that_never_reads_is_bounded() {
    let server = server().await;
    let mut silent = open(&server, "name=silent").await;
    let mut other = open(&server, "").await;

    silent.text("/fill 100000 10000").await;

    server.until_printed("ws", "filled: Full").await;
    assert_eq!(other.ask("unharmed").await, "unharmed");
    drop(silent);
    server.until_printed("ws", "closed silent 1006").await;
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_and_harms_nobody() {
    let server = server().await;
    let mut flood = open(&server, "").await;
    let mut other = open(&server, "").await;

    flood.raw(&masked(PING, b"p").repeat(2000)).await;

    assert_eq!(other.ask("unharmed").await, "unharmed");
    for _ in 0..1200 {
        assert_eq!(flood.frame().await, Some((PONG, b"p".to_vec())));
    }
}

#[tokio::test]
async fn one_is_accepted_once() {
    let server = server().await;

    let mut socket = WebSocket::open(http(&server), "/ws/twice").await;

    assert_eq!(socket.field("x-second"), Some("TooLate"));
    assert_eq!(socket.ask("the first").await, "the first");
}

#[tokio::test]
async fn held_sockets_take_no_place_from_requests_and_are_bounded_themselves() {
    let server = TestServer::builder()
        .plugin("ws", &guest("p3_websocket"))
        .manifest("ws", "[limits]\nconcurrency = 1\nheld = 5\n")
        .config("[limits]\nrequests = 2\n")
        .start()
        .await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(open(&server, "").await);
    }

    let (head, _) = ask(http(&server), &request("/ws", "")).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(server.h1().await.get("/ws").await.status, 426);
    assert_eq!(sockets[4].ask("there").await, "there");
    sockets.pop().unwrap().close(1000).await;
    server.until_printed("ws", "closed").await;

    let again = async {
        loop {
            let (head, stream) = ask(http(&server), &request("/ws", "")).await;
            if head.starts_with("HTTP/1.1 101 ") {
                break stream;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("a place is free again");
}

#[tokio::test]
async fn a_drain_closes_with_1001() {
    let mut server = server().await;
    let mut sockets = Vec::new();
    for n in 0..10 {
        sockets.push(open(&server, &format!("name={n}")).await);
    }

    server.signal("TERM").await;

    for socket in &mut sockets {
        let Some((CLOSE, payload)) = socket.frame().await else { panic!("no Close") };
        assert_eq!(payload[..2], 1001u16.to_be_bytes());
        socket.send(CLOSE, &payload[..2]).await;
        assert_eq!(socket.frame().await, None);
    }
    assert_eq!(server.wait().await, Some(0));
}

#[tokio::test]
async fn sockets_are_counted() {
    let server = server().await;
    let mut socket = open(&server, "").await;
    assert_eq!(socket.ask("one").await, "one");

    let metrics = server.metrics().await;
    for line in [
        "wharf_websockets{plugin=\"ws\"} 1",
        "wharf_websocket_messages_total{plugin=\"ws\",direction=\"in\"} 1",
        "wharf_websocket_messages_total{plugin=\"ws\",direction=\"out\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    socket.close(4000).await;
    server.until_printed("ws", "closed somebody 4000").await;

    let metrics = server.metrics().await;
    assert!(metrics.contains("wharf_websocket_closes_total{plugin=\"ws\",code=\"4000\"} 1"));
}
