//! Topics and their events: published by some, followed by others, with a history to go on from. Needs
//! `hub = { publish = [..], subscribe = [..] }` under `[capabilities]`.
//!
//! ```
//! use std::time::Duration;
//!
//! use wharf_sdk::hub::{self, Event};
//! use wharf_sdk::{Error, Request, Response};
//!
//! async fn put(mut request: Request) -> Result<Response, Error> {
//!     let order = request.text(64 << 10).await?;
//!     let id = hub::publish("orders/42", Event::new(order).name("order")).await?;
//!     Response::text("").with_header("x-current-version", id)
//! }
//!
//! /// Answered as soon as there is a newer event, or with 204 after 25 seconds.
//! async fn changes(request: Request) -> Result<Response, Error> {
//!     let last = request.header("x-last-version").unwrap_or_default();
//!     let poll = hub::poll(&request).topic("orders/42").after(last);
//!     Ok(poll.timeout(Duration::from_secs(25)).id_field("x-current-version").send()?)
//! }
//! # let _ = (put, changes);
//! ```
//!
//! Event streams are in [`sse`](crate::sse), WebSockets in [`websocket`](mod@crate::websocket). A component
//! that uses this imports `wharf:host/hub`, so that a host without that interface will not load it.

mod event;
#[cfg(target_family = "wasm")]
pub(crate) mod host;
mod subscription;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, StatusCode, header};

#[cfg(target_family = "wasm")]
use self::host as imp;
pub use event::{Event, Payload, Publication};
pub use subscription::{Resumption, Selector, Start, Subscription};
pub(crate) use subscription::{follows, starts};

use crate::{Error, Request, Response};

/// Publishes an event, once it is awaited; gives its id. Answered when the event has its place in
/// the order, and on durable topics when it is on disk.
///
/// ```
/// # use wharf_sdk::hub::{self, Event};
/// # async fn example(sender: String) -> Result<(), hub::PublishError> {
/// hub::publish("chat/lobby", Event::new("hello")).except(sender).await?;
/// # Ok(())
/// # }
/// ```
pub fn publish(topic: impl Into<String>, event: Event) -> Publication {
    Publication::new(topic, event)
}

/// The id of the latest event: what is read after this, and followed after that id, leaves no gap.
/// Natively an empty string.
pub fn position() -> String {
    imp::position()
}

/// Begins to read what is kept of the events of some topics.
///
/// ```
/// # use wharf_sdk::hub;
/// # fn example() -> Result<(), hub::SubscribeError> {
/// let past = hub::history().topic("chat/lobby").earliest().limit(50).read()?;
/// for past in past.events {
///     println!("{} {:?}", past.id, past.event.data);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Defaults
/// From the oldest on, at most 1,000 events.
pub fn history() -> History {
    History { subscription: Subscription::new(), start: Start::Earliest, limit: None }
}

/// Begins a response that the host holds until there is an event, or the time is over.
///
/// # Defaults
/// Events from now on, 25 seconds, the data of the first event as the body; 204 when nothing came.
pub fn poll(request: &Request) -> Poll<'_> {
    Poll {
        request,
        subscription: Subscription::new(),
        start: Start::Now,
        timeout: Duration::from_secs(25),
        json_array: false,
        timeout_status: StatusCode::NO_CONTENT,
        id_field: None,
    }
}

/// How many streams, sockets and polls would get a public event of this topic.
///
/// # Errors
/// Any [`SubscribeError`]; natively always.
pub fn subscriber_count(topic: &str) -> Result<u64, SubscribeError> {
    imp::subscriber_count(topic)
}

/// Who follows topics that begin with `within`; at most 1,000.
///
/// # Errors
/// Any [`SubscribeError`]; natively always.
pub fn subscribers(within: &str) -> Result<Vec<Subscriber>, SubscribeError> {
    imp::subscribers(within)
}

/// A part of the history that is about to be read.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `read` or `wait`"]
pub struct History {
    pub(crate) subscription: Subscription,
    pub(crate) start: Start,
    pub(crate) limit: Option<u32>,
}

impl History {
    follows!();
    starts!();

    /// At most so many events; the host gives at most 1,000.
    pub fn limit(mut self, events: u32) -> Self {
        self.limit = Some(events);
        self
    }

    /// Reads them, oldest first.
    ///
    /// # Errors
    /// Any [`SubscribeError`]; natively always.
    pub fn read(self) -> Result<Past, SubscribeError> {
        self.subscription.check().map_err(SubscribeError::Invalid)?;
        imp::history(self)
    }

    /// Waits until there are such events, at most for `timeout`; empty where none came. Where
    /// [`poll`] will do, the host waits and no instance does.
    ///
    /// # Errors
    /// Any [`SubscribeError`]; natively always.
    pub async fn wait(self, timeout: Duration) -> Result<Past, SubscribeError> {
        self.subscription.check().map_err(SubscribeError::Invalid)?;
        imp::wait(self, timeout).await
    }
}

/// Some of the history, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The events.
    pub events: Vec<PastEvent>,
    /// Whether it begins where it was to.
    pub resumption: Resumption,
    /// The id to go on from.
    pub last_id: String,
}

/// An event of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEvent {
    /// Its id.
    pub id: String,
    /// Its first topic.
    pub topic: String,
    /// When it was published, to the millisecond.
    pub published_at: SystemTime,
    /// What was published.
    pub event: Event,
}

/// A stream, socket or poll that follows something now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// What names it.
    pub id: String,
    /// What it follows.
    pub subscription: Subscription,
    /// As its plugin gave them.
    pub attributes: Vec<(String, String)>,
    /// Since when, to the millisecond.
    pub since: SystemTime,
}

/// A long poll that is about to begin.
#[derive(Debug)]
#[must_use = "nothing is held before `send` makes it a response"]
pub struct Poll<'a> {
    pub(crate) request: &'a Request,
    pub(crate) subscription: Subscription,
    pub(crate) start: Start,
    pub(crate) timeout: Duration,
    pub(crate) json_array: bool,
    pub(crate) timeout_status: StatusCode,
    pub(crate) id_field: Option<String>,
}

impl Poll<'_> {
    follows!();
    starts!();

    /// Begins after the event that the request names in `Last-Event-ID`, as a header or in the query.
    pub fn resume(mut self) -> Self {
        self.start = Start::Request;
        self
    }

    /// Waits so long at the most; the host's own limit is 5 minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Answers with a JSON array of the data of all events that are there, each of which must be JSON.
    pub fn json_array(mut self) -> Self {
        self.json_array = true;
        self
    }

    /// The status when nothing came.
    pub fn timeout_status(mut self, status: StatusCode) -> Self {
        self.timeout_status = status;
        self
    }

    /// A header field that gets the id of the last event of the answer.
    pub fn id_field(mut self, name: impl Into<String>) -> Self {
        self.id_field = Some(name.into());
        self
    }

    /// The response: 200, without fields of its own. Status and fields that are set on it are those for
    /// the case that there is an event.
    ///
    /// # Errors
    /// Any [`SubscribeError`]; natively always.
    pub fn send(self) -> Result<Response, SubscribeError> {
        self.subscription.check().map_err(SubscribeError::Invalid)?;
        if let Some(name) = &self.id_field
            && HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            return Err(SubscribeError::Invalid(format!("{name:?} is no header field's name")));
        }
        imp::poll(&self)
    }
}

/// Why something is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// `[capabilities] hub.publish` names no such topic.
    NotGranted,
    /// A topic or a field cannot be so; which and why.
    Invalid(String),
    /// More than 1 MiB, or than the topic's history holds.
    TooLarge,
    /// Too much is being published, or the disk does not keep up.
    Busy,
    /// It could not be stored, or there is no host.
    Failed(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => {
                f.write_str("the manifest does not name the topic in `[capabilities] hub.publish`")
            }
            Self::TooLarge => f.write_str("the event is too large"),
            Self::Busy => f.write_str("too much is being published"),
            Self::Invalid(cause) | Self::Failed(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for PublishError {}

impl PublishError {
    /// What an [`Error`] is made of: 403 where it is not granted, 422 with the reason where a topic or
    /// a field cannot be so (they are most often the client's), 413, 503 with `Retry-After`, 500.
    pub(crate) fn problem(&self) -> Error {
        match self {
            Self::NotGranted => Error::new(StatusCode::FORBIDDEN),
            Self::Invalid(cause) => Error::unprocessable(cause),
            Self::TooLarge => Error::new(StatusCode::PAYLOAD_TOO_LARGE).detail(self.to_string()),
            Self::Busy => again_later(),
            Self::Failed(_) => Error::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// Why nothing is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// `[capabilities] hub.subscribe` does not cover it.
    NotGranted,
    /// A selector or an option cannot be so; which and why.
    Invalid(String),
    /// Too many selectors, or too many subscriptions of the plugin.
    TooMany,
    /// The exchange has been answered, or its client has left.
    TooLate,
    /// No Wharf host is here.
    NoHost,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGranted => {
                "the manifest does not name the topics in `[capabilities] hub.subscribe`"
            }
            Self::Invalid(cause) => cause,
            Self::TooMany => "the plugin has too many subscriptions, or one too many selectors",
            Self::TooLate => "the exchange is over",
            Self::NoHost => "no Wharf host is here",
        })
    }
}

impl std::error::Error for SubscribeError {}

impl SubscribeError {
    /// What an [`Error`] is made of: 403 where it is not granted, 400 with the reason where a selector
    /// or an option cannot be so (they are most often the client's), 503 with `Retry-After`, 500.
    pub(crate) fn problem(&self) -> Error {
        match self {
            Self::NotGranted => Error::new(StatusCode::FORBIDDEN),
            Self::Invalid(cause) => Error::bad_request(cause),
            Self::TooMany => again_later(),
            Self::TooLate | Self::NoHost => Error::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// 503 that asks to come back in a second.
pub(crate) fn again_later() -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE)
        .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// Natively there is no host: every call answers that.
#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{
        Duration, History, Past, Poll, Publication, PublishError, Response, SubscribeError,
        Subscriber,
    };

    pub(super) async fn publish(_publication: Publication) -> Result<String, PublishError> {
        Err(PublishError::Failed("there is no host".to_owned()))
    }

    pub(super) fn position() -> String {
        String::new()
    }

    pub(super) fn history(_history: History) -> Result<Past, SubscribeError> {
        Err(SubscribeError::NoHost)
    }

    pub(super) async fn wait(
        _history: History,
        _timeout: Duration,
    ) -> Result<Past, SubscribeError> {
        Err(SubscribeError::NoHost)
    }

    pub(super) fn poll(poll: &Poll<'_>) -> Result<Response, SubscribeError> {
        let Poll { request, start, timeout, json_array, timeout_status, .. } = poll;
        let _without_a_host = (request.exchange(), start, timeout, json_array, timeout_status);
        Err(SubscribeError::NoHost)
    }

    pub(super) fn subscriber_count(_topic: &str) -> Result<u64, SubscribeError> {
        Err(SubscribeError::NoHost)
    }

    pub(super) fn subscribers(_within: &str) -> Result<Vec<Subscriber>, SubscribeError> {
        Err(SubscribeError::NoHost)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::testing::block_on;

    #[test]
    fn natively_there_is_no_host() {
        let request = Request::new(Method::GET, "/", ()).unwrap();
        let published = block_on(publish("a", Event::new("x")).into_future());

        assert!(matches!(published, Err(PublishError::Failed(_))));
        assert_eq!(history().topic("a").read(), Err(SubscribeError::NoHost));
        let waited = block_on(history().topic("a").wait(Duration::ZERO));
        assert_eq!(waited, Err(SubscribeError::NoHost));
        let polled = poll(&request).topic("a").after("1").json_array().send();
        assert_eq!(polled.unwrap_err(), SubscribeError::NoHost);
        assert_eq!(subscriber_count("a"), Err(SubscribeError::NoHost));
        assert_eq!(position(), "");
    }

    #[test]
    fn what_cannot_be_so_is_told_before_the_host_is_asked() {
        let request = Request::new(Method::GET, "/", ()).unwrap();

        let published = block_on(publish("a\nb", Event::new("x")).into_future()).unwrap_err();
        let polled = poll(&request).topic("a").id_field("a b").send().unwrap_err();

        assert_eq!(Error::from(published).status(), 422);
        assert_eq!(Error::from(polled).status(), 400);
    }

    #[test]
    fn a_busy_hub_is_503_and_says_when_to_come_back() {
        let response = Error::from(PublishError::Busy).into_response();

        assert_eq!(response.status(), 503);
        assert_eq!(response.header("retry-after"), Some("1"));
    }
}
