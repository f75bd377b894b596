//! The server over real sockets: a client that others wrote (the crate `h3`) for what is right, raw
//! frames over quinn for what is wrong.
//!
//! Long, because one raw client, and what it tells of an outcome, serves every malformed shape.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{put_frame_head, put_varint, take_varint};
use super::qpack::{Decoder, SectionLimits};
use crate::http::Handle;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::conn::Conn;
use crate::http::limits::Limits;
use crate::listener::quic::testing::{PATIENCE, TestServer};

/// Answers by path; tells when an exchange is given up.
struct Paths {
    dropped: mpsc::UnboundedSender<&'static str>,
}

impl Paths {
    fn server() -> (TestServer, mpsc::UnboundedReceiver<&'static str>) {
        Self::server_with(Limits::default())
    }

    fn server_with(limits: Limits) -> (TestServer, mpsc::UnboundedReceiver<&'static str>) {
        let (dropped, receiver) = mpsc::unbounded_channel();
        let admit = Arc::new(|_| -> Result<Box<dyn std::any::Any + Send>, _> { Ok(Box::new(())) });
        (TestServer::with(Self { dropped }, 1, limits, admit), receiver)
    }
}

struct Tell(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        let _closed = self.0.send(self.1);
    }
}

impl Handle for Paths {
    async fn handle(
        &self,
        conn: &Arc<Conn>,
        request: Request<RequestBody>,
        _: Arc<crate::http::interim::Interim>,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let mut response = Response::new(ResponseBody::full("hello"));
        match parts.uri.path() {
            "/echo" => {
                *response.body_mut() = ResponseBody::stream(Box::pin(body));
                for (name, value) in &parts.headers {
                    if name.as_str().starts_with("x-") {
                        response.headers_mut().append(name, value.clone());
                    }
                }
            }
            "/read" => match body.collect().await {
                Ok(all) => {
                    let text = format!("{} {}", all.to_bytes().len(), parts.uri);
                    *response.body_mut() = ResponseBody::full(text);
                }
                Err(error) => {
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    *response.body_mut() = ResponseBody::full(error.to_string());
                }
            },
            "/wait" => {
                let _tell = Tell(self.dropped.clone(), "handler");
                std::future::pending().await
            }
            "/endless" => {
                let tell = Tell(self.dropped.clone(), "body");
                *response.body_mut() = ResponseBody::stream(Box::pin(Chunks::endless(tell)));
            }
            "/silent" => {
                let tell = Tell(self.dropped.clone(), "body");
                *response.body_mut() = ResponseBody::stream(Box::pin(Chunks::silent(tell)));
            }
            "/breaks" => {
                *response.body_mut() = ResponseBody::stream(Box::pin(Chunks::breaks()));
            }
            "/short" => {
                response.headers_mut().insert("content-length", 9.into());
            }
            "/empty" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/fields" => {
                let fields = response.headers_mut();
                fields.insert("connection", "keep-alive".parse().unwrap());
                fields.insert("transfer-encoding", "chunked".parse().unwrap());
                fields.insert("x-requests", conn.requests().into());
            }
            _ => {}
        }
        response
    }
}

/// A body made of one repeated chunk, which ends in some way or never.
struct Chunks {
    left: usize,
    end: End,
    _tell: Option<Tell>,
}

enum End {
    Error,
    Silence,
}

impl Chunks {
    fn endless(tell: Tell) -> Self {
        Self { left: usize::MAX, end: End::Silence, _tell: Some(tell) }
    }

    fn silent(tell: Tell) -> Self {
        Self { left: 1, end: End::Silence, _tell: Some(tell) }
    }

    fn breaks() -> Self {
        Self { left: 1, end: End::Error, _tell: None }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16_384])))));
        }
        match self.end {
            End::Error => Poll::Ready(Some(Err(BodyError::Gone))),
            End::Silence => Poll::Pending,
        }
    }
}

/// The crate `h3`'s client.
pub(crate) struct Client {
    send: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    connection: Connection,
}

type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

impl Client {
    pub(crate) async fn new(connection: Connection) -> Self {
        let quinn = h3_quinn::Connection::new(connection.clone());
        let (mut driver, send) = h3::client::new(quinn).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test ends with its runtime")]
        tokio::spawn(async move { driver.wait_idle().await });
        Self { send, connection }
    }

    async fn begin(&mut self, method: Method, path: &str) -> Stream {
        let uri = format!("https://localhost{path}");
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        self.send.send_request(request).await.unwrap()
    }

    pub(crate) async fn get(
        &mut self,
        path: &str,
    ) -> Result<Response<String>, h3::error::StreamError> {
        let mut stream = self.begin(Method::GET, path).await;
        stream.finish().await?;
        finish(&mut stream).await
    }

    /// Waits until the server closes the connection; the application's code.
    pub(crate) async fn closed(&self) -> Option<u64> {
        match timeout(PATIENCE, self.connection.closed()).await.unwrap() {
            quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }
}

async fn finish(stream: &mut Stream) -> Result<Response<String>, h3::error::StreamError> {
    let head = stream.recv_response().await?;
    let mut text = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        text.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(head.map(|()| String::from_utf8(text).unwrap()))
}

#[tokio::test]
async fn a_get_is_answered() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;

    let response = client.get("/read?a=b").await.unwrap();

    assert_eq!(response.status(), 200);
    assert_eq!(response.body(), "0 https://localhost/read?a=b");
    assert_eq!(response.headers()["content-length"], "28");
    assert!(response.headers().contains_key("date"));
}

#[tokio::test]
async fn a_body_and_its_trailers_come_back_while_they_are_sent() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;
    let mut stream = client.begin(Method::POST, "/echo").await;

    let head = stream.recv_response().await.unwrap();
    assert_eq!(head.status(), 200);
    for part in ["one", "two", "three"] {
        stream.send_data(Bytes::from_static(part.as_bytes())).await.unwrap();
        let mut data = stream.recv_data().await.unwrap().unwrap();
        assert_eq!(data.copy_to_bytes(data.remaining()), part);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().unwrap());
    stream.send_trailers(trailers.clone()).await.unwrap();

    assert!(stream.recv_data().await.unwrap().is_none());
    assert_eq!(stream.recv_trailers().await.unwrap(), Some(trailers));
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;
    let mut stream = client.begin(Method::POST, "/read").await;

    for _ in 0..200 {
        stream.send_data(Bytes::from(vec![7; 50_000])).await.unwrap();
    }
    stream.finish().await.unwrap();
    let response = finish(&mut stream).await.unwrap();

    assert_eq!(response.body(), "10000000 https://localhost/read");
}

#[tokio::test]
async fn many_requests_run_at_once_on_one_connection() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = client.begin(Method::GET, "/hello").await;
        stream.finish().await.unwrap();
        streams.push(stream);
    }

    for stream in &mut streams {
        assert_eq!(finish(stream).await.unwrap().body(), "hello");
    }
}

#[tokio::test]
async fn responses_without_content_have_none() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;

    let empty = client.get("/empty").await.unwrap();
    let mut head = client.begin(Method::HEAD, "/endless").await;
    head.finish().await.unwrap();
    let head = finish(&mut head).await.unwrap();

    assert_eq!((empty.status().as_u16(), empty.body().as_str()), (204, ""));
    assert!(!empty.headers().contains_key("content-length"));
    assert_eq!((head.status().as_u16(), head.body().as_str()), (200, ""));
}

#[tokio::test]
async fn connection_fields_of_a_response_are_not_sent() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;

    let response = client.get("/fields").await.unwrap();

    assert!(!response.headers().contains_key("connection"));
    assert!(!response.headers().contains_key("transfer-encoding"));
    assert_eq!(response.headers()["x-requests"], "1");
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset() {
    let (server, _) = Paths::server();
    for path in ["/breaks", "/short"] {
        let mut raw = Raw::open(&server).await;

        let outcome = raw.request(&[headers(&get(path))], true).await;

        assert_eq!(outcome, Outcome::Stream(0x102), "{path}");
    }
}

#[tokio::test]
async fn an_early_answer_stops_the_upload_without_an_error() {
    let (server, _) = Paths::server();
    let raw = Raw::open(&server).await;
    let (mut send, mut recv) = raw.connection.open_bi().await.unwrap();
    send.write_all(&headers(&post("/hello"))).await.unwrap();

    let response = recv.read_to_end(1 << 20).await.unwrap();
    let stopped = timeout(PATIENCE, send.stopped()).await.unwrap().unwrap();

    assert_eq!(status(&response), 200);
    assert_eq!(stopped, Some(VarInt::from_u32(0x100)));
}

#[tokio::test]
async fn a_client_that_leaves_ends_handler_and_body() {
    let (server, mut dropped) = Paths::server();
    type Leave = fn(&Connection, SendStream, RecvStream);
    let stops: Leave = |_, send, mut recv| {
        recv.stop(VarInt::from_u32(0x10c)).unwrap();
        // Kept from being reset by its drop: only the reading side is given up.
        std::mem::forget(send);
    };
    let resets: Leave = |_, mut send, recv| {
        send.reset(VarInt::from_u32(0x10c)).unwrap();
        std::mem::forget(recv);
    };
    let closes: Leave = |connection, send, recv| {
        connection.close(VarInt::from_u32(0x100), b"");
        drop((send, recv));
    };
    for (path, expected) in [("/wait", "handler"), ("/endless", "body"), ("/silent", "body")] {
        for (leave, how) in [(stops, "stops"), (resets, "resets"), (closes, "closes")] {
            if (path, how) == ("/endless", "resets") {
                // It is noticed when the next chunk cannot be written; the deadline is another test.
                continue;
            }
            let raw = Raw::open(&server).await;
            let (mut send, recv) = raw.connection.open_bi().await.unwrap();
            // The request is not over: only then does a reset of it mean anything.
            send.write_all(&headers(&post(path))).await.unwrap();
            let requests = &server.states.active;
            while requests.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }

            leave(&raw.connection, send, recv);

            let what = timeout(PATIENCE, dropped.recv()).await;
            assert_eq!(what, Ok(Some(expected)), "{path} {how}");
            while requests.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_reset() {
    let limits = Limits { write_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let (server, mut dropped) = Paths::server_with(limits);
    let mut raw = Raw::open(&server).await;
    let (mut send, recv) = raw.connection.open_bi().await.unwrap();
    send.write_all(&headers(&get("/endless"))).await.unwrap();
    send.finish().unwrap();

    let what = timeout(PATIENCE, dropped.recv()).await.unwrap();

    assert_eq!(what, Some("body"));
    assert_eq!(raw.outcome(recv).await, Outcome::Stream(0x10c));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_answered_with_408() {
    let limits = Limits { header_timeout: Duration::from_millis(100), ..Limits::default() };
    let (server, _) = Paths::server_with(limits);
    let mut raw = Raw::open(&server).await;

    let outcome = raw.request(&[vec![0x01, 0x20, 0x00]], false).await;

    assert_eq!(outcome, Outcome::Status(408));
}

#[tokio::test]
async fn an_idle_connection_is_closed_even_if_it_pings() {
    let limits = Limits { idle_timeout: Duration::from_millis(300), ..Limits::default() };
    let (server, _) = Paths::server_with(limits);
    let raw = Raw::open(&server).await;

    assert_eq!(raw.closed().await, Outcome::Connection(0x100));
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted() {
    let (server, _) = Paths::server();
    let raw = Raw::open(&server).await;
    let (mut send, mut recv) = raw.connection.open_bi().await.unwrap();
    let mut lines = post("/read");
    lines.push(("expect", "100-continue"));
    send.write_all(&headers(&lines)).await.unwrap();
    let mut interim = [0; 6];
    timeout(PATIENCE, recv.read_exact(&mut interim)).await.unwrap().unwrap();

    send.write_all(&data(b"body")).await.unwrap();
    send.finish().unwrap();
    let response = recv.read_to_end(1 << 20).await.unwrap();

    assert_eq!(status(&interim), 100);
    assert_eq!(status(&response), 200);
}

#[tokio::test]
async fn draining_lets_running_requests_finish() {
    let (server, _) = Paths::server();
    let mut client = Client::new(server.connect().await).await;
    let mut stream = client.begin(Method::POST, "/read").await;
    while server.states.active.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }

    server.drain.begin();
    let goaway = async {
        // Requests are taken until the second GOAWAY, then none.
        loop {
            let request = Request::get("https://localhost/hello").body(()).unwrap();
            let Ok(mut stream) = client.send.send_request(request).await else {
                break;
            };
            let _refused = stream.finish().await;
            if finish(&mut stream).await.is_err() {
                break;
            }
        }
        stream.send_data(Bytes::from_static(b"late")).await.unwrap();
        stream.finish().await.unwrap();
        finish(&mut stream).await.unwrap()
    };
    let response = timeout(PATIENCE, goaway).await.unwrap();

    assert_eq!(response.body(), "4 https://localhost/read");
    assert_eq!(client.closed().await, Some(0x100));
    assert!(server.drain.finish(PATIENCE).await);
}

/// How a raw exchange ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Stream(u64),
    Connection(u64),
}

/// A connection that says whatever it likes.
struct Raw {
    connection: Connection,
    control: SendStream,
}

impl Raw {
    async fn open(server: &TestServer) -> Self {
        Self::open_with(server, &[0x00, 0x04, 0x00]).await
    }

    async fn open_with(server: &TestServer, control: &[u8]) -> Self {
        let connection = server.connect().await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(control).await.unwrap();
        Self { connection, control: stream }
    }

    async fn request(&mut self, frames: &[Vec<u8>], ends: bool) -> Outcome {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        // One write is one packet here; the server may well refuse the rest.
        let _refused = send.write_all(&frames.concat()).await;
        if ends {
            let _refused = send.finish();
        }
        let outcome = self.outcome(recv).await;
        drop(send);
        outcome
    }

    async fn outcome(&mut self, mut recv: RecvStream) -> Outcome {
        let read = timeout(PATIENCE, recv.read_to_end(64 << 20)).await.unwrap();
        match read {
            Ok(response) => Outcome::Status(status(&response)),
            Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => {
                Outcome::Stream(code.into_inner())
            }
            Err(_) => self.closed().await,
        }
    }

    async fn closed(&self) -> Outcome {
        match timeout(PATIENCE, self.connection.closed()).await.unwrap() {
            quinn::ConnectionError::ApplicationClosed(close) => {
                Outcome::Connection(close.error_code.into_inner())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The status of the first HEADERS frame.
fn status(response: &[u8]) -> u16 {
    let mut rest = response;
    assert_eq!(take_varint(&mut rest), Some(1), "{response:x?}");
    let len = take_varint(&mut rest).unwrap() as usize;
    let limits = SectionLimits { bytes: 1 << 16, fields: 100 };
    let mut decoder = Decoder::new(Bytes::copy_from_slice(&rest[..len]), limits).unwrap();
    let (name, value) = decoder.next().unwrap().unwrap();
    assert_eq!(name.as_bytes(), b":status");
    std::str::from_utf8(value.as_bytes()).unwrap().parse().unwrap()
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_frame_head(&mut out, kind, payload.len());
    out.extend_from_slice(payload);
    out.to_vec()
}

fn data(payload: &[u8]) -> Vec<u8> {
    frame(0, payload)
}

/// A HEADERS frame of literal lines, whatever they say (RFC 9204 §4.5.6).
fn headers(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    let mut string = |flags: u8, bits: u32, text: &str| {
        let mask = (1usize << bits) - 1;
        section.push(flags | text.len().min(mask) as u8);
        if text.len() >= mask {
            let mut rest = text.len() - mask;
            while rest >= 0x80 {
                section.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            section.push(rest as u8);
        }
        section.extend(text.bytes());
    };
    for (name, value) in lines {
        string(0x20, 3, name);
        string(0x00, 7, value);
    }
    frame(1, &section)
}

type Line = (&'static str, &'static str);

fn get(path: &'static str) -> Vec<Line> {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
}

fn post(path: &'static str) -> Vec<Line> {
    [&[(":method", "POST")], &get(path)[1..]].concat()
}

fn with(more: &[Line]) -> Vec<u8> {
    headers(&[&post("/read")[..], more].concat())
}

#[tokio::test]
async fn malformed_requests_end_as_rfc_9114_says() {
    let (server, _) = Paths::server();
    let frames_of = |lines: &[Line]| vec![headers(lines)];
    let message = Outcome::Stream(0x10e);
    let unexpected = Outcome::Connection(0x105);
    let without = |name| {
        let lines: Vec<Line> = get("/").into_iter().filter(|line| line.0 != name).collect();
        vec![headers(&lines)]
    };
    let instead = |name, value| {
        let lines: Vec<Line> = get("/")
            .iter()
            .map(|line| if line.0 == name { (name, value) } else { *line })
            .collect();
        vec![headers(&lines)]
    };
    let ok = || headers(&post("/read"));
    let large: &'static str = "x".repeat(70_000).leak();
    let long: &'static str = format!("/{}", "x".repeat(20_000)).leak();
    let cases: Vec<(&str, Vec<Vec<u8>>, &Outcome)> = vec![
        // RFC 9114 §4.3, §4.3.1
        (":method twice", vec![with(&[(":method", "GET")])], &message),
        (":path twice", vec![with(&[(":path", "/")])], &message),
        (":status in a request", vec![with(&[(":status", "200")])], &message),
        ("an unknown pseudo-header field", vec![with(&[(":x", "1")])], &message),
        (":protocol without the setting", vec![with(&[(":protocol", "websocket")])], &message),
        ("a pseudo-header field after fields", vec![with(&[("a", "b"), (":x", "1")])], &message),
        ("no :method", without(":method"), &message),
        ("no :scheme", without(":scheme"), &message),
        ("no :path", without(":path"), &message),
        ("no :authority and no host", without(":authority"), &message),
        ("an empty :path", instead(":path", ""), &message),
        ("a :path without /", instead(":path", "x"), &message),
        ("white space in :path", instead(":path", "/a b"), &message),
        ("an empty :authority", instead(":authority", ""), &message),
        ("userinfo in :authority", instead(":authority", "me@localhost"), &message),
        ("host and :authority differ", vec![with(&[("host", "other")])], &message),
        // §4.2, §10.3
        ("an upper-case name", vec![with(&[("Upper", "1")])], &message),
        ("an empty name", vec![with(&[("", "1")])], &message),
        ("connection", vec![with(&[("connection", "close")])], &message),
        ("keep-alive", vec![with(&[("keep-alive", "5")])], &message),
        ("proxy-connection", vec![with(&[("proxy-connection", "close")])], &message),
        ("transfer-encoding", vec![with(&[("transfer-encoding", "chunked")])], &message),
        ("upgrade", vec![with(&[("upgrade", "h2c")])], &message),
        ("te other than trailers", vec![with(&[("te", "gzip")])], &message),
        ("a line feed in a value", vec![with(&[("a", "b\nc: d")])], &message),
        ("a carriage return in a value", vec![with(&[("a", "b\rc")])], &message),
        ("a NUL in a value", vec![with(&[("a", "b\0c")])], &message),
        ("white space around a value", vec![with(&[("a", " b")])], &message),
        // §4.1.2
        ("content-length above", vec![with(&[("content-length", "5")]), data(b"abc")], &message),
        ("content-length below", vec![with(&[("content-length", "2")]), data(b"abc")], &message),
        ("content-length and no body", vec![with(&[("content-length", "5")])], &message),
        (
            "content-length above, with trailers",
            vec![with(&[("content-length", "5")]), data(b"abc"), headers(&[("x", "1")])],
            &message,
        ),
        (
            "content-length twice",
            vec![with(&[("content-length", "3"), ("content-length", "4")]), data(b"abc")],
            &message,
        ),
        (
            "content-length with a sign",
            vec![with(&[("content-length", "+3")]), data(b"abc")],
            &message,
        ),
        (
            "a pseudo-header field in trailers",
            vec![ok(), data(b"a"), headers(&[(":path", "/")])],
            &message,
        ),
        ("an upper-case name in trailers", vec![ok(), headers(&[("A", "1")])], &message),
        // §4.1, §7
        ("DATA first", vec![data(b"abc")], &unexpected),
        (
            "DATA after trailers",
            vec![ok(), data(b"a"), headers(&[("x", "1")]), data(b"b")],
            &unexpected,
        ),
        (
            "HEADERS after trailers",
            vec![ok(), headers(&[("x", "1")]), headers(&[("x", "1")])],
            &unexpected,
        ),
        ("SETTINGS on a request stream", vec![frame(0x4, b"")], &unexpected),
        ("GOAWAY on a request stream", vec![ok(), frame(0x7, b"\0")], &unexpected),
        ("CANCEL_PUSH on a request stream", vec![ok(), frame(0x3, b"\0")], &unexpected),
        ("MAX_PUSH_ID on a request stream", vec![ok(), frame(0xd, b"\0")], &unexpected),
        ("PUSH_PROMISE from a client", vec![ok(), frame(0x5, b"\0")], &unexpected),
        ("PRIORITY of HTTP/2", vec![frame(0x2, b"")], &unexpected),
        ("PING of HTTP/2", vec![ok(), frame(0x6, b"")], &unexpected),
        ("WINDOW_UPDATE of HTTP/2", vec![ok(), frame(0x8, b"")], &unexpected),
        ("CONTINUATION of HTTP/2", vec![ok(), frame(0x9, b"")], &unexpected),
        ("an empty stream", vec![], &Outcome::Stream(0x10d)),
        ("an unknown frame and no request", vec![frame(0x21, b"abc")], &Outcome::Stream(0x10d)),
        ("HEADERS cut off", vec![ok()[..20].to_vec()], &Outcome::Connection(0x106)),
        ("DATA cut off", vec![ok(), data(b"abcdef")[..4].to_vec()], &Outcome::Connection(0x106)),
        ("a frame head cut off", vec![ok(), vec![0x40]], &Outcome::Connection(0x106)),
        (
            "too much in unknown frames",
            vec![ok(), frame(0x21, &[0; 70_000])],
            &Outcome::Connection(0x107),
        ),
        // RFC 9204 §2.2, §4.5
        ("the dynamic table", vec![frame(1, &[0x02, 0x00, 0x80])], &Outcome::Connection(0x200)),
        ("a dynamic entry", vec![frame(1, &[0x00, 0x00, 0x80])], &Outcome::Connection(0x200)),
        (
            "no such static entry",
            vec![frame(1, &[0x00, 0x00, 0xff, 0x30])],
            &Outcome::Connection(0x200),
        ),
        ("an empty section", vec![frame(1, &[])], &Outcome::Connection(0x200)),
        ("a bad Huffman code", vec![frame(1, &[0, 0, 0x51, 0x81, 0])], &Outcome::Connection(0x200)),
        // What is refused, but no protocol error
        ("fields too large", vec![with(&[("a", large)])], &Outcome::Status(431)),
        ("too many fields", vec![with(&[("a", "b"); 101])], &Outcome::Status(431)),
        ("a URL too long", frames_of(&get(long)), &Outcome::Status(414)),
        (
            "CONNECT",
            vec![headers(&[(":method", "CONNECT"), (":authority", "a:1")])],
            &Outcome::Status(501),
        ),
        // What is fine
        ("a plain request", vec![ok(), data(b"abc")], &Outcome::Status(200)),
        (
            "host alone",
            vec![headers(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/read"),
                ("host", "localhost"),
            ])],
            &Outcome::Status(200),
        ),
        ("trailers", vec![ok(), data(b"a"), headers(&[("x", "1")])], &Outcome::Status(200)),
        ("trailers and no data", vec![ok(), headers(&[("x", "1")])], &Outcome::Status(200)),
        ("te: trailers", vec![with(&[("te", "trailers")])], &Outcome::Status(200)),
        ("empty DATA", vec![ok(), data(b""), data(b"a"), data(b"")], &Outcome::Status(200)),
        (
            "unknown frames",
            vec![frame(0x21, b"x"), ok(), frame(0x40, b""), data(b"a"), frame(0x5f, b"zzz")],
            &Outcome::Status(200),
        ),
        (
            "content-length that holds",
            vec![with(&[("content-length", "3")]), data(b"a"), data(b"bc")],
            &Outcome::Status(200),
        ),
    ];
    for (name, frames, expected) in &cases {
        // Whole, and in pieces: everything must be found either way.
        let mut raw = Raw::open(&server).await;
        assert_eq!(&raw.request(frames, true).await, *expected, "{name}");

        let mut raw = Raw::open(&server).await;
        let (mut send, recv) = raw.connection.open_bi().await.unwrap();
        let bytes = frames.concat();
        let (start, rest) = bytes.split_at(bytes.len().min(300));
        for byte in start.chunks(3) {
            if send.write_all(byte).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _refused = send.write_all(rest).await;
        let _refused = send.finish();
        assert_eq!(&raw.outcome(recv).await, *expected, "{name}, in pieces");
    }
}

#[tokio::test]
async fn malformed_unidirectional_streams_end_the_connection() {
    let (server, _) = Paths::server();
    let setting = |id: u64, value: u64| {
        let mut out = BytesMut::new();
        put_varint(&mut out, id);
        put_varint(&mut out, value);
        out.to_vec()
    };
    let settings = frame(0x4, &[]);
    let control = |frames: &[Vec<u8>]| [&[0x00][..], &frames.concat()].concat();
    let after = |more: Vec<u8>| control(&[settings.clone(), more]);
    let cases = [
        ("no SETTINGS first", control(&[frame(0x7, b"\0")]), 0x10a),
        ("grease before SETTINGS", control(&[frame(0x21, b"")]), 0x10a),
        ("SETTINGS twice", after(settings.clone()), 0x105),
        ("DATA", after(data(b"a")), 0x105),
        ("HEADERS", after(frame(1, b"")), 0x105),
        ("PUSH_PROMISE", after(frame(5, b"")), 0x105),
        ("PRIORITY of HTTP/2", after(frame(2, b"")), 0x105),
        ("PING of HTTP/2", after(frame(6, b"")), 0x105),
        ("a setting twice", control(&[frame(4, &[setting(6, 1), setting(6, 1)].concat())]), 0x109),
        ("ENABLE_PUSH of HTTP/2", control(&[frame(4, &setting(2, 0))]), 0x109),
        ("MAX_CONCURRENT_STREAMS", control(&[frame(4, &setting(3, 1))]), 0x109),
        ("INITIAL_WINDOW_SIZE", control(&[frame(4, &setting(4, 1))]), 0x109),
        ("MAX_FRAME_SIZE", control(&[frame(4, &setting(5, 1))]), 0x109),
        ("ENABLE_CONNECT_PROTOCOL of 2", control(&[frame(4, &setting(8, 2))]), 0x109),
        ("SETTINGS cut off", control(&[frame(4, &[6])]), 0x106),
        ("MAX_PUSH_ID shrinks", after([frame(0xd, &[5]), frame(0xd, &[4])].concat()), 0x108),
        ("MAX_PUSH_ID with more in it", after(frame(0xd, &[5, 5])), 0x106),
        ("MAX_PUSH_ID with nothing in it", after(frame(0xd, &[])), 0x106),
        ("CANCEL_PUSH of nothing", after(frame(3, &[0])), 0x108),
        ("GOAWAY grows", after([frame(7, &[4]), frame(7, &[8])].concat()), 0x108),
        ("a frame too large", after(frame(0x21, &[0; 5000])), 0x107),
        ("an insert on the encoder stream", vec![0x02, 0xc0, 0x01, b'a'], 0x201),
        ("a literal insert", vec![0x02, 0x41, b'a', 0x01, b'b'], 0x201),
        ("a duplicate", vec![0x02, 0x00], 0x201),
        ("a table capacity", vec![0x02, 0x3f, 0xe1, 0x1f], 0x201),
        ("a section acknowledgement", vec![0x03, 0x80], 0x202),
        ("an insert count increment", vec![0x03, 0x01], 0x202),
        ("a push stream", vec![0x01, 0x00], 0x103),
    ];
    for (name, bytes, code) in cases {
        let connection = server.connect().await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let raw = Raw { connection, control: stream };

        assert_eq!(raw.closed().await, Outcome::Connection(code), "{name}");
    }
    for kind in [0x00, 0x02, 0x03] {
        let raw = Raw::open(&server).await;
        for _ in 0..2 {
            let mut stream = raw.connection.open_uni().await.unwrap();
            stream.write_all(&[kind]).await.unwrap();
            std::mem::forget(stream);
        }
        assert_eq!(raw.closed().await, Outcome::Connection(0x103), "a second {kind}");
    }
    for kind in [0x02, 0x03] {
        let raw = Raw::open(&server).await;
        let mut stream = raw.connection.open_uni().await.unwrap();
        stream.write_all(&[kind]).await.unwrap();
        stream.finish().unwrap();
        assert_eq!(raw.closed().await, Outcome::Connection(0x104), "{kind} closed");
    }
    let mut raw = Raw::open(&server).await;
    // A stream that is reset before its type was read could have been any.
    raw.request(&[headers(&get("/hello"))], true).await;
    raw.control.reset(VarInt::from_u32(0x100)).unwrap();
    assert_eq!(raw.closed().await, Outcome::Connection(0x104), "control reset");
}

#[tokio::test]
async fn allowed_unidirectional_streams_disturb_nothing() {
    let (server, _) = Paths::server();
    let mut opening = vec![0x00];
    opening.extend(frame(4, &[0x01, 0x40, 0x64, 0x07, 0x08, 0x21, 0x05, 0x33, 0x01]));
    opening.extend(frame(0xd, &[3]));
    opening.extend(frame(0xd, &[4]));
    opening.extend(frame(7, &[0]));
    opening.extend(frame(0x21, b"grease"));
    let mut raw = Raw::open_with(&server, &opening).await;
    for bytes in [&[0x02, 0x20][..], &[0x03, 0x44], &[0x40, 0x54, 1, 2, 3], &[0x21]] {
        let mut stream = raw.connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        std::mem::forget(stream);
    }

    let outcome = raw.request(&[headers(&get("/hello"))], true).await;

    assert_eq!(outcome, Outcome::Status(200));
}

#[tokio::test]
async fn a_flood_of_cancelled_requests_ends_the_connection() {
    let limits = Limits { h2_control_frames: 50, ..Limits::default() };
    let (server, _) = Paths::server_with(limits);
    let raw = Raw::open(&server).await;

    while let Ok((mut send, mut recv)) = raw.connection.open_bi().await {
        let _closed = send.write_all(&headers(&post("/wait"))).await;
        let _closed = send.reset(VarInt::from_u32(0x10c));
        let _closed = recv.stop(VarInt::from_u32(0x10c));
    }

    assert_eq!(raw.closed().await, Outcome::Connection(0x107));
}
