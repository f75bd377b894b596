//! permessage-deflate (RFC 7692): messages in and out of DEFLATE.
//!
//! Nothing is kept between two messages (`no_context_takeover` both ways, which a server may always
//! ask for, §7.1.1): an idle socket has no window, and what is compressed once goes to every
//! socket. The states themselves are reused by whichever message of the core comes next.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Shorter messages are stored: the gain would be a packet's rest.
pub const COMPRESS_FROM: usize = 128;
/// Longer ones go as they are: a core's one thread is held meanwhile, about a millisecond for so much.
pub const COMPRESS_TO: usize = 256 * 1024;
/// The compressor's level: 1 is the algorithm that [`compress`] tells of.
const LEVEL: u32 = 2;
/// Bytes by which what cannot be compressed grows, at the most, for 256 KiB.
const ROOM: usize = 16 * 1024;
/// Bytes of a block that is stored (RFC 1951 §3.2.4).
const STORED: usize = 65_535;
/// The largest window (§7.1.2), and the smallest that zlib can compress with: it makes 9 of 8.
pub const MAX_WINDOW: u8 = 15;
/// The smallest.
pub const MIN_WINDOW: u8 = 9;
/// Room that is made for what comes out at once.
const PIECE: usize = 8 * 1024;
/// States of each kind that a core keeps.
const KEPT: usize = 2;
/// What the sender has taken from the end of a message (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

thread_local! {
    // Caches only: a state takes longer to make than a small message to compress.
    static DEFLATES: RefCell<Vec<Compress>> = const { RefCell::new(Vec::new()) };
    static INFLATES: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
}

/// Why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateFault {
    /// It would be larger than the limit.
    TooLarge,
    /// It is not DEFLATE.
    Corrupt,
}

/// The state of a message that is being decompressed.
pub struct Inflate(Option<Decompress>);

impl Inflate {
    /// For a message that begins.
    pub fn begin() -> Self {
        let kept = INFLATES.with_borrow_mut(Vec::pop);
        // The largest window can follow every smaller one.
        Self(Some(kept.unwrap_or_else(|| Decompress::new(false))))
    }

    /// Appends what `input` stands for to `out`, which may grow to `limit` bytes.
    ///
    /// # Errors
    /// [`InflateFault`]; then `out` has little more than `limit` bytes.
    pub fn push(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), InflateFault> {
        let Some(state) = &mut self.0 else { return Err(InflateFault::Corrupt) };
        loop {
            out.reserve(PIECE.min(limit + 1 - out.len()));
            let (read, written) = (state.total_in(), state.total_out());
            let status = state.decompress_vec(input, out, FlushDecompress::None);
            let status = status.map_err(|_| InflateFault::Corrupt)?;
            if out.len() > limit {
                return Err(InflateFault::TooLarge);
            }
            let read = usize::try_from(state.total_in() - read).unwrap_or(usize::MAX);
            let wrote = state.total_out() > written;
            input = input.get(read..).unwrap_or_default();
            match status {
                // §7.2.3.4: a message may have blocks that say that they are the last.
                Status::StreamEnd if !input.is_empty() => state.reset(false),
                Status::StreamEnd => {
                    state.reset(false);
                    return Ok(());
                }
                Status::Ok if !input.is_empty() || out.len() == out.capacity() => {}
                _ if !input.is_empty() && (read > 0 || wrote) => {}
                _ => return Ok(()),
            }
        }
    }

    /// As [`Inflate::push`] with what the sender has left away.
    ///
    /// # Errors
    /// As there.
    pub fn end(mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), InflateFault> {
        self.push(&TAIL, out, limit)
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else { return };
        INFLATES.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                state.reset(false);
                kept.push(state);
            }
        });
    }
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inflate")
    }
}

/// A message in DEFLATE for a client that can follow a window of so many bits; `None` where it is too
/// long. What does not become smaller is stored, six bytes larger, because there are clients that take
/// nothing else once compression was agreed on (kosoku's for Autobahn's cases is one).
pub fn deflate(payload: &[u8], window: u8) -> Option<Vec<u8>> {
    if payload.len() > COMPRESS_TO {
        return None;
    }
    let smaller = if payload.len() < COMPRESS_FROM { None } else { squeeze(payload, window) };
    Some(smaller.unwrap_or_else(|| stored(payload)))
}

fn stored(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 5 * (payload.len() / STORED + 1) + 1);
    for block in payload.chunks(STORED) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    // The first byte of the block that the receiver ends it with (RFC 7692 §7.2.3.3).
    out.push(0);
    out
}

fn squeeze(payload: &[u8], window: u8) -> Option<Vec<u8>> {
    let usual = window == MAX_WINDOW;
    let kept = if usual { DEFLATES.with_borrow_mut(Vec::pop) } else { None };
    let mut state = kept
        .unwrap_or_else(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, window));
    let compressed = compress(&mut state, payload);
    if usual {
        DEFLATES.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                state.reset();
                kept.push(state);
            }
        });
    }
    compressed
}

fn compress(state: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    // Room for all of it at once: what zlib holds back for want of room is bounded, and the `quick`
    // algorithm of zlib-rs 0.6 panics past that.
    let mut out = Vec::with_capacity(payload.len() + ROOM);
    state.compress_vec(payload, &mut out, FlushCompress::Sync).ok()?;
    // With room left over, everything has been flushed.
    let whole = out.len() < out.capacity() && state.total_in() == payload.len() as u64;
    if !whole || out.len() >= payload.len() {
        return None;
    }
    let end = out.len().checked_sub(TAIL.len()).filter(|&end| out[end..] == TAIL)?;
    out.truncate(end);
    out.shrink_to_fit();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| b"the quick brown fox jumps over it. "[(i + i / 35 * 11) % 35]).collect()
    }

    fn inflate(compressed: &[u8], piece: usize, limit: usize) -> Result<Vec<u8>, InflateFault> {
        let mut out = Vec::new();
        let mut inflate = Inflate::begin();
        for piece in compressed.chunks(piece) {
            inflate.push(piece, &mut out, limit)?;
        }
        inflate.end(&mut out, limit)?;
        Ok(out)
    }

    #[test]
    fn every_window_comes_back_as_it_was() {
        for window in MIN_WINDOW..=MAX_WINDOW {
            for bytes in [COMPRESS_FROM, 1000, 70_000, 250_000] {
                let plain = text(bytes);
                let compressed = deflate(&plain, window).expect("text is worth it");

                assert!(compressed.len() < plain.len());
                for piece in [1, 100, usize::MAX] {
                    let same = inflate(&compressed, piece, bytes) == Ok(plain.clone());
                    assert!(same, "{window} bits, {bytes} bytes");
                }
            }
        }
    }

    #[test]
    fn what_does_not_become_smaller_is_stored() {
        for bytes in [0, 1, COMPRESS_FROM, STORED - 1, STORED, STORED + 1, COMPRESS_TO] {
            let noise: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
            let stored = deflate(&noise, MAX_WINDOW).expect("it is not too long");

            assert!(stored.len() <= bytes + 26, "{bytes}");
            assert!(inflate(&stored, 1000, bytes) == Ok(noise), "{bytes}");
        }
        // RFC 7692 §7.2.3.3
        assert_eq!(
            deflate(b"Hello", MAX_WINDOW).as_deref(),
            Some(&[0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0][..])
        );
        assert_eq!(deflate(&vec![0; COMPRESS_TO + 1], MAX_WINDOW), None);
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = deflate(&vec![0; COMPRESS_TO], MAX_WINDOW).expect("zeros are worth it");
        let mut out = Vec::new();

        let fault = Inflate::begin().push(&bomb, &mut out, 10_000).unwrap_err();

        assert_eq!(fault, InflateFault::TooLarge);
        assert!(out.capacity() < 64 * 1024, "{}", out.capacity());
    }

    #[test]
    fn the_examples_of_the_rfc_are_understood() {
        for (wire, plain) in [
            // RFC 7692 §7.2.3.1, .3, .4 (a last block, then an empty one), .5 (two blocks); §7.2.3.6
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
            (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
            (
                &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
                "Hello",
            ),
            (&[0x00], ""),
        ] {
            for piece in [1, 3, 100] {
                let inflated = inflate(wire, piece, 100);
                assert_eq!(inflated.as_deref(), Ok(plain.as_bytes()), "{wire:02x?} by {piece}");
            }
        }
    }

    #[test]
    fn what_is_not_deflate_is_corrupt() {
        assert_eq!(inflate(&[0xff; 16], 16, 100), Err(InflateFault::Corrupt));
        // A distance beyond the beginning.
        assert_eq!(inflate(&[0x02, 0x13, 0x00, 0x00], 4, 100), Err(InflateFault::Corrupt));
    }
}
