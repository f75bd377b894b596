//! Where errors meet HTTP: what we refuse ([`Rejection`]) and what a plugin did wrong
//! ([`Failure`]) become problem documents (RFC 9457) here and nowhere else.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::ResponseBody;
use crate::plugin::Failure;

/// A request that the host refuses, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// 400: malformed or ambiguous; the connection is closed after it (HTTP/1.1).
    #[error("bad request: {0}")]
    BadRequest(Cow<'static, str>),
    /// 404: no route.
    #[error("nothing is served here")]
    NotFound,
    /// 405, with `Allow`.
    #[error("this method is not served here; allowed: {allow}")]
    MethodNotAllowed {
        /// The `Allow` value.
        allow: String,
    },
    /// 408: the request did not arrive in time.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// 413.
    #[error("the body is larger than the limit of {limit} bytes")]
    BodyTooLarge {
        /// The limit in force.
        limit: u64,
    },
    /// 414.
    #[error("the request target is longer than {limit} bytes")]
    UriTooLong {
        /// The limit in force.
        limit: usize,
    },
    /// 417.
    #[error("only 100-continue can be expected")]
    ExpectationFailed,
    /// 421: this connection does not speak for that authority.
    #[error("this connection does not speak for that authority")]
    Misdirected,
    /// 425: it arrived as early data, which can be replayed, and its method is not safe (RFC 8470).
    #[error("the request came as early data, which can be replayed: send it again")]
    TooEarly,
    /// 431.
    #[error("the request's fields are larger than {limit} bytes or more than {count}")]
    FieldsTooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Fields allowed.
        count: usize,
    },
    /// 501: a method or transfer coding that is not implemented.
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    /// 503 with `Retry-After`: no capacity, after a bounded wait.
    #[error("the plugin has no capacity left")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// 503: the server is draining.
    #[error("the server is shutting down")]
    Draining,
    /// 505.
    #[error("this HTTP version is not served")]
    VersionNotSupported,
}

impl Rejection {
    /// A 400 with a fixed reason.
    pub const fn bad(reason: &'static str) -> Self {
        Self::BadRequest(Cow::Borrowed(reason))
    }

    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::TooEarly => "too-early",
            Self::UriTooLong { .. } => "uri-too-long",
            Self::ExpectationFailed => "expectation-failed",
            Self::Misdirected => "misdirected",
            Self::FieldsTooLarge { .. } => "fields-too-large",
            Self::NotImplemented(_) => "not-implemented",
            Self::Overloaded { .. } => "overloaded",
            Self::Draining => "draining",
            Self::VersionNotSupported => "version-not-supported",
        }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooEarly => StatusCode::TOO_EARLY,
            Self::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::FieldsTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Overloaded { .. } | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// Whether an HTTP/1.1 connection must end after the response, because what follows on it
    /// cannot be told apart from this request.
    pub fn closes(&self) -> bool {
        !matches!(
            self,
            Self::NotFound
                | Self::MethodNotAllowed { .. }
                | Self::Overloaded { .. }
                | Self::TooEarly
        )
    }

    /// The response, with `request_id` in its problem document where one was given.
    pub fn into_response(self, request_id: Option<&str>) -> Response<ResponseBody> {
        let mut response = problem(self.status(), &self.to_string(), request_id);
        let headers = response.headers_mut();
        match &self {
            Self::MethodNotAllowed { allow } => {
                if let Ok(value) = HeaderValue::from_str(allow) {
                    headers.insert(ALLOW, value);
                }
            }
            Self::Overloaded { retry_after } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
            }
            Self::Draining => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            _ => {}
        }
        if self.closes() {
            // Protocol files drop this field on HTTP/2 and HTTP/3, where it is forbidden.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The response for a plugin's failure. The client sees the kind and the request id; the log has
/// the rest.
pub fn failure_response(failure: &Failure, request_id: &str) -> Response<ResponseBody> {
    let status = match failure {
        Failure::Trap { .. } | Failure::NoResponse | Failure::Reply { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Failure::Timeout { .. } | Failure::CpuTime { .. } => StatusCode::GATEWAY_TIMEOUT,
        Failure::OutOfMemory { .. } | Failure::Instantiate { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Failure::Refused(rejection) => return rejection.clone().into_response(Some(request_id)),
    };
    let mut response = problem(status, failure.public(), Some(request_id));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
    }
    response
}

/// An `application/problem+json` response; never stored by a cache.
fn problem(status: StatusCode, detail: &str, request_id: Option<&str>) -> Response<ResponseBody> {
    let mut document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Some(id) = request_id {
        document["request_id"] = id.into();
    }
    let mut response = Response::new(ResponseBody::full(document.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
