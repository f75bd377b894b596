//! `wharf:host/sse` and its awaited twin `sse-async`: event streams that the host holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::{Accessor, HasSelf, Resource};
use wasmtime_wasi::WasiView;
use wharf_hub::{Content, Draft, frame};

use super::bindings::wharf::host::hub::{Event, Publication, SubscribeError};
use super::bindings::wharf::host::sse::{
    self, EmitError, EmitterOptions, EventStream, HeartbeatKind, LagPolicy, Options,
};
use super::bindings::wharf::host::sse_async;
use super::exchange::OpenExchange;
use super::hub;
use crate::hub as held;
use crate::hub::{Emitter, Lag, StreamOptions, Watcher};
use crate::plugin::exchange::Exchange;
use crate::plugin::state::{Environment, HostState};
use crate::plugin::upgrade::{Leaving, Stay};

/// The shortest time between two heartbeats.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
/// First events, names in `ends-with`, and publications at either end.
const MAX_LIST: usize = 100;

/// A stream that a guest feeds.
#[derive(Debug)]
pub struct OpenEmitter {
    emitter: Arc<Emitter>,
    stay: Arc<Stay>,
}

type Followed<T> = Result<T, SubscribeError>;

impl sse::Host for HostState {
    fn reply(
        &mut self,
        exchange: Resource<OpenExchange>,
        options: Options,
    ) -> wasmtime::Result<Followed<EventStream>> {
        let exchange = Arc::clone(self.ctx().table.get(&exchange)?.exchange());
        Ok(reply(&self.environment, &exchange, options))
    }

    fn emit(
        &mut self,
        exchange: Resource<OpenExchange>,
        options: EmitterOptions,
    ) -> wasmtime::Result<Followed<(String, Resource<OpenEmitter>)>> {
        let exchange = Arc::clone(self.ctx().table.get(&exchange)?.exchange());
        match self.open_stream(&exchange, options) {
            Ok((token, emitter)) => Ok(Ok((token, self.ctx().table.push(emitter)?))),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl HostState {
    fn open_stream(
        &self,
        exchange: &Arc<Exchange>,
        options: EmitterOptions,
    ) -> Followed<(String, OpenEmitter)> {
        let EmitterOptions { heartbeat, retry } = options;
        let options = StreamOptions { retry, heartbeat: beat(heartbeat)?, ..Default::default() };
        let of_exchange = |call: &&Arc<_>| is_for(call, exchange);
        let call = self.calls.iter().find(of_exchange).map(Arc::clone);
        let worker = call.as_ref().and_then(|call| call.worker.get()?.upgrade());
        let (Some(call), Some(worker)) = (call, worker) else {
            return Err(SubscribeError::TooLate);
        };
        let place = worker.place_of(&call).filter(|_| !exchange.is_cancelled());
        let place = place.ok_or(SubscribeError::TooLate)?;
        let count = self.environment.hold().ok_or(SubscribeError::TooMany)?;
        let stay = Stay::new(&call, worker, place);
        let watcher = || Box::new(Watching(Leaving::new(&stay))) as Box<dyn Watcher>;
        let hub = &self.environment.services.hub;
        let (emitter, stream) = Emitter::open(hub, options, count, watcher);
        let token = exchange.replies.keep(Box::new(stream)).map_err(|_| SubscribeError::TooLate)?;
        let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
        Ok((token, OpenEmitter { emitter: Arc::new(emitter), stay }))
    }

    fn open_emitter(
        &mut self,
        emitter: &Resource<OpenEmitter>,
    ) -> wasmtime::Result<(Arc<Emitter>, Arc<Stay>)> {
        let open = self.ctx().table.get(emitter)?;
        Ok((Arc::clone(&open.emitter), Arc::clone(&open.stay)))
    }
}

fn is_for(call: &crate::plugin::call::Call, exchange: &Arc<Exchange>) -> bool {
    !call.is_over() && Arc::ptr_eq(&call.exchange, exchange)
}

/// Tells the call that its stream is over.
struct Watching(Leaving);

impl Watcher for Watching {
    fn begin(&mut self) {
        self.0.begin();
    }

    fn end(&mut self) {
        self.0.end(true);
    }
}

impl sse::HostEmitter for HostState {
    async fn send(
        &mut self,
        emitter: Resource<OpenEmitter>,
        event: Event,
    ) -> wasmtime::Result<Result<(), EmitError>> {
        let (emitter, stay) = self.open_emitter(&emitter)?;
        Ok(send(&emitter, &stay, event).await)
    }

    async fn comment(
        &mut self,
        emitter: Resource<OpenEmitter>,
        text: String,
    ) -> wasmtime::Result<Result<(), EmitError>> {
        let (emitter, stay) = self.open_emitter(&emitter)?;
        stay.moved(text.len());
        Ok(emitter.send(frame::comment(&text)).await.map_err(|_| EmitError::Closed))
    }

    fn closed(&mut self, emitter: Resource<OpenEmitter>) -> wasmtime::Result<bool> {
        Ok(self.open_emitter(&emitter)?.0.is_closed())
    }

    fn drop(&mut self, emitter: Resource<OpenEmitter>) -> wasmtime::Result<()> {
        let OpenEmitter { emitter, stay } = self.ctx().table.delete(emitter)?;
        drop(emitter);
        stay.release();
        Ok(())
    }
}

impl sse_async::Host for HostState {}

impl sse_async::HostWithStore<HostState> for HasSelf<HostState> {
    async fn send(
        host: &Accessor<HostState, Self>,
        emitter: Resource<OpenEmitter>,
        event: Event,
    ) -> wasmtime::Result<Result<(), EmitError>> {
        let (emitter, stay) = host.with(|mut host| host.get().open_emitter(&emitter))?;
        Ok(send(&emitter, &stay, event).await)
    }

    async fn closed(
        host: &Accessor<HostState, Self>,
        emitter: Resource<OpenEmitter>,
    ) -> wasmtime::Result<()> {
        let (emitter, _) = host.with(|mut host| host.get().open_emitter(&emitter))?;
        emitter.closed().await;
        Ok(())
    }
}

async fn send(emitter: &Emitter, stay: &Stay, event: Event) -> Result<(), EmitError> {
    let framed = framed(event).map_err(EmitError::Invalid)?;
    stay.moved(framed.len());
    emitter.send(framed).await.map_err(|_| EmitError::Closed)
}

/// An event of a guest's own, with an id only where it has one.
fn framed(event: Event) -> Result<Bytes, String> {
    let content: Content = hub::content(event);
    content.check().map_err(|error| error.to_string())?;
    Ok(frame::event(&content, content.id.as_deref()))
}

fn beat(heartbeat: Option<sse::Heartbeat>) -> Followed<held::Heartbeat> {
    let Some(sse::Heartbeat { every_ms, kind }) = heartbeat else { return Ok(Default::default()) };
    let frame = match kind {
        HeartbeatKind::Comment => held::Heartbeat::default().frame,
        HeartbeatKind::Event(event) => framed(event).map_err(SubscribeError::Invalid)?,
    };
    let every = Duration::from_millis(every_ms.into());
    if every < MIN_HEARTBEAT {
        let cause = "heartbeat: comes at the most every 100 ms".to_owned();
        return Err(SubscribeError::Invalid(cause));
    }
    Ok(held::Heartbeat { every, frame })
}

/// What a guest has published when a stream begins or ends.
pub(super) fn publications(
    environment: &Environment,
    list: Vec<Publication>,
    own: wharf_hub::SubscriberId,
) -> Result<Vec<Draft>, SubscribeError> {
    use super::bindings::wharf::host::hub::PublishError;
    if list.len() > MAX_LIST {
        return Err(SubscribeError::Invalid("too many publications".to_owned()));
    }
    let draft = |publication| {
        hub::draft(environment, publication, Some(own)).map_err(|error| match error {
            PublishError::NotGranted => SubscribeError::NotGranted,
            PublishError::Invalid(cause) => SubscribeError::Invalid(cause),
            _ => SubscribeError::Invalid("a publication is too large".to_owned()),
        })
    };
    list.into_iter().map(draft).collect()
}

fn reply(
    environment: &Environment,
    exchange: &Exchange,
    options: Options,
) -> Followed<EventStream> {
    let Options { subscription, start, first, heartbeat, retry, lag, .. } = options;
    let Options { ends_with, max_age_ms, attributes, on_open, on_close, .. } = options;
    let subscription = hub::granted(environment, &subscription)?;
    let invalid = |what: &str| SubscribeError::Invalid(what.to_owned());
    if first.len() > MAX_LIST || ends_with.len() > MAX_LIST {
        return Err(invalid("first, ends-with: at most 100 each"));
    }
    if !hub::fits(&attributes) {
        return Err(invalid("attributes: at most 16 KiB"));
    }
    let id = held::fresh_id();
    let first = first.into_iter().map(framed).collect::<Result<_, _>>();
    let stream_options = StreamOptions {
        first: first.map_err(SubscribeError::Invalid)?,
        retry,
        heartbeat: beat(heartbeat)?,
        ends_with: ends_with.into_iter().map(Into::into).collect(),
        max_age: max_age_ms.map(Duration::from_millis),
        on_open: publications(environment, on_open, id)?,
        on_close: publications(environment, on_close, id)?,
    };
    if exchange.is_cancelled() {
        return Err(SubscribeError::TooLate);
    }
    let count = environment.hold().ok_or(SubscribeError::TooMany)?;
    let lag = match lag {
        LagPolicy::Disconnect => Lag::Disconnect,
        LagPolicy::DropOldest => Lag::DropOldest,
    };
    let start = hub::begin(start, Some(exchange));
    let hub = &environment.services.hub;
    let (follower, resumption) = hub.follow(exchange.conn.core, id, subscription, &start, lag);
    if !attributes.is_empty() {
        follower.describe(attributes, held::now());
    }
    let last_id = last_id(&start, resumption, &follower);
    let stream = held::EventStream::of_topics(follower, stream_options, count);
    let token = exchange.replies.keep(Box::new(stream)).map_err(|_| SubscribeError::TooLate)?;
    let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
    let resumption = hub::resumed(resumption);
    Ok(EventStream { token, id: id.to_string(), resumption, last_id })
}

/// The id before the first event that a stream will get: the one that it asked for, where that is
/// still known.
fn last_id(
    start: &wharf_hub::Start,
    resumption: wharf_hub::Resumption,
    follower: &held::Follower,
) -> String {
    match (start, resumption) {
        (_, wharf_hub::Resumption::Lost) | (wharf_hub::Start::Earliest, _) => String::new(),
        (wharf_hub::Start::After(id), wharf_hub::Resumption::Complete) => id.clone(),
        _ => follower.began().to_string(),
    }
}
