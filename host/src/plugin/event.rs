//! Calls into a plugin that are no HTTP requests: what a WebSocket's client sent, and what a schedule
//! has come to. They run in instances that `instances` chooses, under the limits of requests, but
//! past the middleware: nobody is there to be guarded against.
//!
//! A component says by its exports which it takes, the plain interface or its `-async` twin; of both
//! the twin is called.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::component::{
    Accessor, Component, ComponentExportIndex, ComponentType, Instance, Lower, TypedFunc,
    TypedFuncCallConcurrent,
};
use wasmtime::{AsContextMut, StoreContextMut};

use super::call::{AbandonGuard, Call, Job, Reply, Work};
use super::exchange::Exchange;
use super::state::HostState;
use super::world::{Lifted, World};
use super::{Failure, Plugin};

/// What a guest is told.
#[derive(Clone, Debug)]
pub enum GuestEvent {
    /// A WebSocket's client sent a message.
    Message {
        /// Whose.
        socket: EventSocket,
        /// What it sent.
        message: Payload,
    },
    /// A WebSocket has ended.
    Closed {
        /// Which.
        socket: EventSocket,
        /// 1005 where the close had no code, 1006 where there was none (RFC 6455 §7.1.5).
        code: u16,
        /// The client's words, or ours.
        reason: String,
    },
    /// A schedule has come to one of its times.
    Scheduled {
        /// Its name.
        name: Arc<str>,
        /// When the call was due, in milliseconds since 1970.
        due_ms: u64,
        /// Times since the call before that had none.
        missed: u32,
    },
}

/// A WebSocket as its plugin knows it. Clones share everything.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub struct EventSocket {
    /// Names it to the plugin.
    pub id: Arc<str>,
    /// The subprotocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// What the plugin wrote on it when it accepted it.
    pub attributes: Arc<[(String, String)]>,
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub enum Payload {
    /// UTF-8.
    #[component(name = "text")]
    Text(String),
    /// Anything.
    #[component(name = "binary")]
    Binary(Bytes),
}

/// What kind of event it is: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// [`GuestEvent::Message`].
    Message,
    /// [`GuestEvent::Closed`].
    Closed,
    /// [`GuestEvent::Scheduled`].
    Scheduled,
}

impl EventKind {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Message => "websocket-message",
            Self::Closed => "websocket-closed",
            Self::Scheduled => "schedule",
        }
    }
}

impl GuestEvent {
    /// Which kind it is.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Message { .. } => EventKind::Message,
            Self::Closed { .. } => EventKind::Closed,
            Self::Scheduled { .. } => EventKind::Scheduled,
        }
    }

    /// The socket's or the schedule's name.
    fn subject(&self) -> &Arc<str> {
        match self {
            Self::Message { socket, .. } | Self::Closed { socket, .. } => &socket.id,
            Self::Scheduled { name, .. } => name,
        }
    }
}

impl Plugin {
    /// Whether it takes what clients of WebSockets send.
    pub fn takes_websocket_events(&self) -> bool {
        self.world.websocket_events.is_some()
    }

    /// Whether it takes what schedules come to.
    pub fn takes_schedule_events(&self) -> bool {
        self.world.schedule_events.is_some()
    }

    /// Tells the guest, in one of the instances of `core`, and waits until it has returned or, where it
    /// took too long, is stopped: what comes next is not beside it. Waits for a place like a request
    /// does. `exchange` is the event's own ([`Exchange::of_event`]).
    ///
    /// Failures are counted and logged here.
    ///
    /// # Errors
    /// How the guest went wrong; [`Failure::Refused`] where it got no place.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the call: its instance is ended soon.
    pub async fn event(
        self: &Arc<Self>,
        core: usize,
        exchange: &Arc<Exchange>,
        event: GuestEvent,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let (kind, subject) = (event.kind(), Arc::clone(event.subject()));
        let told = self.tell(core, exchange, event).await;
        let took = begun.elapsed();
        let services = &self.environment().services;
        services.metrics.event(&self.name, kind, told.as_ref().err(), took);
        let (plugin, request_id) = (&*self.name, &*exchange.request_id);
        let (event, subject) = (kind.label(), &*subject);
        match &told {
            Ok(()) => {
                let took_ms = took.as_secs_f64() * 1e3;
                tracing::debug!(plugin, request_id, event, subject, took_ms, "event");
            }
            Err(failure) => {
                let (kind, detail) = (failure.label(), failure.to_string());
                tracing::warn!(plugin, request_id, event, subject, kind, detail, "event failed");
            }
        }
        told
    }

    async fn tell(
        &self,
        core: usize,
        exchange: &Arc<Exchange>,
        event: GuestEvent,
    ) -> Result<(), Failure> {
        let admission = &self.environment().services.admission;
        let permit = admission.enter_plugin(&self.gate).await.map_err(Failure::Refused)?;
        let timeout = self.manifest.limits.request_timeout;
        let call = Call::new(exchange, None, timeout);
        let (reply, told) = oneshot::channel();
        let mut guard = AbandonGuard::new(Arc::clone(&call));
        let (work, reply) = (Work::Event(event), Reply::Event(reply));
        let job = Job { call: Arc::clone(&call), work, reply, permit, retried: false };
        self.sets[core].dispatch(job);
        match tokio::time::timeout(timeout, told).await {
            Ok(Ok(told)) => {
                guard.disarm();
                told
            }
            Ok(Err(_dropped)) => Err(Failure::Trap { message: "its instance was dropped".into() }),
            Err(_elapsed) => {
                drop(guard);
                until_over(&call).await;
                Err(Failure::Timeout { after: timeout })
            }
        }
    }
}

/// How often, and how long, an abandoned call's end is looked for. Beside calls that somebody waits for
/// it goes on until they are over.
const OVER_POLL: Duration = Duration::from_millis(25);
const OVER_LIMIT: Duration = Duration::from_secs(60);

/// Waits until an abandoned call is over, or it is plain that it will not begin.
async fn until_over(call: &Call) {
    let looks = OVER_LIMIT.as_millis() / OVER_POLL.as_millis();
    for _ in 0..looks {
        tokio::time::sleep(OVER_POLL).await;
        if call.is_over() || call.worker.get().is_none() {
            return;
        }
    }
}

/// Where a component's event exports are.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventExports {
    websocket: Option<WebSocketExports>,
    run: Option<ComponentExportIndex>,
}

#[derive(Clone, Copy, Debug)]
struct WebSocketExports {
    message: ComponentExportIndex,
    closed: ComponentExportIndex,
}

impl EventExports {
    /// Finds those that `world` names; an interface without its functions is not found.
    pub fn find(component: &Component, world: &World) -> Self {
        let function = |interface: &Lifted, name: &str| {
            let interface = component.get_export_index(None, &interface.name)?;
            component.get_export_index(Some(&interface), name)
        };
        let websocket = world.websocket_events.as_ref().and_then(|interface| {
            let message = function(interface, "message")?;
            Some(WebSocketExports { message, closed: function(interface, "closed")? })
        });
        let run = world.schedule_events.as_ref().and_then(|interface| function(interface, "run"));
        Self { websocket, run }
    }

    /// The functions of an instance.
    ///
    /// # Errors
    /// When one has another type than the interface says.
    pub fn load(
        &self,
        mut store: impl AsContextMut,
        instance: &Instance,
    ) -> wasmtime::Result<EventHandlers> {
        let websocket = match &self.websocket {
            Some(exports) => Some(WebSocketHandlers {
                message: instance.get_typed_func(&mut store, exports.message)?,
                closed: instance.get_typed_func(&mut store, exports.closed)?,
            }),
            None => None,
        };
        let run = match &self.run {
            Some(run) => Some(instance.get_typed_func(&mut store, run)?),
            None => None,
        };
        Ok(EventHandlers { websocket, run })
    }
}

/// An instance's functions for events.
#[derive(Clone, Copy)]
pub struct EventHandlers {
    websocket: Option<WebSocketHandlers>,
    run: Option<TypedFunc<(Occurrence,), ()>>,
}

#[derive(Clone, Copy)]
struct WebSocketHandlers {
    message: TypedFunc<(EventSocket, Payload), ()>,
    closed: TypedFunc<(EventSocket, u16, String), ()>,
}

#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub struct Occurrence {
    name: Arc<str>,
    due: u64,
    missed: u32,
}

type Started<P> = (TypedFunc<P, ()>, TypedFuncCallConcurrent<HostState, P, ()>);

/// An event call whose guest task exists.
pub enum EventTask {
    /// `message`.
    Message(Started<(EventSocket, Payload)>),
    /// `closed`.
    Closed(Started<(EventSocket, u16, String)>),
    /// `run`.
    Scheduled(Started<(Occurrence,)>),
}

impl EventHandlers {
    /// Begins the call that `event` is told by; `None` where the component takes no such event.
    ///
    /// # Errors
    /// Those of the engine; the instance is lost then.
    pub fn start(
        &self,
        mut store: StoreContextMut<'_, HostState>,
        event: GuestEvent,
    ) -> wasmtime::Result<Option<EventTask>> {
        let store = store.as_context_mut();
        Ok(match event {
            GuestEvent::Message { socket, message } => match self.websocket {
                Some(WebSocketHandlers { message: handler, .. }) => {
                    let task = handler.start_call_concurrent(store, (socket, message))?;
                    Some(EventTask::Message((handler, task)))
                }
                None => None,
            },
            GuestEvent::Closed { socket, code, reason } => match self.websocket {
                Some(WebSocketHandlers { closed: handler, .. }) => {
                    let task = handler.start_call_concurrent(store, (socket, code, reason))?;
                    Some(EventTask::Closed((handler, task)))
                }
                None => None,
            },
            GuestEvent::Scheduled { name, due_ms: due, missed } => match self.run {
                Some(handler) => {
                    let occurrence = Occurrence { name, due, missed };
                    let task = handler.start_call_concurrent(store, (occurrence,))?;
                    Some(EventTask::Scheduled((handler, task)))
                }
                None => None,
            },
        })
    }
}

impl EventTask {
    /// The guest task.
    pub fn id(&self) -> wasmtime::component::GuestTaskId {
        match self {
            Self::Message((_, task)) => task.task(),
            Self::Closed((_, task)) => task.task(),
            Self::Scheduled((_, task)) => task.task(),
        }
    }

    /// Waits until the guest has returned.
    ///
    /// # Errors
    /// Its trap.
    pub async fn finish(self, accessor: &Accessor<HostState>) -> wasmtime::Result<()> {
        match self {
            Self::Message((handler, task)) => handler.finish_call_concurrent(accessor, task).await,
            Self::Closed((handler, task)) => handler.finish_call_concurrent(accessor, task).await,
            Self::Scheduled((handler, task)) => {
                handler.finish_call_concurrent(accessor, task).await
            }
        }
    }
}

impl fmt::Debug for EventHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHandlers")
            .field("websocket", &self.websocket.is_some())
            .field("run", &self.run.is_some())
            .finish()
    }
}
