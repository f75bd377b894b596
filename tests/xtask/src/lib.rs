//! The project's own commands, `cargo xtask COMMAND`: everything between a clean clone and a running
//! server, and what CI runs. Needs cargo and nothing else; what more is needed it makes sure of, and
//! says so.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands talk to their user")]

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, command, line, run, say, step};

pub mod c;
pub mod cache_tests;
pub mod checks;
pub mod clients;
pub mod debian;
pub mod guests;
pub mod js;
pub mod python;
pub mod run;
pub mod toolchain;
pub mod tools;

const USAGE: &str = "\
cargo xtask demo             build the server and the sample plugins, and serve them
cargo xtask test [--quick]   every check, as CI runs them; --quick without doc and deny
cargo xtask guests           build the sample plugins into their folders below plugins/
cargo xtask guests --tests   build the guests of the integration tests into target/guests
cargo xtask clients          make sure of the clients that the integration tests drive
cargo xtask cache-tests      run the public suite for HTTP caches through plugins/proxy
cargo xtask bench [NAME]     run the load tests, or one of them

Guests are built with rustup's wasm32-wasip2 where it can be had, else with Debian's toolchain, made
once in the user's cache. WHARF_GUEST_TOOLCHAIN=active or =debian leaves no choice.";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&arguments) {
        Ok(Known::Command) => ExitCode::SUCCESS,
        Ok(Known::Nothing) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("xtask: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the arguments were a command.
enum Known {
    Command,
    Nothing,
}

fn dispatch(arguments: &[&str]) -> Result<Known> {
    // Set by cargo at run time; a binary that is started alone knows where it was compiled.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.ancestors().nth(2).context("tests/xtask lies in the repository")?;
    // As cargo sees it now: `cargo test` replaces this very program while it runs.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(2).context("cargo has a target folder")?;
    env::set_current_dir(root).with_context(|| format!("no folder {}", root.display()))?;
    match arguments {
        ["demo"] => demo(root, target)?,
        ["test" | "ci"] => checks::test(root, false)?,
        ["test", "--quick"] => checks::test(root, true)?,
        ["guests"] => guests::plugins(root)?,
        ["guests", "--tests"] => guests::for_tests(root)?,
        ["clients"] => clients::ready(root)?,
        ["cache-tests", rest @ ..] => cache_tests::cache_tests(root, target, rest)?,
        ["bench", rest @ ..] => bench(root, rest)?,
        ["help" | "--help" | "-h"] => println!("{USAGE}"),
        _ => return Ok(Known::Nothing),
    }
    Ok(Known::Command)
}

fn demo(root: &Path, target: &Path) -> Result<()> {
    guests::plugins(root)?;
    build_server()?;
    say("when it is ready, from this folder:");
    println!("  curl --cacert .wharf/dev-cert/ca.pem https://localhost:8443/");
    // In our place: Ctrl-C and the exit code are the server's.
    let mut wharf = command(target.join("release/wharf"));
    wharf.args(["serve", "plugins"]);
    let error = wharf.exec();
    bail!("cannot run {}: {error}", line(&wharf));
}

fn bench(root: &Path, arguments: &[&str]) -> Result<()> {
    guests::plugins(root)?;
    guests::for_tests(root)?;
    build_server()?;
    run(cargo()
        .args(["run", "--release", "--package", "wharf-load", "--"])
        .args(arguments)
        .env("WHARF_GUESTS", guests::tests_folder(root)))
}

fn build_server() -> Result<()> {
    step("release build of the server (the first takes many minutes)", || {
        run(cargo().args(["build", "--release", "--package", "wharf"]))
    })
}
