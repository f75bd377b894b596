//! `wharf serve [DIR]`.

use std::env;
use std::process::ExitCode;

use super::{FAILED, ServeArguments, complain, refuse_configuration};
use crate::config::Config;
use crate::server;

pub(super) fn run(arguments: ServeArguments) -> ExitCode {
    let variable = |name: &str| env::var_os(name);
    let config = match Config::load(arguments.settings, arguments.config, variable) {
        Ok(config) => config,
        Err(error) => return refuse_configuration(&error),
    };
    if arguments.check {
        return show(&config);
    }
    match server::run(config) {
        Ok(_outcome) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error, None);
            ExitCode::from(FAILED)
        }
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
