//! Panics before it answers, except on `/ok`.

use guests_p3::{Answer, Request, path, text};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let path = path(&request);
    assert!(path == "/ok", "hostile_trap was asked for {path}");
    text("ok")
}
