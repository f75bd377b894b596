//! HTTP: connections, bodies, the three protocols, and the one place where errors become statuses.
//!
//! Only this module (and `upstream`, for the client side) names hyper, h2 or a parser. Each protocol
//! file turns its wire into [`Handle::handle`]; [`validate`] is applied by all three.

use std::future::Future;
use std::sync::Arc;

use http::{HeaderValue, Request, Response};

pub mod body;
pub mod coding;
pub mod condition;
pub mod conn;
pub mod control;
pub(crate) mod date;
pub mod disposition;
pub mod etag;
pub mod file_body;
pub mod file_reply;
pub mod finish;
pub mod forwarded;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod interim;
pub mod limits;
pub mod negotiate;
pub mod push;
pub mod range;
pub mod rejection;
pub mod settle;
pub mod switch;
pub mod validate;

use self::body::{RequestBody, ResponseBody};
use self::conn::{Conn, ConnStates};
use self::interim::Interim;
use self::limits::Limits;
use self::rejection::Rejection;
use crate::drain::Drain;

/// What a protocol hands its requests to: `App`, or a closure's worth of it in tests.
pub trait Handle: Send + Sync + 'static {
    /// Answers one request, perhaps after heads in `interim`. It cannot fail: whatever goes wrong is
    /// a response. Dropping the future cancels the exchange, as does dropping the response body
    /// before its end.
    fn handle(
        &self,
        conn: &Arc<Conn>,
        request: Request<RequestBody>,
        interim: Arc<Interim>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;

    /// The answer to a request without a body, where nothing has to be waited for: asked before
    /// [`Handle::handle`], whose future costs more than such an answer.
    fn at_once(
        &self,
        _conn: &Arc<Conn>,
        _request: &Request<RequestBody>,
    ) -> Option<Response<ResponseBody>> {
        None
    }

    /// Answers a request that the protocol or the validator refuses.
    fn reject(
        &self,
        _conn: &Arc<Conn>,
        _request: &http::request::Parts,
        rejection: Rejection,
    ) -> Response<ResponseBody> {
        rejection.into_response(None)
    }
}

/// Stands for the head of a request that was refused before it could be told what it is.
fn unread() -> http::request::Parts {
    let mut request = Request::new(());
    *request.uri_mut() = http::Uri::from_static("*");
    request.into_parts().0
}

/// What every connection task needs; one value a core, cheap to clone.
#[derive(Debug)]
pub struct Serving<H> {
    /// Answers requests.
    pub handler: Arc<H>,
    /// Spawns, and tells that the server is leaving.
    pub drain: Drain,
    /// Limits in force.
    pub limits: Arc<Limits>,
    /// Server-wide connection counters.
    pub states: Arc<ConnStates>,
    /// Index of this core.
    pub core: usize,
    /// The `Alt-Svc` value for responses on TLS over TCP, where HTTP/3 is served.
    pub alt_svc: Option<HeaderValue>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

impl<H> Clone for Serving<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            drain: self.drain.clone(),
            limits: Arc::clone(&self.limits),
            states: Arc::clone(&self.states),
            core: self.core,
            alt_svc: self.alt_svc.clone(),
            http2: self.http2,
        }
    }
}
