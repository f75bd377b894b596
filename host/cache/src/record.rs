//! A stored response's head as bytes, for storage that survives the process.
//!
//! Numbers are little-endian and every text has its length before it. The first byte is the version of
//! the form: another version's bytes are nothing. What reads back is what was written; what was not
//! written so is refused, or another entry, but never a fault.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::stored::{Draft, Stored};
use crate::vary::Selecting;

/// Changes with the form.
const VERSION: u8 = 1;

const ALWAYS_VALIDATE: u8 = 1;
const NEVER_STALE: u8 = 2;
const PURGED: u8 = 4;

impl Stored {
    /// Everything but the body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (draft, purged) = self.parts();
        let mut bytes = Vec::with_capacity(self.weight());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        bytes.push(VERSION);
        bytes.push(
            flag(draft.always_validate, ALWAYS_VALIDATE)
                | flag(draft.never_stale, NEVER_STALE)
                | flag(purged.is_some(), PURGED),
        );
        bytes.extend(draft.status.as_u16().to_le_bytes());
        for time in [draft.date, draft.received, purged.unwrap_or(UNIX_EPOCH)] {
            write_duration(&mut bytes, time.duration_since(UNIX_EPOCH).unwrap_or_default());
        }
        for duration in
            [draft.initial_age, draft.lifetime, draft.stale_while_revalidate, draft.stale_if_error]
        {
            write_duration(&mut bytes, duration);
        }
        write_headers(&mut bytes, &draft.headers);
        write_headers(&mut bytes, &draft.private);
        let selecting = draft.selecting.parts();
        write_count(&mut bytes, selecting.len());
        for (name, value) in selecting {
            write_text(&mut bytes, name.as_str().as_bytes());
            bytes.push(u8::from(value.is_some()));
            write_text(&mut bytes, value.as_deref().unwrap_or_default());
        }
        write_count(&mut bytes, draft.surrogate_keys.len());
        for key in &draft.surrogate_keys {
            write_text(&mut bytes, key.as_bytes());
        }
        bytes
    }

    /// What [`Stored::to_bytes`] wrote. Nothing where it was not, or by another version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: bytes };
        if reader.byte()? != VERSION {
            return None;
        }
        let flags = reader.byte()?;
        let status = StatusCode::from_u16(u16::from_le_bytes(reader.array()?)).ok()?;
        let (date, received, purged) = (reader.time()?, reader.time()?, reader.time()?);
        let initial_age = reader.duration()?;
        let lifetime = reader.duration()?;
        let stale_while_revalidate = reader.duration()?;
        let stale_if_error = reader.duration()?;
        let headers = reader.headers()?;
        let private = reader.headers()?;
        let selecting = (0..reader.count()?).map(|_| {
            let name = HeaderName::from_bytes(reader.text()?).ok()?;
            let is_there = reader.byte()? != 0;
            let value = reader.text()?;
            Some((name, is_there.then(|| value.into())))
        });
        let selecting = selecting.collect::<Option<_>>()?;
        let keys = (0..reader.count()?).map(|_| {
            let key = std::str::from_utf8(reader.text()?).ok()?;
            Some(Box::from(key))
        });
        let surrogate_keys = keys.collect::<Option<_>>()?;
        let draft = Draft {
            status,
            headers,
            private,
            selecting: Selecting::from_parts(selecting),
            surrogate_keys,
            date,
            received,
            initial_age,
            lifetime,
            stale_while_revalidate,
            stale_if_error,
            always_validate: flags & ALWAYS_VALIDATE != 0,
            never_stale: flags & NEVER_STALE != 0,
        };
        let stored = Self::new(draft);
        let stored = if flags & PURGED != 0 { stored.purged(purged) } else { stored };
        reader.rest.is_empty().then_some(stored)
    }
}

fn write_duration(bytes: &mut Vec<u8>, duration: Duration) {
    bytes.extend(duration.as_secs().to_le_bytes());
    bytes.extend(duration.subsec_nanos().to_le_bytes());
}

/// Heads are limited to far less than 4 GiB when they come in.
fn write_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn write_text(bytes: &mut Vec<u8>, text: &[u8]) {
    write_count(bytes, text.len());
    bytes.extend_from_slice(text);
}

fn write_headers(bytes: &mut Vec<u8>, headers: &HeaderMap) {
    write_count(bytes, headers.len());
    for (name, value) in headers {
        write_text(bytes, name.as_str().as_bytes());
        write_text(bytes, value.as_bytes());
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Of what takes at least a byte each, so that no count makes room for more than there is.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(u32::from_le_bytes(self.array()?)).ok()?;
        (count <= self.rest.len()).then_some(count)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    fn duration(&mut self) -> Option<Duration> {
        let seconds = u64::from_le_bytes(self.array()?);
        let nanos = u32::from_le_bytes(self.array()?);
        // More would be a second of its own, and could be too much.
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }

    fn time(&mut self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(self.duration()?)
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let count = self.count()?;
        let mut headers = HeaderMap::new();
        for _ in 0..count {
            let name = HeaderName::from_bytes(self.text()?).ok()?;
            let value = HeaderValue::from_bytes(self.text()?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }
}
