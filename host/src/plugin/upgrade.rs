//! Protocol switches of plugins: what a request offers, and the way of the bytes between the client's
//! stream and the guest's two.
//!
//! The guest's ends (`interface/upgrade.rs`) live in its store, the client's in the task of
//! its connection; two short bounded queues lie between. The call keeps its place and its permit
//! until the guest has let go of both its ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{BoxFuture, try_join};
use http::{HeaderValue, Method, Response, StatusCode, Version, request, response};
use http_body::Body;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::call::{Call, Place};
use super::instances::WorkerHandle;
use super::reply::Held;
use crate::drain::Drain;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::conn::{Conn, Protocol};
use crate::http::limits::Limits;
use crate::http::switch::{Owner, Socket, Switch, SwitchEnd};
use crate::http::validate::UpgradeRequested;

/// Bytes that go through a queue together.
pub const PIECE: usize = 16 * 1024;
/// Pieces in a queue: what is under way while the other side does something else.
pub const PIECES: usize = 4;
/// How long a guest may keep its ends after the connection's end before its call is given up.
pub const SWITCH_GRACE: Duration = Duration::from_secs(1);
/// A client that still sends after both sides are done with it gets so long to take the last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// A switch is many requests' worth of work: each so many bytes of it count as another request
/// for the CPU limit,
const BYTES_OF_A_REQUEST: u64 = 256 * 1024;
/// and each so long, where anything moves at all.
const TIME_OF_A_REQUEST: Duration = Duration::from_secs(10);

/// What a request offers in place of HTTP.
#[derive(Debug)]
pub enum Offer {
    /// These protocols, in the client's order; until one is accepted.
    Protocols(Vec<Box<str>>, AtomicBool),
    /// None is asked for.
    NotRequested,
    /// The transport or the kind of request cannot be switched.
    Unsupported,
}

/// Why a switch is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// None is asked for.
    NotRequested,
    /// Others are asked for.
    OtherProtocol,
    /// [`Offer::Unsupported`].
    Unsupported,
    /// It was accepted already, or there is nobody left.
    TooLate,
}

impl Offer {
    /// What the validated request offers.
    pub fn of(conn: &Conn, request: &request::Parts, body: &RequestBody) -> Self {
        let Some(asked) = request.extensions.get::<UpgradeRequested>() else {
            // Over HTTP/2 and HTTP/3 nothing but an extended CONNECT asks (RFC 9113 §8.6).
            let could = conn.protocol == Protocol::H1 && request.version == Version::HTTP_11;
            return if could { Self::NotRequested } else { Self::Unsupported };
        };
        let names: Vec<_> =
            asked.protocols().filter(|name| !is_http(name)).map(Box::from).collect();
        if names.is_empty() {
            Self::NotRequested
        } else if request.method == Method::HEAD || !body.is_end_stream() {
            // The switch would come after the content (RFC 9110 §7.8), which two readers may end at
            // different places.
            Self::Unsupported
        } else {
            Self::Protocols(names, AtomicBool::new(false))
        }
    }

    /// The protocols that can be accepted.
    pub fn protocols(&self) -> &[Box<str>] {
        match self {
            Self::Protocols(names, _) => names,
            _ => &[],
        }
    }

    /// Accepts `protocol`, once. Gives it as the client spells it.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, protocol: &str) -> Result<HeaderValue, Refused> {
        match self {
            Self::NotRequested => Err(Refused::NotRequested),
            Self::Unsupported => Err(Refused::Unsupported),
            Self::Protocols(names, taken) => {
                let name = names.iter().find(|name| name.eq_ignore_ascii_case(protocol));
                let name = name.and_then(|name| HeaderValue::from_str(name).ok());
                let name = name.ok_or(Refused::OtherProtocol)?;
                if taken.swap(true, Ordering::Relaxed) { Err(Refused::TooLate) } else { Ok(name) }
            }
        }
    }
}

/// HTTP itself and what lies below it: the host speaks those, or nobody does.
fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    ["h2c", "h2", "h3", "http", "tls"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// A call's place, for as long as its guest has one of the two ends.
#[derive(Debug)]
pub struct Stay {
    call: Arc<Call>,
    worker: Arc<WorkerHandle>,
    place: Mutex<Option<Arc<Place>>>,
    paid: Mutex<(u64, Instant)>,
}

impl Stay {
    /// Keeps `place`, which `call` has in `worker`.
    pub fn new(call: &Arc<Call>, worker: Arc<WorkerHandle>, place: Arc<Place>) -> Arc<Self> {
        Arc::new(Self {
            call: Arc::clone(call),
            worker,
            place: Mutex::new(Some(place)),
            paid: Mutex::new((0, Instant::now())),
        })
    }

    /// So many bytes went through the guest.
    pub fn moved(&self, bytes: usize) {
        let mut paid = self.paid.lock();
        paid.0 += bytes as u64;
        if paid.0 >= BYTES_OF_A_REQUEST || paid.1.elapsed() >= TIME_OF_A_REQUEST {
            *paid = (0, Instant::now());
            drop(paid);
            self.worker.count_another();
        }
    }

    /// The guest has let go of what kept the place.
    pub fn release(&self) {
        let place = self.place.lock().take();
        drop(place);
    }
}

/// A switch that a guest has accepted; it begins when the guest's response names it.
pub struct Accepted {
    /// The protocol's name.
    pub protocol: HeaderValue,
    /// What the client sends goes here.
    pub to_guest: mpsc::Sender<Bytes>,
    /// What the guest sends comes from here.
    pub from_guest: mpsc::Receiver<Bytes>,
    /// Told when the connection is over.
    pub leaving: Leaving,
}

impl Held for Accepted {
    fn respond(self: Box<Self>, mut head: response::Parts) -> Response<ResponseBody> {
        head.status = match self.leaving.call.exchange.conn.protocol {
            Protocol::H1 => StatusCode::SWITCHING_PROTOCOLS,
            Protocol::H2 | Protocol::H3 => StatusCode::OK,
        };
        // Either would promise content.
        head.headers.remove(http::header::CONTENT_LENGTH);
        head.headers.remove(http::header::TRAILER);
        let switch = Switch { protocol: self.protocol.clone(), owner: self };
        Response::from_parts(head, ResponseBody::switching(switch))
    }

    fn switches(&self) -> bool {
        true
    }
}

impl Owner for Accepted {
    fn run<'s>(
        self: Box<Self>,
        socket: Box<dyn Socket + 's>,
        _limits: &'s Limits,
    ) -> BoxFuture<'s, SwitchEnd> {
        let Self { to_guest, from_guest, mut leaving, .. } = *self;
        leaving.begin();
        Box::pin(async move {
            let (read, write) = tokio::io::split(socket);
            let drain = leaving.drain().clone();
            let guest_is_done = Notify::new();
            let feeding = async {
                let fed = feed(read, to_guest, &drain, &guest_is_done).await;
                fed.map_err(|_gone| BodyError::Gone)
            };
            let sending = async {
                let sent = send(write, from_guest, &leaving.call).await;
                guest_is_done.notify_one();
                sent
            };
            let ended = try_join(feeding, sending).await;
            leaving.end(ended.is_ok());
            ended.map(|((), ())| ())
        })
    }
}

/// Gives the guest what the client sends until either ends.
async fn feed(
    mut read: impl AsyncRead + Unpin,
    to_guest: mpsc::Sender<Bytes>,
    drain: &Drain,
    guest_is_done: &Notify,
) -> io::Result<()> {
    let mut piece = BytesMut::new();
    loop {
        // Room first: what the guest does not take stays with the client.
        let room = tokio::select! {
            biased;
            () = drain.draining() => break,
            room = to_guest.reserve() => room,
        };
        let Ok(room) = room else { break };
        piece.reserve(PIECE);
        let mut limited = (&mut piece).limit(PIECE);
        // Cancel safety: a read that is dropped has taken nothing.
        let bytes = tokio::select! {
            biased;
            () = drain.draining() => break,
            () = to_guest.closed() => break,
            bytes = read.read_buf(&mut limited) => bytes?,
        };
        if bytes == 0 {
            return Ok(());
        }
        room.send(piece.split().freeze());
    }
    // The guest's input ends; the client is watched for its leaving until the guest is done, too.
    drop(to_guest);
    tokio::select! {
        ended = discard(&mut read) => return ended,
        () = guest_is_done.notified() => {}
    }
    // Closed with bytes unread, TCP would take back the last that were sent (RFC 9112 §9.6).
    tokio::time::timeout(LINGER, discard(&mut read)).await.unwrap_or(Ok(()))
}

async fn discard(read: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut thrown_away = BytesMut::with_capacity(PIECE);
    while read.read_buf(&mut thrown_away).await? > 0 {
        thrown_away.clear();
    }
    Ok(())
}

/// Sends what the guest has for the client, and its end.
async fn send(
    mut write: impl AsyncWrite + Unpin,
    mut from_guest: mpsc::Receiver<Bytes>,
    call: &Call,
) -> SwitchEnd {
    let gone = |_lost: io::Error| BodyError::Gone;
    while let Some(piece) = from_guest.recv().await {
        write.write_all(&piece).await.map_err(gone)?;
        if from_guest.is_empty() {
            write.flush().await.map_err(gone)?;
        }
    }
    // A lost instance drops its ends as well.
    if let Some(failure) = call.failure() {
        return Err(BodyError::Guest(failure.clone()));
    }
    write.shutdown().await.map_err(gone)
}

/// Sees to a call once its switch is over, however that came about.
#[derive(Debug)]
pub struct Leaving {
    call: Arc<Call>,
    worker: Arc<WorkerHandle>,
    stay: Weak<Stay>,
    begun: bool,
    clean: bool,
}

impl Leaving {
    /// For the call that `stay` is about.
    pub fn new(stay: &Arc<Stay>) -> Self {
        Self {
            call: Arc::clone(&stay.call),
            worker: Arc::clone(&stay.worker),
            stay: Arc::downgrade(stay),
            begun: false,
            clean: false,
        }
    }

    /// A response stands for it.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// The switch is over; `clean`: both sides said so.
    pub fn end(&mut self, clean: bool) {
        self.clean = clean;
    }

    fn drain(&self) -> &Drain {
        &self.worker.set().crew.drain
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(stay) = self.stay.upgrade() else { return };
        if !self.begun {
            // The response did not name it: the call is what it would have been without.
            return stay.release();
        }
        if !self.clean {
            self.call.exchange.cancel();
        }
        let (call, worker, stay) =
            (Arc::clone(&self.call), Arc::clone(&self.worker), Weak::clone(&self.stay));
        let runtime = self.worker.set().runtime();
        self.drain().spawn_on(runtime, async move {
            tokio::time::sleep(SWITCH_GRACE).await;
            if stay.strong_count() > 0 && call.abandon() {
                worker.wake();
            }
        });
    }
}
