//! `[[schedule]]` of a manifest, and the times that it names. Pure: time is an argument, in
//! milliseconds since 1970; cron patterns mean UTC.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::Deserialize;

use crate::config::units::DurationValue;

/// Schedules of one plugin.
pub const MAX_SCHEDULES: usize = 64;
/// Bytes of a schedule's name.
const MAX_NAME: usize = 64;
/// Shortest and longest interval.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(366 * 86_400);
/// Most missed times that are told: what a server missed that was off for weeks is not counted out.
pub const MAX_MISSED: u32 = 10_000;

/// One schedule of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Unique in its plugin; lower-case letters, digits and `-`.
    pub name: Arc<str>,
    /// When it is called.
    pub timing: Timing,
}

/// When a schedule is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Timing {
    /// At this interval, in milliseconds, after it was first served.
    Every(u64),
    /// When this pattern fits.
    Cron(Box<Cron>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin) struct RawSchedule {
    name: String,
    every: Option<DurationValue>,
    cron: Option<String>,
}

/// Checks what a manifest says.
///
/// # Errors
/// The key and what is wrong with it.
pub(in crate::plugin) fn schedules(
    raw: Vec<RawSchedule>,
) -> Result<Arc<[Schedule]>, (&'static str, String)> {
    if raw.len() > MAX_SCHEDULES {
        return Err(("schedule", format!("more than {MAX_SCHEDULES}")));
    }
    let mut schedules: Vec<Schedule> = Vec::with_capacity(raw.len());
    for RawSchedule { name, every, cron } in raw {
        let is_fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_fit) {
            let cause = format!(
                "\"{name}\" is no name: lower-case letters, digits and `-`, at most {MAX_NAME}"
            );
            return Err(("schedule.name", cause));
        }
        if schedules.iter().any(|other| *other.name == *name) {
            return Err(("schedule.name", format!("\"{name}\" is there twice")));
        }
        let timing = match (every, cron) {
            (Some(DurationValue(every)), None) => {
                Timing::every(every).map_err(|cause| ("schedule.every", cause))?
            }
            (None, Some(pattern)) => {
                Timing::cron(&pattern).map_err(|cause| ("schedule.cron", cause))?
            }
            (Some(_), Some(_)) => {
                let cause = format!("\"{name}\" has both `every` and `cron`; keep one");
                return Err(("schedule", cause));
            }
            (None, None) => {
                let cause = format!("\"{name}\" has neither `every` nor `cron`");
                return Err(("schedule", cause));
            }
        };
        schedules.push(Schedule { name: name.into(), timing });
    }
    Ok(schedules.into())
}

impl Timing {
    /// At an interval.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn every(interval: Duration) -> Result<Self, String> {
        if !INTERVALS.contains(&interval) {
            return Err("must be from 100ms to 366d".to_owned());
        }
        Ok(Self::Every(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)))
    }

    /// By a cron pattern of five fields, or six where the first one is seconds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn cron(pattern: &str) -> Result<Self, String> {
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| format!("\"{pattern}\": {error}"))?;
        // The next leap year may be eight years away (1896, 1904).
        if cron.find_next_occurrence(&DateTime::UNIX_EPOCH, true).is_err() {
            return Err(format!("\"{pattern}\" never comes"));
        }
        Ok(Self::Cron(Box::new(cron)))
    }

    /// The first time after `after`, given that `last` was one, or when it was first served.
    pub fn next(&self, last: u64, after: u64) -> Option<u64> {
        match self {
            Self::Every(interval) => {
                let whole = after.saturating_sub(last) / interval;
                Some(last.min(after).saturating_add((whole + 1) * interval))
            }
            Self::Cron(cron) => cron_after(cron, after),
        }
    }

    /// The last of the times from `due`, which is one, to `now`.
    pub fn latest(&self, due: u64, now: u64) -> u64 {
        match self {
            Self::Every(interval) => due + now.saturating_sub(due) / interval * interval,
            Self::Cron(cron) => {
                let Some(now) = date(now) else { return due };
                let latest = cron.find_previous_occurrence(&now, true).ok();
                latest.and_then(milliseconds).map_or(due, |latest| latest.max(due))
            }
        }
    }

    /// How many times there are between two, at most [`MAX_MISSED`]. `last` is one or was when it was
    /// first served.
    pub fn between(&self, last: u64, due: u64) -> u32 {
        match self {
            Self::Every(interval) => {
                let times = (due.saturating_sub(last) / interval).saturating_sub(1);
                u32::try_from(times).unwrap_or(u32::MAX).min(MAX_MISSED)
            }
            Self::Cron(cron) => {
                let (mut at, mut count) = (last, 0);
                while count < MAX_MISSED {
                    match cron_after(cron, at) {
                        Some(next) if next < due => at = next,
                        _ => break,
                    }
                    count += 1;
                }
                count
            }
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => {
                let interval = Duration::from_millis(*interval);
                write!(f, "every {}", humantime::format_duration(interval))
            }
            Self::Cron(cron) => write!(f, "cron {}", cron.as_str()),
        }
    }
}

fn cron_after(cron: &Cron, after: u64) -> Option<u64> {
    milliseconds(cron.find_next_occurrence(&date(after)?, false).ok()?)
}

fn date(milliseconds: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(milliseconds).ok()?)
}

fn milliseconds(date: DateTime<Utc>) -> Option<u64> {
    u64::try_from(date.timestamp_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    /// 2026-11-21 12:00:00 UTC.
    const NOON: u64 = 1_795_262_400_000;

    fn every(milliseconds: u64) -> Timing {
        Timing::every(Duration::from_millis(milliseconds)).expect("a good interval")
    }

    fn cron(pattern: &str) -> Timing {
        Timing::cron(pattern).expect("a good pattern")
    }

    #[test]
    fn intervals_keep_their_grid_however_late_they_are_looked_at() {
        let timing = every(5_000);

        assert_eq!(timing.next(1_000, 1_000), Some(6_000));
        assert_eq!(timing.next(1_000, 5_999), Some(6_000));
        assert_eq!(timing.next(1_000, 6_000), Some(11_000));
        assert_eq!(timing.next(1_000, 23_456), Some(26_000));
        assert_eq!(timing.latest(6_000, 23_456), 21_000);
        assert_eq!(timing.latest(6_000, 6_000), 6_000);
    }

    #[test]
    fn a_clock_that_went_back_does_not_stop_an_interval() {
        assert_eq!(every(5_000).next(1_000_000, 2_000), Some(7_000));
    }

    #[test]
    fn missed_times_are_those_between() {
        assert_eq!(every(5_000).between(1_000, 6_000), 0);
        assert_eq!(every(5_000).between(1_000, 26_000), 4);
        assert_eq!(every(100).between(0, u64::MAX), MAX_MISSED);
        assert_eq!(cron("*/5 * * * *").between(NOON, NOON + 5 * MINUTE), 0);
        assert_eq!(cron("*/5 * * * *").between(NOON, NOON + 20 * MINUTE), 3);
        assert_eq!(cron("* * * * * *").between(0, NOON), MAX_MISSED);
    }

    #[test]
    fn cron_patterns_mean_utc_and_may_have_seconds() {
        for (pattern, after, next) in [
            ("*/5 * * * *", NOON, NOON + 5 * MINUTE),
            ("*/5 * * * *", NOON + 1, NOON + 5 * MINUTE),
            ("30 12 * * *", NOON, NOON + 30 * MINUTE),
            ("0 12 * * *", NOON, NOON + 24 * 60 * MINUTE),
            ("*/10 * * * * *", NOON + 1, NOON + 10_000),
        ] {
            assert_eq!(cron(pattern).next(0, after), Some(next), "{pattern}");
        }
        assert_eq!(cron("*/5 * * * *").latest(NOON, NOON + 11 * MINUTE), NOON + 10 * MINUTE);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_key() {
        let parse = |text: &str| {
            #[derive(Deserialize)]
            struct Manifest {
                schedule: Vec<RawSchedule>,
            }
            schedules(toml::from_str::<Manifest>(text).expect("it has the shape").schedule)
        };
        for (text, key, expected) in [
            ("name = \"a\"", "schedule", "neither"),
            ("name = \"a\"\nevery = \"5s\"\ncron = \"* * * * *\"", "schedule", "both"),
            ("name = \"A\"\nevery = \"5s\"", "schedule.name", "no name"),
            ("name = \"\"\nevery = \"5s\"", "schedule.name", "no name"),
            ("name = \"a\"\nevery = \"99ms\"", "schedule.every", "100ms"),
            ("name = \"a\"\nevery = \"400d\"", "schedule.every", "366d"),
            ("name = \"a\"\ncron = \"99 * * * *\"", "schedule.cron", "99"),
            ("name = \"a\"\ncron = \"\"", "schedule.cron", "empty"),
            ("name = \"a\"\ncron = \"* * * * * * 2030\"", "schedule.cron", "2030"),
            ("name = \"a\"\ncron = \"0 0 30 2 *\"", "schedule.cron", "never"),
            (
                "name = \"a\"\nevery = \"5s\"\n[[schedule]]\nname = \"a\"\nevery = \"5s\"",
                "schedule.name",
                "twice",
            ),
        ] {
            let (found, cause) = parse(&format!("[[schedule]]\n{text}")).expect_err(text);

            assert_eq!(found, key, "{text}");
            assert!(cause.contains(expected), "{text}: {cause}");
        }
    }
}
