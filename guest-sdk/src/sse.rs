//! Event streams (`text/event-stream`, WHATWG HTML §9.2) that the host holds: they cost no instance, and
//! outlive instances and reloads of the plugin.
//!
//! ```
//! use std::time::Duration;
//!
//! use wharf_sdk::hub::Event;
//! use wharf_sdk::sse::{self, Heartbeat};
//! use wharf_sdk::{Error, Request, Response};
//!
//! /// What is published to the topics, from where the client left off.
//! async fn orders(request: Request) -> Result<Response, Error> {
//!     let stream = sse::stream(&request).topics("orders/*").resume();
//!     let stream = stream.first(Event::named("connected").data("{}"));
//!     Ok(stream.heartbeat(Duration::from_secs(2), Heartbeat::event("heartbeat", "{}")).send()?)
//! }
//!
//! /// What the plugin itself sends.
//! async fn time(request: Request) -> Result<Response, Error> {
//!     sse::emit(&request).run(async |mut events| {
//!         for tick in 0..60 {
//!             events.send(Event::new(tick.to_string())).await?;
//!             // … and waits.
//!         }
//!         Ok(())
//!     })
//! }
//! # let _ = (orders, time);
//! ```
//!
//! Unless the response says otherwise it goes out with `Content-Type: text/event-stream`,
//! `Cache-Control: no-cache` and `X-Accel-Buffering: no`. A component that uses this imports
//! `wharf:host/sse`, so that a host without that interface will not load it.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::body::Closed;
use crate::error::write_to_stderr;
use crate::hub::{
    Event, Payload, Publication, Resumption, Start, SubscribeError, Subscription, follows, starts,
};
use crate::{Error, Request, Response};

/// Below this a heartbeat is refused.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Bytes of a stream's attributes together, at the most.
const MAX_ATTRIBUTES: usize = 16 << 10;

/// Begins a stream that topics feed. It needs `hub = { subscribe = [..] }` under `[capabilities]`.
///
/// # Defaults
/// Events from now on, a comment every 15 seconds without an event; a client that reads too slowly is
/// disconnected, and comes back with the id of the last event that it got.
pub fn stream(request: &Request) -> Stream<'_> {
    Stream {
        request,
        subscription: Subscription::new(),
        start: Start::Now,
        first: Vec::new(),
        heartbeat: None,
        retry: None,
        drop_oldest: false,
        ends_with: Vec::new(),
        max_age: None,
        attributes: Vec::new(),
        on_open: Vec::new(),
        on_close: Vec::new(),
    }
}

/// What is sent when nothing else was for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// A comment, which no script sees.
    Comment,
    /// An event; it has no id.
    Event(Event),
}

impl Heartbeat {
    /// An event with this name and data.
    pub fn event(name: impl Into<String>, data: impl Into<Payload>) -> Self {
        Self::Event(Event::named(name).data(data))
    }
}

/// A stream that is about to begin.
#[derive(Debug)]
#[must_use = "nothing begins before `send` or `open`"]
pub struct Stream<'a> {
    request: &'a Request,
    subscription: Subscription,
    start: Start,
    first: Vec<Event>,
    heartbeat: Option<(Duration, Heartbeat)>,
    retry: Option<Duration>,
    drop_oldest: bool,
    ends_with: Vec<String>,
    max_age: Option<Duration>,
    attributes: Vec<(String, String)>,
    on_open: Vec<Publication>,
    on_close: Vec<Publication>,
}

impl Stream<'_> {
    follows!();
    starts!();

    /// Begins after the event that the client got last, as `Last-Event-ID` says, in the header or in the
    /// query; else now.
    pub fn resume(self) -> Self {
        self.start(Start::Request)
    }

    /// Sends this before all else, in the order of the calls. An id is sent only where the event has one
    /// of its own.
    pub fn first(mut self, event: Event) -> Self {
        self.first.push(event);
        self
    }

    /// Sends this when nothing else was sent for so long, at least 100 ms.
    pub fn heartbeat(mut self, every: Duration, kind: Heartbeat) -> Self {
        self.heartbeat = Some((every, kind));
        self
    }

    /// Tells clients how long to wait before they come back.
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// A client that reads too slowly misses the oldest events, rather than being disconnected.
    pub fn drop_oldest(mut self) -> Self {
        self.drop_oldest = true;
        self
    }

    /// Ends after an event with this name, or another that was named so.
    pub fn ends_with(mut self, event_name: impl Into<String>) -> Self {
        self.ends_with.push(event_name.into());
        self
    }

    /// Ends after so long; the client comes back.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Something that [`hub::subscribers`](crate::hub::subscribers) tells of it; 16 KiB together.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Publishes this when the stream begins.
    pub fn on_open(mut self, publication: Publication) -> Self {
        self.on_open.push(publication);
        self
    }

    /// Publishes this when the stream has ended, however it did.
    pub fn on_close(mut self, publication: Publication) -> Self {
        self.on_close.push(publication);
        self
    }

    /// The response. Fields that are set on it are kept.
    ///
    /// # Errors
    /// Any [`SubscribeError`]; natively always.
    pub fn send(self) -> Result<Response, SubscribeError> {
        self.open().map(|stream| stream.response)
    }

    /// The response, and what is known of the stream. It collects events from now on.
    ///
    /// # Errors
    /// Any [`SubscribeError`]; natively always.
    pub fn open(self) -> Result<EventStream, SubscribeError> {
        self.check().map_err(SubscribeError::Invalid)?;
        imp::open(self)
    }

    fn check(&self) -> Result<(), String> {
        self.subscription.check()?;
        self.first.iter().try_for_each(Event::check)?;
        check_heartbeat(self.heartbeat.as_ref())?;
        check_attributes(&self.attributes)?;
        self.on_open.iter().chain(&self.on_close).try_for_each(Publication::check)
    }
}

/// A stream that begins once its response has been given back.
#[derive(Debug)]
pub struct EventStream {
    /// To be given back by the handler.
    pub response: Response,
    /// Names it in [`hub::subscribers`](crate::hub::subscribers) and in [`Publication::except`].
    pub id: String,
    /// Whether it begins where it was to.
    pub resumption: Resumption,
    /// The id of the event before the first that it will get; empty where that is not known.
    pub last_id: String,
}

/// Begins a stream that the plugin feeds itself.
///
/// # Defaults
/// A comment every 15 seconds without an event.
pub fn emit(request: &Request) -> Emit<'_> {
    Emit { request, heartbeat: None, retry: None }
}

/// A stream that is about to begin.
#[derive(Debug)]
#[must_use = "nothing begins before `run` or `start`"]
pub struct Emit<'a> {
    request: &'a Request,
    heartbeat: Option<(Duration, Heartbeat)>,
    retry: Option<Duration>,
}

impl Emit<'_> {
    /// Sends this when nothing else was sent for so long, at least 100 ms.
    pub fn heartbeat(mut self, every: Duration, kind: Heartbeat) -> Self {
        self.heartbeat = Some((every, kind));
        self
    }

    /// Tells clients how long to wait before they come back.
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// The response; `feed` runs on after it was given back, and ends the stream when it returns. An
    /// error is written to stderr, unless it is [`EmitError::Closed`]: the client may leave.
    ///
    /// # Errors
    /// What a [`SubscribeError`] becomes; natively always.
    pub fn run<F, Fut>(self, feed: F) -> Result<Response, Error>
    where
        F: FnOnce(Emitter) -> Fut + 'static,
        Fut: Future<Output = Result<(), Error>> + 'static,
    {
        let (response, emitter) = self.start()?;
        crate::spawn(async move {
            if let Err(error) = feed(emitter).await
                && error.cause::<EmitError>() != Some(&EmitError::Closed)
                && error.cause::<Closed>().is_none()
            {
                write_to_stderr(&format!("event stream broken off: {error}"));
            }
        });
        Ok(response)
    }

    /// The response to give back, and the plugin's end of the stream, for a task of its own
    /// ([`spawn`](crate::spawn)). Events can be sent at once.
    ///
    /// # Errors
    /// Any [`SubscribeError`]; natively always.
    pub fn start(self) -> Result<(Response, Emitter), SubscribeError> {
        check_heartbeat(self.heartbeat.as_ref()).map_err(SubscribeError::Invalid)?;
        imp::start(&self)
    }
}

/// The plugin's end of a stream. Dropping it ends the stream as if it were complete.
#[derive(Debug)]
pub struct Emitter {
    inner: imp::Emitter,
}

impl Emitter {
    /// Sends an event; waits while 64 events, or 256 KiB, wait for the client.
    ///
    /// # Errors
    /// [`EmitError::Closed`] once the client has left or the stream has ended.
    pub async fn send(&mut self, event: Event) -> Result<(), EmitError> {
        event.check().map_err(EmitError::Invalid)?;
        self.inner.send(event).await
    }

    /// Sends a comment.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn comment(&mut self, text: &str) -> Result<(), EmitError> {
        self.inner.comment(text)
    }

    /// True once the client has left or the server is draining.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Waits until the client has left or the server drains: to be raced with the work.
    pub async fn closed(&self) {
        self.inner.closed().await;
    }
}

/// Why an event is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// The client has left, or the stream has ended.
    Closed,
    /// A field cannot be so; which and why.
    Invalid(String),
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the client has left"),
            Self::Invalid(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for EmitError {}

fn check_heartbeat(heartbeat: Option<&(Duration, Heartbeat)>) -> Result<(), String> {
    let Some((every, kind)) = heartbeat else { return Ok(()) };
    if *every < SHORTEST_HEARTBEAT {
        return Err(format!("a heartbeat every {every:?} is too much: {SHORTEST_HEARTBEAT:?}"));
    }
    match kind {
        Heartbeat::Comment => Ok(()),
        Heartbeat::Event(event) => event.check(),
    }
}

/// What is wrong with the attributes of a stream or a socket.
pub(crate) fn check_attributes(attributes: &[(String, String)]) -> Result<(), String> {
    let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ATTRIBUTES {
        return Err(format!("attributes have at most {MAX_ATTRIBUTES} bytes, not {bytes}"));
    }
    Ok(())
}

#[cfg(target_family = "wasm")]
mod imp {
    use std::time::Duration;

    use super::{Emit, EmitError, Event, EventStream, Heartbeat, Response, Stream, SubscribeError};
    use crate::bindings::wharf::host::{sse, sse_async};
    use crate::hub::host::{
        from_resumption, from_subscribe_error, milliseconds, to_event, to_publication, to_start,
        to_subscription,
    };
    use crate::response::held;

    pub(super) fn open(stream: Stream<'_>) -> Result<EventStream, SubscribeError> {
        let exchange = stream.request.exchange().ok_or(SubscribeError::NoHost)?;
        let options = sse::Options {
            subscription: to_subscription(&stream.subscription),
            start: to_start(&stream.start),
            first: stream.first.into_iter().map(to_event).collect(),
            heartbeat: stream.heartbeat.map(to_heartbeat),
            retry: stream.retry.map(milliseconds),
            lag: if stream.drop_oldest {
                sse::LagPolicy::DropOldest
            } else {
                sse::LagPolicy::Disconnect
            },
            ends_with: stream.ends_with,
            max_age_ms: stream
                .max_age
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            attributes: stream.attributes,
            on_open: stream.on_open.into_iter().map(to_publication).collect(),
            on_close: stream.on_close.into_iter().map(to_publication).collect(),
        };
        let begun = sse::reply(exchange.host(), &options).map_err(from_subscribe_error)?;
        Ok(EventStream {
            response: held(&begun.token).ok_or(SubscribeError::NoHost)?,
            id: begun.id,
            resumption: from_resumption(begun.resumption),
            last_id: begun.last_id,
        })
    }

    pub(super) fn start(emit: &Emit<'_>) -> Result<(Response, super::Emitter), SubscribeError> {
        let exchange = emit.request.exchange().ok_or(SubscribeError::NoHost)?;
        let options = sse::EmitterOptions {
            heartbeat: emit.heartbeat.clone().map(to_heartbeat),
            retry: emit.retry.map(milliseconds),
        };
        let (token, inner) = sse::emit(exchange.host(), &options).map_err(from_subscribe_error)?;
        let response = held(&token).ok_or(SubscribeError::NoHost)?;
        Ok((response, super::Emitter { inner: Emitter(inner) }))
    }

    #[derive(Debug)]
    pub(super) struct Emitter(sse::Emitter);

    impl Emitter {
        pub(super) async fn send(&self, event: Event) -> Result<(), EmitError> {
            sse_async::send(&self.0, to_event(event)).await.map_err(fault)
        }

        pub(super) fn comment(&self, text: &str) -> Result<(), EmitError> {
            self.0.comment(text).map_err(fault)
        }

        pub(super) fn is_closed(&self) -> bool {
            self.0.closed()
        }

        pub(super) async fn closed(&self) {
            sse_async::closed(&self.0).await;
        }
    }

    fn to_heartbeat((every, kind): (Duration, Heartbeat)) -> sse::Heartbeat {
        let kind = match kind {
            Heartbeat::Comment => sse::HeartbeatKind::Comment,
            Heartbeat::Event(event) => sse::HeartbeatKind::Event(to_event(event)),
        };
        sse::Heartbeat { every_ms: milliseconds(every), kind }
    }

    fn fault(error: sse::EmitError) -> EmitError {
        match error {
            sse::EmitError::Closed => EmitError::Closed,
            sse::EmitError::Invalid(cause) => EmitError::Invalid(cause),
        }
    }
}

/// Natively there is no host: nothing begins.
#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{Emit, EmitError, Event, EventStream, Response, Stream, SubscribeError};

    pub(super) fn open(stream: Stream<'_>) -> Result<EventStream, SubscribeError> {
        let Stream { request, start, retry, drop_oldest, ends_with, max_age, .. } = stream;
        let _without_a_host = (request.exchange(), start, retry, drop_oldest, ends_with, max_age);
        Err(SubscribeError::NoHost)
    }

    pub(super) fn start(emit: &Emit<'_>) -> Result<(Response, super::Emitter), SubscribeError> {
        let Emit { request, heartbeat: _, retry: _ } = emit;
        let _without_a_host = request.exchange();
        Err(SubscribeError::NoHost)
    }

    #[derive(Debug)]
    pub(super) struct Emitter(std::convert::Infallible);

    impl Emitter {
        pub(super) async fn send(&self, _event: Event) -> Result<(), EmitError> {
            match self.0 {}
        }

        pub(super) fn comment(&self, _text: &str) -> Result<(), EmitError> {
            match self.0 {}
        }

        pub(super) fn is_closed(&self) -> bool {
            match self.0 {}
        }

        pub(super) async fn closed(&self) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn request() -> Request {
        Request::new(Method::GET, "/", ()).unwrap()
    }

    #[test]
    fn without_a_host_no_stream_begins() {
        let request = request();

        let streamed = stream(&request).topics("orders/*").resume().retry(Duration::ZERO).send();
        let emitted = emit(&request).run(async |_events| Ok(()));

        assert_eq!(streamed.unwrap_err(), SubscribeError::NoHost);
        assert_eq!(emitted.unwrap_err().status(), 500);
    }

    #[test]
    fn what_cannot_be_so_is_told_before_the_host_is_asked() {
        let request = request();
        let begin = || stream(&request).topic("orders");
        let second = Duration::from_secs(1);

        for (stream, fault) in [
            (begin().topic("orders/*"), "`topics`"),
            (begin().first(Event::named("a\nb")), "name"),
            (begin().heartbeat(Duration::from_millis(99), Heartbeat::Comment), "100ms"),
            (begin().heartbeat(second, Heartbeat::event("a\rb", "")), "name"),
            (begin().attribute("a", "x".repeat(20_000)), "16384"),
            (begin().on_open(Publication::new("", Event::new(""))), "topic"),
            (begin().on_close(Publication::new("a\n", Event::new(""))), "topic"),
        ] {
            let told = stream.send().unwrap_err();

            assert!(told.to_string().contains(fault), "{told}");
            assert_eq!(Error::from(told).status(), 400);
        }
    }
}
