//! The command line: one file a command. Only here is anything printed; errors are a primary line,
//! what is behind it, and a hint.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Layer};

pub mod check;
mod serve;

/// Something went wrong while running.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration; what clap ends with, too.
pub const WRONG_USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "wharf", version, about = "Serves a folder of WebAssembly components over HTTP")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve every component in a folder, watching it
    Serve(Box<ServeArguments>),
    /// Tell what a component is, and why it would be refused
    Check {
        /// A component, or the folder of a plugin
        file: PathBuf,
    },
}

/// Precedence: flag, environment variable, wharf.toml, default.
#[derive(Debug, clap::Args)]
struct ServeArguments {
    #[command(flatten)]
    settings: Layer,
    /// Configuration file [env: WHARF_CONFIG] [default: wharf.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, print what would be in force, and exit
    #[arg(long)]
    check: bool,
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Check { file } => check::run(&file),
    }
}

/// Says `error` on standard error: the primary line, its causes, a hint.
#[expect(clippy::print_stderr, reason = "commands talk to their user")]
fn complain(error: &dyn Error, hint: Option<&str>) {
    eprintln!("error: {error}");
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries' messages hold their causes' messages.
        if !told.contains(&text) {
            eprintln!("  because: {text}");
        }
        told = text;
        cause = error.source();
    }
    if let Some(hint) = hint {
        eprintln!("  hint: {hint}");
    }
}

fn refuse_configuration(error: &ConfigError) -> ExitCode {
    complain(error, error.hint());
    ExitCode::from(WRONG_USAGE)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["wharf"].iter().chain(arguments))
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_takes_the_documented_flags() {
        let arguments = parse(&[
            "serve",
            "apps",
            "--http",
            "off",
            "--https",
            "[::1]:0",
            "--admin",
            "127.0.0.1:1",
            "--data",
            "d",
            "--tls-cert",
            "a.pem",
            "--tls-key",
            "a.key",
            "--tls-cert",
            "b.pem",
            "--tls-key",
            "b.key",
            "--http2",
            "off",
            "--http3",
            "on",
            "--early-data",
            "off",
            "--ready-file",
            "r",
            "--log-format",
            "json",
            "--config",
            "w.toml",
            "--takeover",
            "--threads",
            "2",
            "--drain-limit",
            "5s",
            "--check",
        ])
        .unwrap();

        let Command::Serve(serve) = arguments.command else { panic!("not serve") };
        assert_eq!(serve.settings.plugins, Some("apps".into()));
        assert_eq!(serve.settings.takeover.map(|switch| switch.0), Some(true));
        assert_eq!(serve.settings.tls_cert, [PathBuf::from("a.pem"), PathBuf::from("b.pem")]);
        assert_eq!(serve.settings.tls_key, [PathBuf::from("a.key"), PathBuf::from("b.key")]);
        assert!(serve.check && serve.config == Some("w.toml".into()));
    }

    #[test]
    fn wrong_usage_ends_with_2_and_names_the_nearest_flag() {
        let error = parse(&["serve", "--htttp", "off"]).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::UnknownArgument);
        assert_eq!(error.exit_code(), i32::from(WRONG_USAGE));
        assert!(error.to_string().contains("'--http'"), "{error}");

        let error = parse(&["serve", "--http", "8080"]).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(WRONG_USAGE));
        assert!(error.to_string().contains("is not an address"), "{error}");
    }
}
