//! Frames on the wire (RFC 6455 §5.2): heads of what clients send, frames that we send, the mask.

use bytes::Bytes;

use super::close::Violation;

/// Bytes that a control frame may carry (§5.5).
pub const MAX_CONTROL: usize = 125;
/// Bytes of the longest head: two, a 64-bit length, the mask.
pub const MAX_HEAD: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that an earlier frame began.
    Continuation,
    /// A message begins: text.
    Text,
    /// A message begins: bytes.
    Binary,
    /// The sender will send nothing more.
    Close,
    /// To be answered.
    Ping,
    /// The answer, or sent unasked.
    Pong,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn code(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether it may come between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// It is the message's last frame.
    pub fin: bool,
    /// RSV1: the message is compressed (RFC 7692 §6).
    pub compressed: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Its payload's mask.
    pub mask: [u8; 4],
    /// Bytes of its payload.
    pub length: u64,
}

impl Head {
    /// Parses a client's head; with it, its length. `None` while bytes of it are missing. What is
    /// wrong with the first two bytes is told as soon as they are there.
    ///
    /// # Errors
    /// What §5.2 forbids, 1009 for lengths past 2^63.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & (RSV & !RSV1) != 0 {
            return Err(Violation::protocol("reserved bits are set"));
        }
        let opcode = Opcode::of(first).ok_or(Violation::protocol("reserved opcode"))?;
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        if second & MASKED == 0 {
            return Err(Violation::protocol("frame without a mask"));
        }
        let short = second & !MASKED;
        if opcode.is_control() && (short > 125 || !fin || compressed) {
            return Err(Violation::protocol("control frame in parts, too long or compressed"));
        }
        let (length, rest, read) = match (short, rest) {
            (126, &[a, b, ref rest @ ..]) => (u64::from(u16::from_be_bytes([a, b])), rest, 4),
            (127, &[a, b, c, d, e, f, g, h, ref rest @ ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest, 10)
            }
            (126 | 127, _) => return Ok(None),
            (short, rest) => (u64::from(short), rest, 2),
        };
        if length >> 63 != 0 {
            return Err(Violation::TOO_BIG);
        }
        let &[a, b, c, d, ..] = rest else { return Ok(None) };
        let head = Self { fin, compressed, opcode, mask: [a, b, c, d], length };
        Ok(Some((head, read + 4)))
    }
}

/// Removes the mask from a payload, or from a piece of it, and turns `mask` to where the next piece
/// begins (§5.3).
pub fn unmask(mask: &mut [u8; 4], payload: &mut [u8]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
}

/// A whole frame of ours, the last of its message, unmasked.
pub fn frame(opcode: Opcode, compressed: bool, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(10 + payload.len());
    push_head(&mut frame, opcode, compressed, payload.len());
    frame.extend_from_slice(payload);
    frame.into()
}

/// Appends a control frame.
pub fn push_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    push_head(out, opcode, false, payload.len());
    out.extend_from_slice(payload);
}

fn push_head(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, length: usize) {
    out.push(FIN | if compressed { RSV1 } else { 0 } | opcode.code());
    match length {
        0..126 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::close::{PROTOCOL, TOO_BIG};

    #[test]
    fn heads_are_held_to_the_rfc() {
        const M: [u8; 4] = [1, 2, 3, 4];
        let head =
            |fin, compressed, opcode, length| Head { fin, compressed, opcode, mask: M, length };
        for (bytes, expected) in [
            // §5.2: lengths of 7, 16 and 64 bits.
            (&[0x81, 0x80 | 5, 1, 2, 3, 4][..], Ok(Some((head(true, false, Opcode::Text, 5), 6)))),
            (
                &[0x02, 0x80 | 126, 1, 0, 1, 2, 3, 4],
                Ok(Some((head(false, false, Opcode::Binary, 256), 8))),
            ),
            (
                &[0xc1, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
                Ok(Some((head(true, true, Opcode::Text, 65536), 14))),
            ),
            (
                &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4],
                Ok(Some((head(true, false, Opcode::Binary, i64::MAX as u64), 14))),
            ),
            // §5.2: the most significant bit is 0.
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(TOO_BIG)),
            // Not all here yet.
            (&[], Ok(None)),
            (&[0x81], Ok(None)),
            (&[0x81, 0x85, 1, 2, 3], Ok(None)),
            (&[0x81, 0xfe, 1], Ok(None)),
            // §5.1: clients mask.
            (&[0x81, 0x05], Err(PROTOCOL)),
            // §5.2: reserved bits and opcodes.
            (&[0xa1, 0x80], Err(PROTOCOL)),
            (&[0x91, 0x80], Err(PROTOCOL)),
            (&[0x83, 0x80], Err(PROTOCOL)),
            (&[0x8b, 0x80], Err(PROTOCOL)),
            // §5.5: control frames are short and whole; RFC 7692 §6.1: and not compressed.
            (&[0x89, 0xfe], Err(PROTOCOL)),
            (&[0x09, 0x80], Err(PROTOCOL)),
            (&[0xc9, 0x80], Err(PROTOCOL)),
        ] {
            let parsed = Head::parse(bytes).map_err(|violation| violation.code);
            assert_eq!(parsed, expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_mask_goes_on_over_pieces() {
        let plain: Vec<u8> = (0..100).collect();
        let mask = [0x11, 0x22, 0x33, 0x44];
        let mut whole = plain.clone();
        unmask(&mut mask.clone(), &mut whole);

        for cut in 0..plain.len() {
            let (mut pieces, mut turned) = (whole.clone(), mask);
            let (first, second) = pieces.split_at_mut(cut);
            unmask(&mut turned, first);
            unmask(&mut turned, second);
            assert_eq!(pieces, plain, "{cut}");
        }
    }

    #[test]
    fn our_frames_say_their_length() {
        for (length, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65535, &[0x82, 126, 255, 255]),
            (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = frame(Opcode::Binary, false, &vec![7; length]);
            assert_eq!(&frame[..head.len()], head);
            assert_eq!(frame.len(), head.len() + length);
        }
        assert_eq!(&frame(Opcode::Text, true, b"x")[..], &[0xc1, 1, b'x']);
    }
}
