//! The guard that every request carries from its head to the last byte of its response.
//!
//! [`Observer::begin`] makes a [`RequestGuard`]; [`RequestGuard::finish`] moves it into the
//! response's body, and its drop records the exchange: metrics, access log, trace. A guard that is
//! dropped unfinished is a client that left before there was a response; it is logged as 499.
//! Everything it touches belongs to its connection's core.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, Response, StatusCode, Uri};
use parking_lot::Mutex;
use tracing::{Span, debug_span, warn};

use super::access::{AccessLog, Line};
use super::metrics::Metrics;
use super::otlp::{ServerSpan, TraceContext, Tracer};
use super::series::{Exchange, MAX_ROUTES, Outcome, Shard, UNMATCHED};
use crate::cache::figures::Outcome as Cached;
use crate::http::body::{BodyError, BodyObserver, RequestBody, ResponseBody};
use crate::http::conn::{Conn, Protocol};
use crate::http::rejection::Rejection;
use crate::plugin::Failure;

/// The status that is recorded for a client that left before there was a response. It is never
/// sent; nginx made the number known.
pub const CLIENT_LEFT: u16 = 499;

/// Observes requests; one a server.
#[derive(Debug)]
pub struct Observer {
    cores: Box<[Arc<Core>]>,
    shared: Arc<Shared>,
}

/// What all cores use.
#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    access: Option<AccessLog>,
    tracer: Option<Tracer>,
    /// Makes ids of different processes differ.
    seed: u64,
}

/// What one core uses: nothing in it is written by another.
#[derive(Debug)]
#[repr(align(128))]
struct Core {
    number: usize,
    next_id: AtomicU64,
    unmatched: Arc<Shard>,
    routes: Mutex<HashMap<(usize, usize), KnownRoute>>,
    shared: Arc<Shared>,
}

/// A route's numbers by the addresses of its names. Holding the names keeps their addresses from
/// being used again.
#[derive(Debug)]
struct KnownRoute {
    _plugin: Arc<str>,
    _pattern: Arc<str>,
    shard: Arc<Shard>,
}

impl Observer {
    /// An observer for as many cores as `metrics` tells apart.
    pub fn new(
        metrics: Arc<Metrics>,
        access: Option<AccessLog>,
        tracer: Option<Tracer>,
    ) -> Arc<Self> {
        let cores = metrics.series.cores();
        let seed = RandomState::new().build_hasher().finish();
        let shared = Arc::new(Shared { metrics, access, tracer, seed });
        let core = |number: usize| {
            Arc::new(Core {
                number,
                next_id: AtomicU64::new((number as u64) << 48),
                unmatched: shared.metrics.series.unmatched(number),
                routes: Mutex::default(),
                shared: Arc::clone(&shared),
            })
        };
        Arc::new(Self { cores: (0..cores).map(core).collect(), shared })
    }

    /// The server's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Exports the traces that still wait, for at most `limit`. Blocks; for the end of the drain.
    pub fn shutdown(&self, limit: std::time::Duration) {
        if let Some(tracer) = &self.shared.tracer {
            tracer.shutdown(limit);
        }
    }

    /// Begins the observation of a request.
    pub fn begin(
        &self,
        conn: &Arc<Conn>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> RequestGuard {
        let core = &self.cores[conn.core % self.cores.len()];
        let shared = &core.shared;
        let number = core.next_id.fetch_add(1, Ordering::Relaxed);
        let trace = shared.tracer.as_ref().map(|tracer| tracer.begin(headers));
        let named = shared.access.is_some() || trace.is_some();
        RequestGuard {
            id: RequestId::new(shared.seed.wrapping_add(number)),
            started: Instant::now(),
            method: method.clone(),
            // Two reference counts; not taken where nobody will read it.
            uri: named.then(|| uri.clone()),
            protocol: conn.protocol,
            peer: conn.peer,
            is_tls: conn.tls.is_some(),
            core: Arc::clone(core),
            shard: None,
            trace,
            reason: None,
            status: StatusCode::OK,
            request_bytes: None,
            response_bytes: 0,
            outcome: Outcome::Abandoned,
        }
    }
}

/// A request's id: 16 lower-case hexadecimal digits, unique in this process and, for all practical
/// purposes, among processes. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// For what no client asked for.
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    fn new(number: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // A bijection (splitmix64's finaliser): neighbours look nothing alike, and none are equal.
        let mut mixed = number;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let digit = |at: usize| DIGITS[(mixed >> (60 - 4 * at)) as usize & 15];
        Self(std::array::from_fn(digit))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("made of hexadecimal digits")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Follows one request; recorded when it is dropped.
pub struct RequestGuard {
    id: RequestId,
    started: Instant,
    method: Method,
    uri: Option<Uri>,
    protocol: Protocol,
    peer: std::net::SocketAddr,
    is_tls: bool,
    core: Arc<Core>,
    /// `None` until the request is routed.
    shard: Option<Arc<Shard>>,
    trace: Option<TraceContext>,
    reason: Option<&'static str>,
    status: StatusCode,
    request_bytes: Option<Arc<AtomicU64>>,
    response_bytes: u64,
    outcome: Outcome,
}

impl RequestGuard {
    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// A span for what happens to the request; disabled, and then free, above debug level.
    pub fn span(&self) -> Span {
        debug_span!(
            "request",
            id = %self.id,
            method = %self.method,
            peer = %self.peer,
            protocol = self.protocol.label(),
        )
    }

    /// The `traceparent` to pass on to the plugin (W3C Trace Context): ours where traces are
    /// exported. `None`: what the client sent stays.
    pub fn traceparent(&self) -> Option<String> {
        self.trace.as_ref().map(TraceContext::traceparent)
    }

    /// The request goes to `plugin` by the route `pattern`. Both should be the route table's own
    /// values: they are recognised by address.
    pub fn routed(&mut self, plugin: &Arc<str>, pattern: &Arc<str>) {
        let shard = self.core.shard(plugin, pattern);
        shard.begin();
        self.shard = Some(shard);
    }

    /// Since the request's head was here.
    pub fn elapsed(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// What the cache did for the request.
    pub fn cached(&self, outcome: Cached) {
        if let Some(shard) = &self.shard {
            shard.cached(outcome);
        }
    }

    /// The same body, whose bytes are counted for this request.
    #[must_use]
    pub fn metered(&mut self, body: RequestBody) -> RequestBody {
        if body.declared() == Some(0) {
            return body;
        }
        let bytes = self.request_bytes.get_or_insert_with(Arc::default);
        body.metered(Arc::clone(bytes))
    }

    /// The request was refused. Counted; the access log tells it.
    pub fn rejected(&mut self, rejection: &Rejection) {
        self.reason = Some(rejection.label());
        self.core.shared.metrics.rejected(rejection);
    }

    /// The plugin failed. Counted, and logged here and nowhere else.
    pub fn failed(&mut self, failure: &Failure) {
        self.reason = Some(failure.label());
        let plugin = self.shard.as_ref().map_or(UNMATCHED, |shard| &*shard.plugin);
        self.core.shared.metrics.failed(plugin, failure);
        log_failure(plugin, &self.id, failure);
    }

    /// Moves the guard into the response: the exchange is recorded when its body ends.
    pub fn finish(mut self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.status = response.status();
        // Until the body says otherwise, the client left in its midst.
        self.outcome = Outcome::Aborted;
        response.map(|body| body.observed(Box::new(self)))
    }

    fn record(&mut self) {
        let duration = self.started.elapsed();
        let request_bytes = self.request_bytes.as_ref().map_or(0, |b| b.load(Ordering::Relaxed));
        let shard = match self.shard.take() {
            Some(shard) => shard,
            None => {
                let unmatched = Arc::clone(&self.core.unmatched);
                unmatched.begin();
                unmatched
            }
        };
        shard.end(&Exchange {
            method: &self.method,
            status: self.status,
            protocol: self.protocol,
            outcome: self.outcome,
            duration,
            request_bytes,
            response_bytes: self.response_bytes,
        });
        let Some(uri) = &self.uri else { return };
        let status = match self.outcome {
            Outcome::Abandoned => CLIENT_LEFT,
            _ => self.status.as_u16(),
        };
        let shared = &self.core.shared;
        if let Some(access) = &shared.access {
            let line = Line {
                at: SystemTime::now(),
                method: &self.method,
                uri,
                status,
                duration,
                bytes: self.response_bytes,
                outcome: self.outcome,
                protocol: self.protocol,
                peer: self.peer,
                plugin: &shard.plugin,
                route: &shard.route,
                reason: self.reason,
                request_id: self.id.as_str(),
            };
            access.write(self.core.number, &line);
        }
        if let (Some(tracer), Some(trace)) = (&shared.tracer, self.trace.take()) {
            tracer.end(
                &trace,
                &ServerSpan {
                    method: &self.method,
                    uri,
                    status,
                    duration,
                    protocol: self.protocol,
                    is_tls: self.is_tls,
                    peer: self.peer,
                    plugin: &shard.plugin,
                    route: &shard.route,
                    reason: self.reason,
                    request_id: self.id.as_str(),
                },
            );
        }
    }
}

impl BodyObserver for RequestGuard {
    fn sent(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    fn ended(&mut self, result: Result<(), &BodyError>) {
        match result {
            Ok(()) => self.outcome = Outcome::Complete,
            Err(BodyError::Gone) => self.outcome = Outcome::Aborted,
            Err(BodyError::Guest(failure)) => {
                self.outcome = Outcome::Error;
                self.failed(failure);
            }
            Err(error) => {
                self.outcome = Outcome::Error;
                self.reason = Some("body");
                let plugin = self.shard.as_ref().map_or(UNMATCHED, |shard| &*shard.plugin);
                warn!(plugin, request_id = %self.id, %error, "response body failed");
            }
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.record();
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestGuard").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Core {
    /// The numbers of a route; two hash steps and an uncontended lock once it is known.
    fn shard(&self, plugin: &Arc<str>, pattern: &Arc<str>) -> Arc<Shard> {
        let key = (plugin.as_ptr() as usize, pattern.as_ptr() as usize);
        let mut routes = self.routes.lock();
        if let Some(known) = routes.get(&key) {
            return Arc::clone(&known.shard);
        }
        // Every reload brings new addresses; those of retired tables are let go together.
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        let shard = self.shared.metrics.series.route(plugin, pattern, self.number);
        let known = KnownRoute {
            _plugin: Arc::clone(plugin),
            _pattern: Arc::clone(pattern),
            shard: Arc::clone(&shard),
        };
        routes.insert(key, known);
        shard
    }
}

/// The client's own faults are not worth a warning; they are counted.
fn log_failure(plugin: &str, request_id: &RequestId, failure: &Failure) {
    if let Failure::Refused(rejection) = failure {
        tracing::debug!(plugin, %request_id, %rejection, "request body refused");
        return;
    }
    warn!(plugin, %request_id, kind = failure.label(), detail = %failure, "plugin failed");
}

/// The one value of a header that may appear once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
