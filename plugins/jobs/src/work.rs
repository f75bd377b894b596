//! The schedule: a step of each job, ten times a second.

use std::time::{Duration, Instant};

use wharf_sdk::Error;
use wharf_sdk::schedule::Occurrence;

use crate::job::{Job, Status};
use crate::picture::{Julia, POINTS};
use crate::store;

/// How long a tick works; jobs that it did not get to are first at the next one.
const BUDGET: Duration = Duration::from_millis(80);

thread_local! {
    /// The job that was stepped last: the next tick begins behind it.
    static LAST: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

pub(crate) async fn tick(_: Occurrence) -> Result<(), Error> {
    let begun = Instant::now();
    let mut jobs = store::open().await?;
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
