//! The way of a request: one method, its stages plain functions called in reading order. Nothing
//! after the route look-up reads the table again; what must last as long as the response body
//! (permit, guard, route snapshot) moves into it.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, request};
use tokio::time::Instant;

use crate::admit::{Admission, Permit};
use crate::cache::Cache;
use crate::cache::stage::{self, Answer, Called, Origin};
use crate::drain::Drain;
use crate::files::folder::{Found, StaticFolder};
use crate::http::Handle;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::condition::Wanted;
use crate::http::conn::{Conn, EarlyData, Persistence};
use crate::http::control::{Control, controlled};
use crate::http::finish::timing::{Timing, announce};
use crate::http::finish::{Asked, CodedStore, Finisher};
use crate::http::forwarded::TrustedProxies;
use crate::http::interim::Interim;
use crate::http::limits::Limits;
use crate::http::rejection::{Rejection, failure_response};
use crate::http::validate::{self, UpgradeRequested};
use crate::observe::request::RequestId;
use crate::observe::{Observer, RequestGuard};
use crate::plugin::chain::Chain;
use crate::plugin::exchange::Exchange;
use crate::plugin::learnt::has_credentials;
use crate::plugin::manifest::cache::RoutePolicy;
use crate::plugin::manifest::response::ResponsePolicy;
use crate::plugin::pulse::Pulse;
use crate::plugin::registry::Published;
use crate::plugin::reply::Named;
use crate::plugin::upgrade::Offer;
use crate::plugin::{self, Failure, Plugin};
use crate::route::{RouteMatch, Routed};
use crate::websocket::handshake;

/// Tells a plugin which prefix was stripped from its path.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Tells a plugin that its request may be a replay (RFC 8470 §5.1).
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// WHATWG HTML §9.2.4.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the cache did, where a manifest's `debug` asks for it.
const CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What answers requests. One a server, shared by all cores; clones are the same one.
#[derive(Clone, Debug)]
pub struct App {
    /// What is served.
    pub published: Arc<Published>,
    /// Counts, logs and traces.
    pub observer: Arc<Observer>,
    /// How much runs at once.
    pub admission: Arc<Admission>,
    /// Limits in force.
    pub limits: Arc<Limits>,
    /// Fits answers to what their clients want.
    pub finisher: Finisher,
    /// Whether the server is leaving.
    pub drain: Drain,
    /// Who is believed about earlier hops.
    pub trusted_proxies: TrustedProxies,
    /// What is answered without a plugin.
    pub cache: Arc<Cache>,
}

impl Handle for App {
    async fn handle(
        &self,
        conn: &Arc<Conn>,
        request: Request<RequestBody>,
        interim: Arc<Interim>,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let mut guard = self.observer.begin(conn, &parts.method, &parts.uri, &parts.headers);
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

    /// What the cache has: the way of [`App::answer`], as far as that leads to a fresh entry.
    fn at_once(
        &self,
        conn: &Arc<Conn>,
        request: &Request<RequestBody>,
    ) -> Option<Response<ResponseBody>> {
        let (method, headers) = (request.method(), request.headers());
        if !self.cache.is_on()
            || *method != Method::GET && *method != Method::HEAD
            || request.extensions().get::<UpgradeRequested>().is_some()
            || request.extensions().get::<EarlyData>().is_some()
            || headers.contains_key(EARLY_DATA)
            || self.trusted_proxies.strips(conn.peer, headers)
        {
            return None;
        }
        let authority = request.uri().authority()?;
        let (host, path) = (authority.host(), request.uri().path());
        let routes = self.published.routes();
        let Routed::Found(route) = routes.find(method, host, path) else { return None };
        let manifest = &route.plugin.manifest;
        let caching = manifest.cache.find(method, host, path);
        if route.folder.is_some()
            || !caching.enabled
            || caching.debug
            || manifest.responses.find(method, host, path).is_some()
        {
            return None;
        }
        let asked = stage::Asked {
            plugin: &route.plugin.name,
            route: &route.pattern,
            space: &route.space,
            policy: caching,
            has_own: manifest.cache.size.is_some(),
            scheme: conn.scheme_name(),
            authority: authority.as_str(),
        };
        let answer = self.cache.at_once(asked, request)?;
        let mut guard = self.observer.begin(conn, method, request.uri(), headers);
        guard.routed(&route.plugin.name, &route.pattern);
        guard.cached(answer.outcome);
        let response = self.finish(&Asked::of(method, headers), caching, answer, &guard);
        Some(guard.finish(response))
    }

    fn reject(
        &self,
        conn: &Arc<Conn>,
        parts: &request::Parts,
        rejection: Rejection,
    ) -> Response<ResponseBody> {
        let mut guard = self.observer.begin(conn, &parts.method, &parts.uri, &parts.headers);
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
        let is_early = early_data(&mut parts)?;
        self.trusted_proxies.strip(conn.peer, &mut parts.headers);
        let route = self.route(&parts, &authority)?;
        guard.routed(&route.plugin.name, &route.pattern);
        if let Some(folder) = route.folder.as_deref().filter(|_| route.chain.is_empty()) {
            return self.send_static(folder, &route, &parts).await;
        }

        let body = guard.metered(self.bounded(&route, body)?);
        let cache = &route.plugin.manifest.cache;
        let caching = Arc::clone(cache.find(&parts.method, authority.host(), parts.uri.path()));
        let policies = &route.plugin.manifest.responses;
        let policy = policies.find(&parts.method, authority.host(), parts.uri.path());
        let persistence = policy.and_then(|policy| policy.persistence);
        // An answer that is stored has no exchange whose wishes would hold.
        let wishes = policy.and_then(wishes);
        let wants = Asked::of(&parts.method, &parts.headers);
        let is_switch = switches(&parts);
        let call = Call {
            app: self.clone(),
            conn: Arc::clone(conn),
            route,
            authority,
            caching,
            wanted: wants.wanted().clone(),
            is_early,
            request_id: guard.id().as_str().into(),
            traceparent: guard.traceparent(),
            interim,
        };
        let request = Request::from_parts(parts, body);
        let answer = if is_switch || !self.cache.is_on() || !call.caching.enabled {
            call.call(request).await?.into()
        } else {
            let answer = self.cache.answer(&call, request).await?;
            guard.cached(answer.outcome);
            answer
        };
        let control = answer.control.clone().or(wishes);
        let response = self.finish(&wants, &call.caching, answer, guard);
        Ok(under(response, control.as_ref(), persistence))
    }

    /// What this client gets of an answer (stage 9).
    fn finish(
        &self,
        wants: &Asked,
        caching: &RoutePolicy,
        answer: Answer,
        guard: &RequestGuard,
    ) -> Response<ResponseBody> {
        let Answer { mut response, is_held, outcome, stored, is_prepared, took, .. } = answer;
        if caching.debug && !is_held {
            let headers = response.headers_mut();
            headers.insert(CACHE_STATUS, HeaderValue::from_static(outcome.name()));
            let timing =
                Timing { total: guard.elapsed(), plugin: took, cache: Some(outcome.label()) };
            announce(headers, &timing);
        }
        if is_held {
            return response;
        }
        match stored {
            Some(kept) if is_prepared => {
                if wants.is_nothing() {
                    return response;
                }
                let traits = kept.entry.traits;
                let store: Arc<dyn CodedStore> = Arc::new(kept);
                self.finisher.finish_prepared(wants, response, &traits, Some(&store))
            }
            stored => {
                let store = stored.map(|kept| Arc::new(kept) as Arc<dyn CodedStore>);
                self.finisher.finish(wants, response, &caching.finish(), store.as_ref())
            }
        }
    }

    /// Answers from a static folder that nothing wraps: no plugin is called.
    async fn send_static(
        &self,
        folder: &StaticFolder,
        route: &RouteMatch,
        parts: &request::Parts,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let permit = self.admission.enter().await?;
        let wanted = Wanted::of(&parts.method, &parts.headers);
        let path = parts.uri.path().strip_prefix(&folder.prefix).unwrap_or_default();
        let readers = route.plugin.readers().clone();
        let found = folder.find(&parts.method, path, parts.uri.query(), &wanted, readers).await?;
        let response = match found {
            Found::Elsewhere(response) => response.map(|()| ResponseBody::empty()),
            Found::File(response) => {
                let (head, file) = response.into_parts();
                file.respond(head)
            }
        };
        Ok(response.map(|body| body.holding(permit)))
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
}

/// A request's way to its plugin, through the middleware around it.
struct Call {
    app: App,
    conn: Arc<Conn>,
    route: RouteMatch,
    authority: Authority,
    caching: Arc<RoutePolicy>,
    wanted: Wanted,
    is_early: bool,
    request_id: Box<str>,
    traceparent: Option<String>,
    interim: Arc<Interim>,
}

impl Call {
    /// What the manifest says of the responses to a request.
    fn policy(&self, method: &Method, path: &str) -> Option<&ResponsePolicy> {
        self.route.plugin.manifest.responses.find(method, self.authority.host(), path)
    }

    fn chain(&self) -> Chain {
        Chain {
            links: Arc::clone(&self.route.chain),
            folder: self.route.folder.clone(),
            readers: self.route.plugin.readers().clone(),
            admission: Arc::clone(&self.app.admission),
            core: self.conn.core,
        }
    }
}

impl Origin for Call {
    type Refusal = Refusal;

    fn asked(&self) -> stage::Asked<'_> {
        stage::Asked {
            plugin: &self.route.plugin.name,
            route: &self.route.pattern,
            space: &self.route.space,
            policy: &self.caching,
            has_own: self.route.plugin.manifest.cache.size.is_some(),
            scheme: self.conn.scheme_name(),
            authority: self.authority.as_str(),
        }
    }

    async fn call(&self, request: Request<RequestBody>) -> Result<Called, Refusal> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let permit = self.app.admission.enter().await?;
        let policy = self.policy(&parts.method, parts.uri.path());
        let hints = Hints::of(policy, &self.route.plugin, &self.authority, &parts);
        let offer = Offer::of(&self.conn, &parts, &body);
        forward_uri(&mut parts, &self.conn, &self.authority, &self.route)?;
        forward_trace(&mut parts, self.traceparent.as_deref());
        let exchange = Exchange::new(
            &self.request_id,
            &self.conn,
            &self.route.pattern,
            self.wanted.clone(),
            self.is_early,
            Arc::clone(&self.interim),
        );
        let _answered = Answering(&exchange);
        if offer.protocols().iter().any(|name| name.eq_ignore_ascii_case("websocket")) {
            exchange.set_websocket(handshake::Request::of(self.conn.protocol, &parts));
        }
        exchange.set_offer(offer);
        exchange.set_last_event_id(last_event_id(&parts));
        if let Some(policy) = policy {
            begin_policy(policy, &exchange.control);
        }
        hints.send(&exchange.interim);
        let body = plugin::guest_body(&exchange, body);
        let request = Request::from_parts(parts, body);
        let answer = self.chain().enter(&exchange, request).await;
        let response = resolve(&exchange, answer)?;
        let mut permit = Some(permit);
        let (response, is_held) =
            replied(&exchange, &self.route.plugin, response, &mut permit).await?;
        hints.learn(response.status(), response.headers());
        let response = response.map(|body| match permit {
            Some(permit) => body.holding(permit),
            None => body,
        });
        let control = Some(Arc::clone(&exchange.control));
        Ok(Called { response, control, is_held, took: begun.elapsed() })
    }

    fn background(&self) -> Self {
        Self {
            app: self.app.clone(),
            conn: Arc::clone(&self.conn),
            route: self.route.clone(),
            authority: self.authority.clone(),
            caching: Arc::clone(&self.caching),
            wanted: Wanted::default(),
            is_early: false,
            request_id: RequestId::random().as_str().into(),
            traceparent: None,
            interim: Arc::new(Interim::new(false)),
        }
    }
}

/// Whether a request asks to leave HTTP: the cache has no part in that.
fn switches(parts: &request::Parts) -> bool {
    parts.method == Method::CONNECT || parts.extensions.get::<UpgradeRequested>().is_some()
}

/// The response under the wishes for it.
fn under(
    response: Response<ResponseBody>,
    control: Option<&Arc<Control>>,
    persistence: Option<Persistence>,
) -> Response<ResponseBody> {
    let mut response = match control {
        Some(control) => {
            response.map(|body| if body.is_switching() { body } else { controlled(body, control) })
        }
        None => response,
    };
    if let Some(persistence) = persistence {
        response.extensions_mut().insert(persistence);
    }
    response
}

/// What a response policy wishes for; the plugin may still wish for something else.
fn begin_policy(policy: &ResponsePolicy, control: &Control) {
    if policy.write_deadline.is_some() {
        control.set_deadline(policy.write_deadline.map(|time| Instant::now() + time));
    }
    if policy.bandwidth.is_some() {
        control.set_rate(policy.bandwidth);
    }
    if policy.buffered {
        control.set_buffered(true);
    }
}

/// The same for an answer that no plugin gives; `None` where nothing is wished for.
fn wishes(policy: &ResponsePolicy) -> Option<Arc<Control>> {
    let any = policy.write_deadline.is_some() || policy.bandwidth.is_some() || policy.buffered;
    any.then(|| {
        let control = Control::default();
        begin_policy(policy, &control);
        Arc::new(control)
    })
}

/// The early hints that are learnt for a request's path, where a policy asks for it.
struct Hints<'a>(Option<Learning<'a>>);

struct Learning<'a> {
    plugin: &'a Plugin,
    authority: &'a Authority,
    path: String,
    with_credentials: bool,
}

impl<'a> Hints<'a> {
    fn of(
        policy: Option<&ResponsePolicy>,
        plugin: &'a Plugin,
        authority: &'a Authority,
        parts: &request::Parts,
    ) -> Self {
        let asked = policy.is_some_and(|policy| policy.early_hints) && parts.method == Method::GET;
        Self(asked.then(|| Learning {
            plugin,
            authority,
            path: parts.uri.path().to_owned(),
            with_credentials: has_credentials(&parts.headers),
        }))
    }

    /// Sends what is known, where the client copes with it.
    fn send(&self, interim: &Interim) {
        let Some(Learning { plugin, authority, path, .. }) = &self.0 else { return };
        if let Some(links) = plugin.learnt.of(authority.as_str(), path) {
            let links: Vec<&str> = links.iter().map(|link| &**link).collect();
            let _only_a_courtesy = interim.hint(&links);
        }
    }

    fn learn(&self, status: StatusCode, headers: &HeaderMap) {
        let Some(Learning { plugin, authority, path, with_credentials }) = &self.0 else { return };
        plugin.learnt.learn(authority.as_str(), path, *with_credentials, status, headers);
    }
}

/// An exchange that is being answered. However that ends, no reply can be used after it.
struct Answering<'a>(&'a Exchange);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.replies.close();
    }
}

/// The authority; the validator left it in the URI.
fn authority(parts: &request::Parts) -> Result<Authority, Rejection> {
    parts.uri.authority().cloned().ok_or(Rejection::bad("the request names no authority"))
}

/// Whether a plugin that has accepted a switch may answer with this.
fn confirms(status: StatusCode) -> bool {
    matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK)
}

/// Whether the request arrived as early data (RFC 8470): the plugin is told, because it may refuse what
/// is safe by its method and not by what it does. What a proxy in front says of its own early data is
/// honoured, and passed on (§5.1).
///
/// # Errors
/// 425 for a method that is not safe.
fn early_data(parts: &mut request::Parts) -> Result<bool, Rejection> {
    let is_early = parts.extensions.get::<EarlyData>().is_some();
    if !is_early && !parts.headers.contains_key(EARLY_DATA) {
        return Ok(false);
    }
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Err(Rejection::TooEarly);
    }
    // Several fields, or another value, count as one of 1 (§5.1).
    parts.headers.insert(EARLY_DATA, HeaderValue::from_static("1"));
    Ok(is_early)
}

/// The event that the client got last, by its `Last-Event-ID`: the header that browsers send when they
/// come back, or what a page puts into the query in its place.
fn last_event_id(parts: &request::Parts) -> Option<Box<str>> {
    if let Some(id) = parts.headers.get(LAST_EVENT_ID) {
        // What is no UTF-8 is no event's id, and whoever sent it is to learn that.
        return Some(String::from_utf8_lossy(id.as_bytes()).into());
    }
    let mut pairs = form_urlencoded::parse(parts.uri.query()?.as_bytes());
    let named = pairs.find(|(name, _)| {
        let letters = name.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
        letters.map(|byte| byte.to_ascii_lowercase()).eq(*b"lasteventid")
    });
    named.map(|(_, id)| id.into())
}

/// Tells the plugin which trace it is part of.
fn forward_trace(parts: &mut request::Parts, traceparent: Option<&str>) {
    if let Some(value) = traceparent
        && let Ok(value) = HeaderValue::from_str(value)
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

/// The response that the plugin's own stands for, where it names one that the host holds; and whether
/// it does.
async fn replied(
    exchange: &Exchange,
    plugin: &Plugin,
    response: Response<plugin::GuestBody>,
    permit: &mut Option<Permit>,
) -> Result<(Response<ResponseBody>, bool), Refusal> {
    let (mut head, body) = response.into_parts();
    let pulse = head.extensions.remove::<Arc<Pulse>>();
    let named = exchange.replies.take(&mut head.headers);
    let switches = matches!(&named, Named::Held(held) if held.switches());
    if switches && !confirms(head.status) {
        let message = "it accepted a protocol switch and answered with another status";
        return Err(Refusal::Failure(Failure::Reply { message: message.into() }));
    }
    if !switches {
        validate::response(head.status, &mut head.headers).map_err(Refusal::Failure)?;
    }
    match named {
        Named::Held(mut held) => {
            plugin::replaced_body(body).await;
            if held.is_held() {
                // Ten thousand that rest must not keep requests out.
                *permit = None;
                held.ready().await;
            }
            Ok((held.respond(head), true))
        }
        Named::Nothing => {
            Ok((Response::from_parts(head, plugin::response_body(body, pulse).await), false))
        }
        Named::Unknown => {
            let request_id = &*exchange.request_id;
            tracing::warn!(plugin = &*plugin.name, request_id, "unknown reply token");
            Ok((Response::from_parts(head, plugin::response_body(body, pulse).await), false))
        }
    }
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
