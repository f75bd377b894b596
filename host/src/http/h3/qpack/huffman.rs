//! The Huffman code of RFC 7541 Appendix B, which QPACK shares (RFC 9204 §4.1.2).
//!
//! The code is canonical, so the lengths say all: codes and the decoder's states are derived from
//! them when this is compiled. The decoder takes four bits at a time: the shortest code has five,
//! so a step yields at most one symbol.

/// Bits of each symbol's code; the last is EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS: u16 = 256;
/// A full binary tree of 257 leaves has 256 inner nodes: a state fits a byte.
const STATES: usize = 256;

const CODES: [u32; 257] = codes();
static STEPS: [[Step; 16]; STATES] = steps();

/// What four bits do to a state.
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    symbol: u8,
    emits: bool,
    /// EOS was read: never valid (RFC 7541 §5.2).
    fails: bool,
    /// What was read since the last symbol is valid padding: at most seven bits, all ones.
    padding: bool,
}

/// The string is not a valid Huffman code, or larger than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// Bytes that `plain` takes when encoded.
pub(super) fn encoded_len(plain: &[u8]) -> usize {
    let bits: usize = plain.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends `plain`, encoded and padded.
pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let mut pending = 0u64;
    let mut bits = 0u32;
    for &byte in plain {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        pending = pending << len | u64::from(CODES[usize::from(byte)]);
        bits += len;
        while bits >= 8 {
            bits -= 8;
            out.push((pending >> bits) as u8);
        }
    }
    if bits > 0 {
        let padding = 8 - bits;
        out.push(((pending << padding) | ((1 << padding) - 1)) as u8);
    }
}

/// Appends what `coded` says.
///
/// # Errors
/// [`Invalid`] for EOS and for padding that is too long or not all ones.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    // The shortest code has five bits.
    out.reserve(coded.len() * 8 / 5);
    let mut state = 0u8;
    let mut padding = true;
    for &byte in coded {
        for nibble in [byte >> 4, byte & 15] {
            let step = STEPS[usize::from(state)][usize::from(nibble)];
            if step.fails {
                return Err(Invalid);
            }
            if step.emits {
                out.push(step.symbol);
            }
            state = step.next;
            padding = step.padding;
        }
    }
    if padding { Ok(()) } else { Err(Invalid) }
}

const fn codes() -> [u32; 257] {
    let mut codes = [0; 257];
    let mut code = 0u32;
    let mut len = 1;
    while len <= 30 {
        code <<= 1;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] == len {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    codes
}

/// Child of an inner node: another inner node, or `LEAF | symbol`.
const LEAF: u16 = 0x8000;

const fn tree() -> [[u16; 2]; STATES] {
    let mut children = [[0u16; 2]; STATES];
    let mut nodes = 1u16;
    let mut symbol = 0;
    while symbol < 257 {
        let mut node = 0usize;
        let mut left = LENGTHS[symbol];
        while left > 1 {
            left -= 1;
            let bit = (CODES[symbol] >> left & 1) as usize;
            if children[node][bit] == 0 {
                children[node][bit] = nodes;
                nodes += 1;
            }
            node = children[node][bit] as usize;
        }
        children[node][(CODES[symbol] & 1) as usize] = LEAF | symbol as u16;
        symbol += 1;
    }
    children
}

const fn steps() -> [[Step; 16]; STATES] {
    let tree = tree();

    let mut is_padding = [false; STATES];
    let mut node = 0;
    let mut depth = 0;
    while depth < 8 {
        is_padding[node] = true;
        node = tree[node][1] as usize;
        depth += 1;
    }

    let nothing = Step { next: 0, symbol: 0, emits: false, fails: false, padding: false };
    let mut steps = [[nothing; 16]; STATES];
    let mut state = 0;
    while state < STATES {
        let mut nibble = 0;
        while nibble < 16 {
            let mut step = nothing;
            let mut node = state;
            let mut bit = 4;
            while bit > 0 {
                bit -= 1;
                let child = tree[node][nibble >> bit & 1];
                if child & LEAF == 0 {
                    node = child as usize;
                } else {
                    step.fails |= child & !LEAF == EOS;
                    step.emits = true;
                    step.symbol = (child & 0xff) as u8;
                    node = 0;
                }
            }
            step.next = node as u8;
            step.padding = is_padding[node];
            steps[state][nibble] = step;
            nibble += 1;
        }
        state += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(plain, &mut out);
        out
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut out = Vec::new();
        decode(coded, &mut out)?;
        Ok(out)
    }

    #[test]
    fn vectors_of_rfc_7541_appendix_c_hold() {
        for (plain, coded) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            ("307", "640eff"),
            ("gzip", "9bd9ab"),
            (
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d\
                 5007",
            ),
        ] {
            let bytes: Vec<u8> = (0..coded.len() / 2)
                .map(|at| u8::from_str_radix(&coded[at * 2..at * 2 + 2], 16).unwrap())
                .collect();

            assert_eq!(encoded(plain.as_bytes()), bytes, "{plain}");
            assert_eq!(encoded_len(plain.as_bytes()), bytes.len(), "{plain}");
            assert_eq!(decoded(&bytes).as_deref(), Ok(plain.as_bytes()), "{plain}");
        }
    }

    #[test]
    fn corners_of_the_table_are_those_of_the_rfc() {
        for (symbol, code, len) in [
            (0, 0x1ff8, 13),
            (usize::from(b' '), 0x14, 6),
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b'X'), 0xfc, 8),
            (usize::from(b'\\'), 0x7fff0, 19),
            (usize::from(b'z'), 0x7b, 7),
            (127, 0xffffffc, 28),
            (249, 0xffffffe, 28),
            (255, 0x3ffffee, 26),
            (256, 0x3fffffff, 30),
        ] {
            assert_eq!((CODES[symbol], LENGTHS[symbol]), (code, len), "symbol {symbol}");
        }
    }

    #[test]
    fn every_symbol_survives_in_every_alignment() {
        for symbol in 0..=255u8 {
            for lead in 0..8 {
                let mut plain = vec![b'0'; lead];
                plain.extend([symbol, b'a', symbol]);

                assert_eq!(decoded(&encoded(&plain)), Ok(plain.clone()), "symbol {symbol}");
            }
        }
    }

    #[test]
    fn bad_padding_and_eos_are_refused() {
        for coded in [
            &[0x00u8][..],             // '0' and three zero bits of padding
            &[0x07, 0xff],             // '0' and eleven ones
            &[0xff],                   // eight ones and no symbol
            &[0xff, 0xff, 0xff, 0xff], // EOS
            &[0x3f, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decoded(coded), Err(Invalid), "{coded:x?}");
        }
    }
}
