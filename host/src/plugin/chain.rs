//! A plugin and the middleware around it: a request enters the outermost, and what that one sends
//! to its imported handler enters the next.

use std::sync::Arc;

use http::Request;
use wasmtime_wasi_http::WasiBody;

use super::call::Answer;
use super::exchange::Exchange;
use super::{Failure, Plugin};
use crate::admit::Admission;

/// Who answers, outermost first; the last is the plugin itself.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The plugins in order.
    pub links: Arc<[Arc<Plugin>]>,
    /// Admission for each link.
    pub admission: Arc<Admission>,
    /// The core that serves the connection.
    pub core: usize,
}

/// The rest of a chain, as a middleware's call keeps it.
#[derive(Clone, Debug)]
pub struct Next {
    chain: Chain,
    index: usize,
}

impl Chain {
    /// Sends a request into the outermost link.
    ///
    /// # Errors
    /// What the outermost link made of it.
    pub async fn enter(&self, exchange: &Arc<Exchange>, request: Request<WasiBody>) -> Answer {
        self.call(0, exchange, request).await
    }

    async fn call(
        &self,
        index: usize,
        exchange: &Arc<Exchange>,
        request: Request<WasiBody>,
    ) -> Answer {
        let plugin = &self.links[index];
        let permit = match self.admission.enter_plugin(&plugin.gate).await {
            Ok(permit) => permit,
            Err(rejection) => return Err(Failure::Refused(rejection)),
        };
        let next =
            (index + 1 < self.links.len()).then(|| Next { chain: self.clone(), index: index + 1 });
        // A middleware has at least as long as what it wraps: it waits for that.
        let behind = self.links[index..].iter();
        let timeout = behind.map(|link| link.manifest.limits.request_timeout).max();
        plugin.call(self.core, exchange, next, timeout.unwrap_or_default(), permit, request).await
    }
}

impl Next {
    /// Sends a middleware's request on.
    ///
    /// # Errors
    /// What the next link made of it.
    pub async fn call(&self, exchange: &Arc<Exchange>, request: Request<WasiBody>) -> Answer {
        // Boxed because a chain's future would contain itself.
        Box::pin(self.chain.call(self.index, exchange, request)).await
    }
}
