//! [`Error`]: what a handler gives back instead of a response, told to the client as a problem
//! document (RFC 9457).
//!
//! Any `std::error::Error` becomes an [`Error`] through `?`: the client sees a bare 500, the text
//! and its causes go to stderr, which the host keeps in the plugin's log.

use std::error::Error as StdError;
use std::fmt;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Response;
use crate::client::SendError;
use crate::files::FileError;
use crate::hub::{PublishError, SubscribeError, again_later};
use crate::sql::SqlError;
use crate::websocket::AcceptError;

/// A failed request: a status, and what the client may know about it.
///
/// It does not implement `std::error::Error`, so that every type that does converts with `?`.
///
/// # Defaults
///
/// The title is the status' reason phrase and the type `about:blank` (RFC 9457 §4.2.1).
pub struct Error(Box<Problem>);

struct Problem {
    status: StatusCode,
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    members: Map<String, Value>,
    headers: HeaderMap,
    source: Option<Box<dyn StdError>>,
    /// The handler behind a middleware failed before it had a response: the host knows why and
    /// must get the same code, not a document that hides it.
    #[cfg(target_family = "wasm")]
    downstream: Option<wasip3::http::types::ErrorCode>,
}

/// The document in the order that a reader expects.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl Error {
    /// An error with this status and nothing else to say.
    pub fn new(status: StatusCode) -> Self {
        Self(Box::new(Problem {
            status,
            kind: None,
            title: None,
            detail: None,
            members: Map::new(),
            headers: HeaderMap::new(),
            source: None,
            #[cfg(target_family = "wasm")]
            downstream: None,
        }))
    }

    /// 400: the request is wrong in the way that `detail` tells.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE)
            .detail(format!("the body is larger than {limit} bytes"))
    }

    /// 422: well-formed, but not acceptable for the reason that `detail` tells.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY).detail(detail)
    }

    /// 500 for `source`, of which the client sees nothing.
    pub fn internal(source: impl Into<Box<dyn StdError>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR).source(source)
    }

    /// Sets the problem's type, a URI that identifies this kind of problem (RFC 9457 §3.1.1).
    #[must_use]
    pub fn kind(mut self, uri: impl Into<String>) -> Self {
        self.0.kind = Some(uri.into());
        self
    }

    /// Sets the summary of this kind of problem (RFC 9457 §3.1.3).
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// Sets what the client may know about this occurrence (RFC 9457 §3.1.4).
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds an extension member (RFC 9457 §3.2). The members that have a method of their own
    /// cannot be set so; a value that serde cannot represent is `null`.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.0.members.insert(name.into(), value);
        self
    }

    /// Adds a response header, for example `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Keeps the cause, which only stderr sees.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The status that the client gets.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The cause, if it is a `T`.
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.source.as_ref()?.downcast_ref()
    }

    /// The problem document as a response, not to be cached.
    pub fn into_response(self) -> Response {
        let Problem { status, kind, title, detail, mut members, headers, .. } = *self.0;
        for standard in ["type", "title", "status", "detail"] {
            members.remove(standard);
        }
        let document = Document {
            kind: kind.as_deref(),
            title: title.as_deref().or(status.canonical_reason()),
            status: status.as_u16(),
            detail: detail.as_deref(),
            members: &members,
        };
        // Serializing strings and JSON values cannot fail.
        let document = serde_json::to_vec(&document).unwrap_or_default();

        let mut response = Response::new(document).with_status(status);
        *response.headers_mut() = headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }

    /// Writes the cause to stderr, where the host picks it up with the request's id. What every client
    /// can bring about by asking for a WebSocket wrongly is not worth a line.
    pub(crate) fn report(&self) {
        let is_the_clients = self.cause().is_some_and(AcceptError::is_the_clients);
        if self.0.source.is_some() && !is_the_clients {
            write_to_stderr(&self.to_string());
        }
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn downstream(code: wasip3::http::types::ErrorCode) -> Self {
        let mut error = Self::new(StatusCode::BAD_GATEWAY);
        error.0.downstream = Some(code);
        error
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn take_downstream(&mut self) -> Option<wasip3::http::types::ErrorCode> {
        self.0.downstream.take()
    }
}

impl<E: StdError + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        let source: Box<dyn StdError> = Box::new(source);
        let error = if let Some(error) = source.downcast_ref::<SendError>() {
            Self::new(error.status())
        } else if let Some(error) = source.downcast_ref::<FileError>() {
            Self::new(error.status())
        } else if let Some(error) = source.downcast_ref::<PublishError>() {
            error.problem()
        } else if let Some(SqlError::Busy) = source.downcast_ref::<SqlError>() {
            again_later()
        } else if let Some(error) = source.downcast_ref::<SubscribeError>() {
            error.problem()
        } else if let Some(error) = source.downcast_ref::<AcceptError>() {
            error.problem()
        } else {
            Self::new(StatusCode::INTERNAL_SERVER_ERROR)
        };
        error.source(source)
    }
}

/// Status, detail, and the causes: more than the client sees.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.status)?;
        if let Some(title) = &self.0.title {
            write!(f, ": {title}")?;
        }
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        let mut cause = self.0.source.as_deref();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[expect(clippy::print_stderr, reason = "stderr is the plugin's log")]
pub(crate) fn write_to_stderr(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    fn document(error: Error) -> (StatusCode, Value) {
        let mut response = error.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let bytes = block_on(response.body_mut().bytes(4096)).unwrap();
        (response.status(), serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn problem_document_has_status_title_and_detail() {
        let error = Error::unprocessable("rows must be positive").member("field", "rows");

        let (status, document) = document(error);

        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(
            document,
            serde_json::json!({
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "rows must be positive",
                "field": "rows",
            })
        );
    }

    #[test]
    fn cause_of_a_std_error_stays_out_of_the_document() {
        let error: Error = "x".parse::<u32>().unwrap_err().into();
        let logged = error.to_string();

        let (status, document) = document(error);

        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(document, serde_json::json!({"title": "Internal Server Error", "status": 500}));
        assert!(logged.contains("invalid digit"), "{logged}");
    }

    #[test]
    fn extension_members_cannot_replace_standard_ones() {
        let error = Error::not_found().member("status", 200).member("detail", "forged");

        let (_, document) = document(error);

        assert_eq!(document, serde_json::json!({"title": "Not Found", "status": 404}));
    }

    #[test]
    fn own_headers_are_kept() {
        let error = Error::new(StatusCode::SERVICE_UNAVAILABLE)
            .header(http::header::RETRY_AFTER, HeaderValue::from_static("5"));

        let response = error.into_response();

        assert_eq!(response.headers()[http::header::RETRY_AFTER], "5");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}
