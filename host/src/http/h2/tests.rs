//! HTTP/2 over real sockets: with the `h2` client where a well-behaved one is enough, and frame by
//! frame where it is not. What only the clock decides runs over an in-memory pipe in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::drain::Drain;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::conn::{ConnStates, Protocol};

type Answer = BoxFuture<'static, Response<ResponseBody>>;

/// Answers with a closure, and counts what was begun and what was dropped before its answer.
struct Tested {
    answer: Box<dyn Fn(Request<RequestBody>) -> Answer + Send + Sync>,
    begun: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

struct Cancelled(Option<(Arc<AtomicUsize>, Arc<Notify>)>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some((count, changed)) = self.0.take() {
            count.fetch_add(1, Ordering::SeqCst);
            changed.notify_one();
        }
    }
}

impl Handle for Tested {
    async fn handle(
        &self,
        _: &Arc<Conn>,
        request: Request<RequestBody>,
        _: Arc<crate::http::interim::Interim>,
    ) -> Response<ResponseBody> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        let counted = (Arc::clone(&self.cancelled), Arc::clone(&self.changed));
        let mut cancelled = Cancelled(Some(counted));
        let response = (self.answer)(request).await;
        cancelled.0 = None;
        response
    }
}

/// One server for one test.
struct Server {
    serving: Serving<Tested>,
}

impl Server {
    fn new<F>(answer: impl Fn(Request<RequestBody>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        Self::limited(Limits::default(), answer)
    }

    fn limited<F>(
        limits: Limits,
        answer: impl Fn(Request<RequestBody>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let handler = Tested {
            answer: Box::new(move |request| Box::pin(answer(request))),
            begun: AtomicUsize::new(0),
            cancelled: Arc::default(),
            changed: Arc::default(),
        };
        let serving = Serving {
            handler: Arc::new(handler),
            drain: Drain::new(),
            limits: Arc::new(limits),
            states: Arc::new(ConnStates::default()),
            core: 0,
            alt_svc: None,
            http2: true,
        };
        Self { serving }
    }

    fn serve(&self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let states = Arc::clone(&self.serving.states);
        let conn = Conn::new(0, nowhere, nowhere, Protocol::H2, None, states);
        self.serving.drain.spawn(serve(io, conn, self.serving.clone()));
    }

    /// A connection over a real socket.
    async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        self.serve(server.unwrap().0);
        client.unwrap()
    }

    /// A connection in memory, for paused time.
    fn pipe(&self, size: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(size);
        self.serve(server);
        client
    }

    async fn client(&self) -> SendRequest<Bytes> {
        self.client_with(h2::client::Builder::new()).await
    }

    async fn client_with(&self, builder: h2::client::Builder) -> SendRequest<Bytes> {
        let io = self.connect().await;
        let (client, connection) = builder.handshake(io).await.unwrap();
        self.serving.drain.spawn(async move {
            let _ended = connection.await;
        });
        client.ready().await.unwrap()
    }

    /// Waits until this many exchanges have been cancelled.
    async fn cancelled(&self, count: usize) {
        while self.serving.handler.cancelled.load(Ordering::SeqCst) < count {
            self.serving.handler.changed.notified().await;
        }
    }

    async fn begun(&self, count: usize) {
        while self.serving.handler.begun.load(Ordering::SeqCst) < count {
            self.serving.handler.changed.notified().await;
        }
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test.example{path}")).body(()).unwrap()
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test.example{path}")).body(()).unwrap()
}

async fn hello(_: Request<RequestBody>) -> Response<ResponseBody> {
    Response::new(ResponseBody::full("hello"))
}

async fn never(_: Request<RequestBody>) -> Response<ResponseBody> {
    std::future::pending().await
}

async fn echo(request: Request<RequestBody>) -> Response<ResponseBody> {
    Response::new(ResponseBody::stream(Box::pin(request.into_body())))
}

async fn text(mut body: h2::RecvStream) -> Result<String, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

/// A body that gives what it is told to, frame by frame.
struct Script<I>(I);

impl<I> http_body::Body for Script<I>
where
    I: Iterator<Item = Result<Frame<Bytes>, BodyError>> + Send + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.next())
    }
}

fn scripted<I>(frames: I) -> Response<ResponseBody>
where
    I: IntoIterator<Item = Result<Frame<Bytes>, BodyError>>,
    I::IntoIter: Send + Unpin + 'static,
{
    Response::new(ResponseBody::stream(Box::pin(Script(frames.into_iter()))))
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

/// One frame on the wire.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET / http test.example`, without Huffman coding or table entries.
fn head() -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x86, 0x41, 12];
    block.extend(b"test.example");
    block
}

fn hello_from_client() -> Vec<u8> {
    [PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()
}

#[derive(Debug)]
struct Seen {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl Seen {
    /// The error code of RST_STREAM or GOAWAY.
    fn code(&self) -> Option<u32> {
        let at = match self.kind {
            3 => 0,
            7 => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()))
    }
}

/// Reads frames until `last` says so, or the connection ends.
async fn frames_until(
    io: &mut (impl AsyncRead + Unpin),
    last: impl Fn(&Seen) -> bool,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut head = [0; 9];
    while io.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        io.read_exact(&mut payload).await.unwrap();
        seen.push(Seen { kind: head[3], flags: head[4], payload });
        if last(&seen[seen.len() - 1]) {
            break;
        }
    }
    seen
}

fn goaway_code(seen: &[Seen]) -> Option<u32> {
    seen.iter().rev().find(|frame| frame.kind == 7).and_then(Seen::code)
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// The frames of one round of a flood.
type Flood = Box<dyn Fn(u32) -> Vec<u8>>;

#[tokio::test]
async fn a_request_is_answered_with_length_and_date() {
    let server = Server::new(hello);
    let mut client = server.client().await;

    let response = client.send_request(get("/"), true).unwrap().0.await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-length"], "5");
    assert!(response.headers().contains_key("date"));
    assert_eq!(text(response.into_body()).await.unwrap(), "hello");
}

#[tokio::test]
async fn the_request_has_one_authority_and_the_scheme_of_its_connection() {
    let server = Server::new(async |request: Request<RequestBody>| {
        let seen = format!("{} {:?}", request.uri(), request.headers().get("host"));
        Response::new(ResponseBody::full(seen))
    });
    let mut client = server.client().await;
    let request = Request::get("https://Test.Example/a?b").body(()).unwrap();

    let response = client.send_request(request, true).unwrap().0.await.unwrap();

    let seen = text(response.into_body()).await.unwrap();
    assert_eq!(seen, "http://test.example/a?b Some(\"test.example\")");
}

#[tokio::test]
async fn body_and_trailers_come_back() {
    let server = Server::new(echo);
    let mut client = server.client().await;
    let (response, mut body) = client.send_request(post("/"), false).unwrap();

    body.send_data("some ".into(), false).unwrap();
    body.send_data("data".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    body.send_trailers(trailers).unwrap();
    let mut body = response.await.unwrap().into_body();

    let mut echoed = Vec::new();
    while let Some(data) = body.data().await {
        echoed.extend_from_slice(&data.unwrap());
    }
    assert_eq!(echoed, b"some data");
    assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "7");
}

#[tokio::test]
async fn head_204_and_304_have_no_body() {
    for (method, status, length) in [
        (Method::HEAD, StatusCode::OK, Some("5")),
        (Method::GET, StatusCode::NO_CONTENT, None),
        (Method::GET, StatusCode::NOT_MODIFIED, None),
    ] {
        let server = Server::new(move |_| async move {
            let mut response = Response::new(ResponseBody::full("hello"));
            *response.status_mut() = status;
            response
        });
        let mut client = server.client().await;
        let mut request = get("/");
        *request.method_mut() = method;

        let response = client.send_request(request, true).unwrap().0.await.unwrap();

        assert_eq!(response.headers().get("content-length").map(|l| l.to_str().unwrap()), length);
        assert!(response.body().is_end_stream(), "{status}");
    }
}

#[tokio::test]
async fn connection_fields_of_a_response_are_dropped() {
    let server = Server::new(async |_| {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert("connection", HeaderValue::from_static("close, x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.insert("x-end", HeaderValue::from_static("1"));
        response
    });
    let mut client = server.client().await;

    let response = client.send_request(get("/"), true).unwrap().0.await.unwrap();

    for name in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    assert!(response.headers().contains_key("x-end"));
}

#[tokio::test]
async fn what_the_validator_refuses_does_not_reach_the_handler() {
    let server = Server::new(never);
    let mut client = server.client().await;
    let mut request = get("/");
    request.headers_mut().insert("host", HeaderValue::from_static("other.example"));

    let response = client.send_request(request, true).unwrap().0.await.unwrap();

    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let reset = text(response.into_body()).await.unwrap_err();
    assert_eq!(reset.reason(), Some(Reason::PROTOCOL_ERROR));
    assert_eq!(server.serving.handler.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_sender() {
    let server = Server::new(async |request: Request<RequestBody>| {
        let mut body = request.into_body();
        let _first = body.frame().await;
        std::future::pending().await
    });
    let mut client = server.client().await;
    let (_response, mut body) = client.send_request(post("/"), false).unwrap();

    let mut sent = 0;
    let all_windows = (CONNECTION_WINDOW + STREAM_WINDOW) as usize;
    body.reserve_capacity(8 * 1024 * 1024);
    let held = async {
        loop {
            let capacity = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
            let piece = vec![0; capacity.unwrap().unwrap()];
            sent += piece.len();
            body.send_data(piece.into(), false).unwrap();
        }
    };
    let held = tokio::time::timeout(Duration::from_millis(300), held).await;

    assert!(held.is_err());
    assert!(sent >= STREAM_WINDOW as usize, "{sent}");
    assert!(sent < all_windows, "{sent}");
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_the_producer() {
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&produced);
    let server = Server::new(move |_| {
        let counter = Arc::clone(&counter);
        let chunks = std::iter::repeat_with(move || {
            counter.fetch_add(1000, Ordering::SeqCst);
            Ok(Frame::data(Bytes::from_static(&[b'x'; 1000])))
        });
        async move { scripted(chunks) }
    });
    let mut client = server.client().await;

    let mut body = client.send_request(get("/"), true).unwrap().0.await.unwrap().into_body();
    let mut arrived = 0;
    // The client's window is 65,535 and nothing is given back.
    while arrived < 65_535 {
        arrived += body.data().await.unwrap().unwrap().len();
    }

    assert!(produced.load(Ordering::SeqCst) <= 65_535 + 2 * 1000);
}

#[tokio::test]
async fn a_reset_stream_cancels_its_exchange() {
    let server = Server::new(never);
    let mut client = server.client().await;
    let (response, mut body) = client.send_request(post("/"), false).unwrap();
    server.begun(1).await;

    body.send_reset(Reason::CANCEL);
    server.cancelled(1).await;

    drop(response);
    assert_eq!(server.serving.states.open[Protocol::H2 as usize].load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_lost_connection_cancels_its_exchanges() {
    let server = Server::new(never);
    let mut io = server.connect().await;
    io.write_all(&hello_from_client()).await.unwrap();
    io.write_all(&frame(1, 5, 1, &head())).await.unwrap();
    io.write_all(&frame(1, 5, 3, &head())).await.unwrap();
    server.begun(2).await;

    drop(io);

    server.cancelled(2).await;
}

#[tokio::test]
async fn a_reset_while_the_body_is_sent_drops_the_body() {
    let server = Server::new(async |_| {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let body = ResponseBody::stream(Box::pin(Pending)).holding(sender);
        tokio::task::spawn_blocking(move || receiver.blocking_recv());
        Response::new(body)
    });
    let mut client = server.client().await;
    let response = client.send_request(get("/"), true).unwrap().0.await.unwrap();
    let conn_states = Arc::clone(&server.serving.states);
    assert_eq!(conn_states.active.load(Ordering::SeqCst), 1);

    drop(response);

    // The drain waits for nothing but the connection, once the exchange is gone.
    drop(client);
    assert!(server.serving.drain.finish(Duration::from_secs(5)).await);
}

struct Pending;

impl http_body::Body for Pending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_body_that_fails_ends_in_a_reset_after_what_was_sent() {
    let server = Server::new(async |_| scripted([data("part"), Err(BodyError::Gone)]));
    let mut client = server.client().await;

    let response = client.send_request(get("/"), true).unwrap().0.await.unwrap();
    let mut body = response.into_body();
    let first = body.data().await.unwrap().unwrap();
    let then = body.data().await.unwrap().unwrap_err();

    assert_eq!(first, "part");
    assert_eq!(then.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_body_of_another_length_than_declared_never_ends_cleanly() {
    for body in [vec![data("long"), data("er")], vec![data("sho")]] {
        let body = parking_lot::Mutex::new(Some(body));
        let server = Server::new(move |_| {
            let mut response = scripted(body.lock().take().unwrap());
            response.headers_mut().insert("content-length", HeaderValue::from_static("4"));
            async move { response }
        });
        let mut client = server.client().await;

        let response = client.send_request(get("/"), true).unwrap().0.await.unwrap();

        let error = text(response.into_body()).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    }
}

#[tokio::test]
async fn an_unread_request_body_is_refused_after_the_response() {
    let server = Server::new(hello);
    let mut io = server.connect().await;
    io.write_all(&hello_from_client()).await.unwrap();
    io.write_all(&frame(1, 4, 1, &head())).await.unwrap();

    let seen = frames_until(&mut io, |frame| frame.kind == 3).await;

    let ended = seen.iter().position(|frame| frame.kind == 0 && frame.flags & 1 == 1).unwrap();
    assert!(ended < seen.len() - 1);
    assert_eq!(seen.last().and_then(Seen::code), Some(0));
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_the_body_is_read() {
    let server = Server::new(async |request: Request<RequestBody>| {
        let body = request.into_body().collect().await.unwrap();
        Response::new(ResponseBody::full(body.to_bytes()))
    });
    let mut client = server.client().await;
    let mut request = post("/");
    request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    let (mut response, mut body) = client.send_request(request, false).unwrap();

    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    body.send_data("now".into(), true).unwrap();
    let response = response.await.unwrap();

    assert_eq!(interim.unwrap().unwrap().status(), StatusCode::CONTINUE);
    assert_eq!(text(response.into_body()).await.unwrap(), "now");
}

#[tokio::test]
async fn floods_of_control_frames_close_the_connection() {
    let reset_streams = |n: u32| {
        let stream = n * 2 + 1;
        [frame(1, 5, stream, &head()), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let floods: [(&str, Flood); 5] = [
        ("PING", Box::new(|_| frame(6, 0, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(4, 0, 0, &[]))),
        ("PRIORITY", Box::new(|_| frame(2, 0, 1, &[0, 0, 0, 0, 9]))),
        ("WINDOW_UPDATE", Box::new(|_| frame(8, 0, 0, &[0, 0, 0, 1]))),
        ("RST_STREAM", Box::new(reset_streams)),
    ];
    for (name, flood) in floods {
        let server = Server::new(never);
        let mut io = server.connect().await;
        let wire: Vec<u8> = (0..20_000).flat_map(&flood).collect();

        io.write_all(&hello_from_client()).await.unwrap();
        // What the server no longer reads may not be accepted either.
        let (mut reader, mut writer) = io.split();
        let (_written, seen) =
            tokio::join!(writer.write_all(&wire), frames_until(&mut reader, |_| false));

        assert_eq!(goaway_code(&seen), Some(ENHANCE_YOUR_CALM), "{name}");
    }
}

#[tokio::test]
async fn a_frame_of_a_wrong_size_is_called_that() {
    for wrong in [frame(6, 0, 0, &[0; 7]), frame(8, 0, 0, &[0; 3]), frame(0, 0, 1, &[0; 16_385])] {
        let server = Server::new(never);
        let mut io = server.connect().await;

        io.write_all(&hello_from_client()).await.unwrap();
        io.write_all(&frame(1, 4, 1, &head())).await.unwrap();
        io.write_all(&wrong).await.unwrap();
        let seen = frames_until(&mut io, |_| false).await;

        assert_eq!(goaway_code(&seen), Some(6));
    }
}

#[tokio::test]
async fn the_first_frame_must_be_settings() {
    let server = Server::new(hello);
    let mut io = server.connect().await;

    io.write_all(PREFACE).await.unwrap();
    io.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
    let seen = frames_until(&mut io, |_| false).await;

    assert_eq!(goaway_code(&seen), Some(1));
}

#[tokio::test]
async fn frames_that_arrive_byte_by_byte_are_frames_all_the_same() {
    let server = Server::new(hello);
    let mut io = server.connect().await;
    io.set_nodelay(true).unwrap();

    for byte in [hello_from_client(), frame(1, 5, 1, &head())].concat() {
        io.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let seen = frames_until(&mut io, |frame| frame.kind == 0).await;

    assert_eq!(seen.last().unwrap().payload, b"hello");
}

#[tokio::test]
async fn the_drain_lets_open_streams_finish() {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let server = Server::new(move |request| {
        let released = Arc::clone(&released);
        async move {
            released.notified().await;
            hello(request).await
        }
    });
    let mut client = server.client().await;
    let (response, _) = client.send_request(get("/"), true).unwrap();
    server.begun(1).await;

    server.serving.drain.begin();
    // The GOAWAY arrives, and with it the end of new requests.
    let refused = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let Err(error) = std::future::poll_fn(|cx| client.poll_ready(cx)).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    let refused = refused.await.unwrap();
    release.notify_one();
    let answered = response.await.unwrap();

    assert!(refused.is_go_away());
    assert_eq!(text(answered.into_body()).await.unwrap(), "hello");
    assert!(server.serving.drain.finish(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_preface_is_closed_in_time() {
    let server = Server::new(hello);
    let mut io = server.pipe(4096);
    let began = Instant::now();

    io.write_all(&PREFACE[..10]).await.unwrap();
    frames_until(&mut io, |_| false).await;

    assert_eq!(began.elapsed().as_secs(), server.serving.limits.header_timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_closed_in_time() {
    for unfinished in [
        frame(1, 5, 1, &head())[..15].to_vec(),
        frame(1, 1, 1, &head()[..3]),
        [frame(1, 1, 1, &head()[..3]), frame(9, 0, 1, &head()[3..4])].concat(),
    ] {
        let server = Server::new(hello);
        let mut io = server.pipe(4096);
        let began = Instant::now();

        io.write_all(&hello_from_client()).await.unwrap();
        io.write_all(&unfinished).await.unwrap();
        let seen = frames_until(&mut io, |_| false).await;

        let header_timeout = server.serving.limits.header_timeout;
        assert_eq!(goaway_code(&seen), Some(ENHANCE_YOUR_CALM));
        assert!(began.elapsed() >= header_timeout);
        assert!(began.elapsed() < header_timeout + GOAWAY_GRACE + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_streams_is_closed_in_time() {
    let server = Server::new(hello);
    let mut io = server.pipe(4096);
    let began = Instant::now();

    io.write_all(&hello_from_client()).await.unwrap();
    let seen = frames_until(&mut io, |_| false).await;

    assert_eq!(goaway_code(&seen), Some(0));
    let idle_timeout = server.serving.limits.idle_timeout;
    assert!(began.elapsed() >= idle_timeout);
    assert!(began.elapsed() < idle_timeout + GOAWAY_GRACE * 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_window_is_reset_in_time() {
    let server = Server::new(hello);
    let mut io = server.pipe(4096);

    io.write_all(PREFACE).await.unwrap();
    // INITIAL_WINDOW_SIZE 0.
    io.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
    io.write_all(&frame(1, 5, 1, &head())).await.unwrap();
    let began = Instant::now();
    let seen = frames_until(&mut io, |frame| frame.kind == 3).await;

    assert_eq!(seen.last().and_then(Seen::code), Some(u32::from(Reason::CANCEL)));
    assert_eq!(began.elapsed().as_secs(), server.serving.limits.write_idle_timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_is_closed_in_time() {
    let server = Server::new(async |_| {
        let chunk = || Ok(Frame::data(Bytes::from_static(&[b'x'; 16_384])));
        scripted(std::iter::repeat_with(chunk))
    });
    let mut io = server.pipe(4096);
    let began = Instant::now();

    io.write_all(&hello_from_client()).await.unwrap();
    io.write_all(&frame(1, 5, 1, &head())).await.unwrap();
    assert!(server.serving.drain.running() > 0);
    while server.serving.states.closed.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let write_idle_timeout = server.serving.limits.write_idle_timeout;
    assert!(began.elapsed() >= write_idle_timeout, "{:?}", began.elapsed());
    assert!(began.elapsed() < write_idle_timeout + Duration::from_secs(2));
}

#[tokio::test]
async fn a_panic_in_one_exchange_leaves_the_others_alone() {
    let server = Server::new(async |request: Request<RequestBody>| {
        assert_ne!(request.uri().path(), "/panic", "as asked");
        hello(request).await
    });
    let mut client = server.client().await;

    let panicked = client.send_request(get("/panic"), true).unwrap().0.await;
    let answered = client.send_request(get("/"), true).unwrap().0.await;

    assert!(panicked.unwrap_err().is_reset());
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn active_exchanges_are_counted_until_their_bodies_end() {
    let server = Server::new(async |_| Response::new(ResponseBody::stream(Box::pin(Pending))));
    let states = Arc::clone(&server.serving.states);
    let mut client = server.client().await;

    let response = client.send_request(get("/"), true).unwrap().0.await.unwrap();
    let during = states.active.load(Ordering::SeqCst);
    drop(response);
    while states.active.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }

    assert_eq!(during, 1);
    assert_eq!(states.idle.load(Ordering::SeqCst), 1);
}

#[test]
fn deadlines_follow_from_the_facts() {
    let limits = Limits::default();
    let (_, watch) = Watched::new(tokio::io::empty(), 1);
    let start = Instant::now();
    let open = Phase::Open;
    let leaving = Phase::Leaving { since: start };

    for (at, phase, idle_since, expected) in [
        (limits.header_timeout * 2, open, None, Due::End(Reason::ENHANCE_YOUR_CALM)),
        (GOAWAY_GRACE, leaving, Some(start), Due::End(Reason::NO_ERROR)),
        (GOAWAY_GRACE, Phase::Ending { since: start }, None, Due::Drop),
    ] {
        assert_eq!(due(start + at, phase, idle_since, &watch, &limits), expected);
    }
}
