//! Streams that a plugin feeds: a short bounded queue between the plugin's end and the client's.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Counted, EventStream, Hub, StreamOptions};

/// Events that wait for the client.
const MAX_EVENTS: usize = 64;
/// Bytes of them; one event may be larger.
const MAX_BYTES: u32 = 256 << 10;

/// Why an event is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// The client has left, or the stream has ended.
    #[error("the stream has ended")]
    Closed,
}

type Sent = (Bytes, OwnedSemaphorePermit);

/// The plugin's end.
#[derive(Debug)]
pub struct Emitter {
    sender: mpsc::Sender<Sent>,
    room: Arc<Semaphore>,
    hub: Arc<Hub>,
}

/// Told how the stream ended, by being dropped at the latest.
pub trait Watcher: Send {
    /// A response stands for it.
    fn begin(&mut self);
    /// It came to its end.
    fn end(&mut self);
}

impl Emitter {
    /// Both ends of a stream.
    pub fn open(
        hub: &Arc<Hub>,
        options: StreamOptions,
        held: Counted,
        watcher: impl FnOnce() -> Box<dyn Watcher>,
    ) -> (Self, EventStream) {
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let room = Arc::new(Semaphore::new(MAX_BYTES as usize));
        let (drain, spread) = (hub.drain.clone(), hub.drain_spread());
        let cut = Box::pin(async move {
            drain.draining().await;
            let share = spread.mul_f64(rand::random::<f64>());
            tokio::time::sleep(share).await;
        });
        let watcher = watcher();
        let queue = Queue { receiver, hub: Arc::clone(hub), cut, cut_off: false, watcher };
        let emitter = Self { sender, room, hub: Arc::clone(hub) };
        (emitter, EventStream::of_emitter(queue, options, held))
    }

    /// Sends something framed; waits for room.
    ///
    /// # Errors
    /// [`EmitError::Closed`].
    pub async fn send(&self, framed: Bytes) -> Result<(), EmitError> {
        let bytes = u32::try_from(framed.len()).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let room = tokio::select! {
            biased;
            () = self.sender.closed() => return Err(EmitError::Closed),
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => room,
        };
        let room = room.map_err(|_closed| EmitError::Closed)?;
        self.sender.send((framed, room)).await.map_err(|_closed| EmitError::Closed)
    }

    /// Whether nobody reads any more, or will not for long.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.hub.drain.is_draining()
    }

    /// Waits until that is so.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.sender.closed() => {}
            () = self.hub.drain.draining() => {}
        }
    }
}

/// The client's end.
pub(super) struct Queue {
    receiver: mpsc::Receiver<Sent>,
    hub: Arc<Hub>,
    /// When the drain ends it.
    cut: BoxFuture<'static, ()>,
    cut_off: bool,
    watcher: Box<dyn Watcher>,
}

impl Queue {
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(super) fn begin(&mut self) {
        self.watcher.begin();
    }

    pub(super) fn end(&mut self) {
        self.watcher.end();
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(sent) = self.receiver.poll_recv(cx) {
            // A plugin that watches ends its stream itself, at the very beginning of the drain.
            self.cut_off = sent.is_none() && self.hub.drain.is_draining();
            return Poll::Ready(sent.map(|(framed, _room)| framed));
        }
        ready!(self.cut.as_mut().poll(cx));
        self.cut_off = true;
        Poll::Ready(None)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("cut_off", &self.cut_off).finish_non_exhaustive()
    }
}
