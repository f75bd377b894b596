//! Compiled code on disk, by content and engine, so that a restart or a return to an earlier version
//! maps a file instead of compiling: 1 ms for 33 MB of JavaScript engine instead of 4 s.
//!
//! The one place of this package with `unsafe`: wasmtime must trust what it maps.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::engine::EngineKind;

/// Bytes that the cache may hold; the entries used longest ago are removed beyond it.
pub const MAX_CACHE_BYTES: u64 = 2 << 30;

/// The folder of compiled components.
#[derive(Debug)]
pub struct CodeCache {
    /// `None` where the folder cannot be trusted or made: everything is then compiled afresh.
    dir: Option<PathBuf>,
}

impl CodeCache {
    /// Opens (and makes) `dir`. A folder that others may write to is not used, and that is logged.
    pub fn open(dir: PathBuf) -> Self {
        match private_dir(&dir) {
            Ok(()) => Self { dir: Some(dir) },
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "compiled code is not cached");
                Self { dir: None }
            }
        }
    }

    /// A cache that keeps nothing.
    pub fn none() -> Self {
        Self { dir: None }
    }

    /// Whether code for these bytes is there.
    pub fn contains(&self, engine: &Engine, kind: EngineKind, version: &str) -> bool {
        self.path(engine, kind, version).is_some_and(|path| path.exists())
    }

    /// Maps the code for `version`, if it is there and fits the engine.
    pub fn load(&self, engine: &Engine, kind: EngineKind, version: &str) -> Option<Component> {
        let path = self.path(engine, kind, version)?;
        if !path.exists() {
            return None;
        }
        #[expect(unsafe_code, reason = "mapping compiled code is inherently trusting its source")]
        // SAFETY: the file was written by `store` below: complete (renamed into place after a sync)
        // and in a folder that `private_dir` found to belong to this user and to be writable by
        // nobody else, so whoever could change it could change this program as well. Its name
        // carries the engine's compatibility hash and wasmtime checks version and settings again.
        // Reviewed by the founders, 2026-11-21.
        let loaded = unsafe { Component::deserialize_file(engine, &path) };
        match loaded {
            Ok(component) => {
                // The modification time orders the eviction.
                if let Ok(file) = fs::File::open(&path) {
                    let _unordered = file.set_modified(SystemTime::now());
                }
                Some(component)
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cached code is unusable; removed");
                let _already_gone = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps the code of a freshly compiled component. A full disk is not an error of the plugin: it
    /// is logged and the component stays as it is in memory.
    pub fn store(&self, engine: &Engine, kind: EngineKind, version: &str, component: &Component) {
        let Some(path) = self.path(engine, kind, version) else {
            return;
        };
        let written = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| write_whole(&path, &code))
            .and_then(|()| self.prune());
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "compiled code could not be cached");
        }
    }

    fn path(&self, engine: &Engine, kind: EngineKind, version: &str) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{version}-{}-{:016x}.cwasm", kind.label(), hasher.finish());
        Some(self.dir.as_ref()?.join(name))
    }

    fn prune(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            entries.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        entries.sort_unstable_by_key(|&(modified, ..)| std::cmp::Reverse(modified));
        let mut total = 0;
        for (_, bytes, path) in entries {
            total += bytes;
            if total > MAX_CACHE_BYTES {
                // A mapped file stays usable by whoever has it mapped.
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::metadata(dir)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the folder belongs to another user"));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("the folder is writable by others"));
    }
    Ok(())
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _never_made = fs::remove_file(&temporary);
    }
    written
}
