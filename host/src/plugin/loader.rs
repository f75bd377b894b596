//! From a name in the plugin folder to a plugin that can be published: found, read, checked,
//! compiled, linked, started once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::Plugin;
use super::compile::Urgency;
use super::engine::Tier;
use super::load_error::LoadError;
use super::log::PluginLogs;
use super::manifest::cache::CachePolicies;
use super::manifest::{Manifest, Mode, Places};
use super::platform::Platform;
use super::program::Program;
use super::state::{Environment, GuestClock, Kept};
use super::world::World;
use crate::config::policies::NamedPolicies;
use crate::observe::metrics;
use crate::upstream::OutboundGrants;

/// Bytes of a component.
pub const MAX_COMPONENT_BYTES: u64 = 256 << 20;
/// Components below this size are compiled by Cranelift at once: Winch would save no time that
/// anybody notices, and the second swap costs more.
const SMALL_COMPONENT_BYTES: usize = 64 << 10;
/// How long a component may take to start.
const START_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Where a plugin's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The plugin's name.
    pub name: String,
    /// The component.
    pub component: PathBuf,
    /// Its manifest, if there is one.
    pub manifest: Option<PathBuf>,
    /// What the manifest's paths are relative to.
    pub folder: PathBuf,
}

/// What was read from a plugin's files.
#[derive(Debug)]
pub struct Files {
    source: Source,
    component: Vec<u8>,
    manifest: Option<String>,
    /// Content hash of the component.
    pub version: Arc<str>,
    /// Changes when any of the files does.
    pub fingerprint: blake3::Hash,
}

impl Files {
    /// The component.
    pub fn component(&self) -> &[u8] {
        &self.component
    }

    /// The manifest, if there is one.
    pub fn manifest(&self) -> Option<&str> {
        self.manifest.as_deref()
    }
}

/// Makes plugins.
#[derive(Debug)]
pub struct Loader {
    platform: Arc<Platform>,
    logs: PluginLogs,
    data: PathBuf,
    policies: NamedPolicies,
}

/// A plugin that is ready to be published.
#[derive(Debug)]
pub struct Loaded {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// How its code was compiled.
    pub tier: Tier,
}

impl Loader {
    /// A loader for `platform`; plugins' own data is below `data`, and they may use the server's
    /// cache `policies`.
    pub fn new(
        platform: Arc<Platform>,
        logs: PluginLogs,
        data: PathBuf,
        policies: NamedPolicies,
    ) -> Self {
        Self { platform, logs, data, policies }
    }

    /// What plugins run on.
    pub fn platform(&self) -> &Arc<Platform> {
        &self.platform
    }

    /// Builds what `files` hold, with the quickest compiler that is worth it. Blocks and uses the
    /// CPU for up to seconds.
    ///
    /// # Errors
    /// Whatever is wrong with the component or its manifest.
    pub fn build(&self, files: &Files) -> Result<Loaded, LoadError> {
        let world = World::of(&files.component)?;
        let manifest = Arc::new(self.manifest(files)?);
        world.check(&manifest)?;
        let mode = world.mode(&manifest);
        let small = files.component.len() <= SMALL_COMPONENT_BYTES;
        let tier = if small || self.platform.builder.is_cached(&files.version, mode) {
            Tier::Optimised
        } else {
            Tier::Baseline
        };
        let begun = Instant::now();
        let program = match self.compile(files, &world, mode, tier, Urgency::Awaited) {
            // Winch does not know every instruction.
            Err(LoadError::Compile { .. }) if tier == Tier::Baseline => {
                self.compile(files, &world, mode, Tier::Optimised, Urgency::Awaited)?
            }
            program => program?,
        };
        let tier = program.tier();
        tracing::debug!(
            plugin = files.source.name,
            tier = tier.label(),
            took_ms = begun.elapsed().as_millis(),
            "compiled"
        );
        let environment = self.environment(files, &manifest)?;
        let plugin =
            Plugin::new(&self.platform, Arc::clone(&files.version), world, program, environment);
        Ok(Loaded { plugin, tier })
    }

    /// The same component by the optimising compiler.
    ///
    /// # Errors
    /// [`LoadError::Compile`].
    pub fn optimise(&self, files: &Files, world: &World, mode: Mode) -> Result<Program, LoadError> {
        self.compile(files, world, mode, Tier::Optimised, Urgency::Background)
    }

    fn compile(
        &self,
        files: &Files,
        world: &World,
        mode: Mode,
        tier: Tier,
        urgency: Urgency,
    ) -> Result<Program, LoadError> {
        let begun = Instant::now();
        let builder = &self.platform.builder;
        let cached = tier == Tier::Optimised && builder.is_cached(&files.version, mode);
        let program =
            builder.build(&files.version, &files.component, world, mode, tier, urgency)?;
        let counted = match (cached, tier) {
            (true, _) => metrics::Tier::Cached,
            (false, Tier::Baseline) => metrics::Tier::Baseline,
            (false, Tier::Optimised) => metrics::Tier::Optimized,
        };
        self.platform.metrics.compiled(counted, begun.elapsed());
        Ok(program)
    }

    /// Instantiates a plugin once: what traps at start is refused before it is served.
    ///
    /// # Errors
    /// [`LoadError::Start`].
    pub async fn smoke(&self, plugin: &Plugin) -> Result<(), LoadError> {
        let program = plugin.program();
        let started = program.instantiate(plugin.environment(), Arc::new(GuestClock::new()));
        match tokio::time::timeout(START_TIMEOUT, started).await {
            Ok(Ok(_instance)) => Ok(()),
            Ok(Err(error)) => Err(LoadError::Start { cause: format!("{error:?}") }),
            Err(_elapsed) => Err(LoadError::Start {
                cause: format!("it is not started after {START_TIMEOUT:?}"),
            }),
        }
    }

    fn manifest(&self, files: &Files) -> Result<Manifest, LoadError> {
        let Source { name, manifest, folder, .. } = &files.source;
        let (Some(text), Some(path)) = (&files.manifest, manifest) else {
            let cache = CachePolicies::bare(self.policies.clone());
            return Ok(Manifest { cache, ..Manifest::bare(name) });
        };
        let places = Places {
            file: path.display().to_string(),
            folder: folder.clone(),
            data: self.data.join("plugins").join(name),
            policies: self.policies.clone(),
        };
        Ok(Manifest::parse(name, text, &places)?)
    }

    fn environment(
        &self,
        files: &Files,
        manifest: &Arc<Manifest>,
    ) -> Result<Environment, LoadError> {
        for grant in &manifest.capabilities.files {
            if !grant.host.exists() {
                fs::create_dir_all(&grant.host).map_err(|source| LoadError::Folder {
                    folder: grant.host.display().to_string(),
                    source,
                })?;
            }
        }
        let variable = |name: &String| Some((name.clone(), std::env::var(name).ok()?));
        let outbound = OutboundGrants::parse(&manifest.capabilities.outbound)
            .map_err(|error| LoadError::Layout(error.to_string()))?;
        Ok(Environment {
            fingerprint: files.fingerprint,
            name: files.source.name.as_str().into(),
            variables: manifest.capabilities.env.iter().filter_map(variable).collect(),
            outbound: Arc::new(outbound),
            log: self.logs.open(&files.source.name),
            services: Arc::clone(&self.platform.services),
            manifest: Arc::clone(manifest),
            kept: Kept::default(),
        })
    }
}

impl Source {
    /// Reads and hashes the files. Blocks.
    ///
    /// # Errors
    /// [`LoadError::Read`] and [`LoadError::TooLarge`].
    pub fn read(self) -> Result<Files, LoadError> {
        let failed = |path: &Path| {
            let file = path.display().to_string();
            move |source: io::Error| LoadError::Read { file, source }
        };
        let bytes = fs::metadata(&self.component).map_err(failed(&self.component))?.len();
        if bytes > MAX_COMPONENT_BYTES {
            return Err(LoadError::TooLarge { bytes, limit: MAX_COMPONENT_BYTES });
        }
        let component = fs::read(&self.component).map_err(failed(&self.component))?;
        let manifest = match &self.manifest {
            Some(path) => Some(fs::read_to_string(path).map_err(failed(path))?),
            None => None,
        };
        let hash = blake3::hash(&component);
        let mut fingerprint = blake3::Hasher::new();
        fingerprint.update(hash.as_bytes());
        if let Some(manifest) = &manifest {
            fingerprint.update(manifest.as_bytes());
        }
        Ok(Files {
            version: hash.to_hex().as_str().into(),
            fingerprint: fingerprint.finalize(),
            component,
            manifest,
            source: self,
        })
    }
}

/// Names of the plugins that `dir` seems to hold, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn scan(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Some(name) = name_of(&entry?.path()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The plugin that a direct child of the plugin folder belongs to, if any: hidden and temporary
/// files belong to none, and neither does a manifest without its component (a folder of sources
/// beside it may have one).
pub fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') || name.ends_with('~') {
        return None;
    }
    let plugin = match path.extension().and_then(|extension| extension.to_str()) {
        Some("wasm" | "toml") => path.file_stem()?.to_str()?,
        _ => name,
    };
    Some(plugin.to_owned())
}

/// Finds the files of the plugin `name`; `None` where there are none.
///
/// # Errors
/// [`LoadError::Layout`] where they are not as they must be.
pub fn find(dir: &Path, name: &str) -> Result<Option<Source>, LoadError> {
    let file = dir.join(format!("{name}.wasm"));
    let folder = dir.join(name);
    let folder_manifest = folder.join("plugin.toml");
    if file.is_file() {
        check_name(name)?;
        if folder_manifest.is_file() {
            let cause =
                format!("both {name}.wasm and the folder {name} claim the name; remove one");
            return Err(LoadError::Layout(cause));
        }
        let manifest = dir.join(format!("{name}.toml"));
        let manifest = manifest.is_file().then_some(manifest);
        let source =
            Source { name: name.to_owned(), component: file, manifest, folder: dir.to_owned() };
        return Ok(Some(source));
    }
    if !folder_manifest.is_file() {
        return Ok(None);
    }
    check_name(name)?;
    let unreadable = |source| LoadError::Read { file: folder.display().to_string(), source };
    let mut components = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden && path.extension().is_some_and(|extension| extension == "wasm") {
            components.push(path);
        }
    }
    components.sort_unstable();
    match <[PathBuf; 1]>::try_from(components) {
        Ok([component]) => Ok(Some(Source {
            name: name.to_owned(),
            component,
            manifest: Some(folder_manifest),
            folder,
        })),
        Err(none) if none.is_empty() => Err(LoadError::Layout(
            "the folder has a plugin.toml and no component; build it first".to_owned(),
        )),
        Err(several) => {
            let names: Vec<_> =
                several.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let cause = format!(
                "the folder has {} components ({}); keep one",
                several.len(),
                names.join(", ")
            );
            Err(LoadError::Layout(cause))
        }
    }
}

/// A name is a path segment, a file name and a label.
fn check_name(name: &str) -> Result<(), LoadError> {
    let fits =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if first && name.len() <= 64 && name.bytes().all(fits) {
        return Ok(());
    }
    Err(LoadError::Layout(format!(
        "`{name}` is not a plugin name: lower-case letters, digits, `.`, `-` and `_`, at most 64"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("it is inside")).expect("can be made");
            fs::write(path, "x").expect("can be written");
        }
        dir
    }

    #[test]
    fn names_come_from_files_and_folders() {
        let dir = folder(&["a.wasm", "a.toml", "b/plugin.toml", ".c.wasm", "d.wasm~", "README.md"]);

        let names = scan(dir.path()).expect("it is readable");

        assert_eq!(names, ["README.md", "a", "b"]);
        assert!(matches!(find(dir.path(), "README.md"), Ok(None)));
    }

    #[test]
    fn layouts_that_are_not_clear_are_refused() {
        for (files, name, expected) in [
            (&["a.wasm", "a/plugin.toml"][..], "a", "both"),
            (&["a/plugin.toml"], "a", "build it first"),
            (&["a/plugin.toml", "a/x.wasm", "a/y.wasm"], "a", "x.wasm, y.wasm"),
            (&["Shop.wasm"], "Shop", "not a plugin name"),
        ] {
            let dir = folder(files);

            let error = find(dir.path(), name).expect_err(expected).to_string();

            assert!(error.contains(expected), "{error}");
        }
    }
}
