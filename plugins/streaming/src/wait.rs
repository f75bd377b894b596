//! [`wait`]: time between two pieces, cut short when the client leaves.

use std::time::{Duration, Instant};

use wharf_sdk::Closed;
use wharf_sdk::exchange::Exchange;
#[cfg(target_family = "wasm")]
use wharf_sdk::sleep;

/// How often a wait looks for the client. The host ends an instance 50 ms after the last of its
/// clients has left, and what a plugin still wants to say must be said before that.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for `duration`.
///
/// # Errors
///
/// The client has left. A host that tells no exchange lets every wait end; there it shows at the
/// next write.
pub(crate) async fn wait(exchange: Option<&Exchange>, duration: Duration) -> Result<(), Closed> {
    let end = Instant::now() + duration;
    loop {
        if exchange.is_some_and(Exchange::is_cancelled) {
            return Err(Closed);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // Without an exchange there is nothing to look for.
        sleep(if exchange.is_some() { left.min(LOOK) } else { left }).await;
    }
}

/// Tests have no host, and nothing beside them to hold up.
#[cfg(not(target_family = "wasm"))]
async fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
