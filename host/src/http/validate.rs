//! The one validator: rules of RFC 9110, 9112, 9113 and 9114 that the three parsers let through are
//! applied here, the same way for every version. What is ambiguous is refused, never repaired: two
//! readers that repair differently are a smuggling hole.
//!
//! The protocol files call [`request`] before a request reaches `App`, the bodies call
//! [`trailers`], `App` calls [`response`] on what a plugin answered, and HTTP/2 and HTTP/3 call
//! [`connection_fields`] on what they are about to send.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::body::BodyError;
use super::conn::Protocol;
use super::limits::{Limits, MAX_HEADER_BYTES, MAX_HEADERS};
use super::rejection::Rejection;
use crate::plugin::Failure;

#[cfg(test)]
mod tests;

/// Request fields that no plugin may see: hop-by-hop (RFC 9110 §7.6.1), the proxy's, the host's own,
/// and `Proxy`, which CGI-like guests would read as `HTTP_PROXY` (httpoxy).
const STRIPPED: [&str; 12] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-prefix",
];

/// Fields that a `Connection` option must not name: a recipient that obeyed would lose what the
/// message means (RFC 9110 §7.6.1: only fields for the immediate recipient may be named).
const NEVER_HOP_BY_HOP: [&str; 17] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "early-data",
    "expect",
    "forwarded",
    "host",
    "origin",
    "range",
    "set-cookie",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-proto",
];

/// What validation found out about a request. The request itself then has an absolute URI and a
/// `Host` field, both with this authority, and none of the fields described by the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// `host[:port]` in lower case, without userinfo.
    pub authority: Authority,
    /// The `Content-Length`, which [`super::body::RequestBody::stream`] checks the body against.
    pub content_length: Option<u64>,
    /// HTTP/1.1 only: the body is chunked.
    pub chunked: bool,
    /// HTTP/1 only: the client wants the connection closed after this exchange. For HTTP/1.0 that
    /// is the default.
    pub close: bool,
    /// The client takes trailers (`TE: trailers`).
    pub takes_trailers: bool,
    /// The client waits for a 100 before it sends the body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Extension of a request that asks for another protocol: the `Upgrade` field's value on HTTP/1.1;
/// on HTTP/2 and HTTP/3 the `:protocol` of an extended CONNECT (RFC 8441, RFC 9220), which the
/// protocol file puts there before it calls [`request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRequested(pub HeaderValue);

impl UpgradeRequested {
    /// The protocols, in the client's order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        list(&self.0).filter_map(|name| str::from_utf8(name).ok())
    }

    /// All that the `Upgrade` fields name.
    fn listed(headers: &HeaderMap) -> Result<Option<HeaderValue>, Rejection> {
        const MALFORMED: Rejection = Rejection::bad("upgrade does not name protocols");
        let mut all = Vec::new();
        for name in headers.get_all(UPGRADE).iter().flat_map(list) {
            // `protocol-name ["/" protocol-version]`, both tokens.
            let mut parts = name.split(|&byte| byte == b'/');
            let is_protocol =
                parts.all(is_token) && name.iter().filter(|&&b| b == b'/').count() < 2;
            if !is_protocol {
                return Err(MALFORMED);
            }
            if !all.is_empty() {
                all.extend_from_slice(b", ");
            }
            all.extend_from_slice(name);
        }
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(all));
        value.map_err(|_| MALFORMED).map(|value| Some(value).filter(|value| !value.is_empty()))
    }
}

/// Checks a request head and brings it into the one shape that `App` knows: see [`Validated`].
///
/// The URI's scheme is as sent, `http` where none was: [`set_scheme`] makes it the connection's.
///
/// # Errors
/// The [`Rejection`] to answer with. On HTTP/2 and HTTP/3 a `BadRequest` is a malformed request
/// (RFC 9113 §8.1.1, RFC 9114 §4.1.2), which may be answered or be a stream error.
pub fn request<B>(
    request: &mut Request<B>,
    protocol: Protocol,
    limits: &Limits,
) -> Result<Validated, Rejection> {
    target(request.method(), request.uri(), is_extended_connect(request), limits)?;
    let mut fields = Fields::default();
    fields.read(request.headers(), protocol, limits)?;
    let version = request.version();
    let framed_by_transfer_coding = fields.transfer_coding.is_some();
    if framed_by_transfer_coding && fields.content_length.is_some() {
        // RFC 9112 §6.1 allows to prefer the coding; it is also how requests are smuggled.
        return Err(Rejection::bad("both content-length and transfer-encoding"));
    }
    if framed_by_transfer_coding && version != Version::HTTP_11 {
        // RFC 9112 §6.1: the framing of an HTTP/1.0 message with a transfer coding is faulty.
        return Err(Rejection::bad("transfer-encoding before HTTP/1.1"));
    }
    if let Some(Transfer::Other) = fields.transfer_coding {
        return Err(Rejection::NotImplemented("a transfer coding other than chunked"));
    }
    let authority = agreed_authority(request.uri().authority(), fields.host.as_ref())?;
    let validated = Validated {
        content_length: fields.content_length,
        chunked: framed_by_transfer_coding,
        close: protocol == Protocol::H1
            && (fields.close || (version < Version::HTTP_11 && !fields.keep_alive)),
        takes_trailers: fields.takes_trailers,
        // RFC 9110 §10.1.1: ignored in an HTTP/1.0 request.
        expects_continue: fields.expects_continue && version > Version::HTTP_10,
        authority,
    };
    // RFC 9110 §7.8: without the connection option, or before HTTP/1.1, the field says nothing.
    if protocol == Protocol::H1
        && fields.upgrade_listed
        && version == Version::HTTP_11
        && let Some(protocols) = UpgradeRequested::listed(request.headers())?
    {
        request.extensions_mut().insert(UpgradeRequested(protocols));
    }
    if is_extended_connect(request) {
        let asked = request.extensions().get::<UpgradeRequested>();
        if !asked.is_some_and(|UpgradeRequested(protocol)| is_token(protocol.as_bytes())) {
            return Err(Rejection::bad(":protocol is not a token"));
        }
        if validated.content_length.is_some() {
            // What follows is no content (RFC 9113 §8.5).
            return Err(Rejection::bad("content-length with CONNECT"));
        }
        // To routes and plugins it is the GET that an Upgrade would be.
        *request.method_mut() = Method::GET;
    }
    fields.clean(request.headers_mut(), &validated)?;
    absolute(request.uri_mut(), None, Some(&validated.authority))?;
    Ok(validated)
}

/// Gives a validated request's URI the connection's scheme; what a client writes there says nothing
/// about the connection (RFC 9110 §7.4).
pub fn set_scheme<B>(request: &mut Request<B>, scheme: Scheme) {
    if request.uri().scheme() != Some(&scheme) {
        // A validated URI has the other two parts.
        let _kept_as_it_was = absolute(request.uri_mut(), Some(scheme), None);
    }
}

/// Checks trailers: framing and connection fields make the message malformed; fields that modify,
/// route, authenticate or describe are dropped, because they came too late to be obeyed and must not
/// be merged into the head (RFC 9110 §6.5.1, §6.5.2).
///
/// # Errors
/// [`BodyError::Malformed`].
pub fn trailers(mut trailers: HeaderMap) -> Result<HeaderMap, BodyError> {
    let mut bytes = 0;
    let mut dropped = Vec::new();
    if trailers.len() > MAX_HEADERS {
        return Err(BodyError::Malformed("too many trailer fields"));
    }
    for (name, value) in &trailers {
        bytes += field_bytes(name, value);
        if bytes > MAX_HEADER_BYTES {
            return Err(BodyError::Malformed("trailer fields too large"));
        }
        if is_padded(value) {
            return Err(BodyError::Malformed("whitespace around a trailer value"));
        }
        match trailer_kind(name.as_str()) {
            TrailerKind::Allowed => {}
            TrailerKind::Dropped => dropped.push(name.clone()),
            TrailerKind::Framing => {
                return Err(BodyError::Malformed("a framing field in the trailers"));
            }
        }
    }
    for name in dropped {
        trailers.remove(name);
    }
    Ok(trailers)
}

/// Checks the head of a plugin's response and removes the fields that are the host's to send.
/// `Connection` is left only as `close`, which the HTTP/1 connection obeys.
///
/// # Errors
/// [`Failure::Reply`]: an interim status (100 to 199) as the final one, or a `Content-Length` that is
/// none or that stands there twice.
pub fn response(status: StatusCode, headers: &mut HeaderMap) -> Result<(), Failure> {
    let refused = |message: &str| Err(Failure::Reply { message: message.into() });
    if status.is_informational() {
        return refused("an interim status as the final one");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(value) = lengths.next() {
        if lengths.next().is_some() || parse_content_length(value).is_none() {
            return refused("its content-length is not one number");
        }
        if status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6: not in a 204.
            headers.remove(CONTENT_LENGTH);
        }
    }
    let offered =
        (status == StatusCode::UPGRADE_REQUIRED).then(|| headers.remove(UPGRADE)).flatten();
    let close = connection_fields(headers);
    // RFC 9110 §15.5.22: a 426 must have it; HTTP/2 and HTTP/3 leave it out all the same.
    if let Some(offered) = offered {
        headers.insert(UPGRADE, offered);
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    one_date(headers);
    Ok(())
}

/// Leaves one `date`, or none where it is no date or there are several: the protocol then writes
/// the right one (RFC 9110 §6.6.1).
fn one_date(headers: &mut HeaderMap) {
    let mut dates = headers.get_all(DATE).iter();
    let Some(date) = dates.next() else { return };
    let is_date = date.to_str().is_ok_and(|text| httpdate::parse_http_date(text).is_ok());
    if !is_date || dates.next().is_some() {
        headers.remove(DATE);
    }
}

/// Removes connection-specific fields (RFC 9110 §7.6.1, RFC 9113 §8.2.2), and those that
/// `Connection` names. True if it asked to close.
pub fn connection_fields(headers: &mut HeaderMap) -> bool {
    let mut close = false;
    if headers.contains_key(CONNECTION) {
        let mut named = Vec::new();
        for option in headers.get_all(CONNECTION).iter().flat_map(list) {
            if option.eq_ignore_ascii_case(b"close") {
                close = true;
            } else if let Ok(name) = HeaderName::from_bytes(option)
                && !NEVER_HOP_BY_HOP.contains(&name.as_str())
            {
                named.push(name);
            }
        }
        headers.remove(CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for name in ["keep-alive", "proxy-connection", "te"] {
        headers.remove(name);
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    close
}

/// A `Content-Length` value: digits only, no sign, no list, no overflow (RFC 9110 §8.6).
pub fn parse_content_length(value: &HeaderValue) -> Option<u64> {
    let bytes = value.as_bytes();
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// The members of a list value, without empty ones (RFC 9110 §5.6.1).
fn list(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

/// RFC 9110 §5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

#[derive(Clone, Copy, Debug)]
enum Transfer {
    Chunked,
    Other,
}

/// What one pass over the fields finds.
#[derive(Debug, Default)]
struct Fields {
    host: Option<Authority>,
    /// Whether `host` is spelled otherwise than the field.
    host_respelled: bool,
    content_length: Option<u64>,
    transfer_coding: Option<Transfer>,
    takes_trailers: bool,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
    upgrade_listed: bool,
    cookies: usize,
    /// Bits of [`STRIPPED`] that are there.
    stripped: u16,
    /// Further fields to remove: named by `Connection`, or the host's own.
    named: Vec<HeaderName>,
}

impl Fields {
    fn read(
        &mut self,
        headers: &HeaderMap,
        protocol: Protocol,
        limits: &Limits,
    ) -> Result<(), Rejection> {
        let too_large =
            Rejection::FieldsTooLarge { limit: limits.header_bytes, count: limits.headers };
        if headers.len() > limits.headers {
            return Err(too_large);
        }
        let mut bytes = 0;
        for (name, value) in headers {
            bytes += field_bytes(name, value);
            if bytes > limits.header_bytes {
                return Err(too_large);
            }
            if is_padded(value) {
                // RFC 9113 §8.2.1, RFC 9114 §4.2; the HTTP/1 parser has removed it (RFC 9112 §5.1).
                return Err(Rejection::bad("whitespace around a field value"));
            }
            self.field(name, value, protocol)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
        protocol: Protocol,
    ) -> Result<(), Rejection> {
        let text = name.as_str();
        match text {
            "host" => {
                if self.host.is_some() {
                    return Err(Rejection::bad("more than one host field"));
                }
                let host = value.to_str().map_err(|_| Rejection::bad("host is not ASCII"))?;
                let authority = parse_authority(host)?;
                self.host_respelled = authority.as_str() != host;
                self.host = Some(authority);
            }
            "content-length" => {
                // RFC 9112 §6.3 lets a recipient merge equal duplicates; it may also refuse.
                if self.content_length.is_some() {
                    return Err(Rejection::bad("more than one content-length"));
                }
                let length = parse_content_length(value)
                    .ok_or(Rejection::bad("content-length is not a number"))?;
                self.content_length = Some(length);
            }
            "cookie" => self.cookies += 1,
            "te" => {
                if protocol == Protocol::H1 {
                    self.takes_trailers |= list(value).any(|m| m.eq_ignore_ascii_case(b"trailers"));
                } else if value.as_bytes().eq_ignore_ascii_case(b"trailers") {
                    self.takes_trailers = true;
                } else {
                    // RFC 9113 §8.2.2, RFC 9114 §4.2.
                    return Err(Rejection::bad("te other than trailers"));
                }
            }
            "expect" => {
                if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(Rejection::ExpectationFailed);
                }
                self.expects_continue = true;
            }
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
                if protocol != Protocol::H1 =>
            {
                // RFC 9113 §8.2.2, RFC 9114 §4.2.
                return Err(Rejection::bad("a connection field outside HTTP/1"));
            }
            "connection" => self.connection(value)?,
            "transfer-encoding" => self.transfer_encoding(value)?,
            _ if text.starts_with("wharf-") => self.named.push(name.clone()),
            _ => {}
        }
        if let Some(bit) = STRIPPED.iter().position(|stripped| *stripped == text) {
            self.stripped |= 1 << bit;
        }
        Ok(())
    }

    fn connection(&mut self, value: &HeaderValue) -> Result<(), Rejection> {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_listed = true;
            } else {
                let name = HeaderName::from_bytes(option)
                    .map_err(|_| Rejection::bad("a connection option is not a token"))?;
                if NEVER_HOP_BY_HOP.contains(&name.as_str()) {
                    return Err(Rejection::bad("a connection option names an end-to-end field"));
                }
                self.named.push(name);
            }
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &HeaderValue) -> Result<(), Rejection> {
        if self.transfer_coding.is_some() {
            return Err(Rejection::bad("more than one transfer-encoding"));
        }
        let mut last = None;
        let mut codings = 0;
        for coding in value.as_bytes().split(|&b| b == b',') {
            codings += 1;
            last = Some(coding.trim_ascii());
        }
        // RFC 9112 §6.3: where chunked is not the last coding, the length cannot be known.
        self.transfer_coding = match last {
            Some(last) if last.eq_ignore_ascii_case(b"chunked") => {
                Some(if codings == 1 { Transfer::Chunked } else { Transfer::Other })
            }
            _ => return Err(Rejection::bad("chunked is not the last transfer coding")),
        };
        Ok(())
    }

    /// Leaves the fields that a plugin may see.
    fn clean(self, headers: &mut HeaderMap, validated: &Validated) -> Result<(), Rejection> {
        for (bit, name) in STRIPPED.iter().enumerate() {
            if self.stripped & (1 << bit) != 0 {
                headers.remove(*name);
            }
        }
        for name in self.named {
            headers.remove(name);
        }
        if validated.takes_trailers {
            // A guest may look for it (gRPC does), in the one form that all versions allow.
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if self.cookies > 1 {
            join_cookies(headers)?;
        }
        if self.host.is_none() || self.host_respelled {
            let host = HeaderValue::from_str(validated.authority.as_str())
                .map_err(|_| Rejection::bad("host is not a field value"))?;
            headers.insert(HOST, host);
        }
        debug_assert!(!headers.contains_key(EXPECT), "the host has met the expectation");
        Ok(())
    }
}

/// RFC 9113 §8.2.3: split cookies are one field to what is not HTTP/2. In HTTP/1 a client must not
/// send two (RFC 6265 §5.4); guests would differ on which counts.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Rejection> {
    let mut joined = Vec::new();
    for crumb in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    let cookie = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined))
        .map_err(|_| Rejection::bad("cookie is not a field value"))?;
    headers.insert(COOKIE, cookie);
    Ok(())
}

/// As it would stand on the wire of HTTP/1: `name: value CR LF`.
fn field_bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + 4
}

fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    blank(bytes.first()) || blank(bytes.last())
}

fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.version() > Version::HTTP_11
        && request.extensions().get::<UpgradeRequested>().is_some()
}

fn target(
    method: &Method,
    uri: &Uri,
    extended_connect: bool,
    limits: &Limits,
) -> Result<(), Rejection> {
    if method == Method::CONNECT && !extended_connect {
        return Err(Rejection::NotImplemented("CONNECT"));
    }
    let Some(path_and_query) = uri.path_and_query() else {
        return Err(Rejection::bad("the request target is not a path"));
    };
    if let Some(scheme) = uri.scheme() {
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(Rejection::bad("the scheme is neither http nor https"));
        }
    } else if uri.authority().is_some() && uri.path().is_empty() {
        return Err(Rejection::bad("the request target is not a path"));
    }
    path(method, path_and_query, limits)
}

fn path(method: &Method, target: &PathAndQuery, limits: &Limits) -> Result<(), Rejection> {
    let text = target.as_str();
    if text.len() > limits.url_bytes {
        return Err(Rejection::UriTooLong { limit: limits.url_bytes });
    }
    if text == "*" {
        // RFC 9112 §3.2.4.
        let allowed = method == Method::OPTIONS;
        return if allowed { Ok(()) } else { Err(Rejection::bad("* is for OPTIONS")) };
    }
    if !text.starts_with('/') {
        return Err(Rejection::bad("the path does not begin with /"));
    }
    if text.bytes().any(|byte| !is_target_byte(byte)) {
        return Err(Rejection::bad("a forbidden character in the request target"));
    }
    Ok(())
}

/// What may stand in a path or query unescaped. Narrower than what clients send in practice only in
/// the backslash, which some readers take for a slash, and in what is not ASCII (RFC 3986 §2).
pub(super) fn is_target_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && !matches!(byte, b'#' | b'\\')
}

/// Exactly one authority: where the target and `Host` both name one, they must agree. RFC 9112
/// §3.2.2 lets the target win; a server behind or before us may not.
fn agreed_authority(
    target: Option<&Authority>,
    host: Option<&Authority>,
) -> Result<Authority, Rejection> {
    let Some(target) = target else {
        return host.cloned().ok_or(Rejection::bad("no host"));
    };
    let target = parse_authority(target.as_str())?;
    if host.is_some_and(|host| *host != target) {
        return Err(Rejection::bad("host differs from the request target's authority"));
    }
    Ok(target)
}

/// `uri-host [":" port]` (RFC 9110 §7.2) in lower case. The host is a DNS-like name, an IPv4 or a
/// bracketed IPv6 address; escapes and sub-delimiters, which RFC 3986 would allow, only serve to
/// write one name in two ways.
fn parse_authority(text: &str) -> Result<Authority, Rejection> {
    let bad = || Rejection::bad("the authority is not host[:port]");
    let after_host = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(bad)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
        after
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let name = &text[..end];
        let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 255 || !name.bytes().all(is_name_byte) {
            return Err(bad());
        }
        &text[end..]
    };
    if !after_host.is_empty() {
        let port = after_host.strip_prefix(':').ok_or_else(bad)?;
        let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
        if !digits || port.parse::<u16>().map_err(|_| bad())? == 0 {
            return Err(bad());
        }
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Authority::try_from(text.to_ascii_lowercase()).map_err(|_| bad())
    } else {
        Authority::try_from(text).map_err(|_| bad())
    }
}

/// Replaces parts of the URI and makes it absolute.
fn absolute(
    uri: &mut Uri,
    scheme: Option<Scheme>,
    authority: Option<&Authority>,
) -> Result<(), Rejection> {
    let mut parts = std::mem::take(uri).into_parts();
    if scheme.is_some() || parts.scheme.is_none() {
        parts.scheme = Some(scheme.unwrap_or(Scheme::HTTP));
    }
    if let Some(authority) = authority {
        parts.authority = Some(authority.clone());
    }
    *uri = Uri::from_parts(parts).map_err(|_| Rejection::bad("the request target is not a URI"))?;
    Ok(())
}

enum TrailerKind {
    Allowed,
    Dropped,
    Framing,
}

/// RFC 9110 §6.5.1 names the classes; the fields are those that RFC 9110, 9111 and 6265 register.
fn trailer_kind(name: &str) -> TrailerKind {
    match name {
        // Message framing, connection and routing.
        "connection" | "content-length" | "host" | "http2-settings" | "keep-alive"
        | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" => {
            TrailerKind::Framing
        }
        // Authentication and cookies.
        "authorization" | "cookie" | "proxy-authenticate" | "proxy-authorization" | "set-cookie"
        | "www-authenticate" | "authentication-info" | "proxy-authentication-info"
        // Request modifiers: controls, conditions, ranges.
        | "cache-control" | "expect" | "if-match" | "if-modified-since" | "if-none-match"
        | "if-range" | "if-unmodified-since" | "max-forwards" | "pragma" | "range"
        // Response control data.
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary" | "warning"
        // How to process the content.
        | "content-encoding" | "content-range" | "content-type"
        // Who the client is, to guests that believe it.
        | "forwarded" | "proxy" | "origin" | "referer" | "user-agent" => TrailerKind::Dropped,
        _ if name.starts_with("x-forwarded-") || name.starts_with("wharf-") => TrailerKind::Dropped,
        _ => TrailerKind::Allowed,
    }
}
