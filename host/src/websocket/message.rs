//! From a client's bytes to its messages: frames in any pieces, fragments, control frames between
//! them, compression, text that must be UTF-8 (RFC 6455 §5.4 to §5.6, RFC 7692 §6.2). No I/O.
//!
//! A decoder owns memory only for what has begun and is not all here: between two messages it has none.

use super::close::{self, Violation};
use super::deflate::{Inflate, InflateFault};
use super::frame::{Head, MAX_CONTROL, MAX_HEAD, Opcode, unmask};
use super::utf8::Utf8;

/// Frames without a byte that a message may have. Nobody needs more than one.
const MAX_EMPTY_FRAMES: u16 = 1024;
/// Compressed bytes that are decompressed at once, to a thousand times as many at the most.
const INFLATE_AT_ONCE: usize = 256;
/// What comes out of that before others get their turn.
const INFLATE_TURN: usize = 256 * 1024;

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Payload {
    /// Bytes of it.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a client has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole message.
    Message(Payload),
    /// A ping with this payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// Its last frame, with code and reason where it has them.
    Close(Option<(u16, String)>),
}

/// How far the decoder got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something is whole.
    Item(Item),
    /// All bytes are used; more are needed.
    NeedsMore,
    /// A message would begin, and is not wanted yet.
    Held,
    /// Others should get their turn; there are bytes left.
    Turn,
}

/// Decodes what one client sends.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    deflate: bool,
    head_length: u8,
    head: [u8; MAX_HEAD],
    frame: Option<Frame>,
    message: Option<Box<Partial>>,
    control: Vec<u8>,
}

/// A frame whose payload is being read.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    left: u64,
}

/// A message that is not all here.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    utf8: Utf8,
    data: Vec<u8>,
    inflate: Option<Inflate>,
    /// Bytes on the wire.
    received: u64,
    empty_frames: u16,
}

impl Decoder {
    /// For messages of at most `max_message` bytes, compressed ones where `deflate` was agreed on.
    pub fn new(max_message: usize, deflate: bool) -> Self {
        Self {
            max_message,
            deflate,
            head_length: 0,
            head: [0; MAX_HEAD],
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    /// Whether something has begun and is not all here.
    pub fn is_midway(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || self.head_length > 0
    }

    /// Takes bytes from the front of `input`, which it may change. Where `hold` is set, no message is
    /// begun; control frames are still read.
    ///
    /// # Errors
    /// Why the connection must be failed; nothing may be decoded after that.
    pub fn step(&mut self, input: &mut &mut [u8], hold: bool) -> Result<Step, Violation> {
        loop {
            if self.frame.is_none() {
                match self.read_head(input, hold)? {
                    Some(Step::NeedsMore) => return Ok(Step::NeedsMore),
                    Some(step) => return Ok(step),
                    None => {}
                }
            }
            let Some(frame) = &mut self.frame else { return Ok(Step::NeedsMore) };
            let mut here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
            let compressed = self.message.as_ref().is_some_and(|message| message.inflate.is_some());
            if compressed && !frame.opcode.is_control() {
                here = here.min(INFLATE_AT_ONCE);
            }
            let payload;
            (payload, *input) = std::mem::take(input).split_at_mut(here);
            unmask(&mut frame.mask, payload);
            frame.left -= here as u64;
            let is_over = frame.left == 0;
            let turn = if frame.opcode.is_control() {
                self.control.extend_from_slice(payload);
                false
            } else if let Some(message) = &mut self.message {
                message.push(payload, self.max_message)?
            } else {
                false
            };
            if is_over {
                if let Some(item) = self.end_frame()? {
                    return Ok(Step::Item(item));
                }
            } else if input.is_empty() {
                return Ok(Step::NeedsMore);
            }
            if turn {
                return Ok(Step::Turn);
            }
        }
    }

    /// Reads a head and begins its frame; `Some` where that is not (yet) possible.
    fn read_head(&mut self, input: &mut &mut [u8], hold: bool) -> Result<Option<Step>, Violation> {
        let head = loop {
            if let Some((head, _)) = Head::parse(&self.head[..usize::from(self.head_length)])? {
                break head;
            }
            let Some((&mut byte, rest)) = std::mem::take(input).split_first_mut() else {
                return Ok(Some(Step::NeedsMore));
            };
            *input = rest;
            // A head that is not complete has room: it is at most MAX_HEAD bytes long.
            self.head[usize::from(self.head_length)] = byte;
            self.head_length += 1;
        };
        if !head.opcode.is_control() {
            if self.message.is_none() && hold {
                return Ok(Some(Step::Held));
            }
            self.begin_data(&head)?;
        }
        self.head_length = 0;
        let Head { opcode, fin, mask, length, .. } = head;
        self.frame = Some(Frame { opcode, fin, mask, left: length });
        Ok(None)
    }

    fn begin_data(&mut self, head: &Head) -> Result<(), Violation> {
        let message = match (&mut self.message, head.opcode) {
            (Some(_), Opcode::Text | Opcode::Binary) => {
                return Err(Violation::protocol("message within a message"));
            }
            (None, Opcode::Continuation) => {
                return Err(Violation::protocol("continuation of nothing"));
            }
            (Some(_), _) if head.compressed => {
                return Err(Violation::protocol("reserved bits are set"));
            }
            (Some(message), _) => message,
            (none, opcode) => {
                if head.compressed && !self.deflate {
                    return Err(Violation::protocol("reserved bits are set"));
                }
                none.insert(Box::new(Partial {
                    is_text: opcode == Opcode::Text,
                    utf8: Utf8::default(),
                    data: Vec::new(),
                    inflate: head.compressed.then(Inflate::begin),
                    received: 0,
                    empty_frames: 0,
                }))
            }
        };
        message.begin_frame(head, self.max_message)
    }

    /// What a frame that has ended completes.
    fn end_frame(&mut self) -> Result<Option<Item>, Violation> {
        let Some(frame) = self.frame.take() else { return Ok(None) };
        let item = match frame.opcode {
            Opcode::Ping => Item::Ping(std::mem::take(&mut self.control)),
            Opcode::Pong => {
                self.control = Vec::new();
                Item::Pong
            }
            Opcode::Close => {
                let payload = std::mem::take(&mut self.control);
                let said = close::parse(&payload)?;
                Item::Close(said.map(|(code, reason)| (code, reason.to_owned())))
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                if !frame.fin {
                    return Ok(None);
                }
                let Some(message) = self.message.take() else { return Ok(None) };
                Item::Message(message.end(self.max_message)?)
            }
        };
        Ok(Some(item))
    }
}

impl Partial {
    fn begin_frame(&mut self, head: &Head, max_message: usize) -> Result<(), Violation> {
        self.received = self.received.saturating_add(head.length);
        // What is compressed may be larger than what it stands for, but not by much.
        let limit = match self.inflate {
            None => max_message as u64,
            Some(_) => max_message as u64 * 2 + 1024,
        };
        if self.received > limit {
            return Err(Violation::TOO_BIG);
        }
        if head.length == 0 {
            self.empty_frames += 1;
            if self.empty_frames > MAX_EMPTY_FRAMES {
                return Err(Violation {
                    code: close::POLICY,
                    reason: "too many frames without a byte",
                });
            }
        }
        Ok(())
    }

    /// Adds a piece. True where that was work for more than one turn.
    fn push(&mut self, payload: &[u8], max_message: usize) -> Result<bool, Violation> {
        let before = self.data.len();
        match &mut self.inflate {
            None => self.data.extend_from_slice(payload),
            Some(inflate) => {
                inflate.push(payload, &mut self.data, max_message).map_err(violation)?;
            }
        }
        self.check(before)?;
        Ok(before / INFLATE_TURN != self.data.len() / INFLATE_TURN)
    }

    fn check(&mut self, from: usize) -> Result<(), Violation> {
        if self.is_text && !self.utf8.accepts(&self.data[from..]) {
            return Err(NOT_UTF8);
        }
        Ok(())
    }

    fn end(mut self, max_message: usize) -> Result<Payload, Violation> {
        if let Some(inflate) = self.inflate.take() {
            let before = self.data.len();
            inflate.end(&mut self.data, max_message).map_err(violation)?;
            self.check(before)?;
        }
        if !self.is_text {
            return Ok(Payload::Binary(self.data));
        }
        if !self.utf8.is_complete() {
            return Err(NOT_UTF8);
        }
        String::from_utf8(self.data).map(Payload::Text).map_err(|_| NOT_UTF8)
    }
}

const NOT_UTF8: Violation = Violation::data("text is not UTF-8");

fn violation(fault: InflateFault) -> Violation {
    match fault {
        InflateFault::TooLarge => Violation::TOO_BIG,
        InflateFault::Corrupt => Violation::data("compressed data is broken"),
    }
}

// A control frame's payload is bounded by its head.
const _: () = assert!(MAX_CONTROL < 126);

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
