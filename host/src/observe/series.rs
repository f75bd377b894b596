//! The numbers that every request adds to: one [`Shard`] a route and core, plain atomics that no
//! other core writes. The hot path looks no label up and allocates nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::cache::figures::Outcome as Cached;
use crate::http::conn::Protocol;

/// Plugin and route of requests that matched nothing.
pub const UNMATCHED: &str = "-";
/// Routes with numbers of their own, each with some 1.3 KiB a core. Routes that come later, after
/// thousands of reloads with new patterns, are counted as [`UNMATCHED`].
pub const MAX_ROUTES: usize = 4096;

/// Upper bounds of the duration buckets, in seconds.
pub const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const BUCKETS_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"];
const STATUSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "499"];
const PROTOCOLS: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];
const OUTCOMES: [Outcome; 4] =
    [Outcome::Complete, Outcome::Aborted, Outcome::Error, Outcome::Abandoned];

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The last byte of the body was handed to the protocol.
    Complete,
    /// The client left while the body was sent.
    Aborted,
    /// The body failed: its plugin, its upstream, or the client was too slow.
    Error,
    /// The client left before there was a response; logged as 499.
    Abandoned,
}

impl Outcome {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Error => "error",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The numbers of one route on one core.
// Aligned to two cache lines, which is what the prefetcher pulls in, so that cores do not share one.
#[repr(align(128))]
pub struct Shard {
    /// The plugin that answers.
    pub plugin: Arc<str>,
    /// The pattern that matched.
    pub route: Arc<str>,
    requests: [AtomicU64; METHODS.len() * STATUSES.len() * PROTOCOLS.len()],
    outcomes: [AtomicU64; OUTCOMES.len()],
    cached: [AtomicU64; Cached::ALL.len()],
    durations: [AtomicU64; BUCKETS.len() + 1],
    duration_micros: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    in_flight: AtomicI64,
}

/// What one exchange adds.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// As sent.
    pub method: &'a Method,
    /// As answered; ignored where the exchange was abandoned.
    pub status: StatusCode,
    /// Of its connection.
    pub protocol: Protocol,
    /// How it ended.
    pub outcome: Outcome,
    /// From the head's arrival to the end of the response body.
    pub duration: Duration,
    /// Of the request body that was read.
    pub request_bytes: u64,
    /// Of the response body that was sent.
    pub response_bytes: u64,
}

impl Shard {
    fn new(plugin: &Arc<str>, route: &Arc<str>) -> Self {
        Self {
            plugin: Arc::clone(plugin),
            route: Arc::clone(route),
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            cached: std::array::from_fn(|_| AtomicU64::new(0)),
            durations: std::array::from_fn(|_| AtomicU64::new(0)),
            duration_micros: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
        }
    }

    /// One more request is in flight.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// How the cache dealt with a request.
    pub fn cached(&self, outcome: Cached) {
        self.cached[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// One request is over.
    pub fn end(&self, exchange: &Exchange<'_>) {
        let micros = u64::try_from(exchange.duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        let status = match exchange.outcome {
            Outcome::Abandoned => 5,
            _ => usize::from(exchange.status.as_u16() / 100).clamp(1, 5) - 1,
        };
        let request = index(method_class(exchange.method), status, exchange.protocol as usize);
        self.requests[request].fetch_add(1, Ordering::Relaxed);
        self.outcomes[exchange.outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        self.duration_micros.fetch_add(micros, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if exchange.request_bytes > 0 {
            self.request_bytes.fetch_add(exchange.request_bytes, Ordering::Relaxed);
        }
        if exchange.response_bytes > 0 {
            self.response_bytes.fetch_add(exchange.response_bytes, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("plugin", &self.plugin)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

fn index(method: usize, status: usize, protocol: usize) -> usize {
    (method * STATUSES.len() + status) * PROTOCOLS.len() + protocol
}

fn method_class(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::PATCH => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// Plugin and pattern.
type RouteName = (Arc<str>, Arc<str>);

/// The shards of one route, by core.
type Route = Arc<[Arc<Shard>]>;

/// The numbers of all routes.
#[derive(Debug)]
pub struct Series {
    cores: usize,
    unmatched: Route,
    routes: Mutex<HashMap<RouteName, Route>>,
}

impl Series {
    /// No numbers yet, for `cores` cores.
    pub fn new(cores: usize) -> Self {
        let unmatched = route(&UNMATCHED.into(), &UNMATCHED.into(), cores.max(1));
        Self { cores: cores.max(1), unmatched, routes: Mutex::default() }
    }

    /// Cores that are told apart.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The numbers of a route, made on first use. Not for the hot path: callers keep the result.
    pub fn route(&self, plugin: &Arc<str>, pattern: &Arc<str>, core: usize) -> Arc<Shard> {
        let mut routes = self.routes.lock();
        let key = (Arc::clone(plugin), Arc::clone(pattern));
        if routes.len() >= MAX_ROUTES && !routes.contains_key(&key) {
            return self.unmatched(core);
        }
        let shards = routes.entry(key).or_insert_with(|| route(plugin, pattern, self.cores));
        Arc::clone(&shards[core % self.cores])
    }

    /// The numbers of requests that matched no route.
    pub fn unmatched(&self, core: usize) -> Arc<Shard> {
        Arc::clone(&self.unmatched[core % self.cores])
    }

    /// How the cache dealt with a plugin's requests, in the order of [`Cached::ALL`].
    pub fn cached(&self, plugin: &str) -> [u64; Cached::ALL.len()] {
        let mut counts = [0; Cached::ALL.len()];
        for route in self.all().iter().filter(|route| *route[0].plugin == *plugin) {
            for (at, count) in counts.iter_mut().enumerate() {
                *count += sum(route, |shard| &shard.cached[at]);
            }
        }
        counts
    }

    /// Requests that are over, and those that are not, over all routes.
    pub fn totals(&self) -> (u64, u64) {
        let (mut over, mut in_flight) = (0, 0);
        for route in self.all() {
            for shard in route.iter() {
                over += shard.outcomes.iter().map(|it| it.load(Ordering::Relaxed)).sum::<u64>();
                in_flight += shard.in_flight.load(Ordering::Relaxed);
            }
        }
        (over, u64::try_from(in_flight).unwrap_or(0))
    }

    fn all(&self) -> Vec<Route> {
        let mut all = vec![Arc::clone(&self.unmatched)];
        all.extend(self.routes.lock().values().map(Arc::clone));
        all.sort_by(|a, b| (&a[0].plugin, &a[0].route).cmp(&(&b[0].plugin, &b[0].route)));
        all
    }
}

fn route(plugin: &Arc<str>, pattern: &Arc<str>, cores: usize) -> Route {
    (0..cores).map(|_| Arc::new(Shard::new(plugin, pattern))).collect()
}

fn sum(route: &Route, number: impl Fn(&Shard) -> &AtomicU64) -> u64 {
    route.iter().map(|shard| number(shard).load(Ordering::Relaxed)).sum()
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all();
        let descriptor =
            |encoder: &mut DescriptorEncoder<'_>,
             name,
             help,
             kind,
             write: &dyn Fn(MetricEncoder<'_>) -> fmt::Result| {
                write(encoder.encode_descriptor(name, help, None, kind)?)
            };
        descriptor(
            &mut encoder,
            "wharf_requests",
            "Requests answered",
            MetricType::Counter,
            &|metric| encode_requests(&all, metric),
        )?;
        descriptor(
            &mut encoder,
            "wharf_request_duration_seconds",
            "From the head's arrival to the end of the response body",
            MetricType::Histogram,
            &|metric| encode_durations(&all, metric),
        )?;
        descriptor(
            &mut encoder,
            "wharf_request_body_bytes",
            "Bytes of request bodies read",
            MetricType::Counter,
            &|metric| encode_bytes(&all, metric, |shard| &shard.request_bytes),
        )?;
        descriptor(
            &mut encoder,
            "wharf_response_body_bytes",
            "Bytes of response bodies sent",
            MetricType::Counter,
            &|metric| encode_bytes(&all, metric, |shard| &shard.response_bytes),
        )?;
        descriptor(
            &mut encoder,
            "wharf_exchanges",
            "Exchanges by how they ended",
            MetricType::Counter,
            &|metric| encode_outcomes(&all, metric),
        )?;
        descriptor(
            &mut encoder,
            "wharf_cache_requests",
            "Requests by what the cache did",
            MetricType::Counter,
            &|metric| encode_cached(&all, metric),
        )?;
        descriptor(
            &mut encoder,
            "wharf_requests_in_flight",
            "Requests whose response has not ended",
            MetricType::Gauge,
            &|metric| encode_in_flight(&all, metric),
        )
    }
}

fn labels(route: &Route) -> [(&str, &str); 2] {
    [("plugin", &route[0].plugin), ("route", &route[0].route)]
}

fn encode_requests(all: &[Route], mut metric: MetricEncoder<'_>) -> fmt::Result {
    for route in all {
        for (m, method) in METHODS.iter().enumerate() {
            for (s, status) in STATUSES.iter().enumerate() {
                for protocol in PROTOCOLS {
                    let at = index(m, s, protocol as usize);
                    let count = sum(route, |shard| &shard.requests[at]);
                    if count == 0 {
                        continue;
                    }
                    let [plugin, route] = labels(route);
                    let labels = [
                        plugin,
                        route,
                        ("method", *method),
                        ("status", *status),
                        ("protocol", protocol.label()),
                    ];
                    metric
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
    }
    Ok(())
}

fn encode_cached(all: &[Route], mut metric: MetricEncoder<'_>) -> fmt::Result {
    for route in all {
        for (at, outcome) in Cached::ALL.iter().enumerate() {
            let count = sum(route, |shard| &shard.cached[at]);
            if count > 0 {
                let [plugin, route] = labels(route);
                let labels = [plugin, route, ("cache", outcome.label())];
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
    }
    Ok(())
}

fn encode_durations(all: &[Route], mut metric: MetricEncoder<'_>) -> fmt::Result {
    for route in all {
        let mut buckets: Vec<(f64, u64)> = BUCKETS
            .iter()
            .enumerate()
            .map(|(at, bound)| (*bound, sum(route, |shard| &shard.durations[at])))
            .collect();
        buckets.push((f64::MAX, sum(route, |shard| &shard.durations[BUCKETS.len()])));
        let count = buckets.iter().map(|(_, count)| count).sum();
        if count == 0 {
            continue;
        }
        let seconds = sum(route, |shard| &shard.duration_micros) as f64 / 1e6;
        metric
            .encode_family(&labels(route))?
            .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
    }
    Ok(())
}

fn encode_bytes(
    all: &[Route],
    mut metric: MetricEncoder<'_>,
    number: impl Fn(&Shard) -> &AtomicU64,
) -> fmt::Result {
    for route in all {
        let bytes = sum(route, &number);
        if bytes > 0 {
            let labels = labels(route);
            let mut family = metric.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, _, u64>(&bytes, None)?;
        }
    }
    Ok(())
}

fn encode_outcomes(all: &[Route], mut metric: MetricEncoder<'_>) -> fmt::Result {
    for route in all {
        for outcome in OUTCOMES {
            let count = sum(route, |shard| &shard.outcomes[outcome as usize]);
            if count == 0 {
                continue;
            }
            let [plugin, route] = labels(route);
            let labels = [plugin, route, ("outcome", outcome.label())];
            let mut family = metric.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    Ok(())
}

fn encode_in_flight(all: &[Route], mut metric: MetricEncoder<'_>) -> fmt::Result {
    // Sorted by plugin, so one pass sums them up.
    for routes in all.chunk_by(|a, b| a[0].plugin == b[0].plugin) {
        let shards = routes.iter().flat_map(|route| route.iter());
        let in_flight: i64 = shards.map(|shard| shard.in_flight.load(Ordering::Relaxed)).sum();
        let labels = [("plugin", &*routes[0][0].plugin)];
        metric.encode_family(&labels)?.encode_gauge(&in_flight.max(0))?;
    }
    Ok(())
}
