//! `wharf check FILE`: what a component is, and why it would be refused.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::policies::NamedPolicies;
use crate::plugin::code_cache::CodeCache;
use crate::plugin::compile::Urgency;
use crate::plugin::engine::{Engines, Tier};
use crate::plugin::load_error::LoadError;
use crate::plugin::loader::{Files, Source};
use crate::plugin::manifest::{Manifest, Places};
use crate::plugin::program::Builder;
use crate::plugin::world::World;

/// Runs the command.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "commands talk to their user")]
pub(super) fn run(file: &Path) -> ExitCode {
    match check(file) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err((report, error)) => {
            print!("{report}");
            eprintln!("error: {} would be refused: {error}", file.display());
            ExitCode::from(super::FAILED)
        }
    }
}

fn check(file: &Path) -> Result<String, (String, LoadError)> {
    let mut report = String::new();
    match examine(file, &mut report) {
        Ok(()) => Ok(report),
        Err(error) => Err((report, error)),
    }
}

fn examine(file: &Path, report: &mut String) -> Result<(), LoadError> {
    let source = source(file)?;
    let name = source.name.clone();
    let folder = source.folder.clone();
    let manifest_file = source.manifest.clone();
    let files: Files = source.read()?;
    let mut line = |key: &str, value: &str| {
        report.push_str(&format!("{key:<14}{value}\n"));
    };
    line("plugin", &name);
    line("version", &files.version);
    line("size", &format!("{} bytes", files.component().len()));
    let world = World::of(files.component())?;
    line("world", &world.to_string());
    for import in &world.imports {
        line("import", import);
    }
    for export in &world.exports {
        line("export", export);
    }
    let manifest = match (&manifest_file, files.manifest()) {
        (Some(path), Some(text)) => {
            let places = Places {
                file: path.display().to_string(),
                folder,
                data: PathBuf::from(crate::config::DEFAULT_DATA).join("plugins").join(&name),
                policies: NamedPolicies::default(),
            };
            Manifest::parse(&name, text, &places)?
        }
        _ => Manifest::bare(&name),
    };
    for route in &manifest.routes {
        line("route", &route.text);
    }
    for wrapping in &manifest.middleware {
        line("middleware", wrapping);
    }
    for schedule in manifest.schedules.iter() {
        line("schedule", &format!("{} ({})", schedule.name, schedule.timing));
    }
    let mode = world.mode(&manifest);
    line("mode", mode.label());
    let granted = &manifest.capabilities;
    for origin in &granted.outbound {
        line("outbound", origin);
    }
    if granted.outbound_host {
        line("outbound-host", "granted");
    }
    for grant in &granted.files {
        let access = if grant.write { "rw" } else { "r" };
        line("files", &format!("{} ({access}, {})", grant.guest, grant.host.display()));
    }
    for variable in &granted.env {
        line("env", variable);
    }
    if granted.registry {
        line("registry", "granted");
    }
    if granted.metrics {
        line("metrics", "granted");
    }
    for (pattern, policy) in manifest.cache.iter() {
        let what = match (policy.enabled, &policy.options.policy, &policy.options.default) {
            (false, _, _) => "off".to_owned(),
            (true, Some(policy), _) => format!("always {}", policy.text()),
            (true, None, Some(default)) => format!("by default {}", default.text()),
            (true, None, None) => "as the answer says".to_owned(),
        };
        let paths = pattern.map_or("all other paths", |pattern| &pattern.text);
        line("cache", &format!("{paths}: {what}"));
    }
    world.check(&manifest)?;
    // Linking is what finds imports that the host lacks; the baseline compiler gets there soonest.
    let failed =
        |error: crate::plugin::EngineError| LoadError::Compile { cause: format!("{error:#}") };
    let engines = Arc::new(Engines::new().map_err(failed)?);
    let builder = Builder::new(engines, CodeCache::none()).map_err(failed)?;
    let build = |tier| {
        let (version, bytes) = (&files.version, files.component());
        builder.build(version, bytes, &world, mode, tier, Urgency::Awaited)
    };
    match build(Tier::Baseline) {
        Err(LoadError::Compile { .. }) => build(Tier::Optimised)?,
        program => program?,
    };
    Ok(())
}

/// A bare file with the manifest beside it, or the component in a plugin's folder.
fn source(file: &Path) -> Result<Source, LoadError> {
    let name_of = |path: &Path| {
        path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned()
    };
    let parent = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let folder_manifest = parent.join("plugin.toml");
    if folder_manifest.is_file() {
        let folder = parent.canonicalize().unwrap_or_else(|_| parent.clone());
        return Ok(Source {
            name: name_of(&folder),
            component: file.to_owned(),
            manifest: Some(folder_manifest),
            folder: parent,
        });
    }
    let manifest = file.with_extension("toml");
    Ok(Source {
        name: name_of(file),
        component: file.to_owned(),
        manifest: manifest.is_file().then_some(manifest),
        folder: parent,
    })
}
