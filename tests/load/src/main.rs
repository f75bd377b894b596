//! Measures `wharf serve` beside a native server of the same stack and, where it is installed,
//! `wasmtime serve`. `README.md` says what each name measures and how.
//!
//! The native server and the HTTP/3 load generator are this same program, started again with a
//! hidden command, so that nothing else has to be built.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

mod cache;
mod generators;
mod h3_client;
mod machine;
#[path = "../native/mod.rs"]
mod native;
mod neighbours;
mod realtime;
mod reload;
mod report;
mod scenarios;
mod servers;
mod transfer;

// As the host has it: an allocator would be a difference that is not the one measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about = "Measures wharf beside a native server of the same stack")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    inner: Option<Inner>,
    #[command(flatten)]
    options: Options,
    /// What to measure; all of it by default.
    #[arg(value_enum)]
    names: Vec<Name>,
}

/// The programs that the runner starts.
#[derive(Subcommand)]
enum Inner {
    #[command(hide = true)]
    Native(native::Arguments),
    #[command(hide = true)]
    H3Client(h3_client::Arguments),
}

#[derive(clap::Args, Clone)]
struct Options {
    /// Interleaved rounds; the median of them is reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    rounds: u32,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Let servers and clients use all cores.
    #[arg(long)]
    unpinned: bool,
    /// The server; the one beside this program by default.
    #[arg(long)]
    wharf: Option<PathBuf>,
    /// The folder of test guests; `target/guests` by default.
    #[arg(long, env = "WHARF_GUESTS")]
    guests: Option<PathBuf>,
    /// Of `cache` only these; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    cache_parts: Vec<cache::Part>,
    /// How long `cache` loads the server with random entries, in minutes.
    #[arg(long, default_value_t = 0.5)]
    minutes: f64,
    /// Of `realtime` only these; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<realtime::Part>,
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Hello,
    Isolated,
    Tls,
    H3,
    Neighbours,
    Reload,
    IdleMemory,
    Streams,
    Transfers,
    Files,
    Realtime,
    Cache,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.inner {
        Some(Inner::Native(arguments)) => return ended(native::run(&arguments)),
        Some(Inner::H3Client(arguments)) => return ended(h3_client::run(&arguments)),
        None => {}
    }
    let names =
        if arguments.names.is_empty() { Name::value_variants().to_vec() } else { arguments.names };
    let options = arguments.options;
    machine::quiet();
    report::header(&options);
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let measured = match name {
            Name::Hello => scenarios::hello(&options),
            Name::Isolated => scenarios::isolated(&options),
            Name::Tls => scenarios::tls(&options),
            Name::H3 => scenarios::h3(&options),
            Name::Neighbours => neighbours::neighbours(&options),
            Name::Reload => reload::reload(&options),
            Name::IdleMemory => scenarios::idle_memory(&options),
            Name::Streams => scenarios::streams(&options),
            Name::Transfers => transfer::transfers(&options),
            Name::Files => transfer::files(&options),
            Name::Realtime => realtime::realtime(&options),
            Name::Cache => cache::cache(&options),
        };
        if ended(measured) != ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Says what went wrong, if something did; the others are measured all the same.
fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("not measured: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
