//! What leaves: a request with everything removed that belongs to this hop (RFC 9110 §7.6.1) or to
//! Wharf, and with consistent framing. And the same for what comes back.

use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body::Body;

use super::grants::Origin;
use super::outgoing::{Outgoing, Upload, UpstreamRequestBody};
use super::{MAX_FIELD_BYTES, MAX_FIELDS, UpstreamError};

/// Bytes of path and query.
pub(super) const MAX_URI_BYTES: usize = 16 * 1024;

/// Fields about one connection only, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The tokens that tie a guest's exchange to the host; nobody else may ever see one.
const OWN: [HeaderName; 2] =
    [HeaderName::from_static("wharf-exchange"), HeaderName::from_static("wharf-reply")];

/// What a request needs to be written on any connection to its origin.
pub(super) struct Prepared {
    pub(super) upload: Arc<Upload>,
    target: Target,
}

struct Target {
    origin_form: Uri,
    absolute: Uri,
    host: HeaderValue,
    wants_trailers: bool,
}

impl Prepared {
    /// Checks and cleans a request for `origin`.
    pub(super) fn new(
        request: Request<UpstreamRequestBody>,
        origin: &Origin,
    ) -> Result<(Self, Request<Outgoing>), UpstreamError> {
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(UpstreamError::RequestMethodInvalid);
        }
        let wants_trailers = clean_request(&mut parts.headers);
        check_size(&parts.headers)?;
        let declared = content_length(&mut parts.headers)?;
        let target = Target::new(&parts.uri, origin, wants_trailers)?;
        let upload = Arc::new(Upload::new());
        let body = Outgoing::new(body, declared, Arc::clone(&upload))?;
        // An extension could change how hyper writes the request (header case, reason phrase).
        parts.extensions.clear();
        if declared.is_none()
            && let Some(exact) = body.size_hint().exact()
            && (exact > 0 || takes_content(&parts.method))
        {
            parts.headers.insert(CONTENT_LENGTH, exact.into());
        }
        Ok((Self { upload, target }, Request::from_parts(parts, body)))
    }

    /// The request as one protocol writes it. It may have been another's before.
    pub(super) fn shape(&self, mut request: Request<Outgoing>, http2: bool) -> Request<Outgoing> {
        let target = &self.target;
        let headers = request.headers_mut();
        headers.remove(CONNECTION);
        headers.remove(TE);
        if target.wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if http2 {
            headers.remove(HOST);
            headers.remove(TRANSFER_ENCODING);
            *request.uri_mut() = target.absolute.clone();
            *request.version_mut() = Version::HTTP_2;
        } else {
            headers.insert(HOST, target.host.clone());
            if target.wants_trailers {
                // RFC 9110 §10.1.4: TE is about this connection and says so.
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
            if request.body().has_unannounced_content() {
                // hyper assumes that GET and HEAD without a declared length have no content and
                // would drop it without a word.
                request
                    .headers_mut()
                    .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            *request.uri_mut() = target.origin_form.clone();
            *request.version_mut() = Version::HTTP_11;
        }
        request
    }
}

impl Target {
    fn new(uri: &Uri, origin: &Origin, wants_trailers: bool) -> Result<Self, UpstreamError> {
        let path = match uri.path_and_query() {
            Some(path) if path.as_str().starts_with('/') => path.clone(),
            // An empty path, perhaps with a query (RFC 9110 §4.2.3).
            Some(path) if path.as_str().starts_with('?') => {
                PathAndQuery::try_from(format!("/{path}"))
                    .map_err(|_| UpstreamError::RequestUriInvalid)?
            }
            None => PathAndQuery::from_static("/"),
            Some(_) => return Err(UpstreamError::RequestUriInvalid),
        };
        if path.as_str().len() > MAX_URI_BYTES {
            return Err(UpstreamError::RequestUriTooLong);
        }
        let authority = origin.authority();
        let host =
            HeaderValue::try_from(&authority).map_err(|_| UpstreamError::RequestUriInvalid)?;
        let scheme = if origin.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let absolute = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path.clone())
            .build()
            .map_err(|_| UpstreamError::RequestUriInvalid)?;
        Ok(Self { origin_form: Uri::from(path), absolute, host, wants_trailers })
    }
}

/// Methods whose requests say `content-length: 0` when they have none (RFC 9110 §8.6).
fn takes_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Removes what is not for the upstream; whether the guest can use trailers.
fn clean_request(headers: &mut HeaderMap) -> bool {
    let wants_trailers = headers.get_all(TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    strip_hop_by_hop(headers);
    headers.remove(HOST);
    // Nobody waits for a 100 here, and an upstream that takes it seriously would delay the answer.
    headers.remove(EXPECT);
    wants_trailers
}

/// Removes the fields of one hop and Wharf's own, in either direction.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
            .filter(|name| *name != CONTENT_LENGTH && *name != HOST && *name != TRAILER)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP.iter().chain(&OWN) {
        headers.remove(name);
    }
}

/// Removes from trailers what must not be there (RFC 9110 §6.5.1): framing, routing, our own.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    for name in [CONTENT_LENGTH, HOST, TRAILER, EXPECT] {
        trailers.remove(name);
    }
}

/// Bytes of names and values as HTTP/2 counts them, without its 32 for each field.
pub(super) fn field_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

pub(super) fn check_size(headers: &HeaderMap) -> Result<(), UpstreamError> {
    let bytes = field_bytes(headers);
    if bytes > MAX_FIELD_BYTES || headers.len() > MAX_FIELDS {
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        return Err(UpstreamError::RequestHeaderSectionSize { size });
    }
    Ok(())
}

/// The declared length, once: fields that repeat it are joined, fields that differ refused
/// (RFC 9110 §8.6).
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, UpstreamError> {
    let mut declared = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let length = std::str::from_utf8(digits)
            .ok()
            .filter(|_| digits.iter().all(u8::is_ascii_digit))
            .and_then(|text| text.parse::<u64>().ok());
        if length.is_none() || declared.is_some_and(|before| Some(before) != length) {
            let reason = "the request's content-length is not valid".to_owned();
            return Err(UpstreamError::Protocol { reason });
        }
        declared = length;
    }
    if let Some(length) = declared {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(declared)
}
