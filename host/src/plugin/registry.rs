//! What is known of every plugin, and what is served: the act of publishing and retiring.
//!
//! `refresh` brings one name up to date with its files; everything that can fail happens before the
//! one atomic store that changes what is served, so a broken reload changes nothing. A newer refresh
//! of the same name overtakes an older one.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::Plugin;
use super::engine::Tier;
use super::load_error::LoadError;
use super::loader::{self, Files, Loaded, Loader};
use super::manifest::Mode;
use super::schedule::Board;
use super::state::{Endpoint, Endpoints};
use crate::admin::{PluginList, PluginStatus};
use crate::drain::Drain;
use crate::observe::Metrics;
use crate::observe::metrics::Reload;
use crate::route::{RouteMatch, RouteTable};

/// How long a version that replaced another waits for the optimising compiler: who saves a file over
/// and over would otherwise wait for code that nobody will run.
const OPTIMISE_DELAY: Duration = Duration::from_secs(1);

/// How long a retired version may go on with what it has begun.
pub const RETIRE_GRACE: Duration = Duration::from_secs(60);

/// The routes in force, behind one atomic pointer.
#[derive(Debug, Default)]
pub struct Published {
    routes: ArcSwap<RouteTable>,
    plugins: ArcSwap<HashMap<Arc<str>, Arc<Plugin>>>,
    changed: watch::Sender<()>,
    schedules: Board,
}

impl Published {
    /// The table now; a request takes it once.
    pub fn routes(&self) -> Guard<Arc<RouteTable>> {
        self.routes.load()
    }

    /// Every plugin that serves now.
    pub fn plugins(&self) -> Guard<Arc<HashMap<Arc<str>, Arc<Plugin>>>> {
        self.plugins.load()
    }

    /// Tells when that has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// How schedules are doing.
    pub fn schedules(&self) -> &Board {
        &self.schedules
    }

    /// The version of a plugin that serves now.
    pub fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.plugins.load().get(name).map(Arc::clone)
    }
}

impl Endpoints for Published {
    fn endpoints(&self) -> Vec<Endpoint> {
        let table = self.routes.load();
        let mut endpoints: Vec<Endpoint> = table
            .iter()
            .map(|(pattern, route)| Endpoint {
                plugin: route.plugin.name.to_string(),
                version: route.plugin.version.to_string(),
                method: pattern.method.as_ref().map(ToString::to_string),
                host: pattern.host.clone(),
                path: pattern.path.clone(),
            })
            .collect();
        endpoints.sort_by(|a, b| (&a.path, &a.method).cmp(&(&b.path, &b.method)));
        endpoints
    }
}

/// Where a plugin is in its life; failures are told by the entry's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Discovered,
    Compiling,
    Ready,
    Serving,
    Failed,
}

impl State {
    fn label(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Compiling => "compiling",
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Counts looks at the files, so that a slow one does not undo a later one.
    looks: u64,
    /// The look that found the files as they are now known; only it may publish.
    generation: u64,
    /// Of the files that were last looked at.
    fingerprint: Option<blake3::Hash>,
    serving: Option<Arc<Plugin>>,
    /// Ready, but its middleware is missing or its route taken: tried again when others change.
    waiting: Option<Arc<Plugin>>,
    error: Option<String>,
}

impl Entry {
    fn new() -> Self {
        Self {
            state: State::Discovered,
            looks: 0,
            generation: 0,
            fingerprint: None,
            serving: None,
            waiting: None,
            error: None,
        }
    }
}

/// Every plugin of one folder.
pub struct Registry {
    dir: PathBuf,
    loader: Arc<Loader>,
    published: Arc<Published>,
    metrics: Arc<Metrics>,
    drain: Drain,
    entries: Mutex<BTreeMap<String, Entry>>,
    compiling: Arc<Semaphore>,
    /// Second compilations happen one at a time, after everything that someone waits for.
    optimising: Arc<Semaphore>,
}

impl Registry {
    /// A registry over `dir` that has looked at nothing yet. At most `compile_threads` components
    /// are compiled at once.
    pub fn new(
        dir: PathBuf,
        loader: Loader,
        published: Arc<Published>,
        metrics: Arc<Metrics>,
        drain: Drain,
        compile_threads: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            dir,
            loader: Arc::new(loader),
            published,
            metrics,
            drain,
            entries: Mutex::default(),
            compiling: Arc::new(Semaphore::new(compile_threads.max(1))),
            optimising: Arc::new(Semaphore::new(1)),
        })
    }

    /// Tracks what the registry does.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The folder.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Brings every plugin of the folder up to date. Errors are kept on the entries.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub async fn load_all(self: &Arc<Self>) -> std::io::Result<()> {
        let names = loader::scan(&self.dir)?;
        let refreshes = names.into_iter().map(|name| {
            let registry = Arc::clone(self);
            async move { registry.refresh(&name).await }
        });
        futures_util::future::join_all(refreshes).await;
        Ok(())
    }

    /// Names that have an entry or might get one.
    pub fn names(&self) -> Vec<String> {
        let mut names = loader::scan(&self.dir).unwrap_or_default();
        names.extend(self.entries.lock().keys().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Brings one plugin up to date with its files.
    pub async fn refresh(self: &Arc<Self>, name: &str) {
        let begun = Instant::now();
        let source = match loader::find(&self.dir, name) {
            Ok(Some(source)) => source,
            Ok(None) => return self.remove(name, begun),
            Err(error) => {
                let look = self.look(name);
                return self.fail(name, look, &error, begun);
            }
        };
        let look = self.look(name);
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let files = match read {
            Ok(Ok(files)) => Arc::new(files),
            // It was removed while it was read: the removal is told separately.
            Ok(Err(LoadError::Read { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return;
            }
            Ok(Err(error)) => return self.fail(name, look, &error, begun),
            Err(_cancelled) => return,
        };
        if !self.is_news(name, look, &files) {
            return;
        }
        match self.build(name, look, &files).await {
            Ok(Some(loaded)) => self.publish(name, look, &files, loaded, begun),
            Ok(None) => {}
            Err(error) => self.fail(name, look, &error, begun),
        }
    }

    fn look(&self, name: &str) -> u64 {
        let mut entries = self.entries.lock();
        let entry = entries.entry(name.to_owned()).or_insert_with(Entry::new);
        entry.looks += 1;
        entry.looks
    }

    /// Whether the files differ from those that are served or on their way; this look is then the
    /// one that counts.
    fn is_news(&self, name: &str, look: u64, files: &Files) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(name) else { return false };
        if look < entry.generation || entry.fingerprint == Some(files.fingerprint) {
            return false;
        }
        entry.generation = look;
        entry.fingerprint = Some(files.fingerprint);
        entry.state = State::Compiling;
        true
    }

    /// Compiles and starts once; `None` when a newer refresh has overtaken this one.
    async fn build(
        &self,
        name: &str,
        generation: u64,
        files: &Arc<Files>,
    ) -> Result<Option<Loaded>, LoadError> {
        let Ok(_turn) = self.compiling.acquire().await else { return Ok(None) };
        if !self.is_current(name, generation) {
            return Ok(None);
        }
        let loader = Arc::clone(&self.loader);
        let files = Arc::clone(files);
        let built = tokio::task::spawn_blocking(move || loader.build(&files)).await;
        let loaded = match built {
            Ok(loaded) => loaded?,
            Err(cancelled) if cancelled.is_cancelled() => return Ok(None),
            Err(panic) => {
                return Err(LoadError::Compile {
                    cause: format!("the compiler panicked: {panic}"),
                });
            }
        };
        self.loader.smoke(&loaded.plugin).await?;
        Ok(Some(loaded))
    }

    fn is_current(&self, name: &str, generation: u64) -> bool {
        self.entries.lock().get(name).is_some_and(|entry| entry.generation == generation)
    }

    fn publish(
        self: &Arc<Self>,
        name: &str,
        generation: u64,
        files: &Arc<Files>,
        loaded: Loaded,
        begun: Instant,
    ) {
        let Loaded { plugin, tier } = loaded;
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(name) else { return };
        if entry.generation != generation {
            return;
        }
        let delay = if entry.serving.is_some() { OPTIMISE_DELAY } else { Duration::ZERO };
        entry.state = State::Ready;
        entry.waiting = Some(Arc::clone(&plugin));
        let published = self.settle(&mut entries);
        let error = entries.get(name).and_then(|entry| entry.error.clone());
        // At the start all are compiled at once, and a small plugin is ready before its middleware.
        let is_early = plugin.manifest.middleware.iter().any(|wrapping| {
            let entry = entries.get(wrapping);
            entry.is_some_and(|it| matches!(it.state, State::Discovered | State::Compiling))
        });
        drop(entries);

        for other in published.iter().filter(|other| **other != plugin.name) {
            tracing::info!(plugin = &**other, "published: what it waited for is there");
        }
        let took = begun.elapsed();
        if published.contains(&plugin.name) {
            self.metrics.reloaded(name, Reload::Published, took);
            tracing::info!(
                plugin = name,
                version = &plugin.version[..12],
                tier = tier.label(),
                took_ms = took.as_secs_f64() * 1e3,
                "published"
            );
        } else if is_early {
            tracing::info!(plugin = name, "waits for its middleware");
        } else {
            self.metrics.reloaded(name, Reload::Failed, took);
            tracing::warn!(plugin = name, error, "refused");
        }
        if tier == Tier::Baseline {
            self.optimise(name, plugin, Arc::clone(files), delay);
        }
    }

    /// Publishes whatever waits and can be served now, and stops serving what has lost its
    /// middleware. Returns the names that were published.
    fn settle(&self, entries: &mut BTreeMap<String, Entry>) -> Vec<Arc<str>> {
        let mut published = Vec::new();
        let mut retired = Vec::new();
        loop {
            let mut changed = false;
            let names: Vec<String> = entries.keys().cloned().collect();
            for name in &names {
                let Some(candidate) = entries[name].waiting.clone() else { continue };
                let refusal = refusal(entries, &candidate);
                let Some(entry) = entries.get_mut(name) else { continue };
                match refusal {
                    Some(error) => {
                        // Whatever it served before, it still serves.
                        entry.error = Some(error.to_string());
                        if entry.serving.is_none() {
                            entry.state = State::Failed;
                        }
                    }
                    None => {
                        entry.waiting = None;
                        entry.error = None;
                        entry.state = State::Serving;
                        candidate.apply_topics();
                        published.push(Arc::clone(&candidate.name));
                        retired.extend(entry.serving.replace(candidate));
                        changed = true;
                    }
                }
            }
            // A plugin is never served without the middleware that it names: that may be what
            // guards it.
            for name in &names {
                let Some(plugin) = entries[name].serving.clone() else { continue };
                let Some(error) = missing_middleware(entries, &plugin) else { continue };
                let Some(entry) = entries.get_mut(name) else { continue };
                tracing::warn!(plugin = name, %error, "no longer served");
                entry.error = Some(error.to_string());
                entry.state = State::Failed;
                entry.serving = None;
                entry.waiting.get_or_insert(plugin);
                changed = true;
            }
            if !changed {
                break;
            }
        }
        self.published.routes.store(Arc::new(table(entries)));
        let serving = entries.values().filter_map(|entry| entry.serving.as_ref());
        let serving = serving.map(|plugin| (Arc::clone(&plugin.name), Arc::clone(plugin)));
        self.published.plugins.store(Arc::new(serving.collect()));
        self.published.changed.send_replace(());
        for plugin in retired {
            plugin.retire(RETIRE_GRACE);
        }
        published
    }

    /// Compiles the same component again with the optimising compiler, and swaps the code.
    fn optimise(
        self: &Arc<Self>,
        name: &str,
        plugin: Arc<Plugin>,
        files: Arc<Files>,
        delay: Duration,
    ) {
        let registry = Arc::clone(self);
        let name = name.to_owned();
        self.drain.spawn(async move {
            let begin = async {
                tokio::time::sleep(delay).await;
                registry.optimising.acquire().await
            };
            let begun = registry.drain.unless_draining(begin).await;
            let Some(Ok(_turn)) = begun else { return };
            if plugin.is_retired() {
                return;
            }
            let begun = Instant::now();
            let loader = Arc::clone(&registry.loader);
            let mode: Mode = plugin.mode();
            let world = plugin.world.clone();
            let built = tokio::task::spawn_blocking(move || loader.optimise(&files, &world, mode));
            let Some(built) = registry.drain.unless_draining(built).await else { return };
            match built {
                Ok(Ok(program)) => {
                    plugin.upgrade(program);
                    let took_ms = begun.elapsed().as_secs_f64() * 1e3;
                    tracing::debug!(plugin = name, took_ms, "optimised");
                }
                Ok(Err(error)) => {
                    tracing::warn!(plugin = name, %error, "stays with the baseline compiler's code");
                }
                Err(error) => tracing::error!(plugin = name, %error, "the compiler panicked"),
            }
        });
    }

    fn fail(&self, name: &str, generation: u64, error: &LoadError, begun: Instant) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(name) else { return };
        let text = error.to_string();
        let known = entry.error.as_ref() == Some(&text) && entry.state != State::Compiling;
        if generation < entry.generation || known {
            return;
        }
        if generation > entry.generation {
            // The files themselves cannot be read as a plugin: whatever comes next is news.
            entry.generation = generation;
            entry.fingerprint = None;
        }
        entry.state = if entry.serving.is_some() { State::Serving } else { State::Failed };
        entry.error = Some(text);
        entry.waiting = None;
        let still = entry.serving.is_some();
        drop(entries);
        self.metrics.reloaded(name, Reload::Failed, begun.elapsed());
        tracing::warn!(
            plugin = name, stage = error.stage(), %error, still_serving = still, "not loaded"
        );
    }

    fn remove(&self, name: &str, begun: Instant) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.remove(name) else { return };
        let _published = self.settle(&mut entries);
        if let Some(plugin) = &entry.serving {
            // Under the lock: one of the same name that comes now says something else of them.
            plugin.forget_topics();
        }
        drop(entries);
        if let Some(plugin) = entry.serving {
            plugin.retire(RETIRE_GRACE);
            self.metrics.reloaded(name, Reload::Removed, begun.elapsed());
            tracing::info!(plugin = name, "removed");
        }
    }

    /// Stops every plugin; for the end of the drain.
    pub fn retire_all(&self, grace: Duration) {
        for entry in self.entries.lock().values() {
            if let Some(plugin) = &entry.serving {
                plugin.retire(grace);
            }
        }
    }
}

/// Why `candidate` cannot be served beside the others now.
fn refusal(entries: &BTreeMap<String, Entry>, candidate: &Plugin) -> Option<LoadError> {
    let others = entries
        .values()
        .filter_map(|entry| entry.serving.as_ref())
        .filter(|other| other.name != candidate.name);
    for other in others {
        for (route, _) in candidate.manifest.patterns() {
            if other.manifest.patterns().any(|(theirs, _)| theirs.conflicts(route)) {
                return Some(LoadError::RouteConflict {
                    route: route.to_string(),
                    owner: other.name.to_string(),
                });
            }
        }
    }
    missing_middleware(entries, candidate)
}

fn missing_middleware(entries: &BTreeMap<String, Entry>, plugin: &Plugin) -> Option<LoadError> {
    plugin.manifest.middleware.iter().find_map(|name| {
        let cause = match entries.get(name).and_then(|entry| entry.serving.as_ref()) {
            Some(wrapping) if wrapping.world.is_middleware => return None,
            Some(_) => "imports no handler, so it wraps nothing",
            None => "is not served",
        };
        Some(LoadError::Middleware { name: name.clone(), cause })
    })
}

fn table(entries: &BTreeMap<String, Entry>) -> RouteTable {
    let serving = |name: &str| entries.get(name).and_then(|entry| entry.serving.as_ref());
    let mut routes = Vec::new();
    for plugin in entries.values().filter_map(|entry| entry.serving.as_ref()) {
        let middleware = plugin.manifest.middleware.iter().filter_map(|name| serving(name));
        let wrapping: Arc<[Arc<Plugin>]> = middleware.map(Arc::clone).collect();
        let whole = wrapping.iter().chain(std::iter::once(plugin));
        let whole: Arc<[Arc<Plugin>]> = whole.map(Arc::clone).collect();
        let space = space(plugin, &whole);
        for (pattern, folder) in plugin.manifest.patterns() {
            // A folder is wrapped as the plugin is: what guards it guards its files.
            let chain = if folder.is_some() { &wrapping } else { &whole };
            let route = RouteMatch {
                plugin: Arc::clone(plugin),
                chain: Arc::clone(chain),
                folder: folder.map(Arc::clone),
                pattern: Arc::clone(&pattern.text),
                space: Arc::clone(&space),
            };
            routes.push((pattern.clone(), route));
        }
    }
    RouteTable::new(routes)
}

/// What cached answers of a plugin are kept under: its name, and what changes when anything does that
/// has part in its answers. So a new version answers the next request itself.
fn space(plugin: &Plugin, chain: &[Arc<Plugin>]) -> Arc<str> {
    let mut hash = blake3::Hasher::new();
    for link in chain {
        hash.update(link.fingerprint.as_bytes());
    }
    format!("{}@{}", plugin.name, &hash.finalize().to_hex()[..16]).into()
}

impl PluginList for Registry {
    fn plugins(&self) -> Vec<PluginStatus> {
        let entries = self.entries.lock();
        let status = |(name, entry): (&String, &Entry)| {
            let plugin = entry.serving.as_ref().or(entry.waiting.as_ref());
            PluginStatus {
                name: name.clone(),
                state: entry.state.label().to_owned(),
                version: plugin.map(|plugin| plugin.version.to_string()),
                world: plugin.map(|plugin| plugin.world.to_string()),
                routes: plugin.map_or_else(Vec::new, |plugin| {
                    plugin.manifest.patterns().map(|(pattern, _)| pattern.to_string()).collect()
                }),
                mode: plugin.map(|plugin| plugin.mode().label().to_owned()),
                instances: plugin.map_or(0, |plugin| plugin.instances() as u64),
                in_flight: plugin.map_or(0, |plugin| plugin.in_flight() as u64),
                schedules: self.published.schedules.of(name),
                last_error: entry.error.clone(),
            }
        };
        entries.iter().map(status).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("dir", &self.dir).finish_non_exhaustive()
    }
}
