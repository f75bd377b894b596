//! One HTTP/2 exchange: the request of a stream goes to the handler, its response onto the wire.
//!
//! An exchange is a future inside its connection's task. It ends with the stream: when the response
//! is handed to `h2` to its last byte, when the peer resets the stream, or when it takes no data for
//! too long. Whatever ends it, the handler's future and the response body are dropped there, which
//! cancels the plugin. RFC 9113 §8.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol as ConnectProtocol;
use h2::server::{SendPushedResponse, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{ALT_SVC, CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::socket::H2Socket;
use super::watch::Watch;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::conn::{Conn, Protocol};
use crate::http::limits::{DISCARD_BYTES, DISCARD_TIMEOUT};
use crate::http::rejection::Rejection;
use crate::http::switch;
use crate::http::validate::UpgradeRequested;
use crate::http::{Handle, Serving, date, validate};

/// Most that one stream claims of the connection's window at a time: a stream that claimed a whole
/// large chunk would keep the window from the others while it waits.
const SEND_PIECE: usize = 64 * 1024;

/// Why a response was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// The peer reset the stream, or the connection ended.
    #[error("the client left")]
    Gone,
    /// The peer gave no window for too long.
    #[error("the client took no data for too long")]
    Stalled,
    /// The response body failed.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is not as long as its head says.
    #[error("the body is not as long as its content-length says")]
    Length,
    /// `h2` refused what we sent.
    #[error(transparent)]
    Protocol(#[from] h2::Error),
}

/// Answers one request.
pub(super) async fn exchange<H: Handle>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    watch: Arc<Watch>,
    conn: Arc<Conn>,
    serving: Arc<Serving<H>>,
) -> Result<(), Unsent> {
    let _active = conn.begin_exchange();
    let (parts, recv) = request.into_parts();
    let mut request = Request::from_parts(parts, ());
    let head_only = request.method() == Method::HEAD;
    let mut unread = None;
    // What may become another protocol's bytes: nothing of it is read before that.
    let mut tunnel = None;
    if let Some(protocol) = request.extensions().get::<ConnectProtocol>()
        && let Ok(protocol) = HeaderValue::from_str(protocol.as_str())
    {
        request.extensions_mut().insert(UpgradeRequested(protocol));
    }
    let connects = request.method() == Method::CONNECT;
    let response = match validate::request(&mut request, Protocol::H2, &serving.limits) {
        Ok(validated) => {
            validate::set_scheme(&mut request, conn.scheme());
            let (body, wanted) = if connects {
                tunnel = Some(recv);
                (RequestBody::empty(), None)
            } else if recv.is_end_stream() {
                (RequestBody::empty(), None)
            } else {
                let (body, wanted, rest) = WireBody::new(recv, validated.expects_continue);
                unread = Some(rest);
                let body = RequestBody::stream(Box::pin(body), validated.content_length);
                (body.paced(&serving.limits), wanted)
            };
            let request = request.map(|()| body);
            let mut response =
                handle(&conn, &serving, &watch, &mut respond, request, wanted).await?;
            if let Some(switch) = response.body_mut().take_switch()
                && let Some(recv) = tunnel.take()
            {
                let (mut head, body) = response.into_parts();
                validate::connection_fields(&mut head.headers);
                head.status = StatusCode::OK;
                let send = respond.send_response(Response::from_parts(head, ()), false)?;
                let socket = H2Socket::new(recv, send);
                let gone = socket.gone();
                // Boxed, as are the handler and the rest below: what a stream holds for hours is its body.
                let run = switch::run(switch, body, socket, gone, &conn, &serving.limits);
                Box::pin(run).await;
                return Ok(());
            }
            unread = unread.or(tunnel.map(|recv| {
                let (refused, rest) = oneshot::channel();
                let _received_below = refused.send(recv);
                rest
            }));
            response
        }
        Err(rejection) => {
            // RFC 9113 §8.1.1: a malformed request is a stream error, which a response may precede.
            let (parts, ()) = request.into_parts();
            let connects_nowhere =
                parts.method == Method::CONNECT && parts.uri.authority().is_none();
            let malformed = connects_nowhere || matches!(rejection, Rejection::BadRequest(_));
            let response = serving.handler.reject(&conn, &parts, rejection);
            if malformed {
                return refuse(&mut respond, response, head_only).await;
            }
            response
        }
    };
    let mut discarding = pin!(async {
        if let Some(unread) = unread {
            discard(unread).await;
        }
    });
    let mut respond = Respond::Asked(&mut respond);
    let mut sending = pin!(respond.send(response, head_only, &conn, &serving));
    let mut discarded = false;
    std::future::poll_fn(|cx| {
        // Meanwhile, because it holds the connection's window.
        discarded = discarded || discarding.as_mut().poll(cx).is_ready();
        sending.as_mut().poll(cx)
    })
    .await?;
    if !discarded {
        let _or_reset = tokio::time::timeout(DISCARD_TIMEOUT, discarding).await;
    }
    Ok(())
}

/// Throws away the rest of a request whose response is sent, so that its end, or what is wrong with
/// it, comes as it would have: dropped at once, the stream would be reset under a client that may
/// still be sending (RFC 9113 §8.1 allows that; some clients then lose the response).
async fn discard(unread: oneshot::Receiver<RecvStream>) {
    // The reader may keep the body for as long as it likes: then it is the one who reads on.
    let Ok(mut stream) = unread.await else { return };
    let mut left = DISCARD_BYTES;
    while let Some(Ok(data)) = stream.data().await {
        let bytes = data.len();
        let Some(rest) = left.checked_sub(bytes as u64) else { return };
        left = rest;
        let _ended = stream.flow_control().release_capacity(bytes);
    }
    let _ended = stream.trailers().await;
}

/// Sends a response of known length and resets the stream in place of ending it.
async fn refuse(
    respond: &mut SendResponse<Bytes>,
    response: Response<ResponseBody>,
    head_only: bool,
) -> Result<(), Unsent> {
    let (mut parts, mut body) = response.into_parts();
    if head_only {
        body = body.without_bytes();
    }
    validate::connection_fields(&mut parts.headers);
    parts.headers.entry(DATE).or_insert_with(date::now);
    let mut stream = respond.send_response(Response::from_parts(parts, ()), false)?;
    let mut body = pin!(body);
    let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.transpose()?;
    if let Some(Ok(data)) = frame.map(Frame::into_data) {
        stream.send_data(data, false)?;
    }
    // A reset discards what is queued: let it be sent first.
    tokio::task::yield_now().await;
    stream.send_reset(Reason::PROTOCOL_ERROR);
    Ok(())
}

/// Runs the handler for as long as the stream lives.
async fn handle<H: Handle>(
    conn: &Arc<Conn>,
    serving: &Serving<H>,
    watch: &Watch,
    respond: &mut SendResponse<Bytes>,
    request: Request<RequestBody>,
    mut body_wanted: Option<oneshot::Receiver<()>>,
) -> Result<Response<ResponseBody>, Unsent> {
    if let Some(response) = serving.handler.at_once(conn, &request) {
        return Ok(response);
    }
    let interim = Arc::new(watch.pushes.interim(&request));
    let mut handling = Box::pin(serving.handler.handle(conn, request, Arc::clone(&interim)));
    std::future::poll_fn(|cx| {
        let polled = handling.as_mut().poll(cx);
        loop {
            let hints = interim.poll_next(cx);
            while let Some(promise) = interim.next_promise() {
                watch.pushes.promise(respond, promise);
            }
            let Poll::Ready((status, fields)) = hints else { break };
            let mut head = Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = fields;
            respond.send_informational(head)?;
        }
        if let Poll::Ready(response) = polled {
            interim.close();
            return Poll::Ready(Ok(response));
        }
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Unsent::Gone));
        }
        if let Some(wanted) = &mut body_wanted
            && let Poll::Ready(wanted) = Pin::new(wanted).poll(cx)
        {
            body_wanted = None;
            if wanted.is_ok() {
                let mut interim = Response::new(());
                *interim.status_mut() = StatusCode::CONTINUE;
                respond.send_informational(interim)?;
            }
        }
        Poll::Pending
    })
    .await
}

/// Runs a handler unless `is_reset` says that the client wants no answer.
pub(super) async fn until_reset<T>(
    handling: impl Future<Output = T>,
    mut is_reset: impl FnMut(&mut Context<'_>) -> bool,
) -> Result<T, Unsent> {
    let mut handling = pin!(handling);
    std::future::poll_fn(|cx| match handling.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Ok(response)),
        Poll::Pending if is_reset(cx) => Poll::Ready(Err(Unsent::Gone)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Where a response goes: to a request of the client's, or to one that it was promised.
pub(super) enum Respond<'a> {
    Asked(&'a mut SendResponse<Bytes>),
    Promised(&'a mut SendPushedResponse<Bytes>),
}

impl Respond<'_> {
    fn head(&mut self, head: Response<()>, ended: bool) -> Result<SendStream<Bytes>, h2::Error> {
        match self {
            Self::Asked(respond) => respond.send_response(head, ended),
            Self::Promised(respond) => respond.send_response(head, ended),
        }
    }

    pub(super) async fn send<H>(
        &mut self,
        response: Response<ResponseBody>,
        head_only: bool,
        conn: &Conn,
        serving: &Serving<H>,
    ) -> Result<(), Unsent> {
        let (mut parts, mut body) = response.into_parts();
        let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        validate::connection_fields(&mut parts.headers);
        let declared = match parts.headers.get(CONTENT_LENGTH) {
            Some(value) => validate::parse_content_length(value),
            None if bodiless => None,
            None => {
                let exact = body.size_hint().exact().filter(|_| !body.is_end_stream());
                if let Some(length) = exact {
                    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                exact
            }
        };
        parts.headers.entry(DATE).or_insert_with(date::now);
        if let Some(alt_svc) = &serving.alt_svc
            && conn.tls.is_some()
        {
            parts.headers.entry(ALT_SVC).or_insert_with(|| alt_svc.clone());
        }
        if head_only || bodiless {
            body = body.without_bytes();
        }
        let ended = body.is_end_stream();
        let head = Response::from_parts(parts, ());
        if ended && (head_only || bodiless || declared.unwrap_or(0) == 0) {
            self.head(head, true)?;
            return Ok(());
        }
        let mut stream = self.head(head, false)?;
        let sent = send_body(&mut stream, body, declared, serving.limits.write_idle_timeout).await;
        if let Err(unsent) = &sent {
            let reason = match unsent {
                Unsent::Gone => return sent,
                Unsent::Stalled => Reason::CANCEL,
                Unsent::Body(_) | Unsent::Length | Unsent::Protocol(_) => Reason::INTERNAL_ERROR,
            };
            // A reset discards what is queued. Let the connection send the head and the data before the
            // fault first: the client should see how far it got.
            tokio::task::yield_now().await;
            stream.send_reset(reason);
        }
        sent
    }
}

async fn send_body(
    stream: &mut SendStream<Bytes>,
    body: ResponseBody,
    mut left: Option<u64>,
    stall: Duration,
) -> Result<(), Unsent> {
    let mut body = pin!(body);
    loop {
        let frame = std::future::poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending if stream.poll_reset(cx).is_ready() => Poll::Ready(Err(Unsent::Gone)),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let Some(frame) = frame.transpose()? else {
            complete(left)?;
            stream.send_data(Bytes::new(), true)?;
            return Ok(());
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                if let Some(left) = &mut left {
                    *left = left.checked_sub(data.len() as u64).ok_or(Unsent::Length)?;
                }
                let is_last = body.is_end_stream();
                if is_last {
                    complete(left)?;
                }
                send_data(stream, data, is_last, patience(&body, stall)).await?;
                if is_last {
                    return Ok(());
                }
                continue;
            }
            Err(frame) => frame,
        };
        if let Ok(mut trailers) = frame.into_trailers() {
            complete(left)?;
            validate::connection_fields(&mut trailers);
            stream.send_trailers(trailers)?;
            return Ok(());
        }
    }
}

/// How long the client may take nothing: until the stall limit or the response's own deadline.
fn patience(body: &ResponseBody, stall: Duration) -> Duration {
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
    body.deadline().map_or(stall, |deadline| stall.min(left(deadline)))
}

fn complete(left: Option<u64>) -> Result<(), Unsent> {
    if left.unwrap_or(0) == 0 { Ok(()) } else { Err(Unsent::Length) }
}

/// Sends one chunk in pieces that fit the window, so that `h2` never buffers more of a stream than
/// `max_send_buffer_size`. Nothing is copied.
async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
    stall: Duration,
) -> Result<(), Unsent> {
    loop {
        stream.reserve_capacity(data.len().min(SEND_PIECE));
        let mut capacity = stream.capacity();
        if capacity == 0 {
            let waiting = tokio::time::timeout(stall, wait_for_capacity(stream));
            capacity = waiting.await.map_err(|_| Unsent::Stalled)??;
        }
        if capacity >= data.len() {
            stream.send_data(data, is_last)?;
            return Ok(());
        }
        stream.send_data(data.split_to(capacity), false)?;
    }
}

async fn wait_for_capacity(stream: &mut SendStream<Bytes>) -> Result<usize, Unsent> {
    std::future::poll_fn(|cx| {
        loop {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(capacity)) => return Poll::Ready(Ok(capacity)),
                Some(Err(_)) | None => return Poll::Ready(Err(Unsent::Gone)),
            }
        }
    })
    .await
}

/// A request body as `h2` receives it. What the reader has not taken holds the sender's window.
struct WireBody {
    /// Taken only when the body is dropped.
    stream: Option<RecvStream>,
    /// Where the stream goes if it is dropped before its end.
    rest: Option<oneshot::Sender<RecvStream>>,
    data_ended: bool,
    /// Told when the body is read for the first time: then a client that waits for it gets its 100
    /// (RFC 9110 §10.1.1).
    on_first_read: Option<oneshot::Sender<()>>,
}

impl WireBody {
    /// The body, what tells of its first read, and what is left of it once it is dropped.
    fn new(
        stream: RecvStream,
        expects_continue: bool,
    ) -> (Self, Option<oneshot::Receiver<()>>, oneshot::Receiver<RecvStream>) {
        let (on_first_read, wanted) = expects_continue.then(oneshot::channel).unzip();
        let (rest, unread) = oneshot::channel();
        let body =
            Self { stream: Some(stream), rest: Some(rest), data_ended: false, on_first_read };
        (body, wanted, unread)
    }

    fn stream(&mut self) -> &mut RecvStream {
        self.stream.as_mut().expect("it is taken only by drop")
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<HeaderMap, BodyError>>> {
        self.stream().poll_trailers(cx).map(|trailers| trailers.map_err(|e| fault(&e)).transpose())
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(on_first_read) = this.on_first_read.take() {
            // The receiver is gone when the answer is already on its way.
            let _too_late = on_first_read.send(());
        }
        if !this.data_ended {
            match ready!(this.stream().poll_data(cx)) {
                Some(Ok(data)) => {
                    let released = this.stream().flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(
                        released.map(|()| Frame::data(data)).map_err(|e| fault(&e)),
                    ));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(fault(&error)))),
                None => this.data_ended = true,
            }
        }
        this.poll_trailers(cx).map(|trailers| trailers.map(|map| map.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

impl Drop for WireBody {
    fn drop(&mut self) {
        if let (Some(stream), Some(rest)) = (self.stream.take(), self.rest.take())
            && !stream.is_end_stream()
        {
            // Nobody takes it where the exchange is over: it is then reset.
            let _reset = rest.send(stream);
        }
    }
}

fn fault(error: &h2::Error) -> BodyError {
    if error.is_remote() || error.is_io() {
        return BodyError::Gone;
    }
    match error.reason() {
        Some(Reason::PROTOCOL_ERROR) => BodyError::Malformed("not allowed on an HTTP/2 stream"),
        _ => BodyError::Gone,
    }
}
