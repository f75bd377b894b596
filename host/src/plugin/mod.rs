//! Plugins: from a file to a running component. Only this module names wasmtime.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

pub mod call;
pub mod chain;
pub mod code_cache;
pub mod compile;
pub mod engine;
pub mod event;
pub mod exchange;
pub mod instances;
pub mod interface;
pub mod lane;
pub mod learnt;
pub mod load_error;
pub mod loader;
pub mod log;
pub mod manifest;
pub mod platform;
pub mod program;
pub mod pulse;
pub mod registry;
pub mod reply;
pub mod schedule;
pub mod socket;
pub mod state;
pub mod upgrade;
pub mod watcher;
mod worker;
pub mod world;

use self::call::{AbandonGuard, Answer, Call, Job, Reply, Work};
use self::chain::Next;
use self::exchange::{Exchange, Token};
use self::instances::{Crew, InstanceSet};
use self::learnt::LearntLinks;
use self::manifest::{Manifest, Mode};
use self::platform::Platform;
use self::program::Program;
use self::pulse::Pulse;
use self::state::Environment;
use self::world::World;
use crate::admit::{Gate, Permit};
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::file_body::Readers;
use crate::http::rejection::Rejection;
use crate::http::settle::settle;

/// How a plugin went wrong while it answered. A value, never a panic.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It trapped or its host call panicked; the backtrace is in the log.
    #[error("trap: {message}")]
    Trap {
        /// Cause and wasm backtrace, for the log only.
        message: Arc<str>,
    },
    /// No response head within the request timeout.
    #[error("no response within {after:?}")]
    Timeout {
        /// The limit in force.
        after: Duration,
    },
    /// It used more CPU time than a request may.
    #[error("used more than {limit:?} of CPU time")]
    CpuTime {
        /// The limit in force.
        limit: Duration,
    },
    /// It was refused memory beyond its limit and ended over it.
    #[error("wanted more than its {limit} bytes of memory")]
    OutOfMemory {
        /// The limit in force.
        limit: u64,
    },
    /// It returned without answering, or answered with an error code.
    #[error("returned without a response")]
    NoResponse,
    /// Its response is not valid HTTP, or it answered with an error code; which.
    #[error("answered with an error: {message}")]
    Reply {
        /// For the log.
        message: Arc<str>,
    },
    /// No instance could be made.
    #[error("could not be instantiated: {message}")]
    Instantiate {
        /// For the log.
        message: Arc<str>,
    },
    /// The host refused it on the way: the body was too large or too slow, or a middleware's next
    /// plugin had no capacity. Not the plugin's fault.
    #[error("refused by the host: {0}")]
    Refused(Rejection),
}

impl Failure {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Timeout { .. } => "timeout",
            Self::CpuTime { .. } => "cpu-time",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::NoResponse => "no-response",
            Self::Reply { .. } => "bad-reply",
            Self::Instantiate { .. } => "instantiate",
            Self::Refused(_) => "refused",
        }
    }

    /// What a client may know.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "the plugin failed",
            Self::Timeout { .. } => "the plugin did not answer in time",
            Self::CpuTime { .. } => "the plugin used more CPU time than a request may",
            Self::OutOfMemory { .. } => "the plugin ran out of memory",
            Self::NoResponse => "the plugin did not answer",
            Self::Reply { .. } => "the plugin's answer is not valid",
            Self::Instantiate { .. } => "the plugin could not be started",
            Self::Refused(_) => "the host refused the request",
        }
    }
}

/// A named component with its manifest and version, ready to be called.
#[derive(Debug)]
pub struct Plugin {
    /// Its name: the file's or folder's.
    pub name: Arc<str>,
    /// Content hash of its component, in hexadecimal.
    pub version: Arc<str>,
    /// Changes when its component or its manifest does.
    pub fingerprint: blake3::Hash,
    /// What its manifest says.
    pub manifest: Arc<Manifest>,
    /// What it is.
    pub world: World,
    /// Bounds its requests at once.
    pub gate: Gate,
    /// Links of its responses, where its manifest asks for early hints.
    pub learnt: LearntLinks,
    crew: Arc<Crew>,
    sets: Box<[Arc<InstanceSet>]>,
}

impl Plugin {
    /// A plugin without instances.
    pub fn new(
        platform: &Platform,
        version: Arc<str>,
        world: World,
        program: Program,
        environment: Environment,
    ) -> Arc<Self> {
        let manifest = Arc::clone(&environment.manifest);
        let name = Arc::clone(&environment.name);
        let fingerprint = environment.fingerprint;
        let gauge = platform.metrics.instances(&name, program.mode());
        let crew = Crew::new(
            Arc::new(environment),
            program,
            platform.drain.clone(),
            Arc::clone(&platform.lane),
            gauge,
        );
        let sets =
            platform.cores.iter().map(|core| InstanceSet::new(&crew, core.clone())).collect();
        Arc::new(Self {
            name,
            version,
            fingerprint,
            world,
            gate: Gate::new(manifest.limits.concurrency),
            learnt: LearntLinks::default(),
            manifest,
            crew,
            sets,
        })
    }

    /// Answers a request in one of the instances of `core`.
    ///
    /// # Errors
    /// How the guest went wrong. Dropping the future abandons the call.
    pub async fn call(
        &self,
        core: usize,
        exchange: &Arc<Exchange>,
        next: Option<Next>,
        timeout: Duration,
        permit: Permit,
        mut request: Request<WasiBody>,
    ) -> Answer {
        let call = Call::new(exchange, next, timeout);
        set_token(request.headers_mut(), &call.token);
        let (reply, answer) = oneshot::channel();
        let mut guard = AbandonGuard::new(Arc::clone(&call));
        let (work, reply) = (Work::Request(request), Reply::Request(reply));
        self.sets[core].dispatch(Job { call, work, reply, permit, retried: false });
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => {
                // An answer's body has a guard of its own.
                guard.disarm();
                answer
            }
            Ok(Err(_dropped)) => Err(Failure::Trap { message: "its instance was dropped".into() }),
            Err(_elapsed) => Err(Failure::Timeout { after: timeout }),
        }
    }

    /// Replaces its code by better code for the same component.
    pub fn upgrade(&self, program: Program) {
        self.crew.upgrade(program);
        for set in &self.sets {
            set.wake_all();
        }
    }

    /// Ends idle instances now and busy ones when their calls do, at the latest after `grace`.
    pub fn retire(self: &Arc<Self>, grace: Duration) {
        for set in &self.sets {
            set.retire();
        }
        let plugin = Arc::clone(self);
        let Some(core) = self.sets.first().map(|set| set.runtime().clone()) else {
            return;
        };
        self.crew.drain.spawn_on(&core, async move {
            let deadline = tokio::time::Instant::now() + grace;
            while plugin.instances() > 0 {
                if tokio::time::Instant::now() >= deadline {
                    let failure = Failure::Timeout { after: grace };
                    for set in &plugin.sets {
                        set.kill(&failure);
                    }
                    return;
                }
                tokio::time::sleep(RETIRE_POLL).await;
            }
        });
    }

    /// What its manifest says of topics holds from now on.
    pub fn apply_topics(&self) {
        let publish = &self.manifest.capabilities.hub.publish;
        let hub = &self.environment().services.hub;
        hub.set_rules(&self.name, self.manifest.topics.clone(), publish);
    }

    /// What its manifest says of topics holds no longer.
    pub fn forget_topics(&self) {
        self.environment().services.hub.set_rules(&self.name, Vec::new(), &Arc::default());
    }

    /// Instances that exist now.
    pub fn instances(&self) -> usize {
        self.crew.instances()
    }

    /// Requests in it now.
    pub fn in_flight(&self) -> usize {
        self.gate.taken()
    }

    /// Whether it is no longer served.
    pub fn is_retired(&self) -> bool {
        self.crew.is_retired()
    }

    /// The code that new instances run.
    pub fn program(&self) -> Arc<Program> {
        self.crew.program.load_full()
    }

    /// What its instances are given.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.crew.environment
    }

    /// The right to read files that are sent.
    pub fn readers(&self) -> &Readers {
        &self.environment().services.readers
    }

    /// How its instances are used.
    pub fn mode(&self) -> Mode {
        self.crew.program.load().mode()
    }
}

/// How often a retired plugin is looked at.
const RETIRE_POLL: Duration = Duration::from_millis(100);

/// The field that carries an exchange's token to a plugin.
pub const EXCHANGE_FIELD: HeaderName = HeaderName::from_static("wharf-exchange");

/// Names the exchange to the guest.
fn set_token(headers: &mut HeaderMap, token: &Token) {
    if let Ok(value) = HeaderValue::from_bytes(token.as_bytes()) {
        headers.insert(EXCHANGE_FIELD, value);
    }
}

/// What the engine complains about.
pub type EngineError = wasmtime::Error;
/// A body as guests exchange it with the host.
pub type GuestBody = WasiBody;

fn empty_body() -> WasiBody {
    WasiBody::new(http_body_util::Empty::new().map_err(|never| match never {}))
}

/// A request's body as guests read it. Why it ended early is noted on the exchange.
pub fn guest_body(exchange: &Arc<Exchange>, body: RequestBody) -> WasiBody {
    if http_body::Body::is_end_stream(&body) {
        return empty_body();
    }
    let exchange = Arc::clone(exchange);
    WasiBody::new(body.map_err(move |error| {
        let (rejection, error) = match error {
            BodyError::TooLarge { limit } => (
                Some(Rejection::BodyTooLarge { limit }),
                WasiError::HttpRequestBodySize(Some(limit)),
            ),
            BodyError::Timeout => {
                (Some(Rejection::RequestTimeout), WasiError::ConnectionReadTimeout)
            }
            BodyError::Length => (
                Some(Rejection::bad("the body is not as long as its content-length says")),
                WasiError::HttpProtocolError,
            ),
            BodyError::Malformed(what) => {
                (Some(Rejection::bad(what)), WasiError::HttpProtocolError)
            }
            _ => (None, WasiError::ConnectionTerminated),
        };
        if let Some(rejection) = rejection {
            exchange.note_failure(Failure::Refused(rejection));
        }
        error
    }))
}

/// Bytes of a guest's own body that are read and thrown away where the host holds the reply.
const REPLACED_BYTES: usize = 64 * 1024;

/// Reads a body that something else takes the place of to its end, so that the guest which writes it
/// is not taken for one whose client has left. Up to a bound.
pub async fn replaced_body(mut body: WasiBody) {
    let mut bytes = 0;
    while !http_body::Body::is_end_stream(&body) && bytes <= REPLACED_BYTES {
        match body.frame().await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, bytes::Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

/// A guest's answer as the protocols send it. Lets the guest complete it, as long as it is at work.
pub async fn response_body(body: WasiBody, pulse: Option<Arc<Pulse>>) -> ResponseBody {
    if http_body::Body::is_end_stream(&body) {
        return ResponseBody::empty();
    }
    settle(Box::pin(body.map_err(|error| BodyError::Upstream(error.to_string()))), pulse).await
}
