//! Answers after `?ms=` without holding up other requests of its instance.

use guests_p3::{Answer, Request, number, text};
use wasip3::clocks::monotonic_clock;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let ms = number(&request, "ms", 0);
    monotonic_clock::wait_for(ms * 1_000_000).await;
    text(ms.to_string())
}
