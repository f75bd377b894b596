//! What a client gets from the cache: the answer, and where it came from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, DATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use wharf_cache::status::CACHE_STATUS;
use wharf_cache::{CacheStatus, Key, Stored};

use super::figures::Outcome;
use super::origin::Called;
use super::storage::{Entry, Storage};
use crate::http::body::ResponseBody;
use crate::http::coding::Coding;
use crate::http::control::Control;
use crate::http::finish::CodedStore;

/// What a client gets.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub response: Response<ResponseBody>,
    /// What the plugin wishes for it, where it was asked.
    pub control: Option<Arc<Control>>,
    /// The host holds the body.
    pub is_held: bool,
    /// How the request fared.
    pub outcome: Outcome,
    /// Where the body comes from, if it is stored: its coded forms can be kept there.
    pub stored: Option<Kept>,
    /// The head is the entry's, finished as far as it is the same for everybody.
    pub is_prepared: bool,
    /// How long the plugin took, where it was asked.
    pub took: Option<Duration>,
}

impl Answer {
    /// An empty one that no plugin was asked for.
    pub(super) fn of_nobody() -> Self {
        Self {
            response: Response::new(ResponseBody::empty()),
            control: None,
            is_held: false,
            outcome: Outcome::Miss,
            stored: None,
            is_prepared: false,
            took: None,
        }
    }
}

impl From<Called> for Answer {
    /// An answer that the cache has no part in.
    fn from(called: Called) -> Self {
        Self {
            response: called.response,
            control: called.control,
            is_held: called.is_held,
            outcome: Outcome::Bypass,
            took: Some(called.took),
            ..Self::of_nobody()
        }
    }
}

/// A stored answer, to keep the coded forms of its body with.
#[derive(Clone, Debug)]
pub struct Kept {
    pub(super) storage: Arc<Storage>,
    pub(super) key: Key,
    /// The entry.
    pub entry: Arc<Entry>,
}

impl CodedStore for Kept {
    fn coded(&self, coding: Coding) -> Option<Bytes> {
        self.entry.coded(coding).cloned()
    }

    fn claim(&self, coding: Coding) -> bool {
        self.entry.claim(coding)
    }

    fn keep(&self, coding: Coding, content: Option<Bytes>) {
        match content {
            Some(content) => self.storage.keep_coded(&self.key, &self.entry, coding, &content),
            None => self.entry.give_up(coding),
        }
    }
}

/// A stored answer.
pub(super) fn stored_answer(
    kept: Kept,
    age: Duration,
    status: &CacheStatus<'_>,
    outcome: Outcome,
) -> Answer {
    let entry = &kept.entry;
    let response = respond((entry.stored.status(), &entry.headers), age, status, entry.body.body());
    Answer { response, outcome, stored: Some(kept), is_prepared: true, ..Answer::of_nobody() }
}

/// A response with a stored head.
pub(super) fn respond(
    (status_code, head): (StatusCode, &HeaderMap),
    age: Duration,
    status: &CacheStatus<'_>,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status_code;
    *response.headers_mut() = head.clone();
    let headers = response.headers_mut();
    headers.insert(AGE, age.as_secs().into());
    if headers.get(CACHE_STATUS).is_some_and(HeaderValue::is_empty) {
        // Its place in an entry's head.
        headers.insert(CACHE_STATUS, status.to_value());
    } else {
        status.append(headers);
    }
    response
}

/// Puts another `Cache-Status` in the place of ours.
pub(super) fn replace_status(headers: &mut HeaderMap, stored: &Stored, status: &CacheStatus<'_>) {
    headers.remove(CACHE_STATUS);
    for earlier in stored.headers().get_all(CACHE_STATUS) {
        headers.append(CACHE_STATUS, earlier.clone());
    }
    status.append(headers);
}

pub(super) fn ttl(stored: &Stored, now: SystemTime) -> i64 {
    let (lifetime, age) = (stored.lifetime().as_secs(), stored.age(now).as_secs());
    i64::try_from(lifetime).unwrap_or(i64::MAX) - i64::try_from(age).unwrap_or(i64::MAX)
}

/// `only-if-cached`, and nothing is (RFC 9111 §5.2.1.7).
pub(super) fn gateway_timeout() -> Answer {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let now = httpdate::fmt_http_date(SystemTime::now());
    if let Ok(now) = HeaderValue::from_str(&now) {
        headers.insert(DATE, now);
    }
    CacheStatus { detail: Some("only-if-cached"), ..CacheStatus::default() }.append(headers);
    Answer { response, ..Answer::of_nobody() }
}
