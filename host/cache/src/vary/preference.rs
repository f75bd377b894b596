//! The normal form of `Accept-Encoding` and `Accept-Language`: members in lower case and sorted, each
//! with its weight where that is not 1. What the order says is only in the weights (RFC 9110 §12.4.2).
//!
//! A coding that is refused is left out where nothing (`*`) would accept it: it is not acceptable
//! either way (§12.5.3). `identity` and `*` stay, as they say something of what is not listed.

use http::HeaderValue;

use super::{SEPARATOR, WEIGHT};

/// More members, and the field is compared as it is written.
const MAX_MEMBERS: usize = 24;
/// The longest name that is looked at.
const MAX_NAME_BYTES: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    name: [u8; MAX_NAME_BYTES],
    length: u8,
    /// In thousandths.
    weight: u16,
}

impl Member {
    fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.length)]
    }
}

/// Gives the normal form piece by piece. Nothing where the field is not of the grammar: then no more
/// than that is known of what it means.
pub(super) fn normalise<'a>(
    is_coding: bool,
    lines: impl IntoIterator<Item = &'a HeaderValue>,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Option<bool> {
    let mut members = [Member { name: [0; MAX_NAME_BYTES], length: 0, weight: 0 }; MAX_MEMBERS];
    let mut count = 0;
    for line in lines {
        for text in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if !text.is_empty() {
                *members.get_mut(count)? = member(text, is_coding)?;
                count += 1;
            }
        }
    }
    let members = &mut members[..count];
    members.sort_unstable();
    let has_any = members.iter().any(|member| member.name() == b"*");
    let mut first = true;
    for (at, member) in members.iter().enumerate() {
        let is_special = matches!(member.name(), b"*" | b"identity");
        let is_refused = member.weight == 0 && is_coding && !is_special && !has_any;
        // The same once more; a name with two weights is left as it is.
        let is_twice = at > 0 && members[at - 1] == *member;
        if is_twice || is_refused && !names_again(members, at) {
            continue;
        }
        let weight = weight_text(member.weight);
        let taken = (first || take(SEPARATOR))
            && take(member.name())
            && (member.weight == 1000 || take(WEIGHT) && take(&weight));
        if !taken {
            return Some(false);
        }
        first = false;
    }
    Some(true)
}

/// Whether the name stands there with another weight.
fn names_again(members: &[Member], at: usize) -> bool {
    members
        .iter()
        .any(|other| other.name() == members[at].name() && other.weight != members[at].weight)
}

fn member(text: &[u8], is_coding: bool) -> Option<Member> {
    let mut parts = text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let mut name = parts.next()?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.iter().all(|byte| is_name(*byte)) {
        return None;
    }
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => match parameter {
            [b'q' | b'Q', b'=', weight @ ..] => thousandths(weight)?,
            _ => return None,
        },
    };
    if parts.next().is_some() {
        return None;
    }
    // RFC 9110 §8.4.1.3: the same coding.
    if is_coding && name.eq_ignore_ascii_case(b"x-gzip") {
        name = b"gzip";
    } else if is_coding && name.eq_ignore_ascii_case(b"x-compress") {
        name = b"compress";
    }
    let mut member = Member { name: [0; MAX_NAME_BYTES], length: 0, weight };
    member.length = u8::try_from(name.len()).ok()?;
    member.name[..name.len()].copy_from_slice(name);
    member.name.make_ascii_lowercase();
    Some(member)
}

/// A token's bytes.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `qvalue` (RFC 9110 §12.4.2), in thousandths.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

fn weight_text(thousandths: u16) -> [u8; 3] {
    [100, 10, 1].map(|unit| b'0' + u8::try_from(thousandths / unit % 10).unwrap_or_default())
}
