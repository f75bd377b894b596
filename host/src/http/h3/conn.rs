//! One HTTP/3 connection: our control stream, the client's streams, idling and draining.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use quinn::{Connection, SendStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::code::{Code, Fault};
use super::control::{self, GOAWAY_LATER, PeerStreams, Rate};
use super::stream;
use crate::http::conn::Conn;
use crate::http::{Handle, Serving};

/// How long after the first GOAWAY new requests are still taken: those that crossed it on the wire.
/// At least a round trip, within these bounds.
const GOAWAY_GRACE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(1);

/// What the tasks of one connection share.
pub(super) struct Shared<H> {
    pub(super) connection: Connection,
    pub(super) conn: Arc<Conn>,
    pub(super) serving: Serving<H>,
    /// Request streams whose task still runs.
    streams: AtomicUsize,
    ended: Notify,
    /// Requests that the client gave up (CVE-2023-44487, which HTTP/3 has too).
    cancelled: Rate,
}

impl<H> Shared<H> {
    /// Ends the connection for what the client did.
    pub(super) fn close(&self, code: Code, reason: &'static str) {
        tracing::debug!(conn = self.conn.id, reason, "connection closed");
        self.connection.close(code.into(), reason.as_bytes());
    }

    /// Counts a request that the client gave up; too many a second end the connection.
    pub(super) fn count_cancelled(&self) {
        if !self.cancelled.allows() && self.connection.close_reason().is_none() {
            self.close(Code::EXCESSIVE_LOAD, "too many cancelled requests");
        }
    }
}

/// Keeps a stream counted for as long as its task lives, however that ends.
struct Counted<H>(Arc<Shared<H>>);

impl<H> Drop for Counted<H> {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_one();
        }
    }
}

/// How far a connection's drain is (RFC 9114 §5.2).
enum Leaving {
    No,
    /// Another process goes on serving: a client that has just come gets its first answer before it
    /// is sent away.
    Fresh,
    /// The client knows; what it sent before it knew is still taken.
    Announced,
    /// Nothing new is taken.
    Closed,
}

/// Serves one HTTP/3 connection to its end.
pub async fn serve<H: Handle>(connection: Connection, conn: Arc<Conn>, serving: Serving<H>) {
    let limits = Arc::clone(&serving.limits);
    let shared = Arc::new(Shared {
        connection: connection.clone(),
        conn,
        cancelled: Rate::new(limits.h2_control_frames),
        serving,
        streams: AtomicUsize::new(0),
        ended: Notify::new(),
    });
    // QPACK's streams are left out: neither has anything to say (RFC 9204 §4.2).
    let opened = timeout(limits.header_timeout, open_control(&shared)).await;
    let Ok(Ok(mut control)) = opened else {
        return shared.close(Code::STREAM_CREATION_ERROR, "no room for a control stream");
    };

    let peer = PeerStreams::new(limits.h2_control_frames);
    let mut peer_streams = FuturesUnordered::new();
    let mut draining = pin!(shared.serving.drain.draining());
    let mut leaving = Leaving::No;
    let mut timer = pin!(sleep(limits.idle_timeout));
    let mut accepted = 0u64;
    let mut accepted_before = 0;
    // Cancel safety: quinn's accepting futures and all others here keep nothing when dropped.
    loop {
        tokio::select! {
            stream = connection.accept_bi() => {
                let Ok((mut send, mut recv)) = stream else { return };
                if matches!(leaving, Leaving::Closed) {
                    // Errors mean that the stream is over already.
                    let _over = send.reset(Code::REQUEST_REJECTED.into());
                    let _over = recv.stop(Code::REQUEST_REJECTED.into());
                    continue;
                }
                accepted += 1;
                shared.streams.fetch_add(1, Ordering::AcqRel);
                let counted = Counted(Arc::clone(&shared));
                shared.serving.drain.spawn(async move {
                    let counted = counted;
                    stream::serve(&counted.0, send, recv).await;
                });
                if matches!(leaving, Leaving::Fresh) {
                    timer.as_mut().reset(Instant::now());
                }
            }
            stream = connection.accept_uni() => {
                let Ok(recv) = stream else { return };
                peer_streams.push(peer.read(recv));
            }
            Some(ended) = peer_streams.next() => match ended {
                Ok(()) => {}
                Err(Fault::Gone) => return,
                Err(Fault::Connection(code, reason) | Fault::Stream(code, reason)) => {
                    return shared.close(code, reason);
                }
            },
            () = &mut draining, if matches!(leaving, Leaving::No) => {
                leaving = Leaving::Fresh;
                let patience = shared.serving.drain.patience();
                let patience = if accepted == 0 { patience } else { Duration::ZERO };
                timer.as_mut().reset(Instant::now() + patience);
            }
            () = &mut timer => match leaving {
                Leaving::Fresh => {
                    leaving = Leaving::Announced;
                    if !send_goaway(&mut control, GOAWAY_LATER, limits.write_idle_timeout).await {
                        return shared.close(Code::NO_ERROR, "draining");
                    }
                    let grace = connection.rtt().clamp(*GOAWAY_GRACE.start(), *GOAWAY_GRACE.end());
                    // There is time where another process goes on serving.
                    let is_handed_over = shared.serving.drain.is_handed_over();
                    let grace = if is_handed_over { *GOAWAY_GRACE.end() } else { grace };
                    timer.as_mut().reset(Instant::now() + grace);
                }
                Leaving::Announced => {
                    // Request streams are numbered in fours (RFC 9000 §2.1).
                    let next = accepted * 4;
                    if !send_goaway(&mut control, next, limits.write_idle_timeout).await {
                        return shared.close(Code::NO_ERROR, "draining");
                    }
                    leaving = Leaving::Closed;
                    timer.as_mut().reset(Instant::now() + limits.idle_timeout);
                    if shared.streams.load(Ordering::Acquire) == 0 {
                        return shared.close(Code::NO_ERROR, "draining");
                    }
                }
                // quinn's own idle timeout sees packets; this one sees exchanges: a client that only
                // sends PING frames goes too, after at most twice the time.
                Leaving::No | Leaving::Closed => {
                    let streams = shared.streams.load(Ordering::Acquire);
                    if streams == 0 && accepted == accepted_before {
                        return shared.close(Code::NO_ERROR, "idle");
                    }
                    accepted_before = accepted;
                    timer.as_mut().reset(Instant::now() + limits.idle_timeout);
                }
            },
            () = shared.ended.notified(), if matches!(leaving, Leaving::Closed) => {
                if shared.streams.load(Ordering::Acquire) == 0 {
                    return shared.close(Code::NO_ERROR, "draining");
                }
            }
        }
    }
}

async fn open_control<H>(shared: &Shared<H>) -> Result<SendStream, quinn::WriteError> {
    let mut control = shared.connection.open_uni().await?;
    let opening = control::opening(shared.serving.limits.header_bytes);
    control.write_chunk(opening.freeze()).await?;
    Ok(control)
}

/// False where the client takes nothing any more.
async fn send_goaway(control: &mut SendStream, id: u64, limit: Duration) -> bool {
    matches!(timeout(limit, control.write_chunk(control::goaway(id).freeze())).await, Ok(Ok(())))
}
