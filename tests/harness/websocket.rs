//! A WebSocket client of our own, over cleartext HTTP/1.1, that may also do what none should. Those that
//! others wrote are in `clients`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The key of RFC 6455 §1.3, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// How long something may take that is to happen.
const LIMIT: Duration = Duration::from_secs(60);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first byte of a frame that is a whole message.
pub const TEXT: u8 = 0x81;
/// The same, compressed.
const COMPRESSED_TEXT: u8 = 0xc1;
/// Bytes.
pub const BINARY: u8 = 0x82;
/// A Close.
pub const CLOSE: u8 = 0x88;
/// A ping.
pub const PING: u8 = 0x89;
/// A pong.
pub const PONG: u8 = 0x8a;

/// An open WebSocket.
pub struct WebSocket {
    stream: BufReader<TcpStream>,
    /// Everything before the first frame, in lower case but for the values.
    pub head: String,
}

/// What a request for a WebSocket is answered with: the head, and the stream after it.
pub async fn ask(address: SocketAddr, request: &str) -> (String, BufReader<TcpStream>) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// A request as a browser sends it, with `fields`, each ended by CRLF.
pub fn request(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}\r\n"
    )
}

impl WebSocket {
    /// Opens one.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, "").await
    }

    /// Opens one with further fields in the request.
    pub async fn open_with(address: SocketAddr, path: &str, fields: &str) -> Self {
        let (head, stream) = ask(address, &request(path, fields)).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(&format!("sec-websocket-accept: {ANSWER}\r\n")), "{head}");
        Self { stream, head }
    }

    /// A field of the response.
    pub fn field(&self, name: &str) -> Option<&str> {
        let name = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&name))
    }

    /// Sends these bytes.
    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a frame.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        self.raw(&masked(first, payload)).await;
    }

    /// Sends text.
    pub async fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let frame = async {
            let first = self.stream.read_u8().await.ok()?;
            let length = match self.stream.read_u8().await.ok()? {
                126 => u64::from(self.stream.read_u16().await.ok()?),
                127 => self.stream.read_u64().await.ok()?,
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((first, payload))
        };
        timeout(LIMIT, frame).await.expect("a frame comes in time")
    }

    /// The next message, which is text.
    pub async fn message(&mut self) -> String {
        loop {
            match self.frame().await {
                Some((TEXT, payload)) => return String::from_utf8(payload).unwrap(),
                Some((COMPRESSED_TEXT, payload)) => return inflated(payload),
                Some((PING, payload)) => self.send(PONG, &payload).await,
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// Whether a message comes within a while.
    pub async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(200), self.stream.read_u8()).await.is_err()
    }

    /// Sends text and gives the answer.
    pub async fn ask(&mut self, text: &str) -> String {
        self.text(text).await;
        self.message().await
    }

    /// Reads on until the server's Close, and to the end of the stream; its code (1005 where it has
    /// none, 1006 where there was no Close).
    pub async fn code(&mut self) -> u16 {
        let mut code = 1006;
        while let Some((first, payload)) = self.frame().await {
            if first == CLOSE {
                code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            }
        }
        code
    }

    /// Closes it properly; the code of the answer.
    pub async fn close(mut self, code: u16) -> u16 {
        self.send(CLOSE, &code.to_be_bytes()).await;
        self.code().await
    }
}

/// A text that was sent with permessage-deflate (RFC 7692 §7.2.2).
fn inflated(mut payload: Vec<u8>) -> String {
    payload.extend_from_slice(&[0, 0, 0xff, 0xff]);
    let mut text = Vec::with_capacity(1 << 20);
    let mut inflate = flate2::Decompress::new(false);
    inflate.decompress_vec(&payload, &mut text, flate2::FlushDecompress::Sync).unwrap();
    String::from_utf8(text).unwrap()
}

/// A client's frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
