//! The server: binds every socket, owns every part, serves until told to stop, drains.
//!
//! One current-thread runtime a core, each with its own listening sockets (`SO_REUSEPORT`) and its
//! own instances, so that a request never changes cores; one control runtime for loading, watching,
//! signals and the admin listener.

use std::any::Any;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderValue;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder as RuntimeBuilder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminState, Phase};
use crate::admit::Admission;
use crate::app::App;
use crate::config::Config;
use crate::drain::Drain;
use crate::http::Serving;
use crate::http::conn::ConnStates;
use crate::http::file_body::Readers;
use crate::http::limits::Limits;
use crate::listener::quic::{self, Quic, QuicError};
use crate::listener::slots::Slots;
use crate::listener::tcp::{self, BindError, Bound};
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
use crate::plugin::state::Services;
use crate::plugin::watcher;
use crate::upstream::Upstream;

/// How long clients remember that HTTP/3 is there, in seconds.
const ALT_SVC_MAX_AGE: u32 = 3600;
/// Ports that are tried when any free one will do: TCP and UDP must both have it.
const PORT_TRIES: usize = 16;
/// How long the last log lines and traces may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener's address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The UDP side of the TLS listener cannot be had.
    #[error("cannot listen on {address} for HTTP/3 (UDP): {source}")]
    BindUdp {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
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

/// Serves until a signal ends it. `announce` is told the addresses once requests are answered.
///
/// # Errors
/// What keeps the server from starting; once it serves, it cannot fail.
#[expect(clippy::needless_pass_by_value, reason = "a server has its configuration for life")]
pub fn run(config: Config, announce: impl FnOnce(&Addresses)) -> Result<Outcome, Error> {
    let logging = logging::init(&config.log, config.threads)?;
    let control = RuntimeBuilder::new_multi_thread()
        .worker_threads(1)
        .thread_name("wharf-control")
        .enable_all()
        .build()
        .map_err(Error::System)?;
    let outcome = control.block_on(async {
        let server = Server::bind(&config, &logging).await?;
        Ok::<_, Error>(server.serve(&config, announce).await)
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
    sockets: Sockets,
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
    async fn bind(config: &Config, logging: &Logging) -> Result<Self, Error> {
        let data = private_folder(&config.data)?;
        // Addresses first: what is taken is said before anything is made or compiled.
        let sockets = Sockets::bind(config)?;
        let tls = match config.https {
            Some(_) => Some(Arc::new(Tls::new(certificates(config, &data), config.http2)?)),
            None => None,
        };
        let quic = match &tls {
            Some(tls) if config.http3 => {
                Some(Arc::new(Quic::new(tls.quic_config(), config.threads, &config.limits)?))
            }
            _ => None,
        };
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
        let engines = Arc::new(Engines::new().map_err(Error::Engine)?);
        let cache = CodeCache::open(data.join("cache/code"));
        let platform = Arc::new(Platform {
            builder: Builder::new(engines, cache).map_err(Error::Engine)?,
            cores: cores.handles.clone(),
            lane: Arc::new(Lane::new(config.threads).map_err(Error::System)?),
            drain: drain.clone(),
            metrics: Arc::clone(&metrics),
            services: Arc::new(Services {
                upstream: Arc::new(Upstream::new(background.clone())),
                states: Arc::clone(&states),
                endpoints: Arc::clone(&published) as _,
                readers: Readers::default(),
            }),
        });
        let loader = Loader::new(platform, logs.clone(), data);
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
            admission: Arc::new(Admission::new(config.admission.requests, config.admission.wait)),
            limits: Arc::clone(&limits),
            drain: drain.clone(),
        });
        let admin = Arc::new(AdminState::new(
            metrics,
            Arc::clone(&registry) as _,
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
            sockets,
            tls,
            quic,
            slots,
            states,
            limits,
            drain,
            background,
        })
    }

    async fn serve(self, config: &Config, announce: impl FnOnce(&Addresses)) -> Outcome {
        let addresses = Addresses {
            http: self.sockets.http.as_ref().map(|bound| bound.address),
            https: self.sockets.https.as_ref().map(|bound| bound.address),
            admin: self.sockets.admin.as_ref().map(|bound| bound.address),
            http3: self.quic.is_some(),
            development_ca: self.tls.as_ref().and_then(|tls| tls.development_ca()),
        };
        let Self { cores, registry, admin, drain, background, .. } = &self;
        // Signals count from here on, also while plugins are compiled.
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "signals cannot be received");
                return Outcome::CutOff;
            }
        };
        let admin_drain = Drain::new();
        self.serve_admin(&admin_drain);
        // The watcher first, so that a change while the folder is read is not missed.
        let (_watching, watch) = watcher::start(registry);
        let loaded = tokio::select! {
            loaded = registry.load_all() => loaded,
            () = signals.next() => return Outcome::CutOff,
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
        self.serve_plugins(&addresses);
        admin.enter(Phase::Serving);
        if let Some(path) = &config.ready_file
            && let Err(error) = write_ready_file(path, &addresses)
        {
            tracing::error!(file = %path.display(), %error, "the ready file cannot be written");
        }
        announce(&addresses);

        signals.next().await;
        tracing::info!(limit_s = config.drain_limit.as_secs(), "draining");
        admin.enter(Phase::Draining);
        registry.retire_all(config.drain_limit);
        let drained = tokio::select! {
            clean = drain.finish(config.drain_limit) => clean,
            () = signals.next() => {
                tracing::warn!("a second signal: ending at once");
                false
            }
        };
        let _outbound_is_cut_off = background.finish(Duration::ZERO).await;
        let _admin_is_cut_off = admin_drain.finish(Duration::ZERO).await;
        if let Some(path) = &config.ready_file {
            let _already_gone = fs::remove_file(path);
        }
        let (observer, logs) = (Arc::clone(&self.observer), self.logs.clone());
        let flushed = tokio::task::spawn_blocking(move || {
            observer.shutdown(FLUSH_LIMIT);
            logs.close(FLUSH_LIMIT);
        });
        let _best_effort = flushed.await;
        cores.stop();
        if drained { Outcome::Drained } else { Outcome::CutOff }
    }

    fn serve_admin(&self, drain: &Drain) {
        let Some(bound) = &self.sockets.admin else { return };
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
        for socket in cloned(&bound.sockets) {
            let accept = tcp::serve(socket, None, Slots::new(&self.limits), serving.clone());
            drain.spawn(async move { report(accept.await) });
        }
    }

    fn serve_plugins(&self, addresses: &Addresses) {
        let alt_svc = addresses.https.filter(|_| self.quic.is_some()).and_then(|https| {
            HeaderValue::try_from(format!("h3=\":{}\"; ma={ALT_SVC_MAX_AGE}", https.port())).ok()
        });
        for (core, handle) in self.cores.handles.iter().enumerate() {
            let serving = Serving {
                handler: Arc::clone(&self.app),
                drain: self.drain.clone(),
                limits: Arc::clone(&self.limits),
                states: Arc::clone(&self.states),
                core,
                alt_svc: alt_svc.clone(),
                http2: self.sockets.http2,
            };
            let listeners = [(&self.sockets.http, None), (&self.sockets.https, self.tls.as_ref())];
            for (bound, tls) in listeners {
                let socket = bound.as_ref().and_then(|bound| bound.sockets[core].try_clone().ok());
                let Some(socket) = socket else { continue };
                let slots = Arc::clone(&self.slots);
                let accept = tcp::serve(socket, tls.cloned(), slots, serving.clone());
                self.drain.spawn_on(handle, async move { report(accept.await) });
            }
            if let Some(quic) = &self.quic {
                self.serve_quic(core, handle, Arc::clone(quic), serving);
            }
        }
    }

    fn serve_quic(&self, core: usize, handle: &Handle, quic: Arc<Quic>, serving: Serving<App>) {
        let Ok(socket) = self.sockets.udp[core].try_clone() else { return };
        let slots = Arc::clone(&self.slots);
        let admit: quic::Admit = Arc::new(move |peer| {
            slots.take(peer).map(|slot| Box::new(slot) as Box<dyn Any + Send>)
        });
        let drain = self.drain.clone();
        self.drain.spawn_on(handle, async move {
            match quic.bind(core, socket, &drain) {
                Ok(endpoint) => quic::serve(endpoint, serving, admit).await,
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

fn cloned(sockets: &[TcpListener]) -> impl Iterator<Item = TcpListener> + '_ {
    sockets.iter().filter_map(|socket| socket.try_clone().ok())
}

/// Every socket, bound before anything is served.
struct Sockets {
    http: Option<Bound>,
    https: Option<Bound>,
    admin: Option<Bound>,
    /// One a core, on the port of `https`; none without HTTP/3.
    udp: Vec<UdpSocket>,
    http2: bool,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, Error> {
        let cores = config.threads;
        let tcp = |address: Option<SocketAddr>, sockets| {
            address.map(|address| tcp::bind(address, sockets)).transpose()
        };
        let http = tcp(config.http, cores)?;
        let admin = tcp(config.admin.listen, 1)?;
        let mut tries = PORT_TRIES;
        let (https, udp) = loop {
            let https = tcp(config.https, cores)?;
            let Some(bound) = https.as_ref().filter(|_| config.http3) else {
                break (https, Vec::new());
            };
            match bind_udp(bound.address, cores) {
                Ok(udp) => break (https, udp),
                Err(_) if config.https.is_some_and(|asked| asked.port() == 0) && tries > 0 => {
                    tries -= 1;
                }
                Err(source) => return Err(Error::BindUdp { address: bound.address, source }),
            }
        };
        Ok(Self { http, https, admin, udp, http2: config.http2 })
    }
}

fn bind_udp(address: SocketAddr, cores: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(cores);
    for core in 0..cores {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The first is bound alone, so that a port in use is noticed; sharing begins after that.
        if core > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
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

/// The signals that end the server.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
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

/// Written aside and renamed, so that whoever waits for it reads it whole.
fn write_ready_file(path: &Path, addresses: &Addresses) -> io::Result<()> {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let document = serde_json::json!({
        "http": text(addresses.http),
        "https": text(addresses.https),
        "admin": text(addresses.admin),
        "pid": std::process::id(),
    });
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    writeln!(file, "{document}")?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
