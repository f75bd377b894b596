//! [`Multipart`]: the parts of a form out of pieces that end anywhere (RFC 7578, RFC 2046 §5.1).
//!
//! No part is held: content is given as it comes, but for what may be the beginning of a delimiter.

use memchr::memmem::Finder;
use percent_encoding::percent_decode_str;

/// RFC 2046 §5.1.1.
const MAX_BOUNDARY: usize = 70;
/// Of one part.
const MAX_HEADERS: usize = 8 << 10;

/// What comes next in a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins. A file has a name, if only an empty one.
    Part { file_name: Option<String> },
    /// Content of the part.
    Data(Vec<u8>),
    /// The part is complete.
    PartEnd,
    /// The form is complete; what follows is not looked at.
    End,
}

/// The form is not one; the reason is for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    AfterDelimiter,
    Headers,
    Content,
    Ended,
}

/// Takes pieces of a body, gives what is in it.
pub(crate) struct Multipart {
    buffer: Vec<u8>,
    delimiter: Finder<'static>,
    state: State,
}

impl Multipart {
    pub(crate) fn new(boundary: &str) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first delimiter needs no line before it.
        Self { buffer: b"\r\n".to_vec(), delimiter, state: State::Preamble }
    }

    /// Adds what has arrived.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next event; `None` where more of the body is needed.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            match self.state {
                State::Preamble => {
                    let Some(at) = self.delimiter.find(&self.buffer) else {
                        let keep = self.delimiter.needle().len() - 1;
                        self.buffer.drain(..self.buffer.len().saturating_sub(keep));
                        return Ok(None);
                    };
                    self.buffer.drain(..at + self.delimiter.needle().len());
                    self.state = State::AfterDelimiter;
                }
                State::AfterDelimiter => match self.buffer.first_chunk() {
                    None => return Ok(None),
                    Some(b"--") => {
                        self.buffer = Vec::new();
                        self.state = State::Ended;
                        return Ok(Some(Event::End));
                    }
                    // It stays: before the empty line of a part without header fields.
                    Some(b"\r\n") => self.state = State::Headers,
                    // RFC 2046 §5.1.1: transport padding.
                    Some(&[b' ' | b'\t', _]) => drop(self.buffer.drain(..1)),
                    Some(_) => return Err(Malformed("a delimiter is not alone in its line")),
                },
                State::Headers => {
                    let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
                        if self.buffer.len() > MAX_HEADERS {
                            return Err(Malformed("a part has too many header fields"));
                        }
                        return Ok(None);
                    };
                    let file_name = file_name(&String::from_utf8_lossy(&self.buffer[..end]));
                    self.buffer.drain(..end + 4);
                    self.state = State::Content;
                    return Ok(Some(Event::Part { file_name }));
                }
                State::Content => return Ok(self.content()),
                State::Ended => return Ok(None),
            }
        }
    }

    /// Content up to the delimiter, as far as it is here.
    fn content(&mut self) -> Option<Event> {
        match self.delimiter.find(&self.buffer) {
            Some(0) => {
                self.buffer.drain(..self.delimiter.needle().len());
                self.state = State::AfterDelimiter;
                Some(Event::PartEnd)
            }
            Some(at) => Some(Event::Data(self.buffer.drain(..at).collect())),
            None => {
                let keep = self.delimiter.needle().len() - 1;
                let ready = self.buffer.len().saturating_sub(keep);
                (ready > 0).then(|| Event::Data(self.buffer.drain(..ready).collect()))
            }
        }
    }
}

/// The boundary, if the content type is that of a form.
pub(crate) fn boundary(content_type: &str) -> Result<Option<String>, Malformed> {
    let (media, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !media.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    match parameter(parameters, "boundary") {
        Some(boundary) if (1..=MAX_BOUNDARY).contains(&boundary.len()) => Ok(Some(boundary)),
        _ => Err(Malformed("the form has no boundary")),
    }
}

/// The file name among a part's header fields. RFC 7578 §4.2 forbids `filename*`, which some send.
fn file_name(headers: &str) -> Option<String> {
    let disposition = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (_, parameters) = disposition.split_once(';')?;
    if let Some(extended) = parameter(parameters, "filename*")
        && let Some((charset, rest)) = extended.split_once('\'')
        && let Some((_, name)) = rest.split_once('\'')
        && charset.eq_ignore_ascii_case("utf-8")
    {
        return Some(percent_decode_str(name).decode_utf8_lossy().into_owned());
    }
    // What browsers write for characters that would end the value (HTML, multipart/form-data).
    let name = parameter(parameters, "filename")?;
    Some(name.replace("%22", "\"").replace("%0D", "").replace("%0A", ""))
}

/// The value of a parameter, its quotes and escapes taken off.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// A quoted string's content and what follows. A backslash stands for itself unless it escapes: old
/// browsers send whole Windows paths.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' if matches!(characters.peek(), Some((_, '"' | '\\'))) => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
            }
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = Vec<(Option<String>, Vec<u8>)>;

    /// Name and content of each part, out of pieces of `size` bytes.
    fn parts(body: &[u8], size: usize) -> Result<Parts, Malformed> {
        let mut form = Multipart::new("b0");
        let mut parts = Parts::new();
        let (mut open, mut ended) = (false, false);
        for piece in body.chunks(size) {
            form.push(piece);
            while let Some(event) = form.next()? {
                match event {
                    Event::Part { file_name } => {
                        assert!(!open);
                        open = true;
                        parts.push((file_name, Vec::new()));
                    }
                    Event::Data(data) => parts.last_mut().unwrap().1.extend(data),
                    Event::PartEnd => open = false,
                    Event::End => ended = true,
                }
            }
        }
        assert!(ended && !open, "the form does not end");
        Ok(parts)
    }

    #[test]
    fn parts_are_the_same_wherever_pieces_end() {
        let body = b"preamble\r\n--b0\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nvalue\r\n\
            --b0  \r\ncontent-disposition: form-data; name=f; filename=\"a \\\"b\\\".bin\"\r\n\
            Content-Type: text/plain\r\n\r\n\r\n--b\r\n--b1\r\n\0\r\n--b0\r\n\r\n\r\n--b0--\r\nepilogue";
        let expected = vec![
            (None, b"value".to_vec()),
            (Some("a \"b\".bin".to_owned()), b"\r\n--b\r\n--b1\r\n\0".to_vec()),
            (None, Vec::new()),
        ];

        for size in 1..=body.len() {
            assert_eq!(parts(body, size), Ok(expected.clone()), "{size}");
        }
    }

    #[test]
    fn part_without_content_is_empty() {
        let body = b"--b0\r\ncontent-disposition: form-data; filename=\"\"\r\n\r\n\r\n--b0--";

        assert_eq!(parts(body, 5), Ok(vec![(Some(String::new()), Vec::new())]));
    }

    #[test]
    fn malformed_forms_are_told() {
        let long = format!("--b0\r\nx: {}", "y".repeat(9000));

        assert!(parts(b"--b0x\r\n\r\n\r\n--b0--", 100).is_err());
        assert!(parts(long.as_bytes(), 100).is_err());
    }

    #[test]
    fn file_names_are_decoded() {
        for (parameters, expected) in [
            ("form-data; name=f; filename=plain.txt", Some("plain.txt")),
            ("form-data; filename=\"ü;.txt\"; name=f", Some("ü;.txt")),
            ("form-data; filename=\"C:\\dir\\x\"", Some("C:\\dir\\x")),
            ("form-data; filename=\"%22q%22\"", Some("\"q\"")),
            ("form-data; filename=\"x\"; filename*=UTF-8''%c3%bc%20.txt", Some("ü .txt")),
            ("form-data; name=\"filename\"", None),
            ("form-data", None),
        ] {
            let headers = format!("\r\nContent-Type: a/b\r\nContent-Disposition: {parameters}");

            assert_eq!(file_name(&headers).as_deref(), expected, "{parameters}");
        }
    }

    #[test]
    fn boundaries_are_those_of_forms() {
        assert_eq!(boundary("application/octet-stream"), Ok(None));
        assert_eq!(boundary("Multipart/Form-Data; Boundary=\"a b\""), Ok(Some("a b".into())));
        assert_eq!(boundary("multipart/form-data; charset=x; boundary=ab"), Ok(Some("ab".into())));
        assert!(boundary("multipart/form-data").is_err());
        assert!(boundary("multipart/form-data; boundary=").is_err());
        assert!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
    }
}
