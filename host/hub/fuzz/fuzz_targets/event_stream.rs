//! An id, a name and data, split at zero bytes that are not theirs: what is an event comes back through
//! WHATWG's parser as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_hub::{Content, Payload, frame};

#[path = "../../tests/decoder/mod.rs"]
mod decoder;

fuzz_target!(|input: (Option<String>, Option<String>, String, Option<u32>, String)| {
    let (id, name, data, retry, comment) = input;
    let content = Content {
        id: id.clone().map(Into::into),
        name: name.clone().map(Into::into),
        data: Payload::text(data.clone()),
        retry,
        fields: Box::default(),
    };
    let mut stream = frame::comment(&comment).to_vec();
    if content.check().is_err() {
        assert!(decoder::decode(&stream).messages.is_empty());
        return;
    }
    stream.extend_from_slice(&frame::event(&content, id.as_deref()));

    let decoded = decoder::decode(&stream);

    let message = decoder::Message {
        kind: name.unwrap_or_else(|| "message".to_owned()),
        data: decoder::with_plain_ends(&data),
        last_event_id: id.unwrap_or_default(),
    };
    assert_eq!(decoded.messages, [message]);
    assert_eq!(decoded.retry, retry.map(u64::from));
});
