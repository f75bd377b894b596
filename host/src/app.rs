//! The way of a request: one method, its stages plain functions called in reading order. Nothing
//! after the route look-up reads the table again; what must last as long as the response body
//! (permit, guard, route snapshot) moves into it.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, StatusCode, Uri, request};

use crate::admit::Admission;
use crate::drain::Drain;
use crate::http::Handle;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::conn::Conn;
use crate::http::control::controlled;
use crate::http::interim::Interim;
use crate::http::limits::Limits;
use crate::http::rejection::{Rejection, failure_response};
use crate::http::validate;
use crate::observe::{Observer, RequestGuard};
use crate::plugin::chain::Chain;
use crate::plugin::exchange::Exchange;
use crate::plugin::registry::Published;
use crate::plugin::reply::Named;
use crate::plugin::upgrade::Offer;
use crate::plugin::{self, Failure};
use crate::route::{RouteMatch, Routed};

/// Tells a plugin which prefix was stripped from its path.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What answers requests. One a server, shared by all cores.
#[derive(Debug)]
pub struct App {
    /// What is served.
    pub published: Arc<Published>,
    /// Counts, logs and traces.
    pub observer: Arc<Observer>,
    /// How much runs at once.
    pub admission: Arc<Admission>,
    /// Limits in force.
    pub limits: Arc<Limits>,
    /// Whether the server is leaving.
    pub drain: Drain,
}

impl Handle for App {
    async fn handle(
        &self,
        conn: &Arc<Conn>,
        request: Request<RequestBody>,
        interim: Arc<Interim>,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let mut guard = self.observer.begin(conn, &parts);
        let response = match self.answer(conn, parts, body, interim, &mut guard).await {
            Ok(response) => response,
            Err(Refusal::Rejection(rejection)) => {
                guard.rejected(&rejection);
                rejection.into_response(Some(guard.id().as_str()))
            }
            Err(Refusal::Failure(failure)) => {
                guard.failed(&failure);
                failure_response(&failure, guard.id().as_str())
            }
        };
        guard.finish(response)
    }

    fn reject(
        &self,
        conn: &Arc<Conn>,
        parts: &request::Parts,
        rejection: Rejection,
    ) -> Response<ResponseBody> {
        let mut guard = self.observer.begin(conn, parts);
        guard.rejected(&rejection);
        let response = rejection.into_response(Some(guard.id().as_str()));
        guard.finish(response)
    }
}

/// Why there is no answer from a plugin.
enum Refusal {
    Rejection(Rejection),
    Failure(Failure),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Rejection(rejection)
    }
}

impl App {
    async fn answer(
        &self,
        conn: &Arc<Conn>,
        mut parts: request::Parts,
        body: RequestBody,
        interim: Arc<Interim>,
        guard: &mut RequestGuard,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let authority = authority(&parts)?;
        let route = self.route(&parts, &authority)?;
        guard.routed(&route.plugin.name, &route.pattern);

        let body = guard.metered(self.bounded(&route, body)?);
        let permit = self.admission.enter().await?;
        forward_uri(&mut parts, conn, &authority, &route)?;
        forward_trace(&mut parts, guard);

        let exchange = Exchange::new(guard.id().as_str(), conn, &route.pattern, interim);
        exchange.set_offer(Offer::of(conn, &parts, &body));
        let _closed_at_the_end = Replying(Arc::clone(&exchange));
        let body = plugin::guest_body(&exchange, body);
        let chain = self.chain(conn, &route);
        let answer = chain.enter(&exchange, Request::from_parts(parts, body)).await;
        let response = resolve(&exchange, answer)?;
        let (mut head, body) = response.into_parts();
        let named = exchange.replies.take(&mut head.headers);
        if !matches!(&named, Named::Held(held) if held.switches() && confirms(head.status)) {
            validate::response(head.status, &mut head.headers).map_err(Refusal::Failure)?;
        }
        let response = match named {
            Named::Held(held) if held.switches() && !confirms(head.status) => {
                let message = "it accepted a protocol switch and answered with another status";
                return Err(Refusal::Failure(Failure::Reply { message: message.into() }));
            }
            Named::Held(held) => {
                plugin::replaced_body(body).await;
                held.respond(head)
            }
            named => {
                if matches!(named, Named::Unknown) {
                    let plugin = &*route.plugin.name;
                    tracing::warn!(plugin, request_id = %guard.id(), "unknown reply token");
                }
                Response::from_parts(head, plugin::response_body(body).await)
            }
        };
        Ok(response.map(|body| {
            let body = if body.is_switching() { body } else { controlled(body, &exchange.control) };
            body.holding(permit)
        }))
    }

    fn route(
        &self,
        parts: &request::Parts,
        authority: &Authority,
    ) -> Result<RouteMatch, Rejection> {
        let routes = self.published.routes();
        match routes.find(&parts.method, authority.host(), parts.uri.path()) {
            Routed::Found(route) => Ok(route.clone()),
            Routed::MethodNotAllowed { allow } => Err(Rejection::MethodNotAllowed { allow }),
            Routed::NotFound => Err(Rejection::NotFound),
        }
    }

    /// The body under the plugin's limit; refused before a byte is read where its length is declared.
    fn bounded(&self, route: &RouteMatch, body: RequestBody) -> Result<RequestBody, Rejection> {
        let limit = route.plugin.manifest.limits.body;
        if body.declared().is_some_and(|declared| declared > limit) {
            return Err(Rejection::BodyTooLarge { limit });
        }
        Ok(body.limited(limit).paced(&self.limits))
    }

    fn chain(&self, conn: &Conn, route: &RouteMatch) -> Chain {
        Chain {
            links: Arc::clone(&route.chain),
            admission: Arc::clone(&self.admission),
            core: conn.core,
        }
    }
}

/// The authority; the validator left it in the URI.
fn authority(parts: &request::Parts) -> Result<Authority, Rejection> {
    parts.uri.authority().cloned().ok_or(Rejection::bad("the request names no authority"))
}

/// Closes an exchange's replies when its response has its body, or when the client leaves before.
struct Replying(Arc<Exchange>);

impl Drop for Replying {
    fn drop(&mut self) {
        self.0.replies.close();
    }
}

/// Whether a plugin that has accepted a switch may answer with this.
fn confirms(status: StatusCode) -> bool {
    matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK)
}

/// Tells the plugin which trace it is part of.
fn forward_trace(parts: &mut request::Parts, guard: &RequestGuard) {
    if let Some(value) = guard.traceparent()
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        parts.headers.insert(TRACEPARENT, value);
    }
}

/// The target as the plugin sees it: absolute, and without the prefix of a plugin that has no routes
/// of its own. No other normalisation: what the route matched is what the plugin sees.
fn forward_uri(
    parts: &mut request::Parts,
    conn: &Conn,
    authority: &Authority,
    route: &RouteMatch,
) -> Result<(), Rejection> {
    let target = parts.uri.path_and_query().cloned();
    let mut target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if let Some(prefix) = &route.plugin.manifest.strip_prefix
        && let Some(rest) = target.as_str().strip_prefix(prefix.as_str())
    {
        let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        target = PathAndQuery::try_from(rest).map_err(|_| Rejection::bad("malformed target"))?;
        if let Ok(prefix) = HeaderValue::from_str(prefix) {
            parts.headers.insert(FORWARDED_PREFIX, prefix);
        }
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(conn.scheme());
    uri.authority = Some(authority.clone());
    uri.path_and_query = Some(target);
    parts.uri = Uri::from_parts(uri).map_err(|_| Rejection::bad("malformed target"))?;
    Ok(())
}

/// What the client gets for what the chain gave.
fn resolve(
    exchange: &Exchange,
    answer: plugin::call::Answer,
) -> Result<Response<plugin::GuestBody>, Refusal> {
    let noted = exchange.failure();
    let refused = |failure| match failure {
        Failure::Refused(rejection) => Refusal::Rejection(rejection),
        failure => Refusal::Failure(failure),
    };
    match (answer, noted) {
        // The request never arrived whole, so whatever the plugin made of it is not the answer.
        (_, Some(noted @ Failure::Refused(_))) => Err(refused(noted)),
        // A middleware that passes its next plugin's error code on means that failure.
        (Err(Failure::Reply { .. }), Some(noted)) => Err(refused(noted)),
        (Err(failure), _) => Err(refused(failure)),
        (Ok(response), _) => Ok(response),
    }
}
