//! The clients: wrk, h2load, curl and our own for HTTP/3, each run for a bounded time and its answer
//! read.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{self, Place};
use crate::report::Run;

/// What a generator may take beyond its own duration before it is ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client program with its settings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generator {
    /// HTTP/1.1, 64 connections.
    Wrk,
    /// HTTP/1.1, 8 connections: latency rather than throughput.
    WrkFew,
    /// HTTP/2, 32 connections of 10 streams; prior knowledge where the URL is cleartext.
    H2load,
    /// HTTP/3, 8 connections of 10 streams.
    H3,
}

impl Generator {
    /// Whether it can run here; else which Debian package is missing.
    pub(crate) fn missing(self) -> Option<&'static str> {
        match self {
            Self::Wrk | Self::WrkFew => {
                (!machine::has("wrk")).then_some("wrk: not installed (Debian: wrk)")
            }
            Self::H2load => (!machine::has("h2load"))
                .then_some("h2load: not installed (Debian: nghttp2-client)"),
            Self::H3 => None,
        }
    }

    /// Loads `url` for `duration`. The server's CPU time is the caller's to add.
    pub(crate) fn run(self, url: &str, duration: Duration, place: Place) -> Result<Run> {
        let seconds = duration.as_secs().max(1).to_string();
        let mut command = match self {
            Self::Wrk | Self::WrkFew => {
                let connections = if self == Self::Wrk { "-c64" } else { "-c8" };
                let mut command = machine::placed("wrk", place);
                command.args(["-t1", connections, "--latency", "-d", &seconds, url]);
                command
            }
            Self::H2load => {
                let mut command = machine::placed("h2load", place);
                command.args(["-t1", "-c32", "-m10", "-D", &seconds, url]);
                command
            }
            Self::H3 => {
                let own = std::env::current_exe()?;
                let own = own.to_str().context("the path of this program is not UTF-8")?;
                let mut command = machine::placed(own, place);
                command.args(["h3-client", "--seconds", &seconds, url]);
                command
            }
        };
        let output = output_of(&mut command, duration + PATIENCE)?;
        match self {
            Self::Wrk | Self::WrkFew => wrk(&output),
            Self::H2load => h2load(&output, duration),
            Self::H3 => h3(&output),
        }
        .with_context(|| format!("unexpected output:\n{output}"))
    }
}

/// Runs a command to its end, or ends it after `limit`; its standard output.
pub(crate) fn output_of(command: &mut Command, limit: Duration) -> Result<String> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut stdout = child.stdout.take().context("no standard output")?;
    let reader = std::thread::spawn(move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).map(|_| output)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} took longer than {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    if !status.success() {
        bail!("{command:?}: {status}\n{output}");
    }
    Ok(output)
}

fn wrk(output: &str) -> Result<Run> {
    let line = find(output, "requests in").context("no count")?;
    let mut words = line.split_whitespace();
    let total: u64 = words.next().context("no count")?.parse()?;
    let took = words.nth(2).and_then(|word| word.strip_suffix(',')).context("no time")?;
    let mut failed = find(output, "Non-2xx or 3xx responses:").map_or(Ok(0), last_number)?;
    if let Some(errors) = find(output, "Socket errors:") {
        failed += errors.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(Run {
        requests: total.saturating_sub(failed),
        failed,
        took: duration(took).context("malformed time")?,
        p50_us: percentile(output, "50%"),
        p99_us: percentile(output, "99%"),
        cpu_us: 0,
    })
}

fn percentile(output: &str, which: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.trim_start().starts_with(which))?;
    Some(duration(line.split_whitespace().nth(1)?)?.as_secs_f64() * 1e6)
}

fn h2load(output: &str, asked: Duration) -> Result<Run> {
    let counts = find(output, "requests:").context("no count")?;
    let count = |what: &str| {
        let words: Vec<_> = counts.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == what).context("no count")?;
        words[at - 1].parse::<u64>().context("malformed count")
    };
    let (requests, failed) = (count("succeeded")?, count("failed")? + count("timeout")?);
    Ok(Run { requests, failed, took: asked, ..Run::default() })
}

fn h3(output: &str) -> Result<Run> {
    let told: serde_json::Value = serde_json::from_str(output)?;
    let number = |key: &str| told[key].as_f64().with_context(|| format!("no {key}"));
    Ok(Run {
        requests: number("requests")? as u64,
        failed: number("failed")? as u64,
        took: Duration::from_secs_f64(number("seconds")?),
        p50_us: told["p50_us"].as_f64(),
        p99_us: told["p99_us"].as_f64(),
        cpu_us: 0,
    })
}

fn find<'a>(output: &'a str, what: &str) -> Option<&'a str> {
    output.lines().find(|line| line.contains(what))
}

fn last_number(line: &str) -> Result<u64> {
    line.split_whitespace().last().context("no number")?.parse().context("malformed number")
}

/// wrk's times: `63.00us`, `1.20ms`, `5.00s`, `1.5m`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_wrk_is_read() {
        let output = "Running 5s test @ http://127.0.0.1:8080/\n  1 threads and 64 connections\n  \
            Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency    63.1us\n  Latency \
            Distribution\n     50%   63.00us\n     75%   90.00us\n     90%  120.00us\n     99%    \
            1.59ms\n  1202300 requests in 5.00s, 120.00MB read\n  Socket errors: connect 0, read \
            3, write 0, timeout 1\n  Non-2xx or 3xx responses: 6\nRequests/sec: 240460.00\n";

        let run = wrk(output).unwrap();

        assert_eq!((run.requests, run.failed), (1_202_290, 10));
        assert_eq!(run.took, Duration::from_secs(5));
        assert_eq!((run.p50_us.unwrap().round(), run.p99_us.unwrap().round()), (63.0, 1590.0));
    }

    #[test]
    fn the_output_of_h2load_is_read() {
        let output = "finished in 4.00s, 284800.00 req/s, 10.2MB/s\nrequests: 1139200 total, \
            1139520 started, 1139200 done, 1139198 succeeded, 2 failed, 1 errored, 0 timeout\n";

        let run = h2load(output, Duration::from_secs(4)).unwrap();

        assert_eq!((run.requests, run.failed), (1_139_198, 2));
    }
}
