//! `wharf:host/exchange`: what the host knows of one exchange, opened by its token.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::component::Resource;
use wasmtime_wasi::WasiView;

use super::bindings::wharf::host::exchange::{
    Connection, ConnectionStates, Host, HostExchange, OpenError, Protocol, TlsFacts,
};
use crate::http::conn;
use crate::plugin::exchange::Exchange;
use crate::plugin::state::HostState;

/// An exchange that a guest has opened.
#[derive(Debug)]
pub struct OpenExchange(Arc<Exchange>);

impl Host for HostState {
    fn open(
        &mut self,
        token: String,
    ) -> wasmtime::Result<Result<Resource<OpenExchange>, OpenError>> {
        // The calls of this instance are all the exchanges that it may know of, so a token of
        // another plugin or of an exchange that has ended is simply not there.
        let found = self
            .calls
            .iter()
            .find(|call| !call.is_over() && call.token.as_bytes() == token.as_bytes())
            .map(|call| Arc::clone(&call.exchange));
        let Some(exchange) = found else {
            return Ok(Err(OpenError::UnknownToken));
        };
        Ok(Ok(self.ctx().table.push(OpenExchange(exchange))?))
    }

    fn states(&mut self) -> wasmtime::Result<ConnectionStates> {
        let states = &self.environment.services.states;
        Ok(ConnectionStates {
            new: states.accepted.load(Ordering::Relaxed),
            active: states.active.load(Ordering::Relaxed),
            idle: states.idle.load(Ordering::Relaxed),
            hijacked: states.hijacked.load(Ordering::Relaxed),
            closed: states.closed.load(Ordering::Relaxed),
        })
    }
}

impl HostExchange for HostState {
    fn request_id(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<String> {
        Ok(self.ctx().table.get(&exchange)?.0.request_id.to_string())
    }

    fn connection(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<Connection> {
        let exchange = &self.ctx().table.get(&exchange)?.0;
        let conn = &exchange.conn;
        Ok(Connection {
            id: conn.id,
            protocol: match conn.protocol {
                conn::Protocol::H1 => Protocol::Http1,
                conn::Protocol::H2 => Protocol::Http2,
                conn::Protocol::H3 => Protocol::Http3,
            },
            tls: conn.tls.as_ref().map(|tls| TlsFacts {
                version: tls.version.clone(),
                cipher: tls.cipher.clone(),
                alpn: tls.alpn.clone(),
                sni: tls.sni.clone(),
                early_data: tls.early_data,
            }),
            peer: conn.peer.to_string(),
            local: conn.local.to_string(),
            requests: exchange.ordinal,
        })
    }

    fn route(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<String> {
        Ok(self.ctx().table.get(&exchange)?.0.route.to_string())
    }

    fn cancelled(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<bool> {
        Ok(self.ctx().table.get(&exchange)?.0.is_cancelled())
    }

    fn drop(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<()> {
        self.ctx().table.delete(exchange)?;
        Ok(())
    }
}
