//! [`Response`], and [`IntoResponse`]: what a handler may give back.

use http::header::{CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::body::BodyWriter;
use crate::{Body, Error};

/// A response: a handler's own, or one that the [`client`](crate::client) received.
#[derive(Debug)]
pub struct Response {
    head: Parts,
    body: Body,
}

impl Response {
    /// 200 with this body and no header fields.
    pub fn new(body: impl Into<Body>) -> Self {
        http::Response::new(body.into()).into()
    }

    /// 200 with plain text in UTF-8.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of_type("text/plain; charset=utf-8", text.into())
    }

    /// 200 with an HTML page in UTF-8.
    pub fn html(page: impl Into<String>) -> Self {
        Self::of_type("text/html; charset=utf-8", page.into())
    }

    /// 200 with `value` as JSON.
    ///
    /// # Errors
    ///
    /// 500 where serde cannot represent it.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::of_type("application/json", serde_json::to_vec(value)?))
    }

    /// 200 with a body that `write` produces while it is sent: [`Body::stream`].
    pub fn stream<F, Fut>(write: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<(), Error>> + 'static,
    {
        Self::new(Body::stream(write))
    }

    /// A redirection to `location`, for example with 303 after a POST.
    ///
    /// # Errors
    ///
    /// 500 where `location` cannot be a header value.
    pub fn redirect(status: StatusCode, location: &str) -> Result<Self, Error> {
        Self::new(()).with_status(status).with_header(LOCATION, location)
    }

    /// The same response with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.head.status = status;
        self
    }

    /// The same response with a header field set, in place of any of that name.
    ///
    /// # Errors
    ///
    /// 500 where `name` or `value` cannot stand in a header.
    pub fn with_header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Result<Self, Error> {
        let name = name.try_into().map_err(Into::into)?;
        let value = value.try_into().map_err(Into::into)?;
        self.head.headers.insert(name, value);
        Ok(self)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The status, to be changed.
    pub fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.head.status
    }

    /// The header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The header fields, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// A header's first value, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to be read or replaced.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn into_parts(self) -> (Parts, Body) {
        (self.head, self.body)
    }

    fn of_type(content_type: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Self::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

impl<B: Into<Body>> From<http::Response<B>> for Response {
    fn from(response: http::Response<B>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body: body.into() }
    }
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> Self {
        Self::from_parts(response.head, response.body)
    }
}

/// A response in whose place the host puts what it holds under `token`; `None` where the host gave
/// something else than a token.
#[cfg(target_family = "wasm")]
pub(crate) fn held(token: &str) -> Option<Response> {
    let token = HeaderValue::from_str(token).ok()?;
    let mut response = Response::new(());
    response.headers_mut().insert("wharf-reply", token);
    Some(response)
}

/// What a handler may give back.
pub trait IntoResponse {
    /// Makes the response.
    ///
    /// # Errors
    ///
    /// What becomes a problem document.
    fn into_response(self) -> Result<Response, Error>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response, Error> {
        Ok(self)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Result<Response, Error> {
        Err(self)
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Result<Response, Error> {
        self.map_err(Into::into)?.into_response()
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Result<Response, Error> {
        Ok(Response::new(()).with_status(self))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Result<Response, Error> {
        Ok(Response::text(self))
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Result<Response, Error> {
        Ok(Response::text(self))
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Result<Response, Error> {
        Ok(self.1.into_response()?.with_status(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feed_in_a_header_value_is_an_error_not_a_panic() {
        let response = Response::text("x").with_header("x-a", "b\r\nx-c: d");

        assert_eq!(response.unwrap_err().status(), 500);
    }

    #[test]
    fn status_before_a_body_replaces_its_status() {
        let response = (StatusCode::CREATED, "made").into_response().unwrap();

        assert_eq!(response.status(), 201);
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    }
}
