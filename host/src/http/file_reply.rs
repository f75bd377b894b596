//! A file as the answer to a request: status, fields and body by RFC 9110, from the file as it was
//! opened, what the client wants of it, and the head that the plugin answered with.
//!
//! Conditions and ranges count for a 200 to GET or HEAD alone (§13.2.1, §14.2): with any other status
//! the file is only what the body says.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE, TRAILER,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, response};

use super::body::ResponseBody;
use super::coding::{self, Coding};
use super::condition::{Decision, EntityTag, Validators, Wanted, evaluate, whole_seconds};
use super::disposition::content_type;
use super::file_body::{FileBody, Part, Readers, read_small};
use super::finish::head;
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
            for candidate in coding::accepted(wanted.values(&ACCEPT_ENCODING), Coding::ALL) {
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
            head::vary(headers);
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
                return refused(head, StatusCode::PRECONDITION_FAILED);
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
                refused(head, StatusCode::RANGE_NOT_SATISFIABLE)
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
        ResponseBody::file(FileBody::new(self.opened, self.readers, parts))
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
        Response::from_parts(head, ResponseBody::file(body))
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

/// A response that carries none of the file, and tells nobody else so.
fn refused(mut head: response::Parts, status: StatusCode) -> Response<ResponseBody> {
    head::refused(&mut head, status);
    Response::from_parts(head, ResponseBody::empty())
}

/// A response that carries none of the file: §15.4.5 for 304.
fn without_content(mut head: response::Parts) -> Response<ResponseBody> {
    head::without_content(&mut head.headers);
    Response::from_parts(head, ResponseBody::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use http::HeaderName;
    use http_body::Body;
    use http_body_util::BodyExt;

    use super::*;
    use crate::http::control::{Control, controlled};

    fn wanted(method: &Method, fields: &[(&str, &str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Wanted::of(method, &headers)
    }

    async fn once(folder: &Path, wanted: &Wanted) -> FileReply {
        let source = Source {
            folder: folder.to_owned(),
            path: "f.txt".to_owned(),
            links: Links::Refused,
            content_type: None,
            disposition: None,
            deletion: Some(Deletion { folder: folder.to_owned(), path: "f.txt".to_owned() }),
            precompressed: true,
        };
        source.open(wanted, Readers::default()).await.unwrap()
    }

    fn head(status: u16) -> response::Parts {
        Response::builder().status(status).body(()).unwrap().into_parts().0
    }

    fn folder(bytes: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f.txt"), vec![b'x'; bytes]).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_file_is_deleted_after_the_last_byte_of_all_of_it_alone() {
        for (what, method, fields, status, deleted) in [
            ("all of it", Method::GET, &[][..], 200, true),
            ("HEAD", Method::HEAD, &[], 200, false),
            ("a part", Method::GET, &[("range", "bytes=0-0")], 200, false),
            ("all of it as a part", Method::GET, &[("range", "bytes=0-")], 200, false),
            ("several parts", Method::GET, &[("range", "bytes=0-0,-1")], 200, false),
            ("no part", Method::GET, &[("range", "bytes=999999-")], 200, false),
            ("a range to ignore", Method::GET, &[("range", "bytes=x")], 200, true),
            ("not modified", Method::GET, &[("if-none-match", "*")], 200, false),
            ("failed", Method::GET, &[("if-match", "\"x\"")], 200, false),
            ("an error page", Method::GET, &[], 404, false),
            ("the answer to a POST", Method::POST, &[], 200, false),
        ] {
            for (bytes, rate) in [(1000, None), (300_000, None), (300_000, Some(u64::MAX / 4))] {
                let folder = folder(bytes);
                let reply = once(folder.path(), &wanted(&method, fields)).await;
                let control = Arc::new(Control::default());
                control.set_rate(rate);

                let body = controlled(reply.respond(head(status)).into_body(), &control);
                let _sent = body.collect().await.unwrap();

                let exists = folder.path().join("f.txt").exists();
                assert_eq!(exists, !deleted, "{what}, {bytes} bytes, {rate:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_empty_file_is_deleted_as_well() {
        let folder = folder(0);
        let reply = once(folder.path(), &wanted(&Method::GET, &[])).await;

        let body = reply.respond(head(200)).into_body();
        assert!(!body.is_end_stream());
        let _nothing = body.collect().await.unwrap();

        assert!(!folder.path().join("f.txt").exists());
    }

    #[tokio::test]
    async fn a_body_that_is_given_up_deletes_nothing() {
        for bytes in [1000, 300_000] {
            let folder = folder(bytes);
            let reply = once(folder.path(), &wanted(&Method::GET, &[])).await;

            let mut body = reply.respond(head(200)).into_body();
            let mut sent = 0;
            while sent < bytes {
                sent += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            // All was taken; nobody said that it is on its way.
            drop(body);

            assert!(folder.path().join("f.txt").exists(), "{bytes}");
        }
    }

    #[tokio::test]
    async fn a_304_says_what_rfc_9110_wants_and_no_more() {
        let folder = folder(10);
        let reply = once(folder.path(), &wanted(&Method::GET, &[("if-none-match", "*")])).await;
        let mut head = head(200);
        for (name, value) in [
            ("cache-control", "max-age=1"),
            ("content-type", "text/x"),
            ("content-length", "7"),
            ("vary", "cookie"),
        ] {
            head.headers.insert(name, HeaderValue::from_static(value));
        }

        let response = reply.respond(head);

        // §15.4.5.
        assert_eq!(response.status(), 304);
        for name in ["etag", "last-modified", "cache-control", "vary"] {
            assert!(response.headers().contains_key(name), "{name}");
        }
        for name in ["content-type", "content-length", "content-range"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_modification_in_the_future_is_told_as_now() {
        let folder = folder(10);
        let file = fs::File::options().write(true).open(folder.path().join("f.txt")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
        let reply = once(folder.path(), &wanted(&Method::GET, &[])).await;
        let now = SystemTime::now();

        let response = reply.respond_at(head(200), now);

        let told = httpdate::fmt_http_date(now);
        assert_eq!(response.headers()["last-modified"], told.as_str());
    }
}
