//! The server: binds every socket, owns every part, serves until told to stop, drains.
//!
//! One current-thread runtime a core, each with its own listening sockets (`SO_REUSEPORT`) and its
//! own instances, so that a request never changes cores; one control runtime for loading, watching,
//! signals and the admin listener.

use std::any::Any;
use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderValue;
use tokio::runtime::{Builder as RuntimeBuilder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminState, Phase};
use crate::admit::Admission;
use crate::app::App;
use crate::cache::Cache;
use crate::config::Config;
use crate::drain::Drain;
use crate::http::Serving;
use crate::http::conn::ConnStates;
use crate::http::file_body::Readers;
use crate::http::finish::Finisher;
use crate::http::limits::Limits;
use crate::hub::Hub;
use crate::listener::quic::{self, Lineage, Quic, QuicError};
use crate::listener::slots::Slots;
use crate::listener::tcp::{self, Bound};
use crate::listener::tls::{Pair, Source, Tls, TlsError};
use crate::observe::logging::{self, Logging, LoggingError};
use crate::observe::otlp::Tracer;
use crate::observe::{Metrics, Observer};
use crate::plugin::EngineError;
use crate::plugin::code_cache::CodeCache;
use crate::plugin::engine::Engines;
use crate::plugin::lane::Lane;
use crate::plugin::loader::Loader;
use crate::plugin::log::PluginLogs;
use crate::plugin::platform::Platform;
use crate::plugin::program::Builder;
use crate::plugin::registry::{Published, Registry};
use crate::plugin::schedule::Scheduler;
use crate::plugin::socket::PluginListener;
use crate::plugin::state::Services;
use crate::plugin::watcher;
use crate::ready::ReadyFile;
use crate::store::Store;
use crate::takeover::predecessor::{Door, Estate, Gates};
use crate::takeover::service::Service;
use crate::takeover::sockets::{Inherited, Kept, Sockets, SocketsError, share};
use crate::takeover::successor::{self, Succession};
use crate::takeover::{TakeoverError, spawn};
use crate::upstream::Upstream;
use crate::websocket::Sockets as WebSockets;

/// How long clients remember that HTTP/3 is there, in seconds.
const ALT_SVC_MAX_AGE: u32 = 3600;
/// How long the last log lines and traces may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener's address cannot be had.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The running process cannot be taken over; it goes on serving.
    #[error("not taking over: {0}")]
    Takeover(#[from] TakeoverError),
    /// QUIC cannot be set up.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A folder or file that the server needs.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// wasmtime does not run on this machine.
    #[error("WebAssembly cannot be run here: {0}")]
    Engine(EngineError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// Traces cannot be exported as configured.
    #[error("traces cannot be exported: {0}")]
    Traces(String),
    /// Threads or signals are not to be had.
    #[error("the system refuses what the server needs: {0}")]
    System(io::Error),
}

/// The addresses that are really listened on.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// The cleartext listener.
    pub http: Option<SocketAddr>,
    /// The TLS listener, TCP and UDP.
    pub https: Option<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    /// HTTP/3 is served on `https`.
    pub http3: bool,
    /// The certificate of the development authority, where that is in use.
    pub development_ca: Option<PathBuf>,
}

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was begun was finished.
    Drained,
    /// Something was cut off: the drain limit passed, or a second signal came.
    CutOff,
}

/// Serves until a signal or a successor ends it, on the sockets that the service manager `passed`
/// and on those that are configured. `announce` is told the addresses once requests are answered.
///
/// # Errors
/// What keeps the server from starting; once it serves, it cannot fail.
#[expect(clippy::needless_pass_by_value, reason = "a server has its configuration for life")]
pub fn run(
    config: Config,
    passed: Inherited,
    announce: impl FnOnce(&Addresses),
) -> Result<Outcome, Error> {
    let logging = logging::init(&config.log, config.threads)?;
    let (succession, inherited) = match config.takeover.then(|| successor::begin(&config.data)) {
        // The sockets of the one that serves now, over those of its beginning.
        Some(taking) => match taking? {
            Some((succession, inherited)) => (Some(succession), inherited),
            None => (None, passed),
        },
        None => (None, passed),
    };
    let control = RuntimeBuilder::new_multi_thread()
        .worker_threads(1)
        .thread_name("wharf-control")
        .enable_all()
        .build()
        .map_err(Error::System)?;
    let outcome = control.block_on(async {
        let server = Server::bind(&config, &logging, inherited).await?;
        server.serve(&config, succession, announce).await
    });
    logging.output.flush(FLUSH_LIMIT);
    // A compilation that nobody waits for any more must not hold up the end.
    control.shutdown_background();
    outcome
}

/// Everything that is bound and built, before the first connection is accepted.
struct Server {
    cores: Cores,
    app: Arc<App>,
    registry: Arc<Registry>,
    observer: Arc<Observer>,
    admin: Arc<AdminState>,
    logs: PluginLogs,
    /// The sockets, and all that a successor gets.
    estate: Arc<Estate>,
    kept: Kept,
    http2: bool,
    data: PathBuf,
    tls: Option<Arc<Tls>>,
    quic: Option<Arc<Quic>>,
    slots: Arc<Slots>,
    states: Arc<ConnStates>,
    limits: Arc<Limits>,
    drain: Drain,
    /// What the exchanges need until they are over: the outbound client's connections.
    background: Drain,
}

impl Server {
    async fn bind(
        config: &Config,
        logging: &Logging,
        mut inherited: Inherited,
    ) -> Result<Self, Error> {
        let data = private_folder(&config.data)?;
        // Addresses first: what is taken is said before anything is made or compiled.
        let lineage = inherited.lineage.take().unwrap_or_else(Lineage::first);
        let (generation, secret) = (lineage.generation, lineage.secret);
        let (sockets, kept) = Sockets::bind(config, inherited)?;
        let tls = match config.https {
            Some(_) => Some(Arc::new(Tls::new(
                certificates(config, &data),
                config.http2,
                config.early_data,
            )?)),
            None => None,
        };
        let quic = match &tls {
            Some(tls) if config.http3 => {
                let udp = sockets.udp.len();
                let tls = tls.quic_config();
                Some(Arc::new(Quic::new(tls, config.threads, udp, &config.limits, lineage)?))
            }
            _ => None,
        };
        let estate = Arc::new(Estate {
            generation,
            secret,
            quic: quic.clone(),
            gates: Arc::new(Gates::default()),
            ready_file: config.ready_file.clone().map(|path| {
                let address = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.address);
                let Sockets { http, https, admin, .. } = &sockets;
                ReadyFile::new(path, address(http), address(https), address(admin))
            }),
            service: Service::from_environment(),
            sockets: parking_lot::Mutex::new(sockets),
        });
        let states = Arc::new(ConnStates::default());
        let metrics = Arc::new(Metrics::new(config.threads, Arc::clone(&states)));
        metrics.watch_dropped_log_lines(logging.output.dropped_lines());
        let tracer = match &config.otlp {
            Some(otlp) => {
                Some(Tracer::start(otlp).map_err(|error| Error::Traces(error.to_string()))?)
            }
            None => None,
        };
        let observer = Observer::new(Arc::clone(&metrics), logging.access.clone(), tracer);
        let log_folder = data.join("logs/plugins");
        let logs = PluginLogs::start(log_folder.clone(), config.log.plugins)
            .map_err(|source| Error::File { path: log_folder.display().to_string(), source })?;
        metrics.watch_plugin_logs(logs.clone());

        let drain = Drain::new();
        let background = Drain::new();
        let cores = Cores::start(config.threads).map_err(Error::System)?;
        let published = Arc::new(Published::default());
        let store = Arc::new(Store::new(data.clone()).map_err(Error::System)?);
        let hub = Hub::new(&store, &cores.handles, &drain, &background, config.drain_limit)
            .map_err(Error::System)?;
        hub.begin().await;
        metrics.watch_hub(Arc::clone(&hub));
        let listener = Arc::new(PluginListener::new(Arc::clone(&published)));
        let sockets = WebSockets::new(listener, drain.clone());
        metrics.watch_sockets(Arc::clone(&sockets));
        drain.spawn(Arc::clone(&sockets).drained());
        let engines = Arc::new(Engines::new().map_err(Error::Engine)?);
        let code = CodeCache::open(data.join("cache/code"));
        let cache = Cache::new(config.cache.size, drain.clone());
        metrics.watch_cache(Arc::clone(&cache));
        drain.spawn(Arc::clone(&cache).follow(Arc::clone(&published)));
        let admission = Arc::new(Admission::new(config.admission.requests, config.admission.wait));
        let platform = Arc::new(Platform {
            builder: Builder::new(engines, code).map_err(Error::Engine)?,
            cores: cores.handles.clone(),
            lane: Arc::new(Lane::new(config.threads).map_err(Error::System)?),
            drain: drain.clone(),
            metrics: Arc::clone(&metrics),
            services: Arc::new(Services {
                upstream: Arc::new(Upstream::new(background.clone())),
                store,
                states: Arc::clone(&states),
                endpoints: Arc::clone(&published) as _,
                readers: Readers::default(),
                hub,
                sockets,
                admission: Arc::clone(&admission),
                metrics: Arc::clone(&metrics),
                cache: Arc::clone(&cache),
            }),
        });
        let loader =
            Loader::new(platform, logs.clone(), data.clone(), config.cache.policies.clone());
        let registry = Registry::new(
            config.plugins.clone(),
            loader,
            Arc::clone(&published),
            Arc::clone(&metrics),
            drain.clone(),
            config.compile_threads,
        );
        let limits = Arc::new(config.limits.clone());
        let app = Arc::new(App {
            published,
            observer: Arc::clone(&observer),
            admission,
            finisher: Finisher::default(),
            limits: Arc::clone(&limits),
            drain: drain.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            cache: Arc::clone(&cache),
        });
        let admin = Arc::new(AdminState::new(
            metrics,
            Arc::clone(&registry) as _,
            cache,
            config.admin.hosts.clone(),
        ));
        let slots = Slots::new(&config.limits);
        Ok(Self {
            cores,
            app,
            registry,
            observer,
            admin,
            logs,
            estate,
            kept,
            http2: config.http2,
            data,
            tls,
            quic,
            slots,
            states,
            limits,
            drain,
            background,
        })
    }

    async fn serve(
        self,
        config: &Config,
        succession: Option<Succession>,
        announce: impl FnOnce(&Addresses),
    ) -> Result<Outcome, Error> {
        let addresses = self.addresses();
        let Self { cores, registry, admin, estate, drain, background, .. } = &self;
        let service = &estate.service;
        // Signals count from here on, also while plugins are compiled.
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "signals cannot be received");
                return Ok(Outcome::CutOff);
            }
        };
        let admin_drain = Drain::new();
        // On a socket of the old process, which answers there for as long as it serves, not yet.
        let shares_admin = succession.is_some() && self.kept.admin;
        if !shares_admin {
            self.serve_admin(&admin_drain);
        }
        // The watcher first, so that a change while the folder is read is not missed.
        let (_watching, watch) = watcher::start(registry);
        let loaded = tokio::select! {
            loaded = registry.load_all() => loaded,
            _ = signals.next() => return Ok(Outcome::CutOff),
        };
        if let Err(error) = loaded {
            tracing::error!(dir = %registry.dir().display(), %error, "the plugin folder cannot be read");
        }
        drain.spawn({
            let drain = drain.clone();
            async move {
                tokio::select! {
                    () = watch => {}
                    () = drain.draining() => {}
                }
            }
        });
        if let Some(tls) = &self.tls {
            drain.spawn(Arc::clone(tls).watch(drain.clone()));
        }
        let mut succession = succession;
        if let Some(succession) = succession.as_mut() {
            block_in_place(|| succession.ready(self.kept))?;
        }
        self.serve_plugins(&addresses);
        admin.enter(Phase::Serving);
        if shares_admin {
            self.serve_admin(&admin_drain);
        }
        if let Some(succession) = succession.as_mut() {
            block_in_place(|| succession.serving())?;
        }
        // Not before the old process drains: one of the two calls the schedules.
        drain.spawn(self.scheduler().run());
        if let Some(file) = &estate.ready_file {
            file.write();
        }
        let mut given = self.open_door(succession.is_some());
        drop(succession);
        service.ready();
        announce(&addresses);

        let is_handed_over = loop {
            tokio::select! {
                // A door that could not be opened, or has closed, tells nothing.
                Ok(_pid) = &mut given => break true,
                asked = signals.next() => match asked {
                    Asked::End => break false,
                    Asked::Replace => start_successor(service, drain),
                }
            }
        };
        tracing::info!(limit_s = config.drain_limit.as_secs(), is_handed_over, "draining");
        admin.enter(Phase::Draining);
        if is_handed_over {
            drain.begin_handed_over();
            admin_drain.begin_handed_over();
        } else {
            service.stopping();
        }
        registry.retire_all(config.drain_limit);
        let drained = tokio::select! {
            clean = drain.finish(config.drain_limit) => clean,
            () = signals.end() => {
                tracing::warn!("a second signal: ending at once");
                false
            }
        };
        let _outbound_is_cut_off = background.finish(Duration::ZERO).await;
        let _admin_is_cut_off = admin_drain.finish(Duration::ZERO).await;
        if let Some(file) = &estate.ready_file {
            file.remove_if_ours();
        }
        let (observer, logs) = (Arc::clone(&self.observer), self.logs.clone());
        let flushed = tokio::task::spawn_blocking(move || {
            observer.shutdown(FLUSH_LIMIT);
            logs.close(FLUSH_LIMIT);
        });
        let _best_effort = flushed.await;
        cores.stop();
        Ok(if drained { Outcome::Drained } else { Outcome::CutOff })
    }

    fn addresses(&self) -> Addresses {
        let sockets = self.estate.sockets.lock();
        let address = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.address);
        Addresses {
            http: address(&sockets.http),
            https: address(&sockets.https),
            admin: address(&sockets.admin),
            http3: self.quic.is_some(),
            development_ca: self.tls.as_ref().and_then(|tls| tls.development_ca()),
        }
    }

    fn scheduler(&self) -> Scheduler {
        Scheduler::new(
            Arc::clone(&self.app.published),
            Arc::clone(self.observer.metrics()),
            self.cores.handles.clone(),
            self.drain.clone(),
            &self.data,
        )
    }

    /// Lets a successor come. What is returned tells its process id once it has everything.
    fn open_door(&self, succeeds: bool) -> oneshot::Receiver<u32> {
        let (tell, told) = oneshot::channel();
        match Door::open(&self.data, succeeds) {
            Ok(door) => {
                let estate = Arc::clone(&self.estate);
                // Not the drain's: a conversation that has begun goes on while it drains.
                self.background.spawn(door.serve(estate, tell));
            }
            Err(error) => {
                let data = self.data.display();
                tracing::warn!(%error, %data, "this process cannot be taken over");
            }
        }
        told
    }

    fn serve_admin(&self, drain: &Drain) {
        let sockets = self.estate.sockets.lock();
        let Some(bound) = &sockets.admin else { return };
        let serving = Serving {
            handler: Arc::clone(&self.admin),
            drain: drain.clone(),
            limits: Arc::clone(&self.limits),
            // Not counted among the connections that it tells about.
            states: Arc::new(ConnStates::default()),
            core: 0,
            alt_svc: None,
            http2: false,
        };
        for socket in bound.sockets.iter().filter_map(|socket| socket.try_clone().ok()) {
            let (slots, serving) = (Slots::new(&self.limits), serving.clone());
            let gates = Arc::clone(&self.estate.gates);
            drain.spawn(async move {
                report(tcp::serve(socket, None, slots, serving, &gates.admin).await);
            });
        }
    }

    fn serve_plugins(&self, addresses: &Addresses) {
        let alt_svc = addresses.https.filter(|_| self.quic.is_some()).and_then(|https| {
            HeaderValue::try_from(format!("h3=\":{}\"; ma={ALT_SVC_MAX_AGE}", https.port())).ok()
        });
        let sockets = self.estate.sockets.lock();
        let gates = &self.estate.gates;
        let cores = self.cores.handles.len();
        for (core, handle) in self.cores.handles.iter().enumerate() {
            let serving = Serving {
                handler: Arc::clone(&self.app),
                drain: self.drain.clone(),
                limits: Arc::clone(&self.limits),
                states: Arc::clone(&self.states),
                core,
                alt_svc: alt_svc.clone(),
                http2: self.http2,
            };
            let listeners = [
                (&sockets.http, None, &gates.http),
                (&sockets.https, self.tls.as_ref(), &gates.https),
            ];
            for (bound, tls, gate) in listeners {
                let bound = bound.as_ref().map_or(&[][..], |bound| &bound.sockets);
                for socket in share(bound, core, cores).filter_map(|one| one.try_clone().ok()) {
                    let (slots, serving) = (Arc::clone(&self.slots), serving.clone());
                    let (tls, gate) = (tls.cloned(), gate.clone());
                    self.drain.spawn_on(handle, async move {
                        report(tcp::serve(socket, tls, slots, serving, &gate).await);
                    });
                }
            }
            if let Some(quic) = &self.quic {
                let udp = share(&sockets.udp, core, cores);
                let udp = udp.filter_map(|socket| socket.try_clone().ok()).collect();
                // Two cores that read one socket would take each other's handshakes.
                let reads = core < sockets.udp.len();
                self.serve_quic(core, handle, Arc::clone(quic), udp, reads, serving);
            }
        }
    }

    fn serve_quic(
        &self,
        core: usize,
        handle: &Handle,
        quic: Arc<Quic>,
        sockets: Vec<UdpSocket>,
        reads: bool,
        serving: Serving<App>,
    ) {
        let slots = Arc::clone(&self.slots);
        let admit: quic::Admit = Arc::new(move |peer| {
            slots.take(peer).map(|slot| Box::new(slot) as Box<dyn Any + Send>)
        });
        let drain = self.drain.clone();
        self.drain.spawn_on(handle, async move {
            match quic.bind(core, sockets, reads, &drain) {
                Ok(endpoint) => quic::serve(&quic, endpoint, serving, admit).await,
                Err(error) => tracing::error!(%error, "HTTP/3 is not served on this core"),
            }
        });
    }
}

fn report(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a listener cannot be served");
    }
}

/// One thread and runtime a core.
struct Cores {
    handles: Vec<Handle>,
    stop: CancellationToken,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Cores {
    fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for core in 0..count {
            let runtime: Runtime = RuntimeBuilder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            let thread = std::thread::Builder::new().name(format!("wharf-core-{core}")).spawn(
                move || {
                    runtime.block_on(stop.cancelled());
                    // Blocking file operations of guests must not hold up the end.
                    runtime.shutdown_background();
                },
            )?;
            threads.push(thread);
        }
        Ok(Self { handles, stop, threads: parking_lot::Mutex::new(threads) })
    }

    fn stop(&self) {
        self.stop.cancel();
        for thread in self.threads.lock().drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Starts the process that is to take over. Where that fails, this one goes on.
fn start_successor(service: &Service, drain: &Drain) {
    service.reloading();
    let (serving_on, drain) = (service.clone(), drain.clone());
    // The manager waits for `ready`, from whichever process.
    let ended = move || {
        if !drain.is_handed_over() {
            serving_on.ready();
        }
    };
    if let Err(error) = spawn::successor(ended) {
        tracing::error!(%error, "no successor can be started");
        service.ready();
    }
}

/// The signals that the server listens to.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    replace: tokio::signal::unix::Signal,
}

/// What a signal asks for.
enum Asked {
    /// SIGTERM, SIGINT: to end.
    End,
    /// SIGUSR2: to start a process that takes over.
    Replace,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            replace: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.replace.recv() => Asked::Replace,
        }
    }

    /// The next one that asks to end.
    async fn end(&mut self) {
        while !matches!(self.next().await, Asked::End) {}
    }
}

fn certificates(config: &Config, data: &Path) -> Source {
    if config.certificates.is_empty() {
        return Source::Development(data.join("dev-cert"));
    }
    let pair = |files: &crate::config::CertificateFiles| Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
    };
    Source::Files(config.certificates.iter().map(pair).collect())
}

/// The data folder, made if it is missing, readable by its owner only; its absolute path.
fn private_folder(path: &Path) -> Result<PathBuf, Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| path.canonicalize())
        .map_err(|source| Error::File { path: path.display().to_string(), source })
}
