//! The connection as a client sees it, over an in-memory pipe (and the clock held still).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::serve;
use crate::drain::Drain;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::conn::{Conn, ConnStates, Persistence, Protocol, TlsFacts};
use crate::http::limits::Limits;
use crate::http::rejection::Rejection;
use crate::http::switch::{Owner, Socket, Switch, SwitchEnd};
use crate::http::{Handle, Serving};

mod bodies;
mod leaving;
mod requests;
mod responses;
mod switching;

/// Answers by path; counts what it was asked and what was dropped before it had answered.
#[derive(Debug, Default)]
struct TestHandler {
    asked: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
}

struct CountsDrop(Arc<AtomicUsize>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

fn streamed(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> ResponseBody {
    ResponseBody::stream(Box::pin(StreamBody::new(stream::iter(frames))))
}

/// Says so with `first`, then echoes.
fn switching() -> ResponseBody {
    struct Echo;

    impl Owner for Echo {
        fn run<'s>(
            self: Box<Self>,
            mut socket: Box<dyn Socket + 's>,
            _limits: &'s Limits,
        ) -> BoxFuture<'s, SwitchEnd> {
            Box::pin(async move {
                socket.write_all(b"first ").await.unwrap();
                let mut buffer = [0; 100];
                while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                    let _gone = socket.write_all(&buffer[..length]).await;
                }
                let _gone = socket.shutdown().await;
                Ok(())
            })
        }
    }

    let protocol = HeaderValue::from_static("echo");
    ResponseBody::switching(Switch { protocol, owner: Box::new(Echo) })
}

fn endless() -> ResponseBody {
    let frame = || Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])));
    ResponseBody::stream(Box::pin(StreamBody::new(stream::repeat_with(frame))))
}

fn trailer(name: &'static str, value: &'static str) -> Result<Frame<Bytes>, BodyError> {
    let mut map = HeaderMap::new();
    map.insert(name, HeaderValue::from_static(value));
    Ok(Frame::trailers(map))
}

impl TestHandler {
    /// A piece every ten seconds, three in all.
    fn drip(&self) -> ResponseBody {
        let dropped = CountsDrop(Arc::clone(&self.cancelled));
        let pieces = stream::unfold((0, dropped), |(count, dropped)| async move {
            if count == 3 {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            Some((data("piece"), (count + 1, dropped)))
        });
        ResponseBody::stream(Box::pin(StreamBody::new(pieces)))
    }
}

impl Handle for TestHandler {
    async fn handle(
        &self,
        _conn: &Arc<Conn>,
        request: Request<RequestBody>,
        _: Arc<crate::http::interim::Interim>,
    ) -> Response<ResponseBody> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let builder = Response::builder();
        let response = match path.as_str() {
            "/hello" => builder.body(ResponseBody::full("hello")),
            "/see" => {
                let mut seen = format!("{} {}\n", request.method(), request.uri());
                for (name, value) in request.headers() {
                    seen.push_str(&format!("{name}={}\n", value.to_str().unwrap()));
                }
                builder.body(ResponseBody::full(seen))
            }
            "/echo" => builder
                .header("trailer", "x-sum")
                .body(ResponseBody::stream(Box::pin(request.into_body()))),
            "/collect" => match request.into_body().collect().await {
                Ok(body) => {
                    let trailers = body.trailers().cloned().unwrap_or_default();
                    let length = body.to_bytes().len();
                    builder.body(ResponseBody::full(format!("{length} bytes, {trailers:?}")))
                }
                Err(BodyError::Timeout) => Ok(Rejection::RequestTimeout.into_response(None)),
                Err(error) => {
                    Ok(Rejection::BadRequest(error.to_string().into()).into_response(None))
                }
            },
            "/elsewhere" => {
                let body = request.into_body();
                #[expect(clippy::disallowed_methods, reason = "the body is read by another task")]
                let length = tokio::spawn(async { body.collect().await.unwrap().to_bytes().len() });
                builder.body(ResponseBody::full(length.await.unwrap().to_string()))
            }
            "/never" => {
                let _dropped = CountsDrop(Arc::clone(&self.cancelled));
                std::future::pending().await
            }
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                builder.body(ResponseBody::full("slow"))
            }
            "/endless" => builder.body(endless()),
            "/stream" => builder.body(streamed(vec![data("one"), data(""), data("two")])),
            "/trailers" => builder
                .header("trailer", "x-sum")
                .body(streamed(vec![data("one"), trailer("x-sum", "42")])),
            "/short" => builder.header("content-length", 10).body(streamed(vec![data("five!")])),
            "/long" => builder.header("content-length", 3).body(ResponseBody::full("hello")),
            "/longer" => {
                builder.header("content-length", 3).body(streamed(vec![data("one"), data("two")]))
            }
            "/breaks" => builder.body(streamed(vec![data("one"), Err(BodyError::Gone)])),
            "/drip" => builder.body(self.drip()),
            "/switch" => builder.status(101).header("x-own", "1").body(switching()),
            "/refuse" => {
                builder.status(426).header("upgrade", "echo").body(ResponseBody::full("no"))
            }
            "/large" => builder.body(streamed(vec![
                Ok(Frame::data(vec![b'a'; 300_000].into())),
                Ok(Frame::data(vec![b'b'; 9_000].into())),
            ])),
            "/204" => builder.status(204).body(ResponseBody::empty()),
            "/304" => {
                builder.status(304).header("content-length", 5).body(ResponseBody::full("hello"))
            }
            "/kept" => builder
                .extension(Persistence::KeepAlive {
                    timeout: Some(Duration::from_secs(200)),
                    max: Some(3),
                })
                .header("keep-alive", "timeout=1")
                .body(ResponseBody::full("kept")),
            "/closed" => builder.extension(Persistence::Close).body(ResponseBody::full("bye")),
            "/close" => builder.header("connection", "close").body(ResponseBody::full("bye")),
            _ => builder.status(StatusCode::NOT_FOUND).body(ResponseBody::empty()),
        };
        response.unwrap()
    }
}

/// A connection with [`TestHandler`] behind it.
struct TestConnection {
    client: DuplexStream,
    handler: Arc<TestHandler>,
    drain: Drain,
    states: Arc<ConnStates>,
    conn: Arc<Conn>,
}

impl TestConnection {
    fn new() -> Self {
        Self::with(Limits::default(), 1024 * 1024, None)
    }

    fn with(limits: Limits, pipe: usize, tls: Option<TlsFacts>) -> Self {
        let (client, server) = duplex(pipe);
        let states = Arc::new(ConnStates::default());
        let handler = Arc::new(TestHandler::default());
        let drain = Drain::new();
        let serving = Serving {
            handler: Arc::clone(&handler),
            drain: drain.clone(),
            limits: Arc::new(limits),
            states: Arc::clone(&states),
            core: 0,
            alt_svc: Some(HeaderValue::from_static("h3=\":443\"")),
            http2: true,
        };
        let peer = "127.0.0.1:1".parse().unwrap();
        let local = "127.0.0.1:8080".parse().unwrap();
        let conn = Conn::new(0, peer, local, Protocol::H1, tls, Arc::clone(&states));
        drain.spawn(serve(server, Bytes::new(), Arc::clone(&conn), serving));
        Self { client, handler, drain, states, conn }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to and including `end`.
    async fn receive_until(&mut self, end: &str) -> String {
        let mut received = Vec::new();
        while !received.ends_with(end.as_bytes()) {
            match self.client.read_u8().await {
                Ok(byte) => received.push(byte),
                Err(_) => panic!("{:?} does not end in {end:?}", String::from_utf8(received)),
            }
        }
        String::from_utf8(received).unwrap()
    }

    /// Everything until the connection is closed.
    async fn receive_rest(&mut self) -> String {
        let mut received = Vec::new();
        self.client.read_to_end(&mut received).await.unwrap();
        String::from_utf8(received).unwrap()
    }

    fn asked(&self) -> usize {
        self.handler.asked.load(Ordering::SeqCst)
    }

    fn cancelled(&self) -> usize {
        self.handler.cancelled.load(Ordering::SeqCst)
    }
}

/// All that comes back for `request` on a connection of its own, which the client half-closes.
async fn answer(request: impl AsRef<[u8]>) -> String {
    let mut connection = TestConnection::new();
    connection.send(request).await;
    connection.client.shutdown().await.unwrap();
    connection.receive_rest().await
}

fn statuses(answers: &str) -> Vec<&str> {
    answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, version)| &answers[at + version.len()..at + version.len() + 3])
        .collect()
}
