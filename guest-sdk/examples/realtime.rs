//! A board that many look at: what one posts the others see at once, by event stream, long poll or
//! WebSocket. The host holds all their connections; this code runs only when somebody asks for
//! something. The manifest grants the topics:
//!
//! ```toml
//! [capabilities]
//! hub = { publish = ["board/*"], subscribe = ["board/*"] }
//!
//! [[schedule]]
//! name = "day"
//! cron = "0 0 * * *"
//! ```

use std::time::Duration;

use wharf_sdk::hub::{self, Event, Publication};
use wharf_sdk::schedule::Occurrence;
use wharf_sdk::sse::{self, Heartbeat};
use wharf_sdk::websocket::{self, Message, Socket};
use wharf_sdk::{Error, Request, Response, Router, StatusCode};

/// Bytes of a note, at the most.
const MAX_NOTE: usize = 4096;

fn routes() -> Router {
    Router::new()
        .post("/{board}", post)
        .get("/{board}/events", events)
        .get("/{board}/poll", poll)
        .get("/{board}/ws", socket)
        .get("/{board}/count", count)
}

fn topic(request: &Request) -> Result<String, Error> {
    Ok(format!("board/{}", request.param("board")?))
}

/// Publishes the body; answers with the event's id.
async fn post(mut request: Request) -> Result<Response, Error> {
    let topic = topic(&request)?;
    let note = request.text(MAX_NOTE).await?;
    let id = hub::publish(topic, Event::new(note).name("note")).await?;
    Ok(Response::text(id).with_status(StatusCode::CREATED))
}

/// The notes as they come, after those that the client has seen.
async fn events(request: Request) -> Result<Response, Error> {
    let stream = sse::stream(&request).topic(topic(&request)?).resume();
    Ok(stream.heartbeat(Duration::from_secs(10), Heartbeat::Comment).send()?)
}

/// The next note after `?after=ID`, or 204 after 25 seconds.
async fn poll(request: Request) -> Result<Response, Error> {
    let after = request.query("after").unwrap_or_default();
    let poll = hub::poll(&request).topic(topic(&request)?).after(after);
    Ok(poll.timeout(Duration::from_secs(25)).id_field("x-note-id").send()?)
}

/// The notes as messages; what the client sends is a note as well.
async fn socket(request: Request) -> Result<Response, Error> {
    let topic = topic(&request)?;
    let joined = Publication::new(&topic, Event::new("somebody came")).except("{socket}");
    let accept = websocket::accept(&request).attribute("topic", &topic).topic(topic);
    Ok(accept.on_open(joined).send()?)
}

async fn said(socket: Socket, message: Message) -> Result<(), Error> {
    let topic = socket.attribute("topic").unwrap_or_default();
    hub::publish(topic, Event::new(message).name("note")).except(&socket.id).await?;
    Ok(())
}

/// Says when a day is over, on the board `days`.
async fn day(_occurrence: Occurrence) -> Result<(), Error> {
    hub::publish("board/days", Event::named("note").data("a new day")).await?;
    Ok(())
}

/// Counts, until the client leaves.
async fn count(request: Request) -> Result<Response, Error> {
    sse::emit(&request).run(async |mut events| {
        for number in 1.. {
            events.send(Event::named("count").data(number.to_string())).await?;
            #[cfg(target_family = "wasm")]
            wharf_sdk::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    })
}

wharf_sdk::serve!(routes);
wharf_sdk::websocket!(said);
wharf_sdk::schedule!(day);
