//! Traces over OTLP: one server span a request, with the names of OpenTelemetry's semantic
//! conventions for HTTP, exported in batches as protobuf over HTTP.
//!
//! Spans are made when a request is over and handed to the SDK's batch processor, whose queue is
//! bounded and whose thread does the rest: a collector that is slow or gone costs spans, never
//! requests. A client's `traceparent` (W3C Trace Context) is the parent, and its sampling decision
//! holds; what goes on to the plugin names our span.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks,
    SpanProcessor,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::request::single;
use crate::http::conn::Protocol;

/// The service that spans belong to, where nothing else is configured.
pub const DEFAULT_SERVICE_NAME: &str = "wharf";
/// One request to the collector, from connecting to the last byte of the answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer.
const MAX_ANSWER: usize = 1 << 20;

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// Base URL of the collector, for example `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Fields sent along, for example an access token.
    pub headers: Vec<(String, String)>,
    /// `service.name`.
    pub service_name: String,
    /// The share of traces begun here that are exported; where the client began the trace, its own
    /// choice holds.
    pub sample: f64,
}

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// The exporter refuses its settings.
    #[error("the trace exporter refuses its settings")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No certificate authorities, or no runtime for the exporter's thread.
    #[error("the trace exporter cannot be started")]
    Start(#[source] std::io::Error),
}

/// Makes spans and exports them.
#[derive(Debug)]
pub struct Tracer {
    processor: BatchSpanProcessor,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    /// Traces whose id's lower 63 bits are below this are sampled.
    below: u64,
}

/// A request's place in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    /// The client's span.
    parent: Option<SpanId>,
    is_sampled: bool,
}

/// What a span tells of a request that is over.
#[derive(Debug)]
pub struct ServerSpan<'a> {
    /// Of the request.
    pub method: &'a Method,
    /// Of the request; only its path is told.
    pub uri: &'a Uri,
    /// As answered, or 499.
    pub status: u16,
    /// From the head's arrival to the end of the response body.
    pub duration: Duration,
    /// Of the connection.
    pub protocol: Protocol,
    /// The connection is encrypted.
    pub is_tls: bool,
    /// Of the connection.
    pub peer: SocketAddr,
    /// Who answered.
    pub plugin: &'a str,
    /// The pattern that matched.
    pub route: &'a str,
    /// Why the request was refused or failed.
    pub reason: Option<&'static str>,
    /// Of the request.
    pub request_id: &'a str,
}

impl Tracer {
    /// Starts the thread that exports.
    ///
    /// # Errors
    /// [`OtlpError`]; a collector that does not answer is none.
    pub fn start(config: &OtlpConfig) -> Result<Self, OtlpError> {
        let client = Collector::new().map_err(OtlpError::Start)?;
        let headers: HashMap<String, String> = config.headers.iter().cloned().collect();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
            .with_headers(headers)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| OtlpError::Exporter(error.into()))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        processor.set_resource(&resource);
        let scope =
            InstrumentationScope::builder("wharf").with_version(env!("CARGO_PKG_VERSION")).build();
        let below = (config.sample * (1u64 << 63) as f64) as u64;
        Ok(Self { processor, ids: RandomIdGenerator::default(), scope, below })
    }

    /// Places a request in the client's trace, or in a new one.
    pub fn begin(&self, headers: &HeaderMap) -> TraceContext {
        let span = self.ids.new_span_id();
        if let Some(context) = single(headers, "traceparent").and_then(parse_traceparent) {
            let (trace, parent, is_sampled) = context;
            return TraceContext { trace, span, parent: Some(parent), is_sampled };
        }
        let trace = self.ids.new_trace_id();
        let low = u128::from_be_bytes(trace.to_bytes()) as u64 & (u64::MAX >> 1);
        TraceContext { trace, span, parent: None, is_sampled: low < self.below }
    }

    /// Exports the span of a request that is over, if its trace is sampled.
    pub fn end(&self, context: &TraceContext, span: &ServerSpan<'_>) {
        if !context.is_sampled {
            return;
        }
        let end_time = SystemTime::now();
        let span_context = SpanContext::new(
            context.trace,
            context.span,
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        self.processor.on_end(SpanData {
            span_context,
            parent_span_id: context.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: context.parent.is_some(),
            span_kind: SpanKind::Server,
            name: span.name(),
            start_time: end_time.checked_sub(span.duration).unwrap_or(end_time),
            end_time,
            attributes: span.attributes(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            // A 4xx is the client's fault and no error of ours.
            status: match span.status {
                500.. => Status::error(span.reason.unwrap_or_default()),
                _ => Status::Unset,
            },
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Exports what waits and ends the thread. Blocks for at most `limit`.
    pub fn shutdown(&self, limit: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

impl TraceContext {
    /// The header's value for whom we call.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

impl ServerSpan<'_> {
    fn known_method(&self) -> &str {
        match self.method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE"
            | "CONNECT") => known,
            _ => "_OTHER",
        }
    }

    /// The pattern without the method that may stand before it.
    fn path_pattern(&self) -> &str {
        self.route.split_once(' ').map_or(self.route, |(_, pattern)| pattern)
    }

    fn name(&self) -> Cow<'static, str> {
        match self.known_method() {
            "_OTHER" => format!("HTTP {}", self.path_pattern()).into(),
            method => format!("{method} {}", self.path_pattern()).into(),
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let version = match self.protocol {
            Protocol::H1 => "1.1",
            Protocol::H2 => "2",
            Protocol::H3 => "3",
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", self.known_method().to_owned()),
            KeyValue::new("http.response.status_code", i64::from(self.status)),
            KeyValue::new("http.route", self.path_pattern().to_owned()),
            KeyValue::new("url.path", self.uri.path().to_owned()),
            KeyValue::new("url.scheme", if self.is_tls { "https" } else { "http" }),
            KeyValue::new("network.protocol.name", "http"),
            KeyValue::new("network.protocol.version", version),
            KeyValue::new("network.peer.address", self.peer.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(self.peer.port())),
            KeyValue::new("wharf.plugin", self.plugin.to_owned()),
            KeyValue::new("wharf.request_id", self.request_id.to_owned()),
        ];
        if self.known_method() == "_OTHER" {
            let method = self.method.as_str().to_owned();
            attributes.push(KeyValue::new("http.request.method_original", method));
        }
        if let Some(reason) = self.reason {
            attributes.push(KeyValue::new("error.type", reason));
        }
        attributes
    }
}

/// Reads a `traceparent` (W3C Trace Context §3.2): trace, parent, sampled. Versions to come may
/// append fields.
fn parse_traceparent(value: &str) -> Option<(TraceId, SpanId, bool)> {
    let mut fields = value.trim().split('-');
    let (version, trace, parent, flags) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_hex = |field: &str, len: usize| {
        field.len() == len && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !is_hex(version, 2) || version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    if !is_hex(trace, 32) || !is_hex(parent, 16) || !is_hex(flags, 2) {
        return None;
    }
    let trace = TraceId::from_hex(trace).ok().filter(|trace| *trace != TraceId::INVALID)?;
    let parent = SpanId::from_hex(parent).ok().filter(|parent| *parent != SpanId::INVALID)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace, parent, flags & 1 == 1))
}

/// The HTTP client of the exporter's thread, with a runtime of its own: the SDK drives it from a
/// thread that has none.
struct Collector {
    runtime: Mutex<Runtime>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The last export failed, and that was logged.
    failing: Arc<AtomicBool>,
}

impl Collector {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { runtime: Mutex::new(runtime), client, failing: Arc::default() })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Full::new)).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let host = request.uri().authority().map(ToString::to_string);
        // Blocks its thread, which has nothing else to do.
        let runtime = self.runtime.lock();
        let sent = runtime.block_on(async {
            tokio::time::timeout(EXPORT_TIMEOUT, self.send(request))
                .await
                .unwrap_or_else(|elapsed| Err(elapsed.into()))
        });
        let problem = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        match problem {
            None => self.failing.store(false, Ordering::Relaxed),
            Some(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(collector = host, error, "traces cannot be exported");
            }
            Some(_) => {}
        }
        sent
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn config(endpoint: &str, sample: f64) -> OtlpConfig {
        OtlpConfig {
            endpoint: endpoint.to_owned(),
            headers: vec![("x-token".to_owned(), "t0k3n".to_owned())],
            service_name: "tested".to_owned(),
            sample,
        }
    }

    fn headers(traceparent: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("traceparent"),
            http::HeaderValue::from_str(traceparent).unwrap(),
        )])
    }

    fn end(tracer: &Tracer, context: &TraceContext) {
        tracer.end(
            context,
            &ServerSpan {
                method: &Method::GET,
                uri: &Uri::from_static("/shop/cart?secret=1"),
                status: 500,
                duration: Duration::from_millis(3),
                protocol: Protocol::H2,
                is_tls: true,
                peer: "127.0.0.1:5000".parse().unwrap(),
                plugin: "shop",
                route: "GET /shop/*",
                reason: Some("trap"),
                request_id: "0011223344556677",
            },
        );
    }

    #[test]
    fn traceparents_are_read_as_the_specification_says() {
        assert!(parse_traceparent(PARENT).is_some_and(|(_, _, is_sampled)| is_sampled));
        assert!(parse_traceparent(&PARENT.replace("-01", "-00")).is_some_and(|(.., s)| !s));
        assert!(parse_traceparent(&PARENT.replace("00-", "cc-")).is_some());
        assert!(parse_traceparent(&format!("{}-more", PARENT.replace("00-", "cc-"))).is_some());
        for wrong in [
            String::new(),
            PARENT.replace("00-", "ff-"),
            PARENT.to_uppercase(),
            format!("{PARENT}-more"),
            PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("0af7", "0af"),
        ] {
            assert_eq!(parse_traceparent(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_reach_the_collector_as_children_of_the_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let read = socket.read(&mut chunk).unwrap();
                received.extend_from_slice(&chunk[..read]);
                // The last attribute of the span is in.
                if read == 0 || received.windows(10).any(|bytes| bytes == b"error.type") {
                    break;
                }
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            received
        });
        let tracer = Tracer::start(&config(&endpoint, 0.0)).unwrap();

        let context = tracer.begin(&headers(PARENT));
        end(&tracer, &context);
        tracer.shutdown(Duration::from_secs(20));

        let received = collector.join().unwrap();
        let text = String::from_utf8_lossy(&received);
        assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{text}");
        for part in ["x-token: t0k3n", "tested", "GET /shop/*", "/shop/cart", "shop", "trap"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains("secret"));
        let parent = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();
        assert!(received.windows(8).any(|bytes| bytes == parent));
        assert!(context.traceparent().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert!(!context.traceparent().contains("b7ad6b7169203331"));
    }

    #[test]
    fn a_collector_that_is_gone_stops_nobody() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tracer = Tracer::start(&config(&format!("http://{gone}"), 1.0)).unwrap();

        for _ in 0..10_000 {
            end(&tracer, &tracer.begin(&HeaderMap::new()));
        }

        tracer.shutdown(Duration::from_millis(10));
    }

    #[test]
    fn the_share_of_sampled_traces_is_the_configured_one() {
        let tracer = Tracer::start(&config("http://127.0.0.1:9", 0.25)).unwrap();

        let sampled = (0..10_000)
            .filter(|_| tracer.begin(&HeaderMap::new()).traceparent().ends_with("-01"))
            .count();

        assert!((2_200..2_800).contains(&sampled), "{sampled}");
    }
}
