//! Range requests (RFC 9110 §14): which bytes of a representation a `Range` field selects, and the
//! frame around several of them.
//!
//! Pure. What the field may cost is bounded here: a set that is too long, or still has too many parts
//! when those that overlap or nearly touch are joined, is ignored (§14.2 allows that), so the answer
//! never carries a byte twice.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

/// Elements of a range set past which the field is ignored.
pub const MAX_SPECS: usize = 256;
/// Parts of one answer, after joining, past which the field is ignored.
pub const MAX_PARTS: usize = 16;
/// Parts with a smaller gap are joined: about what the head of another part costs (§15.3.7.2).
const JOINED_GAP: u64 = 128;

/// What a `Range` field comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// There is no field, or one that is to be ignored: 200 with all of it.
    Whole,
    /// 206 with these bytes: at least one part, none empty, none overlapping another.
    Parts(Vec<Range<u64>>),
    /// 416: no byte of the representation is asked for.
    Unsatisfiable,
}

/// Reads the `Range` field of a request for a representation of `size` bytes.
pub fn select<'a>(values: impl IntoIterator<Item = &'a HeaderValue>, size: u64) -> Selection {
    let mut values = values.into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Selection::Whole };
    let Some(specs) = parse(value.as_bytes()) else { return Selection::Whole };
    let mut parts = Vec::new();
    let mut empty = false;
    for spec in specs {
        match spec.resolve(size) {
            Some(part) if part.is_empty() => empty = true,
            Some(part) => parts.push(part),
            None => {}
        }
    }
    if parts.is_empty() {
        // The suffix of an empty representation is satisfiable (§14.1.2), and `content-range` cannot
        // say it.
        return if empty { Selection::Whole } else { Selection::Unsatisfiable };
    }
    let parts = joined(parts);
    if parts.len() > MAX_PARTS { Selection::Whole } else { Selection::Parts(parts) }
}

/// `content-range` of one part.
pub fn content_range(part: &Range<u64>, size: u64) -> HeaderValue {
    let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
    HeaderValue::try_from(text).expect("digits and punctuation")
}

/// `content-range` of a 416.
pub fn unsatisfied_range(size: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{size}")).expect("digits and punctuation")
}

/// A `multipart/byteranges` body (§14.6): each part's bytes with what goes before them, and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// `content-type` of the whole.
    pub content_type: HeaderValue,
    /// What is sent before a part's bytes, and those.
    pub parts: Vec<(Bytes, Range<u64>)>,
    /// What is sent after the last part.
    pub end: Bytes,
    /// Bytes of all of it.
    pub length: u64,
}

/// Frames `parts` of a representation of `size` bytes. The boundary must not occur in it: it is a
/// word of letters and digits that nobody can guess.
pub fn multipart(
    parts: Vec<Range<u64>>,
    size: u64,
    content_type: Option<&HeaderValue>,
    boundary: &str,
) -> Multipart {
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let mut length = end.len() as u64;
    let mut framed = Vec::with_capacity(parts.len());
    for part in parts {
        let mut head = Vec::with_capacity(160);
        if !framed.is_empty() {
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(content_type) = content_type {
            head.extend_from_slice(b"content-type: ");
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"content-range: ");
        head.extend_from_slice(content_range(&part, size).as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        length += head.len() as u64 + (part.end - part.start);
        framed.push((Bytes::from(head), part));
    }
    let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"))
        .expect("a boundary of letters and digits");
    Multipart { content_type, parts: framed, end, length }
}

/// One element of a range set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// From the first to the last position, the last included.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Suffix(u64),
}

impl Spec {
    /// The bytes it stands for; `None` if it cannot be satisfied (§14.1.2).
    fn resolve(self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::From(first, last) if first < size => {
                Some(first..last.map_or(size, |last| last.saturating_add(1).min(size)))
            }
            Self::From(..) | Self::Suffix(0) => None,
            Self::Suffix(length) => Some(size.saturating_sub(length)..size),
        }
    }
}

/// The elements of a `bytes` range set; `None` where the field is malformed, too long or in another
/// unit: it is then ignored (§14.2).
fn parse(field: &[u8]) -> Option<Vec<Spec>> {
    let equals = field.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (&field[..equals], &field[equals + 1..]);
    // §14.1: unit names are case-insensitive.
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for element in set.split(|&byte| byte == b',') {
        let element = element.trim_ascii();
        // §5.6.1.2: empty elements of a list are passed over.
        if element.is_empty() {
            continue;
        }
        if specs.len() == MAX_SPECS {
            return None;
        }
        specs.push(parse_spec(element)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(element: &[u8]) -> Option<Spec> {
    let dash = element.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&element[..dash], &element[dash + 1..]);
    if first.is_empty() {
        return Some(Spec::Suffix(number(last)?));
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Spec::From(first, None));
    }
    let last = number(last)?;
    // §14.1.1: an int-range whose last position is less than its first is invalid.
    (last >= first).then_some(Spec::From(first, Some(last)))
}

/// Digits only. A number too large to be told is as large as can be told: no file is larger.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add =
        |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

/// The parts as they were asked for, or, where some overlap or nearly touch, joined and in ascending
/// order (§15.3.7.2).
fn joined(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = parts.clone();
    sorted.sort_unstable_by_key(|part| (part.start, part.end));
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for part in sorted {
        match joined.last_mut() {
            Some(last) if part.start <= last.end.saturating_add(JOINED_GAP) => {
                last.end = last.end.max(part.end);
            }
            _ => joined.push(part),
        }
    }
    if joined.len() == parts.len() { parts } else { joined }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one part, not the numbers in it")]
mod tests {
    use super::*;

    fn of(field: &str, size: u64) -> Selection {
        select([&HeaderValue::from_str(field).unwrap()], size)
    }

    fn parts(parts: &[Range<u64>]) -> Selection {
        Selection::Parts(parts.to_vec())
    }

    #[test]
    fn sets_select_what_rfc_9110_says() {
        let all = Selection::Whole;
        let none = Selection::Unsatisfiable;
        for (clause, field, expected) in [
            ("§14.1.2 the first 500 bytes", "bytes=0-499", parts(&[0..500])),
            ("§14.1.2 the second 500 bytes", "bytes=500-999", parts(&[500..1000])),
            ("§14.1.2 the final 500 bytes", "bytes=-500", parts(&[9500..10000])),
            ("§14.1.2 from 9500 on", "bytes=9500-", parts(&[9500..10000])),
            ("§14.1.2 first and last byte", "bytes=0-0,-1", parts(&[0..1, 9999..10000])),
            ("§14.1.2 in the order asked", "bytes=5000-5001, 1-2", parts(&[5000..5002, 1..3])),
            ("§14.1.2 the end is cut to the size", "bytes=9999-20000", parts(&[9999..10000])),
            ("§14.1.2 a suffix longer than it", "bytes=-20000", parts(&[0..10000])),
            ("§14.1.2 past the end", "bytes=10000-", none.clone()),
            ("§14.1.2 past the end with a last", "bytes=10000-10001", none.clone()),
            ("§14.1.2 a suffix of nothing", "bytes=-0", none.clone()),
            ("§14.1.2 one is enough", "bytes=20000-,0-0", parts(&[0..1])),
            ("§14.1 units ignore case", "BYTES=0-0", parts(&[0..1])),
            ("§14.2 an unknown unit", "lines=0-1", all.clone()),
            ("§5.6.1.2 empty elements", "bytes=, ,0-0,,", parts(&[0..1])),
            ("§5.6.1.2 nothing but commas", "bytes=,,", all.clone()),
            ("§14.1.1 last before first", "bytes=5-4", all.clone()),
            ("§14.1.1 one bad spoils all", "bytes=0-0,5-4", all.clone()),
            ("§14.1.1 no numbers", "bytes=-", all.clone()),
            ("§14.1.1 a sign", "bytes=+1-2", all.clone()),
            ("§14.1.1 two dashes", "bytes=1--2", all.clone()),
            ("§14.1.1 white space inside", "bytes=1 - 2", all.clone()),
            ("§14.1.1 hexadecimal", "bytes=0x0-0x1", all.clone()),
            ("§14.1.1 no set", "bytes", all.clone()),
            ("§14.1.1 an empty set", "bytes=", all.clone()),
            ("§14.1.1 a blank before the set", "bytes =0-1", all),
            ("larger than 64 bits, last", "bytes=0-99999999999999999999999", parts(&[0..10000])),
            ("larger than 64 bits, first", "bytes=99999999999999999999999-", none),
            ("larger than 64 bits, suffix", "bytes=-99999999999999999999", parts(&[0..10000])),
            ("2^64-1 does not wrap", "bytes=0-18446744073709551615", parts(&[0..10000])),
            ("§15.3.7.2 overlapping ones join", "bytes=0-499,400-999", parts(&[0..1000])),
            ("§15.3.7.2 close ones join", "bytes=1000-1099,0-899", parts(&[0..1100])),
            ("§15.3.7.2 the same twice", "bytes=0-9,0-9", parts(&[0..10])),
            ("§15.3.7.2 one in another", "bytes=0-,10-20", parts(&[0..10000])),
        ] {
            assert_eq!(of(field, 10000), expected, "{clause}: {field}");
        }
    }

    #[test]
    fn an_empty_representation_has_no_bytes_to_select() {
        for (field, expected) in [
            ("bytes=0-", Selection::Unsatisfiable),
            ("bytes=0-0", Selection::Unsatisfiable),
            // §14.1.2: satisfiable, and no `content-range` can say so.
            ("bytes=-5", Selection::Whole),
            ("bytes=-0", Selection::Unsatisfiable),
        ] {
            assert_eq!(of(field, 0), expected, "{field}");
        }
    }

    #[test]
    fn a_field_that_is_absent_or_there_twice_is_ignored() {
        let value = HeaderValue::from_static("bytes=0-0");

        assert_eq!(select([], 10), Selection::Whole);
        assert_eq!(select([&value, &value], 10), Selection::Whole);
    }

    #[test]
    fn range_bombs_cost_no_more_than_the_whole() {
        let many = |count: u64, step: u64| {
            let ranges: Vec<String> =
                (0..count).map(|at| format!("{}-{}", at * step, at * step)).collect();
            format!("bytes={}", ranges.join(","))
        };
        // CVE-2011-3192: overlapping ranges without end.
        let overlapping = format!("bytes=0-{}", ",5-".repeat(200));

        assert_eq!(of(&many(1000, 1000), 1 << 30), Selection::Whole);
        assert_eq!(of(&many(17, 1000), 1 << 30), Selection::Whole);
        assert!(matches!(of(&many(16, 1000), 1 << 30), Selection::Parts(p) if p.len() == 16));
        assert_eq!(of(&many(200, 2), 1 << 30), parts(&[0..399]));
        assert_eq!(of(&overlapping, 1 << 30), parts(&[0..1 << 30]));
    }

    #[test]
    fn whatever_is_selected_is_inside_and_disjoint() {
        let positions = ["", "0", "1", "7", "50", "98", "99", "100", "101", "18446744073709551615"];
        for size in [0, 1, 99, 100, 5000] {
            for a in positions {
                for b in positions {
                    for c in positions {
                        let Selection::Parts(parts) = of(&format!("bytes={a}-{b},{c}-{a}"), size)
                        else {
                            continue;
                        };
                        let mut sorted = parts.clone();
                        sorted.sort_by_key(|part| part.start);
                        assert!(parts.iter().all(|part| !part.is_empty() && part.end <= size));
                        assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start));
                    }
                }
            }
        }
    }

    #[test]
    fn a_multipart_body_is_as_long_as_it_says() {
        let text = HeaderValue::from_static("text/plain");

        let framed = multipart(vec![0..2, 8..10], 10, Some(&text), "XyZ");

        let mut body = Vec::new();
        for (head, part) in &framed.parts {
            body.extend_from_slice(head);
            body.extend_from_slice(&b"0123456789"[part.start as usize..part.end as usize]);
        }
        body.extend_from_slice(&framed.end);
        let expected = "--XyZ\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01\
                        \r\n--XyZ\r\ncontent-type: text/plain\r\ncontent-range: bytes 8-9/10\r\n\
                        \r\n89\r\n--XyZ--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(framed.length, expected.len() as u64);
        assert_eq!(framed.content_type, "multipart/byteranges; boundary=XyZ");
    }

    #[test]
    fn content_ranges_count_from_zero_to_the_last_byte() {
        assert_eq!(content_range(&(0..500), 1234), "bytes 0-499/1234");
        assert_eq!(unsatisfied_range(0), "bytes */0");
    }
}
