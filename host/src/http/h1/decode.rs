//! Request body framing (RFC 9112 §6.3, §7.1): by length, or chunked, read strictly. Whatever two
//! readers could read differently (a bare line feed, blanks around a chunk size, a size that
//! overflows, an extension that is none) ends the body with an error and with it the connection.

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;

use super::parse;
use crate::http::body::BodyError;
use crate::http::limits::Limits;

/// Bytes of one chunk-size line; RFC 9112 §7.1.1 asks for a limit on extensions.
const CHUNK_LINE_BYTES: usize = 1024;
/// Bytes of chunk extensions in one body, so that they cannot outweigh its data.
const EXTENSION_BYTES: usize = 16 * 1024;

/// Turns bytes of the connection into frames of one body.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    extension_bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    /// The trailer section, of which `scanned` bytes hold no end; the current line began at `line`.
    Trailers {
        scanned: usize,
        line: usize,
    },
    Done,
    Failed,
}

/// One step of decoding.
#[derive(Debug)]
pub(super) enum Decoded {
    /// Data, never empty, or trailers. Ask [`Decoder::is_done`] whether more follows.
    Frame(Frame<Bytes>),
    /// The end, without a frame.
    End,
    /// Not before more bytes have come.
    NeedsMore,
}

impl Decoder {
    /// A body of `length` bytes.
    pub(super) fn length(length: u64) -> Self {
        Self { state: State::Length(length), extension_bytes: 0 }
    }

    /// A chunked body.
    pub(super) fn chunked() -> Self {
        Self { state: State::ChunkSize, extension_bytes: 0 }
    }

    /// Whether the whole body has been decoded.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::Length(0))
    }

    /// Whether the rest of the connection cannot be understood any more.
    pub(super) fn is_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Nothing more will come.
    pub(super) fn fail(&mut self) {
        self.state = State::Failed;
    }

    /// Bytes known to be still to come, at the least.
    pub(super) fn remaining(&self) -> u64 {
        match self.state {
            State::Length(left) | State::ChunkData(left) => left,
            _ => 0,
        }
    }

    /// Takes what it can use next from the front of `buffer`.
    ///
    /// # Errors
    /// [`BodyError::Malformed`]; the decoder is failed from then on.
    pub(super) fn decode(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Decoded, BodyError> {
        let decoded = self.step(buffer, limits);
        if decoded.is_err() {
            self.state = State::Failed;
        }
        decoded.map_err(BodyError::Malformed)
    }

    fn step(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Decoded, &'static str> {
        loop {
            match &mut self.state {
                State::Length(0) | State::Done => return Ok(Decoded::End),
                State::Failed => return Err("undecodable"),
                State::Length(left) => {
                    return Ok(take_data(buffer, left));
                }
                State::ChunkData(left) => {
                    let decoded = take_data(buffer, left);
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(decoded);
                }
                State::ChunkEnd => {
                    match (buffer.first(), buffer.get(1)) {
                        (Some(b'\r'), Some(b'\n')) => buffer.advance(2),
                        (None, _) | (Some(b'\r'), None) => return Ok(Decoded::NeedsMore),
                        _ => return Err("a chunk is longer than its size"),
                    }
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => {
                    let Some(line) = line_end(buffer)? else { return Ok(Decoded::NeedsMore) };
                    let (size, extension_bytes) = chunk_size(&buffer[..line])?;
                    self.extension_bytes += extension_bytes;
                    if self.extension_bytes > EXTENSION_BYTES {
                        return Err("too many chunk extensions");
                    }
                    buffer.advance(line + 2);
                    self.state = if size == 0 {
                        State::Trailers { scanned: 0, line: 0 }
                    } else {
                        State::ChunkData(size)
                    };
                }
                State::Trailers { scanned, line } => {
                    let Some(end) = section_end(buffer, scanned, line, limits)? else {
                        return Ok(Decoded::NeedsMore);
                    };
                    let section = buffer.split_to(end).freeze();
                    self.state = State::Done;
                    if section.len() == 2 {
                        return Ok(Decoded::End);
                    }
                    let trailers = parse::trailer_section(&section, limits)
                        .ok_or("a malformed trailer section")?;
                    return Ok(Decoded::Frame(Frame::trailers(trailers)));
                }
            }
        }
    }
}

fn take_data(buffer: &mut BytesMut, left: &mut u64) -> Decoded {
    let available = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    if available == 0 {
        return Decoded::NeedsMore;
    }
    *left -= available as u64;
    Decoded::Frame(Frame::data(parse::take_front(buffer, available)))
}

/// The length of the chunk-size line at the front, without its CRLF.
fn line_end(buffer: &[u8]) -> Result<Option<usize>, &'static str> {
    let looked_at = &buffer[..buffer.len().min(CHUNK_LINE_BYTES)];
    match looked_at.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && buffer[at - 1] == b'\r' => Ok(Some(at - 1)),
        Some(_) => Err("a line feed without carriage return"),
        None if buffer.len() >= CHUNK_LINE_BYTES => Err("a chunk-size line without end"),
        None => Ok(None),
    }
}

/// `chunk-size [ chunk-ext ]`: the size, and how long the extensions are.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), &'static str> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // 15 digits are an exabyte, and cannot overflow. Leading zeros are syntax too, but serve
    // nobody.
    if digits == 0 || digits > 15 {
        return Err("a malformed chunk size");
    }
    let size = line[..digits].iter().fold(0_u64, |size, byte| {
        (size << 4) | u64::from((*byte as char).to_digit(16).unwrap_or_default())
    });
    let extensions = &line[digits..];
    check_extensions(extensions)?;
    Ok((size, extensions.len()))
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`. RFC 9112 §7.1.1 lets blanks stand around `;`
/// and `=`, "bad" ones that a sender must not send; they are refused.
fn check_extensions(mut rest: &[u8]) -> Result<(), &'static str> {
    const MALFORMED: &str = "a malformed chunk extension";
    while let Some((b';', after)) = rest.split_first() {
        rest = token(after).ok_or(MALFORMED)?;
        if let Some((b'=', after)) = rest.split_first() {
            rest = match after.split_first() {
                Some((b'"', quoted)) => quoted_string(quoted),
                _ => token(after),
            }
            .ok_or(MALFORMED)?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

/// What follows a token; `None` if there is no token.
fn token(bytes: &[u8]) -> Option<&[u8]> {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let length = bytes.iter().take_while(|byte| is_token(byte)).count();
    (length > 0).then(|| &bytes[length..])
}

/// What follows a quoted string whose opening quote is gone; `None` if it is malformed.
fn quoted_string(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes.split_first()? {
            (b'"', rest) => return Some(rest),
            (b'\\', rest) => match rest.split_first()? {
                (b'\t' | 0x20..=0x7e | 0x80.., rest) => rest,
                _ => return None,
            },
            (b'\t' | 0x20..=0x7e | 0x80.., rest) => rest,
            _ => return None,
        };
    }
}

/// The end of the trailer section, its empty line included.
fn section_end(
    buffer: &[u8],
    scanned: &mut usize,
    line: &mut usize,
    limits: &Limits,
) -> Result<Option<usize>, &'static str> {
    const TOO_LARGE: &str = "a trailer section that is too large";
    while let Some(offset) = buffer[*scanned..].iter().position(|&byte| byte == b'\n') {
        let line_feed = *scanned + offset;
        if line_feed == 0 || buffer[line_feed - 1] != b'\r' {
            return Err("a line feed without carriage return");
        }
        *scanned = line_feed + 1;
        if *scanned > limits.header_bytes {
            return Err(TOO_LARGE);
        }
        if line_feed - 1 == *line {
            return Ok(Some(*scanned));
        }
        *line = *scanned;
    }
    *scanned = buffer.len();
    if *scanned > limits.header_bytes { Err(TOO_LARGE) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a body fed in pieces of `step` bytes decodes to.
    fn decode(body: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let limits = Limits::default();
        let mut decoder = Decoder::chunked();
        let mut buffer = BytesMut::new();
        let mut data = Vec::new();
        let mut trailers = 0;
        for piece in body.chunks(step) {
            buffer.extend_from_slice(piece);
            while !decoder.is_done() {
                match decoder.decode(&mut buffer, &limits)? {
                    Decoded::Frame(frame) => match frame.into_data() {
                        Ok(bytes) => data.extend_from_slice(&bytes),
                        Err(frame) => trailers = frame.into_trailers().map_or(0, |map| map.len()),
                    },
                    Decoded::NeedsMore => break,
                    Decoded::End => {}
                }
            }
        }
        Ok((data, trailers, decoder.is_done()))
    }

    #[test]
    fn well_formed_chunks_decode_however_they_are_cut() {
        let bodies: [(&[u8], &[u8], usize); 6] = [
            (b"0\r\n\r\n", b"", 0),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
            (b"5;a\r\nhello\r\n00\r\n\r\n", b"hello", 0),
            (b"5;a=b;c=\"d;\\\"\"\r\nhello\r\n0\r\n\r\n", b"hello", 0),
            (b"A\r\n0123456789\r\n1\r\nx\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n", b"0123456789x", 2),
            (b"000005\r\n\r\n\r\n\r\r\n0;last\r\n\r\n", b"\r\n\r\n\r", 0),
        ];

        for (body, data, trailers) in bodies {
            for step in [1, 2, 3, 7, body.len()] {
                let decoded = decode(body, step).unwrap();

                assert_eq!(decoded, (data.to_vec(), trailers, true), "{}", body.escape_ascii());
            }
        }
    }

    #[test]
    fn whatever_two_readers_could_read_differently_is_refused() {
        let bodies: [(&[u8], &str); 24] = [
            (b"5\nhello\r\n0\r\n\r\n", "bare LF after the size"),
            (b"5\r\nhello\n0\r\n\r\n", "bare LF after the data"),
            (b"5\r\nhello\r\n0\n\r\n", "bare LF after the last size"),
            (b"5\r\nhello\r\n0\r\n\n", "bare LF as the end"),
            (b"0\r\nx: 1\n\r\n", "bare LF in the trailers"),
            (b"5 \r\nhello\r\n0\r\n\r\n", "blank after the size"),
            (b" 5\r\nhello\r\n0\r\n\r\n", "blank before the size"),
            (b"5\t\r\nhello\r\n0\r\n\r\n", "tab after the size"),
            (b"5;\r\nhello\r\n0\r\n\r\n", "extension without name"),
            (b"5; a\r\nhello\r\n0\r\n\r\n", "blank before the extension"),
            (b"5;a =b\r\nhello\r\n0\r\n\r\n", "blank in the extension"),
            (b"5;a=\r\nhello\r\n0\r\n\r\n", "extension without value"),
            (b"5;a=\"b\r\nhello\r\n0\r\n\r\n", "quote not closed"),
            (b"5;a\rb\r\nhello\r\n0\r\n\r\n", "carriage return in the extension"),
            (b"5;a\0\r\nhello\r\n0\r\n\r\n", "NUL in the extension"),
            (b"0x5\r\nhello\r\n0\r\n\r\n", "hexadecimal prefix"),
            (b"+5\r\nhello\r\n0\r\n\r\n", "sign"),
            (b"-1\r\nhello\r\n0\r\n\r\n", "negative"),
            (b"\r\nhello\r\n0\r\n\r\n", "no size"),
            (b"10000000000000005\r\nhello\r\n0\r\n\r\n", "overflow"),
            (b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "largest 64 bits"),
            (b"4\r\nhello\r\n0\r\n\r\n", "longer than its size"),
            (b"0\r\nx : 1\r\n\r\n", "blank before the colon"),
            (b"0\r\nx: 1\r\n folded\r\n\r\n", "folded trailer"),
        ];

        for (body, what) in bodies {
            for step in [1, body.len()] {
                let decoded = decode(body, step);

                assert!(matches!(decoded, Err(BodyError::Malformed(_))), "{what}: {decoded:?}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(CHUNK_LINE_BYTES));
        let many = format!("1;{}\r\nx\r\n", "a".repeat(512)).repeat(64);
        let section = format!("0\r\nx: {}\r\n\r\n", "a".repeat(Limits::default().header_bytes));
        let fields = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(Limits::default().headers + 1));

        for body in [line, many, section, fields] {
            assert!(decode(body.as_bytes(), 4096).is_err());
        }
    }

    #[test]
    fn a_body_by_length_takes_exactly_its_length() {
        let mut buffer = BytesMut::from(&b"hellomore"[..]);
        let mut decoder = Decoder::length(5);

        let decoded = decoder.decode(&mut buffer, &Limits::default()).unwrap();

        assert!(matches!(decoded, Decoded::Frame(frame) if frame.data_ref().unwrap() == "hello"));
        assert!(decoder.is_done());
        assert_eq!(&buffer[..], b"more");
    }
}
