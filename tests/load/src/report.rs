//! What is printed: one table a scenario, medians with their spread, ratios to native.

use std::time::Duration;

use crate::{Options, machine};

/// One measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Requests answered well.
    pub(crate) requests: u64,
    /// Requests that failed.
    pub(crate) failed: u64,
    /// How long it took.
    pub(crate) took: Duration,
    /// Median latency, where the generator tells.
    pub(crate) p50_us: Option<f64>,
    /// 99th percentile.
    pub(crate) p99_us: Option<f64>,
    /// Server CPU time of the run.
    pub(crate) cpu_us: u64,
}

impl Run {
    fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    fn cpu_per_request(&self) -> f64 {
        self.cpu_us as f64 / self.requests.max(1) as f64
    }
}

/// A server's runs.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// One a round.
    pub(crate) runs: Vec<Run>,
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "the runner talks to its user")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints what the numbers belong to.
pub(crate) fn header(options: &Options) {
    say(&machine::description());
    let placing = if options.unpinned { "unpinned" } else { "server on core 0, client on core 1" };
    say(&format!("{placing}; {} rounds of {} s", options.rounds, options.seconds));
}

/// Prints a table; the first row is what the others are ratios of.
pub(crate) fn table(title: &str, rows: &[Row]) {
    say(&format!(
        "\n{title:<44} {:>9} {:>19} {:>8} {:>8} {:>9} {:>8} {:>7}",
        "req/s", "[min .. max]", "p50 us", "p99 us", "CPU us/rq", "x first", "failed"
    ));
    let base = rows.first().map_or(0.0, |row| median(row.runs.iter().map(Run::rate)));
    for Row { name, runs } in rows {
        let rate = median(runs.iter().map(Run::rate));
        let least = runs.iter().map(Run::rate).fold(f64::INFINITY, f64::min);
        let most = runs.iter().map(Run::rate).fold(0.0, f64::max);
        let failed: u64 = runs.iter().map(|run| run.failed).sum();
        say(&format!(
            "{name:<44} {rate:>9.0} {:>19} {:>8} {:>8} {:>9.1} {:>8.2} {failed:>7}",
            format!("[{least:.0} .. {most:.0}]"),
            optional(runs.iter().filter_map(|run| run.p50_us)),
            optional(runs.iter().filter_map(|run| run.p99_us)),
            median(runs.iter().map(Run::cpu_per_request)),
            rate / base,
        ));
    }
}

/// Prints one number of memory or time with its name.
pub(crate) fn figure(name: &str, value: &str) {
    say(&format!("{name:<60} {value:>16}"));
}

fn optional(values: impl Iterator<Item = f64>) -> String {
    let mut values = values.peekable();
    if values.peek().is_none() { "-".to_owned() } else { format!("{:.0}", median(values)) }
}

/// The middle value; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a share of them lie; 0 of none.
pub(crate) fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median(std::iter::empty()), 0.0);
        assert_eq!(quantile((1..=101).map(f64::from), 0.99), 100.0);
    }
}
