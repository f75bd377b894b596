//! Event streams as a client reads them (WHATWG HTML §9.2.6), comments included: events in the order of
//! their arrival, each within a limit. What browsers and npm's `eventsource` make of them,
//! `tests/clients` shows.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::{Client, Incoming};

/// How long an event may take.
const LIMIT: Duration = Duration::from_secs(30);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamEvent {
    /// `message` where the stream did not say.
    pub name: String,
    /// Its own; empty where it has none.
    pub id: String,
    /// Its data.
    pub data: String,
}

impl StreamEvent {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// An event stream that is being read.
pub struct EventStream {
    /// Status code.
    pub status: StatusCode,
    /// Fields.
    pub headers: HeaderMap,
    /// The last `retry` field, in milliseconds.
    pub retry: Option<u64>,
    /// Comments so far.
    pub comments: usize,
    incoming: Incoming,
    _client: Client,
}

impl EventStream {
    /// GETs `path` with a client that is gone with the stream.
    pub async fn open(mut client: Client, path: &str, fields: &[(&str, &str)]) -> Self {
        let incoming = timeout(LIMIT, client.open_with(path, fields)).await;
        let incoming = incoming.unwrap_or_else(|_| panic!("{path} is not answered"));
        let (status, headers) = (incoming.status, incoming.headers.clone());
        Self { status, headers, retry: None, comments: 0, incoming, _client: client }
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        let read = self.read();
        timeout(LIMIT, read).await.unwrap_or_else(|_| panic!("no event within {LIMIT:?}"))
    }

    /// The next event that is not named `name`.
    pub async fn next_but(&mut self, name: &str) -> Option<StreamEvent> {
        loop {
            let event = self.next().await?;
            if event.name != name {
                return Some(event);
            }
        }
    }

    async fn read(&mut self) -> Option<StreamEvent> {
        let mut event = StreamEvent::default();
        let mut data: Vec<String> = Vec::new();
        loop {
            let line = self.incoming.line().await?;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                if data.is_empty() {
                    continue;
                }
                event.data = data.join("\n");
                if event.name.is_empty() {
                    "message".clone_into(&mut event.name);
                }
                return Some(event);
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "event" => value.clone_into(&mut event.name),
                "id" => value.clone_into(&mut event.id),
                "data" => data.push(value.to_owned()),
                "retry" => self.retry = value.parse().ok(),
                other => panic!("no field of an event stream: {other:?}"),
            }
        }
    }
}
