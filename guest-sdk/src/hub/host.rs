//! The hub's calls, and its types on their way to the host and back.

use std::time::{Duration, SystemTime};

use crate::bindings::wharf::host::{hub, hub_async};
use crate::hub::{
    Event, History, Past, PastEvent, Payload, Poll, Publication, PublishError, Resumption,
    Selector, Start, SubscribeError, Subscriber, Subscription,
};
use crate::{Response, response};

pub(super) async fn publish(publication: Publication) -> Result<String, PublishError> {
    hub_async::publish(to_publication(publication)).await.map_err(|error| match error {
        hub::PublishError::NotGranted => PublishError::NotGranted,
        hub::PublishError::Invalid(cause) => PublishError::Invalid(cause),
        hub::PublishError::TooLarge => PublishError::TooLarge,
        hub::PublishError::Busy => PublishError::Busy,
        hub::PublishError::Failed(cause) => PublishError::Failed(cause),
    })
}

pub(super) fn position() -> String {
    hub::position()
}

pub(super) fn history(history: History) -> Result<Past, SubscribeError> {
    let start = to_start(&history.start);
    let past = hub::history(&to_subscription(&history.subscription), &start, history.limit);
    past.map(from_past).map_err(from_subscribe_error)
}

pub(super) async fn wait(history: History, timeout: Duration) -> Result<Past, SubscribeError> {
    let subscription = to_subscription(&history.subscription);
    let start = to_start(&history.start);
    let past = hub_async::wait(subscription, start, milliseconds(timeout)).await;
    let mut past = past.map(from_past).map_err(from_subscribe_error)?;
    let most = history.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    if past.events.len() > most {
        past.events.truncate(most);
        past.last_id = past.events.last().map_or(past.last_id, |event| event.id.clone());
    }
    Ok(past)
}

pub(super) fn poll(poll: &Poll<'_>) -> Result<Response, SubscribeError> {
    let exchange = poll.request.exchange().ok_or(SubscribeError::NoHost)?;
    let options = hub::PollOptions {
        subscription: to_subscription(&poll.subscription),
        start: to_start(&poll.start),
        timeout_ms: milliseconds(poll.timeout),
        body: if poll.json_array { hub::PollBody::JsonArray } else { hub::PollBody::First },
        timeout_status: poll.timeout_status.as_u16(),
        id_field: poll.id_field.clone(),
    };
    let token = hub::wait_reply(exchange.host(), &options).map_err(from_subscribe_error)?;
    response::held(&token).ok_or(SubscribeError::NoHost)
}

pub(super) fn subscriber_count(topic: &str) -> Result<u64, SubscribeError> {
    hub::subscriber_count(topic).map_err(from_subscribe_error)
}

pub(super) fn subscribers(within: &str) -> Result<Vec<Subscriber>, SubscribeError> {
    let subscribers = hub::subscribers(within).map_err(from_subscribe_error)?;
    let subscriber = |subscriber: hub::Subscriber| Subscriber {
        id: subscriber.id,
        subscription: from_subscription(subscriber.subscription),
        attributes: subscriber.attributes,
        since: from_milliseconds(subscriber.since),
    };
    Ok(subscribers.into_iter().map(subscriber).collect())
}

pub(crate) fn from_subscribe_error(error: hub::SubscribeError) -> SubscribeError {
    match error {
        hub::SubscribeError::NotGranted => SubscribeError::NotGranted,
        hub::SubscribeError::Invalid(cause) => SubscribeError::Invalid(cause),
        hub::SubscribeError::TooMany => SubscribeError::TooMany,
        hub::SubscribeError::TooLate => SubscribeError::TooLate,
    }
}

pub(crate) fn to_payload(payload: Payload) -> hub::Payload {
    match payload {
        Payload::Text(text) => hub::Payload::Text(text),
        Payload::Binary(bytes) => hub::Payload::Binary(bytes.into()),
    }
}

pub(crate) fn from_payload(payload: hub::Payload) -> Payload {
    match payload {
        hub::Payload::Text(text) => Payload::Text(text),
        hub::Payload::Binary(bytes) => Payload::Binary(bytes.into()),
    }
}

pub(crate) fn to_event(event: Event) -> hub::Event {
    hub::Event {
        id: event.id,
        name: event.name,
        data: to_payload(event.data),
        retry: event.retry.map(milliseconds),
        fields: event.fields,
    }
}

pub(crate) fn to_publication(publication: Publication) -> hub::Publication {
    hub::Publication {
        topic: publication.topic,
        alternates: publication.alternates,
        event: to_event(publication.event),
        private: publication.private,
        except: publication.except,
    }
}

pub(crate) fn to_selector(selector: &Selector) -> hub::Selector {
    let text = selector.as_str().to_owned();
    match selector {
        Selector::Exact(_) => hub::Selector::Exact(text),
        Selector::Pattern(_) => hub::Selector::Pattern(text),
        Selector::UriTemplate(_) => hub::Selector::UriTemplate(text),
        Selector::UrlPattern(_) => hub::Selector::UrlPattern(text),
    }
}

pub(crate) fn to_subscription(subscription: &Subscription) -> hub::Subscription {
    hub::Subscription {
        topics: subscription.topics.iter().map(to_selector).collect(),
        private_topics: subscription.private.iter().map(to_selector).collect(),
        within: subscription.within.clone(),
    }
}

pub(crate) fn to_start(start: &Start) -> hub::Start {
    match start {
        Start::Now => hub::Start::Now,
        Start::After(id) => hub::Start::After(id.clone()),
        Start::Earliest => hub::Start::Earliest,
        Start::Request => hub::Start::Request,
    }
}

pub(crate) fn from_resumption(resumption: hub::Resumption) -> Resumption {
    match resumption {
        hub::Resumption::Fresh => Resumption::Fresh,
        hub::Resumption::Complete => Resumption::Complete,
        hub::Resumption::Lost => Resumption::Lost,
    }
}

/// A time as the host counts it; too long a one is its longest.
pub(crate) fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn from_milliseconds(since_1970: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(since_1970)
}

fn from_event(event: hub::Event) -> Event {
    let mut made = Event::new(from_payload(event.data));
    made.id = event.id;
    made.name = event.name;
    made.retry = event.retry.map(|retry| Duration::from_millis(retry.into()));
    made.fields = event.fields;
    made
}

fn from_selector(selector: hub::Selector) -> Selector {
    match selector {
        hub::Selector::Exact(text) => Selector::Exact(text),
        hub::Selector::Pattern(text) => Selector::Pattern(text),
        hub::Selector::UriTemplate(text) => Selector::UriTemplate(text),
        hub::Selector::UrlPattern(text) => Selector::UrlPattern(text),
    }
}

fn from_subscription(subscription: hub::Subscription) -> Subscription {
    let selectors = |list: Vec<hub::Selector>| list.into_iter().map(from_selector).collect();
    Subscription::from_host(
        selectors(subscription.topics),
        selectors(subscription.private_topics),
        subscription.within,
    )
}

fn from_past(past: hub::Past) -> Past {
    let event = |past: hub::PastEvent| PastEvent {
        id: past.id,
        topic: past.topic,
        published_at: from_milliseconds(past.published_at),
        event: from_event(past.event),
    };
    Past {
        events: past.events.into_iter().map(event).collect(),
        resumption: from_resumption(past.resumption),
        last_id: past.last_id,
    }
}
