//! What lives in a store beside its instance: WASI contexts with the plugin's grants, the memory
//! limit, the calls that are running, and the clock that its CPU time is measured by.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, UpdateDeadline};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::call::Call;
use super::interface::outbound::Outbound;
use super::log::{PluginLog, Stream};
use super::manifest::Manifest;
use crate::admit::Admission;
use crate::cache::Cache;
use crate::http::conn::ConnStates;
use crate::http::file_body::Readers;
use crate::hub::{Counted, Hub};
use crate::observe::Metrics;
use crate::store::{Database, Pairs, Store};
use crate::upstream::{OutboundGrants, Upstream};
use crate::websocket::Sockets;

/// Entries in an instance's resource table.
const MAX_RESOURCES: usize = 100_000;
/// Elements that one table may grow to.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;
/// Random bytes that a guest may ask for at once.
const MAX_RANDOM_BYTES: u64 = 1 << 20;
/// About how long a guest may run without returning to its event loop before it leaves its core for
/// the heavy lane (see `lane`).
pub const SLICE: Duration = Duration::from_millis(2);
/// Shorter runs are not looked at more closely at an epoch.
const SHORT_RUN: Duration = Duration::from_micros(500);
/// CPU time after that look that makes a slice full.
const REST_OF_SLICE: Duration = Duration::from_millis(1);

/// What the whole server gives to every plugin.
#[derive(Debug)]
pub struct Services {
    /// The outbound client.
    pub upstream: Arc<Upstream>,
    /// What plugins keep.
    pub store: Arc<Store>,
    /// Connection counters.
    pub states: Arc<ConnStates>,
    /// Lists what is served.
    pub endpoints: Arc<dyn Endpoints>,
    /// The right to read files that are sent.
    pub readers: Readers,
    /// Topics, and who follows them.
    pub hub: Arc<Hub>,
    /// WebSockets.
    pub sockets: Arc<Sockets>,
    /// How long a call waits for a place.
    pub admission: Arc<Admission>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The shared cache.
    pub cache: Arc<Cache>,
}

/// Lists every route of every serving plugin, for the `registry` interface.
pub trait Endpoints: Send + Sync + fmt::Debug {
    /// Ordered by path.
    fn endpoints(&self) -> Vec<Endpoint>;
}

/// One route of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The plugin's name.
    pub plugin: String,
    /// Content hash of its component.
    pub version: String,
    /// `None`: any method.
    pub method: Option<String>,
    /// `None`: any host.
    pub host: Option<String>,
    /// The path pattern.
    pub path: String,
}

/// What one version of a plugin is given: its manifest's grants, resolved once.
#[derive(Debug)]
pub struct Environment {
    /// The plugin's name.
    pub name: Arc<str>,
    /// Changes when its component or its manifest does.
    pub fingerprint: blake3::Hash,
    /// Limits and grants as written.
    pub manifest: Arc<Manifest>,
    /// Granted environment variables that are set.
    pub variables: Vec<(String, String)>,
    /// Granted origins.
    pub outbound: Arc<OutboundGrants>,
    /// Where its output goes.
    pub log: Arc<PluginLog>,
    /// What the server gives.
    pub services: Arc<Services>,
    /// What it keeps, once it has asked for it.
    pub kept: Kept,
}

/// A plugin's databases.
#[derive(Debug, Default)]
pub struct Kept {
    sql: OnceLock<Arc<Database>>,
    pairs: OnceLock<Pairs>,
    held: OnceLock<Arc<AtomicUsize>>,
}

impl Environment {
    /// The plugin's SQL database.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn sql(&self) -> std::io::Result<&Arc<Database>> {
        if let Some(database) = self.kept.sql.get() {
            return Ok(database);
        }
        let database = self.services.store.sql(&self.name)?;
        Ok(self.kept.sql.get_or_init(|| database))
    }

    /// Counts one more that the host holds for the plugin: a stream, a poll or a socket.
    pub fn hold(&self) -> Option<Counted> {
        let held = self.kept.held.get_or_init(|| self.services.hub.held(&self.name));
        Counted::one(held, self.manifest.limits.held)
    }

    /// The plugin's pairs.
    ///
    /// # Errors
    /// When their folder cannot be made.
    pub fn pairs(&self) -> std::io::Result<&Pairs> {
        if let Some(pairs) = self.kept.pairs.get() {
            return Ok(pairs);
        }
        let pairs = self.services.store.pairs(&self.name)?;
        Ok(self.kept.pairs.get_or_init(|| pairs))
    }
}

/// The data of a store.
pub struct HostState {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: Outbound,
    /// What `wasi:config` gives.
    pub config: WasiConfigVariables,
    memory: MemoryLimit,
    /// CPU accounting, shared with the worker that drives the store.
    pub clock: Arc<GuestClock>,
    /// Calls that are running in this instance.
    pub calls: Vec<Arc<Call>>,
    output: Arc<Output>,
    /// The plugin's grants.
    pub environment: Arc<Environment>,
}

impl HostState {
    /// The state of one instance.
    ///
    /// # Errors
    /// When a granted folder cannot be opened.
    pub fn new(environment: &Arc<Environment>, clock: Arc<GuestClock>) -> wasmtime::Result<Self> {
        let manifest = &environment.manifest;
        let output =
            Arc::new(Output { log: Arc::clone(&environment.log), request_id: Mutex::new(None) });
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(Pipe { output: Arc::clone(&output), stream: Stream::Stdout })
            .stderr(Pipe { output: Arc::clone(&output), stream: Stream::Stderr })
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .socket_addr_check(|_, _| Box::pin(async { false }));
        for (name, value) in &environment.variables {
            wasi.env(name, value);
        }
        for grant in &manifest.capabilities.files {
            let perms = if grant.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(&grant.host, &grant.guest, perms)?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Ok(Self {
            wasi: wasi.build(),
            table,
            http: WasiHttpCtx::new(),
            hooks: Outbound::new(environment),
            config: manifest.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            memory: MemoryLimit { limit: manifest.limits.memory, used: 0, denied: false },
            clock,
            calls: Vec::new(),
            output,
            environment: Arc::clone(environment),
        })
    }

    /// The limiter that the store asks before memory grows.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// Whether memory was refused to this instance.
    pub fn was_denied_memory(&self) -> bool {
        self.memory.denied
    }

    /// Begins a call: its token can be opened and, while it is alone, output carries its id.
    pub fn begin_call(&mut self, call: &Arc<Call>) {
        // 0.3 calls end with their body, which nothing tells the store.
        self.calls.retain(|other| !other.is_over());
        self.calls.push(Arc::clone(call));
        self.hooks.serves(&self.calls);
        self.attribute_output();
    }

    /// Ends a call.
    pub fn end_call(&mut self, call: &Arc<Call>) {
        self.calls.retain(|other| !Arc::ptr_eq(other, call));
        self.hooks.serves(&self.calls);
        self.attribute_output();
    }

    fn attribute_output(&self) {
        // With several calls in one instance nobody can tell whose output a line is.
        *self.output.request_id.lock() = match self.calls.as_slice() {
            [call] => Some(Arc::clone(call)),
            _ => None,
        };
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

impl fmt::Debug for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostState").field("plugin", &self.environment.name).finish_non_exhaustive()
    }
}

/// Linear memory and tables of one store.
#[derive(Debug)]
struct MemoryLimit {
    limit: u64,
    used: u64,
    denied: bool,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.used + desired.saturating_sub(current) as u64;
        let allowed = grown <= self.limit;
        if allowed {
            self.used = grown;
        } else {
            self.denied = true;
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= MAX_TABLE_ELEMENTS;
        self.denied |= !allowed;
        Ok(allowed)
    }
}

/// Tells how long the guest has been running since its worker was last polled, and, at an epoch,
/// whether that is long enough to make it yield.
#[derive(Debug)]
pub struct GuestClock {
    base: Instant,
    /// Nanoseconds from `base` to the start of the poll under way.
    polled: AtomicU64,
    /// The poll that `cpu` belongs to.
    watched: AtomicU64,
    /// The thread's CPU time, in nanoseconds, when that poll was found not to be short.
    cpu: AtomicU64,
    sliced: AtomicBool,
}

impl Default for GuestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self {
            base: Instant::now(),
            polled: AtomicU64::new(0),
            watched: AtomicU64::new(u64::MAX),
            cpu: AtomicU64::new(0),
            sliced: AtomicBool::new(false),
        }
    }

    /// A poll of the store begins; gives its time.
    pub fn begin_poll(&self) -> Instant {
        let now = Instant::now();
        self.polled.store((now - self.base).as_nanos() as u64, Ordering::Relaxed);
        now
    }

    /// Whether the poll that just ended was cut by an epoch; clears the mark.
    pub fn take_sliced(&self) -> bool {
        self.sliced.load(Ordering::Relaxed) && self.sliced.swap(false, Ordering::Relaxed)
    }

    /// At an epoch, inside the guest.
    pub fn on_epoch(&self) -> UpdateDeadline {
        let polled = self.polled.load(Ordering::Relaxed);
        let ran = self.base.elapsed().as_nanos() as u64 - polled;
        if ran < SHORT_RUN.as_nanos() as u64 {
            // An epoch that merely fell into a short call: an instance that rests is always past
            // its deadline.
            return UpdateDeadline::Continue(1);
        }
        // From here on only CPU time counts: on a crowded machine a guest that was put off by the
        // scheduler, or whose whole machine was, looks as if it spun.
        let cpu = thread_cpu_time().as_nanos() as u64;
        if self.watched.swap(polled, Ordering::Relaxed) != polled {
            self.cpu.store(cpu, Ordering::Relaxed);
            return UpdateDeadline::Continue(1);
        }
        let used = cpu.saturating_sub(self.cpu.load(Ordering::Relaxed));
        // Ticks come a little early or late.
        if used < REST_OF_SLICE.as_nanos() as u64 * 3 / 4 {
            return UpdateDeadline::Continue(1);
        }
        self.sliced.store(true, Ordering::Relaxed);
        UpdateDeadline::Yield(1)
    }
}

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Where an instance's output goes, and for which request.
#[derive(Debug)]
struct Output {
    log: Arc<PluginLog>,
    request_id: Mutex<Option<Arc<Call>>>,
}

impl Output {
    fn write(&self, stream: Stream, bytes: &[u8]) {
        let call = self.request_id.lock().clone();
        self.log.write(stream, call.as_ref().map(|call| &*call.exchange.request_id), bytes);
    }
}

/// One of a guest's two output streams.
#[derive(Clone, Debug)]
struct Pipe {
    output: Arc<Output>,
    stream: Stream,
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn wasmtime_wasi::p2::OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.output.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// Written at once, without the task and the copy of wasmtime's `AsyncWriteStream`: the log never
// blocks (it drops and counts), and a guest that writes without end must not grow a host buffer
// (GHSA-5m8g-xhq4-4h93).
impl wasmtime_wasi::p2::OutputStream for Pipe {
    fn write(&mut self, bytes: bytes::Bytes) -> wasmtime_wasi::p2::StreamResult<()> {
        self.output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> wasmtime_wasi::p2::StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> wasmtime_wasi::p2::StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl wasmtime_wasi::p2::Pollable for Pipe {
    async fn ready(&mut self) {}
}
