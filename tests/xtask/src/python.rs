//! Builds the plugins in Python: `componentize-py` makes one component of CPython and `app.py`. It comes
//! from PyPI, pinned, into a virtual environment in the user's cache. A machine without Python goes
//! without these plugins.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guests::{Built, fingerprint, place, place_interfaces};
use crate::run::{cache_folder, command, install, run, say, which};

const COMPONENTIZE: &str = "componentize-py==0.25.1";
/// The world in `wit/` that a plugin is built for.
const WORLD: &str = "plugin";
/// The package that an app imports, in this folder.
const SDK: &str = "guest-sdk/python";
/// The server's interfaces that the package imports, and those that an app exports.
const INTERFACES: [&str; 9] = [
    "cache",
    "exchange",
    "hub",
    "hub-async",
    "sse",
    "sse-async",
    "websocket",
    "websocket-async",
    "websocket-events",
];

/// Builds the plugin into its folder, unless its sources are those of the last build.
///
/// # Errors
/// When the tool cannot be installed or the plugin does not build.
pub fn build(root: &Path, plugin: &Path) -> Result<Built> {
    let wit = plugin.join("wit");
    let interfaces = wit.join("deps");
    let ours = place_interfaces(root, &wit, &INTERFACES)?;
    let sdk = root.join(SDK);
    let name = plugin.file_name().context("a plugin has a folder")?;
    let component = plugin.join(name).with_extension("wasm");
    let work = plugin.join("build");
    let stamp = work.join("sources");
    let package = sdk.join("wharf_sdk");
    let sources =
        fingerprint(COMPONENTIZE, &[plugin.join("app.py"), wit, interfaces, ours, package])?;
    if component.is_file() && fs::read_to_string(&stamp).is_ok_and(|before| before == sources) {
        return Ok(Built::Done);
    }
    let Some(python) = which("python3") else {
        return Ok(Built::Skipped("python3 is not installed".to_owned()));
    };
    let tool = match environment(&python, &[COMPONENTIZE])? {
        Ok(folder) => folder.join("bin/componentize-py"),
        Err(why) => return Ok(Built::Skipped(why.to_owned())),
    };
    fs::create_dir_all(&work)?;
    let made = work.join("component.wasm");
    run(command(tool)
        .current_dir(plugin)
        .args(["--wit-path", "wit", "--world", WORLD, "componentize", "app"])
        .args(["--python-path", ".", "--python-path"])
        .arg(sdk)
        .arg("--output")
        .arg(&made))?;
    place(&made, &component)?;
    fs::remove_file(made)?;
    fs::write(stamp, sources)?;
    Ok(Built::Done)
}

/// A virtual environment with these packages from PyPI (`NAME==VERSION`), in the user's cache, made if it
/// is missing; else why it cannot be.
///
/// # Errors
/// When PyPI answers and the package does not install.
pub fn environment(python: &Path, packages: &[&str]) -> Result<Result<PathBuf, &'static str>> {
    let cache = cache_folder()?;
    let folder = cache.join(packages.join("-").replace("==", "-"));
    // Scripts in such an environment name its path, so it cannot be made beside and renamed: this
    // file says that it is whole.
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(Ok(folder));
    }
    let lock = File::create(cache.join("python.lock"))?;
    lock.lock().context("cannot lock the cache folder")?;
    if whole.exists() {
        return Ok(Ok(folder));
    }
    let check = command(python).args(["-c", "import ensurepip, venv"]).output()?;
    if !check.status.success() {
        return Ok(Err("python3 cannot make a virtual environment (Debian: install python3-venv)"));
    }
    say(&format!("installing {} from PyPI: once", packages.join(", ")));
    run(command(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = |arguments: &[&str]| {
        let mut pip = command(folder.join("bin/python"));
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments);
        pip
    };
    let mut installer = pip(&[&["install"], packages].concat());
    let any = packages.first().and_then(|package| package.split("==").next()).unwrap_or_default();
    let mut probe = pip(&["index", "versions", any, "--retries", "1"]);
    if !install(&mut installer, &mut probe)? {
        return Ok(Err("PyPI does not answer: try again with a network"));
    }
    fs::write(whole, "")?;
    Ok(Ok(folder))
}
