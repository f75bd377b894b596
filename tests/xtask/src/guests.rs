//! Builds components: the sample plugins, each into its own folder (`plugins/NAME/NAME.wasm`), and the
//! guests of the integration tests (`target/guests/NAME.wasm`). Those in Rust are one run of cargo a
//! workspace; other languages have a file each, and may be skipped where their tools cannot be had.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{check, line, say, step};
use crate::toolchain::{TARGET, Toolchain};

/// What became of a plugin that is not written in Rust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// Its component is in its folder, new or unchanged.
    Done,
    /// Its tools are missing on this machine; why, for the user.
    Skipped(String),
}

/// Builds one plugin, given the repository's root and the plugin's folder.
type Build = fn(&Path, &Path) -> Result<Built>;

/// The plugins that cargo does not build, by folder.
const OTHER_LANGUAGES: &[(&str, Build)] = &[
    ("hello-python", crate::python::build),
    ("hello-js", crate::js::build),
    ("hello-c", crate::c::build),
];

/// The guest of the tests that cargo does not build.
const FOREIGN_HONO: &str = "foreign_hono";
/// The extension of the file that stands for a guest that was not built; the harness knows it too.
const SKIPPED: &str = "skipped";

/// A component that cargo built.
struct Component {
    name: String,
    /// Of the package.
    folder: PathBuf,
    file: PathBuf,
}

/// Builds every sample plugin into its own folder, and says which were skipped.
///
/// # Errors
/// When one does not build. A skipped one is no error.
pub fn plugins(root: &Path) -> Result<()> {
    let mut skipped = Vec::new();
    step("plugins in Rust", || {
        for component in cargo_build(root, &root.join("plugins"))? {
            let name = component.folder.file_name().context("a package has a folder")?;
            place(&component.file, &component.folder.join(name).with_extension("wasm"))?;
        }
        Ok(())
    })?;
    for (name, build) in OTHER_LANGUAGES {
        let plugin = root.join("plugins").join(name);
        // For the plugin's tests to tell.
        let mark = plugin.join(name).with_extension(SKIPPED);
        if let Built::Skipped(why) = step(&format!("plugin {name}"), || build(root, &plugin))? {
            say(&format!("SKIPPED {name}: {why}"));
            fs::write(mark, &why)?;
            skipped.push((*name, why));
        } else if mark.exists() {
            fs::remove_file(mark)?;
        }
    }
    if !skipped.is_empty() {
        say("these plugins were not built and will not be served:");
        for (name, why) in skipped {
            say(&format!("  {name}: {why}"));
        }
    }
    Ok(())
}

/// Builds the guests of the integration tests into `folder`, and removes those that are no more.
///
/// # Errors
/// When one does not build.
pub fn for_tests(root: &Path) -> Result<()> {
    step("guests of the tests", || {
        let folder = tests_folder(root);
        fs::create_dir_all(&folder)?;
        let mut kept = Vec::new();
        for component in cargo_build(root, &root.join("tests/guests"))? {
            let path = folder.join(component.name).with_extension("wasm");
            place(&component.file, &path)?;
            kept.push(path);
        }
        kept.push(foreign_hono(root, &folder)?);
        for file in fs::read_dir(&folder)? {
            let path = file?.path();
            let is_ours = path.extension().is_some_and(|kind| kind == "wasm" || kind == SKIPPED);
            if is_ours && !kept.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    })
}

/// Builds the guest in JavaScript, or leaves `NAME.skipped` with the reason, for its test to tell. Gives
/// the file.
fn foreign_hono(root: &Path, folder: &Path) -> Result<PathBuf> {
    let component = folder.join(FOREIGN_HONO).with_extension("wasm");
    let Built::Skipped(why) = crate::js::build_foreign(root, &component)? else {
        return Ok(component);
    };
    say(&format!("SKIPPED {FOREIGN_HONO} and its test: {why}"));
    let skipped = component.with_extension(SKIPPED);
    fs::write(&skipped, why)?;
    Ok(skipped)
}

/// Where the tests look for their guests: `WHARF_GUESTS`, as there.
pub fn tests_folder(root: &Path) -> PathBuf {
    root.join(env::var_os("WHARF_GUESTS").unwrap_or_else(|| "target/guests".into()))
}

/// Builds a workspace for wasm32-wasip2. All share a target folder, and so what generates bindings.
fn cargo_build(root: &Path, workspace: &Path) -> Result<Vec<Component>> {
    let toolchain = Toolchain::ready()?;
    let target = root.join("target/guests/build");
    start_anew_for(&toolchain, &target)?;
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--workspace",
            "--lib",
            "--bins",
            "--examples",
            "--release",
            "--target",
            TARGET,
        ])
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(&target)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = cargo.output().with_context(|| format!("cannot run {}", line(&cargo)))?;
    check(&cargo, output.status)?;

    let mut components = Vec::new();
    for message in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(message).context("cargo wrote no JSON")?;
        let package = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
        if message["reason"] != "compiler-artifact" || !package.starts_with(workspace) {
            continue;
        }
        let files = message["filenames"].as_array().into_iter().flatten();
        for file in files.filter_map(Value::as_str).filter(|file| file.ends_with(".wasm")) {
            let file = PathBuf::from(file);
            let stem = file.file_stem().context("a component has a name")?;
            components.push(Component {
                name: stem.to_string_lossy().replace('-', "_"),
                folder: package.parent().context("a manifest has a folder")?.to_owned(),
                file,
            });
        }
    }
    if components.is_empty() {
        bail!("{} has no components", workspace.display());
    }
    Ok(components)
}

/// Empties the target folder if another toolchain filled it: cargo sees only rustc's version, and would
/// go on with a standard library that is not there any more.
fn start_anew_for(toolchain: &Toolchain, target: &Path) -> Result<()> {
    let identity = toolchain.identity()?;
    let stamp = target.join("toolchain");
    if fs::read_to_string(&stamp).is_ok_and(|before| before == identity) {
        return Ok(());
    }
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    fs::create_dir_all(target)?;
    fs::write(stamp, identity)?;
    Ok(())
}

/// Tells one state of what a component is made of from another: of files, of the files right in folders,
/// and of what else `with` counts.
///
/// # Errors
/// When one cannot be read.
pub fn fingerprint(with: impl Hash, paths: &[impl AsRef<Path>]) -> Result<String> {
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let cannot_read = || format!("cannot read {}", path.display());
        if !path.is_dir() {
            files.push(path.to_owned());
            continue;
        }
        for entry in fs::read_dir(path).with_context(cannot_read)? {
            files.push(entry.with_context(cannot_read)?.path());
        }
    }
    files.retain(|path| !path.is_dir());
    files.sort();
    let mut hasher = DefaultHasher::new();
    with.hash(&mut hasher);
    for path in files {
        path.file_name().hash(&mut hasher);
        fs::read(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Copies interfaces of the server's into a plugin's `wit/deps/wharf/`: tools read none from outside of
/// `wit/`. Gives that folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn place_interfaces(root: &Path, wit: &Path, names: &[&str]) -> Result<PathBuf> {
    let folder = wit.join("deps/wharf");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in names {
        let file = Path::new(name).with_extension("wit");
        place(&root.join("wit").join(&file), &folder.join(&file))?;
    }
    // A package cannot be in two places, and this is where a build before there was a folder put it.
    let single = folder.with_extension("wit");
    if single.exists() {
        fs::remove_file(&single).with_context(|| format!("cannot remove {}", single.display()))?;
    }
    Ok(folder)
}

/// Copies a file if its bytes changed, whole or not at all: a server may be watching the folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn place(from: &Path, to: &Path) -> Result<()> {
    let component = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|before| before == component) {
        return Ok(());
    }
    let name = to.file_name().context("a component has a name")?.to_string_lossy();
    let partial = to.with_file_name(format!(".{name}.partial"));
    fs::write(&partial, component)
        .and_then(|()| fs::rename(&partial, to))
        .with_context(|| format!("cannot write {}", to.display()))
}
