//! The schedule: ten times a second. The second is divided among those who want an event a second, each
//! from their own beginning on, so that a stream begins at once and goes on evenly.

use std::time::{Duration, SystemTime};

use wharf_sdk::Error;
use wharf_sdk::schedule::Occurrence;

use crate::{metrics, orders, time};

/// The time between two ticks, as `plugin.toml` says.
pub(crate) const SLOT: Duration = Duration::from_millis(100);
/// Ticks that are made up for: what is older nobody waits for any more.
const MOST: u64 = 10;

/// The ticks since 1970 at this time.
pub(crate) fn slot(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX)
}

/// The slot after now: the first one whose event a stream gets that begins now.
pub(crate) fn next_slot() -> u64 {
    slot(SystemTime::now()) + 1
}

/// Publishes what is due, and what was due since the last time.
pub(crate) async fn tick(occurrence: Occurrence) -> Result<(), Error> {
    for missed in (0..=u64::from(occurrence.missed).min(MOST - 1)).rev() {
        let back = SLOT * u32::try_from(missed).unwrap_or_default();
        let due = occurrence.due.checked_sub(back).unwrap_or(SystemTime::UNIX_EPOCH);
        time::tick(due).await?;
        metrics::tick(slot(due)).await?;
    }
    orders::tick().await
}
