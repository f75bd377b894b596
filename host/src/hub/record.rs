//! Durable events as they are written to the disk.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wharf_hub::{Content, Draft, EventError, Payload, Topic};

/// Why an event on disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// It is not in the form that this version writes.
    #[error("not a record: {0}")]
    Form(#[from] serde_json::Error),
    /// It is none that may be published.
    #[error("not an event: {0}")]
    Event(#[from] EventError),
}

/// The head of a record, as one line of JSON; the data follows it.
#[derive(Deserialize, Serialize)]
struct Head {
    topics: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retry: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    fields: Vec<(String, String)>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    private: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    binary: bool,
}

/// Writes an event.
pub(super) fn write(draft: &Draft) -> Vec<u8> {
    let content = draft.content();
    let head = Head {
        topics: draft.topics().map(ToString::to_string).collect(),
        id: content.id.as_ref().map(ToString::to_string),
        name: content.name.as_ref().map(ToString::to_string),
        retry: content.retry,
        fields: content.fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        private: draft.is_private(),
        binary: matches!(content.data, Payload::Binary(_)),
    };
    let mut written = serde_json::to_vec(&head).expect("strings and numbers are always JSON");
    written.push(b'\n');
    written.extend_from_slice(content.data.bytes());
    written
}

/// Reads an event.
pub(super) fn read(written: &[u8]) -> Result<Draft, RecordError> {
    let end = written.iter().position(|byte| *byte == b'\n').unwrap_or(written.len());
    let head: Head = serde_json::from_slice(&written[..end])?;
    let data = Bytes::copy_from_slice(written.get(end + 1..).unwrap_or_default());
    let mut topics = head.topics.iter().map(|topic| Topic::parse(topic));
    let first = topics.next().unwrap_or_else(|| Topic::parse("")).map_err(EventError::from)?;
    let alternates = topics.collect::<Result<Vec<_>, _>>().map_err(EventError::from)?;
    let fields = head.fields.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
    let content = Content {
        id: head.id.map(Into::into),
        name: head.name.map(Into::into),
        data: if head.binary { Payload::Binary(data) } else { Payload::Text(data) },
        retry: head.retry,
        fields,
    };
    Ok(Draft::new(first, alternates, content)?.private(head.private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was_written() {
        let content = Content {
            id: Some("urn:1".into()),
            name: Some("order".into()),
            data: Payload::Text(Bytes::from_static(b"a\nb\n")),
            retry: Some(5),
            fields: Box::new([("x-version".into(), "7".into())]),
        };
        let topics = [Topic::parse("orders/1").unwrap(), Topic::parse("orders/all").unwrap()];
        let [first, second] = topics.clone();
        let draft = Draft::new(first, vec![second], content.clone()).unwrap().private(true);

        let back = read(&write(&draft)).unwrap();

        assert_eq!(back.topics().cloned().collect::<Vec<_>>(), topics);
        assert_eq!(*back.content(), content);
        assert!(back.is_private());
    }

    #[test]
    fn what_was_damaged_is_an_error() {
        for written in
            [&b""[..], b"{}", b"{\"topics\":[]}\nx", b"{\"topics\":[\"a\\n\"]}\nx", b"\xff\n"]
        {
            assert!(read(written).is_err(), "{written:?}");
        }
    }
}
