//! HTTP/2 over the `h2` crate.
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Handle, Serving, conn::Conn};

/// Serves one HTTP/2 connection to its end. The client's preface has not been read yet.
pub async fn serve<H: Handle, IO>(_io: IO, _conn: Arc<Conn>, _serving: Serving<H>)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
}
