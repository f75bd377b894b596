//! `wharf serve [DIR]`.

use std::env;
use std::process::ExitCode;

use super::{FAILED, ServeArguments, WRONG_USAGE, complain, refuse_configuration};
use crate::config::Config;
use crate::server::{self, Addresses};
use crate::takeover::activation;

pub(super) fn run(arguments: ServeArguments) -> ExitCode {
    let variable = |name: &str| env::var_os(name);
    let config = match Config::load(arguments.settings, arguments.config, variable) {
        Ok(config) => config,
        Err(error) => return refuse_configuration(&error),
    };
    if arguments.check {
        return show(&config);
    }
    // Before any thread runs: it changes the environment.
    let passed = match activation::from_environment(&config) {
        Ok(passed) => passed,
        Err(error) => {
            complain(&error, Some(error.hint()));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match server::run(config, passed, announce) {
        Ok(server::Outcome::Drained) => ExitCode::SUCCESS,
        Ok(server::Outcome::CutOff) => ExitCode::from(FAILED),
        Err(error) => {
            complain(&error, None);
            ExitCode::from(FAILED)
        }
    }
}

#[expect(clippy::print_stderr, reason = "commands talk to their user")]
fn announce(addresses: &Addresses) {
    if let Some(http) = addresses.http {
        eprintln!("http    http://{http}/");
    }
    if let Some(https) = addresses.https {
        let protocols = if addresses.http3 { "h1, h2 and h3" } else { "h1 and h2" };
        eprintln!("https   https://localhost:{}/  ({protocols})", https.port());
    }
    if let Some(admin) = addresses.admin {
        eprintln!("admin   http://{admin}/");
    }
    if let Some(ca) = &addresses.development_ca {
        eprintln!("trust   {}  (curl --cacert, or import it once)", ca.display());
    }
}

#[expect(clippy::print_stdout, reason = "commands talk to their user")]
fn show(config: &Config) -> ExitCode {
    match &config.file {
        Some(file) => println!("# in force, from {}, environment and flags", file.display()),
        None => println!("# in force, from environment and flags"),
    }
    print!("{}", config.to_toml());
    ExitCode::SUCCESS
}
