//! Streams that leave HTTP: `Upgrade` over HTTP/1.1, extended CONNECT over HTTP/2 and HTTP/3.

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::Client;
use crate::client::{Connection, H3Sender};

type H3Send = h3::client::RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;
type H3Receive = h3::client::RequestStream<h3_quinn::RecvStream, Bytes>;

/// What became of a request for another protocol.
pub struct Tunnel {
    /// 101 or 200 where the server has switched.
    pub status: StatusCode,
    /// Fields.
    pub headers: HeaderMap,
    /// Both ends, where it has.
    pub ends: Option<(TunnelWriter, TunnelReader)>,
}

/// What the server gets.
pub enum TunnelWriter {
    /// Over HTTP/1.1 and HTTP/2.
    Hyper(WriteHalf<TokioIo<Upgraded>>),
    /// Over HTTP/3.
    H3(Box<H3Send>),
}

/// What the server sends.
pub enum TunnelReader {
    /// Over HTTP/1.1 and HTTP/2.
    Hyper(ReadHalf<TokioIo<Upgraded>>),
    /// Over HTTP/3; with what keeps the connection open.
    H3(Box<H3Receive>, Box<(H3Sender, quinn::Endpoint)>),
}

impl Client {
    /// GETs `path` and asks for `protocol`; over HTTP/3 that can be `connect-udp` only, the one name
    /// that its library knows.
    pub async fn switch(&mut self, path: &str, protocol: &'static str) -> Tunnel {
        let method = match &self.connection {
            Connection::H1(_) => Method::GET,
            _ => Method::CONNECT,
        };
        let mut request = self.request(method, path).body(()).unwrap();
        let response = match &mut self.connection {
            Connection::H1(sender) => {
                request.headers_mut().insert(CONNECTION, "upgrade".parse().unwrap());
                request.headers_mut().insert(UPGRADE, protocol.parse().unwrap());
                sender.ready().await.unwrap();
                let request = request.map(|()| Empty::new().boxed_unsync());
                sender.send_request(request).await.unwrap()
            }
            Connection::H2(sender) => {
                request.extensions_mut().insert(hyper::ext::Protocol::from_static(protocol));
                sender.ready().await.unwrap();
                let request = request.map(|()| Empty::new().boxed_unsync());
                sender.send_request(request).await.unwrap()
            }
            Connection::H3 { sender, _endpoint: endpoint } => {
                assert_eq!(protocol, h3::ext::Protocol::CONNECT_UDP.as_str());
                request.extensions_mut().insert(h3::ext::Protocol::CONNECT_UDP);
                let (send, mut receive) = sender.send_request(request).await.unwrap().split();
                let (parts, ()) = receive.recv_response().await.unwrap().into_parts();
                let open = Box::new((sender.clone(), endpoint.clone()));
                let reader = TunnelReader::H3(Box::new(receive), open);
                let writer = TunnelWriter::H3(Box::new(send));
                let ends = (parts.status == 200).then_some((writer, reader));
                return Tunnel { status: parts.status, headers: parts.headers, ends };
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let ends = if matches!(status.as_u16(), 101 | 200) {
            let upgraded = hyper::upgrade::on(response).await.unwrap();
            let (read, write) = tokio::io::split(TokioIo::new(upgraded));
            Some((TunnelWriter::Hyper(write), TunnelReader::Hyper(read)))
        } else {
            None
        };
        Tunnel { status, headers, ends }
    }
}

impl TunnelWriter {
    /// Sends a piece.
    pub async fn write(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        match self {
            Self::Hyper(write) => {
                write.write_all(&piece).await.unwrap();
                write.flush().await.unwrap();
            }
            Self::H3(stream) => stream.send_data(piece).await.unwrap(),
        }
    }

    /// Ends this side.
    pub async fn finish(&mut self) {
        match self {
            Self::Hyper(write) => write.shutdown().await.unwrap(),
            Self::H3(stream) => stream.finish().await.unwrap(),
        }
    }
}

impl TunnelReader {
    /// The next bytes as they arrive; `None` at the end.
    ///
    /// # Errors
    /// The stream was broken off.
    pub async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Hyper(read) => {
                let mut piece = vec![0; 64 << 10];
                let length = read.read(&mut piece).await?;
                piece.truncate(length);
                Ok((length > 0).then(|| piece.into()))
            }
            Self::H3(stream, _) => {
                let piece = stream.recv_data().await?;
                Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))
            }
        }
    }

    /// So many bytes; fewer where the stream ends or is broken off before.
    pub async fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let Ok(Some(piece)) = self.piece().await else { break };
            bytes.extend_from_slice(&piece);
        }
        bytes
    }
}
