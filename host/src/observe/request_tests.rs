use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::*;
use crate::config::LogFormat;
use crate::http::conn::ConnStates;
use crate::observe::output::Output;
use crate::observe::output::tests::Written;

struct Bench {
    observer: Arc<Observer>,
    conn: Arc<Conn>,
    output: Output,
    written: Written,
}

impl Bench {
    fn new() -> Self {
        let states = Arc::new(ConnStates::default());
        let metrics = Arc::new(Metrics::new(2, Arc::clone(&states)));
        let written = Written::default();
        let output = Output::start(2, written.clone()).unwrap();
        let access = AccessLog::new(output.clone(), LogFormat::Text);
        let peer = "127.0.0.1:5000".parse().unwrap();
        let conn = Conn::new(1, peer, peer, Protocol::H2, None, states);
        let observer = Observer::new(metrics, Some(access), None);
        Self { observer, conn, output, written }
    }

    fn begin(&self, path: &str) -> RequestGuard {
        let (parts, ()) = Request::post(path).body(()).unwrap().into_parts();
        self.observer.begin(&self.conn, &parts.method, &parts.uri, &parts.headers)
    }

    fn routed(&self) -> RequestGuard {
        let mut guard = self.begin("/shop/cart?q=1");
        guard.routed(&"shop".into(), &"/shop/*".into());
        guard
    }

    /// The access log's lines, cut after the plugin.
    fn log(&self) -> String {
        self.output.flush(Duration::from_secs(20));
        self.written.text()
    }

    fn metrics(&self) -> String {
        self.observer.metrics().open_metrics()
    }

    fn counts(&self, sample: &str) {
        let metrics = self.metrics();
        assert!(metrics.lines().any(|line| line == sample), "no `{sample}` in\n{metrics}");
    }
}

fn failing(error: BodyError) -> ResponseBody {
    struct Failing(Option<BodyError>);

    impl Body for Failing {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            std::task::Poll::Ready(self.0.take().map(Err))
        }
    }

    ResponseBody::stream(Box::pin(Failing(Some(error))))
}

#[tokio::test]
async fn an_exchange_is_recorded_when_its_body_ends() {
    let bench = Bench::new();

    let response = bench.routed().finish(Response::new(ResponseBody::full("hello")));
    bench.counts("wharf_requests_in_flight{plugin=\"shop\"} 1");
    assert_eq!(bench.log(), "");
    response.into_body().collect().await.unwrap();

    let log = bench.log();
    assert!(log.contains("INFO access: POST /shop/cart 200 "), "{log}");
    assert!(log.contains("ms 5B outcome=complete protocol=h2 plugin=shop request_id="), "{log}");
    bench.counts("wharf_requests_in_flight{plugin=\"shop\"} 0");
    bench.counts("wharf_response_body_bytes_total{plugin=\"shop\",route=\"/shop/*\"} 5");
    bench.counts(
        "wharf_requests_total{plugin=\"shop\",route=\"/shop/*\",method=\"POST\",status=\"2xx\",\
         protocol=\"h2\"} 1",
    );
    bench.counts("wharf_request_duration_seconds_count{plugin=\"shop\",route=\"/shop/*\"} 1");
}

#[test]
fn a_client_that_leaves_before_the_response_is_a_499() {
    let bench = Bench::new();

    drop(bench.routed());

    assert!(bench.log().contains("POST /shop/cart 499 "), "{}", bench.log());
    bench
        .counts("wharf_exchanges_total{plugin=\"shop\",route=\"/shop/*\",outcome=\"abandoned\"} 1");
    bench.counts("wharf_requests_in_flight{plugin=\"shop\"} 0");
}

#[test]
fn a_client_that_leaves_in_the_midst_of_the_body_is_aborted() {
    let bench = Bench::new();

    drop(bench.routed().finish(Response::new(ResponseBody::full("hello"))));

    assert!(bench.log().contains(" 200 "), "{}", bench.log());
    assert!(bench.log().contains("outcome=aborted"), "{}", bench.log());
}

#[test]
fn an_empty_body_is_complete_without_being_polled() {
    let bench = Bench::new();

    drop(bench.routed().finish(Response::new(ResponseBody::empty())));

    assert!(bench.log().contains("0B outcome=complete"), "{}", bench.log());
}

#[tokio::test]
async fn a_plugin_that_fails_in_the_midst_of_the_body_is_an_error_of_its_kind() {
    let bench = Bench::new();

    let error = BodyError::Guest(Failure::Trap { message: "unreachable".into() });
    let response = bench.routed().finish(Response::new(failing(error)));
    assert!(response.into_body().collect().await.is_err());

    assert!(bench.log().contains("outcome=error"), "{}", bench.log());
    assert!(bench.log().contains("reason=trap"), "{}", bench.log());
    bench.counts("wharf_failures_total{plugin=\"shop\",kind=\"trap\"} 1");
}

#[test]
fn a_rejection_before_routing_has_no_plugin_and_no_raw_path_in_its_labels() {
    let bench = Bench::new();

    let mut guard = bench.begin("/secret/path");
    guard.rejected(&Rejection::NotFound);
    let response = Rejection::NotFound.into_response(Some(guard.id().as_str()));
    drop(guard.finish(response.map(ResponseBody::without_bytes)));

    assert!(bench.log().contains("404"), "{}", bench.log());
    assert!(bench.log().contains("reason=not-found"), "{}", bench.log());
    bench.counts("wharf_rejections_total{reason=\"not-found\"} 1");
    bench.counts(
        "wharf_requests_total{plugin=\"-\",route=\"-\",method=\"POST\",status=\"4xx\",\
         protocol=\"h2\"} 1",
    );
    assert!(!bench.metrics().contains("secret"));
}

#[tokio::test]
async fn request_bytes_that_were_read_are_counted() {
    let bench = Bench::new();
    let mut guard = bench.routed();

    let body = guard.metered(RequestBody::full(Bytes::from_static(b"12345678")));
    body.collect().await.unwrap();
    drop(guard.finish(Response::new(ResponseBody::empty())));

    bench.counts("wharf_request_body_bytes_total{plugin=\"shop\",route=\"/shop/*\"} 8");
}

#[test]
fn ids_are_sixteen_digits_and_never_repeat() {
    let bench = Bench::new();

    let mut ids: Vec<String> =
        (0..10_000).map(|_| bench.begin("/").id().as_str().to_owned()).collect();

    assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 10_000);
}

#[test]
fn routes_of_many_reloads_are_bounded() {
    let bench = Bench::new();
    let plugin: Arc<str> = "shop".into();

    for number in 0..2 * MAX_ROUTES {
        let mut guard = bench.begin("/");
        guard.routed(&plugin, &format!("/{number}").into());
    }

    assert!(bench.observer.cores[1].routes.lock().len() <= MAX_ROUTES);
    assert!(bench.metrics().lines().count() < 40 * MAX_ROUTES);
    bench.counts("wharf_requests_in_flight{plugin=\"shop\"} 0");
}

/// Not a test: `cargo test --release -p wharf --lib -- --ignored --nocapture cost_of_a_request`.
#[test]
#[ignore = "measures"]
fn cost_of_a_request() {
    const ROUNDS: u32 = 2_000_000;
    for (what, access) in [("metrics alone", false), ("metrics and access log", true)] {
        let states = Arc::new(ConnStates::default());
        let metrics = Arc::new(Metrics::new(1, Arc::clone(&states)));
        let output = Output::start(1, std::io::sink()).unwrap();
        let access = access.then(|| AccessLog::new(output.clone(), LogFormat::Text));
        let observer = Observer::new(metrics, access, None);
        let peer = "127.0.0.1:5000".parse().unwrap();
        let conn = Conn::new(0, peer, peer, Protocol::H1, None, states);
        let (plugin, pattern): (Arc<str>, Arc<str>) = ("shop".into(), "/shop/*".into());
        let (parts, ()) = Request::get("/shop/cart?q=1").body(()).unwrap().into_parts();
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let mut guard = observer.begin(&conn, &parts.method, &parts.uri, &parts.headers);
            guard.routed(&plugin, &pattern);
            drop(guard.finish(Response::new(ResponseBody::empty())));
        }
        let each = started.elapsed().as_nanos() / u128::from(ROUNDS);
        let dropped = output.dropped_lines().load(Ordering::Relaxed);
        println!("{what}: {each} ns a request, {dropped} lines dropped");
    }
}
