//! From bytes to a program: compiled, linked against everything the host gives, ready to be
//! instantiated. One linker an engine, made once, holds WASI 0.2, WASI 0.3 and our interfaces
//! together, because nearly every 0.3 guest imports 0.2 interfaces too.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::{p2, p3};

use super::code_cache::CodeCache;
use super::compile::{Urgency, compile};
use super::engine::{EngineKind, Engines, Tier};
use super::event::{EventExports, EventHandlers};
use super::interface;
use super::load_error::LoadError;
use super::manifest::Mode;
use super::state::{Environment, GuestClock, HostState};
use super::world::{World, explain_invalid};

/// Compiles and links. One a server.
pub struct Builder {
    engines: Arc<Engines>,
    cache: CodeCache,
    linkers: [Linker<HostState>; 3],
}

impl Builder {
    /// A builder over `engines` whose compiled code is kept in `cache`.
    ///
    /// # Errors
    /// When two host interfaces claim one name, which would be our mistake.
    pub fn new(engines: Arc<Engines>, cache: CodeCache) -> wasmtime::Result<Self> {
        let linker = |kind| interface::linker(engines.engine(kind));
        let linkers = [
            linker(EngineKind::Reuse)?,
            linker(EngineKind::Isolated)?,
            linker(EngineKind::Baseline)?,
        ];
        Ok(Self { engines, cache, linkers })
    }

    /// The engines that programs run on.
    pub fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    /// Whether `build` at the optimised tier will find its code on disk.
    pub fn is_cached(&self, version: &str, mode: Mode) -> bool {
        let kind = EngineKind::of(mode, Tier::Optimised);
        self.cache.contains(self.engines.engine(kind), kind, version)
    }

    /// Compiles `bytes` for instances used as `mode` says, or takes their code from the cache, and
    /// links them. Blocks and uses the CPU for up to seconds.
    ///
    /// # Errors
    /// [`LoadError::Compile`], [`LoadError::Imports`] or [`LoadError::World`].
    pub fn build(
        &self,
        version: &str,
        bytes: &[u8],
        world: &World,
        mode: Mode,
        tier: Tier,
        urgency: Urgency,
    ) -> Result<Program, LoadError> {
        let kind = EngineKind::of(mode, tier);
        let engine = self.engines.engine(kind);
        let cached = match tier {
            Tier::Optimised => self.cache.load(engine, kind, version),
            Tier::Baseline => None,
        };
        let component = match cached {
            Some(component) => component,
            None => {
                let component = compile(urgency, || Component::from_binary(engine, bytes))
                    .map_err(|error| LoadError::Compile {
                        cause: explain_invalid(&format!("{error:#}")),
                    })?;
                match tier {
                    Tier::Baseline => component,
                    Tier::Optimised => {
                        self.cache.store(engine, kind, version, &component);
                        // Mapped, its pages are the file's and can be dropped and shared.
                        self.cache.load(engine, kind, version).unwrap_or(component)
                    }
                }
            }
        };
        self.link(&component, world, kind, mode, tier)
    }

    fn link(
        &self,
        component: &Component,
        world: &World,
        kind: EngineKind,
        mode: Mode,
        tier: Tier,
    ) -> Result<Program, LoadError> {
        let pre = self.linkers[kind as usize].instantiate_pre(component).map_err(|error| {
            LoadError::Imports { missing: missing_import(&format!("{error:#}")) }
        })?;
        let refused = |error: wasmtime::Error| LoadError::World { cause: format!("{error:#}") };
        let handler = match p3::bindings::ServiceIndices::new(&pre) {
            Ok(indices) => Handler::P3(indices),
            Err(_not_p3) => Handler::P2(p2::bindings::ProxyIndices::new(&pre).map_err(refused)?),
        };
        Ok(Program {
            pre,
            handler,
            events: EventExports::find(component, world),
            engine: self.engines.engine(kind).clone(),
            engines: Arc::clone(&self.engines),
            mode,
            tier,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// Where a component's handler of requests is.
enum Handler {
    P2(p2::bindings::ProxyIndices),
    P3(p3::bindings::ServiceIndices),
}

/// A compiled and linked component.
pub struct Program {
    pre: InstancePre<HostState>,
    handler: Handler,
    events: EventExports,
    engine: Engine,
    engines: Arc<Engines>,
    mode: Mode,
    tier: Tier,
}

impl Program {
    /// How its instances are used.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How it was compiled.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether it handles WASI 0.3, where one instance may serve several requests at once.
    pub fn is_concurrent(&self) -> bool {
        matches!(self.handler, Handler::P3(_))
    }

    /// The engines it runs on.
    pub fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    /// A store with the plugin's grants, and an instance in it.
    ///
    /// # Errors
    /// The trap of a start function, a missing granted folder, a full pool, or an export that is not
    /// what its interface says.
    pub async fn instantiate(
        &self,
        environment: &Arc<Environment>,
        clock: Arc<GuestClock>,
    ) -> wasmtime::Result<Guest> {
        let mut store = Store::new(&self.engine, HostState::new(environment, clock)?);
        store.limiter(HostState::limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| Ok(store.data().clock.on_epoch()));
        let instance = self.pre.instantiate_async(&mut store).await?;
        let proxy = match &self.handler {
            Handler::P3(indices) => Proxy::P3(indices.load(&mut store, &instance)?),
            Handler::P2(indices) => Proxy::P2(indices.load(&mut store, &instance)?),
        };
        let events = self.events.load(&mut store, &instance)?;
        Ok(Guest { store, exports: Exports { proxy, events } })
    }
}

/// An instance, and the store that it lives in.
pub struct Guest {
    /// The store.
    pub store: Store<HostState>,
    /// What can be called.
    pub exports: Exports,
}

/// What can be called in an instance.
pub struct Exports {
    /// The handler of requests.
    pub proxy: Proxy,
    /// The handlers of events.
    pub events: EventHandlers,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("mode", &self.mode)
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

/// The import that wasmtime's message names between backquotes, else its words.
fn missing_import(message: &str) -> String {
    match message.split('`').nth(1) {
        Some(name) => format!("`{name}` ({message})"),
        None => message.to_owned(),
    }
}
