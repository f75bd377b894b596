//! One WebSocket: speaks the protocol on a stream that has left HTTP, until it is over.
//!
//! One hand-written poll function over what may happen (the listener is done, bytes come, bytes can go,
//! something is to be sent, one timer), in the task of its connection or stream. It keeps every
//! deadline itself. Whatever ends it, its [`Ending`] tells the listener, once and after all messages.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::close::{self, Violation};
use super::frame::Opcode;
use super::handshake::Deflate;
use super::message::{Decoder, Item, Step};
use super::outbound::Output;
use super::rate::Bucket;
use super::sockets::{Open, Taken};
use super::{CLOSE_TIMEOUT, Fault, Fed, Feed, Handle};
use crate::http::body::BodyError;
use crate::http::limits::{BODY_MIN_RATE, Limits};
use crate::http::switch::{Owner, Socket, SwitchEnd};

/// Read at once, onto the stack.
const READ: usize = 16 * 1024;
/// Control frames that a client may send each second over time, and at once; past it, it is not read.
const CONTROL_RATE: (u32, u32) = (200, 1000);
/// Answers to pings that wait while the client takes nothing; past it, it is not read.
const MAX_CONTROL_BYTES: usize = 4 * 1024;
/// How long the answer to a message may take that came before what the client did wrong: it is sent
/// before our Close, where it comes in time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// What is read and thrown away of a client that sends on after the end.
const LINGER_BYTES: usize = 1 << 20;

/// How a socket behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of a message.
    pub max_message: usize,
    /// After so long without a byte it is given up.
    pub idle_timeout: Duration,
    /// After so long without a byte a ping is sent.
    pub ping_interval: Option<Duration>,
    /// Messages a second over time, and at once.
    pub rate: Option<(u32, u32)>,
    /// permessage-deflate.
    pub deflate: Option<Deflate>,
}

/// A socket that is about to begin: the owner of its stream.
pub struct Accepted {
    /// Keeps it found.
    pub open: Open,
    /// How it behaves.
    pub settings: Settings,
    /// What topics bring.
    pub feed: Option<Box<dyn Feed>>,
    /// What happens when it begins,
    pub opening: Option<BoxFuture<'static, ()>>,
    /// and when it has ended.
    pub closing: Option<BoxFuture<'static, ()>>,
}

impl Accepted {
    /// The plugin has answered with it: from now on it ends with a call of the listener.
    pub fn promised(self) -> Promised {
        let Self { open, settings, feed, opening, closing } = self;
        let ending = Ending {
            open: Some(open),
            call: None,
            closing,
            code: close::ABNORMAL,
            reason: String::new(),
        };
        Promised { ending, settings, feed, opening }
    }
}

/// A socket whose handshake is being sent.
pub struct Promised {
    ending: Ending,
    settings: Settings,
    feed: Option<Box<dyn Feed>>,
    opening: Option<BoxFuture<'static, ()>>,
}

impl Owner for Promised {
    fn run<'s>(
        self: Box<Self>,
        socket: Box<dyn Socket + 's>,
        limits: &'s Limits,
    ) -> BoxFuture<'s, SwitchEnd> {
        let Self { ending, settings, feed, opening } = *self;
        if let (Some(opening), Some(open)) = (opening, &ending.open) {
            open.sockets.drain().spawn(opening);
        }
        let Some(handle) = ending.open.as_ref().map(|open| Arc::clone(&open.handle)) else {
            return Box::pin(std::future::ready(Ok(())));
        };
        Box::pin(Engine::new(socket, handle, ending, settings, feed, limits.write_idle_timeout))
    }

    fn keeps_time(&self) -> bool {
        true
    }
}

/// Tells the listener that a socket has ended, when it is dropped.
struct Ending {
    open: Option<Open>,
    /// What the listener is doing: the end comes after that.
    call: Option<BoxFuture<'static, Result<(), Fault>>>,
    closing: Option<BoxFuture<'static, ()>>,
    code: u16,
    reason: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.handle.end();
        open.handle.counts().closed(self.code);
        let (code, reason) = (self.code, std::mem::take(&mut self.reason));
        let (call, closing) = (self.call.take(), self.closing.take());
        // No runtime: the process is ending, and the plugins with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        open.sockets.drain().clone().spawn_on(&runtime, async move {
            if let Some(call) = call {
                let _told_already = call.await;
            }
            let Open { sockets, handle, .. } = &open;
            if let Some(closing) = closing {
                closing.await;
            }
            // An error is that of a semaphore which is closed; this one never is.
            let _turn = handle.home().closing.acquire().await;
            sockets.listener().closed(handle, code, reason).await;
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our Close comes after what is queued.
    Emptying,
    /// The client is read no more. Our Close comes after what is queued and what the listener still
    /// answers, if it does before `until`.
    Failing {
        until: Instant,
    },
    /// Our Close is out; the client's is waited for.
    Closing {
        until: Instant,
    },
    /// Nothing more is said. The client is to close the stream.
    Leaving {
        until: Instant,
        shut: bool,
        discarded: usize,
    },
    Over {
        clean: bool,
    },
}

struct Engine<'s> {
    socket: Box<dyn Socket + 's>,
    handle: Arc<Handle>,
    ending: Ending,
    feed: Option<Box<dyn Feed>>,
    decoder: Decoder,
    /// Read and not decoded.
    ahead: Vec<u8>,
    output: Output,
    phase: Phase,
    /// What our Close will say.
    saying: Option<Box<(u16, Box<str>)>>,
    settings: Settings,
    write_idle_timeout: Duration,
    messages: Option<Bucket>,
    controls: Bucket,
    /// The client has sent more than it may: it is read again then.
    resume_at: Option<Instant>,
    /// The next message waits until the listener is done with the one before.
    held: bool,
    /// Others should get their turn.
    turn: bool,
    /// The client was not read; what it may have sent is not known.
    was_paused: bool,
    heard: Instant,
    pinged: Option<Instant>,
    /// Since when a message or a frame is not all here, and bytes of it.
    midway: Option<(Instant, u64)>,
    /// Since when the client takes nothing of what is there for it.
    blocked: Option<Instant>,
    /// The server leaves.
    leave_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'s> Engine<'s> {
    fn new(
        socket: Box<dyn Socket + 's>,
        handle: Arc<Handle>,
        ending: Ending,
        settings: Settings,
        feed: Option<Box<dyn Feed>>,
        write_idle_timeout: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            socket,
            handle,
            ending,
            feed,
            decoder: Decoder::new(settings.max_message, settings.deflate.is_some()),
            ahead: Vec::new(),
            output: Output::default(),
            phase: Phase::Open,
            saying: None,
            settings,
            write_idle_timeout,
            messages: settings.rate.map(|(rate, burst)| Bucket::new(rate, burst, now)),
            controls: Bucket::new(CONTROL_RATE.0, CONTROL_RATE.1, now),
            resume_at: None,
            held: false,
            turn: false,
            was_paused: false,
            heard: now,
            pinged: None,
            midway: None,
            blocked: None,
            leave_at: None,
            timer: None,
        }
    }

    fn poll_listener(&mut self, cx: &mut Context<'_>) {
        let Some(call) = &mut self.ending.call else { return };
        let Poll::Ready(took) = call.as_mut().poll(cx) else { return };
        self.ending.call = None;
        if let Err(fault) = took {
            self.fail(fault.violation());
        }
    }

    /// Whether the client is not to be read now, for reasons of ours.
    fn is_paused(&self) -> bool {
        self.turn
            || self.held && self.ending.call.is_some()
            || self.resume_at.is_some()
            || self.output.control_bytes() > MAX_CONTROL_BYTES
    }

    /// Reads and decodes for as long as there is something. True if anything was done.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut worked = false;
        loop {
            match self.phase {
                Phase::Over { .. } => return worked,
                Phase::Leaving { .. } => return self.poll_discard(cx) || worked,
                Phase::Failing { .. } => return worked,
                Phase::Open | Phase::Emptying | Phase::Closing { .. } => {}
            }
            if self.is_paused() {
                self.was_paused = true;
                return worked;
            }
            if std::mem::take(&mut self.was_paused) {
                self.heard = Instant::now();
                self.midway = self.midway.map(|(_, bytes)| (self.heard, bytes));
            }
            if self.held || !self.ahead.is_empty() {
                self.held = false;
                let mut ahead = std::mem::take(&mut self.ahead);
                let left = self.decode(&mut ahead);
                ahead.drain(..ahead.len() - left);
                if left > 0 {
                    self.ahead = ahead;
                }
                worked = true;
                continue;
            }
            let mut storage = [const { MaybeUninit::uninit() }; READ];
            let mut buffer = ReadBuf::uninit(&mut storage);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return worked,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // RFC 6455 §7.1.5: no Close, so 1006.
                Poll::Ready(_) => {
                    self.lose();
                    return true;
                }
            }
            self.heard = Instant::now();
            worked = true;
            let read = buffer.filled_mut();
            if let Some((_, bytes)) = &mut self.midway {
                *bytes += read.len() as u64;
            }
            let length = read.len();
            let left = self.decode(read);
            if left > 0 {
                self.ahead = buffer.filled()[length - left..].to_vec();
            }
            match (self.decoder.is_midway(), self.midway) {
                (true, None) => self.midway = Some((self.heard, 0)),
                (false, Some(_)) => self.midway = None,
                _ => {}
            }
        }
    }

    /// Decodes from the front of `bytes`; gives how many are left for later.
    fn decode(&mut self, mut bytes: &mut [u8]) -> usize {
        loop {
            if !matches!(self.phase, Phase::Open | Phase::Emptying | Phase::Closing { .. }) {
                return 0;
            }
            if self.is_paused() {
                return bytes.len();
            }
            let hold = self.ending.call.is_some() && self.phase == Phase::Open;
            match self.decoder.step(&mut bytes, hold) {
                Ok(Step::NeedsMore) => return 0,
                Ok(Step::Held) => self.held = true,
                Ok(Step::Turn) => self.turn = true,
                Ok(Step::Item(item)) => self.take(item),
                Err(violation) => self.fail(violation),
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Message(payload) => {
                self.midway = None;
                self.handle.counts().received.fetch_add(1, Ordering::Relaxed);
                self.resume_at =
                    self.messages.as_mut().and_then(|messages| messages.take(self.heard));
                // After our Close nobody listens any more.
                if self.phase == Phase::Open
                    && let Some(open) = &self.ending.open
                {
                    let call = open.sockets.listener().message(&self.handle, payload);
                    self.ending.call = Some(call);
                }
            }
            Item::Ping(payload) => {
                self.resume_at = self.controls.take(self.heard);
                // §5.5.1: nothing follows a Close.
                if matches!(self.phase, Phase::Open | Phase::Emptying) {
                    self.output.control(Opcode::Pong, &payload);
                }
            }
            Item::Pong => self.resume_at = self.controls.take(self.heard),
            Item::Close(said) => {
                if let Phase::Open | Phase::Emptying = self.phase {
                    // §5.5.1: answered with the code that was received.
                    let code = said.as_ref().map_or(close::NO_CODE, |(code, _)| *code);
                    self.output.skip_next();
                    self.output.control(Opcode::Close, &close::payload(code, ""));
                }
                let (code, reason) = said.unwrap_or((close::NO_CODE, String::new()));
                self.ending.code = code;
                self.ending.reason = reason;
                self.leave();
            }
        }
    }

    /// Fails the connection (§7.1.7): says why, and listens no more.
    fn fail(&mut self, why: Violation) {
        if let Phase::Failing { .. } | Phase::Leaving { .. } | Phase::Over { .. } = self.phase {
            return;
        }
        let Violation { code, reason } = why;
        tracing::debug!(plugin = &**self.handle.plugin(), code, reason, "WebSocket failed");
        self.ending.code = code;
        reason.clone_into(&mut self.ending.reason);
        if let Phase::Closing { .. } = self.phase {
            return self.leave();
        }
        self.phase = Phase::Failing { until: Instant::now() + ANSWER_TIMEOUT };
        self.saying = Some(Box::new((code, reason.into())));
        self.handle.unfollow();
        self.feed = None;
        self.rest();
    }

    /// Everything is said: the stream is to end.
    fn leave(&mut self) {
        let until = Instant::now() + CLOSE_TIMEOUT;
        self.phase = Phase::Leaving { until, shut: false, discarded: 0 };
        self.stop();
    }

    /// The stream is gone, or as good as that.
    fn lose(&mut self) {
        self.phase = Phase::Over { clean: false };
        self.stop();
    }

    fn stop(&mut self) {
        self.handle.end();
        self.feed = None;
        self.rest();
    }

    /// Nothing more is read.
    fn rest(&mut self) {
        self.ahead = Vec::new();
        self.held = false;
        self.resume_at = None;
    }

    /// Closes after what is queued.
    fn close(&mut self, code: u16, reason: &str) {
        if self.phase == Phase::Open {
            self.phase = Phase::Emptying;
            self.saying = Some(Box::new((code, reason.into())));
            self.handle.unfollow();
            self.feed = None;
        }
    }

    /// Throws away what comes until the client has closed its side, too: closed with bytes unread, TCP
    /// would take back our last ones.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> bool {
        let mut worked = false;
        while let Phase::Leaving { shut, discarded, .. } = &mut self.phase {
            let mut storage = [const { MaybeUninit::uninit() }; READ];
            let mut buffer = ReadBuf::uninit(&mut storage);
            let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(cx, &mut buffer) else {
                return worked;
            };
            worked = true;
            *discarded += buffer.filled().len();
            if read.is_err() || *discarded > LINGER_BYTES {
                self.lose();
            } else if buffer.filled().is_empty() {
                if *shut {
                    self.phase = Phase::Over { clean: true };
                }
                // Its side has ended before ours: what we have to say may still arrive.
                return false;
            }
        }
        worked
    }

    /// Writes what there is. True if anything was done.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut worked = false;
        loop {
            if let Phase::Over { .. } = self.phase {
                return worked;
            }
            self.collect(cx);
            let is_something = !self.output.is_empty();
            let polled = match self.output.poll_write(cx, &mut *self.socket) {
                Poll::Ready(Ok(())) if is_something => {
                    self.blocked = None;
                    worked = true;
                    continue;
                }
                Poll::Ready(Ok(())) => self.output.poll_flush(cx, &mut *self.socket),
                other => other,
            };
            let polled = match (polled, &mut self.phase) {
                (Poll::Ready(Ok(())), Phase::Leaving { shut, .. }) if !*shut => {
                    let polled = Pin::new(&mut *self.socket).poll_shutdown(cx);
                    if let Poll::Ready(Ok(())) = polled {
                        *shut = true;
                        worked = true;
                    }
                    polled
                }
                (polled, _) => polled,
            };
            match polled {
                Poll::Ready(Ok(())) => self.blocked = None,
                Poll::Ready(Err(_)) => {
                    self.lose();
                    worked = true;
                }
                Poll::Pending => {
                    self.blocked.get_or_insert_with(Instant::now);
                }
            }
            return worked;
        }
    }

    /// Collects what is to be written next.
    fn collect(&mut self, cx: &mut Context<'_>) {
        let Self { output, handle, feed, settings, phase, leave_at, .. } = self;
        let mut lagged = false;
        let mut asked = None;
        output.fill(|| {
            while let Phase::Open | Phase::Emptying | Phase::Failing { .. } = phase {
                match handle.poll_take(cx) {
                    Poll::Ready(Taken::Message(message)) => {
                        return Some(message.frame(settings.deflate));
                    }
                    Poll::Ready(Taken::LeaveAt(at)) => *leave_at = Some(at),
                    Poll::Ready(Taken::Feed(new)) => *feed = Some(new),
                    Poll::Ready(Taken::Close(code, reason)) => {
                        asked = Some((code, reason));
                        return None;
                    }
                    Poll::Pending => match feed.as_mut()?.poll_next(cx) {
                        Poll::Ready(Fed::Message(message)) => {
                            handle.counts().sent.fetch_add(1, Ordering::Relaxed);
                            return Some(message.frame(settings.deflate));
                        }
                        Poll::Ready(Fed::Lagged) => {
                            lagged = true;
                            return None;
                        }
                        Poll::Ready(Fed::Ended) => {
                            handle.unfollow();
                            *feed = None;
                        }
                        Poll::Pending => return None,
                    },
                }
            }
            None
        });
        if let Some((code, reason)) = asked
            && self.phase == Phase::Open
        {
            self.close(code, &reason);
        } else if lagged {
            self.close(close::TRY_AGAIN, "too slow for what is published");
        }
        let is_last = match self.phase {
            Phase::Emptying => self.output.is_empty(),
            Phase::Failing { until } => {
                self.output.is_empty() && (self.ending.call.is_none() || Instant::now() >= until)
            }
            _ => false,
        };
        if is_last {
            let (code, reason) = *self.saying.take().unwrap_or_default();
            self.output.control(Opcode::Close, &close::payload(code, &reason));
            self.output.fill(|| None);
            if self.phase == Phase::Emptying {
                self.phase = Phase::Closing { until: Instant::now() + CLOSE_TIMEOUT };
                self.handle.end();
            } else {
                self.leave();
            }
        }
    }

    /// Does what is due. Ready if something was; else the task is woken when something is.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut due = |at: Option<Instant>| {
            let is_due = at.is_some_and(|at| at <= now);
            next = [next, at.filter(|_| !is_due)].into_iter().flatten().min();
            is_due
        };
        if due(self.blocked.map(|since| since + self.write_idle_timeout)) {
            self.lose();
            return Poll::Ready(());
        }
        if due(self.resume_at) {
            self.resume_at = None;
            return Poll::Ready(());
        }
        match self.phase {
            Phase::Over { .. } => {}
            // What is due then is done by who collects what is written.
            Phase::Failing { until } => {
                if due(Some(until)) && self.output.is_empty() {
                    return Poll::Ready(());
                }
            }
            Phase::Closing { until } | Phase::Leaving { until, .. } => {
                if due(Some(until)) {
                    self.lose();
                    return Poll::Ready(());
                }
            }
            Phase::Open | Phase::Emptying => {
                if due(self.leave_at) {
                    self.leave_at = None;
                    let code = self.ending.open.as_ref().map(|open| open.sockets.leaving_code());
                    self.close(code.unwrap_or(close::GOING_AWAY), "the server is leaving");
                    return Poll::Ready(());
                }
                if !self.is_paused() {
                    // As request bodies: some time, and then at least this rate.
                    let pace = self.midway.map(|(since, bytes)| {
                        let paid = Duration::from_secs(bytes / BODY_MIN_RATE);
                        since + self.settings.idle_timeout + paid
                    });
                    if due(pace) {
                        self.fail(Violation { code: close::POLICY, reason: "message too slow" });
                        return Poll::Ready(());
                    }
                    if due(Some(self.heard + self.settings.idle_timeout)) {
                        self.fail(Violation { code: close::GOING_AWAY, reason: "idle" });
                        // Nobody has said so.
                        self.ending.code = close::ABNORMAL;
                        self.ending.reason = String::new();
                        return Poll::Ready(());
                    }
                    let quiet = self.pinged.map_or(self.heard, |pinged| pinged.max(self.heard));
                    if due(self.settings.ping_interval.map(|interval| quiet + interval)) {
                        self.pinged = Some(now);
                        self.output.control(Opcode::Ping, b"");
                        return Poll::Ready(());
                    }
                }
            }
        }
        let Some(next) = next else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
        // Moved only to fire earlier: an idle socket's deadlines move with every byte.
        if timer.deadline() > next || timer.is_elapsed() {
            timer.as_mut().reset(next);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(())
    }
}

impl Future for Engine<'_> {
    type Output = SwitchEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SwitchEnd> {
        let this = &mut *self;
        loop {
            this.poll_listener(cx);
            let read = this.poll_read(cx);
            let wrote = this.poll_write(cx);
            if let Phase::Over { clean } = this.phase {
                return Poll::Ready(if clean { Ok(()) } else { Err(BodyError::Gone) });
            }
            if std::mem::take(&mut this.turn) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !read && !wrote {
                ready!(this.poll_deadlines(cx));
            }
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
