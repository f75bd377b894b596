//! WebSockets through the SDK: README.md tells what the query and the messages ask for.

use std::time::Duration;

use wharf_sdk::hub::{self, Event, Publication, Selector};
use wharf_sdk::websocket::{self, Close, Message, SendError, Socket};
use wharf_sdk::{Error, Request, Response, Router, sleep};

wharf_sdk::serve!(routes);
wharf_sdk::websocket!(message, closed);

fn routes() -> Router {
    Router::new().get("/", open).post("/", open).get("/ws", open).get("/twice", twice)
}

async fn open(request: Request) -> Result<Response, Error> {
    let mut accept = websocket::accept(&request);
    let name = request.query("name").unwrap_or("somebody".into()).into_owned();
    let milliseconds = |text: &str| text.parse().map(Duration::from_millis);
    for (key, value) in request.query_pairs() {
        accept = match &*key {
            "protocols" => accept.protocols(value.split(',')),
            "origins" => accept.origins(value.split(',')),
            "topic" => accept.topic(value),
            "topics" => accept.topics(value),
            "compression" => accept.compression(),
            "max" => accept.max_message(value.parse()?),
            "idle" => accept.idle_timeout(milliseconds(&value)?),
            "ping" => accept.ping_interval(milliseconds(&value)?),
            "rate" => accept.rate(value.parse()?, 5),
            "opened" => {
                let event = Event::new(format!("{name} is here"));
                accept.on_open(Publication::new(value, event).except("{socket}"))
            }
            "left" => accept.on_close(Publication::new(value, Event::new(format!("{name} left")))),
            "resume" => accept.resume(),
            _ => accept.attribute(key, value),
        };
    }
    let accepted = accept.open()?;
    let response = accepted.response.with_header("x-socket", accepted.socket.id)?;
    Ok(response)
}

/// Accepts what can be accepted once.
async fn twice(request: Request) -> Result<Response, Error> {
    let first = websocket::accept(&request).send()?;
    match websocket::accept(&request).send() {
        Ok(_) => Err(Error::internal("accepted twice")),
        Err(error) => Ok(first.with_header("x-second", format!("{error:?}"))?),
    }
}

async fn message(socket: Socket, message: Message) -> Result<(), Error> {
    if socket.attribute("echo").is_none()
        && let Some(command) = message.as_text().and_then(|text| text.strip_prefix('/'))
    {
        return obey(&socket, command).await;
    }
    match socket.attribute("publish") {
        Some(topic) => {
            let name = socket.attribute("name").unwrap_or("somebody");
            let data = format!("{name}: {}", message.as_text().unwrap_or("?"));
            hub::publish(topic, Event::new(data)).await?;
        }
        None => ignore(websocket::send(&socket.id, message).await),
    }
    Ok(())
}

/// The client may have left.
fn ignore(_sent: Result<(), SendError>) {}

async fn obey(socket: &Socket, command: &str) -> Result<(), Error> {
    let id = &*socket.id;
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "about" => {
            let (protocol, attributes) = (&socket.protocol, &socket.attributes);
            let about = format!("{id} {protocol:?} {attributes:?}");
            ignore(websocket::send(id, about.as_str()).await);
        }
        "close" => ignore(websocket::close(id, first.parse()?, second)),
        "join" => ignore(websocket::join(id, [first])),
        "leave" => ignore(websocket::leave(id, [first])),
        "pattern" => ignore(websocket::join(id, [Selector::Pattern(first.to_owned())])),
        "publish" => drop(hub::publish(first, Event::new(second)).await?),
        "others" => drop(hub::publish(first, Event::new(second)).except(id).await?),
        "sleep" => sleep(Duration::from_millis(first.parse()?)).await,
        "trap" => panic!("as it was told"),
        "loop" => loop {
            std::hint::spin_loop();
        },
        // Another socket, by its id.
        "tell" => {
            let told = websocket::send(first, second).await;
            ignore(websocket::send(id, format!("{told:?}").as_str()).await);
        }
        // So many messages of so many bytes, as long as there is room.
        "fill" => {
            let piece = "x".repeat(second.parse()?);
            let mut sent = 0;
            for _ in 0..first.parse::<u32>()? {
                match websocket::try_send(id, piece.as_str()) {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        println!("filled: {error:?}");
                        break;
                    }
                }
            }
            println!("sent {sent}");
        }
        other => ignore(websocket::send(id, format!("what is {other}?").as_str()).await),
    }
    Ok(())
}

async fn closed(socket: Socket, close: Close) -> Result<(), Error> {
    let name = socket.attribute("name").unwrap_or("somebody");
    println!("closed {name} {} {}", close.code, close.reason);
    if let Some(topic) = socket.attribute("ended") {
        hub::publish(topic, Event::new(format!("{name} ended {}", close.code))).await?;
    }
    Ok(())
}
