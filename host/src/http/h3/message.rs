//! Field sections and messages: a request's head and trailers from a section (RFC 9114 §4.2, §4.3),
//! a response's head and trailers into frames.
//!
//! What RFC 9114 §4.1.2 calls malformed is refused here and never becomes a request; what all
//! three versions share is left to [`crate::http::validate`].

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

use super::frame::{HEADERS, put_frame_head};
use super::qpack::{self, DecodeError, Decoder, SectionLimits, Text};
use crate::http::limits::Limits;
use crate::http::validate::UpgradeRequested;

/// Why a section is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    /// The section itself cannot be decoded: a connection error.
    #[error("{0}")]
    Qpack(&'static str),
    /// A malformed message: a stream error.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// More than the limits.
    #[error("the field section is too large")]
    TooLarge,
}

impl From<DecodeError> for MessageError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(reason) => Self::Qpack(reason),
            DecodeError::TooLarge => Self::TooLarge,
        }
    }
}

/// The limits on a field section; pseudo-header fields come on top of the counted ones.
pub(super) fn section_limits(limits: &Limits) -> SectionLimits {
    SectionLimits { bytes: limits.header_bytes, fields: limits.headers + PSEUDO_FIELDS }
}

const PSEUDO_FIELDS: usize = 5;

#[derive(Default)]
struct Pseudo {
    method: Option<Text>,
    scheme: Option<Text>,
    authority: Option<Text>,
    path: Option<Text>,
    protocol: Option<Text>,
}

/// The head of a request, from the payload of its HEADERS frame.
///
/// # Errors
/// See [`MessageError`].
pub(super) fn request(section: Bytes, limits: &Limits) -> Result<Request<()>, MessageError> {
    let mut decoder = Decoder::new(section, section_limits(limits))?;
    let mut pseudo = Pseudo::default();
    let mut fields = HeaderMap::new();
    while let Some((name, value)) = decoder.next()? {
        if name.as_bytes().first() != Some(&b':') {
            append(&mut fields, name, value)?;
            continue;
        }
        // RFC 9114 §4.3: before all fields, each once, none but the defined ones.
        if !fields.is_empty() {
            return Err(MessageError::Malformed("pseudo-header field after fields"));
        }
        let slot = match name.as_bytes() {
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":authority" => &mut pseudo.authority,
            b":path" => &mut pseudo.path,
            // RFC 9220 §3.
            b":protocol" => &mut pseudo.protocol,
            _ => return Err(MessageError::Malformed("unknown pseudo-header field")),
        };
        if slot.replace(value).is_some() {
            return Err(MessageError::Malformed("pseudo-header field given twice"));
        }
    }
    let mut request = Request::new(());
    if let Some(protocol) = pseudo.protocol.take() {
        if pseudo.method.as_ref().is_none_or(|method| method.as_bytes() != b"CONNECT") {
            return Err(MessageError::Malformed(":protocol without CONNECT"));
        }
        let protocol = HeaderValue::from_maybe_shared(protocol.into_bytes())
            .map_err(|_| MessageError::Malformed("invalid :protocol"))?;
        request.extensions_mut().insert(UpgradeRequested(protocol));
    }
    let is_plain = request.extensions().get::<UpgradeRequested>().is_none();
    let (method, uri) = target(pseudo, &fields, is_plain)?;
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = fields;
    Ok(request)
}

/// Method and target (§4.3.1, §4.4). `is_plain`: a CONNECT is one to an authority (RFC 8441 §4).
fn target(
    pseudo: Pseudo,
    fields: &HeaderMap,
    is_plain: bool,
) -> Result<(Method, Uri), MessageError> {
    let missing = |what| MessageError::Malformed(what);
    let method = pseudo.method.ok_or(missing("no :method"))?;
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| MessageError::Malformed("invalid :method"))?;

    let authority = match pseudo.authority {
        None => None,
        Some(text) if text.as_bytes().is_empty() || text.as_bytes().contains(&b'@') => {
            return Err(MessageError::Malformed("invalid :authority"));
        }
        Some(text) => Some(
            Authority::from_maybe_shared(text.into_bytes())
                .map_err(|_| MessageError::Malformed("invalid :authority"))?,
        ),
    };

    let mut parts = http::uri::Parts::default();
    if method == Method::CONNECT && is_plain {
        if pseudo.scheme.is_some() || pseudo.path.is_some() {
            return Err(MessageError::Malformed("CONNECT with :scheme or :path"));
        }
        parts.authority = Some(authority.ok_or(missing("CONNECT without :authority"))?);
    } else {
        let scheme = pseudo.scheme.ok_or(missing("no :scheme"))?;
        let scheme = match scheme.as_bytes() {
            b"https" => Scheme::HTTPS,
            b"http" => Scheme::HTTP,
            _ => return Err(MessageError::Malformed("unknown :scheme")),
        };
        let path = pseudo.path.ok_or(missing("no :path"))?;
        if !(path.as_bytes().starts_with(b"/")
            || method == Method::OPTIONS && path.as_bytes() == b"*")
        {
            return Err(MessageError::Malformed("invalid :path"));
        }
        let path = PathAndQuery::from_maybe_shared(path.into_bytes())
            .map_err(|_| MessageError::Malformed("invalid :path"))?;
        if authority.is_none() && !fields.contains_key(http::header::HOST) {
            return Err(MessageError::Malformed("neither :authority nor host"));
        }
        // Without an authority, `Uri` takes no scheme; the validator reads `host` then.
        if authority.is_some() {
            parts.scheme = Some(scheme);
        }
        parts.authority = authority;
        parts.path_and_query = Some(path);
    }
    let uri = Uri::from_parts(parts).map_err(|_| MessageError::Malformed("invalid target"))?;
    Ok((method, uri))
}

/// Trailers, from the payload of the second HEADERS frame.
///
/// # Errors
/// See [`MessageError`].
pub(super) fn trailers(section: Bytes, limits: &Limits) -> Result<HeaderMap, MessageError> {
    let mut decoder = Decoder::new(section, section_limits(limits))?;
    let mut fields = HeaderMap::new();
    while let Some((name, value)) = decoder.next()? {
        if name.as_bytes().first() == Some(&b':') {
            return Err(MessageError::Malformed("pseudo-header field in trailers"));
        }
        append(&mut fields, name, value)?;
    }
    Ok(fields)
}

/// The fields of HTTP/1.1 connections, which must not be here (§4.2).
pub(super) fn is_connection_specific(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the decoder has no more use for them")]
fn append(fields: &mut HeaderMap, name: Text, value: Text) -> Result<(), MessageError> {
    // Also refuses upper case, which is malformed (§4.2).
    let name = HeaderName::from_lowercase(name.as_bytes())
        .map_err(|_| MessageError::Malformed("invalid field name"))?;
    if is_connection_specific(name.as_str()) {
        return Err(MessageError::Malformed("connection-specific field"));
    }
    let bytes = value.as_bytes();
    if name == http::header::TE && bytes != b"trailers" {
        return Err(MessageError::Malformed("te other than trailers"));
    }
    // RFC 9110 §5.5: a field value has no white space around it.
    if let (Some(first), Some(last)) = (bytes.first(), bytes.last())
        && (matches!(first, b' ' | b'\t') || matches!(last, b' ' | b'\t'))
    {
        return Err(MessageError::Malformed("white space around a field value"));
    }
    // Refuses CR, LF, NUL and the other controls (§10.3).
    let value = HeaderValue::from_maybe_shared(value.into_bytes())
        .map_err(|_| MessageError::Malformed("invalid field value"))?;
    // `cookie` may come in pieces, which are one field to everybody else (§4.2.1).
    if name == http::header::COOKIE
        && let Some(so_far) = fields.get(&name)
    {
        let joined = [so_far.as_bytes(), b"; ", value.as_bytes()].concat();
        let joined = HeaderValue::from_maybe_shared(Bytes::from(joined))
            .map_err(|_| MessageError::Malformed("invalid field value"))?;
        fields.insert(name, joined);
        return Ok(());
    }
    fields.try_append(name, value).map_err(|_| MessageError::TooLarge)?;
    Ok(())
}

/// Appends the HEADERS frame of a response's head.
pub(super) fn put_head<B>(response: &Response<B>, out: &mut BytesMut) {
    put_headers(Some(response.status()), response.headers(), out);
}

/// Appends the HEADERS frame of an interim response (100, 103).
pub(super) fn put_interim(status: StatusCode, fields: &HeaderMap, out: &mut BytesMut) {
    put_headers(Some(status), fields, out);
}

/// Appends the HEADERS frame of trailers.
pub(super) fn put_trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    put_headers(None, trailers, out);
}

fn put_headers(status: Option<StatusCode>, fields: &HeaderMap, out: &mut BytesMut) {
    let mut section = BytesMut::with_capacity(256);
    qpack::encode(status, fields, is_connection_specific, &mut section);
    put_frame_head(out, HEADERS, section.len());
    out.extend_from_slice(&section);
}

/// Makes a response's fields fit its body: adds `date`, removes a `content-length` where none may
/// be, and adds the length that is known. `length` is the exact length of the content, if known.
pub(super) fn complete(response: &mut Response<()>, head_request: bool, length: Option<u64>) {
    let status = response.status();
    let fields = response.headers_mut();
    if !fields.contains_key(DATE) {
        fields.insert(DATE, date());
    }
    // RFC 9110 §8.6.
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        fields.remove(CONTENT_LENGTH);
    } else if !head_request
        && status != StatusCode::NOT_MODIFIED
        && !fields.contains_key(CONTENT_LENGTH)
        && let Some(length) = length
    {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The length that a response declares; `None` where there is none or it is nonsense.
pub(super) fn declared_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn date() -> HeaderValue {
    let text = httpdate::fmt_http_date(std::time::SystemTime::now());
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("an HTTP date is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(lines: &[(&str, &str)]) -> Bytes {
        // Literal names throughout (RFC 9204 §4.5.6), so that anything can be written.
        let mut out = vec![0, 0];
        for (name, value) in lines {
            let prefix = name.len().min(7);
            out.push(0x20 | prefix as u8);
            if prefix == 7 {
                out.push((name.len() - 7) as u8);
            }
            out.extend(name.bytes());
            let prefix = value.len().min(127);
            out.push(prefix as u8);
            if prefix == 127 {
                out.push((value.len() - 127) as u8);
            }
            out.extend(value.bytes());
        }
        out.into()
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/x?y=1")];

    #[test]
    fn a_plain_request_is_understood() {
        let mut lines = GET.to_vec();
        lines.extend([("cookie", "a=1"), ("te", "trailers"), ("x", "1"), ("cookie", "b=2")]);

        let request = request(section(&lines), &Limits::default()).unwrap();

        assert_eq!(request.uri(), "https://a.test/x?y=1");
        assert_eq!(request.version(), Version::HTTP_3);
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert_eq!(request.headers()["x"], "1");
    }

    #[test]
    fn malformed_heads_are_refused() {
        let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
        let without = |name| GET.iter().copied().filter(|line| line.0 != name).collect::<Vec<_>>();
        let instead = |name, value| {
            GET.iter().map(|line| if line.0 == name { (name, value) } else { *line }).collect()
        };
        for (lines, reason) in [
            (with(&[(":path", "/")]), "pseudo-header field given twice"),
            (with(&[(":method", "GET")]), "pseudo-header field given twice"),
            (with(&[(":status", "200")]), "unknown pseudo-header field"),
            (with(&[(":protocol", "websocket")]), ":protocol without CONNECT"),
            (with(&[(":x", "")]), "unknown pseudo-header field"),
            (with(&[("x", ""), (":x", "")]), "pseudo-header field after fields"),
            (with(&[("X", "1")]), "invalid field name"),
            (with(&[("", "1")]), "invalid field name"),
            (with(&[("a b", "1")]), "invalid field name"),
            (with(&[("connection", "close")]), "connection-specific field"),
            (with(&[("keep-alive", "1")]), "connection-specific field"),
            (with(&[("proxy-connection", "1")]), "connection-specific field"),
            (with(&[("transfer-encoding", "chunked")]), "connection-specific field"),
            (with(&[("upgrade", "h2c")]), "connection-specific field"),
            (with(&[("te", "gzip")]), "te other than trailers"),
            (with(&[("x", " 1")]), "white space around a field value"),
            (with(&[("x", "1\t")]), "white space around a field value"),
            (with(&[("x", "a\r\nb: c")]), "invalid field value"),
            (with(&[("x", "a\0b")]), "invalid field value"),
            (without(":method"), "no :method"),
            (without(":scheme"), "no :scheme"),
            (without(":path"), "no :path"),
            (without(":authority"), "neither :authority nor host"),
            (instead(":method", "G T"), "invalid :method"),
            (instead(":path", ""), "invalid :path"),
            (instead(":path", "x"), "invalid :path"),
            (instead(":path", "*"), "invalid :path"),
            (instead(":path", "/a b"), "invalid :path"),
            (instead(":authority", ""), "invalid :authority"),
            (instead(":authority", "user@a.test"), "invalid :authority"),
            (instead(":scheme", "ftp"), "unknown :scheme"),
            (instead(":method", "CONNECT"), "CONNECT with :scheme or :path"),
        ] {
            let error = request(section(&lines), &Limits::default()).unwrap_err();

            assert_eq!(error, MessageError::Malformed(reason), "{lines:?}");
        }
    }

    #[test]
    fn trailers_take_fields_only() {
        let limits = Limits::default();

        assert_eq!(trailers(section(&[("x-sum", "1")]), &limits).unwrap()["x-sum"], "1");
        assert_eq!(
            trailers(section(&[(":path", "/")]), &limits),
            Err(MessageError::Malformed("pseudo-header field in trailers"))
        );
    }

    #[test]
    fn fields_past_the_limits_are_too_large() {
        let limits = Limits { headers: 3, header_bytes: 400, ..Limits::default() };
        let many = [&GET[..], &[("a", "1"); 5]].concat();
        let long = "x".repeat(200);
        let large = [&GET[..], &[("a", long.as_str())]].concat();

        assert_eq!(request(section(&many), &limits).unwrap_err(), MessageError::TooLarge);
        assert_eq!(request(section(&large), &limits).unwrap_err(), MessageError::TooLarge);
    }
}
