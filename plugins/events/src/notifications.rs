//! `/sse/notifications`: what there is for a user, on a durable topic of their own. Whoever comes back
//! goes on where they were.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};
use wharf_sdk::hub::{self, Event, Resumption, Start};
use wharf_sdk::sse::{self, Heartbeat};
use wharf_sdk::{Error, Request, Response, StatusCode, header};

use crate::body::{self, MAX_BODY, UserId};
use crate::session;

/// How long a stream is quiet.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Notifications that the list has.
const LISTED: usize = 100;

fn topic(user: &str) -> String {
    format!("notifications/{}", body::segment(user))
}

/// The user's notifications, as they come.
pub(crate) async fn stream(request: Request) -> Result<Response, Error> {
    let user = session::user(&request).await?;
    let topic = topic(&user);
    let mut connected = Event::named("connected");
    let (start, resumption) = match last_event_id(&request) {
        Some(id) => {
            let here = hub::history().topic(&topic).after(id).limit(1).read()?;
            (Start::Request, here.resumption)
        }
        // The id of now: whoever is cut off before the first notification comes back with it.
        None => {
            let position = hub::position();
            connected = connected.id(&position);
            (Start::After(position), Resumption::Fresh)
        }
    };
    let connected = connected.json(&json!({
        "type": "connected",
        "user_id": user,
        "resumed": resumption != Resumption::Fresh,
        "missed": resumption == Resumption::Lost,
        "timestamp": seconds(SystemTime::now()),
    }));
    let heartbeat = Heartbeat::event("heartbeat", json!({ "type": "heartbeat" }).to_string());
    let stream = sse::stream(&request).topic(topic).start(start).first(connected);
    stream
        .heartbeat(HEARTBEAT, heartbeat)
        .attribute("user", user)
        .send()?
        // One user's alone; and compared by no cache.
        .with_header(header::CACHE_CONTROL, "no-cache, private")
}

#[derive(Deserialize)]
struct Add {
    user_id: Option<UserId>,
    #[serde(rename = "type")]
    kind: Option<String>,
    message: String,
}

/// Adds a notification for a user; without `user_id`, for whom the session is of.
pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let Add { user_id, kind, message } = request.json(MAX_BODY).await?;
    let user = match user_id {
        Some(user) => user.checked()?,
        None => session::user(&request).await?,
    };
    let kind = body::name("type", kind.unwrap_or_else(|| "info".to_owned()))?;
    let message = body::message(message)?;
    let created = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let content = json!({ "type": kind, "message": message, "created_at": created });
    let event = Event::named("notification").json(&content);
    let id = hub::publish(topic(&user), event).await?;
    let mut told = content;
    told["id"] = id.into();
    told["user_id"] = user.into();
    Response::json(&told)?
        .with_status(StatusCode::CREATED)
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// What is kept, the newest first, and the id to go on from.
pub(crate) async fn list(request: Request) -> Result<Response, Error> {
    let user = session::user(&request).await?;
    let past = hub::history().topic(topic(&user)).earliest().read()?;
    let read = |past: &hub::PastEvent| {
        let mut told: Value = past.event.data.parse_json().ok()?;
        told["id"] = past.id.as_str().into();
        Some(told)
    };
    let newest: Vec<Value> = past.events.iter().rev().take(LISTED).filter_map(read).collect();
    Response::json(&json!({ "user_id": user, "last_id": past.last_id, "notifications": newest }))?
        .with_header(header::CACHE_CONTROL, "private, no-store")
}

/// The event that the client got last: as the host takes it for [`Start::Request`].
pub(crate) fn last_event_id(request: &Request) -> Option<String> {
    let header = request.header("last-event-id").map(str::to_owned);
    let named = |name: &str| {
        let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
        letters.map(|byte| byte.to_ascii_lowercase()).eq(*b"lasteventid")
    };
    let query = || request.query_pairs().find(|(name, _)| named(name)).map(|(_, id)| id.into());
    header.or_else(query).filter(|id: &String| !id.is_empty())
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() as f64) / 1000.0
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::answer;

    #[test]
    fn without_a_session_there_are_no_notifications() {
        for uri in ["/sse/notifications", "/api/notifications"] {
            let response = answer(Method::GET, uri, ());

            assert_eq!(response.status(), 401, "{uri}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }

    #[test]
    fn notifications_are_checked() {
        for (body, status) in [
            ("{", 400),
            ("{}", 422),
            ("{\"message\":\"\",\"user_id\":\"ada\"}", 422),
            ("{\"message\":\"x\",\"user_id\":\"\"}", 422),
            ("{\"message\":\"x\",\"user_id\":\"ada\",\"type\":\"a\\nb\"}", 422),
            ("{\"message\":\"x\"}", 401),
        ] {
            let response = answer(Method::POST, "/sse/notifications", body);

            assert_eq!(response.status(), status, "{body}");
        }
    }

    #[test]
    fn the_last_id_may_be_in_the_query() {
        let id = |uri: &str| last_event_id(&Request::new(Method::GET, uri, ()).unwrap());

        assert_eq!(id("/?lastEventId=1-2-3").as_deref(), Some("1-2-3"));
        assert_eq!(id("/?last-event-id=1").as_deref(), Some("1"));
        assert_eq!(id("/?Last_Event_ID=1").as_deref(), Some("1"));
        assert_eq!(id("/?id=1"), None);
        assert_eq!(id("/?lastEventId="), None);
    }
}
