//! WebSockets: `/ws/echo`, and chat rooms at `/ws/chat`, with their messages for clients that poll.
//!
//! The host holds the sockets. It calls `message` and `closed` below; what goes to a whole room is
//! published once, to a topic that every socket of the room follows.

mod message;
mod room;
mod store;

use std::time::Duration;

use wharf_sdk::hub::{self, Event, Publication};
use wharf_sdk::websocket::{self, Close, Message, Socket};
use wharf_sdk::{Error, HeaderValue, Request, Response, Router, StatusCode, header};

use self::message::{Kind, Said};
use self::room::{name_of, room_of, topic, topic_of_messages};

/// Bytes that a client of a room may send at once.
const MAX_CHAT: u32 = 16 << 10;
/// Messages a second that it may send, and at once.
const RATE: (u32, u32) = (20, 40);
/// Bytes of a message's text.
const MAX_TEXT: usize = 4000;
/// Messages that are given at once.
const MAX_LISTED: u32 = 100;
/// How long a poll waits, in seconds, unless the client says otherwise.
const DEFAULT_TIMEOUT: u64 = 25;
/// The longest that it may say.
const MAX_TIMEOUT: u64 = 30;

fn routes() -> Router {
    Router::new()
        .get("/ws/echo", echo)
        .get("/ws/chat", chat)
        .get("/api/chat/{room}/poll", poll)
        .get("/api/chat/{room}/messages", messages)
        .post("/api/chat/{room}/messages", post)
}

wharf_sdk::serve!(routes);
wharf_sdk::websocket!(message, closed);

async fn echo(request: Request) -> Result<Response, Error> {
    Ok(websocket::accept(&request).attribute("kind", "echo").compression().send()?)
}

async fn chat(request: Request) -> Result<Response, Error> {
    let room = room_of(request.query("room").as_deref().unwrap_or("lobby"))?;
    let name = name_of(request.query("name").as_deref())?;
    let joined = Said::now(Kind::Join, &name, "").to_json();
    let join = Publication::new(topic(&room), Event::new(joined)).except("{socket}");
    let accept = websocket::accept(&request)
        .topic(topic(&room))
        .attribute("kind", "chat")
        .attribute("room", room)
        .attribute("name", name)
        .max_message(MAX_CHAT)
        .rate(RATE.0, RATE.1)
        .compression()
        .on_open(join);
    Ok(accept.send()?)
}

/// A client sent something.
async fn message(socket: Socket, message: Message) -> Result<(), Error> {
    if socket.attribute("kind") == Some("echo") {
        // The client may have left: nobody misses the echo then.
        let _gone = websocket::send(&socket.id, message).await;
        return Ok(());
    }
    let (room, name) = place(&socket)?;
    let text = match &message {
        Message::Text(text) => message::read(text),
        Message::Binary(_) => Err("a message is JSON, as text".to_owned()),
    };
    match text {
        Ok(text) => say(&room, &name, &text, Some(&socket.id)).await.map(drop),
        Err(cause) => {
            let refused = serde_json::json!({ "type": "error", "message": cause }).to_string();
            let _gone = websocket::send(&socket.id, refused).await;
            Ok(())
        }
    }
}

/// A socket has ended.
async fn closed(socket: Socket, _close: Close) -> Result<(), Error> {
    if socket.attribute("kind") == Some("echo") {
        return Ok(());
    }
    let (room, name) = place(&socket)?;
    let left = Event::new(Said::now(Kind::Leave, &name, "").to_json());
    hub::publish(topic(&room), left).except(&socket.id).await.map_err(Error::internal)?;
    Ok(())
}

fn place(socket: &Socket) -> Result<(String, String), Error> {
    let attribute = |name| socket.attribute(name).map(str::to_owned);
    let lost = || Error::internal("the socket has lost its attributes");
    Ok((attribute("room").ok_or_else(lost)?, attribute("name").ok_or_else(lost)?))
}

/// Keeps a message and gives it to everybody in the room but the socket that it came from.
async fn say(room: &str, name: &str, text: &str, from: Option<&str>) -> Result<Said, Error> {
    let mut said = Said::now(Kind::Message, name, text);
    said.id = Some(store::add(room, &said).await?);
    let mut publication =
        Publication::new(topic(room), Event::new(said.to_json())).also(topic_of_messages(room));
    if let Some(from) = from {
        publication = publication.except(from);
    }
    publication.await.map_err(Error::internal)?;
    Ok(said)
}

async fn poll(request: Request) -> Result<Response, Error> {
    let room = room_of(request.param("room")?)?;
    let timeout = seconds(&request)?;
    let last: Option<i64> = request.parse_query("last_id")?;
    // Before the messages are read, so that none falls between them and the wait.
    let position = hub::position();
    if let Some(last) = last {
        let new = store::after(&room, last, MAX_LISTED).await?;
        if !new.is_empty() {
            return no_store(Response::json(&new)?);
        }
    }
    let poll = hub::poll(&request).topic(topic_of_messages(&room)).after(position);
    no_store(poll.json_array().timeout(Duration::from_secs(timeout)).send()?)
}

/// `?timeout=`, in seconds.
fn seconds(request: &Request) -> Result<u64, Error> {
    Ok(request.parse_query("timeout")?.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT))
}

fn no_store(response: Response) -> Result<Response, Error> {
    response.with_header(header::CACHE_CONTROL, "no-cache, no-store")
}

async fn messages(request: Request) -> Result<Response, Error> {
    let room = room_of(request.param("room")?)?;
    let since: i64 = request.parse_query("since")?.unwrap_or(0);
    let found = store::after(&room, since, MAX_LISTED).await?;
    // What is kept only grows, so its last id and its length tell one answer from another.
    let last = found.last().and_then(|said| said.id).unwrap_or(since);
    let etag = format!("\"{since}-{last}-{}\"", found.len());
    let known = request.header("if-none-match");
    let unchanged = known.is_some_and(|known| {
        known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
    });
    let response = if unchanged {
        Response::new(()).with_status(StatusCode::NOT_MODIFIED)
    } else {
        Response::json(&found)?
    };
    response
        .with_header(header::ETAG, etag.as_str())?
        .with_header(header::CACHE_CONTROL, "private, no-cache, max-age=0")
}

async fn post(mut request: Request) -> Result<Response, Error> {
    let room = room_of(request.param("room")?)?;
    let message::Posted { from, message } = request.json(64 << 10).await?;
    let name = name_of(from.as_deref())?;
    let text = message::checked(&message).map_err(Error::unprocessable)?;
    let said = say(&room, &name, text, None).await?;
    let response = Response::json(&said)?.with_status(StatusCode::CREATED);
    response.with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::Method;

    use super::*;

    fn answer(method: Method, target: &str, body: &str) -> Response {
        let request = Request::new(method, target, body.to_owned()).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        match pin!(routes().handle(request)).poll(&mut context) {
            Poll::Ready(response) => response,
            Poll::Pending => panic!("it waits for a host"),
        }
    }

    #[test]
    fn rooms_and_names_are_checked_before_anything_else() {
        for target in ["/ws/chat?room=a%2Fb", "/ws/chat?name=%0A", "/api/chat/a%20b/poll"] {
            let response = answer(Method::GET, target, "");

            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{target}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }

    #[test]
    fn timeouts_are_numbers_up_to_thirty_seconds() {
        let request = |query: &str| {
            let target = format!("/api/chat/a/poll{query}");
            Request::new(Method::GET, &*target, ()).unwrap()
        };

        assert_eq!(seconds(&request("")).unwrap(), DEFAULT_TIMEOUT);
        assert_eq!(seconds(&request("?timeout=3")).unwrap(), 3);
        assert_eq!(seconds(&request("?timeout=99")).unwrap(), MAX_TIMEOUT);
        assert!(seconds(&request("?timeout=soon")).is_err());
    }

    #[test]
    fn what_is_posted_must_be_a_message() {
        for (body, expected) in [
            ("{}", StatusCode::UNPROCESSABLE_ENTITY),
            ("no json", StatusCode::BAD_REQUEST),
            ("{\"message\":\"\"}", StatusCode::UNPROCESSABLE_ENTITY),
        ] {
            let response = answer(Method::POST, "/api/chat/a/messages", body);

            assert_eq!(response.status(), expected, "{body}");
        }
    }
}
