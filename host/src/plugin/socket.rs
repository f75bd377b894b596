//! What WebSockets bring to plugins: their clients' messages and their ends, told to whichever version
//! serves at that moment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::event::{EventSocket, GuestEvent, Payload};
use super::exchange::Exchange;
use super::registry::Published;
use super::{Failure, Plugin};
use crate::observe::RequestId;
use crate::websocket::{self, Fault, Handle, Listener};

/// How long an event may wait for a place in its plugin, all attempts together.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells plugins.
#[derive(Clone, Debug)]
pub struct PluginListener {
    published: Arc<Published>,
}

impl PluginListener {
    /// Tells those that are published.
    pub fn new(published: Arc<Published>) -> Self {
        Self { published }
    }

    /// The version that serves now, and whether it wants to be told.
    fn plugin(&self, socket: &Handle) -> Result<Option<Arc<Plugin>>, Fault> {
        let plugin = self.published.plugin(socket.plugin()).ok_or(Fault::Gone)?;
        Ok(plugin.takes_websocket_events().then_some(plugin))
    }

    async fn tell(
        &self,
        socket: &Handle,
        event: impl Fn(EventSocket) -> GuestEvent,
    ) -> Result<(), Fault> {
        let until = Instant::now() + PATIENCE;
        loop {
            // Anew each time: it may have been replaced meanwhile.
            let Some(plugin) = self.plugin(socket)? else { return Ok(()) };
            let identity = &socket.identity;
            let exchange =
                Exchange::of_event(RequestId::random().as_str(), &identity.conn, &identity.text);
            let named = EventSocket {
                id: Arc::clone(&identity.text),
                protocol: identity.protocol.clone(),
                attributes: Arc::clone(&identity.attributes),
            };
            match plugin.event(identity.conn.core, &exchange, event(named)).await {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(_)) if Instant::now() < until => sleep(PAUSE).await,
                Err(Failure::Refused(_)) => return Err(Fault::Busy),
                Err(_told_already) => return Err(Fault::Failed),
            }
        }
    }
}

impl Listener for PluginListener {
    fn message(
        &self,
        socket: &Arc<Handle>,
        message: websocket::Payload,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let (listener, handle) = (self.clone(), Arc::clone(socket));
        let message = match message {
            websocket::Payload::Text(text) => Payload::Text(text),
            websocket::Payload::Binary(bytes) => Payload::Binary(Bytes::from(bytes)),
        };
        Box::pin(async move {
            let event = |socket| GuestEvent::Message { socket, message: message.clone() };
            listener.tell(&handle, event).await
        })
    }

    fn closed(&self, socket: &Arc<Handle>, code: u16, reason: String) -> BoxFuture<'static, ()> {
        let (listener, handle) = (self.clone(), Arc::clone(socket));
        Box::pin(async move {
            let event = |socket| GuestEvent::Closed { socket, code, reason: reason.clone() };
            // The plugin's own log has it.
            let _failed = listener.tell(&handle, event).await;
        })
    }
}
