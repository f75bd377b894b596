//! One exchange: a request stream from its first byte to its last (RFC 9114 §4.1).
//!
//! A malformed request is reset with H3_MESSAGE_ERROR and never reaches the handler; one that is
//! only refused gets its response. The handler and the response body are dropped the moment the
//! client resets the stream, stops reading or is gone, which cancels the plugin. A response that
//! breaks off is reset: only a whole one ends with FIN.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use quinn::{RecvStream, SendStream, WriteError};
use tokio::time::{Instant, timeout};

use super::code::{Code, Fault};
use super::conn::Shared;
use super::frame::{DATA, Event, FrameReader, put_frame_head};
use super::inbound::Inbound;
use super::message::{self, MessageError};
use super::socket::H3Socket;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::conn::{EarlyData, Protocol};
use crate::http::interim::Interim;
use crate::http::limits::Limits;
use crate::http::rejection::Rejection;
use crate::http::switch;
use crate::http::validate::{self, UpgradeRequested, Validated};
use crate::http::{Handle, unread};

/// While draining, how long the client's acknowledgement of a whole response is awaited: closing the
/// connection before it could lose the response's last packets.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one request stream to its end.
pub(super) async fn serve<H: Handle>(shared: &Arc<Shared<H>>, send: SendStream, recv: RecvStream) {
    let mut out = Outgoing { send, finished: false };
    let ended = exchange(shared, &mut out, recv).await;
    match ended {
        Ok(()) if shared.serving.drain.is_draining() => {
            let _acknowledged = timeout(ACK_TIMEOUT, out.send.stopped()).await;
        }
        Ok(()) => {}
        Err(Fault::Connection(code, reason)) => shared.close(code, reason),
        Err(Fault::Stream(code, reason)) => {
            tracing::debug!(conn = shared.conn.id, reason, "request stream reset");
            out.reset(code);
        }
        Err(Fault::Gone) => {
            out.reset(Code::REQUEST_CANCELLED);
            shared.count_cancelled();
        }
    }
}

/// Our half of the stream.
pub(super) struct Outgoing {
    pub(super) send: SendStream,
    pub(super) finished: bool,
}

impl Outgoing {
    fn reset(&mut self, code: Code) {
        self.finished = true;
        // An error means that the stream is over already.
        let _over = self.send.reset(code.into());
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.finished = true;
        self.send.finish().map_err(|_| Fault::Gone)
    }

    /// Writes all of `chunks`, without copying them.
    async fn write(&mut self, chunks: &mut [Bytes], limits: &Limits) -> Result<(), Fault> {
        self.write_until(chunks, limits, None).await
    }

    /// The same, within the response's own deadline.
    async fn write_until(
        &mut self,
        mut chunks: &mut [Bytes],
        limits: &Limits,
        deadline: Option<Instant>,
    ) -> Result<(), Fault> {
        while !chunks.is_empty() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let patience = limits.write_idle_timeout.min(left.unwrap_or(Duration::MAX));
            match timeout(patience, self.send.write_chunks(chunks)).await {
                Ok(Ok(written)) => chunks = &mut chunks[written.chunks..],
                Ok(Err(WriteError::Stopped(_) | WriteError::ConnectionLost(_))) => {
                    return Err(Fault::Gone);
                }
                Ok(Err(_)) => return Err(Fault::Stream(Code::INTERNAL_ERROR, "stream closed")),
                Err(_) => {
                    return Err(Fault::Stream(
                        Code::REQUEST_CANCELLED,
                        "the client takes nothing of the response",
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // quinn ends a dropped stream with FIN: a response cut off by the drain, or by a panic,
        // would look whole.
        if !self.finished {
            self.reset(Code::INTERNAL_ERROR);
        }
    }
}

/// What quinn tells of our half of a stream; `None`: the client has all of it.
type Stopped = Result<Option<quinn::VarInt>, quinn::StoppedError>;

/// Watches the client while something else is waited for.
struct Watch<S> {
    inbound: Option<Arc<Inbound>>,
    stopped: S,
}

impl<S: Future + Unpin> Watch<S> {
    /// Ready once the exchange cannot go on.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Some(inbound) = &self.inbound
            && let Poll::Ready(fault) = inbound.poll_fault(cx)
        {
            return Poll::Ready(fault);
        }
        Pin::new(&mut self.stopped).poll(cx).map(|_| Fault::Gone)
    }

    /// Whether it is known by now that the exchange cannot go on.
    fn check(&self) -> Result<(), Fault> {
        self.inbound.as_ref().map_or(Ok(()), |inbound| inbound.check())
    }

    fn poll_body_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inbound.as_ref().map_or(Poll::Pending, |inbound| inbound.poll_wanted(cx))
    }

    /// Waits for `work`, or for the client to end the exchange first.
    ///
    /// # Cancel safety
    /// `work` is polled first and kept by the caller.
    async fn or<T>(
        &mut self,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Fault> {
        poll_fn(|cx| match work(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_fault(cx).map(Err),
        })
        .await
    }
}

async fn exchange<H: Handle>(
    shared: &Arc<Shared<H>>,
    out: &mut Outgoing,
    recv: RecvStream,
) -> Result<(), Fault> {
    let limits = &shared.serving.limits;
    // As it was when the stream was accepted: the handshake may have ended since, and what it then
    // says of a request is merely too careful.
    let is_early = recv.is_0rtt();
    let mut frames = FrameReader::new(recv, limits.header_bytes);
    let Received { mut request, validated, mut ahead, over } =
        match receive(&mut frames, limits).await {
            Ok(Ok(received)) => received,
            Ok(Err(rejection)) => {
                let mut watch = Watch { inbound: None, stopped: pin!(out.send.stopped()) };
                let response = shared.serving.handler.reject(&shared.conn, &unread(), rejection);
                respond(out, &mut watch, &Method::GET, response, limits).await?;
                // RFC 9114 §4.1: after the whole response, the rest of the request is not needed.
                frames.stop(Code::NO_ERROR);
                return Ok(());
            }
            Err(fault) => {
                if let Fault::Stream(code, _) = fault {
                    frames.stop(code);
                }
                return Err(fault);
            }
        };

    // What may become another protocol's bytes is nobody's body.
    let connects = request.extensions().get::<UpgradeRequested>().is_some();
    let is_whole = !connects && over && !ahead.iter().any(|event| !matches!(event, Event::Data(_)));
    let (inbound, body) = if is_whole {
        let body = match ahead.pop_front() {
            Some(Event::Data(data)) => RequestBody::full(data),
            _ => RequestBody::empty(),
        };
        (None, body)
    } else {
        let inbound = Inbound::new(frames, ahead, validated.content_length, Arc::clone(limits));
        let body = if connects {
            RequestBody::empty()
        } else {
            RequestBody::stream(Box::pin(inbound.body()), validated.content_length).paced(limits)
        };
        (Some(inbound), body)
    };
    validate::set_scheme(&mut request, shared.conn.scheme());
    if is_early {
        request.extensions_mut().insert(EarlyData);
    }
    // What is here already needs no 100 (RFC 9110 §10.1.1).
    let wants_continue = validated.expects_continue && inbound.is_some();
    let mut watch = Watch { inbound: inbound.clone(), stopped: pin!(out.send.stopped()) };
    let outcome = answer(shared, out, &mut watch, request.map(|()| body), wants_continue).await;
    if let Some(inbound) = inbound {
        inbound.stop(match outcome {
            Err(Fault::Stream(code, _)) => code,
            _ => Code::NO_ERROR,
        });
    }
    outcome
}

/// A request as far as it is here when the handler is called.
struct Received {
    request: Request<()>,
    validated: Validated,
    /// What came along.
    ahead: VecDeque<Event>,
    /// The client has said all.
    over: bool,
}

/// Reads the head, and what little follows at once: most requests are whole by then, and need
/// neither a streamed body nor anybody to watch for its end.
async fn receive(
    frames: &mut FrameReader,
    limits: &Limits,
) -> Result<Result<Received, Rejection>, Fault> {
    let too_large = Rejection::FieldsTooLarge { limit: limits.header_bytes, count: limits.headers };
    let head = match timeout(limits.header_timeout, poll_fn(|cx| frames.poll_event(cx))).await {
        Err(_) => return Ok(Err(Rejection::RequestTimeout)),
        Ok(Err(fault)) => return Err(fault),
        Ok(Ok(Event::Headers(section))) => section,
        Ok(Ok(Event::HeadersTooLarge)) => return Ok(Err(too_large)),
        Ok(Ok(Event::Data(_) | Event::End)) => {
            return Err(Fault::Stream(Code::REQUEST_INCOMPLETE, "no request on the stream"));
        }
    };
    let mut request = match message::request(head, limits) {
        Ok(request) => request,
        Err(MessageError::TooLarge) => return Ok(Err(too_large)),
        Err(error) => return Err(error.into()),
    };
    let validated = match validate::request(&mut request, Protocol::H3, limits) {
        Ok(validated) => validated,
        // RFC 9114 §4.1.2: a malformed request, like those that never became one.
        Err(Rejection::BadRequest(_)) => {
            return Err(Fault::Stream(Code::MESSAGE_ERROR, "refused by the validator"));
        }
        Err(rejection) => return Ok(Err(rejection)),
    };
    let content_length = validated.content_length;

    let mut ahead = VecDeque::new();
    let mut over = false;
    let mut here = 0;
    // Two: the data of a small body, and its end.
    while ahead.len() < 2 && !over {
        match poll_fn(|cx| Poll::Ready(frames.poll_event(cx))).await {
            Poll::Pending => break,
            Poll::Ready(Err(fault)) => return Err(fault),
            Poll::Ready(Ok(Event::End)) => over = true,
            Poll::Ready(Ok(event)) => {
                if let Event::Data(data) = &event {
                    here += data.len() as u64;
                }
                ahead.push_back(event);
            }
        }
    }
    if content_length.is_some_and(|length| here > length || over && here < length) {
        return Err(Fault::Stream(Code::MESSAGE_ERROR, "content-length does not match the data"));
    }
    Ok(Ok(Received { request, validated, ahead, over }))
}

/// Calls the handler and sends what it answers.
async fn answer<H: Handle, S: Future<Output = Stopped> + Unpin>(
    shared: &Arc<Shared<H>>,
    out: &mut Outgoing,
    watch: &mut Watch<S>,
    request: Request<RequestBody>,
    wants_continue: bool,
) -> Result<(), Fault> {
    let limits = &shared.serving.limits;
    let _active = shared.conn.begin_exchange();
    let method = request.method().clone();
    let mut response = match shared.serving.handler.at_once(&shared.conn, &request) {
        Some(response) => response,
        None => handled(shared, out, watch, request, wants_continue).await?,
    };
    if let Some(switch) = response.body_mut().take_switch()
        && let Some(inbound) = &watch.inbound
    {
        let (mut parts, body) = response.into_parts();
        parts.status = StatusCode::OK;
        let mut head = BytesMut::new();
        message::put_head(&Response::from_parts(parts, ()), &mut head);
        out.write(&mut [head.freeze()], limits).await?;
        let socket = H3Socket::new(out, inbound.body());
        let gone = async {
            if let Ok(None) = (&mut watch.stopped).await {
                // Our side has ended, and the client has all of it.
                std::future::pending().await
            }
        };
        switch::run(switch, body, socket, gone, &shared.conn, limits).await;
        if !out.finished {
            // RFC 9114 §4.4: what a reset of TCP would be.
            out.reset(Code::REQUEST_CANCELLED);
        }
        return Ok(());
    }
    if response.status().is_informational() {
        return Err(Fault::Stream(Code::INTERNAL_ERROR, "the handler gave no final response"));
    }
    respond(out, watch, &method, response, limits).await
}

/// Runs the handler, and sends on the way what goes ahead of its answer.
async fn handled<H: Handle, S: Future<Output = Stopped> + Unpin>(
    shared: &Arc<Shared<H>>,
    out: &mut Outgoing,
    watch: &mut Watch<S>,
    request: Request<RequestBody>,
    mut wants_continue: bool,
) -> Result<Response<ResponseBody>, Fault> {
    let limits = &shared.serving.limits;
    let interim = Arc::new(Interim::new(true));
    let handler = &shared.serving.handler;
    let mut handling = pin!(handler.handle(&shared.conn, request, Arc::clone(&interim)));
    loop {
        // Cancel safety: the handler is pinned outside; the rest is polled anew.
        let next = poll_fn(|cx| match handling.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(Next::Final(response))),
            Poll::Pending => {
                if let Poll::Ready(head) = interim.poll_next(cx) {
                    return Poll::Ready(Ok(Next::Interim(head)));
                }
                if wants_continue && watch.poll_body_wanted(cx).is_ready() {
                    return Poll::Ready(Ok(Next::Continue));
                }
                watch.poll_fault(cx).map(Err)
            }
        });
        match next.await? {
            Next::Final(response) => {
                interim.close();
                // Queued in the same turn as the answer.
                while let Poll::Ready(head) = poll_fn(|cx| Poll::Ready(interim.poll_next(cx))).await
                {
                    ahead(out, &head, limits).await?;
                }
                // A handler that met a malformed body may have an answer all the same.
                watch.check()?;
                return Ok(response);
            }
            Next::Interim(head) => ahead(out, &head, limits).await?,
            // RFC 9110 §10.1.1: only now is it known that the body is wanted.
            Next::Continue => {
                wants_continue = false;
                let mut head = BytesMut::new();
                message::put_interim(StatusCode::CONTINUE, &HeaderMap::new(), &mut head);
                out.write(&mut [head.freeze()], limits).await?;
            }
        }
    }
}

async fn ahead(
    out: &mut Outgoing,
    (status, fields): &(StatusCode, HeaderMap),
    limits: &Limits,
) -> Result<(), Fault> {
    let mut head = BytesMut::new();
    message::put_interim(*status, fields, &mut head);
    out.write(&mut [head.freeze()], limits).await
}

enum Next {
    /// A head ahead of the final one.
    Interim((StatusCode, HeaderMap)),
    /// The body is being read by a handler whose client waits for that.
    Continue,
    /// The handler has answered.
    Final(Response<ResponseBody>),
}

/// Sends a response to its end.
async fn respond<S: Future + Unpin>(
    out: &mut Outgoing,
    watch: &mut Watch<S>,
    method: &Method,
    response: Response<ResponseBody>,
    limits: &Limits,
) -> Result<(), Fault> {
    let (parts, mut body) = response.into_parts();
    let mut response = Response::from_parts(parts, ());
    let is_head = method == Method::HEAD;
    message::complete(&mut response, is_head, body.size_hint().exact());
    if is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        body = body.without_bytes();
    } else if let Some(length) = message::declared_length(response.headers()) {
        return send(out, watch, &response, body, Some(length), limits).await;
    }
    send(out, watch, &response, body, None, limits).await
}

/// Sends head and body; `left` is what `content-length` promises.
async fn send<S: Future + Unpin>(
    out: &mut Outgoing,
    watch: &mut Watch<S>,
    head: &Response<()>,
    body: ResponseBody,
    mut left: Option<u64>,
    limits: &Limits,
) -> Result<(), Fault> {
    let broken = |reason| Fault::Stream(Code::INTERNAL_ERROR, reason);
    let mut body = pin!(body);
    // Frame heads that go out with the next payload: a small response is one write, one packet.
    let mut pending = BytesMut::with_capacity(512);
    message::put_head(head, &mut pending);
    loop {
        let mut next = poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await;
        if next.is_pending() {
            if !pending.is_empty() {
                out.write(&mut [pending.split().freeze()], limits).await?;
            }
            next = Poll::Ready(watch.or(|cx| body.as_mut().poll_frame(cx)).await?);
        }
        let frame = match next {
            Poll::Ready(Some(Ok(frame))) => Some(frame),
            Poll::Ready(Some(Err(_))) => return Err(broken("the response body failed")),
            Poll::Ready(None) | Poll::Pending => None,
        };
        let mut is_last = frame.is_none();
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                if let Some(left) = &mut left {
                    *left = left
                        .checked_sub(data.len() as u64)
                        .ok_or(broken("the response is longer than its content-length"))?;
                }
                put_frame_head(&mut pending, DATA, data.len());
                is_last = body.is_end_stream();
                if is_last && left.is_some_and(|left| left > 0) {
                    return Err(broken(SHORT));
                }
                let deadline = body.deadline();
                out.write_until(&mut [pending.split().freeze(), data], limits, deadline).await?;
            }
            Some(Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    message::put_trailers(&trailers, &mut pending);
                    is_last = true;
                }
            }
            None => {}
        }
        if is_last {
            // A request that turned out to be malformed gets no whole response.
            watch.check()?;
            if left.is_some_and(|left| left > 0) {
                return Err(broken(SHORT));
            }
            if !pending.is_empty() {
                out.write(&mut [pending.split().freeze()], limits).await?;
            }
            return out.finish();
        }
    }
}

const SHORT: &str = "the response is shorter than its content-length";
