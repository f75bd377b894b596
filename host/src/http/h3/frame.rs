//! Frames (RFC 9114 §7): types, variable-length integers (RFC 9000 §16), and the reader that takes
//! a stream apart without copying payloads.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::RecvStream;

use super::code::{Code, Fault};

pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
pub(super) const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;

/// Types that HTTP/2 used and HTTP/3 must never see (§11.2.1).
pub(super) fn is_reserved(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// Bytes of frames of unknown types that a request stream may carry, in all. They mean nothing to us
/// (§9); greasing takes a few.
const MAX_SKIPPED: u64 = 64 * 1024;
/// A read that brings less than this is joined with what else is there, so that a body does not
/// travel through the plugin a packet at a time.
const JOIN_BELOW: usize = 4 * 1024;
/// Most bytes that are joined.
const JOIN_LIMIT: usize = 32 * 1024;

/// Appends an integer below 2^62 in its shortest form.
pub(super) fn put_varint(out: &mut BytesMut, value: u64) {
    match value {
        0..=0x3f => out.put_u8(value as u8),
        0x40..=0x3fff => out.put_u16(value as u16 | 0x4000),
        0x4000..=0x3fff_ffff => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// Reads an integer from the front; `None` where it is not whole.
pub(super) fn take_varint(buf: &mut impl Buf) -> Option<u64> {
    let first = *buf.chunk().first()?;
    let len = 1usize << (first >> 6);
    if buf.remaining() < len {
        return None;
    }
    let value = buf.get_uint(len);
    Some(if len == 8 { value & 0x3fff_ffff_ffff_ffff } else { value & ((1 << (len * 8 - 2)) - 1) })
}

/// Appends a frame's type and length.
pub(super) fn put_frame_head(out: &mut BytesMut, kind: u64, len: usize) {
    put_varint(out, kind);
    put_varint(out, len as u64);
}

/// What a request stream brings (§4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A whole HEADERS frame: the request's head, or its trailers.
    Headers(Bytes),
    /// Part of a DATA frame; never empty.
    Data(Bytes),
    /// A HEADERS frame that is larger than a field section may be; nothing of it is kept.
    HeadersTooLarge,
    /// The client has said all.
    End,
}

#[derive(Clone, Copy, Debug)]
enum At {
    FrameHead,
    Headers { left: usize },
    Data { left: u64 },
    Skipped { left: u64 },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    Trailers,
}

/// The client's half of a request stream.
#[derive(Debug)]
pub(super) struct FrameReader {
    recv: RecvStream,
    chunk: Bytes,
    /// A frame head or HEADERS payload that came in pieces.
    partial: BytesMut,
    at: At,
    phase: Phase,
    skipped: u64,
    any: bool,
    max_headers: usize,
}

impl FrameReader {
    /// `max_headers` is the most bytes of a HEADERS frame's payload.
    pub(super) fn new(recv: RecvStream, max_headers: usize) -> Self {
        Self {
            recv,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            at: At::FrameHead,
            phase: Phase::Head,
            skipped: 0,
            any: false,
            max_headers,
        }
    }

    /// Whether everything has been read.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Tells the client that nobody reads on.
    pub(super) fn stop(&mut self, code: Code) {
        if !self.is_over() {
            self.at = At::End;
            self.chunk = Bytes::new();
            // An error means that the stream is over already.
            let _over = self.recv.stop(code.into());
        }
    }

    /// Ready once the client has reset its half, or the connection is lost.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Pending;
        }
        match ready!(pin!(self.recv.received_reset()).poll(cx)) {
            // All data is here: a reset means nothing any more.
            Ok(None) => Poll::Pending,
            Ok(Some(_)) | Err(_) => {
                self.at = At::End;
                Poll::Ready(())
            }
        }
    }

    /// The next thing on the stream.
    ///
    /// # Errors
    /// The [`Fault`] that ends stream or connection; nothing can be read after it.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Fault>> {
        let polled = self.poll_event_inner(cx);
        if matches!(polled, Poll::Ready(Err(Fault::Gone | Fault::Connection(..)))) {
            self.at = At::End;
        }
        polled
    }

    fn poll_event_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Fault>> {
        loop {
            if matches!(self.at, At::End) {
                return Poll::Ready(Ok(Event::End));
            }
            // A DATA or skipped frame of no bytes needs none to be over.
            if let At::Data { left: 0 } | At::Skipped { left: 0 } = self.at {
                self.at = At::FrameHead;
            }
            if let At::Headers { left: 0 } = self.at {
                self.at = At::FrameHead;
                return Poll::Ready(Ok(Event::Headers(self.partial.split().freeze())));
            }
            if self.chunk.is_empty() {
                match ready!(self.poll_chunk(cx))? {
                    Some(chunk) => self.chunk = chunk,
                    None => return Poll::Ready(self.finish()),
                }
            }
            match self.at {
                At::FrameHead => {
                    if let Some((kind, len)) = self.take_frame_head() {
                        self.any = true;
                        if let Some(event) = self.begin(kind, len)? {
                            return Poll::Ready(Ok(event));
                        }
                    }
                }
                At::Headers { left } => {
                    let take = left.min(self.chunk.len());
                    let part = self.chunk.split_to(take);
                    if take == left && self.partial.is_empty() {
                        self.at = At::FrameHead;
                        return Poll::Ready(Ok(Event::Headers(part)));
                    }
                    self.partial.extend_from_slice(&part);
                    self.at = At::Headers { left: left - take };
                }
                At::Data { left } => {
                    let data = self.take_data(cx, left)?;
                    self.at = At::Data { left: left - data.len() as u64 };
                    return Poll::Ready(Ok(Event::Data(data)));
                }
                At::Skipped { left } => {
                    let take = left.min(self.chunk.len() as u64);
                    self.chunk.advance(take as usize);
                    self.at = At::Skipped { left: left - take };
                }
                At::End => {}
            }
        }
    }

    /// The end of the stream, where it may be.
    fn finish(&mut self) -> Result<Event, Fault> {
        let whole = matches!(self.at, At::FrameHead) && self.partial.is_empty();
        self.at = At::End;
        if !whole {
            return Err(Fault::Connection(Code::FRAME_ERROR, "stream ended inside a frame"));
        }
        if self.phase == Phase::Head {
            let reason = if self.any { "no request on the stream" } else { "empty stream" };
            return Err(Fault::Stream(Code::REQUEST_INCOMPLETE, reason));
        }
        Ok(Event::End)
    }

    /// What a frame of this type means at this point (§4.1, §7.2).
    fn begin(&mut self, kind: u64, len: u64) -> Result<Option<Event>, Fault> {
        let unexpected = |reason| Err(Fault::Connection(Code::FRAME_UNEXPECTED, reason));
        match (kind, self.phase) {
            (HEADERS, Phase::Trailers) => return unexpected("HEADERS after the trailers"),
            (DATA, Phase::Head) => return unexpected("DATA before HEADERS"),
            (DATA, Phase::Trailers) => return unexpected("DATA after the trailers"),
            (DATA, Phase::Body) => self.at = At::Data { left: len },
            (HEADERS, Phase::Head | Phase::Body) => {
                self.phase = if self.phase == Phase::Head { Phase::Body } else { Phase::Trailers };
                let Some(left) = usize::try_from(len).ok().filter(|len| *len <= self.max_headers)
                else {
                    self.at = At::Skipped { left: len };
                    return Ok(Some(Event::HeadersTooLarge));
                };
                self.at = At::Headers { left };
            }
            (CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID, _) => {
                return unexpected("a frame of the control stream on a request stream");
            }
            (kind, _) if is_reserved(kind) => return unexpected("an HTTP/2 frame"),
            _ => {
                self.skipped = self.skipped.saturating_add(len);
                if self.skipped > MAX_SKIPPED {
                    return Err(Fault::Connection(
                        Code::EXCESSIVE_LOAD,
                        "too many bytes in unknown frames",
                    ));
                }
                self.at = At::Skipped { left: len };
            }
        }
        Ok(None)
    }

    fn take_frame_head(&mut self) -> Option<(u64, u64)> {
        if self.partial.is_empty() {
            let mut ahead = self.chunk.clone();
            if let Some(kind) = take_varint(&mut ahead)
                && let Some(len) = take_varint(&mut ahead)
            {
                self.chunk = ahead;
                return Some((kind, len));
            }
        }
        // In pieces: at most sixteen bytes, one at a time.
        while !self.chunk.is_empty() {
            self.partial.put_u8(self.chunk.get_u8());
            let mut ahead = &self.partial[..];
            if let Some(kind) = take_varint(&mut ahead)
                && let Some(len) = take_varint(&mut ahead)
            {
                self.partial.clear();
                return Some((kind, len));
            }
        }
        None
    }

    /// Takes data of the current frame: what is there, joined where it is little.
    fn take_data(&mut self, cx: &mut Context<'_>, left: u64) -> Result<Bytes, Fault> {
        let fits = |bytes: &Bytes, left: u64| {
            usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
        };
        let first = self.chunk.split_to(fits(&self.chunk, left));
        let mut left = left - first.len() as u64;
        if left == 0 || first.len() >= JOIN_BELOW {
            return Ok(first);
        }
        let Poll::Ready(Some(second)) = self.poll_chunk(cx)? else {
            return Ok(first);
        };
        self.chunk = second;
        let mut joined = BytesMut::with_capacity(JOIN_LIMIT.min(left as usize + first.len()));
        joined.extend_from_slice(&first);
        loop {
            let take = fits(&self.chunk, left).min(JOIN_LIMIT - joined.len());
            joined.extend_from_slice(&self.chunk.split_to(take));
            left -= take as u64;
            if left == 0 || !self.chunk.is_empty() || joined.len() == JOIN_LIMIT {
                return Ok(joined.freeze());
            }
            match self.poll_chunk(cx)? {
                Poll::Ready(Some(chunk)) => self.chunk = chunk,
                Poll::Ready(None) | Poll::Pending => return Ok(joined.freeze()),
            }
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        match ready!(pin!(self.recv.read_chunk(usize::MAX, true)).poll(cx)) {
            Ok(chunk) => Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes))),
            Err(_) => Poll::Ready(Err(Fault::Gone)),
        }
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        // quinn would stop it with code 0, which is none of HTTP/3.
        self.stop(Code::NO_ERROR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_rfc_9000_appendix_a1_hold() {
        for (wire, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut rest = wire;

            assert_eq!(&out[..], wire);
            assert_eq!(take_varint(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
        assert_eq!(take_varint(&mut &[0x40, 0x25][..]), Some(37));
    }

    #[test]
    fn a_varint_that_is_not_whole_takes_nothing() {
        let mut rest = &[0xc2, 0x19, 0x7c][..];

        assert_eq!(take_varint(&mut rest), None);
        assert_eq!(rest.len(), 3);
    }
}
