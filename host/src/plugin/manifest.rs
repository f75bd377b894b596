//! A plugin's manifest: `plugin.toml`, or `NAME.toml` beside the component, checked and complete.
//!
//! Unknown keys are errors that name the line and the nearest known key.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use wharf_hub::{Pattern as TopicPattern, Rule};

use self::cache::{CachePolicies, RawCache};
use self::response::{RawResponse, ResponsePolicies};
use self::topic::{RawHub, RawTopic};
use super::schedule::timing::{RawSchedule, Schedule, schedules};
use crate::config::policies::NamedPolicies;
use crate::config::units::{parse_duration, parse_size};
use crate::config::{TomlFault, parse_toml};
use crate::files::folder::StaticFolder;
use crate::hub::DEFAULT_HELD;
use crate::route::Pattern;
use crate::upstream::OutboundGrants;

pub mod cache;
pub mod response;
pub mod topic;

/// Linear memory of one instance, over all its memories.
pub const DEFAULT_MEMORY: u64 = 64 << 20;
/// From the request's arrival at the plugin to the last byte of its response head; the body then
/// has the same time between two frames.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// CPU time of one request.
pub const DEFAULT_CPU_TIME: Duration = Duration::from_secs(1);
/// Requests in the plugin at once.
pub const DEFAULT_CONCURRENCY: usize = 256;
/// Bytes of a request body.
pub const DEFAULT_BODY: u64 = 10 << 20;
/// Requests that one instance may serve.
pub const DEFAULT_REUSE: u32 = 1024;
/// Requests at once in one instance (0.3 only).
pub const DEFAULT_CONCURRENT: u32 = 16;

/// How instances are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// An instance serves many requests, several at once. Default for WASI 0.3.
    Reuse,
    /// A fresh instance for each request. Default for WASI 0.2.
    Isolated,
}

impl Mode {
    /// As manifests and metrics write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reuse => "reuse",
            Self::Isolated => "isolated",
        }
    }
}

/// What a manifest says, defaults filled in.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Routes; for a plugin without `routes`, `/NAME` and `/NAME/*` (or `/` and `/*` for `index`).
    pub routes: Vec<Pattern>,
    /// The prefix that is stripped from the path and told in `x-forwarded-prefix`.
    pub strip_prefix: Option<String>,
    /// Folders that are served without a call, each with its patterns.
    pub static_folders: Vec<StaticRoute>,
    /// Plugins that wrap this one and its static folders, outermost first.
    pub middleware: Vec<String>,
    /// What is granted.
    pub capabilities: Capabilities,
    /// What `wasi:config` gives.
    pub config: BTreeMap<String, String>,
    /// Limits in force.
    pub limits: PluginLimits,
    /// Use of instances.
    pub instances: Instances,
    /// What is done to responses by their path.
    pub responses: ResponsePolicies,
    /// What the shared cache does with its answers.
    pub cache: CachePolicies,
    /// What holds for topics that it publishes to.
    pub topics: Vec<Rule>,
    /// When it is called by itself.
    pub schedules: Arc<[Schedule]>,
}

/// A static folder, and the paths that it claims for any method.
#[derive(Clone, Debug)]
pub struct StaticRoute {
    /// The folder.
    pub folder: Arc<StaticFolder>,
    /// The mount itself, and all below it.
    pub patterns: [Pattern; 2],
}

/// What a plugin is granted; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Origins it may send requests to, as written (`scheme://host[:port]`).
    pub outbound: Vec<String>,
    /// Its requests may name another authority in `Host` than the origin's own.
    pub outbound_host: bool,
    /// Folders it may open.
    pub files: Vec<FileGrant>,
    /// Names of environment variables it may see.
    pub env: Vec<String>,
    /// It may list what is served (`wharf:host/registry`).
    pub registry: bool,
    /// It may see what the server does (`wharf:host/metrics`).
    pub metrics: bool,
    /// It has a database (`wharf:host/sql`).
    pub sql: bool,
    /// It has pairs (`wasi:keyvalue`).
    pub keyvalue: bool,
    /// Topics that it may publish to and follow (`wharf:host/hub`).
    pub hub: HubGrants,
}

/// Patterns of topics.
#[derive(Clone, Debug, Default)]
pub struct HubGrants {
    /// It may publish to these.
    pub publish: Arc<[TopicPattern]>,
    /// It may follow these.
    pub subscribe: Arc<[TopicPattern]>,
}

/// One granted folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// The folder on the host, absolute.
    pub host: PathBuf,
    /// The name under which the guest sees it: as written in the manifest (`data`, `../assets` is
    /// seen as `assets`).
    pub guest: String,
    /// `rw` rather than `r`.
    pub write: bool,
}

/// The numbers of `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// [`DEFAULT_MEMORY`].
    pub memory: u64,
    /// [`DEFAULT_REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// [`DEFAULT_CPU_TIME`].
    pub cpu_time: Duration,
    /// [`DEFAULT_CONCURRENCY`].
    pub concurrency: usize,
    /// [`DEFAULT_BODY`].
    pub body: u64,
    /// [`DEFAULT_HELD`].
    pub held: usize,
}

/// The numbers of `[instances]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instances {
    /// `None`: by the WASI version.
    pub mode: Option<Mode>,
    /// [`DEFAULT_REUSE`].
    pub reuse: u32,
    /// [`DEFAULT_CONCURRENT`].
    pub concurrent: u32,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not TOML, or has an unknown key or a value of the wrong kind.
    #[error("{0}")]
    Toml(#[from] TomlFault),
    /// A value that is well-formed and wrong.
    #[error("{file}: `{key}`: {cause}")]
    Value {
        /// The manifest's name.
        file: String,
        /// The key, with its table.
        key: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// Where a manifest's relative names lead, and what the names of policies stand for.
#[derive(Clone, Debug)]
pub struct Places {
    /// How the manifest is to be told.
    pub file: String,
    /// The plugin's folder; for a bare file the folder of its manifest.
    pub folder: PathBuf,
    /// The plugin's own data folder, `DATA/plugins/NAME`.
    pub data: PathBuf,
    /// The server's cache policies.
    pub policies: NamedPolicies,
}

impl Manifest {
    /// What a plugin without a manifest gets: `/NAME` and all below it, without that prefix;
    /// `index` gets `/` and what nobody else serves, as it is.
    pub fn bare(name: &str) -> Self {
        let (routes, strip_prefix) = default_routes(name);
        Self {
            routes,
            strip_prefix,
            static_folders: Vec::new(),
            middleware: Vec::new(),
            capabilities: Capabilities::default(),
            config: BTreeMap::new(),
            limits: PluginLimits::default(),
            instances: Instances::default(),
            responses: ResponsePolicies::default(),
            cache: CachePolicies::default(),
            topics: Vec::new(),
            schedules: Arc::default(),
        }
    }

    /// Every pattern that the plugin claims, and the folder that answers it, where one does.
    pub fn patterns(&self) -> impl Iterator<Item = (&Pattern, Option<&Arc<StaticFolder>>)> {
        let folders = self.static_folders.iter();
        let folders = folders.flat_map(|route| route.patterns.iter().map(|p| (p, &route.folder)));
        let folders = folders.map(|(pattern, folder)| (pattern, Some(folder)));
        self.routes.iter().map(|pattern| (pattern, None)).chain(folders)
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`], with the file, the key and the cause.
    pub fn parse(name: &str, text: &str, places: &Places) -> Result<Self, ManifestError> {
        let raw: RawManifest = parse_toml(&places.file, text)?;
        let wrong = |key: &str, cause: String| ManifestError::Value {
            file: places.file.clone(),
            key: key.to_owned(),
            cause,
        };
        let mut manifest = Self::bare(name);
        if let Some(routes) = &raw.routes {
            manifest.strip_prefix = None;
            manifest.routes = routes
                .iter()
                .map(|text| {
                    Pattern::parse(text)
                        .map_err(|error| wrong("routes", format!("\"{text}\": {error}")))
                })
                .collect::<Result<_, _>>()?;
            for (index, route) in manifest.routes.iter().enumerate() {
                if manifest.routes[..index].iter().any(|other| other.conflicts(route)) {
                    return Err(wrong("routes", format!("\"{route}\" is there twice")));
                }
            }
        }
        if raw.middleware.iter().any(|wrapping| wrapping == name) {
            return Err(wrong("middleware", "a plugin cannot wrap itself".to_owned()));
        }
        for (mount, folder) in raw.static_folders.iter().flatten() {
            let route = static_route(mount, folder, manifest.strip_prefix.as_deref(), places)
                .map_err(|cause| wrong("static", format!("\"{mount}\": {cause}")))?;
            let claimed =
                |pattern: &Pattern| manifest.patterns().any(|(other, _)| other.conflicts(pattern));
            if let Some(pattern) = route.patterns.iter().find(|pattern| claimed(pattern)) {
                let cause = format!("\"{mount}\": \"{pattern}\" is a route of this plugin already");
                return Err(wrong("static", cause));
            }
            manifest.static_folders.push(route);
        }
        manifest.middleware = raw.middleware;

        let capabilities = raw.capabilities;
        OutboundGrants::parse(&capabilities.outbound)
            .map_err(|error| wrong("capabilities.outbound", error.to_string()))?;
        for variable in &capabilities.env {
            if variable.is_empty() || variable.contains(['=', '\0']) {
                return Err(wrong("capabilities.env", format!("\"{variable}\" is not a name")));
            }
        }
        manifest.capabilities = Capabilities {
            outbound: capabilities.outbound,
            outbound_host: capabilities.outbound_host,
            env: capabilities.env,
            registry: capabilities.registry,
            metrics: capabilities.metrics,
            sql: capabilities.sql,
            keyvalue: capabilities.keyvalue,
            hub: topic::grants(capabilities.hub).map_err(|(key, cause)| wrong(key, cause))?,
            files: capabilities
                .files
                .iter()
                .map(|(folder, mode)| {
                    grant(folder, mode, places).map_err(|cause| wrong("capabilities.files", cause))
                })
                .collect::<Result<_, _>>()?,
        };
        for (key, value) in raw.config {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(fact) => fact.to_string(),
                _ => {
                    let cause = "a setting is a string, a number or a boolean".to_owned();
                    return Err(wrong(&format!("config.{key}"), cause));
                }
            };
            manifest.config.insert(key, value);
        }
        manifest.topics = topic::rules(raw.topic).map_err(|cause| wrong("topic", cause))?;
        manifest.responses =
            response::policies(raw.response).map_err(|(key, cause)| wrong(key, cause))?;
        let routes: Vec<&Pattern> = manifest.patterns().map(|(pattern, _)| pattern).collect();
        let cache = cache::policies(raw.cache, &routes, &places.policies);
        manifest.cache = cache.map_err(|(key, cause)| wrong(key, cause))?;
        manifest.schedules = schedules(raw.schedule).map_err(|(key, cause)| wrong(key, cause))?;
        raw.limits.apply(&mut manifest.limits).map_err(|(key, cause)| wrong(key, cause))?;
        raw.instances.apply(&mut manifest.instances).map_err(|(key, cause)| wrong(key, cause))?;
        Ok(manifest)
    }
}

fn default_routes(name: &str) -> (Vec<Pattern>, Option<String>) {
    let (patterns, prefix) = if name == "index" {
        (vec!["/".to_owned(), "/*".to_owned()], None)
    } else {
        (vec![format!("/{name}"), format!("/{name}/*")], Some(format!("/{name}")))
    };
    // Names are checked when the folder is scanned; one that is no path segment has no routes.
    (patterns.iter().filter_map(|text| Pattern::parse(text).ok()).collect(), prefix)
}

/// `mount` is a literal path; `folder` lies below the plugin's own.
fn static_route(
    mount: &str,
    folder: &str,
    prefix: Option<&str>,
    places: &Places,
) -> Result<StaticRoute, String> {
    let below = Path::new(folder);
    let plain =
        |component: Component<'_>| matches!(component, Component::Normal(_) | Component::CurDir);
    if !below.components().all(plain) || !below.components().any(|c| c != Component::CurDir) {
        return Err(format!("\"{folder}\" names no folder below the plugin's own"));
    }
    let told = |error: &std::io::Error| format!("\"{folder}\": {error}");
    let own = places.folder.canonicalize().map_err(|error| told(&error))?;
    let root = own.join(below).canonicalize().map_err(|error| told(&error))?;
    if !root.is_dir() {
        return Err(format!("\"{folder}\" is not a folder"));
    }
    if root == own || !root.starts_with(&own) {
        return Err(format!("\"{folder}\" leads out of the plugin's folder"));
    }
    let literal = mount.starts_with('/')
        && !mount.contains(['{', '}', '*', ' '])
        && (mount == "/" || !mount.ends_with('/'));
    if !literal {
        return Err("write a path such as \"/assets\", without parameters".to_owned());
    }
    let mount = mount.trim_end_matches('/');
    let prefix = prefix.unwrap_or_default();
    let claimed = format!("{prefix}{mount}");
    let itself = if claimed.is_empty() { "/" } else { claimed.as_str() };
    let pattern = |text: &str| Pattern::parse(text).map_err(|error| error.to_string());
    let patterns = [pattern(itself)?, pattern(&format!("{claimed}/*"))?];
    let folder = StaticFolder { root, prefix: prefix.to_owned(), mount: mount.to_owned() };
    Ok(StaticRoute { folder: Arc::new(folder), patterns })
}

fn grant(folder: &str, mode: &str, places: &Places) -> Result<FileGrant, String> {
    let write = match mode {
        "r" => false,
        "rw" => true,
        other => return Err(format!("`{folder}`: \"{other}\" is neither \"r\" nor \"rw\"")),
    };
    let path = Path::new(folder);
    let plain = matches!(path.components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)])
        && !folder.contains('/');
    if plain {
        // A plain name is a folder of the plugin's own data, made when it is first granted.
        let host = places.data.join(folder);
        return Ok(FileGrant { host, guest: folder.to_owned(), write });
    }
    let guest = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| format!("`{folder}` names no folder"))?;
    let host = places.folder.join(path);
    match host.canonicalize() {
        Ok(host) if host.is_dir() => Ok(FileGrant { host, guest: guest.to_owned(), write }),
        Ok(_) => Err(format!("`{folder}` is not a folder")),
        Err(error) => Err(format!("`{folder}` ({}): {error}", host.display())),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    routes: Option<Vec<String>>,
    #[serde(default)]
    middleware: Vec<String>,
    #[serde(default)]
    capabilities: RawCapabilities,
    #[serde(default)]
    config: BTreeMap<String, toml::Value>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    instances: RawInstances,
    #[serde(default)]
    response: Vec<RawResponse>,
    #[serde(default)]
    topic: Vec<RawTopic>,
    #[serde(default)]
    cache: RawCache,
    #[serde(default)]
    schedule: Vec<RawSchedule>,
    #[serde(rename = "static")]
    static_folders: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCapabilities {
    #[serde(default)]
    outbound: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default, rename = "outbound-host")]
    outbound_host: bool,
    #[serde(default)]
    keyvalue: bool,
    #[serde(default)]
    sql: bool,
    #[serde(default)]
    hub: RawHub,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    registry: bool,
    #[serde(default)]
    metrics: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLimits {
    memory: Option<String>,
    request_timeout: Option<String>,
    cpu_time: Option<String>,
    concurrency: Option<usize>,
    body: Option<String>,
    held: Option<usize>,
}

/// Most memory that one instance may be given: what a 32-bit memory can address.
const MAX_MEMORY: u64 = 4 << 30;
/// Most requests at once that a plugin may be given.
const MAX_CONCURRENCY: usize = 100_000;

impl RawLimits {
    fn apply(&self, limits: &mut PluginLimits) -> Result<(), (&'static str, String)> {
        if let Some(text) = &self.memory {
            limits.memory = size("limits.memory", text)?;
            if !(64 << 10..=MAX_MEMORY).contains(&limits.memory) {
                return Err(("limits.memory", "must be from 64KiB to 4GiB".to_owned()));
            }
        }
        if let Some(text) = &self.request_timeout {
            limits.request_timeout = duration("limits.request-timeout", text)?;
        }
        if let Some(text) = &self.cpu_time {
            limits.cpu_time = duration("limits.cpu-time", text)?;
        }
        if let Some(concurrency) = self.concurrency {
            if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
                let cause = format!("must be from 1 to {MAX_CONCURRENCY}");
                return Err(("limits.concurrency", cause));
            }
            limits.concurrency = concurrency;
        }
        if let Some(held) = self.held {
            limits.held = held;
        }
        if let Some(text) = &self.body {
            limits.body = size("limits.body", text)?;
        }
        Ok(())
    }
}

fn size(key: &'static str, text: &str) -> Result<u64, (&'static str, String)> {
    parse_size(text).map_err(|error| (key, error.to_string()))
}

fn duration(key: &'static str, text: &str) -> Result<Duration, (&'static str, String)> {
    let duration = parse_duration(text).map_err(|error| (key, error.to_string()))?;
    if duration.is_zero() {
        return Err((key, "must be longer than nothing".to_owned()));
    }
    Ok(duration)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInstances {
    mode: Option<RawMode>,
    reuse: Option<u32>,
    concurrent: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    Reuse,
    Isolated,
}

impl RawInstances {
    fn apply(&self, instances: &mut Instances) -> Result<(), (&'static str, String)> {
        instances.mode = self.mode.map(|mode| match mode {
            RawMode::Reuse => Mode::Reuse,
            RawMode::Isolated => Mode::Isolated,
        });
        let positive = |key, value: Option<u32>, default| match value {
            Some(0) => Err((key, "must be at least 1".to_owned())),
            value => Ok(value.unwrap_or(default)),
        };
        instances.reuse = positive("instances.reuse", self.reuse, DEFAULT_REUSE)?;
        instances.concurrent =
            positive("instances.concurrent", self.concurrent, DEFAULT_CONCURRENT)?;
        Ok(())
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory: DEFAULT_MEMORY,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            cpu_time: DEFAULT_CPU_TIME,
            concurrency: DEFAULT_CONCURRENCY,
            body: DEFAULT_BODY,
            held: DEFAULT_HELD,
        }
    }
}

impl Default for Instances {
    fn default() -> Self {
        Self { mode: None, reuse: DEFAULT_REUSE, concurrent: DEFAULT_CONCURRENT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<Manifest, String> {
        let places = Places {
            file: "shop/plugin.toml".to_owned(),
            folder: std::env::temp_dir(),
            data: "/data/plugins/shop".into(),
            policies: NamedPolicies::default(),
        };
        Manifest::parse("shop", text, &places).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_of_the_contract_is_accepted() {
        let manifest = parse(
            r#"
            routes = ["/api/posts/{id}", "/api/articles", "GET /sse/*"]
            middleware = ["auth"]
            [capabilities]
            outbound = ["https://api.example.com"]
            files = { data = "rw" }
            keyvalue = true
            sql = true
            hub = { publish = ["orders/*"], subscribe = ["orders/*"] }
            env = ["APP_MODE"]
            [config]
            greeting = "hello"
            [limits]
            memory = "64MiB"
            request-timeout = "30s"
            cpu-time = "1s"
            concurrency = 256
            body = "10MiB"
            [instances]
            mode = "reuse"
            reuse = 1024
            concurrent = 16
            [cache]
            [[schedule]]
            every = "5s"
            name = "tick"
            "#,
        )
        .expect("it is the contract's own example");

        assert_eq!(manifest.routes.len(), 3);
        assert_eq!(manifest.capabilities.files[0].host, Path::new("/data/plugins/shop/data"));
        assert_eq!(manifest.limits, PluginLimits::default());
        assert!(manifest.strip_prefix.is_none());
    }

    #[test]
    fn mistakes_name_the_key_and_what_to_write() {
        for (text, expected) in [
            ("rotues = []", "did you mean `routes`"),
            ("[limits]\nmemmory = \"1MiB\"", "did you mean `memory`"),
            ("[limits]\nrequest-timeout = \"0s\"", "limits.request-timeout"),
            ("[limits]\nmemory = \"1\"", "limits.memory"),
            ("routes = [\"api\"]", "\"api\": the path must begin with `/`"),
            ("routes = [\"/a\", \"/a\"]", "there twice"),
            ("[instances]\nmode = \"reused\"", "reuse"),
            ("[instances]\nreuse = 0", "must be at least 1"),
            ("[capabilities]\nfiles = { data = \"w\" }", "neither \"r\" nor \"rw\""),
            ("[capabilities]\nfiles = { \"./no-such-folder\" = \"r\" }", "no-such-folder"),
            ("[config]\nlist = [1]", "config.list"),
            ("middleware = [\"shop\"]", "cannot wrap itself"),
            ("[static]\n\"/a\" = \"no-such-folder\"", "no-such-folder"),
            ("[static]\n\"/a\" = \"..\"", "names no folder below"),
            ("[static]\n\"/a\" = \"public/../..\"", "names no folder below"),
            ("[static]\n\"/a\" = \".\"", "names no folder below"),
            ("[static]\n\"/a\" = \"/etc\"", "names no folder below"),
        ] {
            let error = parse(text).expect_err(text);

            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("shop/plugin.toml"), "{error}");
        }
    }

    #[test]
    fn static_folders_claim_literal_paths_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("public")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("out")).unwrap();
        let parse = |text: &str| {
            let places = Places {
                file: "plugin.toml".to_owned(),
                folder: folder.path().to_owned(),
                data: "/data".into(),
                policies: NamedPolicies::default(),
            };
            Manifest::parse("shop", text, &places).map_err(|error| error.to_string())
        };
        let patterns = |text: &str| -> Vec<String> {
            let manifest = parse(text).unwrap();
            let patterns = manifest.patterns().filter(|(_, folder)| folder.is_some());
            patterns.map(|(pattern, _)| pattern.to_string()).collect()
        };

        let assets = "[static]\n\"/assets\" = \"public\"";
        assert_eq!(patterns(assets), ["/shop/assets", "/shop/assets/*"]);
        let routes = "routes = [\"/api/*\"]\n";
        assert_eq!(patterns(&format!("{routes}{assets}")), ["/assets", "/assets/*"]);
        let all = "[static]\n\"/\" = \"./public\"";
        assert_eq!(patterns(&format!("{routes}{all}")), ["/", "/*"]);
        for (text, expected) in [
            (all.to_owned(), "is a route of this plugin already"),
            ("[static]\n\"/a\" = \"out\"".to_owned(), "leads out"),
            ("[static]\n\"/a\" = \"file\"".to_owned(), "is not a folder"),
            ("[static]\n\"a\" = \"public\"".to_owned(), "such as"),
            ("[static]\n\"/a/\" = \"public\"".to_owned(), "such as"),
            ("[static]\n\"/{a}\" = \"public\"".to_owned(), "such as"),
            ("[static]\n\"/*\" = \"public\"".to_owned(), "such as"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn without_routes_the_name_is_the_prefix() {
        let manifest = parse("[config]\na = 1").expect("nothing is wrong with it");

        assert_eq!(manifest.strip_prefix.as_deref(), Some("/shop"));
        assert_eq!(manifest.routes[1].text.as_ref(), "/shop/*");
        assert_eq!(manifest.config["a"], "1");
    }
}
