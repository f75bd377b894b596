//! Running other programs and telling the user how it goes. Every command starts from `command`,
//! which keeps what `cargo run` put into our own environment away from the programs behind it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a program under a time limit is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long a registry may take to answer a small question.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// A command without the variables that `cargo run` adds for the program it runs.
///
/// Build scripts of several crates (ring's for one) name them as inputs: inherited, they would make
/// `cargo build` and `cargo xtask` rebuild each other's work.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let one_of = ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME"];
        if one_of.contains(&name) || name.starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end, with our output and without input.
///
/// # Errors
/// When the program cannot be started or does not end with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_run(command))?;
    check(command, status)
}

/// Runs to the end and gives the standard output.
///
/// # Errors
/// As `run`.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| cannot_run(command))?;
    check(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs without output for at most `limit`; false also where the program is missing.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(POLL),
            Ok(Some(status)) => return status.success(),
            Err(_) => break,
        }
    }
    // It may have ended in between; there is nothing to do about either failure.
    let _killed = child.kill();
    let _reaped = child.wait();
    false
}

/// Runs an install from a package registry; false where `probe`, a small question to that registry, is
/// not answered. Asking first spares the user an installer's many retries.
///
/// # Errors
/// When the registry answers and the install fails all the same.
pub fn install(installer: &mut Command, probe: &mut Command) -> Result<bool> {
    if !succeeds_within(probe, PROBE_LIMIT) {
        return Ok(false);
    }
    match run(installer) {
        Ok(()) => Ok(true),
        Err(_) if !succeeds_within(probe, PROBE_LIMIT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The program's path, if `PATH` has it.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Says what is about to be done.
pub fn say(text: &str) {
    println!("xtask: {text}");
}

/// Does one step, printing its name before and its duration after.
///
/// # Errors
/// The step's, with its name.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("{name} …"));
    let start = Instant::now();
    let result = work().with_context(|| format!("`{name}` failed"))?;
    say(&format!("{name}: done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(result)
}

/// The folder of the user's cache that is ours, made if it is missing.
///
/// # Errors
/// When there is neither `XDG_CACHE_HOME` nor `HOME`, or the folder cannot be made.
pub fn cache_folder() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path),
        None => {
            let home = env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
            PathBuf::from(home).join(".cache")
        }
    };
    let folder = base.join("wharf");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Takes any end but a good one for an error.
///
/// # Errors
/// With the command as a user would have typed it.
pub fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run {}", line(command))
}

/// What a user would have typed.
pub fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    format!("`{}`", words.join(" "))
}
