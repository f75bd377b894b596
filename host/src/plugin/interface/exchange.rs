//! `wharf:host/exchange`: what the host knows of one exchange, opened by its token.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::WasiView;

use super::bindings::wharf::host::exchange::{
    Connection, ConnectionStates, HintError, Host, HostExchange, OpenError, Protocol, PushError,
    PushOptions, TlsFacts,
};
use crate::http::conn;
use crate::http::interim::Unsent;
use crate::plugin::exchange::Exchange;
use crate::plugin::state::HostState;

/// An exchange that a guest has opened.
#[derive(Debug)]
pub struct OpenExchange(Arc<Exchange>);

impl OpenExchange {
    /// The exchange itself.
    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.0
    }
}

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
            .find(|call| !call.is_over() && call.token.is(token.as_bytes()))
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
                early_data: exchange.early_data,
            }),
            peer: conn.peer.to_string(),
            local: conn.local.to_string(),
            requests: exchange.ordinal,
        })
    }

    fn route(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<String> {
        Ok(self.ctx().table.get(&exchange)?.0.route.to_string())
    }

    fn early_hints(
        &mut self,
        exchange: Resource<OpenExchange>,
        links: Vec<String>,
    ) -> wasmtime::Result<Result<(), HintError>> {
        let exchange = &self.ctx().table.get(&exchange)?.0;
        Ok(exchange.interim.hint(&links).map_err(|why| match why {
            Unsent::Unsupported => HintError::Unsupported,
            Unsent::TooLate => HintError::TooLate,
            Unsent::Invalid => HintError::Invalid,
            Unsent::TooMany => HintError::TooMany,
        }))
    }

    fn push(
        &mut self,
        exchange: Resource<OpenExchange>,
        path: String,
        options: Option<PushOptions>,
    ) -> wasmtime::Result<Result<(), PushError>> {
        let options = options
            .unwrap_or_else(|| PushOptions { method: "GET".to_owned(), headers: Vec::new() });
        let exchange = &self.ctx().table.get(&exchange)?.0;
        let pushed = exchange.interim.push(&options.method, &path, &options.headers);
        Ok(pushed.map_err(|why| match why {
            Unsent::Unsupported => PushError::Unsupported,
            Unsent::TooLate => PushError::TooLate,
            Unsent::Invalid => PushError::Invalid,
            Unsent::TooMany => PushError::TooMany,
        }))
    }

    fn set_write_deadline(
        &mut self,
        exchange: Resource<OpenExchange>,
        milliseconds: Option<u64>,
    ) -> wasmtime::Result<()> {
        let deadline =
            milliseconds.and_then(|wait| Instant::now().checked_add(Duration::from_millis(wait)));
        self.ctx().table.get(&exchange)?.0.control.set_deadline(deadline);
        Ok(())
    }

    fn set_bandwidth_limit(
        &mut self,
        exchange: Resource<OpenExchange>,
        bytes_per_second: Option<u64>,
    ) -> wasmtime::Result<()> {
        let rate = bytes_per_second.map(|rate| rate.max(1));
        self.ctx().table.get(&exchange)?.0.control.set_rate(rate);
        Ok(())
    }

    fn set_buffered(
        &mut self,
        exchange: Resource<OpenExchange>,
        buffered: bool,
    ) -> wasmtime::Result<()> {
        self.ctx().table.get(&exchange)?.0.control.set_buffered(buffered);
        Ok(())
    }

    fn cancelled(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<bool> {
        Ok(self.ctx().table.get(&exchange)?.0.is_cancelled())
    }

    fn drop(&mut self, exchange: Resource<OpenExchange>) -> wasmtime::Result<()> {
        self.ctx().table.delete(exchange)?;
        Ok(())
    }
}
