//! The response: how its body is framed (RFC 9112 §6), and its head on the wire.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, DATE, HeaderName, SEC_WEBSOCKET_VERSION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, response};
use http_body::{Frame, SizeHint};

use super::output::Output;
use super::timer::write_date;
use crate::http::file_body::Slice;
use crate::http::validate;

/// What of the request decides about the response's form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// HTTP/1.0 or HTTP/1.1.
    pub(super) version: Version,
    /// The method is HEAD.
    pub(super) head: bool,
    /// The client takes trailers.
    pub(super) takes_trailers: bool,
    /// The connection may go on afterwards.
    pub(super) persist: bool,
}

impl Asked {
    /// For the answer to something that could not be understood.
    pub(super) fn unknown(method: &Method) -> Self {
        Self {
            version: Version::HTTP_11,
            head: *method == Method::HEAD,
            takes_trailers: false,
            persist: false,
        }
    }
}

/// What `Keep-Alive` tells of a connection that goes on (RFC 2068 §19.7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// How long it waits for the next request.
    pub(super) timeout: Duration,
    /// Requests that it still serves, the one that is being answered included.
    pub(super) left: Option<u64>,
}

impl Kept {
    fn write(&self, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(b"keep-alive: timeout=");
        out.extend_from_slice(number.format(self.timeout.as_secs()).as_bytes());
        if let Some(left) = self.left {
            out.extend_from_slice(b", max=");
            out.extend_from_slice(number.format(left).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body follows this head.
    None,
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks, and trailers if the client takes them.
    Chunked { trailers: bool },
    /// Until the connection closes: HTTP/1.0 only.
    Close,
    /// The last byte is queued.
    Over,
}

/// The body was longer or shorter than its head had said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongLength;

/// Whether a response may have neither body nor `Content-Length` of its own making.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Writes the head of an interim response (RFC 9110 §15.2), for example of 103 (RFC 8297 §2).
pub(super) fn write_interim(out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a `101 Switching Protocols` (RFC 9110 §15.2.2). It has no date: nothing of HTTP
/// that could be cached comes with it.
pub(super) fn write_switch_head(
    out: &mut Vec<u8>,
    parts: &response::Parts,
    protocol: &HeaderValue,
) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    write_field(out, &CONNECTION, &HeaderValue::from_static("upgrade"));
    write_field(out, &UPGRADE, protocol);
    for (name, value) in &parts.headers {
        if !is_ours(name) {
            write_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Decides the framing and writes the head. `asked.persist` becomes what holds after it.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    parts: &response::Parts,
    size: &SizeHint,
    asked: &mut Asked,
    kept: Option<&Kept>,
    alt_svc: Option<&HeaderValue>,
) -> Framing {
    let headers = &parts.headers;
    let status = parts.status;
    let declared = declared_length(headers);
    let trailers = asked.version == Version::HTTP_11
        && asked.takes_trailers
        && headers.contains_key(TRAILER)
        && !asked.head;
    let framing = if is_bodiless(status) {
        Framing::None
    } else {
        match declared.or_else(|| size.exact()) {
            Some(length) if !trailers => Framing::Length(length),
            _ if asked.version == Version::HTTP_11 => {
                Framing::Chunked { trailers: asked.takes_trailers }
            }
            _ => Framing::Close,
        }
    };
    let says_close = headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|&b| b == b',')
            .any(|m| m.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    asked.persist &= !says_close && (framing != Framing::Close || asked.head);

    out.reserve(256);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut dated = false;
    let mut advertised = false;
    for (name, value) in headers {
        if is_ours(name) || *name == TRAILER && framing != (Framing::Chunked { trailers: true }) {
            continue;
        }
        dated |= *name == DATE;
        advertised |= *name == ALT_SVC;
        write_field(out, name, value);
    }
    match framing {
        // What the body would have been: for HEAD and 304 only what is known (RFC 9110 §8.6).
        Framing::Length(0) if asked.head && declared.is_none() => {}
        Framing::Length(length) => write_length(out, length),
        Framing::None if status == StatusCode::NOT_MODIFIED => {
            if let Some(length) = declared {
                write_length(out, length);
            }
        }
        Framing::Chunked { .. } if !asked.head => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        _ => {}
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        write_required_upgrade(out, headers);
    }
    if !asked.persist {
        out.extend_from_slice(b"connection: close\r\n");
    } else {
        if asked.version == Version::HTTP_10 || kept.is_some() {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if let Some(kept) = kept {
            kept.write(out);
        }
    }
    if let Some(value) = alt_svc.filter(|_| !advertised) {
        write_field(out, &ALT_SVC, value);
    }
    if !dated {
        out.extend_from_slice(b"date: ");
        write_date(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if asked.head { Framing::None } else { framing }
}

impl Framing {
    /// Queues one frame of the body.
    ///
    /// # Errors
    /// [`WrongLength`] before a byte too much is queued.
    pub(super) fn frame(
        &mut self,
        output: &mut Output,
        frame: Frame<Bytes>,
    ) -> Result<(), WrongLength> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => match self {
                Self::Length(left) => {
                    *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                    output.push(data);
                }
                Self::Chunked { .. } => output.push_chunk(data),
                Self::Close => output.push(data),
                Self::None | Self::Over => {}
            },
            Err(frame) => {
                if let (Self::Chunked { trailers: true }, Ok(trailers)) =
                    (&self, frame.into_trailers())
                {
                    let trailers = validate::trailers(trailers).unwrap_or_default();
                    let out = output.head();
                    out.extend_from_slice(b"0\r\n");
                    for (name, value) in &trailers {
                        write_field(out, name, value);
                    }
                    out.extend_from_slice(b"\r\n");
                    *self = Self::Over;
                }
            }
        }
        Ok(())
    }

    /// Whether bytes go out as they are.
    pub(super) fn takes_slices(&self) -> bool {
        matches!(self, Self::Length(_))
    }

    /// Queues bytes of a file.
    ///
    /// # Errors
    /// As `frame`.
    pub(super) fn slice(&mut self, output: &mut Output, slice: Slice) -> Result<(), WrongLength> {
        let Self::Length(left) = self else { return Err(WrongLength) };
        let bytes = slice.range.end - slice.range.start;
        *left = left.checked_sub(bytes).ok_or(WrongLength)?;
        output.push_slice(slice);
        Ok(())
    }

    /// Queues the end of the body.
    ///
    /// # Errors
    /// [`WrongLength`] if bytes are missing: they are never made up.
    pub(super) fn end(&mut self, output: &mut Output) -> Result<(), WrongLength> {
        match self {
            Self::Length(left) if *left > 0 => return Err(WrongLength),
            Self::Chunked { .. } => output.push_last_chunk(),
            _ => {}
        }
        *self = Self::Over;
        Ok(())
    }
}

/// Fields that only the connection writes; whatever the response says of them is void.
fn is_ours(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH
        || *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == TE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let length = validate::parse_content_length(values.next()?)?;
    values.next().is_none().then_some(length)
}

/// RFC 9110 §15.5.22: a 426 names what would do, and §7.8 wants the option beside it. Where a version of
/// the WebSocket protocol is named (RFC 6455 §4.4), that would: the engines of JavaScript guests let
/// nobody set `Upgrade`.
fn write_required_upgrade(out: &mut Vec<u8>, headers: &HeaderMap) {
    let websocket = HeaderValue::from_static("websocket");
    let implied = headers.contains_key(SEC_WEBSOCKET_VERSION).then_some(&websocket);
    if let Some(protocols) = headers.get(UPGRADE).or(implied) {
        write_field(out, &UPGRADE, protocols);
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}
