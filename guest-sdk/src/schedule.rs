//! What `[[schedule]]` of the manifest calls: [`schedule!`](crate::schedule!).

use std::future::Future;
use std::time::SystemTime;

use crate::Error;

/// One call of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Occurrence {
    /// The schedule's `name`.
    pub name: String,
    /// When it was due.
    pub due: SystemTime,
    /// Calls that should have been since the one before this one and were not: that one took too
    /// long, or the server was not running.
    pub missed: u32,
}

impl Occurrence {
    /// One that nothing was missed before; for tests.
    pub fn new(name: impl Into<String>, due: SystemTime) -> Self {
        Self { name: name.into(), due, missed: 0 }
    }
}

/// What is done at a schedule's times: any `async fn(Occurrence) -> Result<(), Error>`.
pub trait Task: 'static {
    /// Does it once.
    fn run(&self, occurrence: Occurrence) -> impl Future<Output = Result<(), Error>>;
}

impl<F, Fut> Task for F
where
    F: Fn(Occurrence) -> Fut + 'static,
    Fut: Future<Output = Result<(), Error>> + 'static,
{
    fn run(&self, occurrence: Occurrence) -> impl Future<Output = Result<(), Error>> {
        self(occurrence)
    }
}

/// Exports `schedule-events-async`: the function is called for every `[[schedule]]` of the manifest,
/// never while an earlier call of the same name goes on. An error is written to stderr, which the
/// host keeps in the plugin's log.
///
/// ```
/// use wharf_sdk::schedule::Occurrence;
/// use wharf_sdk::{Error, Router};
///
/// async fn tick(occurrence: Occurrence) -> Result<(), Error> {
///     println!("{}: {} missed", occurrence.name, occurrence.missed);
///     Ok(())
/// }
///
/// wharf_sdk::serve!(Router::new);
/// wharf_sdk::schedule!(tick);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! schedule {
    ($task:path) => {
        const _: () = {
            const fn is_task(_: &impl $crate::schedule::Task) {}
            is_task(&$task);
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Schedule;

            impl $crate::__rt::schedule::Guest for Schedule {
                async fn run(occurrence: $crate::__rt::schedule::Occurrence) {
                    $crate::__rt::schedule::run(&$task, occurrence).await
                }
            }

    $crate::__rt::schedule::export!(Schedule with_types_in $crate::__rt::schedule::bindings);
        };
    };
}

/// What the macro expands to; no part of the interface.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __rt {
    use std::time::{Duration, SystemTime};

    pub use bindings::export_schedule as export;
    pub use bindings::exports::wharf::host::schedule_events_async::{Guest, Occurrence};

    pub mod bindings {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package wharf:sdk-schedule;
                world schedule { export wharf:host/schedule-events-async@0.1.0; }
            ",
            world: "wharf:sdk-schedule/schedule",
            generate_all,
            pub_export_macro: true,
            export_macro_name: "export_schedule",
            default_bindings_module: "wharf_sdk::schedule::__rt::bindings",
        });
    }

    pub async fn run(task: &impl super::Task, occurrence: Occurrence) {
        let due = Duration::from_millis(occurrence.due);
        let occurrence = super::Occurrence {
            name: occurrence.name,
            due: SystemTime::UNIX_EPOCH.checked_add(due).unwrap_or(SystemTime::UNIX_EPOCH),
            missed: occurrence.missed,
        };
        let name = occurrence.name.clone();
        if let Err(error) = task.run(occurrence).await {
            crate::error::write_to_stderr(&format!("schedule {name} failed: {error}"));
        }
    }
}
