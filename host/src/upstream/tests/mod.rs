//! The client against real sockets: what others' servers do, well or badly.

mod exchange;
mod pooling;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

type ServerBody = UnsyncBoxBody<Bytes, BoxError>;

/// A client that may reach `origins`.
struct Client {
    upstream: Upstream,
    grants: OutboundGrants,
    drain: Drain,
}

impl Client {
    fn reaching(origin: &str) -> Self {
        Self::with(origin, Settings::default())
    }

    fn with(origin: &str, settings: Settings) -> Self {
        let drain = Drain::new();
        let upstream = Upstream::with_settings(drain.clone(), settings);
        let grants = OutboundGrants::parse(&[origin.to_owned()]).unwrap();
        Self { upstream, grants, drain }
    }

    async fn send(
        &self,
        request: Request<UpstreamRequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        self.send_within(request, Timeouts::default()).await
    }

    async fn send_within(
        &self,
        request: Request<UpstreamRequestBody>,
        timeouts: Timeouts,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        self.upstream.send(&self.grants, request, timeouts).await
    }

    /// GETs `uri` and reads the answer to its end.
    async fn text(&self, uri: &str) -> Result<String, UpstreamError> {
        let body = self.send(get(uri)).await?.into_body().collect().await?;
        Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }
}

fn empty() -> UpstreamRequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn full(text: &str) -> UpstreamRequestBody {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length from a channel.
fn channel() -> (tokio::sync::mpsc::Sender<Result<http_body::Frame<Bytes>, BoxError>>, ServerBody) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, http_body_util::StreamBody::new(frames).boxed_unsync())
}

fn get(uri: &str) -> Request<UpstreamRequestBody> {
    Request::get(uri).body(empty()).unwrap()
}

fn post(uri: &str, body: UpstreamRequestBody) -> Request<UpstreamRequestBody> {
    Request::post(uri).body(body).unwrap()
}

/// A listener on a free port and the origin that leads to it.
async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    (listener, origin)
}

/// What a test server saw.
#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Seen {
    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn opened(self: &Arc<Self>) -> Opened {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        Opened(Arc::clone(self))
    }
}

struct Opened(Arc<Seen>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves HTTP/1.1 with `handler` for as long as `drain` lives.
async fn serve<H, F>(drain: &Drain, handler: H) -> (String, Arc<Seen>)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ServerBody>> + Send + 'static,
{
    let (listener, origin) = listen().await;
    let seen = Arc::new(Seen::default());
    let (counted, tasks) = (Arc::clone(&seen), drain.clone());
    drop(drain.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let opened = counted.opened();
            let handler = handler.clone();
            drop(tasks.spawn(async move {
                let _opened = opened;
                let service = service_fn(move |request| {
                    let response = handler(request);
                    async move { Ok::<_, Infallible>(response.await) }
                });
                let _gone = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            }));
        }
    }));
    (origin, seen)
}

/// Accepts one connection, reads a request head and answers with these bytes, then closes.
async fn answer_once(listener: &TcpListener, answer: &str) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let head = read_head(&mut socket).await;
    socket.write_all(answer.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    head
}

/// Reads up to the empty line.
async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).await.unwrap(), 1, "head cut off");
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Sends a GET to a server that answers with exactly these bytes.
async fn answered_with(answer: &str) -> Result<Response<UpstreamBody>, UpstreamError> {
    let (listener, origin) = listen().await;
    let client = Client::reaching(&origin);
    let request = get(&format!("{origin}/"));

    let (response, _head) = tokio::join!(client.send(request), answer_once(&listener, answer));

    response
}

fn text(body: &'static str) -> ServerBody {
    Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn port_of(origin: &str) -> u16 {
    origin.rsplit(':').next().unwrap().parse().unwrap()
}

/// Resolves every name to one address.
struct Everywhere(SocketAddr);

impl LookUp for Everywhere {
    fn look_up(
        &self,
        _: String,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<std::net::IpAddr>>> + Send>>
    {
        let address = self.0.ip();
        Box::pin(async move { Ok(vec![address]) })
    }
}
