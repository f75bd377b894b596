//! What the admin listener answers: health, readiness, metrics, plugins, purges.
//!
//! It listens on loopback unless told otherwise, and answers only under names that an operator
//! would use: a web page whose name resolves to 127.0.0.1 (DNS rebinding) is refused with 421, so
//! that a browser cannot be made to read or steer the server.

pub mod purge;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::cache::Cache;
use crate::http::Handle;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::conn::Conn;
use crate::http::interim::Interim;
use crate::http::rejection::Rejection;
use crate::observe::Metrics;
use crate::plugin::schedule::ScheduleStatus;

const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Lists the plugins; the registry.
pub trait PluginList: Send + Sync + 'static {
    /// Every plugin that is known, served or not, sorted by name.
    fn plugins(&self) -> Vec<PluginStatus>;
}

/// What `/plugins` tells of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// For example `serving`, `compiling` or `failed`.
    pub state: String,
    /// Content hash of its component; none while it never was served.
    pub version: Option<String>,
    /// The world it implements, for example `wasi:http/service@0.3.0`.
    pub world: Option<String>,
    /// Patterns as written.
    pub routes: Vec<String>,
    /// `reuse` or `isolated`.
    pub mode: Option<String>,
    /// Instances alive.
    pub instances: u64,
    /// Requests that it works on; a switched connection counts until the plugin has let go of it.
    pub in_flight: u64,
    /// How its schedules are doing, by name.
    pub schedules: Vec<ScheduleStatus>,
    /// Why it is not served, or why its newest file is not.
    pub last_error: Option<String>,
}

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not every plugin of the folder has been looked at.
    Starting,
    /// Requests are served.
    Serving,
    /// It is leaving.
    Draining,
}

impl Phase {
    fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// What the admin listener tells about; its [`Handle`].
pub struct AdminState {
    phase: AtomicU8,
    /// Authorities that are answered besides loopback ones, without ports.
    hosts: Vec<String>,
    metrics: Arc<Metrics>,
    plugins: Arc<dyn PluginList>,
    cache: Arc<Cache>,
}

impl AdminState {
    /// A server that is starting. `hosts` is `admin-hosts`.
    pub fn new(
        metrics: Arc<Metrics>,
        plugins: Arc<dyn PluginList>,
        cache: Arc<Cache>,
        hosts: Vec<String>,
    ) -> Self {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Self { phase, hosts, metrics, plugins, cache }
    }

    /// Tells where the server is now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Whether a request for `authority` is meant for us: an address cannot be rebound, a name can.
    fn is_addressed(&self, authority: &str) -> bool {
        let name = without_port(authority);
        let name = name.strip_suffix('.').unwrap_or(name);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| without_port(host).eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminState").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl Handle for AdminState {
    async fn handle(
        &self,
        _conn: &Arc<Conn>,
        request: Request<RequestBody>,
        _interim: Arc<Interim>,
    ) -> Response<ResponseBody> {
        if request.uri().path() == "/purge" && is_meant(self, &request) {
            return match *request.method() {
                Method::POST => purge::purge(self, request).await,
                _ => Rejection::MethodNotAllowed { allow: "POST".to_owned() }.into_response(None),
            };
        }
        answer(self, &request)
    }
}

/// Whether the request names us.
fn is_meant<B>(state: &AdminState, request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or_default());
    let authority = request.uri().authority().map_or(host, |uri| Some(uri.as_str()));
    authority.is_some_and(|authority| state.is_addressed(authority))
}

/// Answers one request of those that only read. No body is read, and nothing here waits.
pub fn answer<B>(state: &AdminState, request: &Request<B>) -> Response<ResponseBody> {
    if !is_meant(state, request) {
        return Rejection::Misdirected.into_response(None);
    }
    let respond: fn(&AdminState, &Request<B>) -> Response<ResponseBody> = match request.uri().path()
    {
        "/" => index,
        "/healthz" => |_, _| reply(StatusCode::OK, JSON, r#"{"status":"ok"}"#),
        "/readyz" => |state, _| ready(state),
        "/metrics" => metrics,
        "/plugins" => |state, _| plugins(state),
        _ => return Rejection::NotFound.into_response(None),
    };
    match *request.method() {
        Method::GET => respond(state, request),
        // The protocol leaves the bytes out and keeps their length.
        Method::HEAD => respond(state, request),
        _ => Rejection::MethodNotAllowed { allow: "GET, HEAD".to_owned() }.into_response(None),
    }
}

fn index<B>(state: &AdminState, _request: &Request<B>) -> Response<ResponseBody> {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Wharf</title>\n<h1>Wharf ",
    );
    // Writing to a `String` cannot fail.
    let _infallible = write!(
        page,
        "{}</h1>\n<p>{}</p>\n<ul>\n",
        env!("CARGO_PKG_VERSION"),
        state.phase().label()
    );
    for path in ["/healthz", "/readyz", "/metrics", "/plugins"] {
        let _infallible = writeln!(page, "<li><a href=\"{path}\">{path}</a>");
    }
    page.push_str("</ul>\n");
    reply(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn ready(state: &AdminState) -> Response<ResponseBody> {
    let phase = state.phase();
    let status = match phase {
        Phase::Serving => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let reasons: &[&str] = match phase {
        Phase::Starting => &["the plugins folder is still being loaded"],
        Phase::Serving => &[],
        Phase::Draining => &["the server is shutting down"],
    };
    let document = serde_json::json!({
        "ready": phase == Phase::Serving,
        "state": phase.label(),
        "reasons": reasons,
    });
    reply(status, JSON, document.to_string())
}

fn metrics<B>(state: &AdminState, request: &Request<B>) -> Response<ResponseBody> {
    let mut accepted = request.headers().get_all(ACCEPT).iter();
    if accepted.any(|value| value.as_bytes().starts_with(b"application/openmetrics-text")) {
        return reply(StatusCode::OK, OPEN_METRICS, state.metrics.open_metrics());
    }
    reply(StatusCode::OK, PROMETHEUS, state.metrics.prometheus_text())
}

fn plugins(state: &AdminState) -> Response<ResponseBody> {
    match serde_json::to_vec(&state.plugins.plugins()) {
        Ok(document) => reply(StatusCode::OK, JSON, document),
        Err(error) => {
            tracing::error!(%error, "the list of plugins cannot be written as JSON");
            reply(StatusCode::INTERNAL_SERVER_ERROR, JSON, "[]")
        }
    }
}

fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    let fields: [(HeaderName, &'static str); 3] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `[::1]:9090` → `[::1]`, `localhost:9090` → `localhost`.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && !name.ends_with(':') => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::drain::Drain;
    use crate::http::conn::ConnStates;
    use crate::http::rejection::Rejection;

    struct OnePlugin;

    impl PluginList for OnePlugin {
        fn plugins(&self) -> Vec<PluginStatus> {
            vec![PluginStatus {
                name: "shop".to_owned(),
                state: "serving".to_owned(),
                routes: vec!["/shop/*".to_owned()],
                ..PluginStatus::default()
            }]
        }
    }

    fn state() -> AdminState {
        let metrics = Arc::new(Metrics::new(1, Arc::new(ConnStates::default())));
        metrics.rejected(&Rejection::NotFound);
        let cache = Cache::new(0, Drain::new());
        AdminState::new(metrics, Arc::new(OnePlugin), cache, vec!["admin.example".to_owned()])
    }

    fn ask(state: &AdminState, method: &str, path: &str, host: &str) -> Response<ResponseBody> {
        let request = Request::builder().method(method).uri(path).header("host", host);
        answer(state, &request.body(()).unwrap())
    }

    async fn text(response: Response<ResponseBody>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn readiness_follows_the_servers_life() {
        let state = state();

        for (phase, status) in
            [(Phase::Starting, 503), (Phase::Serving, 200), (Phase::Draining, 503)]
        {
            state.enter(phase);
            let response = ask(&state, "GET", "/readyz", "localhost:9090");
            assert_eq!(response.status(), status);
            let document: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
            assert_eq!(document["state"], phase.label());
            assert_eq!(document["reasons"].as_array().unwrap().is_empty(), status == 200);
            assert_eq!(ask(&state, "GET", "/healthz", "localhost").status(), 200);
        }
    }

    #[tokio::test]
    async fn plugins_are_listed_with_every_field() {
        let response = ask(&state(), "GET", "/plugins", "[::1]:9090");

        assert_eq!(response.headers()[CONTENT_TYPE], JSON);
        assert_eq!(
            text(response).await,
            r#"[{"name":"shop","state":"serving","version":null,"world":null,"routes":["/shop/*"],"mode":null,"instances":0,"in_flight":0,"schedules":[],"last_error":null}]"#
        );
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_that_is_asked_for() {
        let state = state();

        let response = ask(&state, "GET", "/metrics", "127.0.0.1:9090");
        assert_eq!(response.headers()[CONTENT_TYPE], PROMETHEUS);
        let plain = text(response).await;
        assert!(plain.contains("# TYPE wharf_rejections_total counter\n"), "{plain}");
        assert!(plain.contains("wharf_rejections_total{reason=\"not-found\"} 1\n"), "{plain}");
        assert!(!plain.contains("# EOF"), "{plain}");

        let request = Request::get("/metrics").header("host", "localhost").header(
            "accept",
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3",
        );
        let response = answer(&state, &request.body(()).unwrap());
        assert_eq!(response.headers()[CONTENT_TYPE], OPEN_METRICS);
        assert!(text(response).await.ends_with("# EOF\n"));
    }

    #[test]
    fn names_that_could_be_rebound_are_refused() {
        for (host, status) in [
            ("127.0.0.1:9090", 200),
            ("[::1]", 200),
            ("localhost", 200),
            ("LOCALHOST.:9090", 200),
            ("admin.example:9090", 200),
            ("10.0.0.7:9090", 200),
            ("evil.example:9090", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("", 421),
        ] {
            assert_eq!(ask(&state(), "GET", "/healthz", host).status(), status, "{host}");
        }
        let without = Request::get("/healthz").body(()).unwrap();
        assert_eq!(answer(&state(), &without).status(), 421);
    }

    #[test]
    fn other_paths_are_404_and_other_methods_405() {
        let state = state();

        assert_eq!(ask(&state, "GET", "/none", "localhost").status(), 404);
        let response = ask(&state, "POST", "/plugins", "localhost");
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        assert_eq!(ask(&state, "HEAD", "/plugins", "localhost").status(), 200);
        assert_eq!(ask(&state, "GET", "/", "localhost").status(), 200);
    }
}
