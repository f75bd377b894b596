//! Takes memory, and touches it, until there is no more; except on `/ok`.

use guests_p3::{Answer, Request, path, text};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    if path(&request) == "/ok" {
        return text("ok");
    }
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
