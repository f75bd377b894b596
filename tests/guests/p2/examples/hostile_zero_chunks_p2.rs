//! `hostile_zero_chunks` in 0.2: writes and flushes nothing for ever after the head.

use guests_p2::{Fields, IncomingRequest, ResponseOutparam, path, start, text};

guests_p2::serve!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    if path(&request) == "/ok" {
        return text(out, "ok");
    }
    let body = start(out, 200, Fields::new());
    let stream = body.write().expect("the stream is taken once");
    // Ends only where the host closes the stream.
    while stream.blocking_write_and_flush(&[]).is_ok() {}
}
