//! The unidirectional streams of the client (RFC 9114 §6.2): its control stream, and the two of
//! QPACK, which have nothing to say to a peer without a dynamic table.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use quinn::RecvStream;
use tokio::time::Instant;

use super::code::{Code, Fault};
use super::frame::{
    CANCEL_PUSH, DATA, GOAWAY, HEADERS, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS, is_reserved,
    put_frame_head, put_varint, take_varint,
};
use super::qpack::parse_integer;

/// Stream type of the control stream.
const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const QPACK_ENCODER: u64 = 0x2;
const QPACK_DECODER: u64 = 0x3;

const QPACK_MAX_TABLE_CAPACITY: u64 = 0x1;
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const QPACK_BLOCKED_STREAMS: u64 = 0x7;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
const H3_DATAGRAM: u64 = 0x33;

/// Bytes of a frame on the control stream. SETTINGS has a few dozen.
const MAX_CONTROL_FRAME: u64 = 4 * 1024;
/// Streams of unknown types over a connection's life; greasing opens one.
const MAX_UNKNOWN_STREAMS: u8 = 64;

/// The GOAWAY id that takes nothing back: every request before the real one still counts (§5.2).
pub(super) const GOAWAY_LATER: u64 = (1 << 62) - 4;

/// The control stream's first bytes: its type and SETTINGS.
pub(super) fn opening(max_field_section: usize) -> BytesMut {
    let mut settings = BytesMut::new();
    for (id, value) in [
        (QPACK_MAX_TABLE_CAPACITY, 0),
        (MAX_FIELD_SECTION_SIZE, max_field_section as u64),
        (QPACK_BLOCKED_STREAMS, 0),
        // RFC 9220 §3.
        (ENABLE_CONNECT_PROTOCOL, 1),
    ] {
        put_varint(&mut settings, id);
        put_varint(&mut settings, value);
    }
    let mut out = BytesMut::new();
    put_varint(&mut out, CONTROL);
    put_frame_head(&mut out, SETTINGS, settings.len());
    out.extend_from_slice(&settings);
    out
}

/// A GOAWAY frame.
pub(super) fn goaway(id: u64) -> BytesMut {
    let mut payload = BytesMut::new();
    put_varint(&mut payload, id);
    let mut out = BytesMut::new();
    put_frame_head(&mut out, GOAWAY, payload.len());
    out.extend_from_slice(&payload);
    out
}

/// Counts events of the last second.
#[derive(Debug)]
pub(super) struct Rate {
    window: Mutex<(Instant, u32)>,
    limit: u32,
}

impl Rate {
    /// At most `limit` a second.
    pub(super) fn new(limit: u32) -> Self {
        Self { window: Mutex::new((Instant::now(), 0)), limit }
    }

    /// Counts one; false once there were too many.
    pub(super) fn allows(&self) -> bool {
        let mut window = self.window.lock();
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        window.1 <= self.limit
    }
}

/// What the client's unidirectional streams have been so far.
#[derive(Debug)]
pub(super) struct PeerStreams {
    /// Bit `n` is set once the stream of type `n` was opened.
    seen: AtomicU8,
    unknown: AtomicU8,
    frames: Rate,
}

impl PeerStreams {
    /// `frames` is how many frames and instructions a second are put up with.
    pub(super) fn new(frames: u32) -> Self {
        Self { seen: AtomicU8::new(0), unknown: AtomicU8::new(0), frames: Rate::new(frames) }
    }

    /// Reads one stream to its end, or for as long as the connection lives.
    ///
    /// # Errors
    /// The connection error that it deserves.
    pub(super) async fn read(&self, recv: RecvStream) -> Result<(), Fault> {
        let mut stream = UniStream { recv, buf: BytesMut::new() };
        // A stream that ends before its type is known may be anything (§6.2).
        let Some(kind) = stream.varint().await? else {
            return Ok(());
        };
        match kind {
            CONTROL | QPACK_ENCODER | QPACK_DECODER => {
                let bit = 1 << kind;
                if self.seen.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
                    return Err(Fault::Connection(
                        Code::STREAM_CREATION_ERROR,
                        "a second stream of a type that has one",
                    ));
                }
            }
            PUSH => {
                return Err(Fault::Connection(
                    Code::STREAM_CREATION_ERROR,
                    "a push stream from a client",
                ));
            }
            _ => {
                // An error means that the stream is over already.
                let _over = stream.recv.stop(Code::STREAM_CREATION_ERROR.into());
                if self.unknown.fetch_add(1, Ordering::Relaxed) >= MAX_UNKNOWN_STREAMS {
                    return Err(EXCESSIVE);
                }
                return Ok(());
            }
        }
        let ended = match kind {
            CONTROL => self.control(&mut stream).await,
            QPACK_ENCODER => self.encoder(&mut stream).await,
            _ => self.decoder(&mut stream).await,
        };
        ended.and(Err(Fault::Connection(
            Code::CLOSED_CRITICAL_STREAM,
            "a critical stream was closed",
        )))
    }

    async fn control(&self, stream: &mut UniStream) -> Result<(), Fault> {
        let mut max_push_id = None;
        let mut goaway = None;
        let mut is_first = true;
        while let Some(kind) = stream.varint().await? {
            if is_first && kind != SETTINGS {
                return error(Code::MISSING_SETTINGS, "no SETTINGS first");
            }
            if !self.frames.allows() {
                return Err(EXCESSIVE);
            }
            if matches!(kind, DATA | HEADERS | PUSH_PROMISE)
                || is_reserved(kind)
                || kind == SETTINGS && !is_first
            {
                return error(Code::FRAME_UNEXPECTED, "a frame that cannot be here");
            }
            is_first = false;
            let Some(len) = stream.varint().await? else {
                break;
            };
            if len > MAX_CONTROL_FRAME {
                return error(Code::EXCESSIVE_LOAD, "a frame on the control stream is too large");
            }
            let Some(mut payload) = stream.take(len as usize).await? else {
                break;
            };
            match kind {
                SETTINGS => settings(payload)?,
                GOAWAY => {
                    let id = only_varint(&mut payload)?;
                    if goaway.replace(id).is_some_and(|before| id > before) {
                        return error(Code::ID_ERROR, "GOAWAY id grew");
                    }
                }
                MAX_PUSH_ID => {
                    let id = only_varint(&mut payload)?;
                    if max_push_id.replace(id).is_some_and(|before| id < before) {
                        return error(Code::ID_ERROR, "MAX_PUSH_ID shrank");
                    }
                }
                CANCEL_PUSH => {
                    let _push_id = only_varint(&mut payload)?;
                    return error(Code::ID_ERROR, "CANCEL_PUSH of what was never promised");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// With a table capacity of zero, nothing but that capacity can be said (RFC 9204 §4.3).
    async fn encoder(&self, stream: &mut UniStream) -> Result<(), Fault> {
        let code = Code::QPACK_ENCODER_STREAM_ERROR;
        while let Some((first, capacity)) = stream.instruction(5, code).await? {
            if first & 0xe0 != 0x20 || capacity != 0 {
                return error(code, "an entry without a table");
            }
            if !self.frames.allows() {
                return Err(EXCESSIVE);
            }
        }
        Ok(())
    }

    /// We refer to no dynamic entry, so there is nothing to acknowledge (RFC 9204 §4.4); a stream
    /// may be cancelled all the same.
    async fn decoder(&self, stream: &mut UniStream) -> Result<(), Fault> {
        let code = Code::QPACK_DECODER_STREAM_ERROR;
        while let Some((first, _stream_id)) = stream.instruction(6, code).await? {
            if first & 0xc0 != 0x40 {
                return error(code, "acknowledged what was never sent");
            }
            if !self.frames.allows() {
                return Err(EXCESSIVE);
            }
        }
        Ok(())
    }
}

const EXCESSIVE: Fault = Fault::Connection(Code::EXCESSIVE_LOAD, "too many control frames");

fn error<T>(code: Code, reason: &'static str) -> Result<T, Fault> {
    Err(Fault::Connection(code, reason))
}

fn only_varint(payload: &mut BytesMut) -> Result<u64, Fault> {
    match take_varint(payload) {
        Some(value) if payload.is_empty() => Ok(value),
        _ => error(Code::FRAME_ERROR, "a frame of the wrong size"),
    }
}

/// Checks the client's settings (§7.2.4). None of them changes what we send: we use no dynamic table
/// and no datagrams.
fn settings(mut payload: BytesMut) -> Result<(), Fault> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let (Some(id), Some(value)) = (take_varint(&mut payload), take_varint(&mut payload)) else {
            return error(Code::FRAME_ERROR, "SETTINGS ended inside a setting");
        };
        if seen.contains(&id) {
            return error(Code::SETTINGS_ERROR, "a setting given twice");
        }
        // A frame of this size holds at most 2,048 of them; real ones hold ten.
        if seen.len() == 64 {
            return Err(EXCESSIVE);
        }
        seen.push(id);
        match id {
            // §7.2.4.1: those of HTTP/2.
            0x0 | 0x2..=0x5 => return error(Code::SETTINGS_ERROR, "a setting of HTTP/2"),
            ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if value > 1 => {
                return error(Code::SETTINGS_ERROR, "a setting that is neither 0 nor 1");
            }
            _ => {}
        }
    }
    Ok(())
}

/// A stream read piece by piece; holds at most one frame and one chunk.
struct UniStream {
    recv: RecvStream,
    buf: BytesMut,
}

impl UniStream {
    /// Reads more; false at the end, or after a reset. Losing the connection is [`Fault::Gone`].
    async fn fill(&mut self) -> Result<bool, Fault> {
        match self.recv.read_chunk(MAX_CONTROL_FRAME as usize, true).await {
            Ok(Some(chunk)) => {
                self.buf.extend_from_slice(&chunk.bytes);
                Ok(true)
            }
            Ok(None) | Err(quinn::ReadError::Reset(_)) => Ok(false),
            Err(_) => Err(Fault::Gone),
        }
    }

    async fn varint(&mut self) -> Result<Option<u64>, Fault> {
        loop {
            let mut ahead = &self.buf[..];
            if let Some(value) = take_varint(&mut ahead) {
                let rest = ahead.len();
                self.buf.advance(self.buf.len() - rest);
                return Ok(Some(value));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    async fn take(&mut self, len: usize) -> Result<Option<BytesMut>, Fault> {
        while self.buf.len() < len {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        Ok(Some(self.buf.split_to(len)))
    }

    /// An instruction that is one integer with a prefix of `bits`.
    async fn instruction(&mut self, bits: u32, code: Code) -> Result<Option<(u8, u64)>, Fault> {
        loop {
            match parse_integer(&self.buf, bits) {
                Ok(Some((first, value, used))) => {
                    self.buf.advance(used);
                    return Ok(Some((first, value)));
                }
                Ok(None) => {}
                Err(_) => {
                    return error(code, "an integer is too large");
                }
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }
}
