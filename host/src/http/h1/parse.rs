//! The request head: finding its end in one pass, however it is cut, then parsing it once.
//!
//! `httparse` is strict in most; what it lets through (a bare line feed as line end, non-ASCII and
//! fragments in the target) is refused here, the rest by [`super::super::validate`].

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use httparse::ParserConfig;

use crate::http::limits::Limits;
use crate::http::rejection::Rejection;
use crate::http::validate::is_target_byte;

/// Room for fields on the stack; more only where the configured limit is higher.
const FIELDS_ON_STACK: usize = 128;
/// What a request line holds besides its target: a method, two spaces, the version.
const REQUEST_LINE_REST: usize = 64;

/// Finds the end of a head. Looks at each byte once.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    scanned: usize,
    line_start: usize,
}

impl HeadScanner {
    /// Takes the next head from the front of `buffer`, or says that it is not all there.
    ///
    /// # Errors
    /// As soon as the bytes cannot become an acceptable head.
    pub(super) fn take(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<Bytes>, Rejection> {
        if self.scanned == 0 {
            // RFC 9112 §2.2: empty lines before the request line are ignored.
            while buffer.starts_with(b"\r\n") {
                buffer.advance(2);
            }
            match buffer.first() {
                None | Some(b'\r') if buffer.len() < 2 => return Ok(None),
                Some(byte) if byte.is_ascii_alphabetic() => {}
                // RFC 9110 §5.6.2; methods with other token characters do not exist.
                _ => return Err(Rejection::bad("this is not HTTP")),
            }
        }
        let end = self.find_end(buffer)?;
        let length = end.unwrap_or(buffer.len());
        if self.line_start == 0 && length > limits.url_bytes + REQUEST_LINE_REST {
            return Err(Rejection::UriTooLong { limit: limits.url_bytes });
        }
        if length > limits.header_bytes {
            return Err(fields_too_large(limits));
        }
        Ok(end.map(|end| {
            *self = Self::default();
            take_front(buffer, end)
        }))
    }

    fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Rejection> {
        while let Some(offset) = buffer[self.scanned..].iter().position(|&byte| byte == b'\n') {
            let line_feed = self.scanned + offset;
            // RFC 9112 §2.2 allows a bare line feed; a reader that takes it for a part of the line
            // sees another message.
            if line_feed == 0 || buffer[line_feed - 1] != b'\r' {
                return Err(Rejection::bad("a line feed without carriage return"));
            }
            self.scanned = line_feed + 1;
            if line_feed - 1 == self.line_start {
                return Ok(Some(self.scanned));
            }
            self.line_start = self.scanned;
        }
        self.scanned = buffer.len();
        Ok(None)
    }
}

/// The first `length` bytes. What is left of the buffer holds no memory if it is empty.
pub(super) fn take_front(buffer: &mut BytesMut, length: usize) -> Bytes {
    if length == buffer.len() {
        std::mem::take(buffer).freeze()
    } else {
        buffer.split_to(length).freeze()
    }
}

/// Parses a whole head, its empty line included. Names and values share its memory.
///
/// # Errors
/// The rejection to answer with.
pub(super) fn request_head(head: &Bytes, limits: &Limits) -> Result<Request<()>, Rejection> {
    let mut on_stack = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut on_heap = Vec::new();
    let fields = if limits.headers <= FIELDS_ON_STACK {
        &mut on_stack[..limits.headers]
    } else {
        on_heap.resize_with(limits.headers, MaybeUninit::uninit);
        &mut on_heap[..]
    };
    let mut parsed = httparse::Request::new(&mut []);
    let status = ParserConfig::default()
        .parse_request_with_uninit_headers(&mut parsed, head, fields)
        .map_err(|error| refused(error, head, limits))?;
    let (httparse::Status::Complete(_), Some(method), Some(target), Some(minor)) =
        (status, parsed.method, parsed.path, parsed.version)
    else {
        return Err(Rejection::bad("an incomplete head"));
    };
    if target.len() > limits.url_bytes {
        return Err(Rejection::UriTooLong { limit: limits.url_bytes });
    }
    if !target.bytes().all(is_target_byte) {
        return Err(Rejection::bad("a forbidden character in the request target"));
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes())
        .map_err(|_| Rejection::bad("the method is not a token"))?;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| Rejection::bad("the request target is not a URI"))?;
    *request.version_mut() = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = field_map(parsed.headers, head)
        .ok_or(Rejection::bad("a field name or value with forbidden characters"))?;
    Ok(request)
}

/// Parses a trailer section, its empty line included. `None` if it is not one, or has more fields
/// than `limits` allows.
pub(super) fn trailer_section(section: &Bytes, limits: &Limits) -> Option<HeaderMap> {
    let mut fields = vec![httparse::EMPTY_HEADER; limits.headers];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => field_map(fields, section),
        _ => None,
    }
}

fn field_map(fields: &[httparse::Header<'_>], section: &Bytes) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value)).ok()?;
        map.try_append(name, value).ok()?;
    }
    Some(map)
}

fn fields_too_large(limits: &Limits) -> Rejection {
    Rejection::FieldsTooLarge { limit: limits.header_bytes, count: limits.headers }
}

fn refused(error: httparse::Error, head: &[u8], limits: &Limits) -> Rejection {
    match error {
        httparse::Error::TooManyHeaders => fields_too_large(limits),
        httparse::Error::Version => {
            let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
            let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
            match version {
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit()
                        && minor.is_ascii_digit()
                        && !matches!((major, minor), (b'1', b'0' | b'1')) =>
                {
                    Rejection::VersionNotSupported
                }
                _ => Rejection::bad("no HTTP version in the request line"),
            }
        }
        httparse::Error::HeaderName => Rejection::bad("a malformed field name"),
        httparse::Error::HeaderValue => Rejection::bad("a malformed field value"),
        httparse::Error::NewLine => Rejection::bad("a malformed line end"),
        httparse::Error::Token | httparse::Error::Status => {
            Rejection::bad("a malformed request line")
        }
    }
}
