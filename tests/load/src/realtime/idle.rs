//! What ten thousand event streams or WebSockets cost that get nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use super::peers::Peer;
use super::subscribers::Subscribers;
use super::{each, resting};
use crate::report::{figure, say};
use crate::{Options, h3_client};

/// Streams.
const STREAMS: usize = 10_000;
/// Opened first: they pay for what is not the connections' own (an instance, pages of code).
const FIRST: usize = 20;
/// How long they are watched: longer than the time between two signs of life.
const REST: Duration = Duration::from_secs(20);
/// Streams on one HTTP/2 connection.
const STREAMS_H2: usize = 250;
/// With TLS the client has much to do for each.
const STREAMS_TLS: usize = 4_000;

/// What is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Socket,
}

/// Over HTTP/1.1, in the clear.
pub(super) fn streams(peers: &[Peer]) -> Result<()> {
    say(&format!("\n{STREAMS} idle event streams over HTTP/1.1"));
    held_by(peers, |peer| Some(peer.subscription()))
}

/// The same of WebSockets.
pub(super) fn sockets(peers: &[Peer]) -> Result<()> {
    say(&format!("\n{STREAMS} idle WebSockets over HTTP/1.1"));
    held_by(peers, Peer::upgrade)
}

fn held_by(peers: &[Peer], request: impl Fn(&Peer) -> Option<Vec<u8>>) -> Result<()> {
    each(peers, |peer| {
        let Some(request) = request(peer) else { return Ok(()) };
        let first = Subscribers::open(&peer.server.http, &request, FIRST)?;
        let before = peer.server.settled_pss_kib()?;
        let begun = Instant::now();
        let mut subscribers = Subscribers::open(&peer.server.http, &request, STREAMS)?;
        let opened = begun.elapsed();
        let after = peer.server.settled_pss_kib()?;
        told(peer.name, before, after, STREAMS, opened);
        let share = resting(peer, &mut subscribers, REST)?;
        figure(&format!("{}:   processor while idle", peer.name), &format!("{share:.1} %"));
        if !peer.server.admin.is_empty() {
            held(&peer.server.admin)?;
        }
        drop((first, subscribers));
        Ok(())
    })
}

/// With TLS, and over HTTP/2.
pub(super) fn others(options: &Options) -> Result<()> {
    for (what, kind) in [("event streams", Kind::Stream), ("WebSockets", Kind::Socket)] {
        say(&format!("\n{STREAMS_TLS} idle {what} over HTTP/1.1 with TLS"));
        let peer = Peer::wharf(options)?;
        let first = encrypted(&peer, kind, FIRST)?;
        let before = peer.server.settled_pss_kib()?;
        let begun = Instant::now();
        let subscribers = encrypted(&peer, kind, STREAMS_TLS)?;
        let opened = begun.elapsed();
        told(peer.name, before, peer.server.settled_pss_kib()?, STREAMS_TLS, opened);
        drop((first, subscribers, peer));

        say(&format!("\n{STREAMS} idle {what} over HTTP/2, {STREAMS_H2} on a connection"));
        let peer = Peer::wharf(options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let first = runtime.block_on(multiplexed(&peer, kind, FIRST, 1))?;
        let before = peer.server.settled_pss_kib()?;
        let begun = Instant::now();
        let connections = STREAMS / STREAMS_H2;
        let streams = runtime.block_on(multiplexed(&peer, kind, STREAMS_H2, connections))?;
        let opened = begun.elapsed();
        told(peer.name, before, peer.server.settled_pss_kib()?, STREAMS, opened);
        held(&peer.server.admin)?;
        drop((first, streams));
    }
    Ok(())
}

fn told(name: &str, before: u64, after: u64, count: usize, took: Duration) {
    let each = (after.saturating_sub(before) * 1024) as f64 / count as f64;
    figure(&format!("{name}: memory of each"), &format!("{each:.0} bytes"));
    let rate = count as f64 / took.as_secs_f64();
    figure(&format!("{name}:   opened"), &format!("{rate:.0} a second"));
}

/// No instance works for them.
fn held(admin: &str) -> Result<()> {
    let mut stream = TcpStream::connect(admin)?;
    let request = format!("GET /plugins HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let from = answer.find('[').context("no list of plugins")?;
    let until = answer.rfind(']').context("no list of plugins")?;
    let plugins: Value = serde_json::from_str(&answer[from..=until])?;
    let sum = |key: &str| -> u64 {
        let plugins = plugins.as_array().into_iter().flatten();
        plugins.filter_map(|plugin| plugin[key].as_u64()).sum()
    };
    let (calls, instances) = (sum("in_flight"), sum("instances"));
    figure("wharf:   calls in its instances", &format!("{calls} in {instances}"));
    Ok(())
}

/// Streams over TLS, whose responses have begun.
fn encrypted(
    peer: &Peer,
    kind: Kind,
    count: usize,
) -> Result<Vec<StreamOwned<ClientConnection, TcpStream>>> {
    let (request, status) = match kind {
        Kind::Stream => (peer.subscription(), b"HTTP/1.1 200"),
        Kind::Socket => (peer.upgrade().context("no WebSockets")?, b"HTTP/1.1 101"),
    };
    let config = Arc::new(h3_client::trusting(b"http/1.1")?);
    let mut streams = Vec::with_capacity(count);
    let mut head = [0; 16 * 1024];
    for _ in 0..count {
        let name = "localhost".try_into()?;
        let connection = ClientConnection::new(Arc::clone(&config), name)?;
        let mut stream = StreamOwned::new(connection, TcpStream::connect(&peer.server.https)?);
        stream.write_all(&request)?;
        let read = stream.read(&mut head)?;
        ensure!(head[..read].starts_with(status), "refused");
        streams.push(stream);
    }
    Ok(streams)
}

/// A connection, and both directions of its streams.
type Held = (h2::client::SendRequest<Bytes>, Vec<(h2::RecvStream, h2::SendStream<Bytes>)>);

/// Connections with so many streams each, whose responses have begun.
async fn multiplexed(
    peer: &Peer,
    kind: Kind,
    streams: usize,
    connections: usize,
) -> Result<Vec<Held>> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = tokio::net::TcpStream::connect(&peer.server.http).await?;
        let (sender, mut connection) = h2::client::handshake(stream).await?;
        // Extended CONNECT needs the server's settings (RFC 8441 §3).
        let settings = std::future::poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            if sender.is_extended_connect_protocol_enabled() { Poll::Ready(Ok(())) } else { polled }
        });
        settings.await?;
        #[expect(clippy::disallowed_methods, reason = "ends with the client's runtime")]
        tokio::spawn(connection);
        let mut sender = sender.ready().await?;
        let mut opened = Vec::with_capacity(streams);
        for _ in 0..streams {
            let authority = &peer.server.http;
            let request = match kind {
                Kind::Stream => http::Request::get(format!("http://{authority}/load/events")),
                Kind::Socket => http::Request::connect(format!(
                    "http://{authority}/sockets/ws?topic=load&publish=load"
                ))
                .extension(h2::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13"),
            };
            let (response, sending) =
                sender.send_request(request.body(())?, kind == Kind::Stream)?;
            let response = response.await?;
            ensure!(response.status() == 200, "status {}", response.status());
            opened.push((response.into_body(), sending));
        }
        held.push((sender, opened));
    }
    Ok(held)
}
