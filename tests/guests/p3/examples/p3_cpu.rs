//! Computes for about `?ms=` by the monotonic clock, without ever giving way.

use guests_p3::{Answer, Request, number, text};
use wasip3::clocks::monotonic_clock;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let ms = number(&request, "ms", 0);
    let end = monotonic_clock::now() + ms * 1_000_000;
    let mut state = 1_u64;
    while monotonic_clock::now() < end {
        for _ in 0..10_000 {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005) + 1);
        }
    }
    text(ms.to_string())
}
