//! One HTTP exchange as plugins and their interfaces see it, and the token that names it to a guest.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Failure;
use super::reply::Replies;
use super::upgrade::Offer;
use crate::http::condition::Wanted;
use crate::http::conn::Conn;
use crate::http::control::Control;
use crate::http::interim::Interim;
use crate::websocket::handshake;

/// One exchange. Shared by the pipeline, the calls that serve it and the interfaces.
#[derive(Debug)]
pub struct Exchange {
    /// As the access log and error pages carry it.
    pub request_id: Box<str>,
    /// The connection it came on.
    pub conn: Arc<Conn>,
    /// Requests on the connection so far, this one included.
    pub ordinal: u64,
    /// It arrived as early data, which can be replayed.
    pub early_data: bool,
    /// The pattern that matched.
    pub route: Arc<str>,
    /// Which representation the client wants, and how much of it.
    pub wanted: Wanted,
    /// Heads before the final one.
    pub interim: Arc<Interim>,
    /// What is wished for the response.
    pub control: Arc<Control>,
    /// What the host holds for the response.
    pub replies: Replies,
    offer: OnceLock<Offer>,
    websocket: OnceLock<Box<handshake::Request>>,
    last_event_id: OnceLock<Box<str>>,
    cancelled: AtomicBool,
    /// Told when it is cancelled.
    cancellation: Notify,
    /// Guests that wait for that, or have and are not done.
    waiting: AtomicUsize,
    failure: Mutex<Option<Failure>>,
}

impl Exchange {
    /// An exchange that is about to be handed to a plugin.
    pub fn new(
        request_id: &str,
        conn: &Arc<Conn>,
        route: &Arc<str>,
        wanted: Wanted,
        early_data: bool,
        interim: Arc<Interim>,
    ) -> Arc<Self> {
        Arc::new(Self {
            request_id: request_id.into(),
            conn: Arc::clone(conn),
            ordinal: conn.requests(),
            early_data,
            route: Arc::clone(route),
            wanted,
            interim,
            control: Arc::default(),
            replies: Replies::default(),
            offer: OnceLock::new(),
            websocket: OnceLock::new(),
            last_event_id: OnceLock::new(),
            cancelled: AtomicBool::new(false),
            cancellation: Notify::new(),
            waiting: AtomicUsize::new(0),
            failure: Mutex::new(None),
        })
    }

    /// The exchange that a call for an event has: one of its own for each call, over the socket's
    /// connection or over none ([`Conn::unconnected`]). `subject` stands in place of a route.
    pub fn of_event(request_id: &str, conn: &Arc<Conn>, subject: &Arc<str>) -> Arc<Self> {
        let interim = Arc::new(Interim::new(false));
        Self::new(request_id, conn, subject, Wanted::default(), false, interim)
    }

    /// Says what the request offers in place of HTTP.
    pub fn set_offer(&self, offer: Offer) {
        let _first_wins = self.offer.set(offer);
    }

    /// What the request offers in place of HTTP.
    pub fn offer(&self) -> &Offer {
        self.offer.get().unwrap_or(&Offer::Unsupported)
    }

    /// Says which event the client got last.
    pub fn set_last_event_id(&self, id: Option<Box<str>>) {
        if let Some(id) = id {
            let _first_wins = self.last_event_id.set(id);
        }
    }

    /// The event that the client says it got last.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.get().map(|id| &**id)
    }

    /// Keeps what the request says of the WebSocket that it asks for.
    pub fn set_websocket(&self, request: handshake::Request) {
        let _first_wins = self.websocket.set(Box::new(request));
    }

    /// What the request says of the WebSocket that it asks for, if it asks for one.
    pub fn websocket(&self) -> Option<&handshake::Request> {
        self.websocket.get().map(|request| &**request)
    }

    /// Whether the client has left or the host has given the exchange up.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Gives the exchange up: whoever waits for that is woken.
    pub fn cancel(&self) {
        if !self.cancelled.swap(true, Ordering::SeqCst) {
            self.cancellation.notify_waiters();
        }
    }

    /// Waits until the client has left or the host has given the exchange up.
    ///
    /// # Cancel safety
    /// A wait that is dropped before its end was none; see [`Self::is_attended`].
    pub async fn cancelled(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut dropped = Unattended { exchange: self, ended: false };
        let told = self.cancellation.notified();
        // `notified` sees every notification after its creation, and the mark is set before one.
        if !self.cancelled.load(Ordering::SeqCst) {
            told.await;
        }
        dropped.ended = true;
    }

    /// Whether a guest waited for the cancellation when it came: it then has something to do about it.
    pub fn is_attended(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Keeps what went wrong behind a plugin's back: its request body was refused, or, for a
    /// middleware, the next plugin failed. The first one counts.
    pub fn note_failure(&self, failure: Failure) {
        self.failure.lock().get_or_insert(failure);
    }

    /// What went wrong behind the plugin's back, if anything did.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().clone()
    }
}

/// Takes a wait back that did not come to its end.
struct Unattended<'a> {
    exchange: &'a Exchange,
    ended: bool,
}

impl Drop for Unattended<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.exchange.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 16;

/// Names one exchange to one guest: 128 random bits in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; TOKEN_BYTES * 2]);

impl Token {
    /// A fresh token from a thread-local generator seeded by the system.
    pub fn random() -> Self {
        let random: [u8; TOKEN_BYTES] = rand::random();
        let mut hex = [0; TOKEN_BYTES * 2];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(random) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(hex)
    }

    /// Whether it is written `text`. Takes the same time wherever the two differ.
    pub fn is(&self, text: &[u8]) -> bool {
        let differs = self.0.iter().zip(text).fold(0, |all, (a, b)| all | (a ^ b));
        text.len() == self.0.len() && differs == 0
    }

    /// The hexadecimal digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
