//! HTTP/3 over quinn.
use std::sync::Arc;

use super::{Handle, Serving, conn::Conn};

/// Serves one HTTP/3 connection to its end.
pub async fn serve<H: Handle>(_connection: quinn::Connection, _conn: Arc<Conn>, _serving: Serving<H>) {
}
