//! Clients that others wrote, as programs: curl, nghttp, Node and Chromium by Playwright, Python, PHP. The
//! scripts lie in `tests/clients`; `cargo xtask clients` makes sure of what they need. A test whose
//! client this machine lacks says so and passes, as those without their guest do.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What a client may take, a browser's start on a busy machine included.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a program from `PATH`, such as `curl`; `None`, which is said, where it is missing.
pub async fn program(name: &str, arguments: &[&str]) -> Option<Output> {
    let file = which(name).or_else(|| skipped(name))?;
    let mut command = Command::new(file);
    command.args(arguments);
    Some(finish(command).await)
}

/// Runs `tests/clients/SCRIPT` in Node; what it printed as JSON.
pub async fn node(script: &str, arguments: &[&str]) -> Option<Value> {
    let modules = tools().join("node_modules");
    if !modules.exists() {
        return skipped("Node's packages");
    }
    let node = which("node").or_else(|| skipped("node"))?;
    // Node looks for packages beside the script.
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink(&modules, folder.path().join("node_modules")).unwrap();
    let copy = folder.path().join(script);
    std::fs::copy(scripts().join(script), &copy).unwrap();
    let mut command = Command::new(node);
    // Its own certificate authority is each script's argument, if it checks one.
    command.arg(copy).args(arguments);
    if let Some(chromium) = which("chromium") {
        command.env("CHROMIUM", chromium);
    }
    let output = finish(command).await;
    Some(json(&output.stdout, &output.stderr))
}

/// As [`node`], for a script that drives Chromium. One at a time: a browser is a dozen processes, and
/// several at once keep each other from their deadlines on a small machine.
pub async fn browser(script: &str, arguments: &[&str]) -> Option<Value> {
    static ONE: Semaphore = Semaphore::const_new(1);
    which("chromium").or_else(|| skipped("chromium"))?;
    let _turn = ONE.acquire().await.expect("it is never closed");
    node(script, arguments).await
}

/// Runs `tests/clients/SCRIPT` in the Python that has aioquic; its lines of JSON.
pub async fn python(script: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    python_of("python", "aioquic", script, arguments).await
}

/// As [`python`], in the one that has kosoku; the script's one line.
pub async fn kosoku(script: &str, arguments: &[&str]) -> Option<Value> {
    python_of("kosoku", "kosoku", script, arguments).await?.pop()
}

/// Runs `tests/clients/SCRIPT` in the Python that has mercure-publisher; its lines of JSON.
pub async fn mercure_publisher(script: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    python_of("mercure", "mercure-publisher", script, arguments).await
}

async fn python_of(
    folder: &str,
    package: &str,
    script: &str,
    arguments: &[&str],
) -> Option<Vec<Value>> {
    let python = tools().join(folder).join("bin/python");
    if !python.exists() {
        return skipped(package);
    }
    let mut command = Command::new(python);
    command.arg(scripts().join(script)).args(arguments);
    let output = finish(command).await;
    let lines = output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    Some(lines.map(|line| json(line, &output.stderr)).collect())
}

/// Runs `tests/clients/SCRIPT` in PHP with Debian's package of Symfony's client of Mercure; what it printed
/// as JSON.
pub async fn symfony_mercure(script: &str, arguments: &[&str]) -> Option<Value> {
    let php = which("php").or_else(|| skipped("php"))?;
    if !Path::new("/usr/share/php/Symfony/Component/Mercure/autoload.php").exists() {
        return skipped("php-symfony-mercure");
    }
    let mut command = Command::new(php);
    command.arg(scripts().join(script)).args(arguments);
    let output = finish(command).await;
    Some(json(&output.stdout, &output.stderr))
}

async fn finish(mut command: Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await;
    output.unwrap_or_else(|_| panic!("{command:?} took longer than {LIMIT:?}")).unwrap()
}

fn json(text: &[u8], told: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| {
        let (text, told) = (String::from_utf8_lossy(text), String::from_utf8_lossy(told));
        panic!("no JSON: {error}: {text}\n{told}")
    })
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn tools() -> PathBuf {
    std::env::var_os("WHARF_CLIENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"),
        PathBuf::from,
    )
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn skipped<T>(what: &str) -> Option<T> {
    let text = format!("SKIPPED: a test without its client, {what}: see `cargo xtask clients`\n");
    // Not `eprintln!`: of a test that passes, cargo shows nothing printed so.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    None
}
