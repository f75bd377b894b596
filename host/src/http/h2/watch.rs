//! What the `h2` crate does not tell: a wrapper around the transport that reads along. It counts
//! frames that cost the sender nothing (PING, SETTINGS, RST_STREAM and the like), notices a head that
//! never ends and a socket that takes nothing, and closes without cutting off the last GOAWAY.
//!
//! The wrapper only observes; the connection's task asks [`Watch`] after every poll and acts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::push::Pushes;
use super::{MAX_FRAME_BYTES, PREFACE};

/// How long a closed connection is still read, so that unread bytes do not turn the close into a TCP
/// reset that destroys our GOAWAY on its way (RFC 9112 §9.6 describes the same for HTTP/1.1).
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are thrown away while lingering.
const LINGER_BYTES: usize = 256 * 1024;

/// A control frame costs this many units of the budget, a WINDOW_UPDATE one: clients that send one
/// for every DATA frame are common, and it is the cheapest frame to receive.
const CONTROL_COST: u64 = 8;
/// Bytes sent by us that earn a PING or WINDOW_UPDATE: both rise with the data that a client takes.
/// More than the size of a PING frame (17), so that our answers do not pay for a flood of them.
const BYTES_PER_CREDIT: u64 = 64;
/// Credits kept at most.
const MAX_CREDIT: u64 = 100_000;

/// Shared between the wrapper, which `h2` owns, and the connection's task.
#[derive(Debug)]
pub(super) struct Watch {
    started: Instant,
    trouble: AtomicU8,
    settings_seen: AtomicBool,
    /// Milliseconds after `started`, plus one; zero when it is not so.
    head_open: AtomicU64,
    write_blocked: AtomicU64,
    /// What the client's settings say about pushes, and the promises that have gone out.
    pub(super) pushes: Pushes,
}

const FLOOD: u8 = 1;
const NOT_SETTINGS: u8 = 2;
const FRAME_SIZE: u8 = 3;
const WINDOW_SIZE: u8 = 4;

impl Watch {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            trouble: AtomicU8::new(0),
            settings_seen: AtomicBool::new(false),
            head_open: AtomicU64::new(0),
            write_blocked: AtomicU64::new(0),
            pushes: Pushes::default(),
        }
    }

    /// Why the connection must end, if it must.
    pub(super) fn trouble(&self) -> Option<Reason> {
        match self.trouble.load(Ordering::Relaxed) {
            FLOOD => Some(Reason::ENHANCE_YOUR_CALM),
            NOT_SETTINGS => Some(Reason::PROTOCOL_ERROR),
            FRAME_SIZE => Some(Reason::FRAME_SIZE_ERROR),
            WINDOW_SIZE => Some(Reason::FLOW_CONTROL_ERROR),
            _ => None,
        }
    }

    /// Since when the head that is arriving (or the first SETTINGS frame) is incomplete.
    pub(super) fn head_open_since(&self) -> Option<Instant> {
        if !self.settings_seen.load(Ordering::Relaxed) {
            return Some(self.started);
        }
        self.instant(&self.head_open)
    }

    /// Since when the transport has taken nothing of what is to be sent.
    pub(super) fn write_blocked_since(&self) -> Option<Instant> {
        self.instant(&self.write_blocked)
    }

    fn instant(&self, mark: &AtomicU64) -> Option<Instant> {
        let at = mark.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started + Duration::from_millis(at))
    }

    fn set(&self, mark: &AtomicU64, on: bool) {
        if !on {
            mark.store(0, Ordering::Relaxed);
        } else if mark.load(Ordering::Relaxed) == 0 {
            let at = self.started.elapsed().as_millis() as u64 + 1;
            mark.store(at, Ordering::Relaxed);
        }
    }
}

/// The first bytes of a frame (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHead {
    length: u32,
    kind: u8,
    flags: u8,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

impl FrameHead {
    /// Whether the length is one that the frame can have (RFC 9113 §4.2, §6). Where RFC 9113 has a
    /// stream error for it, the connection's error that we make of it is allowed (§5.4.2).
    fn has_valid_length(self) -> bool {
        self.length <= MAX_FRAME_BYTES
            && match self.kind {
                RST_STREAM | WINDOW_UPDATE => self.length == 4,
                PING => self.length == 8,
                PRIORITY => self.length == 5,
                SETTINGS if self.flags & ACK != 0 => self.length == 0,
                SETTINGS => self.length.is_multiple_of(6),
                _ => true,
            }
    }
}

/// What the scanner tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// A frame begins.
    Frame(FrameHead),
    /// A parameter of SETTINGS (RFC 9113 §6.5.1).
    Setting(u16, u32),
    /// The stream that a PUSH_PROMISE frame promises.
    Promise(u32),
}

/// The numbers of settings (RFC 9113 §6.5.2).
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW: u16 = 4;
/// The largest flow-control window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Finds the frame heads in a byte stream, however it is cut.
#[derive(Debug)]
struct Scanner {
    preface_left: usize,
    head: [u8; 9],
    filled: usize,
    /// Of a SETTINGS parameter, or of a promised stream's number.
    unit: [u8; 6],
    unit_filled: usize,
    payload_left: usize,
    /// The frame whose payload is arriving, and whether it ends a header block.
    current: Option<FrameHead>,
    block_open: bool,
}

impl Scanner {
    /// For what a client sends.
    fn new() -> Self {
        Self { preface_left: PREFACE.len(), ..Self::of_server() }
    }

    /// For what a server sends.
    fn of_server() -> Self {
        Self {
            preface_left: 0,
            head: [0; 9],
            filled: 0,
            unit: [0; 6],
            unit_filled: 0,
            payload_left: 0,
            current: None,
            block_open: false,
        }
    }

    fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                match self.current {
                    Some(FrameHead { kind: SETTINGS, .. }) => {
                        self.scan_settings(&bytes[..skipped], &mut seen);
                    }
                    Some(FrameHead { kind: PUSH_PROMISE, .. }) => {
                        self.scan_promise(&bytes[..skipped], &mut seen);
                    }
                    _ => {}
                }
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let taken = (self.head.len() - self.filled).min(bytes.len());
                self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < self.head.len() {
                    return;
                }
                self.filled = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                let frame = FrameHead { length: u32::from_be_bytes([0, a, b, c]), kind, flags };
                self.payload_left = frame.length as usize;
                self.current = Some(frame);
                self.unit_filled = 0;
                seen(Seen::Frame(frame));
            }
            if self.payload_left == 0 {
                if let Some(FrameHead { kind: HEADERS | CONTINUATION, flags, .. }) = self.current {
                    self.block_open = flags & END_HEADERS == 0;
                }
                self.current = None;
            }
        }
    }

    fn scan_settings(&mut self, bytes: &[u8], seen: &mut impl FnMut(Seen)) {
        for byte in bytes {
            self.unit[self.unit_filled] = *byte;
            self.unit_filled += 1;
            if self.unit_filled == self.unit.len() {
                self.unit_filled = 0;
                let [a, b, value @ ..] = self.unit;
                seen(Seen::Setting(u16::from_be_bytes([a, b]), u32::from_be_bytes(value)));
            }
        }
    }

    /// The payload's first four bytes: `h2` never pads.
    fn scan_promise(&mut self, bytes: &[u8], seen: &mut impl FnMut(Seen)) {
        const STREAM_BYTES: usize = 4;
        for byte in bytes {
            if self.unit_filled == STREAM_BYTES {
                return;
            }
            self.unit[self.unit_filled] = *byte;
            self.unit_filled += 1;
            if self.unit_filled == STREAM_BYTES {
                let [a, b, c, d, ..] = self.unit;
                seen(Seen::Promise(u32::from_be_bytes([a, b, c, d])));
            }
        }
    }

    /// Whether a header block has begun and not ended.
    fn head_is_open(&self) -> bool {
        self.block_open
            || matches!(self.current, Some(FrameHead { kind: HEADERS | CONTINUATION, .. }))
    }
}

/// A budget of control frames, refilled each second. The clock is read only when it is used up.
#[derive(Debug)]
struct Budget {
    per_second: u64,
    left: u64,
    credit: u64,
    refilled: Instant,
}

impl Budget {
    fn new(frames_per_second: u32, now: Instant) -> Self {
        let per_second = u64::from(frames_per_second) * CONTROL_COST;
        Self { per_second, left: per_second, credit: 0, refilled: now }
    }

    fn earn(&mut self, bytes: usize) {
        self.credit = (self.credit + bytes as u64).min(MAX_CREDIT * BYTES_PER_CREDIT);
    }

    /// False when the frame exceeds the budget.
    fn spend(&mut self, frame: FrameHead, now: impl FnOnce() -> Instant) -> bool {
        let (cost, rises_with_data) = match frame.kind {
            WINDOW_UPDATE => (1, true),
            PING => (CONTROL_COST, true),
            SETTINGS | PRIORITY | RST_STREAM => (CONTROL_COST, false),
            DATA if frame.length == 0 && frame.flags & END_STREAM == 0 => (CONTROL_COST, false),
            CONTINUATION if frame.length == 0 => (CONTROL_COST, false),
            _ => return true,
        };
        if rises_with_data && self.credit >= BYTES_PER_CREDIT {
            self.credit -= BYTES_PER_CREDIT;
            return true;
        }
        if self.left < cost {
            let now = now();
            if now.duration_since(self.refilled) < Duration::from_secs(1) {
                return false;
            }
            self.refilled = now;
            self.left = self.per_second;
        }
        self.left = self.left.saturating_sub(cost);
        true
    }
}

/// The transport, read along.
#[derive(Debug)]
pub(super) struct Watched<IO> {
    io: IO,
    watch: Arc<Watch>,
    scanner: Scanner,
    sent: Scanner,
    budget: Budget,
    linger: Option<Linger>,
}

#[derive(Debug)]
struct Linger {
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO, control_frames: u32) -> (Self, Arc<Watch>) {
        let watch = Arc::new(Watch::new());
        let watched = Self {
            io,
            scanner: Scanner::new(),
            sent: Scanner::of_server(),
            budget: Budget::new(control_frames, watch.started),
            watch: Arc::clone(&watch),
            linger: None,
        };
        (watched, watch)
    }

    fn arrived(&mut self, bytes: &[u8]) {
        let Self { scanner, budget, watch, .. } = self;
        scanner.scan(bytes, |seen| {
            let frame = match seen {
                Seen::Frame(frame) => frame,
                Seen::Setting(INITIAL_WINDOW, size) => {
                    if size > MAX_WINDOW {
                        // `h2` answers with another code than RFC 9113 §6.5.2 asks for.
                        watch.trouble.store(WINDOW_SIZE, Ordering::Relaxed);
                    }
                    return;
                }
                Seen::Setting(ENABLE_PUSH, enabled) => return watch.pushes.enable(enabled == 1),
                Seen::Setting(MAX_CONCURRENT_STREAMS, most) => {
                    return watch.pushes.set_client_limit(most);
                }
                // A client that pushes is refused by `h2` (RFC 9113 §8.4).
                Seen::Setting(..) | Seen::Promise(_) => return,
            };
            if !watch.settings_seen.load(Ordering::Relaxed) {
                // RFC 9113 §3.4: the preface is followed by SETTINGS. `h2` does not insist.
                if frame.kind == SETTINGS && frame.flags == 0 {
                    watch.settings_seen.store(true, Ordering::Relaxed);
                } else {
                    watch.trouble.store(NOT_SETTINGS, Ordering::Relaxed);
                }
            }
            if !frame.has_valid_length() {
                watch.trouble.store(FRAME_SIZE, Ordering::Relaxed);
            } else if !budget.spend(frame, Instant::now) {
                watch.trouble.store(FLOOD, Ordering::Relaxed);
            }
        });
        watch.set(&watch.head_open, scanner.head_is_open());
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>, bufs: &[io::IoSlice<'_>]) {
        match polled {
            Poll::Ready(Ok(bytes)) => {
                self.budget.earn(*bytes);
                let mut left = *bytes;
                for buf in bufs {
                    let taken = buf.len().min(left);
                    left -= taken;
                    self.sent.scan(&buf[..taken], |seen| {
                        if let Seen::Promise(stream) = seen {
                            self.watch.pushes.promise_went_out(stream);
                        }
                    });
                }
                self.watch.set(&self.watch.write_blocked, false);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.set(&self.watch.write_blocked, true),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.trouble().is_some() {
            // Nothing more is taken from this peer. No waker is needed: the connection's task looks
            // at `trouble` in the same poll that led here.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.arrived(&buf.filled()[before..]);
        if this.watch.trouble().is_some() {
            // `h2` must not see these frames: it would answer first, or answer the flood.
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&polled, &[io::IoSlice::new(buf)]);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&polled, bufs);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        // TLS takes writes into a buffer of its own: only the flush tells that the socket is full.
        self.watch.set(&self.watch.write_blocked, polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let linger = match &mut this.linger {
            Some(linger) => linger,
            None => {
                std::task::ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                this.linger.insert(Linger {
                    bytes_left: LINGER_BYTES,
                    deadline: Box::pin(tokio::time::sleep(LINGER)),
                })
            }
        };
        let mut discarded = [0; 4096];
        loop {
            if Future::poll(linger.deadline.as_mut(), cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut discarded);
            match std::task::ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() && linger.bytes_left > buf.filled().len() => {
                    linger.bytes_left -= buf.filled().len();
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32, kind: u8, flags: u8) -> Vec<u8> {
        let [_, a, b, c] = length.to_be_bytes();
        let mut bytes = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + length as usize, 0xff);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let wire = [
            PREFACE.to_vec(),
            frame(6, SETTINGS, 0),
            frame(0, SETTINGS, 1),
            frame(300, DATA, 0),
            frame(8, PING, 0),
        ]
        .concat();

        for size in 1..40 {
            let mut scanner = Scanner::new();
            let mut kinds = Vec::new();
            for piece in wire.chunks(size) {
                scanner.scan(piece, |seen| {
                    if let Seen::Frame(frame) = seen {
                        kinds.push((frame.kind, frame.length));
                    }
                });
            }
            assert_eq!(kinds, [(SETTINGS, 6), (SETTINGS, 0), (DATA, 300), (PING, 8)]);
        }
    }

    #[test]
    fn promises_are_found_however_the_bytes_are_cut() {
        let mut promise = frame(12, PUSH_PROMISE, END_HEADERS);
        promise[9..13].copy_from_slice(&[0, 0, 1, 2]);
        let wire = [frame(0, SETTINGS, 0), promise, frame(12, DATA, 0)].concat();

        for size in 1..40 {
            let mut scanner = Scanner::of_server();
            let mut promised = Vec::new();
            for piece in wire.chunks(size) {
                scanner.scan(piece, |seen| {
                    if let Seen::Promise(stream) = seen {
                        promised.push(stream);
                    }
                });
            }
            assert_eq!(promised, [258]);
        }
    }

    #[test]
    fn settings_are_found_however_the_bytes_are_cut() {
        let mut settings = frame(12, SETTINGS, 0);
        settings[9..].copy_from_slice(&[0, 3, 0, 0, 0, 9, 0, 4, 0x80, 0, 0, 1]);
        let wire = [PREFACE.to_vec(), settings, frame(12, DATA, 0)].concat();

        for size in 1..40 {
            let mut scanner = Scanner::new();
            let mut settings = Vec::new();
            for piece in wire.chunks(size) {
                scanner.scan(piece, |seen| {
                    if let Seen::Setting(number, value) = seen {
                        settings.push((number, value));
                    }
                });
            }
            assert_eq!(settings, [(MAX_CONCURRENT_STREAMS, 9), (INITIAL_WINDOW, (1 << 31) + 1)]);
        }
    }

    #[test]
    fn a_head_is_open_until_its_last_byte() {
        let mut scanner = Scanner::new();
        scanner.scan(PREFACE, |_| {});
        let headers = frame(4, HEADERS, 0);
        let continuation = frame(4, CONTINUATION, END_HEADERS);

        scanner.scan(&headers[..8], |_| {});
        let before_head = scanner.head_is_open();
        scanner.scan(&headers[8..], |_| {});
        let after_headers = scanner.head_is_open();
        scanner.scan(&continuation[..12], |_| {});
        let within_last = scanner.head_is_open();
        scanner.scan(&continuation[12..], |_| {});
        let after_last = scanner.head_is_open();

        assert_eq!(
            (before_head, after_headers, within_last, after_last),
            (false, true, true, false)
        );
    }

    #[test]
    fn control_frames_have_a_budget_each_second() {
        let start = Instant::now();
        let mut budget = Budget::new(10, start);
        let ping = FrameHead { length: 8, kind: PING, flags: 0 };

        let first = (0..10).all(|_| budget.spend(ping, || start));
        let eleventh = budget.spend(ping, || start);
        let later = budget.spend(ping, || start + Duration::from_secs(1));

        assert!(first);
        assert!(!eleventh);
        assert!(later);
    }

    #[test]
    fn window_updates_are_paid_for_by_the_data_that_was_sent() {
        let start = Instant::now();
        let mut budget = Budget::new(0, start);
        let update = FrameHead { length: 4, kind: WINDOW_UPDATE, flags: 0 };
        budget.earn(16 * 1024);

        let paid = (0..256).all(|_| budget.spend(update, || start));
        let unpaid = budget.spend(update, || start);

        assert!(paid);
        assert!(!unpaid);
    }

    #[test]
    fn frames_of_fixed_length_have_that_length() {
        for (length, kind, flags, valid) in [
            (4, RST_STREAM, 0, true),
            (5, RST_STREAM, 0, false),
            (8, PING, ACK, true),
            (7, PING, 0, false),
            (12, SETTINGS, 0, true),
            (10, SETTINGS, 0, false),
            (6, SETTINGS, ACK, false),
            (3, WINDOW_UPDATE, 0, false),
            (MAX_FRAME_BYTES, DATA, 0, true),
            (MAX_FRAME_BYTES + 1, DATA, 0, false),
            (MAX_FRAME_BYTES, 0xfa, 0, true),
        ] {
            let frame = FrameHead { length, kind, flags };
            assert_eq!(frame.has_valid_length(), valid, "{frame:?}");
        }
    }

    #[test]
    fn requests_and_their_data_cost_nothing() {
        let start = Instant::now();
        let mut budget = Budget::new(0, start);

        for frame in [
            FrameHead { length: 0, kind: DATA, flags: END_STREAM },
            FrameHead { length: 9, kind: DATA, flags: 0 },
            FrameHead { length: 9, kind: HEADERS, flags: END_HEADERS },
        ] {
            assert!(budget.spend(frame, || start), "{frame:?}");
        }
    }
}
