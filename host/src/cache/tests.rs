//! The way through the cache, with a plugin that answers as the test says. Long, because all of it shares
//! that plugin and the clients.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};

use super::Cache;
use super::blocks::BLOCK;
use super::figures::Outcome;
use super::purge::Purge;
use super::stage::{Answer, Asked, Called, Origin};
use super::stream::WINDOW;
use crate::drain::Drain;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::plugin::manifest::cache::RoutePolicy;

/// A plugin that waits to be told what to answer.
#[derive(Clone)]
struct Plugin {
    name: Arc<str>,
    space: Arc<str>,
    policy: Arc<RoutePolicy>,
    calls: Arc<AtomicUsize>,
    asked: mpsc::UnboundedSender<Question>,
}

/// A request that the plugin got, to be answered by the test.
struct Question {
    method: Method,
    path: String,
    headers: HeaderMap,
    answer: oneshot::Sender<Response<ResponseBody>>,
}

#[derive(Debug)]
struct Failed;

impl Origin for Plugin {
    type Refusal = Failed;

    fn asked(&self) -> Asked<'_> {
        Asked {
            plugin: &self.name,
            route: "/*",
            space: &self.space,
            policy: &self.policy,
            has_own: false,
            scheme: "https",
            authority: "a.test",
        }
    }

    async fn call(&self, request: Request<RequestBody>) -> Result<Called, Failed> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let question = Question {
            method: request.method().clone(),
            path: request.uri().to_string(),
            headers: request.headers().clone(),
            answer,
        };
        self.asked.send(question).map_err(|_| Failed)?;
        let response = answered.await.map_err(|_| Failed)?;
        Ok(Called { response, control: None, is_held: false, took: Duration::ZERO })
    }

    fn background(&self) -> Self {
        self.clone()
    }
}

/// A cache, a plugin behind it, and what the plugin is asked.
struct Bench {
    cache: Arc<Cache>,
    plugin: Plugin,
    questions: mpsc::UnboundedReceiver<Question>,
}

impl Bench {
    fn new() -> Self {
        Self::with(RoutePolicy::default())
    }

    fn with(policy: RoutePolicy) -> Self {
        let (asked, questions) = mpsc::unbounded_channel();
        let plugin = Plugin {
            name: "shop".into(),
            space: "shop@1".into(),
            policy: Arc::new(policy),
            calls: Arc::default(),
            asked,
        };
        Self { cache: Cache::new(64 << 20, Drain::new()), plugin, questions }
    }

    fn calls(&self) -> usize {
        self.plugin.calls.load(Ordering::Relaxed)
    }

    /// A client's request, under way in a task of its own.
    fn get(&self, path: &str) -> Client {
        self.send("GET", path, &[])
    }

    #[expect(clippy::disallowed_methods, reason = "a client of the test's own")]
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Client {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(RequestBody::empty()).unwrap();
        let (cache, plugin) = (Arc::clone(&self.cache), self.plugin.clone());
        Client(tokio::spawn(async move { cache.answer(&plugin, request).await }))
    }

    /// What the plugin is asked next.
    async fn question(&mut self) -> Question {
        tokio::time::timeout(Duration::from_secs(20), self.questions.recv()).await.unwrap().unwrap()
    }

    /// Answers what the plugin is asked next.
    async fn answer(&mut self, headers: &[(&str, &str)], body: &str) -> HeaderMap {
        let question = self.question().await;
        let seen = question.headers.clone();
        question.answer(200, headers, ResponseBody::full(body.to_owned()));
        seen
    }

    /// Lets everything run that can.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

impl Question {
    fn answer(self, status: u16, headers: &[(&str, &str)], body: ResponseBody) {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let _left = self.answer.send(response.body(body).unwrap());
    }
}

struct Client(tokio::task::JoinHandle<Result<Answer, Failed>>);

impl Client {
    async fn head(self) -> Answer {
        tokio::time::timeout(Duration::from_secs(20), self.0).await.unwrap().unwrap().unwrap()
    }

    async fn whole(self) -> Seen {
        let answer = self.head().await;
        let (head, body) = answer.response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = |name| {
            let values = head.headers.get_all(name).iter();
            values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(", ")
        };
        Seen {
            status: head.status.as_u16(),
            outcome: answer.outcome,
            cache: text("cache-status"),
            age: text("age"),
            body: String::from_utf8(body.to_vec()).unwrap(),
            headers: head.headers,
        }
    }

    fn leave(self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Seen {
    status: u16,
    outcome: Outcome,
    cache: String,
    age: String,
    body: String,
    headers: HeaderMap,
}

/// A body that the test sends piece by piece; an empty piece is its failure.
fn live(length: Option<u64>) -> (mpsc::UnboundedSender<Bytes>, ResponseBody) {
    struct Live(mpsc::UnboundedReceiver<Bytes>, Option<u64>);

    impl Body for Live {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.0.poll_recv(cx).map(|piece| match piece {
                Some(piece) if piece.is_empty() => Some(Err(BodyError::Gone)),
                piece => piece.map(|piece| Ok(Frame::data(piece))),
            })
        }

        fn size_hint(&self) -> http_body::SizeHint {
            self.1.map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
        }
    }

    let (send, receive) = mpsc::unbounded_channel();
    (send, ResponseBody::stream(Box::pin(Live(receive, length))))
}

const HOUR: &[(&str, &str)] = &[("cache-control", "max-age=3600")];
/// Stale from the beginning; `Age` says that it came long ago.
const STALE: &[(&str, &str)] =
    &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("age", "100")];

#[tokio::test]
async fn what_was_answered_is_answered_again_without_the_plugin() {
    let mut bench = Bench::new();
    let first = bench.get("/a?b");
    bench.answer(&[("cache-control", "max-age=3600"), ("x-own", "1")], "hello").await;
    let first = first.whole().await;

    let second = bench.get("/a?b").whole().await;
    let other = bench.get("/a?c");
    bench.answer(HOUR, "other").await;

    assert_eq!((first.status, first.outcome, first.body.as_str()), (200, Outcome::Miss, "hello"));
    assert_eq!(first.cache, "wharf;fwd=uri-miss;stored");
    assert_eq!((second.status, second.outcome, second.body.as_str()), (200, Outcome::Hit, "hello"));
    assert!(second.cache.starts_with("wharf;hit;ttl=3"), "{second:?}");
    assert_eq!((second.age.as_str(), &second.headers["x-own"]), ("0", &"1".parse().unwrap()));
    assert_eq!(other.whole().await.body, "other");
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn a_thousand_that_ask_at_once_are_one_call() {
    let mut bench = Bench::new();
    let clients: Vec<Client> = (0..1000).map(|_| bench.get("/cold")).collect();
    bench.settle().await;

    bench.answer(HOUR, "once").await;

    let mut stored = 0;
    for client in clients {
        let seen = client.whole().await;
        assert_eq!(seen.body, "once");
        stored += usize::from(seen.cache.ends_with(";stored"));
    }
    assert_eq!((bench.calls(), stored), (1, 1));
}

#[tokio::test]
async fn many_read_a_body_while_it_comes() {
    let mut bench = Bench::new();
    let clients: Vec<Client> = (0..50).map(|_| bench.get("/slow")).collect();
    bench.settle().await;
    let (pieces, body) = live(None);
    bench.question().await.answer(200, HOUR, body);
    let mut bodies = Vec::new();
    for client in clients {
        bodies.push(client.head().await.response.into_body());
    }

    for piece in ["one ", "two ", "three"] {
        pieces.send(piece.into()).unwrap();
        for body in &mut bodies {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        }
    }
    let late = bench.get("/slow").head().await;
    assert!(late.response.headers()["cache-status"].to_str().unwrap().contains(";collapsed"));
    drop(pieces);
    for body in &mut bodies {
        assert!(body.frame().await.is_none());
    }

    let late = late.response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(late, "one two three");
    assert_eq!(bench.get("/slow").whole().await.body, "one two three");
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn the_first_to_ask_may_leave_before_the_answer() {
    let mut bench = Bench::new();
    let first = bench.get("/a");
    let question = bench.question().await;
    let others = [bench.get("/a"), bench.get("/a")];
    bench.settle().await;

    first.leave();
    bench.settle().await;
    drop(question);
    bench.answer(HOUR, "second try").await;

    for other in others {
        assert_eq!(other.whole().await.body, "second try");
    }
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn the_first_to_ask_may_leave_in_the_midst_of_the_body() {
    let mut bench = Bench::new();
    let (first, second) = (bench.get("/a"), bench.get("/a"));
    bench.settle().await;
    let (pieces, body) = live(None);
    bench.question().await.answer(200, HOUR, body);
    let first = first.head().await;
    let second = second.head().await;
    pieces.send("half ".into()).unwrap();

    drop(first);
    pieces.send("whole".into()).unwrap();
    drop(pieces);

    assert_eq!(second.response.into_body().collect().await.unwrap().to_bytes(), "half whole");
    assert_eq!(bench.get("/a").whole().await.body, "half whole");
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn when_all_leave_the_plugins_work_ends() {
    let mut bench = Bench::new();
    let (first, second) = (bench.get("/a"), bench.get("/a"));
    bench.settle().await;
    let (pieces, body) = live(None);
    bench.question().await.answer(200, HOUR, body);
    let (first, second) = (first.head().await, second.head().await);
    pieces.send("half".into()).unwrap();

    drop((first, second));

    assert!(pieces.is_closed());
    assert_eq!(bench.cache.fills(), 0);
    let again = bench.get("/a");
    bench.answer(HOUR, "anew").await;
    assert_eq!(again.whole().await.body, "anew");
}

#[tokio::test]
async fn half_a_body_is_not_stored() {
    let mut bench = Bench::new();
    let client = bench.get("/a");
    let (pieces, body) = live(None);
    bench.question().await.answer(200, HOUR, body);
    pieces.send("half".into()).unwrap();
    pieces.send(Bytes::new()).unwrap();
    assert!(client.head().await.response.into_body().collect().await.is_err());

    let short = bench.get("/a");
    let headers = [("cache-control", "max-age=3600"), ("content-length", "9")];
    bench.question().await.answer(200, &headers, ResponseBody::full("short"));
    short.whole().await;

    let again = bench.get("/a");
    bench.answer(HOUR, "whole").await;
    assert_eq!(again.whole().await.body, "whole");
}

#[tokio::test]
async fn what_is_not_for_others_makes_nobody_wait() {
    let mut bench = Bench::new();
    let clients: Vec<Client> = (0..20).map(|_| bench.get("/mine")).collect();
    bench.settle().await;
    assert_eq!(bench.calls(), 1);

    bench.answer(&[("cache-control", "private")], "0").await;
    bench.settle().await;
    assert_eq!(bench.calls(), 20, "all others ask at once");
    for n in 1..20 {
        bench.answer(&[("cache-control", "private")], &n.to_string()).await;
    }
    let mut bodies = Vec::new();
    for client in clients {
        bodies.push(client.whole().await.body);
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20);

    let later = [bench.get("/mine"), bench.get("/mine")];
    bench.settle().await;
    assert_eq!(bench.calls(), 22, "it is remembered");
    for client in later {
        bench.answer(HOUR, "for all").await;
        client.whole().await;
    }
    assert_eq!(bench.get("/mine").whole().await.outcome, Outcome::Hit, "and can change");
}

#[tokio::test]
async fn a_failure_makes_nobody_wait_in_line() {
    let mut bench = Bench::new();
    let clients: Vec<Client> = (0..20).map(|_| bench.get("/a")).collect();
    bench.settle().await;

    drop(bench.question().await);
    bench.settle().await;

    assert_eq!(bench.calls(), 20);
    for _ in 1..20 {
        bench.answer(HOUR, "well again").await;
    }
    let mut failed = 0;
    for client in clients {
        match client.0.await.unwrap() {
            Ok(_) => {}
            Err(Failed) => failed += 1,
        }
    }
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn stale_answers_come_at_once_and_are_validated_once_behind_them() {
    let mut bench = Bench::new();
    let first = bench.get("/a");
    bench.answer(&[STALE[0], STALE[1], ("etag", "\"1\"")], "old").await;
    first.whole().await;

    for _ in 0..5 {
        let seen = bench.send("GET", "/a", &[("range", "bytes=0-1")]).whole().await;
        assert_eq!((seen.outcome, seen.body.as_str()), (Outcome::Stale, "old"));
        assert!(seen.cache.contains("detail=\"stale-while-revalidate\""), "{seen:?}");
    }
    bench.settle().await;
    assert_eq!(bench.calls(), 2, "one validates");
    let question = bench.question().await;
    assert_eq!((&question.method, question.path.as_str()), (&Method::GET, "/a"));
    assert_eq!(question.headers["if-none-match"], "\"1\"");
    assert!(!question.headers.contains_key("range"));
    question.answer(
        304,
        &[("cache-control", "max-age=3600"), ("etag", "\"1\"")],
        ResponseBody::empty(),
    );
    bench.settle().await;

    let seen = bench.get("/a").whole().await;
    assert_eq!((seen.outcome, seen.body.as_str()), (Outcome::Hit, "old"));
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn a_new_version_replaces_the_stale_one_behind_the_answer() {
    let mut bench = Bench::new();
    let first = bench.get("/a");
    bench.answer(STALE, "old").await;
    first.whole().await;

    assert_eq!(bench.get("/a").whole().await.body, "old");
    let (pieces, body) = live(None);
    bench.question().await.answer(200, HOUR, body);
    assert_eq!(bench.get("/a").whole().await.body, "old", "while the new one is coming");
    pieces.send("new".into()).unwrap();
    drop(pieces);
    bench.settle().await;

    assert_eq!(bench.get("/a").whole().await.body, "new");
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn validation_in_front_of_the_client() {
    let mut bench = Bench::new();
    let headers = [("cache-control", "max-age=60"), ("age", "100"), ("etag", "\"1\"")];
    let first = bench.get("/a");
    bench.answer(&headers, "old").await;
    first.whole().await;

    let client =
        bench.send("GET", "/a", &[("if-none-match", "\"client\""), ("range", "bytes=0-1")]);
    let question = bench.question().await;
    assert_eq!(question.headers["if-none-match"], "\"1\"");
    assert!(!question.headers.contains_key("range"));
    let newer = [("cache-control", "max-age=3600"), ("etag", "\"1\""), ("x-new", "1")];
    question.answer(304, &newer, ResponseBody::empty());
    let seen = client.whole().await;

    assert_eq!((seen.status, seen.outcome, seen.body.as_str()), (200, Outcome::Revalidated, "old"));
    assert!(seen.cache.contains("fwd=stale;fwd-status=304"), "{seen:?}");
    let hit = bench.get("/a").whole().await;
    assert_eq!((hit.outcome, hit.headers["x-new"].to_str().unwrap()), (Outcome::Hit, "1"));
}

#[tokio::test]
async fn a_304_about_something_else_is_asked_again_without_conditions() {
    let mut bench = Bench::new();
    let first = bench.get("/a");
    bench
        .answer(&[("cache-control", "max-age=60"), ("age", "100"), ("etag", "\"1\"")], "old")
        .await;
    first.whole().await;

    let client = bench.get("/a");
    let question = bench.question().await;
    question.answer(304, &[("etag", "\"2\"")], ResponseBody::empty());
    let question = bench.question().await;
    assert!(!question.headers.contains_key("if-none-match"));
    question.answer(200, HOUR, ResponseBody::full("new"));

    assert_eq!(client.whole().await.body, "new");
    assert_eq!(bench.get("/a").whole().await.body, "new");
}

#[tokio::test]
async fn stale_answers_stand_in_for_errors_where_they_may() {
    let mut bench = Bench::new();
    let first = bench.get("/a");
    bench
        .answer(&[("cache-control", "max-age=60, stale-if-error=600"), ("age", "100")], "old")
        .await;
    first.whole().await;

    let client = bench.get("/a");
    bench.question().await.answer(503, &[], ResponseBody::full("down"));
    let by_status = client.whole().await;
    let client = bench.get("/a");
    drop(bench.question().await);
    let by_failure = client.whole().await;
    let client = bench.get("/a");
    bench.question().await.answer(404, &[], ResponseBody::full("gone"));
    let missing = client.whole().await;

    assert_eq!((by_status.status, by_status.body.as_str()), (200, "old"));
    assert!(by_status.cache.contains("fwd-status=503"), "{by_status:?}");
    assert_eq!((by_failure.outcome, by_failure.body.as_str()), (Outcome::Stale, "old"));
    assert_eq!((missing.status, missing.body.as_str()), (404, "gone"));
}

#[tokio::test]
async fn unsafe_requests_invalidate_what_is_there() {
    let mut bench = Bench::new();
    for path in ["/a", "/b"] {
        let client = bench.get(path);
        bench.answer(HOUR, "old").await;
        client.whole().await;
    }

    let failed = bench.send("PUT", "/a", &[]);
    bench.question().await.answer(500, &[], ResponseBody::empty());
    failed.whole().await;
    assert_eq!(bench.get("/a").whole().await.outcome, Outcome::Hit);
    let put = bench.send("PUT", "/a", &[]);
    bench.question().await.answer(204, &[("location", "/b")], ResponseBody::empty());
    assert_eq!(put.whole().await.cache, "wharf;fwd=method");

    for path in ["/a", "/b"] {
        let client = bench.get(path);
        bench.answer(HOUR, "new").await;
        assert_eq!(client.whole().await.body, "new");
    }
}

#[tokio::test]
async fn what_was_asked_for_before_a_purge_is_not_stored_after_it() {
    let mut bench = Bench::new();
    let headers = [("cache-control", "max-age=3600"), ("surrogate-key", "all post-1")];
    for purge in [
        (|cache| cache.purge_url(Some("shop"), "/a", Purge::Hard)) as fn(&Cache) -> u64,
        |cache| cache.purge_url(None, "https://A.test/a", Purge::Soft),
        |cache| cache.purge_url(None, "/*", Purge::Hard),
        |cache| cache.purge_key(Some("shop"), "post-1", Purge::Hard),
        |cache| cache.purge_all(None, Purge::Hard),
        |cache| cache.purge_key(None, "all", Purge::Soft),
    ] {
        let client = bench.get("/a");
        let question = bench.question().await;
        let purged = purge(&bench.cache);
        question.answer(200, &headers, ResponseBody::full("before"));
        let seen = client.whole().await;

        assert_eq!(purged, 0);
        assert!(!seen.headers.contains_key("surrogate-key"));
        assert_eq!(bench.cache.contents(None).entries, 0);
    }
}

#[tokio::test]
async fn entries_are_purged_by_url_and_by_surrogate_key() {
    let mut bench = Bench::new();
    let cache = Arc::clone(&bench.cache);
    let store = async |bench: &mut Bench, path: &str, tags: &str| {
        let client = bench.get(path);
        let headers = [("cache-control", "max-age=3600"), ("cache-tag", tags), ("etag", "\"1\"")];
        bench.answer(&headers, "stored").await;
        let seen = client.whole().await;
        assert!(!seen.headers.contains_key("cache-tag"), "{seen:?}");
    };
    for (path, tags) in [("/posts/1", "posts, post-1"), ("/posts/2", "posts"), ("/x", "other")] {
        store(&mut bench, path, tags).await;
    }

    assert_eq!(cache.purge_key(Some("another"), "posts", Purge::Hard), 0, "not its own");
    assert_eq!(cache.purge_key(Some("shop"), "post-1", Purge::Hard), 1);
    assert_eq!(cache.purge_url(None, "/posts/1", Purge::Hard), 0, "it is gone already");
    assert_eq!(cache.purge_url(None, "http://a.test/posts/2", Purge::Hard), 0, "another origin");
    assert_eq!(cache.purge_url(Some("shop"), "https://a.test:443/posts/2", Purge::Soft), 1);
    let client = bench.get("/posts/2");
    assert_eq!(bench.question().await.headers["if-none-match"], "\"1\"", "stale, not gone");
    client.leave();
    assert_eq!(cache.purge_url(Some("shop"), "/posts/*", Purge::Hard), 1);
    assert_eq!(cache.purge_all(Some("shop"), Purge::Hard), 1);
    assert_eq!(cache.contents(None).entries, 0);
}

#[tokio::test]
async fn what_was_replaced_is_still_purged_by_its_names() {
    let mut bench = Bench::new();
    let cache = Arc::clone(&bench.cache);
    let headers =
        [("cache-control", "max-age=3600"), ("cache-tag", "posts"), ("vary", "x-flavour")];
    for flavour in ["mint", "lime"] {
        let client = bench.send("GET", "/posts", &[("x-flavour", flavour)]);
        bench.answer(&headers, "stored").await;
        client.whole().await;
    }

    assert_eq!(cache.purge_key(None, "posts", Purge::Soft), 2);
    assert_eq!(cache.purge_url(None, "/posts", Purge::Hard), 2);
    assert_eq!(cache.contents(None).entries, 0);
    assert_eq!(cache.contents(None).evictions, 0, "nothing was pushed out");
}

#[tokio::test]
async fn variants_are_told_apart_and_bounded() {
    let mut bench = Bench::new();
    let headers = [("cache-control", "max-age=3600"), ("vary", "x-flavour")];
    for n in 0..100 {
        let flavour = n.to_string();
        let client = bench.send("GET", "/a", &[("x-flavour", flavour.as_str())]);
        bench.answer(&headers, &flavour).await;
        assert_eq!(client.whole().await.body, flavour);
    }

    let seen = bench.send("GET", "/a", &[("x-flavour", "99")]).whole().await;
    assert_eq!((seen.outcome, seen.body.as_str()), (Outcome::Hit, "99"));
    let oldest = bench.send("GET", "/a", &[("x-flavour", "0")]);
    bench.answer(&headers, "anew").await;
    assert_eq!(oldest.whole().await.cache, "wharf;fwd=vary-miss;stored");
    assert_eq!(bench.cache.contents(None).entries, 1);
}

#[tokio::test]
async fn those_that_select_another_variant_do_not_get_this_one() {
    let mut bench = Bench::new();
    let headers = [("cache-control", "max-age=3600"), ("vary", "accept-language")];
    let clients: Vec<_> = ["en", "de", "de"]
        .iter()
        .map(|language| bench.send("GET", "/a", &[("accept-language", language)]))
        .collect();
    bench.settle().await;

    for _ in 0..2 {
        let question = bench.question().await;
        let language = question.headers["accept-language"].to_str().unwrap().to_owned();
        question.answer(200, &headers, ResponseBody::full(language));
    }

    let mut bodies = Vec::new();
    for client in clients {
        bodies.push(client.whole().await.body);
    }
    assert_eq!(bodies, ["en", "de", "de"]);
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn head_is_answered_from_what_get_stored() {
    let mut bench = Bench::new();
    let head = bench.send("HEAD", "/a", &[]);
    assert_eq!(bench.question().await.method, Method::HEAD, "nothing is stored");
    head.leave();
    let get = bench.get("/a");
    bench.answer(HOUR, "hello").await;
    get.whole().await;

    let head = bench.send("HEAD", "/a", &[]).whole().await;

    assert_eq!(head.outcome, Outcome::Hit);
}

#[tokio::test]
async fn only_if_cached_asks_nobody() {
    let bench = Bench::new();

    let seen = bench.send("GET", "/a", &[("cache-control", "only-if-cached")]).whole().await;

    assert_eq!((seen.status, bench.calls()), (504, 0));
}

#[tokio::test]
async fn a_new_version_of_the_plugin_answers_itself() {
    let mut bench = Bench::new();
    let client = bench.get("/a");
    bench.answer(HOUR, "old").await;
    client.whole().await;

    bench.plugin.space = "shop@2".into();
    let client = bench.get("/a");
    bench.answer(HOUR, "new").await;
    assert_eq!(client.whole().await.body, "new");
    assert_eq!(bench.cache.contents(None).entries, 2);
    bench.cache.refresh(&["shop@2".into()], &HashMap::new());

    assert_eq!(bench.cache.contents(None).entries, 1);
    assert_eq!(bench.get("/a").whole().await.body, "new");
}

#[tokio::test]
async fn a_plugin_with_a_size_has_no_more_than_that() {
    let cache = Cache::new(64 << 20, Drain::new());
    let sizes = HashMap::from([("shop".into(), 1u64 << 20)]);

    cache.refresh(&["shop@1".into()], &sizes);

    assert_eq!(cache.contents(Some("shop")).capacity, 1 << 20);
    assert_eq!(cache.contents(Some("other")).capacity, (56 << 20) - (1 << 20));
    cache.refresh(&[], &HashMap::new());
    assert_eq!(cache.contents(Some("shop")).capacity, 56 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_body_too_large_to_store_passes_in_a_window() {
    let policy = RoutePolicy { largest: 2 * BLOCK as u64, ..RoutePolicy::default() };
    let mut bench = Bench::with(policy);
    let clients = [bench.get("/large"), bench.get("/large")];
    bench.settle().await;
    let (pieces, body) = live(None);
    bench.question().await.answer(200, HOUR, body);
    let [fast, slow] = clients;
    let (mut fast, slow) =
        (fast.head().await.response.into_body(), slow.head().await.response.into_body());
    let piece = Bytes::from(vec![7; BLOCK]);
    let all = 40;
    for _ in 0..all {
        pieces.send(piece.clone()).unwrap();
    }
    drop(pieces);

    let mut read = 0;
    while let Ok(Some(Ok(frame))) =
        tokio::time::timeout(Duration::from_millis(1), fast.frame()).await
    {
        read += frame.into_data().unwrap().len() as u64;
    }
    assert!(read < all as u64 * BLOCK as u64, "the slow one holds it up");
    assert!(read >= WINDOW);
    assert!(bench.cache.body_bytes() <= 4 * BLOCK as u64, "nothing of it is kept as stored");
    // Until it has been behind for too long.
    let rest = fast.collect().await.unwrap().to_bytes().len() as u64;

    assert_eq!(read + rest, all as u64 * BLOCK as u64);
    assert!(matches!(slow.collect().await, Err(BodyError::Timeout)));
    let again = bench.get("/large");
    assert_eq!(bench.question().await.path, "/large", "it is not stored");
    again.leave();
}

#[tokio::test]
async fn random_loads_stay_within_the_size() {
    let size = 8 << 20;
    let (asked, mut questions) = mpsc::unbounded_channel::<Question>();
    let plugin = Plugin {
        name: "shop".into(),
        space: "shop@1".into(),
        policy: Arc::new(RoutePolicy::default()),
        calls: Arc::default(),
        asked,
    };
    let cache = Cache::new(size, Drain::new());
    let mut held = VecDeque::new();
    let mut random = 1u64;
    for _ in 0..3000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let path = format!("/{}", (random >> 33) % 500);
        let length = 100 << ((random >> 40) % 13);
        let request = Request::builder().uri(path).body(RequestBody::empty()).unwrap();
        let answer = async {
            let answer = cache.answer(&plugin, request).await.unwrap();
            let body = answer.response.into_body();
            // A slow client: its body lasts longer than its entry may.
            held.push_back(body);
            if held.len() > 20 {
                held.pop_front().unwrap().collect().await.unwrap();
            }
        };
        tokio::select! {
            biased;
            () = async {
                while let Some(question) = questions.recv().await {
                    question.answer(200, HOUR, ResponseBody::full(vec![1; length]));
                }
            } => {}
            () = answer => {}
        }
        assert!(cache.body_bytes() <= size, "{} bytes", cache.body_bytes());
        assert!(cache.contents(None).bytes <= size);
    }
    assert!(cache.contents(None).evictions > 100);
    assert!(cache.contents(None).entries > 20);
}
