//! Makes sure of the clients that others wrote and that the integration tests drive: programs of Debian's
//! packages, packages of npm's and PyPI's. `target/clients` leads to them. What cannot be had is told, here
//! and by each test that goes without.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{say, step, which};
use crate::{debian, js, python};

/// Programs, and Debian's packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("curl", "curl"),
    ("nghttp", "nghttp2-client"),
    ("h2load", "nghttp2-client"),
    ("chromium", "chromium"),
    // Symfony's client of Mercure, which most of those that are deployed are.
    ("php", "php-cli"),
    ("php", "php-symfony-mercure"),
    ("php", "php-symfony-http-client"),
];
/// Environments by their folders' names; the first has what speaks WebSocket on streams as well,
/// the last Autobahn's cases for WebSocket servers.
const PYPI: [(&str, &[&str]); 3] = [
    ("python", &["aioquic==1.7.2", "h2==4.4.1", "wsproto==1.3.2"]),
    ("mercure", &["mercure-publisher==0.1.0"]),
    ("kosoku", &["kosoku==0.1.0"]),
];
/// Where scripts and `package.json` lie.
const FOLDER: &str = "tests/clients";

/// Makes `target/clients` with `node_modules`, `python` and what else could be had.
///
/// # Errors
/// When a registry answers and its packages do not install.
pub fn ready(root: &Path) -> Result<()> {
    step("clients of the tests", || {
        programs();
        let folder = folder(root);
        fs::create_dir_all(&folder)?;
        let sources = root.join(FOLDER);
        let packages = ["package.json", "package-lock.json"].map(|file| sources.join(file));
        match js::installed(&packages, "playwright-core and others", "playwright-core")? {
            Ok(modules) => link(&modules, &folder.join("node_modules"))?,
            Err(why) => say(&format!("SKIPPED tests with clients in JavaScript: {why}")),
        }
        for (name, packages) in PYPI {
            match pypi(packages)? {
                Ok(environment) => link(&environment, &folder.join(name))?,
                Err(why) => say(&format!("SKIPPED tests with {}: {why}", packages.join(", "))),
            }
        }
        Ok(())
    })
}

/// Where the tests look for them.
pub fn folder(root: &Path) -> PathBuf {
    root.join("target/clients")
}

/// Installs what is missing, where this user may.
fn programs() {
    let missing = || PROGRAMS.into_iter().filter(|(program, _)| which(program).is_none());
    let mut packages: Vec<&str> = missing().map(|(_, package)| package).collect();
    packages.dedup();
    if !packages.is_empty()
        && let Err(error) = debian::install(&packages)
    {
        say(&format!("SKIPPED tests with {}: {error:#}", packages.join(", ")));
    }
}

fn pypi(packages: &[&str]) -> Result<Result<PathBuf, &'static str>> {
    match which("python3") {
        Some(python) => python::environment(&python, packages),
        None => Ok(Err("python3 is not installed")),
    }
}

/// A link that leads where it is wanted now.
fn link(to: &Path, at: &Path) -> Result<()> {
    if fs::read_link(at).is_ok_and(|before| before == to) {
        return Ok(());
    }
    if at.symlink_metadata().is_ok() {
        fs::remove_file(at)?;
    }
    symlink(to, at).with_context(|| format!("cannot make {}", at.display()))
}
