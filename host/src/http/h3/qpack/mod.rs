//! QPACK field sections (RFC 9204) without a dynamic table.
//!
//! We announce a table capacity of zero, so a section that refers to the dynamic table is an error
//! (§2.2.3), and our own sections use the static table and Huffman literals only. Decoding is held
//! to the limit on a field section (RFC 9114 §4.2.2) while it goes on: a few bytes cannot grow into
//! more than that.

mod huffman;
mod table;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use self::table::{STATIC_TABLE, indices};

/// What each field counts on top of its name and value (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// Why a field section was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// QPACK_DECOMPRESSION_FAILED; the reason.
    #[error("malformed field section: {0}")]
    Malformed(&'static str),
    /// Larger than we said we take, or more fields.
    #[error("the field section is too large")]
    TooLarge,
}

const TRUNCATED: DecodeError = DecodeError::Malformed("truncated");
const DYNAMIC: DecodeError = DecodeError::Malformed("reference to the dynamic table");

/// What a field section may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionLimits {
    /// Bytes, counted as RFC 9114 §4.2.2 does.
    pub(super) bytes: usize,
    /// Fields.
    pub(super) fields: usize,
}

/// A part of a field line: from the static table, from the wire, or Huffman-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// From the table.
    Static(&'static str),
    /// From the wire.
    Owned(Bytes),
}

impl Text {
    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Static(text) => text.as_bytes(),
            Self::Owned(bytes) => bytes,
        }
    }

    /// The bytes, shared.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Static(text) => Bytes::from_static(text.as_bytes()),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The lines of one field section.
#[derive(Debug)]
pub(super) struct Decoder {
    section: Bytes,
    limits: SectionLimits,
    bytes: usize,
    fields: usize,
}

impl Decoder {
    /// Reads the prefix of a section (§4.5.1).
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] where it needs the dynamic table.
    pub(super) fn new(mut section: Bytes, limits: SectionLimits) -> Result<Self, DecodeError> {
        let (_, required_insert_count) = integer(&mut section, 8)?;
        if required_insert_count != 0 {
            return Err(DYNAMIC);
        }
        let (flags, _delta_base) = integer(&mut section, 7)?;
        // A sign bit puts the base below the insert count, which is zero (§4.5.1.2).
        if flags & 0x80 != 0 {
            return Err(DecodeError::Malformed("negative base"));
        }
        Ok(Self { section, limits, bytes: 0, fields: 0 })
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// See [`DecodeError`]; nothing more can be read then.
    pub(super) fn next(&mut self) -> Result<Option<(Text, Text)>, DecodeError> {
        let Some(&first) = self.section.first() else {
            return Ok(None);
        };
        let (name, value) = if first & 0x80 != 0 {
            // Indexed field line (§4.5.2).
            let (flags, index) = integer(&mut self.section, 6)?;
            let (name, value) = static_entry(flags & 0x40 != 0, index)?;
            (Text::Static(name), Text::Static(value))
        } else if first & 0x40 != 0 {
            // Literal field line with name reference (§4.5.4).
            let (flags, index) = integer(&mut self.section, 4)?;
            let (name, _) = static_entry(flags & 0x10 != 0, index)?;
            self.count(name.len())?;
            (Text::Static(name), self.string(7)?)
        } else if first & 0x20 != 0 {
            // Literal field line with literal name (§4.5.6).
            let name = self.string(3)?;
            (name, self.string(7)?)
        } else {
            // Post-base references (§4.5.3, §4.5.5) reach into the dynamic table only.
            return Err(DYNAMIC);
        };
        self.bytes += name.as_bytes().len() + value.as_bytes().len() + FIELD_OVERHEAD;
        self.fields += 1;
        if self.bytes > self.limits.bytes || self.fields > self.limits.fields {
            return Err(DecodeError::TooLarge);
        }
        Ok(Some((name, value)))
    }

    fn count(&self, more: usize) -> Result<(), DecodeError> {
        if self.bytes + more > self.limits.bytes { Err(DecodeError::TooLarge) } else { Ok(()) }
    }

    /// A string literal whose length has a prefix of `bits`, below the Huffman bit (§4.1.2).
    fn string(&mut self, bits: u32) -> Result<Text, DecodeError> {
        let (flags, len) = integer(&mut self.section, bits)?;
        let len = usize::try_from(len).map_err(|_| TRUNCATED)?;
        if len > self.section.len() {
            return Err(TRUNCATED);
        }
        let raw = self.section.split_to(len);
        if flags & 1 << bits == 0 {
            self.count(len)?;
            return Ok(Text::Owned(raw));
        }
        // At 30 bits a byte at most, the plain text has at least this size.
        self.count(len * 8 / 30)?;
        let mut plain = Vec::new();
        huffman::decode(&raw, &mut plain).map_err(|_| DecodeError::Malformed("huffman code"))?;
        Ok(Text::Owned(plain.into()))
    }
}

fn static_entry(is_static: bool, index: u64) -> Result<(&'static str, &'static str), DecodeError> {
    if !is_static {
        return Err(DYNAMIC);
    }
    usize::try_from(index)
        .ok()
        .and_then(|index| STATIC_TABLE.get(index))
        .copied()
        .ok_or(DecodeError::Malformed("no such static entry"))
}

/// An integer with a prefix of `bits` (§4.1.1), and the first byte for the flags above it.
fn integer(buf: &mut Bytes, bits: u32) -> Result<(u8, u64), DecodeError> {
    let (first, value, used) = parse_integer(buf, bits)?.ok_or(TRUNCATED)?;
    let _read = buf.split_to(used);
    Ok((first, value))
}

/// [`integer`] over a slice, with the number of bytes it takes; `None` where it goes on past the
/// end. Integers are held to 62 bits, as RFC 9204 §4.1.1 asks.
pub(super) fn parse_integer(
    buf: &[u8],
    bits: u32,
) -> Result<Option<(u8, u64, usize)>, DecodeError> {
    let Some(&first) = buf.first() else {
        return Ok(None);
    };
    let mask = ((1u16 << bits) - 1) as u8;
    let mut value = u64::from(first & mask);
    if value < u64::from(mask) {
        return Ok(Some((first, value, 1)));
    }
    for (at, byte) in buf[1..].iter().enumerate() {
        // Nine groups of seven bits; also bounds how many zero groups may follow.
        if at > 8 {
            return Err(DecodeError::Malformed("integer too large"));
        }
        value += u64::from(byte & 0x7f) << (at * 7);
        if value >= 1 << 62 {
            return Err(DecodeError::Malformed("integer too large"));
        }
        if byte & 0x80 == 0 {
            return Ok(Some((first, value, at + 2)));
        }
    }
    Ok(None)
}

/// Appends the field section of a response head, or of trailers when there is no status.
///
/// `skip` names the fields that are left out.
pub(super) fn encode(
    status: Option<StatusCode>,
    fields: &HeaderMap,
    skip: impl Fn(&str) -> bool,
    out: &mut BytesMut,
) {
    // Required Insert Count 0, Delta Base 0.
    out.put_slice(&[0, 0]);
    let mut scratch = Vec::new();
    if let Some(status) = status {
        encode_status(status, out);
    }
    for (name, value) in fields {
        let name = name.as_str();
        if skip(name) {
            continue;
        }
        let value_bytes = value.as_bytes();
        let candidates = indices(name);
        let exact = candidates
            .iter()
            .find(|index| STATIC_TABLE[usize::from(**index)].1.as_bytes() == value_bytes);
        // The N bit keeps intermediaries from putting it into a table of theirs (§7.1.3).
        let never_indexed = value.is_sensitive();
        if let Some(index) = exact.filter(|_| !never_indexed) {
            put_integer(out, 0xc0, 6, u64::from(*index));
            continue;
        }
        if let Some(index) = candidates.first() {
            let flags = if never_indexed { 0x70 } else { 0x50 };
            put_integer(out, flags, 4, u64::from(*index));
        } else {
            let flags = if never_indexed { 0x30 } else { 0x20 };
            put_string(out, flags, 3, name.as_bytes(), &mut scratch);
        }
        put_string(out, 0, 7, value_bytes, &mut scratch);
    }
}

fn encode_status(status: StatusCode, out: &mut BytesMut) {
    let index = match status.as_u16() {
        103 => 24,
        200 => 25,
        304 => 26,
        404 => 27,
        503 => 28,
        100 => 63,
        204 => 64,
        206 => 65,
        302 => 66,
        400 => 67,
        403 => 68,
        421 => 69,
        425 => 70,
        500 => 71,
        _ => {
            put_integer(out, 0x50, 4, 24);
            // Three digits are never shorter by Huffman.
            put_integer(out, 0, 7, 3);
            out.put_slice(status.as_str().as_bytes());
            return;
        }
    };
    put_integer(out, 0xc0, 6, index);
}

fn put_string(out: &mut BytesMut, flags: u8, bits: u32, text: &[u8], scratch: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        put_integer(out, flags | 1 << bits, bits, coded as u64);
        scratch.clear();
        huffman::encode(text, scratch);
        out.put_slice(scratch);
    } else {
        put_integer(out, flags, bits, text.len() as u64);
        out.put_slice(text);
    }
}

fn put_integer(out: &mut BytesMut, flags: u8, bits: u32, value: u64) {
    let mask = (1u64 << bits) - 1;
    if value < mask {
        out.put_u8(flags | value as u8);
        return;
    }
    out.put_u8(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const LIMITS: SectionLimits = SectionLimits { bytes: 4096, fields: 20 };

    fn decoded(section: &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
        let mut decoder = Decoder::new(Bytes::copy_from_slice(section), LIMITS)?;
        let mut lines = Vec::new();
        while let Some((name, value)) = decoder.next()? {
            let text = |part: &Text| String::from_utf8_lossy(part.as_bytes()).into_owned();
            lines.push((text(&name), text(&value)));
        }
        Ok(lines)
    }

    fn line(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn literal_with_name_reference_of_rfc_9204_appendix_b1() {
        let section = b"\x00\x00\x51\x0b/index.html";

        assert_eq!(decoded(section), Ok(vec![line(":path", "/index.html")]));
    }

    #[test]
    fn sections_of_rfc_9204_appendix_b_that_use_the_dynamic_table_are_refused() {
        for section in [&b"\x03\x81\x10\x11"[..], b"\x05\x00\x80\xc1\x81", b"\x06\x00\x83\xc1\x80"]
        {
            assert_eq!(decoded(section), Err(DYNAMIC), "{section:x?}");
        }
    }

    #[test]
    fn malformed_sections_are_refused() {
        for (section, error) in [
            (&b""[..], TRUNCATED),
            (b"\x00", TRUNCATED),
            (b"\x00\x80", DecodeError::Malformed("negative base")),
            (b"\x00\x00\x80", DYNAMIC),
            (b"\x00\x00\x40\x00", DYNAMIC),
            (b"\x00\x00\x10", DYNAMIC),
            (b"\x00\x00\x00", DYNAMIC),
            (b"\x00\x00\xff\x24", DecodeError::Malformed("no such static entry")),
            (b"\x00\x00\xff", TRUNCATED),
            (b"\x00\x00\x51\x0b/in", TRUNCATED),
            (b"\x00\x00\x51\x81\x00", DecodeError::Malformed("huffman code")),
            (
                b"\x00\x00\x51\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                DecodeError::Malformed("integer too large"),
            ),
            (
                b"\x00\x00\x51\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
                DecodeError::Malformed("integer too large"),
            ),
        ] {
            assert_eq!(decoded(section), Err(error), "{section:x?}");
        }
    }

    #[test]
    fn integers_of_rfc_7541_appendix_c1_hold() {
        for (bits, value, wire) in
            [(5, 10, &[0x0a][..]), (5, 1337, &[0x1f, 0x9a, 0x0a]), (8, 42, &[0x2a])]
        {
            let mut out = BytesMut::new();
            put_integer(&mut out, 0, bits, value);

            assert_eq!(&out[..], wire);
            assert_eq!(parse_integer(wire, bits), Ok(Some((wire[0], value, wire.len()))));
        }
    }

    #[test]
    fn a_section_over_its_limits_stops_being_decoded() {
        let mut many = vec![0, 0];
        many.extend([0xc0 | 17; 21]);
        let mut large = vec![0, 0, 0x51, 0x7f, 0x81, 0x7f];
        large.extend([b'a'; 16_384]);

        assert_eq!(decoded(&many), Err(DecodeError::TooLarge));
        assert_eq!(decoded(&large), Err(DecodeError::TooLarge));
    }

    #[test]
    fn a_response_head_uses_the_static_table() {
        let mut fields = HeaderMap::new();
        fields.insert("content-type", HeaderValue::from_static("text/plain"));
        fields.insert("connection", HeaderValue::from_static("close"));
        fields.insert("vary", HeaderValue::from_static("origin"));
        let mut out = BytesMut::new();

        encode(Some(StatusCode::OK), &fields, |name| name == "connection", &mut out);

        assert_eq!(&out[..], [0, 0, 0xc0 | 25, 0xc0 | 53, 0xc0 | 60]);
    }

    #[test]
    fn random_sections_round_trip() {
        // A fixed linear congruential generator: failures repeat.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let known = ["content-type", "vary", "etag", "link", "x-frame-options", "server"];
        for _ in 0..2000 {
            let mut fields = HeaderMap::new();
            for _ in 0..random(8) {
                let name = if random(2) == 0 {
                    known[random(known.len())].to_owned()
                } else {
                    (0..=random(40)).map(|_| (b'a' + random(26) as u8) as char).collect()
                };
                let value: Vec<u8> = (0..random(200))
                    .map(|_| match random(4) {
                        0 => 0x80 + random(0x80) as u8,
                        _ => 0x20 + random(0x5f) as u8,
                    })
                    .collect();
                let mut value = HeaderValue::from_bytes(&value).unwrap();
                value.set_sensitive(random(5) == 0);
                fields.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let status = StatusCode::from_u16(100 + random(500) as u16).unwrap();
            let mut out = BytesMut::new();

            encode(Some(status), &fields, |_| false, &mut out);

            let mut decoder = Decoder::new(out.freeze(), LIMITS).unwrap();
            let mut lines = Vec::new();
            while let Some((name, value)) = decoder.next().unwrap() {
                lines.push((name.into_bytes(), value.into_bytes()));
            }
            let mut expected =
                vec![(Bytes::from(":status"), Bytes::copy_from_slice(status.as_str().as_bytes()))];
            expected.extend(fields.iter().map(|(name, value)| {
                (
                    Bytes::copy_from_slice(name.as_str().as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes()),
                )
            }));
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = (seed >> 40) as usize % 40;
            let mut section = vec![0, 0];
            let mut bits = seed;
            for _ in 0..len {
                bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
                section.push(bits as u8);
            }

            let _outcome = decoded(&section);
        }
    }
}
