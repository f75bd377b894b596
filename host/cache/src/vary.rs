//! `Vary` and the request fields that select a variant (RFC 9111 §4.1), normalised where the clause
//! lets a cache do so: blanks, several lines of one field, and order and case in `Accept-Encoding` and
//! `Accept-Language`.
//!
//! Matching allocates nothing: the normal form of the presented fields is compared as it is made.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, COOKIE, DATE, FROM, HOST,
    IF_MODIFIED_SINCE, IF_RANGE, IF_UNMODIFIED_SINCE, ORIGIN, PROXY_AUTHORIZATION, REFERER,
    USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName};

mod preference;

/// A response that varies by more fields is not stored.
pub const MAX_FIELDS: usize = 16;
/// Nor is one to a request whose selecting fields are longer together, normalised.
pub const MAX_SELECTING_BYTES: usize = 4 * 1024;

/// By what a response varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// `*`, or something that is no field name: no other request is ever known to match.
    Any,
    /// By more than [`MAX_FIELDS`].
    TooMany,
    /// By these, sorted, each once; mostly by none.
    Fields(Box<[HeaderName]>),
}

impl Vary {
    /// Reads the field of a response.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for line in headers.get_all(VARY) {
            let members = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            for member in members.filter(|member| !member.is_empty()) {
                if member == b"*" {
                    return Self::Any;
                }
                let Ok(name) = HeaderName::from_bytes(member) else { return Self::Any };
                if !names.contains(&name) {
                    names.push(name);
                }
                if names.len() > MAX_FIELDS {
                    return Self::TooMany;
                }
            }
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        Self::Fields(names.into())
    }
}

/// The selecting fields of the request that a stored response answered, in their normal form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selecting {
    /// A field that the request did not have has no value; an empty one has.
    fields: Box<[Field]>,
}

/// A name, and the normal form of its value where the request had one.
pub(crate) type Field = (HeaderName, Option<Box<[u8]>>);

impl Selecting {
    /// What of a request selects, where the response varies by these fields. Nothing where it is longer
    /// than [`MAX_SELECTING_BYTES`].
    pub fn of(names: &[HeaderName], request: &HeaderMap) -> Option<Self> {
        let mut left = MAX_SELECTING_BYTES;
        let mut fields = Vec::with_capacity(names.len());
        for name in names {
            let value = if request.contains_key(name) {
                let mut value = Vec::new();
                normalise(name, request, &mut |piece| {
                    value.extend_from_slice(piece);
                    value.len() <= left
                })
                .then_some(())?;
                left -= value.len();
                Some(value.into())
            } else {
                None
            };
            fields.push((name.clone(), value));
        }
        Some(Self { fields: fields.into() })
    }

    /// Whether the request's fields are the same.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|(name, stored)| match stored {
            None => !request.contains_key(name),
            Some(stored) => {
                let mut rest = &stored[..];
                request.contains_key(name)
                    && normalise(name, request, &mut |piece| match rest.strip_prefix(piece) {
                        Some(after) => {
                            rest = after;
                            true
                        }
                        None => false,
                    })
                    && rest.is_empty()
            }
        })
    }

    /// Whether every request matches.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|(name, _)| name)
    }

    /// Names and normal forms.
    pub(crate) fn parts(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn from_parts(fields: Box<[Field]>) -> Self {
        Self { fields }
    }

    /// What it takes of memory, about.
    pub fn weight(&self) -> usize {
        let value = |value: &Option<Box<[u8]>>| value.as_ref().map_or(0, |value| value.len());
        self.fields.iter().map(|(name, stored)| 64 + name.as_str().len() + value(stored)).sum()
    }
}

/// Between members of a normal form, and before a weight: what no field value has in it, so that no two
/// that differ in more than what is normalised have one form.
const SEPARATOR: &[u8] = b"\n";
const WEIGHT: &[u8] = b"\0";

/// Where a comma is not the separator of a list, so that nothing is known of the blanks beside it.
const SINGLE: [HeaderName; 12] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    FROM,
    HOST,
    IF_MODIFIED_SINCE,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    ORIGIN,
    PROXY_AUTHORIZATION,
    REFERER,
];

/// Gives the normal form of a field piece by piece, until `take` wants no more; whether it took all.
fn normalise(name: &HeaderName, request: &HeaderMap, take: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    if *name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE {
        let is_coding = *name == ACCEPT_ENCODING;
        if let Some(taken) = preference::normalise(is_coding, request.get_all(name), take) {
            return taken;
        }
    }
    let single = SINGLE.contains(name) || *name == USER_AGENT;
    let mut first = true;
    for line in request.get_all(name) {
        let line = line.as_bytes().trim_ascii();
        if single {
            if !(first || take(SEPARATOR)) || !take(line) {
                return false;
            }
            first = false;
            continue;
        }
        for member in members(line) {
            if !(first || take(SEPARATOR)) || !take(member) {
                return false;
            }
            first = false;
        }
    }
    true
}

/// The members of a list that are not empty; commas in quoted strings do not separate.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(<[u8]>::trim_ascii)
    .filter(|member| !member.is_empty())
}
