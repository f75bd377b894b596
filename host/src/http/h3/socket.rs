//! An HTTP/3 stream that has left HTTP (RFC 9220): DATA frames as bytes, under QUIC's flow control.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{DATA, put_frame_head};
use super::inbound::InboundBody;
use super::stream::Outgoing;

/// Bytes of one DATA frame that we send.
const PIECE: usize = 16 * 1024;

/// Not shut down, it leaves the stream to be reset by whoever owns `out`.
pub(super) struct H3Socket<'a> {
    out: &'a mut Outgoing,
    /// A frame that is partly written.
    pending: BytesMut,
    inbound: InboundBody,
    /// Of a frame that was read in part.
    ahead: Bytes,
    ended: bool,
}

impl<'a> H3Socket<'a> {
    pub(super) fn new(out: &'a mut Outgoing, inbound: InboundBody) -> Self {
        Self { out, pending: BytesMut::new(), inbound, ahead: Bytes::new(), ended: false }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let send = Pin::new(&mut self.out.send);
            let written = ready!(AsyncWrite::poll_write(send, cx, &self.pending))?;
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for H3Socket<'_> {
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
            match ready!(Pin::new(&mut this.inbound).poll_frame(cx)) {
                // RFC 9114 §4.4: nothing but DATA follows a CONNECT.
                Some(Ok(frame)) => {
                    this.ahead = frame.into_data().map_err(|_| io::ErrorKind::InvalidData)?;
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)));
                }
                None => this.ended = true,
            }
        }
        let taken = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..taken]);
        this.ahead.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H3Socket<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        let taken = bytes.len().min(PIECE);
        if taken > 0 {
            put_frame_head(&mut self.pending, DATA, taken);
            self.pending.extend_from_slice(&bytes[..taken]);
            if let Poll::Ready(Err(error)) = self.poll_pending(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pending(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        if self.out.finished {
            return Poll::Ready(Ok(()));
        }
        let finished = self.out.finish();
        Poll::Ready(finished.map_err(|_| io::ErrorKind::ConnectionReset.into()))
    }
}
