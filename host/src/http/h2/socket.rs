//! An HTTP/2 stream that has left HTTP (RFC 8441 §5): DATA frames as bytes, under the flow control
//! of both sides.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one DATA frame that we send, and that `h2` holds for us beyond the window.
const PIECE: usize = 16 * 1024;

/// Dropped without a shutdown, it resets the stream.
pub(super) struct H2Socket {
    recv: RecvStream,
    /// Of a frame that was read in part.
    ahead: Bytes,
    ended: bool,
    send: SendStream<Bytes>,
    shut_down: bool,
}

impl H2Socket {
    pub(super) fn new(recv: RecvStream, send: SendStream<Bytes>) -> Self {
        Self { recv, ahead: Bytes::new(), ended: false, send, shut_down: false }
    }
}

fn lost(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

impl AsyncRead for H2Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.ahead.is_empty() {
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => this.ahead = data,
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => this.ended = true,
            }
        }
        let taken = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..taken]);
        this.ahead.advance(taken);
        // The window grows with what was taken, not with what came.
        let _over = this.recv.flow_control().release_capacity(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = bytes.len().min(PIECE);
        self.send.reserve_capacity(wanted);
        let mut capacity = self.send.capacity();
        while capacity == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(granted)) => capacity = granted,
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let piece = Bytes::copy_from_slice(&bytes[..wanted.min(capacity)]);
        let sent = piece.len();
        self.send.send_data(piece, false).map_err(lost)?;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what is queued as soon as this one waits.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.shut_down, true) {
            self.send.send_data(Bytes::new(), true).map_err(lost)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for H2Socket {
    fn drop(&mut self) {
        if !self.shut_down {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
