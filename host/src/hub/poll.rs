//! Long polls: responses that wait for an event.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll as Polled;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode, response};
use wharf_hub::{Event, Payload};

use super::{Counted, Follower, Step};
use crate::http::body::ResponseBody;
use crate::http::validate;
use crate::plugin::reply::Held;

/// How long a poll may wait.
pub const MAX_POLL: Duration = Duration::from_secs(300);
/// Bytes of events in one answer; one event may be larger.
const MAX_ANSWER: usize = 4 << 20;

/// The body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollBody {
    /// The first event's data.
    First,
    /// All that is there.
    JsonArray,
}

/// A response that waits for an event.
#[derive(Debug)]
pub struct Poll {
    /// What it waits for.
    pub follower: Follower,
    /// At most so long.
    pub timeout: Duration,
    /// What it says then.
    pub body: PollBody,
    /// The status where nothing came.
    pub timeout_status: StatusCode,
    /// The field that gets the id of the last event.
    pub id_field: Option<HeaderName>,
    /// What came.
    pub found: Vec<Arc<Event>>,
    /// Counts it.
    pub held: Counted,
}

impl Poll {
    async fn wait(&mut self) {
        let (follower, found, body) = (&mut self.follower, &mut self.found, self.body);
        let mut bytes = 0;
        let next = poll_fn(|cx| {
            loop {
                match follower.poll_next(cx) {
                    Polled::Ready(Step::Event(event)) => {
                        bytes += event.content().data.bytes().len();
                        found.push(event);
                        if body == PollBody::First || bytes > MAX_ANSWER {
                            return Polled::Ready(());
                        }
                    }
                    Polled::Ready(Step::Lagged | Step::Ended) => return Polled::Ready(()),
                    Polled::Pending if found.is_empty() => return Polled::Pending,
                    Polled::Pending => return Polled::Ready(()),
                }
            }
        });
        let _elapsed = tokio::time::timeout(self.timeout, next).await;
    }
}

impl Held for Poll {
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.wait())
    }

    fn respond(self: Box<Self>, mut head: response::Parts) -> Response<ResponseBody> {
        head.headers.remove(http::header::CONTENT_LENGTH);
        let Some(last) = self.found.last() else {
            head.status = self.timeout_status;
            return Response::from_parts(head, ResponseBody::empty());
        };
        for (name, value) in &last.content().fields {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_bytes(value.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value)
                && name != http::header::CONTENT_LENGTH
            {
                head.headers.insert(name, value);
            }
        }
        if let Some(field) = &self.id_field
            && let Ok(id) = HeaderValue::from_str(&last.id_text())
        {
            head.headers.insert(field.clone(), id);
        }
        let bytes = match self.body {
            PollBody::First => last.content().data.bytes().clone(),
            PollBody::JsonArray => {
                let json = HeaderValue::from_static("application/json");
                head.headers.entry(CONTENT_TYPE).or_insert(json);
                json_array(&self.found)
            }
        };
        // What an event said of the response must not break it.
        if validate::response(head.status, &mut head.headers).is_err() {
            head.headers.clear();
        }
        Response::from_parts(head, ResponseBody::full(bytes))
    }

    fn is_held(&self) -> bool {
        true
    }
}

/// The data of events as an array; what is no JSON becomes a string.
fn json_array(events: &[Arc<Event>]) -> Bytes {
    let mut out = BytesMut::new();
    for (index, event) in events.iter().enumerate() {
        out.put_u8(if index == 0 { b'[' } else { b',' });
        let data = &event.content().data;
        let is_json = matches!(data, Payload::Text(_))
            && serde_json::from_slice::<serde::de::IgnoredAny>(data.bytes()).is_ok();
        if is_json {
            out.extend_from_slice(data.bytes());
        } else {
            let text = String::from_utf8_lossy(data.bytes());
            out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        }
    }
    out.put_u8(b']');
    out.freeze()
}
