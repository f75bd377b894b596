//! Never answers. `/pending` waits for nothing at all, anything else but `/ok` for a clock.

use guests_p3::{Answer, Request, path, text};
use wasip3::clocks::monotonic_clock;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    match path(&request).as_str() {
        "/ok" => text("ok"),
        "/pending" => std::future::pending().await,
        _ => loop {
            let day_ns = 86_400_000_000_000;
            monotonic_clock::wait_for(day_ns).await;
        },
    }
}
