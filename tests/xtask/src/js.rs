//! Builds the components in JavaScript: `esbuild` bundles an app and its packages, `componentize-js`
//! makes one component of the bundle and the engine StarlingMonkey. Both come from npm into the user's
//! cache, as the lock file of `plugins/hello-js` pins them. A machine without Node goes without these
//! components.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guests::{Built, fingerprint, place, place_interfaces};
use crate::run::{cache_folder, command, install, output, run, say, which};

/// The first Node that the tools run on.
const NODE: u32 = 20;
/// The plugin whose packages and interfaces serve every app.
const PLUGIN: &str = "plugins/hello-js";
/// The helpers that an app imports.
const SDK: &str = "guest-sdk/js";
/// The server's interfaces that the helpers import, and those that an app exports.
const INTERFACES: [&str; 6] = ["cache", "exchange", "hub", "sse", "websocket", "websocket-events"];
/// What is installed, by name in that folder.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];

/// What a component is made of, and where.
struct App {
    /// The folder with `app.js`.
    folder: PathBuf,
    /// One of the worlds in the plugin's `wit/`.
    world: &'static str,
    component: PathBuf,
    /// For what is made on the way.
    work: PathBuf,
}

/// Builds the plugin into its folder, unless its sources are those of the last build.
///
/// # Errors
/// When the registry answers and the tools do not install, or the plugin does not build.
pub fn build(root: &Path, plugin: &Path) -> Result<Built> {
    let name = plugin.file_name().context("a plugin has a folder")?;
    let app = App {
        folder: plugin.to_owned(),
        world: "plugin",
        component: plugin.join(name).with_extension("wasm"),
        work: plugin.join("build"),
    };
    app.build(root)
}

/// Builds the Hono app of the tests, which knows no interface of ours.
///
/// # Errors
/// As `build`.
pub fn build_foreign(root: &Path, component: &Path) -> Result<Built> {
    let app = App {
        folder: root.join("tests/guests/foreign-hono"),
        world: "wasi:http/proxy@0.2.10",
        component: component.to_owned(),
        work: component.with_extension("build"),
    };
    app.build(root)
}

impl App {
    fn build(&self, root: &Path) -> Result<Built> {
        let shared = root.join(PLUGIN);
        let packages = PACKAGES.map(|file| shared.join(file));
        let wit = shared.join("wit");
        let interfaces = wit.join("deps");
        let ours = place_interfaces(root, &wit, &INTERFACES)?;
        let [manifest, lock] = &packages;
        let sources = fingerprint(
            include_str!("js.rs"),
            &[
                &self.folder.join("app.js"),
                &root.join(SDK),
                manifest,
                lock,
                &wit,
                &interfaces,
                &ours,
            ],
        )?;
        let stamp = self.work.join("sources");
        let is_unchanged = fs::read_to_string(&stamp).is_ok_and(|before| before == sources);
        if self.component.is_file() && is_unchanged {
            return Ok(Built::Done);
        }
        let modules = match installed(&packages, "esbuild and componentize-js (200 MB)", "esbuild")?
        {
            Ok(modules) => modules,
            Err(missing) => return Ok(Built::Skipped(missing)),
        };
        fs::create_dir_all(&self.work)?;
        run(command(modules.join(".bin/esbuild"))
            .current_dir(&self.folder)
            .env("NODE_PATH", &modules)
            // What the component imports is not in any package.
            .args(["app.js", "--bundle", "--format=esm", "--external:wharf:*"])
            .arg("--log-level=warning")
            .arg(format!("--outfile={}", self.work.join("bundle.js").display())))?;
        run(command(modules.join(".bin/componentize-js"))
            .current_dir(&self.work)
            .args(["bundle.js", "--world-name", self.world, "--out", "component.wasm", "--wit"])
            .arg(wit))?;
        let made = self.work.join("component.wasm");
        place(&made, &self.component)?;
        fs::remove_file(made)?;
        fs::write(stamp, sources)?;
        Ok(Built::Done)
    }
}

/// The folder `node_modules` with the packages of a `package.json` and its lock file, installed in the
/// user's cache if they are missing; else what is missing for that. `what` is told to the user; `one` is
/// one of the packages, to ask the registry for.
///
/// # Errors
/// When the registry answers and the packages do not install.
pub fn installed(packages: &[PathBuf], what: &str, one: &str) -> Result<Result<PathBuf, String>> {
    let Some(node) = which("node") else {
        return Ok(Err("node is not installed".to_owned()));
    };
    let version = output(command(node).arg("--version"))?;
    if major(&version).is_none_or(|major| major < NODE) {
        return Ok(Err(format!("node is {version}, and {NODE} or newer is needed")));
    }
    let cache = cache_folder()?;
    let folder = cache.join(format!("js-{}", fingerprint((), packages)?));
    let modules = folder.join("node_modules");
    if modules.exists() {
        return Ok(Ok(modules));
    }
    let Some(npm) = which("npm") else {
        return Ok(Err("npm is not installed".to_owned()));
    };
    let lock = File::create(cache.join("js.lock"))?;
    lock.lock().context("cannot lock the cache folder")?;
    if modules.exists() {
        return Ok(Ok(modules));
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    for file in packages {
        fs::copy(file, partial.join(file.file_name().context("a package file has a name")?))?;
    }
    say(&format!("installing {what} from npm: once"));
    let npm = |arguments: &[&str]| {
        let mut npm = command(&npm);
        npm.current_dir(&partial).args(arguments).arg("--loglevel=error");
        npm
    };
    // Tools are `devDependencies`, which NODE_ENV can switch off. No script of a package has to run.
    let mut ci = npm(&["ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let mut probe = npm(&["view", one, "version", "--prefer-online", "--fetch-retries=1"]);
    if !install(&mut ci, &mut probe)? {
        return Ok(Err("npm's registry does not answer: try again with a network".to_owned()));
    }
    fs::rename(&partial, &folder)?;
    Ok(Ok(modules))
}

/// The major number of a version such as `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}
