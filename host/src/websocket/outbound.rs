//! What goes to clients: messages framed (and compressed) once for all their sockets, and the bytes
//! that one socket is writing.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use wharf_hub::{Event, Payload};

use super::deflate::{MAX_WINDOW, MIN_WINDOW, deflate};
use super::frame::{self, Opcode};
use super::handshake::Deflate;
use crate::http::switch::Socket;

/// Bytes that are collected into one write.
const BATCH: usize = 16 * 1024;
/// Larger frames are written from where they are.
const SMALL: usize = 4 * 1024;

/// A message for any number of clients.
#[derive(Debug)]
pub struct Message {
    opcode: Opcode,
    payload: usize,
    plain: Bytes,
    /// For clients with the largest window, and for all others.
    deflated: [OnceLock<Option<Bytes>>; 2],
}

impl Message {
    /// Text.
    pub fn text(text: &str) -> Arc<Self> {
        Arc::new(Self::new(Opcode::Text, text.as_bytes()))
    }

    /// Bytes.
    pub fn binary(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self::new(Opcode::Binary, bytes))
    }

    /// An event's data.
    pub(super) fn of_event(event: &Event) -> Self {
        match &event.content().data {
            // The hub has checked that it is UTF-8.
            Payload::Text(text) => Self::new(Opcode::Text, text),
            Payload::Binary(bytes) => Self::new(Opcode::Binary, bytes),
        }
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let plain = frame::frame(opcode, false, payload);
        Self { opcode, payload: payload.len(), plain, deflated: Default::default() }
    }

    /// Bytes of its payload.
    pub fn len(&self) -> usize {
        self.payload
    }

    /// Whether its payload has none.
    pub fn is_empty(&self) -> bool {
        self.payload == 0
    }

    /// The frame for a client that has agreed to `agreed`. Made for the first of its kind.
    pub fn frame(&self, agreed: Option<Deflate>) -> Bytes {
        let Some(agreed) = agreed else { return self.plain.clone() };
        let (kind, window) = match agreed.window() {
            MAX_WINDOW => (0, MAX_WINDOW),
            // Every window follows the smallest.
            _ => (1, MIN_WINDOW),
        };
        let payload = &self.plain[self.plain.len() - self.payload..];
        let deflated = self.deflated[kind].get_or_init(|| {
            deflate(payload, window).map(|small| frame::frame(self.opcode, true, &small))
        });
        deflated.as_ref().unwrap_or(&self.plain).clone()
    }
}

/// The bytes that a socket is writing; it owns none when there are none.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Being written.
    now: Bytes,
    /// Behind that.
    next: Bytes,
    /// Control frames, to be written between two frames.
    control: Vec<u8>,
    /// Written and not flushed.
    dirty: bool,
}

impl Output {
    /// Adds a control frame.
    pub(super) fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        frame::push_control(&mut self.control, opcode, payload);
    }

    /// Bytes of control frames that wait.
    pub(super) fn control_bytes(&self) -> usize {
        self.control.len()
    }

    /// Forgets the frame of which nothing is written: a Close comes in its place.
    pub(super) fn skip_next(&mut self) {
        self.next = Bytes::new();
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty() && self.next.is_empty() && self.control.is_empty()
    }

    /// Collects the next write, from control frames and then from `more`.
    pub(super) fn fill(&mut self, mut more: impl FnMut() -> Option<Bytes>) {
        if !self.now.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.control);
        let mut first = std::mem::take(&mut self.next);
        let fits = |batch: &[u8], first: &[u8]| {
            batch.len() + first.len() < BATCH && (batch.is_empty() || first.len() <= SMALL)
        };
        while fits(&batch, &first) && self.next.is_empty() {
            let Some(frame) = more() else { break };
            if batch.is_empty() && first.is_empty() {
                first = frame;
            } else if frame.len() <= SMALL && first.len() <= SMALL {
                batch.extend_from_slice(&std::mem::take(&mut first));
                batch.extend_from_slice(&frame);
            } else {
                self.next = frame;
            }
        }
        if batch.is_empty() {
            self.now = first;
            return;
        }
        if first.len() <= SMALL {
            batch.extend_from_slice(&first);
        } else {
            self.next = first;
        }
        self.now = batch.into();
    }

    /// Writes what was collected. Ready when it is all with the transport.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl Socket + ?Sized),
    ) -> Poll<std::io::Result<()>> {
        while !self.now.is_empty() {
            let mut socket = Pin::new(&mut *socket);
            let written = ready!(socket.as_mut().poll_write(cx, &self.now))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.dirty = true;
            self.now.advance(written);
        }
        self.now = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Flushes what was written.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl Socket + ?Sized),
    ) -> Poll<std::io::Result<()>> {
        if self.dirty {
            ready!(Pin::new(socket).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Option<Deflate> = Some(Deflate { server_window: None });
    const NARROW: Option<Deflate> = Some(Deflate { server_window: Some(10) });

    #[test]
    fn a_message_is_framed_once_for_all_sockets_of_a_kind() {
        let message = Message::text(&"again and ".repeat(100));

        for agreed in [None, WIDE, NARROW] {
            let (one, other) = (message.frame(agreed), message.frame(agreed));
            assert_eq!(one.as_ptr(), other.as_ptr());
        }
        assert_eq!(message.frame(None)[0], 0x81);
        assert_eq!(message.frame(WIDE)[0], 0xc1);
        assert!(message.frame(NARROW).len() < 200);
        assert_eq!(Message::binary(b"short").frame(WIDE)[0], 0xc2);
        assert_eq!(Message::binary(&vec![0; 300_000]).frame(WIDE)[0], 0x82);
    }

    #[test]
    fn small_frames_share_a_write_and_none_is_lost_or_moved() {
        let sizes =
            [0usize, 1, 5, 5000, 3, 20_000, 70_000, 2, 4096, 4000, 4000, 4000, 4000, 4000, 9];
        for controls in [0, 1, 3] {
            let frames: Vec<_> = (0u8..)
                .zip(sizes)
                .map(|(n, size)| frame::frame(Opcode::Binary, false, &vec![n; size]))
                .collect();
            let mut expected = Vec::new();
            let mut output = Output::default();
            for _ in 0..controls {
                output.control(Opcode::Pong, b"x");
                frame::push_control(&mut expected, Opcode::Pong, b"x");
            }
            expected.extend(frames.concat());
            let mut frames = frames.into_iter();
            let (mut wrote, mut writes) = (Vec::new(), 0);
            loop {
                output.fill(|| frames.next());
                if output.now.is_empty() {
                    break;
                }
                wrote.extend_from_slice(&std::mem::take(&mut output.now));
                writes += 1;
            }
            assert!(wrote == expected, "{controls}");
            assert!(writes <= 9, "{writes}");
        }
    }
}
