//! The schedule: a step of each job, ten times a second.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use wharf_sdk::Error;
use wharf_sdk::hub;
use wharf_sdk::schedule::Occurrence;

use crate::job::{Job, Status};
use crate::picture::{Julia, POINTS};
use crate::store;

/// How long a tick works; jobs that it did not get to are first at the next one.
const BUDGET: Duration = Duration::from_millis(80);

/// The database is read so often in any case: a process that is taken over may add jobs still.
const IDLE_AT_MOST: Duration = Duration::from_secs(2);

thread_local! {
    /// The job that was stepped last: the next tick begins behind it.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    /// The hub's position when there was nothing to do, and when that was: until it moves, there is
    /// nothing.
    static IDLE: RefCell<Option<(String, Instant)>> = const { RefCell::new(None) };
}

pub(crate) async fn tick(_: Occurrence) -> Result<(), Error> {
    let begun = Instant::now();
    // Before the database is read: a job that comes after the reading moves it.
    let position = hub::position();
    let is_idle =
        |(at, since): &(String, Instant)| *at == position && since.elapsed() < IDLE_AT_MOST;
    if IDLE.with_borrow(|idle| idle.as_ref().is_some_and(is_idle)) {
        return Ok(());
    }
    let mut jobs = store::open().await?;
    if jobs.is_empty() {
        IDLE.set(Some((position, begun)));
        return Ok(());
    }
    let behind = LAST.with_borrow(|last| jobs.iter().position(|job| job.job_id == *last));
    if let Some(last) = behind {
        jobs.rotate_left(last + 1);
    }
    for job in jobs {
        let id = job.job_id.clone();
        step(job).await?;
        LAST.set(id);
        if begun.elapsed() > BUDGET {
            break;
        }
    }
    Ok(())
}

async fn step(mut job: Job) -> Result<(), Error> {
    let before = job.done;
    let (first, end) = (share(before, job.steps), share(before + 1, job.steps));
    let points = Julia::of(&job.name).points(first, end - first);
    job.done += 1;
    if job.done == job.steps {
        job.status = Status::Completed;
        job.message = format!("{POINTS} points of \"{}\" are drawn", job.name);
    } else {
        job.status = Status::Running;
        job.message = format!("{end} of {POINTS} points are drawn");
    }
    // Not where it was cancelled meanwhile.
    store::change(&job, before, Some(points)).await.map(drop)
}

/// The point that a step begins with.
fn share(step: u32, steps: u32) -> u32 {
    let point = u64::from(POINTS) * u64::from(step) / u64::from(steps);
    u32::try_from(point).unwrap_or(POINTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_share_the_points_out() {
        for steps in [1, 3, 7, 5000] {
            let all: u32 = (0..steps).map(|step| share(step + 1, steps) - share(step, steps)).sum();

            assert_eq!((share(0, steps), all), (0, POINTS), "{steps}");
        }
    }
}
