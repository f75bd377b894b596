//! What is due next. Pure: it is told what is served, what has ended and what time it is, and says
//! what to call. A schedule is known by its plugin's and its own name, so that a new version goes on
//! where the old one was, and is not called while a call of the old one goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::timing::{Schedule, Timing};

/// Schedules that are remembered, served or not; past it those that ran longest ago go.
const MAX_REMEMBERED: usize = 4096;
/// How long a schedule that is not served is remembered, in milliseconds.
const REMEMBERED: u64 = 30 * 86_400_000;
/// How far the clock may go back unnoticed, in milliseconds.
const BACK: u64 = 1_000;

/// The names of plugin and schedule.
pub type Key = (Arc<str>, Arc<str>);

/// All schedules of a server.
#[derive(Debug, Default)]
pub struct Timetable {
    lines: BTreeMap<Key, Line>,
    running: BTreeSet<Key>,
    remembered: BTreeMap<Key, Remembered>,
}

#[derive(Debug)]
struct Line {
    timing: Timing,
    /// When it was called last, or first served.
    last: u64,
    next: Option<u64>,
}

/// What outlives a schedule's plugin and the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// As it was written: another timing begins anew.
    pub timing: String,
    /// When it was due last, or first served.
    pub last: u64,
}

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub key: Key,
    /// When it was due.
    pub at: u64,
    /// Times without a call before this one.
    pub missed: u32,
}

impl Timetable {
    /// Nothing is served, and this is what is known from before.
    pub fn new(remembered: BTreeMap<Key, Remembered>) -> Self {
        Self { remembered, ..Self::default() }
    }

    /// These are served now, by the names of their plugins.
    pub fn serve<'a>(
        &mut self,
        serving: impl Iterator<Item = (&'a Arc<str>, &'a Schedule)>,
        now: u64,
    ) {
        let mut before = std::mem::take(&mut self.lines);
        for (plugin, schedule) in serving {
            let key = (Arc::clone(plugin), Arc::clone(&schedule.name));
            let line = match before.remove(&key) {
                Some(line) if line.timing == schedule.timing => line,
                _ => self.begin(&key, schedule, now),
            };
            self.lines.insert(key, line);
        }
        self.forget(now);
    }

    fn begin(&mut self, key: &Key, schedule: &Schedule, now: u64) -> Line {
        let timing = schedule.timing.clone();
        let written = timing.to_string();
        let known = self.remembered.get(key).filter(|known| known.timing == written);
        let last = known.map_or(now, |known| known.last.min(now));
        self.remembered.insert(key.clone(), Remembered { timing: written, last });
        // What was missed is told with the next call, which comes at its time, not at once.
        Line { next: timing.next(last, now), timing, last }
    }

    fn forget(&mut self, now: u64) {
        let lines = &self.lines;
        self.remembered
            .retain(|key, known| lines.contains_key(key) || known.last + REMEMBERED > now);
        while self.remembered.len() > MAX_REMEMBERED {
            let oldest = self.remembered.iter().filter(|(key, _)| !lines.contains_key(*key));
            let oldest = oldest.min_by_key(|(_, known)| known.last).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remembered.remove(&oldest);
        }
    }

    /// What is to be called now; each until [`Timetable::ended`] says so.
    pub fn take_due(&mut self, now: u64) -> Vec<Due> {
        let mut all = Vec::new();
        for (key, line) in &mut self.lines {
            if line.last > now + BACK {
                // The clock was set back: what has been called is not waited for.
                line.last = now;
                line.next = line.timing.next(now, now);
            }
            let Some(next) = line.next.filter(|next| *next <= now) else { continue };
            if self.running.contains(key) {
                continue;
            }
            let at = line.timing.latest(next, now);
            let missed = line.timing.between(line.last, at);
            line.last = at;
            line.next = line.timing.next(at, now);
            self.running.insert(key.clone());
            if let Some(known) = self.remembered.get_mut(key) {
                known.last = at;
            }
            all.push(Due { key: key.clone(), at, missed });
        }
        all
    }

    /// A call is over. What was due meanwhile has been missed.
    pub fn ended(&mut self, key: &Key, now: u64) {
        self.running.remove(key);
        if let Some(line) = self.lines.get_mut(key) {
            line.next = line.timing.next(line.last, now);
        }
    }

    /// When there is something to do next.
    pub fn next(&self) -> Option<u64> {
        let idle = self.lines.iter().filter(|(key, _)| !self.running.contains(*key));
        idle.filter_map(|(_, line)| line.next).min()
    }

    /// Calls that go on.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Every schedule that is served: its timing, when it is due next, and whether a call goes on.
    pub fn lines(&self) -> impl Iterator<Item = (&Key, &Timing, Option<u64>, bool)> {
        let line = |(key, line): (&'_ Key, &'_ Line)| (line.next, self.running.contains(key));
        self.lines.iter().map(move |(key, known)| {
            let (next, running) = line((key, known));
            (key, &known.timing, next, running)
        })
    }

    /// What is to be known after a restart.
    pub fn remembered(&self) -> &BTreeMap<Key, Remembered> {
        &self.remembered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("shop".into(), name.into())
    }

    fn schedule(name: &str, milliseconds: u64) -> Schedule {
        Schedule { name: name.into(), timing: Timing::Every(milliseconds) }
    }

    fn serve(table: &mut Timetable, schedules: &[Schedule], now: u64) {
        let plugin: Arc<str> = "shop".into();
        table.serve(schedules.iter().map(|schedule| (&plugin, schedule)), now);
    }

    fn due(at: u64, missed: u32) -> Vec<Due> {
        vec![Due { key: key("tick"), at, missed }]
    }

    #[test]
    fn a_schedule_is_first_due_after_its_interval_and_then_on_its_grid() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 5_000)], 1_000);

        assert_eq!(table.next(), Some(6_000));
        assert_eq!(table.take_due(5_999), []);
        assert_eq!(table.take_due(6_020), due(6_000, 0));
        table.ended(&key("tick"), 6_100);
        assert_eq!(table.next(), Some(11_000));
    }

    #[test]
    fn a_call_is_not_made_while_one_goes_on_and_tells_afterwards_what_was_missed() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 0);
        assert_eq!(table.take_due(1_000), due(1_000, 0));

        assert_eq!(table.next(), None);
        assert_eq!(table.take_due(3_500), []);
        table.ended(&key("tick"), 3_500);

        assert_eq!(table.take_due(3_500), []);
        assert_eq!(table.take_due(4_000), due(4_000, 2));
    }

    #[test]
    fn a_new_version_goes_on_where_the_old_one_was_and_waits_for_its_call() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 0);
        assert_eq!(table.take_due(1_000), due(1_000, 0));

        // Gone for a moment, as where a file is removed and written anew.
        serve(&mut table, &[], 1_200);
        serve(&mut table, &[schedule("tick", 1_000)], 1_300);
        assert_eq!(table.take_due(2_000), []);
        assert_eq!(table.running(), 1);
        table.ended(&key("tick"), 2_300);

        assert_eq!(table.take_due(3_000), due(3_000, 1));
    }

    #[test]
    fn another_timing_begins_anew() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 0);

        serve(&mut table, &[schedule("tick", 5_000)], 700);

        assert_eq!(table.next(), Some(5_700));
    }

    #[test]
    fn what_was_missed_while_nothing_ran_is_told_with_the_next_call_on_the_grid() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 0);
        assert_eq!(table.take_due(1_000), due(1_000, 0));

        let mut table = Timetable::new(table.remembered().clone());
        serve(&mut table, &[schedule("tick", 1_000)], 7_300);

        assert_eq!(table.take_due(7_300), []);
        assert_eq!(table.take_due(8_000), due(8_000, 6));
    }

    #[test]
    fn a_late_look_makes_one_call_for_the_latest_time() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 0);

        assert_eq!(table.take_due(4_700), due(4_000, 3));
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 1_000_000);
        assert_eq!(table.take_due(1_001_000), due(1_001_000, 0));
        table.ended(&key("tick"), 1_001_000);

        assert_eq!(table.take_due(5_000), []);

        assert_eq!(table.next(), Some(6_000));
    }

    #[test]
    fn schedules_that_are_not_served_are_forgotten_after_a_while() {
        let mut table = Timetable::default();
        serve(&mut table, &[schedule("tick", 1_000)], 0);

        serve(&mut table, &[], REMEMBERED - 1);
        assert_eq!(table.remembered().len(), 1);
        serve(&mut table, &[], REMEMBERED);

        assert!(table.remembered().is_empty());
    }
}
