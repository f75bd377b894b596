//! HTTP/1.1 and HTTP/1.0.
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Handle, Serving, conn::Conn};

/// Serves one HTTP/1 connection to its end. `read_ahead` was read while sniffing.
pub async fn serve<H: Handle, IO>(
    _io: IO,
    _read_ahead: Bytes,
    _conn: Arc<Conn>,
    _serving: Serving<H>,
) where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
}
