//! Never gives the processor back, except on `/ok`.

use guests_p3::{Answer, Request, path, text};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    if path(&request) == "/ok" {
        return text("ok");
    }
    let mut rounds = 0_u64;
    loop {
        rounds = std::hint::black_box(rounds.wrapping_add(1));
    }
}
