//! A file as the answer to a request: status, fields and body by RFC 9110, from the file as it was
//! opened, what the client wants of it, and the head that the plugin answered with.
//!
//! Conditions and ranges count for a 200 to GET or HEAD alone (§13.2.1, §14.2): with any other status
//! the file is only what the body says.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE, TRAILER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, response};

use super::body::ResponseBody;
use super::coding::{self, Coding};
use super::condition::{Decision, EntityTag, Validators, Wanted, evaluate, whole_seconds};
use super::disposition::content_type;
use super::file_body::{FileBody, Part, Readers, read_small};
use super::range::{self, Selection};
use crate::files::{self, Deletion, Links, OpenError, Opened};

/// Which file is to be sent, and how.
#[derive(Debug)]
pub struct Source {
    /// The folder that it must not leave.
    pub folder: PathBuf,
    /// Its path there.
    pub path: String,
    /// Whether links may be on the way.
    pub links: Links,
    /// `content-type`; else the response's own, or what the extension stands for.
    pub content_type: Option<HeaderValue>,
    /// `content-disposition`.
    pub disposition: Option<HeaderValue>,
    /// What is deleted once all of it was sent.
    pub deletion: Option<Deletion>,
    /// Whether a coded file beside it may stand for it; not where it is to be deleted.
    pub precompressed: bool,
}

impl Source {
    /// Opens the file, or the coded one that the client prefers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(self, wanted: &Wanted, readers: Readers) -> Result<FileReply, OpenError> {
        let mut opened = files::open(&self.folder, &self.path, self.links).await?;
        let mut coding = None;
        // What is to be deleted is the file that was named.
        let precompressed = self.precompressed && self.deletion.is_none();
        if precompressed {
            for candidate in coding::accepted(wanted.values(&ACCEPT_ENCODING)) {
                let path = format!("{}{}", self.path, candidate.suffix());
                let Ok(coded) = files::open(&self.folder, &path, self.links).await else {
                    continue;
                };
                // In whole seconds, because compressors copy the time without its parts.
                if whole_seconds(coded.modified) >= whole_seconds(opened.modified) {
                    (opened, coding) = (coded, Some(candidate));
                    break;
                }
            }
        }
        Ok(FileReply {
            opened,
            coding,
            varies: precompressed,
            type_wins: self.content_type.is_some(),
            content_type: self.content_type.unwrap_or_else(|| content_type(&self.path)),
            disposition: self.disposition,
            deletion: self.deletion,
            wanted: wanted.clone(),
            readers,
        })
    }
}

/// A file that is open and to be sent.
#[derive(Debug)]
pub struct FileReply {
    /// The file, or the coded one that stands for it.
    opened: Opened,
    coding: Option<Coding>,
    /// Other clients may get another coding.
    varies: bool,
    content_type: HeaderValue,
    /// The type was chosen for this reply, over that of the response.
    type_wins: bool,
    disposition: Option<HeaderValue>,
    deletion: Option<Deletion>,
    wanted: Wanted,
    readers: Readers,
}

impl FileReply {
    /// The response for the head that the plugin answered with.
    pub fn respond(self, head: response::Parts) -> Response<ResponseBody> {
        self.respond_at(head, SystemTime::now())
    }

    fn respond_at(mut self, mut head: response::Parts, now: SystemTime) -> Response<ResponseBody> {
        let headers = &mut head.headers;
        // What the plugin says of the body that it did not send is void.
        for name in [CONTENT_LENGTH, CONTENT_RANGE, TRAILER] {
            headers.remove(name);
        }
        if self.type_wins || !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
        }
        if let Some(disposition) = self.disposition.take() {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        if let Some(coding) = self.coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        }
        if self.varies {
            vary(headers);
        }
        let reads = matches!(self.wanted.method, Method::GET | Method::HEAD);
        if head.status != StatusCode::OK || !reads {
            return self.other(head);
        }
        let headers = &mut head.headers;
        let validators = self.validators(headers, now);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let selection = match evaluate(&self.wanted, Some(&validators), now) {
            Decision::NotModified => {
                head.status = StatusCode::NOT_MODIFIED;
                return without_content(head);
            }
            Decision::PreconditionFailed => {
                head.status = StatusCode::PRECONDITION_FAILED;
                return without_content(head);
            }
            Decision::Proceed { ranges: false } => Selection::Whole,
            Decision::Proceed { ranges: true } => {
                range::select(self.wanted.values(&RANGE), self.opened.size)
            }
        };
        match selection {
            Selection::Whole => self.whole(head),
            Selection::Unsatisfiable => {
                let range = range::unsatisfied_range(self.opened.size);
                head.headers.insert(CONTENT_RANGE, range);
                head.status = StatusCode::RANGE_NOT_SATISFIABLE;
                without_content(head)
            }
            Selection::Parts(parts) => self.partial(head, parts),
        }
    }

    /// The file with a status of the plugin's, or for a method that is not about it.
    fn other(self, mut head: response::Parts) -> Response<ResponseBody> {
        let bodiless = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
        );
        if bodiless {
            return without_content(head);
        }
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.opened.size));
        let body = self.body();
        Response::from_parts(head, body)
    }

    fn whole(mut self, mut head: response::Parts) -> Response<ResponseBody> {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.opened.size));
        if self.wanted.method == Method::HEAD {
            return Response::from_parts(head, ResponseBody::empty());
        }
        let opened = self.opened.clone();
        let body = match self.deletion.take() {
            None => self.body(),
            Some(deletion) => self.body().when_sent(move || {
                let Deletion { folder, path } = deletion;
                if !opened.delete(&folder, &path) {
                    tracing::warn!(path, "sent and not deleted: it is no longer the same file");
                }
            }),
        };
        Response::from_parts(head, body)
    }

    fn body(self) -> ResponseBody {
        if let Some(bytes) = read_small(&self.opened) {
            return ResponseBody::full(bytes);
        }
        let parts = vec![Part::File(0..self.opened.size)];
        ResponseBody::stream(Box::pin(FileBody::new(self.opened, self.readers, parts)))
    }

    fn partial(
        self,
        mut head: response::Parts,
        parts: Vec<std::ops::Range<u64>>,
    ) -> Response<ResponseBody> {
        head.status = StatusCode::PARTIAL_CONTENT;
        let size = self.opened.size;
        let headers = &mut head.headers;
        let mut body = VecDeque::new();
        let length = match <[_; 1]>::try_from(parts) {
            // §15.3.7.1: one part never is a multipart body.
            Ok([part]) => {
                headers.insert(CONTENT_RANGE, range::content_range(&part, size));
                let length = part.end - part.start;
                body.push_back(Part::File(part));
                length
            }
            Err(parts) => {
                let boundary = format!("{:032x}", rand::random::<u128>());
                let framed = range::multipart(parts, size, headers.get(CONTENT_TYPE), &boundary);
                headers.insert(CONTENT_TYPE, framed.content_type);
                for (head, part) in framed.parts {
                    body.extend([Part::Text(head), Part::File(part)]);
                }
                body.push_back(Part::Text(framed.end));
                framed.length
            }
        };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        let body = FileBody::new(self.opened, self.readers, body);
        Response::from_parts(head, ResponseBody::stream(Box::pin(body)))
    }

    /// The validators that the answer carries: the plugin's own where it gave some, else the file's.
    fn validators(&self, headers: &mut HeaderMap, now: SystemTime) -> Validators {
        let own = headers.get(ETAG).filter(|tag| EntityTag::of(tag).is_some()).cloned();
        // A plugin's tag is about the file; a coded one needs a tag of its own (§8.8.3.3).
        let etag = own.filter(|_| self.coding.is_none()).unwrap_or_else(|| self.etag());
        headers.insert(ETAG, etag.clone());
        let own = headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
        let modified = own.and_then(|text| httpdate::parse_http_date(text).ok());
        // §8.8.2.1: never later than the answer.
        let modified = modified.unwrap_or(self.opened.modified).min(now);
        let date = HeaderValue::try_from(httpdate::fmt_http_date(modified))
            .expect("an HTTP date is ASCII without controls");
        headers.insert(LAST_MODIFIED, date);
        Validators { etag: Some(etag), modified: Some(modified) }
    }

    /// A strong tag of size and modification time, in nanoseconds: any write changes it, and copies
    /// of the same file on other machines may have the same. Reading the file for a hash would cost
    /// as much as sending it.
    fn etag(&self) -> HeaderValue {
        let since = self.opened.modified.duration_since(UNIX_EPOCH);
        let nanoseconds = since.unwrap_or(Duration::ZERO).as_nanos();
        let mut tag = format!("\"{:x}-{nanoseconds:x}", self.opened.size);
        if let Some(coding) = self.coding {
            tag.push('-');
            tag.push_str(coding.token());
        }
        tag.push('"');
        HeaderValue::try_from(tag).expect("letters, digits and quotes")
    }
}

/// Adds `accept-encoding` to `vary`.
fn vary(headers: &mut HeaderMap) {
    let names = |value: &HeaderValue| {
        value.as_bytes().split(|&byte| byte == b',').any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str().as_bytes())
        })
    };
    if !headers.get_all(VARY).iter().any(names) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// A response that carries none of the file: §15.4.5 for 304, a body of nothing for 412 and 416.
fn without_content(mut head: response::Parts) -> Response<ResponseBody> {
    for name in [CONTENT_TYPE, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        head.headers.remove(name);
    }
    Response::from_parts(head, ResponseBody::empty())
}
