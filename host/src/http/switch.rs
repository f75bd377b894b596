//! Protocol switches: what becomes of a stream that leaves HTTP (RFC 9110 §7.8, RFC 8441, RFC 9220).
//!
//! A response whose body carries a [`Switch`] is a promise: once its head is on the wire (101, or
//! 200 to an extended CONNECT), the protocol gives the stream's bytes both ways to the switch's
//! [`Owner`]. That runs inside the connection's or stream's own task, so that slots, counters, the
//! drain and the client's leaving hold for it as for any exchange. Here are the limits that hold
//! for all three protocols; each of them makes the [`Socket`].

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::future::BoxFuture;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::body::{BodyError, ResponseBody};
use super::conn::Conn;
use super::limits::Limits;

/// The bytes of a stream that has left HTTP. Shutting it down ends our side only; dropping it without
/// that breaks the stream off (a reset on HTTP/2 and HTTP/3, no `close_notify` under TLS).
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Who speaks the other protocol.
pub trait Owner: Send {
    /// Speaks it to the end, under `limits`. Dropping the future breaks it off.
    fn run<'s>(
        self: Box<Self>,
        socket: Box<dyn Socket + 's>,
        limits: &'s Limits,
    ) -> BoxFuture<'s, SwitchEnd>;

    /// Whether it sees by itself to clients that send nothing or take nothing.
    fn keeps_time(&self) -> bool {
        false
    }
}

/// How a switch ended; an error is told to whoever observes the exchange.
pub type SwitchEnd = Result<(), BodyError>;

/// A switch that a response promises.
pub struct Switch {
    /// The protocol, for the `Upgrade` field of HTTP/1.1.
    pub protocol: HeaderValue,
    /// Who takes the stream over.
    pub owner: Box<dyn Owner>,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Gives `socket` to the owner and sees to its limits until it is done. `body` is the rest of the
/// response that promised it: its guards last as long. `gone` is ready where the transport tells that
/// the client takes no more although nothing is written to it.
///
/// # Cancel safety
/// Dropping the future breaks the stream off.
pub(super) async fn run(
    switch: Switch,
    body: ResponseBody,
    socket: impl Socket,
    gone: impl Future<Output = ()>,
    conn: &Arc<Conn>,
    limits: &Limits,
) {
    let _hijacked = conn.begin_switch();
    let traffic = Arc::new(Mutex::new(Traffic { last: Instant::now(), blocked: None, sent: 0 }));
    let mut report = Report { body, traffic: Arc::clone(&traffic), end: Err(BodyError::Gone) };
    let watched = Box::new(Watched { socket, traffic: Arc::clone(&traffic) });
    let keeps_time = switch.owner.keeps_time();
    let mut running = switch.owner.run(watched, limits);
    let mut gone = pin!(gone);
    if keeps_time {
        report.end = tokio::select! {
            biased;
            end = &mut running => end,
            () = &mut gone => Err(BodyError::Gone),
        };
        return;
    }
    report.end = Box::pin(timed(running, gone, &traffic, conn, limits)).await;
}

/// Waits for the end under the limits. Boxed apart, because a stream whose owner keeps time is to
/// carry no timer.
async fn timed(
    mut running: BoxFuture<'_, SwitchEnd>,
    mut gone: Pin<&mut impl Future<Output = ()>>,
    traffic: &Mutex<Traffic>,
    conn: &Conn,
    limits: &Limits,
) -> SwitchEnd {
    let mut look_at = Instant::now();
    loop {
        // Cancel safety: both futures are kept.
        tokio::select! {
            biased;
            end = &mut running => return end,
            () = &mut gone => return Err(BodyError::Gone),
            () = sleep_until(look_at) => {}
        }
        match traffic.lock().due(Instant::now(), limits) {
            Ok(at) => look_at = at,
            Err(why) => {
                tracing::debug!(conn = conn.id, why, "switched stream closed");
                return Err(BodyError::Gone);
            }
        }
    }
}

/// What moves on a switched stream.
#[derive(Debug)]
struct Traffic {
    /// When a byte last moved, either way.
    last: Instant,
    /// Since when the client has taken nothing of what is there for it.
    blocked: Option<Instant>,
    sent: u64,
}

impl Traffic {
    /// When to look again, or what is wrong.
    fn due(&self, now: Instant, limits: &Limits) -> Result<Instant, &'static str> {
        let idle_at = self.last + limits.switch_idle_timeout;
        // A write may become blocked right after this.
        let stalled_at = self.blocked.unwrap_or(now) + limits.write_idle_timeout;
        if now >= stalled_at {
            Err("the client takes nothing")
        } else if now >= idle_at {
            Err("nothing moved for too long")
        } else {
            Ok(idle_at.min(stalled_at))
        }
    }
}

/// Tells the response's observer how the switch ended, also where the task is dropped.
struct Report {
    body: ResponseBody,
    traffic: Arc<Mutex<Traffic>>,
    end: SwitchEnd,
}

impl Drop for Report {
    fn drop(&mut self) {
        let sent = usize::try_from(self.traffic.lock().sent).unwrap_or(usize::MAX);
        self.body.end_switch(sent, self.end.as_ref().copied());
    }
}

/// Keeps account of a socket's traffic.
struct Watched<S> {
    socket: S,
    traffic: Arc<Mutex<Traffic>>,
}

impl<S> Watched<S> {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut traffic = self.traffic.lock();
        let now = Instant::now();
        match &polled {
            Poll::Ready(Ok(bytes)) => {
                traffic.blocked = None;
                if *bytes > 0 {
                    traffic.sent += *bytes as u64;
                    traffic.last = now;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                traffic.blocked.get_or_insert(now);
            }
        }
        polled
    }
}

impl<S: Socket> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.traffic.lock().last = Instant::now();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        // Through the same account: TLS and HTTP/3 may hold bytes that a flush is stuck on.
        self.wrote(polled.map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.wrote(polled.map_ok(|()| 0)).map_ok(|_| ())
    }
}

/// A transport of which some bytes were read already.
pub(super) struct ReadAhead<IO> {
    /// Not yet given to the reader.
    pub(super) ahead: BytesMut,
    /// Where the rest comes from.
    pub(super) io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for ReadAhead<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let taken = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..taken]);
        self.ahead.advance(taken);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ReadAhead<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
