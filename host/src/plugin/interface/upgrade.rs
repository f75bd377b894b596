//! `wharf:host/upgrade`: the guest's ends of a protocol switch.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime::component::{
    Access, Destination, HasSelf, Resource, Source, StreamConsumer, StreamProducer, StreamReader,
    StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::WasiView;

use super::bindings::wharf::host::upgrade::{Host, HostWithStore, UpgradeError};
use super::exchange::OpenExchange;
use crate::plugin::state::HostState;
use crate::plugin::upgrade::{Accepted, Leaving, PIECE, PIECES, Refused, Stay};

impl Host for HostState {
    fn requested(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<Vec<String>> {
        let exchange = self.ctx().table.get(&exchange)?;
        let protocols = exchange.exchange().offer().protocols();
        Ok(protocols.iter().map(|name| name.clone().into_string()).collect())
    }
}

type Switched = Result<(String, StreamReader<u8>), UpgradeError>;

impl<T: Send> HostWithStore<T> for HasSelf<HostState> {
    fn accept(
        mut store: Access<'_, T, Self>,
        exchange: Resource<OpenExchange>,
        protocol: String,
        mut outgoing: StreamReader<u8>,
    ) -> wasmtime::Result<Switched> {
        let (to_guest, incoming) = mpsc::channel(PIECES);
        let (sender, from_guest) = mpsc::channel(PIECES);
        let accepted = store.get().accept(&exchange, &protocol, to_guest, from_guest)?;
        let (token, stay) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                outgoing.close(&mut store)?;
                return Ok(Err(why));
            }
        };
        let consumer = Output { sender: PollSender::new(sender), stay: Arc::clone(&stay) };
        outgoing.pipe(&mut store, consumer)?;
        let producer = Input { incoming, next: None, stay };
        Ok(Ok((token, StreamReader::new(&mut store, producer)?)))
    }
}

impl HostState {
    fn accept(
        &mut self,
        exchange: &Resource<OpenExchange>,
        protocol: &str,
        to_guest: mpsc::Sender<Bytes>,
        from_guest: mpsc::Receiver<Bytes>,
    ) -> wasmtime::Result<Result<(String, Arc<Stay>), UpgradeError>> {
        let exchange = Arc::clone(self.ctx().table.get(exchange)?.exchange());
        let call = self
            .calls
            .iter()
            .find(|call| !call.is_over() && Arc::ptr_eq(&call.exchange, &exchange))
            .map(Arc::clone);
        let worker = call.as_ref().and_then(|call| call.worker.get()?.upgrade());
        let (Some(call), Some(worker)) = (call, worker) else {
            return Ok(Err(UpgradeError::TooLate));
        };
        let Some(place) = worker.place_of(&call).filter(|_| !exchange.is_cancelled()) else {
            return Ok(Err(UpgradeError::TooLate));
        };
        let protocol = match exchange.offer().accept(protocol) {
            Ok(protocol) => protocol,
            Err(why) => {
                return Ok(Err(match why {
                    Refused::NotRequested => UpgradeError::NotRequested,
                    Refused::OtherProtocol => UpgradeError::OtherProtocol,
                    Refused::Unsupported => UpgradeError::Unsupported,
                    Refused::TooLate => UpgradeError::TooLate,
                }));
            }
        };
        let stay = Stay::new(&call, worker, place);
        let leaving = Leaving::new(&stay);
        let accepted = Accepted { protocol, to_guest, from_guest, leaving };
        let Ok(token) = exchange.replies.keep(Box::new(accepted)) else {
            return Ok(Err(UpgradeError::TooLate));
        };
        let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
        Ok(Ok((token, stay)))
    }
}

/// What the client sends, as the guest reads it.
struct Input {
    incoming: mpsc::Receiver<Bytes>,
    /// Came while the guest only asked whether there is something.
    next: Option<Bytes>,
    stay: Arc<Stay>,
}

impl<D> StreamProducer<D> for Input {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        if this.next.is_none() {
            match this.incoming.poll_recv(cx) {
                Poll::Ready(Some(piece)) => this.next = Some(piece),
                Poll::Ready(None) => return Poll::Ready(Ok(StreamResult::Dropped)),
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if destination.remaining(store.as_context_mut()) != Some(0)
            && let Some(piece) = this.next.take()
        {
            this.stay.moved(piece.len());
            destination.set_buffer(piece);
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// What the guest writes, on its way to the client.
struct Output {
    sender: PollSender<Bytes>,
    stay: Arc<Stay>,
}

impl<D> StreamConsumer<D> for Output {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        match this.sender.poll_reserve(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        }
        let mut source = source.as_direct(store);
        let there = source.remaining();
        if there.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let piece = Bytes::copy_from_slice(&there[..there.len().min(PIECE)]);
        let bytes = piece.len();
        if this.sender.send_item(piece).is_err() {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        source.mark_read(bytes);
        this.stay.moved(bytes);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
