//! Every metric, defined once. What each request adds to is in [`super::series`]; what happens
//! rarely is a labelled family here. Label values are bounded: route patterns, plugin names, enums.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::figures::cpu_time;
use super::series::Series;
use crate::cache::Cache;
use crate::http::conn::{ConnStates, Protocol, RefusedConnection};
use crate::http::rejection::Rejection;
use crate::hub::Hub;
use crate::plugin::Failure;
use crate::plugin::event::EventKind;
use crate::plugin::log::PluginLogs;
use crate::plugin::manifest::Mode;
use crate::websocket::Sockets;

/// Upper bounds of the compile and reload buckets, in seconds.
const SLOW_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds of the buckets of event calls, in seconds.
const EVENT_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 10.0];

fn event_buckets() -> Histogram {
    Histogram::new(EVENT_BUCKETS)
}

/// The compiler that made a plugin's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Winch: fast to compile.
    Baseline,
    /// Cranelift: fast to run.
    Optimized,
    /// Neither: it was in the code cache.
    Cached,
}

impl Tier {
    fn label(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimized => "optimized",
            Self::Cached => "cached",
        }
    }
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reload {
    /// A version is live.
    Published,
    /// The plugin is gone.
    Removed,
    /// It was refused; what was served before still is.
    Failed,
}

impl Reload {
    fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Removed => "removed",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginKind {
    plugin: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    plugin: String,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScheduleLabels {
    plugin: String,
    schedule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginMode {
    plugin: String,
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginOutcome {
    plugin: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabel {
    tier: &'static str,
}

/// All metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Per route.
    pub series: Arc<Series>,
    failures: Family<PluginKind, Counter>,
    rejections: Family<Reason, Counter>,
    instances: Family<PluginMode, Gauge>,
    compile: Family<TierLabel, Histogram>,
    reloads: Family<PluginOutcome, Counter>,
    reload: Family<Plugin, Histogram>,
    events: Family<EventLabels, Counter>,
    event: Family<PluginKind, Histogram>,
    missed: Family<ScheduleLabels, Counter>,
    scheduled: Family<ScheduleLabels, Gauge<f64, AtomicU64>>,
    host: Arc<Host>,
}

impl Metrics {
    /// All metrics at zero, for a server of `cores` cores.
    pub fn new(cores: usize, states: Arc<ConnStates>) -> Self {
        let slow = || Histogram::new(SLOW_BUCKETS);
        let metrics = Self {
            registry: Registry::default(),
            series: Arc::new(Series::new(cores)),
            failures: Family::default(),
            rejections: Family::default(),
            instances: Family::default(),
            compile: Family::new_with_constructor(slow),
            reloads: Family::default(),
            reload: Family::new_with_constructor(slow),
            events: Family::default(),
            event: Family::new_with_constructor(event_buckets),
            missed: Family::default(),
            scheduled: Family::default(),
            host: Arc::new(Host {
                states,
                started: SystemTime::now(),
                begun: Instant::now(),
                plugin_logs: OnceLock::new(),
                dropped_log_lines: OnceLock::new(),
                hub: OnceLock::new(),
                sockets: OnceLock::new(),
                cache: OnceLock::new(),
            }),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register_collector(Box::new(Arc::clone(&self.series)));
        registry.register_collector(Box::new(Arc::clone(&self.host)));
        registry.register("wharf_failures", "Requests a plugin failed", self.failures.clone());
        registry.register("wharf_rejections", "Requests refused", self.rejections.clone());
        registry.register("wharf_plugin_instances", "Instances alive", self.instances.clone());
        registry.register(
            "wharf_compile_seconds",
            "Time to make a component runnable",
            self.compile.clone(),
        );
        registry.register("wharf_reloads", "Changes of plugins", self.reloads.clone());
        registry.register(
            "wharf_reload_seconds",
            "From the change of a file to its publication",
            self.reload.clone(),
        );
        let help = "Calls of plugins for WebSockets and schedules";
        registry.register("wharf_plugin_events", help, self.events.clone());
        let help = "Time of these calls, their wait for a place included";
        registry.register("wharf_plugin_event_seconds", help, self.event.clone());
        let help = "Times of schedules without a call";
        registry.register("wharf_schedule_missed", help, self.missed.clone());
        let help = "When the last call of a schedule was due, in seconds since 1970";
        registry.register("wharf_schedule_last_due_seconds", help, self.scheduled.clone());
        self
    }

    /// Connections by state.
    pub fn states(&self) -> &ConnStates {
        &self.host.states
    }

    /// How long the server has been there.
    pub fn uptime(&self) -> Duration {
        self.host.begun.elapsed()
    }

    /// A plugin failed a request.
    pub fn failed(&self, plugin: &str, failure: &Failure) {
        let labels = PluginKind { plugin: plugin.to_owned(), kind: failure.label() };
        self.failures.get_or_create(&labels).inc();
    }

    /// A request was refused; also where no exchange was begun for it.
    pub fn rejected(&self, rejection: &Rejection) {
        self.rejections.get_or_create(&Reason { reason: rejection.label() }).inc();
    }

    /// The number of a plugin's instances; the handle is cheap to keep, to raise and to lower.
    pub fn instances(&self, plugin: &str, mode: Mode) -> Gauge {
        let mode = match mode {
            Mode::Reuse => "reuse",
            Mode::Isolated => "isolated",
        };
        self.instances.get_or_create(&PluginMode { plugin: plugin.to_owned(), mode }).clone()
    }

    /// A component was made runnable.
    pub fn compiled(&self, tier: Tier, took: Duration) {
        let labels = TierLabel { tier: tier.label() };
        self.compile.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A change of a plugin was dealt with.
    pub fn reloaded(&self, plugin: &str, outcome: Reload, took: Duration) {
        let plugin = plugin.to_owned();
        let labels = PluginOutcome { plugin: plugin.clone(), outcome: outcome.label() };
        self.reloads.get_or_create(&labels).inc();
        self.reload.get_or_create(&Plugin { plugin }).observe(took.as_secs_f64());
    }

    /// A plugin was called for an event, well or not.
    pub fn event(&self, plugin: &str, kind: EventKind, failure: Option<&Failure>, took: Duration) {
        let (plugin, kind) = (plugin.to_owned(), kind.label());
        let outcome = failure.map_or("ok", Failure::label);
        let labels = EventLabels { plugin: plugin.clone(), kind, outcome };
        self.events.get_or_create(&labels).inc();
        self.event.get_or_create(&PluginKind { plugin, kind }).observe(took.as_secs_f64());
    }

    /// A call of a schedule is over; it was due at `due_ms`, milliseconds since 1970.
    pub fn scheduled(&self, plugin: &str, schedule: &str, due_ms: u64, missed: u32) {
        let labels = ScheduleLabels { plugin: plugin.to_owned(), schedule: schedule.to_owned() };
        self.missed.get_or_create(&labels).inc_by(missed.into());
        self.scheduled.get_or_create(&labels).set(due_ms as f64 / 1e3);
    }

    /// Counts what the plugins' logs drop. Once, at start.
    pub fn watch_plugin_logs(&self, logs: PluginLogs) {
        let _already = self.host.plugin_logs.set(logs);
    }

    /// Counts the log lines of the host that are dropped. Once, at start.
    pub fn watch_dropped_log_lines(&self, dropped: Arc<AtomicU64>) {
        let _already = self.host.dropped_log_lines.set(dropped);
    }

    /// Counts event streams. Once, at start.
    pub fn watch_hub(&self, hub: Arc<Hub>) {
        let _already = self.host.hub.set(hub);
    }

    /// Event streams and WebSockets that the host holds.
    pub(super) fn held(&self) -> (u64, u64) {
        let streams = self.host.hub.get().map_or(0, |hub| hub.streams());
        let sockets = self.host.sockets.get().map_or(0, |sockets| sockets.len());
        (streams as u64, sockets as u64)
    }

    /// Counts what the cache does. Once, at start.
    pub fn watch_cache(&self, cache: Arc<Cache>) {
        let _already = self.host.cache.set(cache);
    }

    /// Counts WebSockets. Once, at start.
    pub fn watch_sockets(&self, sockets: Arc<Sockets>) {
        let _already = self.host.sockets.set(sockets);
    }

    /// Everything in the OpenMetrics text format.
    pub fn open_metrics(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a `String` cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    /// Everything in the Prometheus text format 0.0.4: what scrapers that do not ask for
    /// OpenMetrics understand. There a counter's type names its sample, and units and the end mark
    /// do not exist.
    pub fn prometheus_text(&self) -> String {
        let open = self.open_metrics();
        let mut text = String::with_capacity(open.len());
        let mut counters: Vec<&str> = Vec::new();
        for line in open.lines() {
            if let Some(name) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"))
            {
                counters.push(name);
            }
        }
        for line in open.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
                (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                    text.push_str(&format!("# {kind} {name}_total {rest}"));
                }
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }
}

/// What is read when it is asked for: connections, the process, the build.
#[derive(Debug)]
struct Host {
    states: Arc<ConnStates>,
    started: SystemTime,
    /// The same, by a clock that is never set.
    begun: Instant,
    plugin_logs: OnceLock<PluginLogs>,
    dropped_log_lines: OnceLock<Arc<AtomicU64>>,
    hub: OnceLock<Arc<Hub>>,
    sockets: OnceLock<Arc<Sockets>>,
    cache: OnceLock<Arc<Cache>>,
}

impl Collector for Host {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let states = &self.states;
        let help = "Open connections by state";
        let mut metric = gauge(&mut encoder, "wharf_connections", help)?;
        for (state, number) in
            [("active", &states.active), ("idle", &states.idle), ("hijacked", &states.hijacked)]
        {
            metric.encode_family(&[("state", state)])?.encode_gauge(&signed(load(number)))?;
        }
        let help = "Open connections by protocol";
        let mut metric = gauge(&mut encoder, "wharf_connections_open", help)?;
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            let open = load(&states.open[protocol as usize]);
            let labels = [("protocol", protocol.label())];
            metric.encode_family(&labels)?.encode_gauge(&signed(open))?;
        }
        let accepted = load(&states.accepted);
        counter(&mut encoder, "wharf_connections_accepted", "Connections accepted", accepted)?;
        let help = "Connections closed unserved";
        let mut metric = encoder.encode_descriptor(
            "wharf_connections_refused",
            help,
            None,
            MetricType::Counter,
        )?;
        for reason in RefusedConnection::ALL {
            let labels = [("reason", reason.label())];
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&states.refused(reason), None)?;
        }
        if let Some(logs) = self.plugin_logs.get() {
            let help = "Output of plugins that their logs did not take";
            let dropped = logs.dropped_bytes();
            counter(&mut encoder, "wharf_plugin_log_dropped_bytes", help, dropped)?;
        }
        if let Some(dropped) = self.dropped_log_lines.get() {
            let help = "Lines of the host's own log dropped because nobody took them in time";
            counter(&mut encoder, "wharf_log_dropped_lines", help, load(dropped))?;
        }
        if let Some(hub) = self.hub.get() {
            let held = signed(hub.streams() as u64);
            let help = "Event streams that the host holds";
            plain_gauge(&mut encoder, "wharf_event_streams", help, &held)?;
        }
        if let Some(sockets) = self.sockets.get() {
            encode_sockets(&mut encoder, sockets)?;
        }
        if let Some(cache) = self.cache.get() {
            encode_cache(&mut encoder, cache)?;
        }
        self.encode_process(&mut encoder)?;
        let mut metric = gauge(&mut encoder, "wharf_build_info", "The version that runs")?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        metric.encode_family(&labels)?.encode_gauge(&1)
    }
}

fn encode_cache(encoder: &mut DescriptorEncoder<'_>, cache: &Cache) -> fmt::Result {
    let contents = cache.contents(None);
    let help = "Bytes of stored answers, with what they cost beside their bodies";
    plain_gauge(encoder, "wharf_cache_bytes", help, &signed(contents.bytes))?;
    let help = "Most of these bytes";
    plain_gauge(encoder, "wharf_cache_capacity_bytes", help, &signed(contents.capacity))?;
    let help = "Bytes of bodies that are stored, being filled, or evicted and still being sent";
    plain_gauge(encoder, "wharf_cache_body_bytes", help, &signed(cache.body_bytes()))?;
    let help = "Keys that something is stored for";
    plain_gauge(encoder, "wharf_cache_entries", help, &signed(contents.entries))?;
    let help = "Requests to plugins that others may be waiting for";
    plain_gauge(encoder, "wharf_cache_fills", help, &signed(cache.fills()))?;
    let evictions = contents.evictions;
    counter(encoder, "wharf_cache_evictions", "Keys evicted", evictions)?;
    counter(encoder, "wharf_cache_stores", "Answers stored", cache.figures.stores())?;
    cache.figures.encode(encoder)?;
    counter(encoder, "wharf_cache_purges", "Variants purged", cache.figures.purges())
}

impl Host {
    fn encode_process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let seconds = cpu_time().as_secs_f64();
        let mut metric = encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time of the process",
            None,
            MetricType::Counter,
        )?;
        metric.encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let help = "Start of the process, in seconds since 1970";
        plain_gauge(encoder, "process_start_time_seconds", help, &started.as_secs_f64())?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (field, name, help, factor) in [
            ("VmRSS:", "process_resident_memory_bytes", "Memory in use", 1024),
            ("VmSize:", "process_virtual_memory_bytes", "Address space in use", 1024),
            ("Threads:", "process_threads", "Threads", 1),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
            if let Some(number) = number {
                plain_gauge(encoder, name, help, &(number * factor))?;
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
            plain_gauge(encoder, "process_open_fds", "Open file descriptors", &open)?;
        }
        Ok(())
    }
}

fn encode_sockets(encoder: &mut DescriptorEncoder<'_>, sockets: &Sockets) -> fmt::Result {
    let counts = sockets.counts();
    let mut metric = gauge(encoder, "wharf_websockets", "WebSockets that are held")?;
    for (plugin, counts) in &counts {
        let open = signed(counts.open as u64);
        metric.encode_family(&[("plugin", &**plugin)])?.encode_gauge(&open)?;
    }
    let help = "Messages of WebSockets, from clients and to them";
    let mut metric =
        encoder.encode_descriptor("wharf_websocket_messages", help, None, MetricType::Counter)?;
    for (plugin, counts) in &counts {
        for (direction, number) in [("in", counts.received), ("out", counts.sent)] {
            metric
                .encode_family(&[("plugin", &**plugin), ("direction", direction)])?
                .encode_counter::<NoLabelSet, _, u64>(&number, None)?;
        }
    }
    let help = "WebSockets that have ended, by code; those of applications by thousands";
    let mut metric =
        encoder.encode_descriptor("wharf_websocket_closes", help, None, MetricType::Counter)?;
    for (plugin, counts) in &counts {
        for (code, number) in &counts.closed {
            metric
                .encode_family(&[("plugin", &**plugin), ("code", code.to_string().as_str())])?
                .encode_counter::<NoLabelSet, _, u64>(number, None)?;
        }
    }
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

fn plain_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    gauge(encoder, name, help)?.encode_gauge(value)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}
