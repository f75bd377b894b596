//! `wharf:host/hub` and its awaited twin `hub-async`: topics, within the plugin's grants.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll as Polled;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use wasmtime::component::{Accessor, HasSelf, Resource};
use wasmtime_wasi::WasiView;
use wharf_hub::{Content, Draft, EventError, SelectorKind, SubscriberId, SubscriptionError};

use super::bindings::wharf::host::hub::{
    self, Event, Past, PastEvent, Payload, PollBody, PollOptions, Publication, PublishError,
    Resumption, Selector, Start, SubscribeError, Subscriber, Subscription,
};
use super::bindings::wharf::host::hub_async;
use super::exchange::OpenExchange;
use crate::hub::{self as held, Lag, MAX_POLL, Poll, Step, fresh_id};
use crate::plugin::exchange::Exchange;
use crate::plugin::state::{Environment, HostState};

/// Events of a history that are given at once, unless fewer are asked for.
const MAX_PAST: usize = 1000;
/// Subscribers that are listed.
const MAX_LISTED: usize = 1000;
/// Bytes of attributes of one subscriber.
const MAX_ATTRIBUTES: usize = 16 << 10;

type Published = Result<String, PublishError>;
type Followed = Result<Past, SubscribeError>;

impl hub::Host for HostState {
    async fn publish(&mut self, publication: Publication) -> wasmtime::Result<Published> {
        publish(Arc::clone(&self.environment), publication).await
    }

    fn position(&mut self) -> wasmtime::Result<String> {
        Ok(self.environment.services.hub.position().to_string())
    }

    fn history(
        &mut self,
        subscription: Subscription,
        start: Start,
        limit: Option<u32>,
    ) -> wasmtime::Result<Followed> {
        let subscription = match granted(&self.environment, &subscription) {
            Ok(subscription) => subscription,
            Err(error) => return Ok(Err(error)),
        };
        let limit = limit.map_or(MAX_PAST, |limit| (limit as usize).min(MAX_PAST));
        // There is no request to begin with.
        let start = begin(start, None);
        let (events, resumption, last) =
            self.environment.services.hub.history(&subscription, &start, limit);
        let events = events.iter().map(|event| past_event(event)).collect();
        let last_id = last.to_string();
        Ok(Ok(Past { events, resumption: resumed(resumption), last_id }))
    }

    async fn wait(
        &mut self,
        subscription: Subscription,
        start: Start,
        timeout_ms: u32,
    ) -> wasmtime::Result<Followed> {
        Ok(wait(Arc::clone(&self.environment), subscription, start, timeout_ms).await)
    }

    fn wait_reply(
        &mut self,
        exchange: Resource<OpenExchange>,
        options: PollOptions,
    ) -> wasmtime::Result<Result<String, SubscribeError>> {
        let exchange = Arc::clone(self.ctx().table.get(&exchange)?.exchange());
        Ok(wait_reply(&self.environment, &exchange, options))
    }

    fn subscriber_count(&mut self, topic: String) -> wasmtime::Result<Result<u64, SubscribeError>> {
        let topic = match wharf_hub::Topic::parse(&topic) {
            Ok(topic) => topic,
            Err(error) => return Ok(Err(SubscribeError::Invalid(error.to_string()))),
        };
        let grants = &self.environment.manifest.capabilities.hub;
        let mut granted = grants.subscribe.iter().chain(&*grants.publish);
        if !granted.any(|grant| grant.matches(topic.as_str())) {
            return Ok(Err(SubscribeError::NotGranted));
        }
        Ok(Ok(self.environment.services.hub.audience(&topic) as u64))
    }

    fn subscribers(
        &mut self,
        within: String,
    ) -> wasmtime::Result<Result<Vec<Subscriber>, SubscribeError>> {
        let grants = &self.environment.manifest.capabilities.hub.subscribe;
        if !grants.iter().any(|grant| grant.covers_prefix(&within)) {
            return Ok(Err(SubscribeError::NotGranted));
        }
        let mut listed = Vec::new();
        for subscriber in self.environment.services.hub.subscribers() {
            let subscription = subscriber.subscription();
            if !subscription.is_below(&within) {
                continue;
            }
            let (attributes, since) = subscriber.about();
            listed.push(Subscriber {
                id: subscriber.id().to_string(),
                subscription: described(&subscription),
                attributes: attributes.to_vec(),
                since,
            });
            if listed.len() == MAX_LISTED {
                break;
            }
        }
        Ok(Ok(listed))
    }
}

impl hub_async::Host for HostState {}

impl hub_async::HostWithStore<HostState> for HasSelf<HostState> {
    async fn publish(
        host: &Accessor<HostState, Self>,
        publication: Publication,
    ) -> wasmtime::Result<Published> {
        let environment = host.with(|mut host| Arc::clone(&host.get().environment));
        publish(environment, publication).await
    }

    async fn wait(
        host: &Accessor<HostState, Self>,
        subscription: Subscription,
        start: Start,
        timeout_ms: u32,
    ) -> wasmtime::Result<Followed> {
        let environment = host.with(|mut host| Arc::clone(&host.get().environment));
        Ok(wait(environment, subscription, start, timeout_ms).await)
    }
}

async fn publish(
    environment: Arc<Environment>,
    publication: Publication,
) -> wasmtime::Result<Published> {
    let draft = match draft(&environment, publication, None) {
        Ok(draft) => draft,
        Err(error) => return Ok(Err(error)),
    };
    Ok(environment.services.hub.publish(draft).await.map_err(|error| match error {
        held::PublishError::Busy => PublishError::Busy,
        held::PublishError::Store(cause) => PublishError::Failed(cause.to_string()),
    }))
}

/// What a guest publishes, checked. `{socket}` as `except` stands for `own`.
pub(super) fn draft(
    environment: &Environment,
    publication: Publication,
    own: Option<SubscriberId>,
) -> Result<Draft, PublishError> {
    let Publication { topic, alternates, event, private, except } = publication;
    let invalid = |error: &dyn std::fmt::Display| PublishError::Invalid(error.to_string());
    let topic = wharf_hub::Topic::parse(&topic).map_err(|error| invalid(&error))?;
    let alternates = alternates.iter().map(|topic| wharf_hub::Topic::parse(topic));
    let alternates = alternates.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(&error))?;
    let except = match (except.as_deref(), own) {
        (None, _) => None,
        (Some("{socket}"), Some(own)) => Some(own),
        (Some(text), _) => {
            let wrong = || PublishError::Invalid("except: names no subscriber".to_owned());
            Some(SubscriberId::parse(text).ok_or_else(wrong)?)
        }
    };
    let draft = Draft::new(topic, alternates, content(event)).map_err(|error| match error {
        EventError::TooLarge => PublishError::TooLarge,
        error => invalid(&error),
    })?;
    let grants = &environment.manifest.capabilities.hub.publish;
    let granted = |topic: &str| grants.iter().any(|grant| grant.matches(topic));
    if !draft.topics().all(|topic| granted(topic.as_str())) {
        return Err(PublishError::NotGranted);
    }
    Ok(draft.private(private).except(except))
}

/// What a guest says of an event.
pub(super) fn content(event: Event) -> Content {
    let Event { id, name, data, retry, fields } = event;
    Content {
        id: id.map(Into::into),
        name: name.map(Into::into),
        data: payload(data),
        retry,
        fields: fields.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
    }
}

/// A guest's payload.
pub(super) fn payload(data: Payload) -> wharf_hub::Payload {
    match data {
        Payload::Text(text) => wharf_hub::Payload::Text(Bytes::from(text)),
        Payload::Binary(bytes) => wharf_hub::Payload::Binary(Bytes::from(bytes)),
    }
}

/// What a guest wants to follow, if it is granted.
pub(super) fn granted(
    environment: &Environment,
    subscription: &Subscription,
) -> Result<wharf_hub::Subscription, SubscribeError> {
    let within = subscription.within.as_deref().unwrap_or_default();
    let topics = subscription.topics.iter().map(selector);
    let private = subscription.private_topics.iter().map(selector);
    let subscription =
        wharf_hub::Subscription::new(within, topics, private).map_err(|error| match error {
            SubscriptionError::TooMany => SubscribeError::TooMany,
            error => SubscribeError::Invalid(error.to_string()),
        })?;
    if !subscription.is_within(&environment.manifest.capabilities.hub.subscribe) {
        return Err(SubscribeError::NotGranted);
    }
    Ok(subscription)
}

/// A guest's selector.
pub(super) fn selector(selector: &Selector) -> (SelectorKind, &str) {
    match selector {
        Selector::Exact(text) => (SelectorKind::Exact, text),
        Selector::Pattern(text) => (SelectorKind::Pattern, text),
        Selector::UriTemplate(text) => (SelectorKind::UriTemplate, text),
        Selector::UrlPattern(text) => (SelectorKind::UrlPattern, text),
    }
}

fn described(subscription: &wharf_hub::Subscription) -> Subscription {
    let written = |selector: &wharf_hub::Selector| {
        let text = subscription.written(selector).to_owned();
        match selector.kind() {
            SelectorKind::Exact => Selector::Exact(text),
            SelectorKind::Pattern => Selector::Pattern(text),
            SelectorKind::UriTemplate => Selector::UriTemplate(text),
            SelectorKind::UrlPattern => Selector::UrlPattern(text),
        }
    };
    Subscription {
        topics: subscription.topics().iter().map(written).collect(),
        private_topics: subscription.private_topics().iter().map(written).collect(),
        within: Some(subscription.within().to_owned()),
    }
}

/// Where a guest wants to begin.
pub(super) fn begin(start: Start, exchange: Option<&Exchange>) -> wharf_hub::Start {
    match start {
        Start::Now => wharf_hub::Start::Now,
        Start::After(id) => wharf_hub::Start::After(id),
        Start::Earliest => wharf_hub::Start::Earliest,
        Start::Request => match exchange.and_then(Exchange::last_event_id) {
            Some(id) => wharf_hub::Start::After(id.to_owned()),
            None => wharf_hub::Start::Now,
        },
    }
}

/// How a subscription begins, for the guest.
pub(super) fn resumed(resumption: wharf_hub::Resumption) -> Resumption {
    match resumption {
        wharf_hub::Resumption::Fresh => Resumption::Fresh,
        wharf_hub::Resumption::Complete => Resumption::Complete,
        wharf_hub::Resumption::Lost => Resumption::Lost,
    }
}

/// Whether so many attributes may be kept.
pub(super) fn fits(attributes: &[(String, String)]) -> bool {
    attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= MAX_ATTRIBUTES
}

fn past_event(event: &wharf_hub::Event) -> PastEvent {
    let content = event.content();
    let bytes = content.data.bytes();
    PastEvent {
        id: event.id_text(),
        topic: event.topic().to_string(),
        published_at: event.published_at(),
        event: Event {
            id: content.id.as_ref().map(ToString::to_string),
            name: content.name.as_ref().map(ToString::to_string),
            data: match &content.data {
                wharf_hub::Payload::Text(_) => {
                    Payload::Text(String::from_utf8_lossy(bytes).into_owned())
                }
                wharf_hub::Payload::Binary(_) => Payload::Binary(bytes.to_vec()),
            },
            retry: content.retry,
            fields: content.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        },
    }
}

async fn wait(
    environment: Arc<Environment>,
    subscription: Subscription,
    start: Start,
    timeout_ms: u32,
) -> Followed {
    let subscription = granted(&environment, &subscription)?;
    let held = environment.hold().ok_or(SubscribeError::TooMany)?;
    let hub = Arc::clone(&environment.services.hub);
    let (mut follower, resumption) =
        hub.follow(0, fresh_id(), subscription, &begin(start, None), Lag::DropOldest);
    let mut events = Vec::new();
    let mut last = follower.began();
    let next = poll_fn(|cx| {
        loop {
            match follower.poll_next(cx) {
                Polled::Ready(Step::Event(event)) => {
                    last = event.id();
                    events.push(past_event(&event));
                    if events.len() == MAX_PAST {
                        return Polled::Ready(());
                    }
                }
                Polled::Ready(Step::Lagged | Step::Ended) => return Polled::Ready(()),
                Polled::Pending if events.is_empty() => return Polled::Pending,
                Polled::Pending => return Polled::Ready(()),
            }
        }
    });
    let timeout = Duration::from_millis(timeout_ms.into()).min(MAX_POLL);
    let _elapsed = tokio::time::timeout(timeout, next).await;
    drop((follower, held));
    Ok(Past { events, resumption: resumed(resumption), last_id: last.to_string() })
}

fn wait_reply(
    environment: &Environment,
    exchange: &Exchange,
    options: PollOptions,
) -> Result<String, SubscribeError> {
    let PollOptions { subscription, start, timeout_ms, body, timeout_status, id_field } = options;
    let subscription = granted(environment, &subscription)?;
    let invalid = |what: &str| SubscribeError::Invalid(what.to_owned());
    let timeout_status = StatusCode::from_u16(timeout_status)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| invalid("timeout-status: is no final status"))?;
    let id_field = match id_field {
        Some(name) => Some(
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| invalid("id-field: is no name of a header field"))?,
        ),
        None => None,
    };
    if exchange.is_cancelled() {
        return Err(SubscribeError::TooLate);
    }
    let held = environment.hold().ok_or(SubscribeError::TooMany)?;
    let hub = &environment.services.hub;
    let start = begin(start, Some(exchange));
    let core = exchange.conn.core;
    let (follower, _) = hub.follow(core, fresh_id(), subscription, &start, Lag::DropOldest);
    let poll = Poll {
        follower,
        timeout: Duration::from_millis(timeout_ms.into()).min(MAX_POLL),
        body: match body {
            PollBody::First => held::PollBody::First,
            PollBody::JsonArray => held::PollBody::JsonArray,
        },
        timeout_status,
        id_field,
        found: Vec::new(),
        held,
    };
    let token = exchange.replies.keep(Box::new(poll)).map_err(|_| SubscribeError::TooLate)?;
    Ok(String::from_utf8_lossy(token.as_bytes()).into_owned())
}
