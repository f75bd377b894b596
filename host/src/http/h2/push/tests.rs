//! Pushes with the `h2` client, and frame by frame for a client that tries to catch `h2` out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::{PushPromises, SendRequest};
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

use crate::drain::Drain;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::conn::{Conn, ConnStates, Protocol};
use crate::http::interim::{Interim, Unsent};
use crate::http::limits::Limits;
use crate::http::push::{MAX_PUSHED_STREAMS, MAX_PUSHES};
use crate::http::{Handle, Serving};

/// `/page/N` pushes `/asset/1` to `/asset/N` and is then answered; `/asset/…` tries to push itself and
/// is answered; `/wide` pushes as much as it may, at long paths; `/hanging` pushes `/never`, which
/// never is answered.
#[derive(Default)]
struct Pushing {
    outcomes: Mutex<Vec<Result<(), Unsent>>>,
    nested: Mutex<Vec<Result<(), Unsent>>>,
    hanging: AtomicUsize,
    changed: Notify,
}

struct Hanging<'a>(&'a Pushing);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

impl Handle for Pushing {
    async fn handle(
        &self,
        _: &Arc<Conn>,
        request: Request<RequestBody>,
        interim: Arc<Interim>,
    ) -> Response<ResponseBody> {
        let push = |path: &str| interim.push::<&str>("GET", path, &[]);
        let path = request.uri().path();
        if let Some(count) = path.strip_prefix("/page/") {
            for asset in 1..=count.parse().unwrap() {
                self.outcomes.lock().push(push(&format!("/asset/{asset}")));
            }
        } else if path == "/wide" {
            for asset in 0..MAX_PUSHES {
                self.outcomes.lock().push(push(&format!("/asset/{asset}/{}", "x".repeat(3000))));
            }
            self.changed.notify_one();
        } else if path == "/hanging" {
            self.outcomes.lock().push(push("/never"));
        } else if path == "/never" {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            self.changed.notify_one();
            let _hanging = Hanging(self);
            return std::future::pending().await;
        } else {
            self.nested.lock().push(push("/asset/again"));
        }
        Response::new(ResponseBody::full(path.to_owned()))
    }
}

struct Server {
    handler: Arc<Pushing>,
    drain: Drain,
    conn: Arc<Conn>,
}

impl Server {
    fn new() -> (Self, DuplexStream) {
        Self::over(1 << 20)
    }

    /// Over a pipe that takes so many bytes.
    fn over(size: usize) -> (Self, DuplexStream) {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let states = Arc::new(ConnStates::default());
        let serving = Serving {
            handler: Arc::new(Pushing::default()),
            drain: Drain::new(),
            limits: Arc::new(Limits::default()),
            states: Arc::clone(&states),
            core: 0,
            alt_svc: None,
            http2: true,
        };
        let conn = Conn::new(0, nowhere, nowhere, Protocol::H2, None, states);
        let server = Self {
            handler: Arc::clone(&serving.handler),
            drain: serving.drain.clone(),
            conn: Arc::clone(&conn),
        };
        let (client, io) = tokio::io::duplex(size);
        serving.drain.clone().spawn(super::super::serve(io, conn, serving));
        (server, client)
    }

    async fn client(&self, io: DuplexStream, builder: &h2::client::Builder) -> SendRequest<Bytes> {
        let (client, connection) = builder.handshake(io).await.unwrap();
        self.drain.spawn(async move {
            let _ended = connection.await;
        });
        client.ready().await.unwrap()
    }

    async fn until(&self, fits: impl Fn(&Pushing) -> bool) {
        while !fits(&self.handler) {
            self.handler.changed.notified().await;
        }
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).header("accept-language", "de").body(()).unwrap()
}

/// The answers that were pushed, and what they answer.
async fn pushed(promises: &mut PushPromises) -> Vec<(Request<()>, StatusCode, Bytes)> {
    let mut seen = Vec::new();
    while let Some(promise) = promises.push_promise().await {
        let (request, response) = promise.unwrap().into_parts();
        let response = response.await.unwrap();
        let status = response.status();
        let mut body = response.into_body();
        let data = body.data().await.unwrap().unwrap();
        seen.push((request, status, data));
    }
    seen
}

#[tokio::test]
async fn promised_answers_arrive_on_streams_of_their_own() {
    let (server, io) = Server::new();
    let mut client = server.client(io, &h2::client::Builder::new()).await;

    let (mut response, _) = client.send_request(get("/page/3"), true).unwrap();
    let mut promises = response.push_promises();
    let status = response.await.unwrap().status();
    let seen = pushed(&mut promises).await;

    assert_eq!(status, StatusCode::OK);
    let paths: Vec<_> = seen.iter().map(|(request, ..)| request.uri().path()).collect();
    assert_eq!(paths, ["/asset/1", "/asset/2", "/asset/3"]);
    for (request, status, body) in &seen {
        assert_eq!(*status, StatusCode::OK);
        assert_eq!(body, request.uri().path());
        assert_eq!(request.headers()["accept-language"], "de");
    }
    assert_eq!(server.conn.requests(), 4);
}

#[tokio::test]
async fn a_pushed_request_cannot_push() {
    let (server, io) = Server::new();
    let mut client = server.client(io, &h2::client::Builder::new()).await;

    let (mut response, _) = client.send_request(get("/page/1"), true).unwrap();
    let mut promises = response.push_promises();
    response.await.unwrap();
    pushed(&mut promises).await;

    assert_eq!(*server.handler.nested.lock(), [Err(Unsent::Unsupported)]);
}

#[tokio::test]
async fn a_client_that_takes_no_pushes_gets_none_and_no_error() {
    let mut disabled = h2::client::Builder::new();
    disabled.enable_push(false);
    let mut none_at_once = h2::client::Builder::new();
    none_at_once.max_concurrent_streams(0);

    for builder in [disabled, none_at_once] {
        let (server, io) = Server::new();
        let mut client = server.client(io, &builder).await;

        let (response, _) = client.send_request(get("/page/2"), true).unwrap();
        let response = response.await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(*server.handler.outcomes.lock(), [Err(Unsent::Unsupported); 2]);
    }
}

#[tokio::test]
async fn pushes_of_one_response_are_bounded() {
    let (server, io) = Server::new();
    let mut client = server.client(io, &h2::client::Builder::new()).await;

    let (response, _) =
        client.send_request(get(&format!("/page/{}", MAX_PUSHES + 1)), true).unwrap();
    response.await.unwrap();

    let outcomes = server.handler.outcomes.lock();
    assert!(outcomes[..MAX_PUSHES].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(outcomes[MAX_PUSHES], Err(Unsent::TooMany));
}

#[tokio::test]
async fn a_client_that_resets_a_pushed_stream_cancels_it() {
    let (server, io) = Server::new();
    let mut client = server.client(io, &h2::client::Builder::new()).await;

    let (mut response, _) = client.send_request(get("/hanging"), true).unwrap();
    let mut promises = response.push_promises();
    response.await.unwrap();
    let promise = promises.push_promise().await.unwrap().unwrap();
    server.until(|pushing| pushing.hanging.load(Ordering::SeqCst) == 1).await;
    drop(promise);
    server.until(|pushing| pushing.hanging.load(Ordering::SeqCst) == 0).await;

    let (again, _) = client.send_request(get("/asset/x"), true).unwrap();
    assert_eq!(again.await.unwrap().status(), StatusCode::OK);
}

/// A frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS of a GET whose `:path` is spelled out.
fn headers(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x41, 6];
    block.extend(b"a.test");
    block.extend([0x44, u8::try_from(path.len()).unwrap()]);
    block.extend(path.as_bytes());
    frame(1, 0x5, stream, &block)
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;

/// The next frame: kind, stream, payload. `None` when the connection has ended.
async fn next(io: &mut DuplexStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    io.read_exact(&mut payload).await.ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_before_their_promise_went_out_do_no_harm() {
    let (server, mut io) = Server::over(512);
    let mut wire = crate::http::h2::PREFACE.to_vec();
    wire.extend(frame(4, 0, 0, &[]));
    for stream in [1, 3, 5, 7] {
        wire.extend(headers(stream, "/wide"));
    }
    io.write_all(&wire).await.unwrap();
    // Nothing is read, so most of the promises wait to be written.
    server.until(|pushing| pushing.outcomes.lock().len() == MAX_PUSHED_STREAMS).await;
    for promised in 1..=MAX_PUSHED_STREAMS {
        let promised = 2 * u32::try_from(promised).unwrap();
        io.write_all(&frame(RST_STREAM, 0, promised, &8_u32.to_be_bytes())).await.unwrap();
    }
    io.write_all(&frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes())).await.unwrap();
    io.write_all(&headers(9, "/wide")).await.unwrap();

    let mut promises = 0;
    while let Some((kind, stream, _)) = next(&mut io).await {
        promises += usize::from(kind == PUSH_PROMISE);
        if (kind, stream) == (HEADERS, 9) {
            break;
        }
    }

    // Those of the stream that was reset never went out, and keep their room.
    assert!((16..MAX_PUSHED_STREAMS + 16).contains(&promises), "{promises}");
    let outcomes = server.handler.outcomes.lock();
    assert_eq!(outcomes.len(), MAX_PUSHED_STREAMS + MAX_PUSHES);
    assert!(outcomes[..MAX_PUSHED_STREAMS].iter().all(Result::is_ok), "{outcomes:?}");
}
