//! `/api/realtime/events`: what clients publish, as a stream and by long polling.

use std::time::Duration;

use serde_json::{Value, json};
use wharf_sdk::hub::{self, Event, Start, Subscription};
use wharf_sdk::sse::{self, Heartbeat};
use wharf_sdk::{Error, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use crate::body::{self, MAX_BODY};
use crate::notifications::last_event_id;

/// How long a stream is quiet.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a poll waits at the most: less than the 30 seconds after which a quiet connection may go.
const MAX_TIMEOUT: Duration = Duration::from_secs(25);
/// Where events go that name no topic.
const DEFAULT_TOPIC: &str = "general";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

fn topic(name: String) -> Result<String, Error> {
    Ok(format!("realtime/{}", body::segment(&body::name("topic", name)?)))
}

/// One topic, or all.
fn subscription(request: &Request) -> Result<Subscription, Error> {
    Ok(match request.query("topic") {
        Some(name) => Subscription::new().topic(topic(name.into_owned())?),
        None => Subscription::new().topics("realtime/*"),
    })
}

/// Events as they are published.
pub(crate) async fn stream(request: Request) -> Result<Response, Error> {
    let heartbeat = Heartbeat::event("heartbeat", json!({ "type": "heartbeat" }).to_string());
    let stream = sse::stream(&request).subscription(subscription(&request)?).resume();
    Ok(stream.heartbeat(HEARTBEAT, heartbeat).send()?)
}

/// The events after the one that the client got last, as soon as there are any: a JSON array.
pub(crate) async fn poll(request: Request) -> Result<Response, Error> {
    let timeout = match request.parse_query::<f64>("timeout")? {
        None => MAX_TIMEOUT,
        Some(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64()))
        }
        Some(_) => {
            return Err(Error::bad_request("timeout is a number of seconds, at most 25"));
        }
    };
    // HEAD says how things are; it does not wait for a body that it will not get.
    let timeout = if request.method() == Method::HEAD { Duration::ZERO } else { timeout };
    // An answer without events says as well where to go on.
    let position = hub::position();
    let (start, last) = match last_event_id(&request) {
        Some(id) => (Start::Request, HeaderValue::from_str(&id).or(position.parse())?),
        None => (Start::After(position.clone()), position.parse()?),
    };
    let poll = hub::poll(&request).subscription(subscription(&request)?).start(start);
    poll.timeout(timeout)
        .json_array()
        .id_field(LAST_EVENT_ID.as_str())
        .send()?
        .with_header(LAST_EVENT_ID, last)?
        .with_header(header::CACHE_CONTROL, "no-cache")
}

/// Publishes any JSON as it is; the topic is in the query, or its own member `topic`.
pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let content: Value = request.json(MAX_BODY).await?;
    let own = content.get("topic").and_then(Value::as_str);
    let name = match request.query("topic") {
        Some(name) => name.into_owned(),
        None => own.unwrap_or(DEFAULT_TOPIC).to_owned(),
    };
    let id = hub::publish(topic(name.clone())?, Event::new("").json(&content)).await?;
    Response::json(&json!({ "id": id, "topic": name }))?
        .with_status(StatusCode::CREATED)
        .with_header(header::CACHE_CONTROL, "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::answer;

    #[test]
    fn mistakes_are_told() {
        for (method, uri, body, status) in [
            (Method::GET, "/api/realtime/events?timeout=x", "", 400),
            (Method::GET, "/api/realtime/events?timeout=-1", "", 400),
            (Method::GET, "/api/realtime/events?topic=", "", 422),
            (Method::GET, "/api/realtime/events/stream?topic=%0a", "", 422),
            (Method::POST, "/api/realtime/events", "{", 400),
            (Method::POST, "/api/realtime/events?topic=%00", "1", 422),
            (Method::DELETE, "/api/realtime/events", "", 405),
        ] {
            assert_eq!(answer(method, uri, body).status(), status, "{uri} {body}");
        }
    }
}
