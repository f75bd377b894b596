//! Stage 9 of the pipeline: what a plugin, or the cache for it, answered becomes what this client
//! gets. Conditions, ranges and content coding by the host, where the plugin leaves them (RFC 9110
//! §8.4, §13, §14).
//!
//! [`Asked`] is taken from the request before it goes to the plugin; [`Finisher::finish`] is called
//! for every answer that the host does not hold itself (files, streams and switches have their own
//! rules). An answer that says more than "200, here is all of it" is the plugin's business and
//! stays.
//!
//! Two representations exist of what can be coded. The one that the plugin gave has its strong tag
//! and its ranges; a coded one has the same tag, weak, and no ranges. A request that names a part,
//! or insists on a version by `If-Match`, gets the first.

mod coded_body;
mod encoder;
pub(super) mod head;
mod media;
mod partial;
pub mod tag;
#[cfg(test)]
mod tests;
pub mod timing;
mod traits;

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE,
    COOKIE, ETAG, IF_MATCH, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, response};

use self::coded_body::{CodedBody, Keeping};
pub use self::coded_body::{MAX_KEPT, TURN};
use self::encoder::{Effort, Operation};
pub use self::encoder::{Encoders, MAX_ENCODERS, MAX_IDLE};
use self::head::has_member;
use self::traits::{Codable, modified};
pub use self::traits::{Traits, prepare};
use super::body::ResponseBody;
use super::coding::{Coding, accepted};
use super::condition::{Decision, EntityTag, Validators, Wanted, evaluate};
use super::range::{self, Selection};

/// Bytes from which a content is coded: a shorter one fits into a packet or two as it is.
pub const CODED_FROM: u64 = 1024;
/// Bytes up to which a content that is at hand is coded at once, and gets its length; a longer one
/// is coded as it is sent.
pub const CODED_AT_ONCE: usize = 32 * 1024;

/// Among codings that a client likes as well: the cheapest for what it gives first.
const ORDER: [Coding; Coding::ALL.len()] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

/// What of a request decides how its answer is finished. Nothing is allocated for a request that
/// asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    wanted: Wanted,
    /// It carries what its user alone knows.
    has_credentials: bool,
    /// RFC 9111 §5.2.1.6.
    no_transform: bool,
}

impl Asked {
    /// Of a request as the client sent it.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let wanted = Wanted::of(method, headers);
        if !wanted.has(&ACCEPT_ENCODING) {
            return Self { wanted, has_credentials: false, no_transform: false };
        }
        Self {
            wanted,
            has_credentials: headers.contains_key(COOKIE) || headers.contains_key(AUTHORIZATION),
            no_transform: has_member(headers, &CACHE_CONTROL, "no-transform"),
        }
    }

    /// The fields that choose a representation and its parts.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether a prepared answer is as it is for this request.
    pub fn is_nothing(&self) -> bool {
        self.wanted.is_empty() && !self.is_head()
    }

    fn is_head(&self) -> bool {
        self.wanted.method == Method::HEAD
    }
}

/// Which contents are coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// None: `compress = false`.
    Never,
    /// All but event streams and what may hold secrets: answers that set a cookie, and answers to
    /// requests with a cookie or an authorization, unless they are meant for everyone. Whoever can
    /// have such a request made, with text of theirs in its answer, learns the rest from the length
    /// (BREACH).
    #[default]
    Safe,
    /// Those too: `compress = true` of a route.
    Always,
}

/// How a plugin's or a route's answers are finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishPolicy {
    /// Which contents are coded.
    pub compress: Compress,
    /// Whether contents without a tag get one.
    pub tags: bool,
}

impl Default for FinishPolicy {
    fn default() -> Self {
        Self { compress: Compress::Safe, tags: true }
    }
}

/// Keeps the coded forms of one stored content.
pub trait CodedStore: Send + Sync {
    /// The content in this coding, if it is here.
    fn coded(&self, coding: Coding) -> Option<Bytes>;

    /// Whether the caller is to make it: nobody else is at it, and there would be room for it. It
    /// calls `keep` in any case then.
    fn claim(&self, coding: Coding) -> bool;

    /// Keeps it; `None` where it was given up, or came to more than [`MAX_KEPT`].
    fn keep(&self, coding: Coding, content: Option<Bytes>);
}

/// Finishes answers; one a server.
#[derive(Clone, Debug, Default)]
pub struct Finisher {
    encoders: Encoders,
}

impl Finisher {
    /// The answer for this client.
    pub fn finish(
        &self,
        asked: &Asked,
        response: Response<ResponseBody>,
        policy: &FinishPolicy,
        stored: Option<&Arc<dyn CodedStore>>,
    ) -> Response<ResponseBody> {
        let (mut head, body) = response.into_parts();
        let traits = prepare(&asked.wanted.method, &mut head, &body, policy, stored.is_some());
        self.finish_prepared(asked, Response::from_parts(head, body), &traits, stored)
    }

    /// The answer for this client, to a head that was prepared. `stored` is given for one from
    /// storage. Costs next to nothing where the client asks for nothing.
    pub fn finish_prepared(
        &self,
        asked: &Asked,
        response: Response<ResponseBody>,
        traits: &Traits,
        stored: Option<&Arc<dyn CodedStore>>,
    ) -> Response<ResponseBody> {
        if asked.is_nothing() {
            return response;
        }
        let coding = coding(asked, traits);
        let (mut head, body) = response.into_parts();
        match select(asked, &head.headers, traits) {
            Selected::Whole => {}
            Selected::NotModified => {
                if coding.is_some() {
                    head::weaken(&mut head.headers);
                    head.headers.remove(ACCEPT_RANGES);
                }
                head::not_modified(&mut head);
                return Response::from_parts(head, body.without_bytes());
            }
            Selected::Failed => {
                head::refused(&mut head, StatusCode::PRECONDITION_FAILED);
                return Response::from_parts(head, body.without_bytes());
            }
            Selected::Unsatisfiable { size } => {
                head::refused(&mut head, StatusCode::RANGE_NOT_SATISFIABLE);
                head.headers.insert(CONTENT_RANGE, range::unsatisfied_range(size));
                return Response::from_parts(head, body.without_bytes());
            }
            Selected::Parts { parts, size } => return partial::partial(head, body, parts, size),
        }
        if let Some(coding) = coding {
            return self.coded(asked, head, body, coding, traits.size, stored);
        }
        if asked.is_head()
            && let Some(size) = traits.size
        {
            head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(size));
        }
        Response::from_parts(head, body)
    }

    /// The answer in this coding; as it is where too many are being coded.
    fn coded(
        &self,
        asked: &Asked,
        mut head: response::Parts,
        body: ResponseBody,
        coding: Coding,
        size: Option<u64>,
        stored: Option<&Arc<dyn CodedStore>>,
    ) -> Response<ResponseBody> {
        let kept = stored.and_then(|stored| stored.coded(coding));
        if asked.is_head() {
            head::coded(&mut head.headers, coding.token());
            if let Some(kept) = kept {
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(kept.len()));
            }
            return Response::from_parts(head, body.without_bytes());
        }
        if let Some(kept) = kept {
            head::coded(&mut head.headers, coding.token());
            return Response::from_parts(head, body.with_bytes(kept));
        }
        let keeping = stored.and_then(|stored| Keeping::begin(coding, stored));
        let effort = if keeping.is_some() { Effort::Kept } else { Effort::Passing };
        let Some(mut lease) = self.encoders.lease(coding, effort) else {
            return Response::from_parts(head, body);
        };
        if let Some(content) = body.bytes().filter(|content| content.len() <= CODED_AT_ONCE) {
            let mut coded = BytesMut::with_capacity(content.len() / 2);
            if let Err(error) = lease.run(&content, Operation::Finish, &mut coded) {
                tracing::warn!(%error, "sent uncoded");
                return Response::from_parts(head, body);
            }
            let coded = coded.freeze();
            if let Some(keeping) = keeping {
                keeping.all(&coded);
            }
            head::coded(&mut head.headers, coding.token());
            return Response::from_parts(head, body.with_bytes(coded));
        }
        head::coded(&mut head.headers, coding.token());
        let body = CodedBody::new(body, lease, size, keeping);
        Response::from_parts(head, ResponseBody::stream(Box::pin(body)))
    }
}

/// The coding that this client gets.
fn coding(asked: &Asked, traits: &Traits) -> Option<Coding> {
    let may = match traits.coding {
        Codable::Nobody => false,
        Codable::Anonymous => !asked.has_credentials,
        Codable::Everybody => true,
    };
    if !may || asked.no_transform || asked.wanted.has(&IF_MATCH) {
        return None;
    }
    accepted(asked.wanted.values(&ACCEPT_ENCODING), ORDER).next()
}

/// What of an answer a client gets.
enum Selected {
    Whole,
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable {
        size: u64,
    },
    /// 206.
    Parts {
        parts: Vec<Range<u64>>,
        size: u64,
    },
}

fn select(asked: &Asked, headers: &HeaderMap, traits: &Traits) -> Selected {
    if !traits.is_whole || asked.wanted.is_plain() {
        return Selected::Whole;
    }
    let validators = validators(headers);
    if validators == Validators::default() {
        return Selected::Whole;
    }
    match evaluate(&asked.wanted, Some(&validators), SystemTime::now()) {
        Decision::NotModified => Selected::NotModified,
        Decision::PreconditionFailed => Selected::Failed,
        Decision::Proceed { ranges } => match traits.size {
            Some(size) if ranges && traits.has_ranges => {
                match range::select(asked.wanted.values(&RANGE), size) {
                    Selection::Whole => Selected::Whole,
                    Selection::Parts(parts) => Selected::Parts { parts, size },
                    Selection::Unsatisfiable => Selected::Unsatisfiable { size },
                }
            }
            _ => Selected::Whole,
        },
    }
}

/// What the plugin, or `tag::complete`, says of the version.
fn validators(headers: &HeaderMap) -> Validators {
    let etag = headers.get(ETAG).filter(|tag| EntityTag::of(tag).is_some()).cloned();
    Validators { etag, modified: modified(headers) }
}
