//! Where the compilers run: on threads of their own that give way to requests and end with the work,
//! so that what they allocated goes back to the system with them.

use std::num::NonZero;

/// Who waits for the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody who has changed a file.
    Awaited,
    /// Nobody: other code is being served meanwhile.
    Background,
}

impl Urgency {
    /// How much less the threads weigh for the scheduler (nice value).
    fn nice(self) -> i32 {
        match self {
            Self::Awaited => 5,
            Self::Background => 15,
        }
    }
}

/// Runs `work`, whose parallel parts (rayon's) use as many threads as there are cores. Blocks.
pub fn compile<R: Send>(urgency: Urgency, work: impl FnOnce() -> R + Send) -> R {
    // The work may run in the pool or, where there can be none, on this thread.
    let mut work = Some(work);
    let nice = urgency.nice();
    let done = rayon::ThreadPoolBuilder::new()
        .num_threads(std::thread::available_parallelism().map_or(1, NonZero::get))
        .thread_name(|number| format!("wharf-compile-{number}"))
        .build_scoped(
            |thread| {
                // On Linux this concerns the calling thread only. Refused: merely less polite.
                let _refused = rustix::process::setpriority_process(None, nice);
                thread.run();
            },
            |pool| pool.install(|| work.take().map(|work| work())),
        );
    match (done, work) {
        (Ok(Some(done)), _) => done,
        (Err(error), Some(work)) => {
            tracing::warn!(%error, "no threads to compile on");
            work()
        }
        (Ok(None), _) | (Err(_), None) => unreachable!("the work is taken only to be done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_threads_that_give_way() {
        let (name, nice) = compile(Urgency::Background, || {
            let nice = rustix::process::getpriority_process(None);
            (std::thread::current().name().map(str::to_owned), nice)
        });

        assert!(name.is_some_and(|name| name.starts_with("wharf-compile")));
        assert_eq!(nice, Ok(15));
    }
}
