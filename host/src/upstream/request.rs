//! What leaves: a request with everything removed that belongs to this hop (RFC 9110 §7.6.1) or to
//! Wharf, and with consistent framing. And the same for what comes back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, Version};
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

/// What a request may carry as an extension, beside what every request is.
#[derive(Clone, Default)]
pub struct Forwarding {
    /// Its `Host` field goes out in place of the origin's own authority.
    pub keeps_host: bool,
    /// Told of interim responses, but 100 and 101, as they arrive (RFC 9110 §15.2). HTTP/1.1 only:
    /// hyper's HTTP/2 drops them.
    pub on_interim: Option<OnInterim>,
}

/// What an interim response is told to.
pub type OnInterim = Arc<dyn Fn(StatusCode, HeaderMap) + Send + Sync>;

/// What a request needs to be written on any connection to its origin.
pub(super) struct Prepared {
    pub(super) upload: Arc<Upload>,
    target: Target,
    on_interim: Option<OnInterim>,
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
        let Forwarding { keeps_host, on_interim } = parts.extensions.remove().unwrap_or_default();
        let host = parts.headers.get(HOST).filter(|_| keeps_host).cloned();
        let wants_trailers = clean_request(&mut parts.headers);
        check_size(&parts.headers)?;
        let declared = content_length(&mut parts.headers)?;
        let target = Target::new(&parts.uri, origin, host.as_ref(), wants_trailers)?;
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
        Ok((Self { upload, target, on_interim }, Request::from_parts(parts, body)))
    }

    /// The same request once more, where it may be sent twice: its method is idempotent (RFC 9110
    /// §9.2.2) and it has no content.
    pub(super) fn copy(&self, request: &Request<Outgoing>) -> Option<Request<Outgoing>> {
        let may_be_sent_twice = request.method().is_idempotent() && request.body().is_end_stream();
        if !may_be_sent_twice {
            return None;
        }
        let body = Outgoing::nothing(Arc::clone(&self.upload));
        let mut copy = Request::new(body);
        *copy.method_mut() = request.method().clone();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }

    /// The request as one protocol writes it. It may have been another's before.
    pub(super) fn shape(&self, mut request: Request<Outgoing>, http2: bool) -> Request<Outgoing> {
        let target = &self.target;
        let mut fields = HeaderMap::with_capacity(request.headers().len() + 4);
        if !http2 {
            // RFC 9110 §7.2: the first one.
            fields.insert(HOST, target.host.clone());
        }
        copy_without(request.headers(), &mut fields, |name| {
            [CONNECTION, TE, HOST, TRANSFER_ENCODING].contains(name)
        });
        if target.wants_trailers {
            fields.insert(TE, HeaderValue::from_static("trailers"));
        }
        *request.headers_mut() = fields;
        if http2 {
            *request.uri_mut() = target.absolute.clone();
            *request.version_mut() = Version::HTTP_2;
        } else {
            if let Some(told) = self.on_interim.clone() {
                hyper::ext::on_informational(&mut request, move |interim| {
                    let status = interim.status();
                    if status != StatusCode::CONTINUE && status != StatusCode::SWITCHING_PROTOCOLS {
                        told(status, interim.headers().clone());
                    }
                });
            }
            let headers = request.headers_mut();
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
    fn new(
        uri: &Uri,
        origin: &Origin,
        host: Option<&HeaderValue>,
        wants_trailers: bool,
    ) -> Result<Self, UpstreamError> {
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
        let authority = match host {
            Some(host) => host.to_str().unwrap_or_default().to_owned(),
            None => origin.authority(),
        };
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
    // Nobody waits for a 100 here, and an upstream that takes it seriously would delay the answer.
    remove_all(headers, |name| [HOST, EXPECT].contains(name));
    wants_trailers
}

/// Appends the fields of `from` to `to`, in their order, but those that are `gone`.
fn copy_without(from: &HeaderMap, to: &mut HeaderMap, gone: impl Fn(&HeaderName) -> bool) {
    for (name, value) in from {
        if !gone(name) {
            to.append(name, value.clone());
        }
    }
}

/// Removes fields and leaves the others in their order; `HeaderMap::remove` puts the last one into the
/// gap.
fn remove_all(headers: &mut HeaderMap, gone: impl Fn(&HeaderName) -> bool) {
    if headers.keys().any(&gone) {
        let mut left = HeaderMap::with_capacity(headers.len());
        copy_without(headers, &mut left, gone);
        *headers = left;
    }
}

/// How long the upstream says that the connection may rest (`Keep-Alive: timeout=N`, RFC 2068
/// §19.7.1.1), less a second for the way.
pub(super) fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let timeout = value.split([',', ';']).find_map(|part| {
        let (name, seconds) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("timeout").then_some(seconds)
    })?;
    Some(Duration::from_secs(timeout.trim().parse::<u32>().ok()?.saturating_sub(1).into()))
}

/// Removes the fields of one hop and Wharf's own, in either direction.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST && *name != TRAILER)
        .collect();
    remove_all(headers, |name| {
        HOP_BY_HOP.contains(name) || OWN.contains(name) || named.contains(name)
    });
}

/// Removes from trailers what must not be there (RFC 9110 §6.5.1): framing, routing, our own.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    remove_all(trailers, |name| [CONTENT_LENGTH, HOST, TRAILER, EXPECT].contains(name));
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
