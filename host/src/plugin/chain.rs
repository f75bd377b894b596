//! A plugin, or its static folder, and the middleware around it: a request enters the outermost, and
//! what that one sends to its imported handler enters the next.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::call::Answer;
use super::exchange::Exchange;
use super::reply::REPLY_FIELD;
use super::{Failure, Plugin, empty_body};
use crate::admit::Admission;
use crate::files::folder::{Found, StaticFolder};
use crate::http::file_body::Readers;
use crate::http::rejection::Rejection;

/// Who answers, outermost first; the last is the plugin itself, unless a folder comes after it.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The plugins in order.
    pub links: Arc<[Arc<Plugin>]>,
    /// What answers after the last link.
    pub folder: Option<Arc<StaticFolder>>,
    /// The right to read its files.
    pub readers: Readers,
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
        let Some(plugin) = self.links.get(index) else {
            return Ok(self.static_answer(exchange, request.map(|_unread| ())).await);
        };
        let permit = match self.admission.enter_plugin(&plugin.gate).await {
            Ok(permit) => permit,
            Err(rejection) => return Err(Failure::Refused(rejection)),
        };
        let follows = index + 1 < self.links.len() || self.folder.is_some();
        let next = follows.then(|| Next { chain: self.clone(), index: index + 1 });
        // A middleware has at least as long as what it wraps: it waits for that.
        let behind = self.links[index..].iter();
        let timeout = behind.map(|link| link.manifest.limits.request_timeout).max();
        plugin.call(self.core, exchange, next, timeout.unwrap_or_default(), permit, request).await
    }

    /// What the folder gives to the middleware around it: as a plugin would, a response that names a
    /// reply, or one of its own.
    async fn static_answer(&self, exchange: &Exchange, request: Request<()>) -> Response<WasiBody> {
        let found = match &self.folder {
            None => Err(Rejection::NotFound),
            Some(folder) => {
                let (method, uri) = (request.method(), request.uri());
                let readers = self.readers.clone();
                folder.find(method, uri.path(), uri.query(), &exchange.wanted, readers).await
            }
        };
        let rejection = match found {
            Ok(Found::Elsewhere(response)) => return response.map(|()| empty_body()),
            Ok(Found::File(response)) => {
                let (mut head, reply) = response.into_parts();
                let token = exchange.replies.keep(Box::new(reply)).ok();
                let token = token.and_then(|t| HeaderValue::from_bytes(t.as_bytes()).ok());
                if let Some(token) = token {
                    head.headers.insert(REPLY_FIELD, token);
                    return Response::from_parts(head, empty_body());
                }
                // Only a middleware that asks over and over gets here.
                Rejection::Overloaded { retry_after: Duration::from_secs(1) }
            }
            Err(rejection) => rejection,
        };
        let response = rejection.into_response(Some(&exchange.request_id));
        response.map(|body| WasiBody::new(body.map_err(|_| WasiError::InternalError(None))))
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
