//! The sample plugin `chat`: an echo and chat rooms over WebSockets, and what polls see of a room.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use wharf_tests::websocket::{BINARY, WebSocket};
use wharf_tests::{Client, Protocol, TestServer, clients, each_protocol};

async fn server() -> TestServer {
    TestServer::builder().sample("chat").start().await
}

fn http(server: &TestServer) -> SocketAddr {
    server.http.unwrap()
}

async fn enter(server: &TestServer, room: &str, name: &str) -> WebSocket {
    WebSocket::open(http(server), &format!("/ws/chat?room={room}&name={name}")).await
}

/// The next message, without its timestamp and id.
async fn next(socket: &mut WebSocket) -> Value {
    let mut said: Value = serde_json::from_str(&socket.message().await).unwrap();
    let fields = said.as_object_mut().unwrap();
    let timestamp = fields.remove("timestamp").unwrap();
    assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
    fields.remove("id");
    said
}

/// The next that tells of nobody's coming: that is told after a handshake, so who comes next may hear of
/// it or not.
async fn next_said(socket: &mut WebSocket) -> Value {
    loop {
        let said = next(socket).await;
        if said["type"] != "join" {
            return said;
        }
    }
}

fn said(kind: &str, from: &str, message: &str) -> Value {
    json!({ "type": kind, "from": from, "message": message })
}

#[tokio::test]
async fn a_message_goes_to_everybody_in_the_room_but_its_sender() {
    let server = server().await;
    let mut ada = enter(&server, "one", "ada").await;
    let mut eve = enter(&server, "two", "eve").await;
    let mut bob = enter(&server, "one", "bob").await;

    assert_eq!(next(&mut ada).await, said("join", "bob", ""));
    ada.text(r#"{"message":"first"}"#).await;
    ada.text(r#"{"message":"second"}"#).await;
    assert_eq!(next_said(&mut bob).await, said("message", "ada", "first"));
    assert_eq!(next(&mut bob).await, said("message", "ada", "second"));
    bob.text(r#"{"message":"grüße 🦀"}"#).await;
    // Nothing of its own came before this.
    assert_eq!(next(&mut ada).await, said("message", "bob", "grüße 🦀"));
    assert_eq!(bob.close(1000).await, 1000);
    assert_eq!(next(&mut ada).await, said("leave", "bob", ""));

    // Another room hears nothing of that.
    let _fay = enter(&server, "two", "fay").await;
    assert_eq!(next(&mut eve).await, said("join", "fay", ""));
}

#[tokio::test]
async fn what_is_no_message_is_told_to_its_sender_alone() {
    let server = server().await;
    let mut ada = enter(&server, "lobby", "ada").await;
    let mut bob = enter(&server, "lobby", "bob").await;
    next(&mut ada).await;

    for text in ["no json", "[]", r#"{"message":7}"#, r#"{"message":"  "}"#] {
        ada.text(text).await;
        let answer: Value = serde_json::from_str(&ada.message().await).unwrap();
        assert_eq!(answer["type"], "error", "{text}: {answer}");
    }
    ada.send(BINARY, b"\x00\x01").await;
    assert!(ada.message().await.contains("error"));
    ada.text(r#"{"message":"fine"}"#).await;

    assert_eq!(next_said(&mut bob).await, said("message", "ada", "fine"));
}

#[tokio::test]
async fn a_message_that_is_too_large_closes_the_socket() {
    let server = server().await;
    let mut ada = enter(&server, "lobby", "ada").await;

    ada.text(&"x".repeat(20_000)).await;

    assert_eq!(ada.frame().await.map(|(_, payload)| payload[..2].to_vec()), Some(vec![3, 241]));
}

each_protocol!(without_an_upgrade_it_is_426, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for path in ["/ws/echo", "/ws/chat"] {
        let response = client.get(path).await;

        assert_eq!(response.status, StatusCode::UPGRADE_REQUIRED, "{path}");
        assert_eq!(response.headers["content-type"], "application/problem+json");
        let upgrade = response.headers.get("upgrade").map(|value| value.to_str().unwrap());
        assert_eq!(upgrade, (protocol == Protocol::H1).then_some("websocket"));
    }
});

each_protocol!(a_poll_is_answered_when_something_is_said, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let mut other = server.client(protocol).await;
    let post = |text: &str| json!({ "from": "ada", "message": text }).to_string();
    let path = "/api/chat/room-1/messages";

    let first = other.post(path, post("one")).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let id = first.json()["id"].as_i64().unwrap();
    let at_once = client.get("/api/chat/room-1/poll?last_id=0").await;
    let waiting = async {
        let poll = format!("/api/chat/room-1/poll?last_id={id}&timeout=20");
        client.get(&poll).await
    };
    let saying = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.post(path, post("two")).await
    };
    let (waited, second) = tokio::join!(waiting, saying);

    assert_eq!(at_once.status, StatusCode::OK);
    assert_eq!(at_once.headers["cache-control"], "no-cache, no-store");
    assert_eq!(at_once.json()[0]["message"], "one");
    assert_eq!(waited.status, StatusCode::OK, "{}", waited.text());
    assert_eq!(waited.headers["content-type"], "application/json");
    assert_eq!(waited.json(), json!([second.json()]));
    let last = second.json()["id"].as_i64().unwrap();
    let nothing = client.get(&format!("/api/chat/room-1/poll?last_id={last}&timeout=0")).await;
    assert_eq!(nothing.status, StatusCode::NO_CONTENT);
    let bad = client.get("/api/chat/room-1/poll?timeout=soon").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
});

fn conditional(client: &Client, path: &str, etag: &str) -> Request<Bytes> {
    let request = client.request(Method::GET, path).header("if-none-match", etag);
    request.body(Bytes::new()).unwrap()
}

each_protocol!(messages_are_kept_and_validated, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let path = "/api/chat/kept/messages";
    client.post(path, r#"{"from":"ada","message":"one"}"#).await;

    let all = client.get(path).await;
    let etag = all.headers["etag"].to_str().unwrap().to_owned();
    let same = client.send(conditional(&client, path, &etag)).await;
    client.post(path, r#"{"from":"bob","message":"two"}"#).await;
    let changed = client.send(conditional(&client, path, &etag)).await;
    let since = all.json()[0]["id"].as_i64().unwrap();
    let newer = client.get(&format!("{path}?since={since}")).await;

    assert_eq!(all.headers["cache-control"], "private, no-cache, max-age=0");
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    assert_eq!(changed.json().as_array().unwrap().len(), 2);
    assert_eq!(newer.json()[0]["message"], "two");
    for (body, status) in [("{}", 422), (r#"{"message":" "}"#, 422), ("nothing", 400)] {
        assert_eq!(client.post(path, body).await.status.as_u16(), status, "{body}");
    }
});

#[tokio::test]
async fn clients_of_others_get_their_echo() {
    let server = server().await;
    let (http, https) = (http(&server), server.https.unwrap());
    let url = format!("ws://{http}/ws/echo");
    for client in ["ws", "undici"] {
        let Some(seen) = clients::node("websocket.mjs", &[client, &url]).await else { continue };

        assert_eq!(seen["error"], Value::Null, "{client}: {seen}");
        let same = seen["same"].as_array().unwrap();
        assert!(!same.is_empty() && same.iter().all(|same| *same == true), "{client}: {seen}");
        assert_eq!(seen["code"], 4321, "{client}: {seen}");
    }
    let url = format!("https://{https}/ws/echo");
    for script in ["websocket_h2.py", "websocket_h3.py"] {
        let Some(seen) = clients::python(script, &[&url, "one", "two"]).await else { continue };

        assert_eq!(seen[0]["answers"], json!(["one", "two"]), "{script}: {seen:?}");
    }
}

#[tokio::test]
async fn the_page_lets_two_people_talk() {
    let server = server().await;
    let origin = format!("https://{}", server.https.unwrap());

    let Some(seen) = clients::browser("chat.mjs", &[&origin]).await else { return };

    assert_eq!(seen["heard"], json!(["hello from one"]), "{seen}");
    assert_eq!(seen["own"], 1, "{seen}");
    assert_eq!(seen["left"], true, "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
}
