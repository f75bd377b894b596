//! Counts the requests of its instance, this one included.

use std::sync::atomic::{AtomicU64, Ordering};

use guests_p3::{Answer, Request, text};

guests_p3::serve!(handle);

static HITS: AtomicU64 = AtomicU64::new(0);

async fn handle(_request: Request) -> Answer {
    let hits = HITS.fetch_add(1, Ordering::Relaxed) + 1;
    text(hits.to_string())
}
