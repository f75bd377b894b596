//! Programs from crates.io, installed once into the user's cache, compiled to be ready soon and not to
//! be fast.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::run::{cache_folder, cargo, run, say};

/// The folder that holds the programs of `package`, installed if they are missing.
///
/// # Errors
/// When the package cannot be fetched or compiled.
pub fn installed(package: &str, version: &str, arguments: &[&str]) -> Result<PathBuf> {
    let tools = cache_folder()?.join("tools");
    fs::create_dir_all(&tools)?;
    let folder = tools.join(format!("{package}-{version}"));
    if folder.exists() {
        return Ok(folder.join("bin"));
    }
    let lock = File::create(tools.join(format!("{package}.lock")))?;
    lock.lock().context("cannot lock the cache folder")?;
    if folder.exists() {
        return Ok(folder.join("bin"));
    }
    say(&format!("installing {package} {version} from crates.io: once, a few minutes"));
    let partial = tools.join(format!("{package}-{version}.partial"));
    let target = tools.join(format!("{package}.target"));
    run(cargo()
        .args(["install", "--quiet", "--locked", "--no-track", "--force", package])
        .args(["--version", version])
        .args(arguments)
        .arg("--root")
        .arg(&partial)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0"))?;
    fs::rename(&partial, &folder)?;
    fs::remove_dir_all(target)?;
    Ok(folder.join("bin"))
}
