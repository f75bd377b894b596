//! The machine: keeping it quiet for a measurement, placing processes, reading what they used.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::report;

/// Where a process may run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first core: servers.
    ServerCore,
    /// The second core: clients.
    ClientCore,
    /// Anywhere.
    Anywhere,
}

/// Takes this process, and so all that it starts, into a session of its own with the highest
/// autogroup priority: `nice` counts for nothing against other sessions where the kernel groups by
/// session.
pub(crate) fn quiet() {
    // Fails where this already leads a session or group: then it is one of its own.
    let _leads = rustix::process::setsid();
    if fs::write("/proc/self/autogroup", "-19").is_err() {
        report::say("no right to raise the autogroup's priority: expect a wider spread");
    }
}

/// Keeps this thread, and what it starts, to `place`.
pub(crate) fn keep_to(place: Place) -> Result<()> {
    let core = match place {
        Place::ServerCore => 0,
        Place::ClientCore => 1,
        Place::Anywhere => return Ok(()),
    };
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).context("no such core")
}

/// Lets this process, and what it starts, open as many files as it may.
pub(crate) fn allow_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        report::say("no right to open more files");
    }
}

/// A process, its children and theirs.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten();
        let children: Vec<u32> = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// Whether a program is on the PATH.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A command that runs in `place`.
pub(crate) fn placed(program: &str, place: Place) -> Command {
    let core = match place {
        Place::ServerCore => "0",
        Place::ClientCore => "1",
        Place::Anywhere => return Command::new(program),
    };
    let mut command = Command::new("taskset");
    command.args(["-c", core, program]);
    command
}

/// User and system time of a process with all its threads, in microseconds (10 ms steps).
pub(crate) fn cpu_us(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server is gone")?;
    // The name may hold spaces; the fields begin after its parenthesis.
    let fields = stat.rsplit(')').next().context("malformed stat")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>())
        .sum::<Result<_, _>>()?;
    Ok(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// Proportional resident memory of a process in KiB.
pub(crate) fn pss_kib(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no Pss")?
        .parse()
        .context("malformed Pss")
}

/// What the numbers belong to.
pub(crate) fn description() -> String {
    let model = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|info| {
            let line = info.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split(": ").nth(1)?.to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_else(|| "no commit".to_owned());
    format!("{model}, {cores} cores, Linux {}, {commit}", kernel.trim())
}
