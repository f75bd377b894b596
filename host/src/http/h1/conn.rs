//! The connection: waits for a head, runs the exchange, closes.
//!
//! Each wait is one hand-written poll function over the connection's few sources of events (handler
//! or response body, socket both ways, slot of the request body, one timer), looked at in that
//! order. Nothing is spawned: dropping the connection's future ends everything.
//!
//! Long, because what a connection waits for next depends on all that it has: each poll function is read
//! beside the others.

use std::future::{Future, poll_fn, ready};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Version, response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};

use super::body::{Demand, slot};
use super::decode::Decoder;
use super::inbound::Inbound;
use super::output::{Output, sends_files};
use super::parse::{self, HeadScanner};
use super::respond::{Asked, Framing, Kept, write_head, write_interim, write_switch_head};
use super::timer::{DrainWatch, Timer};
use super::{LINGER_BYTES, LINGER_TIMEOUT, READ_AHEAD};
use crate::drain::Drain;
use crate::http::body::{BodyError, RequestBody, ResponseBody};
use crate::http::conn::{Conn, Persistence, Protocol};
use crate::http::interim::{Interim, copes_on_h1};
use crate::http::limits::{DISCARD_TIMEOUT, Limits};
use crate::http::rejection::Rejection;
use crate::http::switch::{self, ReadAhead, Switch};
use crate::http::{Handle, Serving, unread, validate};

/// Read onto the stack while a head is waited for, and kept by the size that came: an idle
/// connection owns no buffer, and a head no more than its bytes.
const HEAD_READ: usize = 8 * 1024;
/// Read at once of a body; more while the client keeps filling it.
const BODY_READ: usize = 8 * 1024;

/// Between a write to a client that has closed its sending side and the next probe of whether it is
/// still there: RFC 9112 §7.1 lets a chunk's size begin with zeros, and each such byte brings a reset
/// from a client that has closed its socket altogether, which the write after it meets. The first
/// pause is a local round trip, the others are for clients that are far away.
const PROBE_PAUSES: [Duration; 3] =
    [Duration::from_millis(25), Duration::from_secs(1), Duration::from_secs(5)];

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

struct Connection<'a, IO> {
    io: IO,
    conn: &'a Arc<Conn>,
    limits: &'a Limits,
    /// How long the next request is waited for; the last response may have said.
    idle_timeout: Duration,
    alt_svc: Option<&'a HeaderValue>,
    drain: DrainWatch<'a>,
    /// Since when the drain is known; where another process goes on serving, the client's next
    /// request is waited for.
    draining_since: Option<Instant>,
    patience: &'a Drain,
    timer: Timer,
    scanner: HeadScanner,
    /// Read and not yet used.
    input: BytesMut,
    /// The client has closed its sending side.
    end_of_input: bool,
    body_read: usize,
    output: Output,
    /// What the response that is being sent promises.
    switch: Option<Box<(Switch, ResponseBody)>>,
}

/// What ended the wait for a head.
enum Next {
    Head(Bytes),
    Refused(Rejection),
    Ended(Ending),
}

/// How the connection ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The client has, or may have, the whole response. `linger` where it may still be sending.
    Close { linger: bool },
    /// The stream leaves HTTP: the head that says so is out.
    Switch,
    /// It must not take what it got for whole; or it is not there.
    Abort(&'static str),
}

/// A request as the handler gets it, and what the connection remembers of it.
struct Prepared {
    request: Request<RequestBody>,
    asked: Asked,
    inbound: Option<Inbound>,
    interim: Arc<Interim>,
}

struct Exchange<F> {
    phase: Phase<F>,
    asked: Asked,
    inbound: Option<Inbound>,
    interim: Arc<Interim>,
    /// A half-closed client counts as gone then, unless a response has begun.
    gone_at: Option<Instant>,
    /// Probes since the last chunk, and when the next one is due.
    probes: usize,
    probe_at: Option<Instant>,
    /// What keeps the finished exchange open (a body that does not end, an unread request) ends
    /// then.
    patience: Option<Instant>,
}

enum Phase<F> {
    Handling(Pin<Box<F>>),
    Sending(ResponseBody, Framing),
    Sent,
}

/// Serves one HTTP/1 connection to its end. `read_ahead` was read while sniffing.
///
/// # Cancel safety
/// Dropping the future closes the connection and cancels its exchange.
pub async fn serve<H: Handle, IO>(io: IO, read_ahead: Bytes, conn: Arc<Conn>, serving: Serving<H>)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let draining = pin!(serving.drain.draining());
    let mut connection = Connection {
        io,
        conn: &conn,
        limits: &serving.limits,
        idle_timeout: serving.limits.idle_timeout,
        alt_svc: serving.alt_svc.as_ref().filter(|_| conn.tls.is_some()),
        drain: DrainWatch::new(draining),
        draining_since: None,
        patience: &serving.drain,
        timer: Timer::default(),
        scanner: HeadScanner::default(),
        input: BytesMut::from(read_ahead),
        end_of_input: false,
        body_read: BODY_READ,
        output: Output::default(),
        switch: None,
    };
    let ending = connection.run(&*serving.handler).await;
    connection.close(ending).await;
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<'_, IO> {
    async fn run<H: Handle>(&mut self, handler: &H) -> Ending {
        loop {
            let waiting_since = Instant::now();
            let mut head_since = (!self.input.is_empty()).then_some(waiting_since);
            let next = poll_fn(|cx| self.poll_head(cx, waiting_since, &mut head_since)).await;
            let (prepared, method) = match next {
                Next::Head(head) => self.prepare(&head),
                Next::Refused(rejection) => (Err(rejection), Method::GET),
                Next::Ended(ending) => return ending,
            };
            let ended = match prepared {
                Ok(prepared) => {
                    let _active = self.conn.begin_exchange();
                    let ended = self.begin(handler, prepared).await;
                    if let Some(Ending::Switch) = ended {
                        self.leave_http().await;
                    }
                    ended
                }
                Err(rejection) => {
                    tracing::debug!(conn = self.conn.id, reason = %rejection, "request refused");
                    let response = handler.reject(self.conn, &unread(), rejection);
                    let response = Box::pin(ready(response));
                    let none = Arc::new(Interim::new(false));
                    let exchange = self.exchange(response, Asked::unknown(&method), None, none);
                    match Box::pin(exchange).await {
                        // Whatever followed it is unread.
                        Some(Ending::Close { .. }) => Some(Ending::Close { linger: true }),
                        other => other,
                    }
                }
            };
            if let Some(ending) = ended {
                return ending;
            }
        }
    }

    /// Begins an exchange. Boxed, so that an idle connection does not carry the handler's state.
    fn begin<'a, H: Handle>(
        &'a mut self,
        handler: &'a H,
        prepared: Prepared,
    ) -> Pin<Box<dyn Future<Output = Option<Ending>> + Send + 'a>> {
        let Prepared { request, asked, inbound, interim } = prepared;
        if let Some(response) = handler.at_once(self.conn, &request) {
            return Box::pin(self.exchange(Box::pin(ready(response)), asked, inbound, interim));
        }
        let future = Box::pin(handler.handle(self.conn, request, Arc::clone(&interim)));
        Box::pin(self.exchange(future, asked, inbound, interim))
    }

    /// Hands the stream over to whoever speaks the other protocol, until that is done.
    async fn leave_http(&mut self) {
        let Some(promised) = self.switch.take() else { return };
        let (switch, body) = *promised;
        let ahead = std::mem::take(&mut self.input);
        self.output.release();
        // Boxed, so that connections that never switch do not carry its state.
        let socket = ReadAhead { ahead, io: &mut self.io };
        // A client that left looks as one that has only ended its side until something is written.
        let gone = std::future::pending();
        Box::pin(switch::run(switch, body, socket, gone, self.conn, self.limits)).await;
    }

    /// Waits for a request head, writing first what is still to be written.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        waiting_since: Instant,
        head_since: &mut Option<Instant>,
    ) -> Poll<Next> {
        loop {
            match self.scanner.take(&mut self.input, self.limits) {
                Ok(Some(head)) => return Poll::Ready(Next::Head(head)),
                Ok(None) => {}
                Err(rejection) => return Poll::Ready(Next::Refused(rejection)),
            }
            match self.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(why)) => return Poll::Ready(Next::Ended(Ending::Abort(why))),
                Poll::Pending => return Poll::Pending,
            }
            let leave_at = self.poll_leaving(cx);
            let idle = self.input.is_empty();
            if self.end_of_input || idle && leave_at.is_some_and(|at| Instant::now() >= at) {
                // What the client may be sending at this moment must not reset the connection.
                let linger = self.patience.is_handed_over();
                return Poll::Ready(Next::Ended(Ending::Close { linger }));
            }
            match self.poll_read_some(cx) {
                Poll::Ready(Ok(_)) => {
                    head_since.get_or_insert_with(Instant::now);
                    continue;
                }
                Poll::Ready(Err(_)) => {
                    return Poll::Ready(Next::Ended(Ending::Abort("the client reset it")));
                }
                Poll::Pending => {}
            }
            if idle {
                self.input = BytesMut::new();
                self.output.release();
            }
            let deadline = match *head_since {
                Some(since) if !idle => since + self.limits.header_timeout,
                _ => {
                    let idle_until = waiting_since + self.idle_timeout;
                    leave_at.map_or(idle_until, |at| at.min(idle_until))
                }
            };
            return self.timer.poll_at(cx, deadline).map(|()| {
                if idle {
                    Next::Ended(Ending::Close { linger: false })
                } else {
                    Next::Refused(Rejection::RequestTimeout)
                }
            });
        }
    }

    /// When the connection is to be closed if it is idle, because the server is leaving.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        if self.draining_since.is_none() && self.drain.poll(cx) {
            self.draining_since = Some(Instant::now());
        }
        Some(self.draining_since? + self.patience.patience())
    }

    /// Parses and validates a head, and attaches its body. The method is for the refusal.
    fn prepare(&mut self, head: &Bytes) -> (Result<Prepared, Rejection>, Method) {
        let mut request = match parse::request_head(head, self.limits) {
            Ok(request) => request,
            Err(rejection) => return (Err(rejection), Method::GET),
        };
        let method = request.method().clone();
        if request.version() == Version::HTTP_10
            && request.uri().authority().is_none()
            && !request.headers().contains_key(HOST)
        {
            // RFC 9112 §3.3: the address it came in on stands for the host that is not named.
            let local = self.conn.local.to_string();
            if let Ok(host) = HeaderValue::try_from(local) {
                request.headers_mut().insert(HOST, host);
            }
        }
        let validated = match validate::request(&mut request, Protocol::H1, self.limits) {
            Ok(validated) => validated,
            Err(rejection) => return (Err(rejection), method),
        };
        validate::set_scheme(&mut request, self.conn.scheme());
        let asked = Asked {
            version: request.version(),
            head: method == Method::HEAD,
            takes_trailers: validated.takes_trailers,
            persist: !validated.close,
        };
        let hints =
            asked.version == Version::HTTP_11 && copes_on_h1(request.headers().get(USER_AGENT));
        let interim = Arc::new(Interim::new(hints));
        let (body, inbound) = self.inbound(&validated);
        let request = request.map(|()| body);
        (Ok(Prepared { request, asked, inbound, interim }), method)
    }

    fn inbound(&mut self, validated: &validate::Validated) -> (RequestBody, Option<Inbound>) {
        let decoder = match validated.content_length {
            None if validated.chunked => Decoder::chunked(),
            None | Some(0) => return (RequestBody::empty(), None),
            Some(length) => match usize::try_from(length) {
                Ok(here) if here <= self.input.len() => {
                    return (RequestBody::full(parse::take_front(&mut self.input, here)), None);
                }
                _ => Decoder::length(length),
            },
        };
        let (feeder, reader) = slot();
        let body = RequestBody::stream(Box::pin(reader), validated.content_length);
        let inbound = Inbound {
            decoder,
            feeder,
            awaits_continue: validated.expects_continue && self.input.is_empty(),
            discarded: 0,
            abandoned: false,
        };
        (body.paced(self.limits), Some(inbound))
    }

    /// Runs one exchange to its end. `None` if the connection goes on.
    async fn exchange<F>(
        &mut self,
        future: Pin<Box<F>>,
        asked: Asked,
        inbound: Option<Inbound>,
        interim: Arc<Interim>,
    ) -> Option<Ending>
    where
        F: Future<Output = Response<ResponseBody>>,
    {
        let mut exchange = Exchange {
            phase: Phase::Handling(future),
            asked,
            inbound,
            interim,
            gone_at: None,
            probes: 0,
            probe_at: None,
            patience: None,
        };
        poll_fn(|cx| self.poll_exchange(cx, &mut exchange)).await
    }

    fn poll_exchange<F>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<F>,
    ) -> Poll<Option<Ending>>
    where
        F: Future<Output = Response<ResponseBody>>,
    {
        loop {
            // What the handler has for us.
            if let Err(why) = self.poll_handler(cx, exchange) {
                return Poll::Ready(Some(Ending::Abort(why)));
            }
            // Pipelined: the next request is here, and its response shares the write.
            if exchange.is_over() && !self.input.is_empty() && self.output.has_room() {
                return Poll::Ready(None);
            }
            // What the client has for the handler. Not asked for where the exchange is already
            // over: the next head's wait reads.
            if !exchange.is_over() {
                match self.pump(cx, exchange) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(why) => return Poll::Ready(Some(Ending::Abort(why))),
                }
            }
            // What we have for the client.
            let had_room = self.output.has_room();
            match self.poll_flush(cx) {
                Poll::Ready(Ok(())) if !had_room => continue,
                Poll::Ready(Ok(())) => {
                    if matches!(exchange.phase, Phase::Sent)
                        && let Some(over) = self.finish(cx, exchange)
                    {
                        return Poll::Ready(over);
                    }
                    if self.probe(exchange) {
                        continue;
                    }
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Some(Ending::Abort(why))),
                Poll::Pending => {}
            }
            match self.poll_deadlines(cx, exchange) {
                Poll::Ready(Some(ending)) => return Poll::Ready(Some(ending)),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    self.rest(exchange);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Gives back what a response does not need while it waits for its producer, perhaps for hours.
    fn rest<F>(&mut self, exchange: &Exchange<F>) {
        if matches!(exchange.phase, Phase::Sending(..)) && self.output.is_empty() {
            self.output.release();
            if self.input.is_empty() {
                // Empty, it still holds the memory of the head.
                self.input = BytesMut::new();
            }
        }
    }

    /// Polls the handler, then the response's body, for as long as the output has room.
    fn poll_handler<F>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<F>,
    ) -> Result<(), &'static str>
    where
        F: Future<Output = Response<ResponseBody>>,
    {
        if let Phase::Handling(future) = &mut exchange.phase {
            let polled = future.as_mut().poll(cx);
            while let Poll::Ready((status, fields)) = exchange.interim.poll_next(cx) {
                write_interim(self.output.head(), status, &fields);
            }
            let Poll::Ready(response) = polled else { return Ok(()) };
            exchange.interim.close();
            let (body, framing) = self.begin_response(cx, exchange, response);
            exchange.phase = Phase::Sending(body, framing);
        }
        let Phase::Sending(body, framing) = &mut exchange.phase else { return Ok(()) };
        const WRONG_LENGTH: &str = "the response is not as long as its head said";
        let sends_files = sends_files(&self.io);
        while self.output.has_room() {
            if sends_files
                && framing.takes_slices()
                && let Some(slice) = body.take_slice()
            {
                framing.slice(&mut self.output, slice).map_err(|_| WRONG_LENGTH)?;
                continue;
            }
            if !body.is_end_stream() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        framing.frame(&mut self.output, frame).map_err(|_| WRONG_LENGTH)?;
                        if self.end_of_input {
                            exchange.probes = 0;
                            exchange.probe_at = Some(Instant::now() + PROBE_PAUSES[0]);
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(_))) => return Err("the response failed"),
                    Poll::Ready(None) => {}
                    Poll::Pending => {
                        if *framing == Framing::Length(0) || *framing == Framing::Over {
                            // The client has all of it; a producer that does not say so gets a
                            // moment, because dropping it would count as a client that left.
                            exchange
                                .patience
                                .get_or_insert_with(|| Instant::now() + DISCARD_TIMEOUT);
                        }
                        return Ok(());
                    }
                }
            }
            framing.end(&mut self.output).map_err(|_| WRONG_LENGTH)?;
            exchange.patience = None;
            exchange.phase = Phase::Sent;
            return Ok(());
        }
        Ok(())
    }

    fn begin_response<F>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<F>,
        response: Response<ResponseBody>,
    ) -> (ResponseBody, Framing) {
        let (parts, mut body) = response.into_parts();
        if let Some(switch) = body.take_switch() {
            write_switch_head(self.output.head(), &parts, &switch.protocol);
            exchange.asked.persist = false;
            self.switch = Some(Box::new((switch, body)));
            return (ResponseBody::empty(), Framing::None);
        }
        let asked = &mut exchange.asked;
        if asked.persist && self.drain.poll(cx) {
            asked.persist = false;
        }
        if let Some(inbound) = &mut exchange.inbound {
            if inbound.demand(cx) == Demand::Gone {
                // The client has not begun to send what it announced (and may not begin), or sends
                // more than is worth throwing away.
                asked.persist &= !inbound.awaits_continue && inbound.is_worth_discarding();
            } else if std::mem::take(&mut inbound.awaits_continue) {
                // The body is still to be read, and 100 cannot follow the final head.
                self.output.head().extend_from_slice(CONTINUE);
            }
        }
        let size = body.size_hint();
        let kept = self.persist(&parts, asked);
        let framing =
            write_head(self.output.head(), &parts, &size, asked, kept.as_ref(), self.alt_svc);
        let body = if framing == Framing::None { body.without_bytes() } else { body };
        (body, framing)
    }

    /// What the response says about the connection's next request. Holds for the wait after it.
    fn persist(&mut self, parts: &response::Parts, asked: &mut Asked) -> Option<Kept> {
        self.idle_timeout = self.limits.idle_timeout;
        match *parts.extensions.get::<Persistence>()? {
            Persistence::Close => {
                asked.persist = false;
                None
            }
            Persistence::KeepAlive { timeout, max } => {
                // The request that is being answered counts: the last one closes.
                let before = self.conn.requests().saturating_sub(1);
                let left = max.map(|max| u64::from(max).saturating_sub(before));
                asked.persist &= left.is_none_or(|left| left > 1);
                let timeout = timeout.unwrap_or(self.limits.idle_timeout);
                self.idle_timeout = timeout;
                Some(Kept { timeout, left })
            }
        }
    }

    /// Decodes what has come, hands it to the reader and reads on, as far as both have room; without
    /// a body only watches for the client's leaving. True if the handler may have become ready by
    /// it.
    fn pump<F>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<F>,
    ) -> Result<bool, &'static str> {
        let mut fed = false;
        loop {
            let mut expecting = None;
            if let Some(inbound) = &mut exchange.inbound {
                fed |= inbound.feed(cx, &mut self.input, self.end_of_input, self.limits);
                if inbound.awaits_continue && inbound.demand(cx) == (Demand::Room { asked: true }) {
                    inbound.awaits_continue = false;
                    if matches!(exchange.phase, Phase::Handling(_)) {
                        self.output.head().extend_from_slice(CONTINUE);
                    }
                }
                if inbound.decoder.is_failed() {
                    return Ok(fed);
                }
                expecting = (!inbound.decoder.is_done()).then(|| inbound.decoder.remaining());
            }
            if self.end_of_input {
                if matches!(exchange.phase, Phase::Handling(_)) {
                    let grace = self.limits.half_close_grace;
                    exchange.gone_at.get_or_insert_with(|| Instant::now() + grace);
                }
                return Ok(fed);
            }
            if self.input.len() >= READ_AHEAD {
                return Ok(fed);
            }
            let read = match expecting {
                Some(remaining) => self.poll_read_body(cx, remaining),
                None => self.poll_read_some(cx),
            };
            match read {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err("the client reset it"),
                Poll::Pending => return Ok(fed),
            }
        }
    }

    /// Queues a probe where the client has closed its sending side, nothing else is to be written and
    /// one is due: a client that is merely half-closed gets a chunk size with a zero before it.
    /// Responses by length or until the close have no room for one.
    fn probe<F>(&mut self, exchange: &mut Exchange<F>) -> bool {
        let Some(due) = exchange.probe_due(self.end_of_input) else { return false };
        let now = Instant::now();
        if now < due {
            return false;
        }
        exchange.probe_at = PROBE_PAUSES.get(exchange.probes).map(|pause| now + *pause);
        exchange.probes += 1;
        self.output.head().push(b'0');
        true
    }

    /// The response is out. What holds for the connection, or `None` while the rest of the request
    /// is worth waiting for.
    fn finish<F>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<F>,
    ) -> Option<Option<Ending>> {
        if self.switch.is_some() {
            return Some(Some(Ending::Switch));
        }
        let unread = exchange.inbound.as_mut().filter(|inbound| !inbound.decoder.is_done());
        if !exchange.asked.persist {
            let linger = unread.is_some() || !self.input.is_empty();
            return Some(Some(Ending::Close { linger }));
        }
        let Some(inbound) = unread else { return Some(None) };
        if !inbound.abandoned {
            inbound.abandoned = true;
            inbound.feeder.end(cx, Err(BodyError::Gone));
            exchange.patience = Some(Instant::now() + DISCARD_TIMEOUT);
            // Comes back here with what is there already, and with the socket's waker set.
            cx.waker().wake_by_ref();
        }
        let hopeless = self.end_of_input || inbound.awaits_continue || inbound.decoder.is_failed();
        if hopeless || !inbound.is_worth_discarding() {
            return Some(Some(Ending::Close { linger: true }));
        }
        None
    }

    /// Ready when a deadline of the exchange has passed: with an ending, or with `None` if it is to
    /// be looked at again.
    fn poll_deadlines<F>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<F>,
    ) -> Poll<Option<Ending>> {
        let stalled = self.output.stalled().map(|since| since + self.limits.write_idle_timeout);
        let gone = exchange.gone_at.filter(|_| matches!(exchange.phase, Phase::Handling(_)));
        let patience = exchange.patience.filter(|_| stalled.is_none());
        let set = match &exchange.phase {
            Phase::Sending(body, _) => body.deadline(),
            _ => None,
        };
        let probe = exchange.probe_due(self.end_of_input).filter(|_| stalled.is_none());
        let deadlines = [stalled, gone, patience, set, probe];
        let Some(deadline) = deadlines.into_iter().flatten().min() else {
            return Poll::Pending;
        };
        ready!(self.timer.poll_at(cx, deadline));
        Poll::Ready(if set == Some(deadline) {
            Some(Ending::Abort("the write deadline has passed"))
        } else if stalled == Some(deadline) {
            Some(Ending::Abort("the client takes nothing"))
        } else if gone == Some(deadline) {
            Some(Ending::Abort("the client left"))
        } else if probe == Some(deadline) {
            None
        } else if matches!(exchange.phase, Phase::Sending(..)) {
            exchange.patience = None;
            exchange.phase = Phase::Sent;
            None
        } else {
            Some(Ending::Close { linger: true })
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        match self.output.poll_flush(cx, &mut self.io) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err("the client takes no more")),
            Poll::Pending => {
                let Some(since) = self.output.stalled() else { return Poll::Pending };
                let deadline = since + self.limits.write_idle_timeout;
                self.timer.poll_at(cx, deadline).map(|()| Err("the client takes nothing"))
            }
        }
    }

    /// Reads what there is, up to a head's worth.
    fn poll_read_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut storage = [const { MaybeUninit::uninit() }; HEAD_READ];
        let mut buffer = ReadBuf::uninit(&mut storage);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled();
        self.input.extend_from_slice(filled);
        self.end_of_input = filled.is_empty();
        Poll::Ready(Ok(filled.len()))
    }

    /// Reads body bytes into memory that the reader will own.
    fn poll_read_body(&mut self, cx: &mut Context<'_>, remaining: u64) -> Poll<io::Result<usize>> {
        let room = READ_AHEAD - self.input.len();
        // A little more than is known to come: the next chunk's size, the next head.
        let known = usize::try_from(remaining).unwrap_or(usize::MAX).saturating_add(64);
        let size = self.body_read.min(room).min(known.max(1024));
        self.input.reserve(size);
        let mut limited = (&mut self.input).limit(size);
        let read = ready!(pin!(self.io.read_buf(&mut limited)).poll(cx))?;
        if read == self.body_read {
            self.body_read = (self.body_read * 2).min(READ_AHEAD);
        } else if read < self.body_read / 4 {
            self.body_read = BODY_READ;
        }
        self.end_of_input = read == 0;
        Poll::Ready(Ok(read))
    }

    async fn close(&mut self, ending: Ending) {
        let linger = match ending {
            Ending::Close { linger } => linger && !self.end_of_input,
            // Its owner has shut it down, or meant to break it off.
            Ending::Switch => return,
            Ending::Abort(why) => {
                tracing::debug!(conn = self.conn.id, why, "connection aborted");
                // What is valid of a broken response may still leave, if it can at once.
                poll_fn(|cx| {
                    let _best_effort = self.output.poll_flush(cx, &mut self.io);
                    Poll::Ready(())
                })
                .await;
                return;
            }
        };
        let shut_down = poll_fn(|cx| {
            ready!(self.output.poll_flush(cx, &mut self.io))?;
            Pin::new(&mut self.io).poll_shutdown(cx)
        });
        let shut_down = timeout(self.limits.write_idle_timeout, shut_down).await;
        if linger && matches!(shut_down, Ok(Ok(()))) {
            let _done_or_not = timeout(LINGER_TIMEOUT, self.discard_rest()).await;
        }
    }

    async fn discard_rest(&mut self) {
        let mut discarded = 0;
        while discarded < LINGER_BYTES {
            self.input.clear();
            match poll_fn(|cx| self.poll_read_some(cx)).await {
                Ok(0) | Err(_) => return,
                Ok(read) => discarded += read,
            }
        }
    }
}

impl<F> Exchange<F> {
    /// When the next probe is due, if one is: at once when the client's side has just ended.
    fn probe_due(&self, end_of_input: bool) -> Option<Instant> {
        let chunked = matches!(self.phase, Phase::Sending(_, Framing::Chunked { .. }));
        if !end_of_input || !chunked || self.probes > PROBE_PAUSES.len() {
            return None;
        }
        Some(self.probe_at.unwrap_or_else(Instant::now))
    }

    /// The response is queued, the request read, and the connection may go on.
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Sent)
            && self.asked.persist
            && self.inbound.as_ref().is_none_or(|inbound| inbound.decoder.is_done())
    }
}
