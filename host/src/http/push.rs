//! Server push (RFC 9113 §8.4): which requests may be promised to a client, and how many.
//!
//! A promise is checked here where the plugin makes it, so that the plugin is told why there is none;
//! [`super::interim`] carries it to the connection, and `h2/push.rs` sends it and answers it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::interim::Unsent;
use super::limits::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES};

/// Pushes that one response may promise.
pub const MAX_PUSHES: usize = 16;
/// Pushed streams that one connection has at once, promised ones included.
pub const MAX_PUSHED_STREAMS: usize = 64;

/// What the client negotiates with in every request: a pushed one is answered as if it had these too.
const NEGOTIATION: [HeaderName; 3] = [ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT];

/// Fields that a promised request must not have: of the connection, of a body (there is none), or the
/// host's own to say.
const FORBIDDEN: [&str; 21] = [
    "alt-used",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "early-data",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-prefix",
];

/// A connection's count of pushed streams.
#[derive(Debug, Default)]
pub struct PushRoom {
    open: AtomicUsize,
}

impl PushRoom {
    /// Room for one more, where fewer than `limit` are open.
    fn enter(self: &Arc<Self>, limit: usize) -> Option<PushPlace> {
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            })
            .ok()
            .map(|_| PushPlace(Arc::clone(self)))
    }
}

/// One pushed stream's room; given back when it is dropped.
pub struct PushPlace(Arc<PushRoom>);

impl Drop for PushPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for PushPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PushPlace")
    }
}

/// A request that the client is promised an answer to.
#[derive(Debug)]
pub struct Promise {
    /// Without a body, its URI absolute.
    pub request: Request<()>,
    /// Its room on the connection.
    pub place: PushPlace,
}

/// What the promises of one response are made from: the request that it answers.
#[derive(Debug)]
pub struct PushSource {
    scheme: Scheme,
    authority: Authority,
    negotiation: HeaderMap,
    room: Arc<PushRoom>,
    limit: usize,
}

impl PushSource {
    /// From the validated request, for a client that takes `limit` pushed streams at once. `None`
    /// where it takes none.
    pub fn new<B>(request: &Request<B>, room: &Arc<PushRoom>, limit: usize) -> Option<Self> {
        let uri = request.uri();
        let mut negotiation = HeaderMap::new();
        for name in &NEGOTIATION {
            for value in request.headers().get_all(name) {
                negotiation.append(name, value.clone());
            }
        }
        let limit = limit.min(MAX_PUSHED_STREAMS);
        (limit > 0).then_some(Self {
            scheme: uri.scheme()?.clone(),
            authority: uri.authority()?.clone(),
            negotiation,
            room: Arc::clone(room),
            limit,
        })
    }

    /// The request to promise: safe, cacheable and without a body (RFC 9113 §8.4), of the authority
    /// that the client asked.
    ///
    /// # Errors
    /// [`Unsent::Invalid`].
    pub(super) fn request<V: AsRef<[u8]>>(
        &self,
        method: &str,
        path: &str,
        fields: &[(String, V)],
    ) -> Result<Request<()>, Unsent> {
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return Err(Unsent::Invalid),
        };
        let is_target = path.starts_with('/')
            && !path.starts_with("//")
            && path.len() <= MAX_URL_BYTES
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_target || fields.len() > MAX_HEADERS / 2 {
            return Err(Unsent::Invalid);
        }
        let mut headers = self.negotiation.clone();
        let mut bytes = path.len();
        let mut given = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unsent::Invalid)?;
            let value = trimmed(value.as_ref());
            if FORBIDDEN.contains(&name.as_str()) || name.as_str().starts_with("wharf-") {
                return Err(Unsent::Invalid);
            }
            bytes += name.as_str().len() + value.len();
            given.append(name, HeaderValue::from_bytes(value).map_err(|_| Unsent::Invalid)?);
        }
        if bytes > MAX_HEADER_BYTES / 4 {
            return Err(Unsent::Invalid);
        }
        // What the plugin names stands in the place of the client's own.
        for name in given.keys() {
            headers.remove(name);
        }
        headers.extend(given);

        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| Unsent::Invalid)?);
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Unsent::Invalid)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The promise of `request`, where the connection has room for it.
    ///
    /// # Errors
    /// [`Unsent::TooMany`].
    pub(super) fn promise(&self, request: Request<()>) -> Result<Promise, Unsent> {
        let place = self.room.enter(self.limit).ok_or(Unsent::TooMany)?;
        Ok(Promise { request, place })
    }
}

/// Without the whitespace that is no part of a value (RFC 9110 §5.5).
fn trimmed(value: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !is_padding(byte)) else { return &[] };
    let last = value.iter().rposition(|byte| !is_padding(byte)).unwrap_or(first);
    &value[first..=last]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(limit: usize) -> PushSource {
        let request = Request::get("https://a.test/page")
            .header("accept-encoding", "gzip")
            .header("accept-language", "de")
            .header("cookie", "session=1")
            .body(())
            .unwrap();
        PushSource::new(&request, &Arc::default(), limit).unwrap()
    }

    fn invalid(method: &str, path: &str, fields: &[(&str, &str)]) -> bool {
        let fields: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        source(1).request(method, path, &fields).is_err_and(|why| why == Unsent::Invalid)
    }

    #[test]
    fn a_promise_is_of_the_same_authority_and_negotiates_as_the_client_does() {
        let fields = [("Accept-Language".to_owned(), "en"), ("x-asset".to_owned(), " 1\t")];

        let request = source(1).request("GET", "/app.css?v=2", &fields).unwrap();

        assert_eq!(request.uri(), "https://a.test/app.css?v=2");
        assert_eq!(request.headers()["accept-encoding"], "gzip");
        assert_eq!(request.headers()["accept-language"], "en");
        assert_eq!(request.headers()["x-asset"], "1");
        assert!(!request.headers().contains_key("cookie"));
    }

    #[test]
    fn what_is_unsafe_foreign_or_malformed_is_not_promised() {
        assert!(invalid("POST", "/a", &[]));
        assert!(invalid("get", "/a", &[]));
        assert!(invalid("CONNECT", "/a", &[]));
        for path in ["", "a", "*", "//b.test/a", "https://b.test/a", "/a b", "/a\r\nx: y", "/a#b"] {
            assert!(invalid("GET", path, &[]), "{path}");
        }
        for name in FORBIDDEN.into_iter().chain(["wharf-exchange", ":path", "x y", ""]) {
            assert!(invalid("GET", "/a", &[(name, "1")]), "{name}");
        }
        assert!(invalid("GET", "/a", &[("x", "1\r\ny: 2")]));
        assert!(invalid("GET", "/a", &[("x", "\r\ny")]));
        assert!(invalid("GET", "/a", &[("x", "y".repeat(MAX_HEADER_BYTES).as_str())]));
    }

    #[test]
    fn a_connection_has_room_for_so_many() {
        let source = source(2);
        let promise = || source.promise(Request::new(()));

        let (first, second) = (promise().unwrap(), promise().unwrap());
        let third = promise().unwrap_err();
        drop((first, second));

        assert_eq!(third, Unsent::TooMany);
        assert!(promise().is_ok());
    }

    #[test]
    fn a_client_that_takes_none_is_no_source() {
        let request = Request::get("https://a.test/").body(()).unwrap();

        assert!(PushSource::new(&request, &Arc::default(), 0).is_none());
    }
}
