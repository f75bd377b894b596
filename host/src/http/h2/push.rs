//! Pushed exchanges of one HTTP/2 connection (RFC 9113 §8.4).
//!
//! A promise goes out on the stream of the request that caused it; its own stream is then answered
//! like any request. `h2` 0.4 must not lose a promised stream before the frame that promises it was
//! taken from its queue: it looks the stream up then, and panics without it. The client decides whether
//! that frame ever goes out (it may reset either stream first), so the promised stream is held here
//! until the frame was seen on the wire, and for as long as the connection lives where it never was.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{SendPushedResponse, SendResponse};
use http::{Method, Request};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::debug;

use super::stream::{Respond, Unsent, until_reset};
use super::watch::Watch;
use crate::http::body::RequestBody;
use crate::http::conn::{Conn, Protocol};
use crate::http::interim::Interim;
use crate::http::push::{Promise, PushPlace, PushRoom, PushSource};
use crate::http::{Handle, Serving, validate};

/// What a connection knows of its pushes.
#[derive(Debug)]
pub(super) struct Pushes {
    room: Arc<PushRoom>,
    /// What the client takes at once; 0 where it has disabled pushes.
    client_limit: AtomicUsize,
    enabled: AtomicBool,
    /// Promises whose frame has not gone out.
    waiting: Mutex<HashMap<u32, oneshot::Sender<()>>>,
    /// Made in this turn of the connection's task.
    made: Mutex<VecDeque<Promised>>,
    /// Promises whose frame will never go out.
    lost: Mutex<Vec<Promised>>,
}

impl Default for Pushes {
    /// As a client that says nothing wants it (RFC 9113 §6.5.2).
    fn default() -> Self {
        Self {
            room: Arc::default(),
            client_limit: AtomicUsize::new(usize::MAX),
            enabled: AtomicBool::new(true),
            waiting: Mutex::default(),
            made: Mutex::default(),
            lost: Mutex::default(),
        }
    }
}

/// A promised stream.
pub(super) struct Promised {
    request: Request<()>,
    respond: SendPushedResponse<Bytes>,
    went_out: oneshot::Receiver<()>,
    place: PushPlace,
}

impl std::fmt::Debug for Promised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Promised").field("uri", self.request.uri()).finish_non_exhaustive()
    }
}

impl Pushes {
    /// SETTINGS_ENABLE_PUSH.
    pub(super) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub(super) fn set_client_limit(&self, streams: u32) {
        self.client_limit.store(usize::try_from(streams).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// The frame that promises `stream` was written.
    pub(super) fn promise_went_out(&self, stream: u32) {
        if let Some(waiting) = self.waiting.lock().remove(&stream) {
            let _ended = waiting.send(());
        }
    }

    /// For the exchange of `request`: takes promises where the client does.
    pub(super) fn interim<B>(&self, request: &Request<B>) -> Interim {
        let limit = self.client_limit.load(Ordering::Relaxed);
        let enabled = self.enabled.load(Ordering::Relaxed);
        let source = enabled.then(|| PushSource::new(request, &self.room, limit)).flatten();
        source.map_or_else(|| Interim::new(true), Interim::pushing)
    }

    /// Promises it on the stream that `respond` answers.
    pub(super) fn promise(&self, respond: &mut SendResponse<Bytes>, promise: Promise) {
        let Promise { request, place } = promise;
        match respond.push_request(request.clone()) {
            Ok(respond) => {
                let (went_out, waits) = oneshot::channel();
                self.waiting.lock().insert(respond.stream_id().as_u32(), went_out);
                self.made.lock().push_back(Promised { request, respond, went_out: waits, place });
            }
            // The client has changed its mind in between; no push is no error.
            Err(error) => debug!(%error, "not pushed"),
        }
    }

    /// A promise that has been made and not been taken.
    pub(super) fn next_made(&self) -> Option<Promised> {
        self.made.lock().pop_front()
    }
}

/// Answers a promised request.
pub(super) async fn pushed<H: Handle>(
    mut promised: Promised,
    watch: Arc<Watch>,
    conn: Arc<Conn>,
    serving: Arc<Serving<H>>,
) -> Result<(), Unsent> {
    let patience = serving.limits.write_idle_timeout;
    let went_out = tokio::time::timeout(patience, &mut promised.went_out).await;
    if !matches!(went_out, Ok(Ok(()))) {
        watch.pushes.lost.lock().push(promised);
        return Err(Unsent::Gone);
    }
    let Promised { request, mut respond, place, .. } = promised;
    let _place = place;
    let _active = conn.begin_exchange();
    let mut request = request;
    let head_only = request.method() == Method::HEAD;
    let response = match validate::request(&mut request, Protocol::H2, &serving.limits) {
        Ok(_) => {
            let request = request.map(|()| RequestBody::empty());
            // Neither hints nor pushes: `h2` has no interim responses on a pushed stream, and a
            // promise stands on a stream that the client opened (RFC 9113 §8.4).
            let nothing_ahead = Arc::new(Interim::new(false));
            let handling = serving.handler.handle(&conn, request, nothing_ahead);
            until_reset(handling, |cx| respond.poll_reset(cx).is_ready()).await?
        }
        Err(rejection) => {
            let (parts, ()) = request.into_parts();
            serving.handler.reject(&conn, &parts, rejection)
        }
    };
    Respond::Promised(&mut respond).send(response, head_only, &conn, &serving).await
}

#[cfg(test)]
mod tests;
