//! HTTP/2 over the `h2` crate, which (unlike hyper's server) can send interim responses and pushes.
//!
//! One task a connection drives the frames and, as futures inside it, every exchange: nothing is
//! spawned for a stream, and when the connection goes, all of it is dropped at once. [`watch`] reads
//! along below `h2` for floods and stalls, [`stream`] is one exchange, [`push`] one that was promised.
//! Deadlines, limits and the drain are decided here. RFC 9113.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tracing::{debug, error};

use self::watch::{Watch, Watched};
use super::limits::Limits;
use super::{Handle, Serving, conn::Conn};

mod push;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a request body that may arrive before the handler reads: enough for 1 Gbit/s at 8 ms.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same over all streams of a connection; what one client can make us hold unread.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Payload bytes of a frame that we take: the smallest that may be announced (RFC 9113 §6.5.2). Larger
/// frames would only keep the other streams waiting.
const MAX_FRAME_BYTES: u32 = 16_384;
/// Bytes of a response that are buffered ahead of the socket, a stream.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that we have reset and still remember, to ignore what was under way for them.
const REMEMBERED_RESETS: usize = 50;
/// After GOAWAY, how long a connection without streams may take to close; a round trip, generously.
const GOAWAY_GRACE: Duration = Duration::from_secs(2);

/// Serves one HTTP/2 connection to its end. The client's preface has not been read yet.
pub async fn serve<H: Handle, IO>(io: IO, conn: Arc<Conn>, serving: Serving<H>)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let serving = Arc::new(serving);
    let limits = &serving.limits;
    let (io, watch) = Watched::new(io, limits.h2_control_frames);
    let handshake = builder(limits).handshake::<_, Bytes>(io);
    let connection = match tokio::time::timeout(limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%error, "no HTTP/2 preface"),
        Err(_) => return debug!("no HTTP/2 preface in time"),
    };
    if let Err(error) = drive(connection, &watch, &conn, &serving).await {
        debug!(%error, "connection ended");
    }
}

fn builder(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams)
        // RFC 8441 §3.
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_pending_accept_reset_streams(limits.h2_pending_resets)
        .max_local_error_reset_streams(Some(limits.h2_local_resets));
    builder
}

/// What the connection is doing about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// GOAWAY was sent; open streams finish.
    Leaving {
        since: Instant,
    },
    /// The last GOAWAY was sent; only the flush is waited for.
    Ending {
        since: Instant,
    },
}

/// What the clock demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing before this.
    Later(Instant),
    /// Close gracefully: there has been no stream for long.
    Leave,
    /// Say why, and close.
    End(Reason),
    /// Close: the peer takes nothing more.
    Drop,
}

/// The deadlines of a connection, from facts to a verdict.
fn due(
    now: Instant,
    phase: Phase,
    idle_since: Option<Instant>,
    watch: &Watch,
    limits: &Limits,
) -> Due {
    // Nothing below can become due sooner than this if it begins now.
    let mut next = now + limits.header_timeout.min(limits.write_idle_timeout);
    if let Phase::Ending { since } = phase {
        let until = since + GOAWAY_GRACE;
        return if now >= until { Due::Drop } else { Due::Later(until) };
    }
    if let Some(since) = watch.write_blocked_since() {
        let until = since + limits.write_idle_timeout;
        if now >= until {
            return Due::Drop;
        }
        next = next.min(until);
    }
    if let Some(since) = watch.head_open_since() {
        let until = since + limits.header_timeout;
        if now >= until {
            return Due::End(Reason::ENHANCE_YOUR_CALM);
        }
        next = next.min(until);
    }
    if let Some(idle_since) = idle_since {
        let until = match phase {
            Phase::Leaving { since } => since.max(idle_since) + GOAWAY_GRACE,
            _ => idle_since + limits.idle_timeout,
        };
        if now >= until {
            return if phase == Phase::Open { Due::Leave } else { Due::End(Reason::NO_ERROR) };
        }
        next = next.min(until);
    }
    Due::Later(next)
}

/// Runs the connection and its exchanges until the connection is closed.
async fn drive<H: Handle, IO>(
    mut connection: h2::server::Connection<Watched<IO>, Bytes>,
    watch: &Arc<Watch>,
    conn: &Arc<Conn>,
    serving: &Arc<Serving<H>>,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut exchanges = FuturesUnordered::new();
    let mut phase = Phase::Open;
    let mut idle_since = Some(Instant::now());
    let mut draining = pin!(serving.drain.draining());
    // Where another process goes on serving, a client that has just come gets its first answer
    // before it is sent away.
    let mut leave_at = None;
    let mut is_fresh = true;
    let mut clock: Pin<&mut Sleep> = pin!(tokio::time::sleep(Duration::ZERO));

    // One poll does everything once: frames in, exchanges, clock. What the exchanges queue wakes
    // this task, so that the next poll sends the frames of all of them together.
    std::future::poll_fn(|cx: &mut Context<'_>| {
        loop {
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let exchange = stream::exchange(
                            request,
                            respond,
                            Arc::clone(watch),
                            Arc::clone(conn),
                            Arc::clone(serving),
                        );
                        exchanges.push(contained(Either::Left(exchange)));
                        is_fresh = false;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
            }
            if let Some(reason) = watch.trouble()
                && !matches!(phase, Phase::Ending { .. })
            {
                debug!(?reason, "connection ended");
                phase = end(&mut connection, reason, &mut clock);
                continue;
            }
            while let Poll::Ready(Some(())) = exchanges.poll_next_unpin(cx) {}
            let mut pushes = false;
            while let Some(promised) = watch.pushes.next_made() {
                let (watch, conn) = (Arc::clone(watch), Arc::clone(conn));
                let exchange = push::pushed(promised, watch, conn, Arc::clone(serving));
                // Boxed, so that the others, which are many, have no room for its state.
                exchanges.push(contained(Either::Right(Box::pin(exchange))));
                pushes = true;
            }
            if pushes {
                continue;
            }
            match (exchanges.is_empty(), idle_since) {
                (true, None) => idle_since = Some(Instant::now()),
                (false, Some(_)) => idle_since = None,
                _ => {}
            }
            if leave_at.is_none() && draining.as_mut().poll(cx).is_ready() {
                let at = Instant::now() + serving.drain.patience();
                leave_at = Some(at);
                if clock.deadline() > at {
                    clock.as_mut().reset(at);
                }
            }
            if phase == Phase::Open && leave_at.is_some_and(|at| !is_fresh || Instant::now() >= at)
            {
                phase = leave(&mut connection, &mut clock);
                continue;
            }
            if clock.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match due(Instant::now(), phase, idle_since, watch, &serving.limits) {
                Due::Later(at) => {
                    let leave_at = leave_at.filter(|_| phase == Phase::Open);
                    clock.as_mut().reset(leave_at.map_or(at, |leave_at| leave_at.min(at)));
                }
                Due::Leave => phase = leave(&mut connection, &mut clock),
                Due::End(reason) => phase = end(&mut connection, reason, &mut clock),
                Due::Drop => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

fn leave<IO>(
    connection: &mut h2::server::Connection<Watched<IO>, Bytes>,
    clock: &mut Pin<&mut Sleep>,
) -> Phase
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.graceful_shutdown();
    let since = Instant::now();
    clock.as_mut().reset(since + GOAWAY_GRACE);
    Phase::Leaving { since }
}

fn end<IO>(
    connection: &mut h2::server::Connection<Watched<IO>, Bytes>,
    reason: Reason,
    clock: &mut Pin<&mut Sleep>,
) -> Phase
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.abrupt_shutdown(reason);
    let since = Instant::now();
    clock.as_mut().reset(since + GOAWAY_GRACE);
    Phase::Ending { since }
}

/// A panic in one exchange (a bug of ours) must not end the others of its connection.
fn contained(
    exchange: impl Future<Output = Result<(), stream::Unsent>>,
) -> impl Future<Output = ()> {
    use futures_util::FutureExt;

    // Not an `async fn`: it would have room for the exchange twice.
    std::panic::AssertUnwindSafe(exchange).catch_unwind().map(|ended| match ended {
        Ok(Ok(())) => {}
        Ok(Err(unsent)) => debug!(%unsent, "response not sent to its end"),
        Err(_) => error!("an exchange panicked"),
    })
}
