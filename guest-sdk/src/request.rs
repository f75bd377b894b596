//! [`Request`]: the head in the `http` crate's types, path parameters, query, cookies, body.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use serde::de::DeserializeOwned;

use crate::accept;
use crate::exchange::{EXCHANGE_HEADER, Exchange};
use crate::{Body, Error};

/// A request: received by a handler, or made to be sent by [`client`](crate::client).
#[derive(Debug)]
pub struct Request {
    head: Parts,
    body: Body,
    params: Vec<(String, String)>,
}

impl Request {
    /// A request with this method, target and body.
    ///
    /// # Errors
    ///
    /// 500 where `uri` is not one.
    pub fn new(
        method: Method,
        uri: impl TryInto<Uri, Error: Into<http::Error>>,
        body: impl Into<Body>,
    ) -> Result<Self, Error> {
        let uri = uri.try_into().map_err(Into::into)?;
        Ok(http::Request::builder().method(method).uri(uri).body(body.into())?.into())
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The method, to be changed.
    pub fn method_mut(&mut self) -> &mut Method {
        &mut self.head.method
    }

    /// The target: scheme and authority where the host told them, path and query.
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// The target, to be changed.
    pub fn uri_mut(&mut self) -> &mut Uri {
        &mut self.head.uri
    }

    /// The path as it was sent, percent-encoded.
    pub fn path(&self) -> &str {
        self.head.uri.path()
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

    /// Whether `Accept` gives one media type more weight than another (RFC 9110 §12.5.1), for example
    /// `prefers("text/html", "application/json")`, which is true of browsers. A client that takes both
    /// alike, or says nothing, prefers neither.
    pub fn prefers(&self, media: &str, other: &str) -> bool {
        accept::prefers(self.headers(), media, other)
    }

    /// A parameter of the route that matched, percent-decoded: `name` for `/hello/{name}`, `*` for
    /// what a trailing `/*` stands for.
    ///
    /// # Errors
    ///
    /// 500 where the route has no such parameter.
    pub fn param(&self, name: &str) -> Result<&str, Error> {
        let found = self.params.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Error::internal(format!("the route has no parameter {name:?}")))
    }

    /// A path parameter as a `T`.
    ///
    /// # Errors
    ///
    /// 404 where it is not one: there is nothing at such a path.
    pub fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        self.param(name)?.parse().map_err(|_| Error::not_found())
    }

    /// The names and values of the query, decoded (`a=b+c&d` gives `("a", "b c")`, `("d", "")`).
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.head.uri.query().unwrap_or_default().as_bytes())
    }

    /// The first value of `name` in the query.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The first value of `name` in the query as a `T`; `None` where the query does not have it.
    ///
    /// # Errors
    ///
    /// 400 where it is not a `T`.
    pub fn parse_query<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.query(name) else {
            return Ok(None);
        };
        value
            .parse()
            .map(Some)
            .map_err(|error| Error::bad_request(format!("query parameter {name:?}: {error}")))
    }

    /// A cookie's value as it was sent (RFC 6265 §5.4), the quotes around it taken off.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.head
            .headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| {
                value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
            })
    }

    /// What the host knows of this exchange; `None` where it did not say (another host than
    /// Wharf, or a request that a plugin made itself).
    ///
    /// A component that calls this imports `wharf:host/exchange`, so that a host without that
    /// interface will not load it.
    pub fn exchange(&self) -> Option<Exchange> {
        Exchange::open(self.header(EXCHANGE_HEADER)?)
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to be read.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Reads the whole body: [`Body::bytes`].
    ///
    /// # Errors
    ///
    /// 413 past `limit` bytes, or the client left.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, Error> {
        self.body.bytes(limit).await
    }

    /// Reads the whole body: [`Body::text`].
    ///
    /// # Errors
    ///
    /// 400 where it is not UTF-8; otherwise as [`bytes`](Self::bytes).
    pub async fn text(&mut self, limit: usize) -> Result<String, Error> {
        self.body.text(limit).await
    }

    /// Reads the whole body: [`Body::json`].
    ///
    /// # Errors
    ///
    /// 400 where it is not JSON, 422 where it is not a `T`; otherwise as [`bytes`](Self::bytes).
    pub async fn json<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, Error> {
        self.body.json(limit).await
    }

    pub(crate) fn set_params(&mut self, params: Vec<(String, String)>) {
        self.params = params;
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn into_parts(self) -> (Parts, Body) {
        (self.head, self.body)
    }
}

impl<B: Into<Body>> From<http::Request<B>> for Request {
    fn from(request: http::Request<B>) -> Self {
        let (head, body) = request.into_parts();
        Self { head, body: body.into(), params: Vec::new() }
    }
}

impl From<Request> for http::Request<Body> {
    fn from(request: Request) -> Self {
        Self::from_parts(request.head, request.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> Request {
        Request::new(Method::GET, uri, ()).unwrap()
    }

    #[test]
    fn query_values_are_decoded() {
        let request = get("/x?a=b+c&d&a=second&e=%C3%A9%26");

        assert_eq!(request.query("a").unwrap(), "b c");
        assert_eq!(request.query("d").unwrap(), "");
        assert_eq!(request.query("e").unwrap(), "é&");
        assert!(request.query("f").is_none());
        assert_eq!(request.query_pairs().count(), 4);
    }

    #[test]
    fn query_value_of_the_wrong_type_is_400() {
        let request = get("/x?rows=many&limit=7");

        assert_eq!(request.parse_query::<u32>("limit").unwrap(), Some(7));
        assert_eq!(request.parse_query::<u32>("absent").unwrap(), None);
        assert_eq!(request.parse_query::<u32>("rows").unwrap_err().status(), 400);
    }

    #[test]
    fn cookies_are_found_across_fields() {
        let mut request = get("/");
        request.headers_mut().append(COOKIE, "a=1; session=\"s=1\"".parse().unwrap());
        request.headers_mut().append(COOKIE, "b=2".parse().unwrap());

        assert_eq!(request.cookie("session"), Some("s=1"));
        assert_eq!(request.cookie("b"), Some("2"));
        assert_eq!(request.cookie("c"), None);
    }

    #[test]
    fn malformed_target_is_an_error() {
        assert!(Request::new(Method::GET, "http://[", ()).is_err());
    }
}
