//! The event stream parser of WHATWG HTML §9.2.6 ("Interpreting an event stream"), step by step as it
//! stands there, and what may not be told apart from what was written. Nothing of it is the hub's.

/// What a script is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `event.type`.
    pub(crate) kind: String,
    /// `event.data`.
    pub(crate) data: String,
    /// `event.lastEventId`.
    pub(crate) last_event_id: String,
}

/// What a stream comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// In their order.
    pub(crate) messages: Vec<Message>,
    /// The reconnection time, where it was set.
    pub(crate) retry: Option<u64>,
    /// Lines that are comments.
    pub(crate) comments: usize,
}

/// Interprets a whole stream.
pub(crate) fn decode(stream: &[u8]) -> Decoded {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut decoded = Decoded::default();
    let (mut data, mut kind) = (String::new(), String::new());
    let (mut id_buffer, mut last_event_id) = (String::new(), String::new());
    for line in lines(text) {
        if line.is_empty() {
            last_event_id.clone_from(&id_buffer);
            if data.is_empty() {
                kind.clear();
                continue;
            }
            if data.ends_with('\n') {
                data.pop();
            }
            decoded.messages.push(Message {
                kind: if kind.is_empty() { "message".to_owned() } else { kind.clone() },
                data: std::mem::take(&mut data),
                last_event_id: last_event_id.clone(),
            });
            kind.clear();
            continue;
        }
        if line.starts_with(':') {
            decoded.comments += 1;
            continue;
        }
        let (field, value) = match line.find(':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, ""),
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut kind),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id_buffer),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                decoded.retry = value.parse().ok();
            }
            _ => {}
        }
    }
    decoded
}

/// Lines that are ended; what is after the last end is not looked at.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut begin, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let end = match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => at + 2,
            b'\r' | b'\n' => at + 1,
            _ => {
                at += 1;
                continue;
            }
        };
        lines.push(&text[begin..at]);
        begin = end;
        at = end;
    }
    lines
}

/// Text as it comes through an event stream, where every end of a line is one.
pub(crate) fn with_plain_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
