//! Time between two pieces, cut short when the client leaves.

use std::time::{Duration, Instant};

use wharf_sdk::Closed;
use wharf_sdk::exchange::Exchange;
#[cfg(target_family = "wasm")]
use wharf_sdk::sleep;

/// How often [`wait_attentively`] looks for the client: the host ends an instance 50 ms after the
/// last of its clients has left, and what a plugin still wants to say must be said before that.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for `duration`.
///
/// # Errors
///
/// The client has left. Where the host tells no exchange that shows only at the next write.
pub(crate) async fn wait(exchange: Option<&Exchange>, duration: Duration) -> Result<(), Closed> {
    sleep(duration).await;
    if exchange.is_some_and(Exchange::is_cancelled) { Err(Closed) } else { Ok(()) }
}

/// Waits for `duration`, at most [`LOOK`] longer than the client does.
///
/// # Errors
///
/// As [`wait`].
pub(crate) async fn wait_attentively(
    exchange: Option<&Exchange>,
    duration: Duration,
) -> Result<(), Closed> {
    let end = Instant::now() + duration;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        wait(exchange, left.min(LOOK)).await?;
    }
}

/// Tests have no host, and nothing beside them to hold up.
#[cfg(not(target_family = "wasm"))]
async fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
