//! `wharf:host/websocket` and its awaited twin `websocket-async`: sockets that the host holds.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, response};
use wasmtime::component::{Accessor, HasSelf, Resource};
use wasmtime_wasi::WasiView;
use wharf_hub::SubscriberId;

use super::bindings::wharf::host::hub::{Payload, Selector, SubscribeError};
use super::bindings::wharf::host::websocket::{
    self, AcceptError, Accepted, Options, Rate, SendError,
};
use super::bindings::wharf::host::websocket_async;
use super::exchange::OpenExchange;
use super::{hub, sse};
use crate::http::body::ResponseBody;
use crate::http::conn::Protocol;
use crate::http::switch::Switch;
use crate::hub as held;
use crate::hub::Lag;
use crate::plugin::exchange::Exchange;
use crate::plugin::reply::Held;
use crate::plugin::state::{Environment, HostState};
use crate::plugin::upgrade::{Offer, Refused};
use crate::websocket::handshake::{self, Agreed, Terms};
use crate::websocket::socket::{self, Settings};
use crate::websocket::sockets::{Following, Unsent};
use crate::websocket::{
    Feed, Handle, IDLE_TIMEOUT, Identity, MAX_ATTRIBUTES, MAX_MESSAGE, Message, PING_INTERVAL,
    close,
};

/// Subprotocols, and origins, that one acceptance may name.
const MAX_LIST: usize = 100;

type Sent = Result<(), SendError>;

impl websocket::Host for HostState {
    fn accept(
        &mut self,
        exchange: Resource<OpenExchange>,
        options: Options,
    ) -> wasmtime::Result<Result<Accepted, AcceptError>> {
        let exchange = Arc::clone(self.ctx().table.get(&exchange)?.exchange());
        Ok(accept(&self.environment, &exchange, options))
    }

    fn send(&mut self, socket: String, message: Payload) -> wasmtime::Result<Sent> {
        let environment = &self.environment;
        Ok(framed(environment, &socket, &message)
            .and_then(|(handle, message)| handle.send(message).map_err(unsent)))
    }

    fn close(&mut self, socket: String, code: u16, reason: String) -> wasmtime::Result<Sent> {
        if !close::is_sendable(code) || reason.len() > close::MAX_REASON {
            return Ok(Err(SendError::Refused));
        }
        Ok(find(&self.environment, &socket)
            .and_then(|handle| handle.close(code, &reason).map_err(unsent)))
    }

    fn join(&mut self, socket: String, topics: Vec<Selector>) -> wasmtime::Result<Sent> {
        Ok(find(&self.environment, &socket)
            .and_then(|handle| join(&self.environment, &handle, &topics)))
    }

    fn leave(&mut self, socket: String, topics: Vec<Selector>) -> wasmtime::Result<Sent> {
        Ok(find(&self.environment, &socket).and_then(|handle| leave(&handle, &topics)))
    }
}

impl websocket_async::Host for HostState {}

impl websocket_async::HostWithStore<HostState> for HasSelf<HostState> {
    async fn send(
        host: &Accessor<HostState, Self>,
        socket: String,
        message: Payload,
    ) -> wasmtime::Result<Sent> {
        let environment = host.with(|mut host| Arc::clone(&host.get().environment));
        let (handle, message) = match framed(&environment, &socket, &message) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        Ok(handle.send_when_possible(message).await.map_err(unsent))
    }
}

fn find(environment: &Environment, socket: &str) -> Result<Arc<Handle>, SendError> {
    environment.services.sockets.find(&environment.name, socket).ok_or(SendError::Gone)
}

fn framed(
    environment: &Environment,
    socket: &str,
    message: &Payload,
) -> Result<(Arc<Handle>, Arc<Message>), SendError> {
    let handle = find(environment, socket)?;
    let bytes = match message {
        Payload::Text(text) => text.len(),
        Payload::Binary(bytes) => bytes.len(),
    };
    if bytes > MAX_MESSAGE {
        return Err(SendError::TooLarge);
    }
    let message = match &message {
        Payload::Text(text) => Message::text(text),
        Payload::Binary(bytes) => Message::binary(bytes),
    };
    Ok((handle, message))
}

fn unsent(why: Unsent) -> SendError {
    match why {
        Unsent::Gone => SendError::Gone,
        Unsent::Full => SendError::Full,
    }
}

impl From<Unsent> for SendError {
    fn from(why: Unsent) -> Self {
        unsent(why)
    }
}

/// What the plugin wants to follow, if it is granted.
fn selectors(
    environment: &Environment,
    within: &str,
    topics: &[Selector],
) -> Result<wharf_hub::Subscription, SendError> {
    let topics = topics.iter().map(hub::selector);
    let subscription = wharf_hub::Subscription::new(within, topics, []);
    let subscription = subscription.map_err(|_| SendError::Refused)?;
    if !subscription.is_within(&environment.manifest.capabilities.hub.subscribe) {
        return Err(SendError::Refused);
    }
    Ok(subscription)
}

fn join(environment: &Environment, handle: &Handle, topics: &[Selector]) -> Sent {
    if topics.is_empty() {
        return Ok(());
    }
    handle.follow(|following| match following {
        Following::Topics(remote) => {
            let now = remote.subscription();
            let new = selectors(environment, now.within(), topics)?;
            let mut all = now.topics().to_vec();
            for selector in new.topics() {
                if !all.contains(selector) {
                    all.push(selector.clone());
                }
            }
            remote.change(all).map_err(|_| SendError::Refused)?;
            Ok(None)
        }
        following => {
            let subscription = selectors(environment, "", topics)?;
            let hub = &environment.services.hub;
            let id = SubscriberId(handle.identity.id.0);
            let core = handle.identity.conn.core;
            let start = wharf_hub::Start::Now;
            let (follower, _) = hub.follow(core, id, subscription, &start, Lag::Disconnect);
            follower.describe(handle.identity.attributes.to_vec(), held::now());
            *following = Following::Topics(follower.remote());
            Ok(Some(Box::new(follower) as Box<dyn Feed>))
        }
    })
}

fn leave(handle: &Handle, topics: &[Selector]) -> Sent {
    if topics.is_empty() {
        return Ok(());
    }
    handle.follow(|following| {
        if let Following::Topics(remote) = following {
            let now = remote.subscription();
            let topics = topics.iter().map(hub::selector);
            let left = wharf_hub::Subscription::new(now.within(), topics, []);
            let left = left.map_err(|_| SendError::Refused)?;
            let kept = now.topics().iter().filter(|one| !left.topics().contains(one));
            let kept = kept.cloned().collect();
            remote.change(kept).map_err(|_| SendError::Refused)?;
        }
        Ok(None)
    })
}

/// A socket that waits for its response.
struct Reply {
    protocol: Protocol,
    /// The name, as the client spells it.
    name: HeaderValue,
    agreed: Agreed,
    accepted: socket::Accepted,
}

impl Held for Reply {
    fn respond(self: Box<Self>, mut head: response::Parts) -> Response<ResponseBody> {
        let Self { protocol, name, agreed, accepted } = *self;
        head.status = match protocol {
            Protocol::H1 => StatusCode::SWITCHING_PROTOCOLS,
            Protocol::H2 | Protocol::H3 => StatusCode::OK,
        };
        agreed.write(&mut head.headers);
        // Either would promise content.
        head.headers.remove(http::header::CONTENT_LENGTH);
        head.headers.remove(http::header::TRAILER);
        let switch = Switch { protocol: name, owner: Box::new(accepted.promised()) };
        Response::from_parts(head, ResponseBody::switching(switch))
    }

    fn switches(&self) -> bool {
        true
    }

    fn is_held(&self) -> bool {
        true
    }
}

fn accept(
    environment: &Environment,
    exchange: &Exchange,
    options: Options,
) -> Result<Accepted, AcceptError> {
    check(&options).map_err(|what| AcceptError::Invalid(what.to_owned()))?;
    let Options { protocols, origins, subscription, start, attributes, .. } = options;
    let Options { max_message, idle_timeout_ms, ping_interval_ms, rate, compression, .. } = options;
    let terms = Terms { protocols: &protocols, origins: origins.as_deref(), compression };
    let agreed = shake_hands(exchange, &terms)?;
    let settings = Settings {
        max_message: max_message.map_or(MAX_MESSAGE, |bytes| bytes as usize),
        idle_timeout: idle_timeout_ms.map_or(IDLE_TIMEOUT, milliseconds),
        ping_interval: match ping_interval_ms {
            None => Some(PING_INTERVAL),
            Some(0) => None,
            Some(interval) => Some(milliseconds(interval)),
        },
        rate: rate.map(|Rate { messages, burst }| (messages, burst)),
        deflate: agreed.deflate,
    };
    let protocol = agreed.protocol.clone();
    let identity = Identity::new(&exchange.conn, protocol, attributes);
    let id = SubscriberId(identity.id.0);
    let subscription =
        subscription.as_ref().map(|subscription| hub::granted(environment, subscription));
    let subscription = subscription.transpose().map_err(refused)?;
    let on_open = sse::publications(environment, options.on_open, id).map_err(refused)?;
    let on_close = sse::publications(environment, options.on_close, id).map_err(refused)?;
    if exchange.is_cancelled() {
        return Err(AcceptError::TooLate);
    }
    let counted = environment.hold().ok_or(AcceptError::TooMany)?;
    let name = exchange.offer().accept("websocket").map_err(|why| match why {
        Refused::NotRequested | Refused::OtherProtocol => AcceptError::NotRequested,
        Refused::Unsupported => AcceptError::Unsupported,
        Refused::TooLate => AcceptError::TooLate,
    })?;
    let open = environment.services.sockets.open(&environment.name, counted, identity);
    let handle = Arc::clone(&open.handle);
    let services = &environment.services;
    let feed = subscription.map(|subscription| -> Box<dyn Feed> {
        let start = hub::begin(start, Some(exchange));
        let core = exchange.conn.core;
        let (follower, _) = services.hub.follow(core, id, subscription, &start, Lag::Disconnect);
        if !handle.identity.attributes.is_empty() {
            follower.describe(handle.identity.attributes.to_vec(), held::now());
        }
        let _not_over = handle.follow(|following| {
            *following = Following::Topics(follower.remote());
            Ok::<_, Unsent>(None)
        });
        Box::new(follower)
    });
    let publishing = |drafts: Vec<wharf_hub::Draft>| {
        let hub = Arc::clone(&services.hub);
        (!drafts.is_empty()).then(|| Box::pin(async move { hub.publish_all(drafts).await }) as _)
    };
    let (opening, closing) = (publishing(on_open), publishing(on_close));
    let accepted = socket::Accepted { open, settings, feed, opening, closing };
    let protocol = agreed.protocol.clone();
    let reply = Reply { protocol: exchange.conn.protocol, name, agreed, accepted };
    let token = exchange.replies.keep(Box::new(reply)).map_err(|_| AcceptError::TooLate)?;
    let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
    Ok(Accepted { token, socket: handle.identity.text.to_string(), protocol })
}

/// What is wrong with options by themselves.
fn check(options: &Options) -> Result<(), &'static str> {
    let origins = options.origins.as_deref().unwrap_or_default();
    if options.protocols.len() > MAX_LIST || origins.len() > MAX_LIST {
        return Err("protocols, origins: at most 100 each");
    }
    if !options.protocols.iter().all(|name| handshake::is_token(name)) {
        return Err("protocols: a subprotocol's name is a token");
    }
    if !origins.iter().all(|origin| handshake::is_origin(origin)) {
        return Err("origins: `scheme://host[:port]`, `null` or `*`");
    }
    let attributes = options.attributes.iter().map(|(name, value)| name.len() + value.len());
    if attributes.sum::<usize>() > MAX_ATTRIBUTES {
        return Err("attributes: at most 16 KiB");
    }
    if options.max_message.is_some_and(|bytes| bytes == 0 || bytes as usize > MAX_MESSAGE) {
        return Err("max-message: from 1 byte to 16 MiB");
    }
    if options.idle_timeout_ms == Some(0) {
        return Err("idle-timeout-ms: longer than nothing");
    }
    if options.rate.is_some_and(|Rate { messages, burst }| messages == 0 || burst == 0) {
        return Err("rate: at least one message");
    }
    Ok(())
}

fn shake_hands(exchange: &Exchange, terms: &Terms<'_>) -> Result<Agreed, AcceptError> {
    match exchange.offer() {
        Offer::NotRequested => return Err(AcceptError::NotRequested),
        // A plain GET over HTTP/2 or HTTP/3: the transport could, by extended CONNECT.
        Offer::Unsupported
            if exchange.conn.protocol != Protocol::H1 && exchange.websocket().is_none() =>
        {
            return Err(AcceptError::NotRequested);
        }
        Offer::Unsupported => return Err(AcceptError::Unsupported),
        Offer::Protocols(..) => {}
    }
    let Some(request) = exchange.websocket() else { return Err(AcceptError::NotRequested) };
    request.accept(terms).map_err(|why| match why {
        handshake::Refused::Malformed(what) => AcceptError::BadHandshake(what.to_owned()),
        handshake::Refused::Version => {
            AcceptError::BadHandshake("the version is not 13".to_owned())
        }
        handshake::Refused::Origin => AcceptError::ForeignOrigin,
    })
}

fn refused(why: SubscribeError) -> AcceptError {
    match why {
        SubscribeError::NotGranted => AcceptError::NotGranted,
        SubscribeError::Invalid(what) => AcceptError::Invalid(what),
        SubscribeError::TooMany => AcceptError::Invalid("too many selectors".to_owned()),
        SubscribeError::TooLate => AcceptError::TooLate,
    }
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}
