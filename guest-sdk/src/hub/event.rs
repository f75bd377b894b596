//! What is published: [`Payload`], [`Event`] and [`Publication`], checked before the host sees them.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::PublishError;
use crate::Error;

/// Bytes of a topic, at the most.
pub(crate) const MAX_TOPIC: usize = 1024;
/// Bytes of an event's name or id, at the most.
const MAX_NAME: usize = 255;
/// Header fields of an event, at the most.
const MAX_FIELDS: usize = 16;
/// Bytes of an event's header fields together, at the most.
const MAX_FIELD_BYTES: usize = 4 << 10;
/// Topics of a publication beside the first, at the most.
const MAX_ALTERNATES: usize = 16;

/// What an event carries, or a WebSocket's message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Text.
    Text(String),
    /// Bytes: a binary message of WebSockets; in event streams they go out in base64.
    Binary(Bytes),
}

impl Payload {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Bytes.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// `value` as JSON.
    ///
    /// # Errors
    /// 500 where serde cannot represent it.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::Text(serde_json::to_string(value)?))
    }

    /// The text; `None` of bytes.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes, of text those of UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// 400 where it is not JSON, 422 where it is not a `T`.
    pub fn parse_json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let bytes = self.as_bytes();
        serde_json::from_slice(bytes).map_err(|error| {
            match serde_json::from_slice::<IgnoredAny>(bytes) {
                Ok(_) => Error::unprocessable(error.to_string()),
                Err(malformed) => Error::bad_request(format!("this is not JSON: {malformed}")),
            }
        })
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// An event: to be published, to be sent, or out of the history.
///
/// What cannot be so (a line feed in a name, a value that has no JSON) is told by the call that takes
/// the event.
///
/// ```
/// use wharf_sdk::hub::Event;
///
/// let event = Event::named("order").id("42").json(&serde_json::json!({"total": 7}));
/// assert_eq!(event.data.as_text(), Some(r#"{"total":7}"#));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The publisher's own id in place of the host's, 1 to 255 bytes without control characters, not
    /// beginning with `#`. Streams carry it and go on from it.
    pub id: Option<String>,
    /// The `event` field of event streams; none means `message`. At most 255 bytes without control
    /// characters.
    pub name: Option<String>,
    /// What it carries.
    pub data: Payload,
    /// The `retry` field of event streams: how long clients wait before they come back.
    pub retry: Option<Duration>,
    /// Header fields of the answer to a long poll that this event is the answer of; at most 16, 4 KiB
    /// together.
    pub fields: Vec<(String, String)>,
    fault: Option<String>,
}

impl Event {
    /// An event with this data.
    pub fn new(data: impl Into<Payload>) -> Self {
        Self {
            id: None,
            name: None,
            data: data.into(),
            retry: None,
            fields: Vec::new(),
            fault: None,
        }
    }

    /// An event with this name, and no data so far.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new("").name(name)
    }

    /// Sets the id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the data.
    #[must_use]
    pub fn data(mut self, data: impl Into<Payload>) -> Self {
        self.data = data.into();
        self
    }

    /// Sets the data to `value` as JSON.
    #[must_use]
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => self.data = Payload::Text(text),
            Err(error) => self.fault = Some(format!("the data has no JSON: {error}")),
        }
        self
    }

    /// Sets the `retry` field.
    #[must_use]
    pub fn retry(mut self, retry: Duration) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Adds a header field for long polls.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// What about it cannot be so.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Some(id) = &self.id {
            if id.is_empty() {
                return Err("an event's id has at least one character".to_owned());
            }
            if id.starts_with('#') {
                return Err("an event's own id does not begin with `#`".to_owned());
            }
            check_line("an event's id", id, MAX_NAME)?;
        }
        if let Some(name) = &self.name {
            check_line("an event's name", name, MAX_NAME)?;
        }
        if self.fields.len() > MAX_FIELDS {
            return Err(format!("an event has at most {MAX_FIELDS} header fields"));
        }
        let mut bytes = 0;
        for (name, value) in &self.fields {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(format!("{name:?} is no name of a header field"));
            }
            if HeaderValue::from_str(value).is_err() {
                return Err(format!("{value:?} is no value of a header field"));
            }
            bytes += name.len() + value.len();
        }
        if bytes > MAX_FIELD_BYTES {
            return Err(format!("an event's header fields have at most {MAX_FIELD_BYTES} bytes"));
        }
        Ok(())
    }
}

/// An event and where it goes. Awaiting it publishes it and gives the event's id; it can also be what a
/// stream or a WebSocket publishes when it begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is published before it is awaited or handed over"]
pub struct Publication {
    pub(crate) topic: String,
    pub(crate) alternates: Vec<String>,
    pub(crate) event: Event,
    pub(crate) private: bool,
    pub(crate) except: Option<String>,
}

impl Publication {
    /// `event` for those who follow `topic`.
    pub fn new(topic: impl Into<String>, event: Event) -> Self {
        Self { topic: topic.into(), alternates: Vec::new(), event, private: false, except: None }
    }

    /// A further topic that it belongs to, at most 16; whoever follows several gets it once.
    pub fn also(mut self, topic: impl Into<String>) -> Self {
        self.alternates.push(topic.into());
        self
    }

    /// Only for those whose private topics match ([`Subscription::private`](super::Subscription::private)).
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// The stream or socket, by its id, that does not get it: by custom, who sent it. `{socket}`
    /// stands for the WebSocket that publishes this when it begins.
    pub fn except(mut self, id: impl Into<String>) -> Self {
        self.except = Some(id.into());
        self
    }

    /// What about it cannot be so.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.alternates.len() > MAX_ALTERNATES {
            return Err(format!("an event has at most {MAX_ALTERNATES} topics beside the first"));
        }
        check_topic(&self.topic)?;
        self.alternates.iter().try_for_each(|topic| check_topic(topic))?;
        self.event.check()
    }
}

impl IntoFuture for Publication {
    type Output = Result<String, PublishError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.check().map_err(PublishError::Invalid)?;
            super::imp::publish(self).await
        })
    }
}

/// What is wrong with a topic.
pub(crate) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("a topic has at least one character".to_owned());
    }
    check_line("a topic", topic, MAX_TOPIC)
}

/// What is wrong with a text that stands on a line of its own. It is told without its content, which
/// may be the client's.
fn check_line(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        Err(format!("{what} has at most {most} bytes, not {}", text.len()))
    } else if text.contains(char::is_control) {
        Err(format!("{what} has no control characters"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_is_refused() {
        let long = "x".repeat(256);
        for (event, fault) in [
            (Event::named("a\nb"), "name has no control"),
            (Event::named("a\0"), "name has no control"),
            (Event::named(&long), "at most 255 bytes"),
            (Event::new("").id("1\r2"), "id has no control"),
            (Event::new("").id(""), "at least one"),
            (Event::new("").id("#1"), "begin with"),
            (Event::new("").id(&long), "at most 255 bytes"),
            (Event::new("").field("a b", ""), "no name"),
            (Event::new("").field("a", "b\r\nc: d"), "no value"),
            (Event::new("").field("a", "x".repeat(5000)), "4096 bytes"),
        ] {
            let told = event.check().unwrap_err();

            assert!(told.contains(fault), "{told}");
        }
        assert_eq!(Event::named("order").id("42").data("a\nb").field("x-a", "b").check(), Ok(()));
    }

    #[test]
    fn topics_are_checked_all() {
        let event = || Event::new("x");

        assert_eq!(Publication::new("orders/42", event()).also("all").check(), Ok(()));
        assert!(Publication::new("", event()).check().is_err());
        assert!(Publication::new("a", event()).also("b\u{85}").check().is_err());
        assert!(Publication::new("x".repeat(1025), event()).check().is_err());
        let many = (0..17).fold(Publication::new("a", event()), |p, i| p.also(i.to_string()));
        assert!(many.check().unwrap_err().contains("at most 16"));
    }

    #[test]
    fn a_value_without_json_is_told_by_the_check() {
        use std::collections::HashMap;
        let no_text_as_key = HashMap::from([(vec![1], 2)]);

        let told = Event::named("x").json(&no_text_as_key).check().unwrap_err();

        assert!(told.contains("no JSON"), "{told}");
    }

    #[test]
    fn malformed_json_is_400_and_wrong_shape_422() {
        assert_eq!(Payload::text("{").parse_json::<Vec<u8>>().unwrap_err().status(), 400);
        assert_eq!(Payload::text("{}").parse_json::<Vec<u8>>().unwrap_err().status(), 422);
        assert_eq!(Payload::binary(b"[1]".to_vec()).parse_json::<Vec<u8>>().unwrap(), [1]);
    }
}
