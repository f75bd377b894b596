//! Exchanges that are looked at while they are under way: what is sent piece by piece, and what
//! arrives. Dropping an [`Incoming`] before its end, and its client, is a client that leaves.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use tokio::sync::mpsc;

use crate::Client;
use crate::client::Connection;

type H3Send = h3::client::RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;
type H3Receive = h3::client::RequestStream<h3_quinn::RecvStream, Bytes>;

impl Client {
    /// GETs `path` up to the head of the answer.
    pub async fn open(&mut self, path: &str) -> Incoming {
        self.open_with(path, &[]).await
    }

    /// GETs `path` with these fields up to the head of the answer.
    pub async fn open_with(&mut self, path: &str, fields: &[(&str, &str)]) -> Incoming {
        let request = self.request(Method::GET, path);
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).unwrap();
        match &mut self.connection {
            Connection::H3 { .. } => {
                let (mut outgoing, incoming) = self.exchange(request).await;
                outgoing.finish().await;
                incoming
            }
            Connection::H1(sender) => {
                sender.ready().await.unwrap();
                let request = request.map(|()| Empty::new().boxed_unsync());
                Incoming::of_hyper(sender.send_request(request).await.unwrap())
            }
            Connection::H2(sender) => {
                sender.ready().await.unwrap();
                let request = request.map(|()| Empty::new().boxed_unsync());
                Incoming::of_hyper(sender.send_request(request).await.unwrap())
            }
        }
    }

    /// POSTs to `path` up to the head of the answer; the body is still to be sent.
    pub async fn duplex(&mut self, path: &str) -> (Outgoing, Incoming) {
        self.duplex_with(path, &[]).await
    }

    /// As [`Self::duplex`], with these fields.
    pub async fn duplex_with(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Outgoing, Incoming) {
        let request = self.request(Method::POST, path);
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.exchange(request.body(()).unwrap()).await
    }

    async fn exchange(&mut self, request: Request<()>) -> (Outgoing, Incoming) {
        // One piece at a time: what is written is on its way before the next is taken.
        let (pieces, body) = mpsc::channel(1);
        let outgoing = Outgoing(Sink::Hyper(Some(pieces)));
        let body = Pieces(body).boxed_unsync();
        match &mut self.connection {
            Connection::H1(sender) => {
                sender.ready().await.unwrap();
                let response = sender.send_request(request.map(|()| body)).await.unwrap();
                (outgoing, Incoming::of_hyper(response))
            }
            Connection::H2(sender) => {
                sender.ready().await.unwrap();
                let response = sender.send_request(request.map(|()| body)).await.unwrap();
                (outgoing, Incoming::of_hyper(response))
            }
            Connection::H3 { sender, .. } => {
                let (send, mut receive) = sender.send_request(request).await.unwrap().split();
                let (parts, ()) = receive.recv_response().await.unwrap().into_parts();
                let incoming = Incoming::new(parts, Source::H3(Box::new(receive)));
                (Outgoing(Sink::H3(Box::new(send))), incoming)
            }
        }
    }
}

/// A request's body, on its way.
pub struct Outgoing(Sink);

enum Sink {
    Hyper(Option<mpsc::Sender<Bytes>>),
    H3(Box<H3Send>),
}

impl Outgoing {
    /// Sends a piece.
    pub async fn write(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        match &mut self.0 {
            Sink::Hyper(pieces) => pieces.as_ref().unwrap().send(piece).await.unwrap(),
            Sink::H3(stream) => stream.send_data(piece).await.unwrap(),
        }
    }

    /// Ends the body.
    pub async fn finish(&mut self) {
        match &mut self.0 {
            Sink::Hyper(pieces) => *pieces = None,
            // A server that has answered already may take no more (RFC 9114 §4.1).
            Sink::H3(stream) => drop(stream.finish().await),
        }
    }
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A response whose body is read as it arrives.
pub struct Incoming {
    /// Status code.
    pub status: StatusCode,
    /// Fields.
    pub headers: HeaderMap,
    source: Source,
    /// What came behind the lines that were taken.
    rest: Vec<u8>,
}

enum Source {
    Hyper(hyper::body::Incoming),
    H3(Box<H3Receive>),
}

impl Incoming {
    fn new(parts: http::response::Parts, source: Source) -> Self {
        Self { status: parts.status, headers: parts.headers, source, rest: Vec::new() }
    }

    fn of_hyper(response: http::Response<hyper::body::Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self::new(parts, Source::Hyper(body))
    }

    /// The next bytes as they arrive; `None` at the end. Trailers are left out, and so are frames without
    /// bytes, which may end a stream of HTTP/2.
    pub async fn piece(&mut self) -> Option<Bytes> {
        match &mut self.source {
            Source::Hyper(body) => loop {
                if let Ok(data) = body.frame().await?.unwrap().into_data()
                    && !data.is_empty()
                {
                    return Some(data);
                }
            },
            Source::H3(stream) => {
                let mut data = stream.recv_data().await.unwrap()?;
                Some(data.copy_to_bytes(data.remaining()))
            }
        }
    }

    /// The next line, without its end; `None` at the end of the body.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line = self.rest.drain(..=end).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let piece = self.piece().await?;
            self.rest.extend_from_slice(&piece);
        }
    }
}
