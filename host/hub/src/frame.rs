//! Event streams as bytes (WHATWG HTML §9.2.5, "event stream interpretation").
//!
//! Nothing that is written here can begin a field that it is not: data is split at every line end,
//! and the other fields cannot have one ([`crate::Content::check`]).

use bytes::{BufMut, Bytes, BytesMut};

use crate::event::{Content, Payload};

/// An event; `id` is written where one is given.
pub fn event(content: &Content, id: Option<&str>) -> Bytes {
    let data = content.data.bytes();
    let mut out = BytesMut::with_capacity(data.len() + data.len() / 16 + 96);
    if let Some(name) = &content.name {
        field(&mut out, b"event: ", name.as_bytes());
    }
    if let Some(id) = id {
        field(&mut out, b"id: ", id.as_bytes());
    }
    if let Some(milliseconds) = content.retry {
        field(&mut out, b"retry: ", milliseconds.to_string().as_bytes());
    }
    match &content.data {
        Payload::Text(text) => {
            for line in lines(text) {
                field(&mut out, b"data: ", line);
            }
        }
        Payload::Binary(bytes) => field(&mut out, b"data: ", base64(bytes).as_bytes()),
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// A comment, which keeps a connection alive and no script sees.
pub fn comment(text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(text.len() + 4);
    for line in lines(text.as_bytes()) {
        field(&mut out, b": ", line);
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// How long a client waits before it comes back.
pub fn retry(milliseconds: u32) -> Bytes {
    Bytes::from(format!("retry: {milliseconds}\n\n"))
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 1);
    out.put_slice(name);
    out.put_slice(value);
    out.put_u8(b'\n');
}

/// The lines of a text; there is one at least. CR, LF and CRLF end one, as in the parser.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let after = if text[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        rest = Some(&text[after..]);
        Some(&text[..end])
    })
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let all = all << (8 * (3 - chunk.len()));
        for index in 0..4 {
            if index > chunk.len() {
                out.push('=');
            } else {
                out.push(char::from(DIGITS[(all >> (18 - 6 * index)) as usize & 63]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_can_begin_another_field() {
        for (data, expected) in [
            ("a", "data: a\n\n"),
            ("", "data: \n\n"),
            ("a\nid: 7", "data: a\ndata: id: 7\n\n"),
            ("a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n\n"),
            ("a\n\n\nevent: x", "data: a\ndata: \ndata: \ndata: event: x\n\n"),
        ] {
            let framed = event(&Content::text(data), None);

            assert_eq!(std::str::from_utf8(&framed).unwrap(), expected, "{data:?}");
        }
        assert_eq!(comment("a\ndata: b"), ": a\n: data: b\n\n");
    }

    #[test]
    fn every_field_is_written_once() {
        let content = Content {
            id: Some("own".into()),
            name: Some("order".into()),
            data: Payload::text("{}"),
            retry: Some(1500),
            fields: Box::default(),
        };

        let framed = event(&content, Some("own"));

        assert_eq!(framed, "event: order\nid: own\nretry: 1500\ndata: {}\n\n");
    }

    #[test]
    fn binary_data_is_base64() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A=="),
        ] {
            assert_eq!(base64(bytes), expected, "{bytes:?}");
        }
    }
}
