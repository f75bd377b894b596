//! `p3_counter` in 0.2: counts the requests of its instance, this one included.

use std::sync::atomic::{AtomicU64, Ordering};

use guests_p2::{IncomingRequest, ResponseOutparam, text};

guests_p2::serve!(handle);

static HITS: AtomicU64 = AtomicU64::new(0);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let hits = HITS.fetch_add(1, Ordering::Relaxed) + 1;
    text(out, hits.to_string());
}
