//! What is said in a room, as it goes over the wire.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::MAX_TEXT;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Message,
    Join,
    Leave,
}

/// One thing that happened in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<i64>,
    pub(crate) from: String,
    pub(crate) message: String,
    /// RFC 3339.
    pub(crate) timestamp: String,
}

impl Said {
    pub(crate) fn now(kind: Kind, from: &str, message: &str) -> Self {
        let timestamp = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { kind, id: None, from: from.to_owned(), message: message.to_owned(), timestamp }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }
}

/// What `POST` takes.
#[derive(Debug, Deserialize)]
pub(crate) struct Posted {
    pub(crate) from: Option<String>,
    pub(crate) message: String,
}

/// What a client of a room sends.
#[derive(Deserialize)]
struct Sent {
    message: String,
}

/// The text of a client's message.
///
/// # Errors
/// What is wrong with it, for the client.
pub(crate) fn read(text: &str) -> Result<String, String> {
    let sent: Sent = serde_json::from_str(text)
        .map_err(|error| format!("a message is {{\"message\": \"…\"}}: {error}"))?;
    checked(&sent.message).map(str::to_owned)
}

/// The text, if it may be said.
///
/// # Errors
/// Why not, for the client.
pub(crate) fn checked(text: &str) -> Result<&str, String> {
    let text = text.trim();
    match text.len() {
        0 => Err("the message is empty".to_owned()),
        1..=MAX_TEXT => Ok(text),
        _ => Err(format!("a message has at most {MAX_TEXT} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_fields_that_are_documented() {
        let mut said = Said::now(Kind::Message, "ada", "hi \"there\"");
        said.id = Some(7);

        let json: serde_json::Value = serde_json::from_str(&said.to_json()).unwrap();

        assert_eq!(json["type"], "message");
        assert_eq!(json["id"], 7);
        assert_eq!(json["from"], "ada");
        assert_eq!(json["message"], "hi \"there\"");
        assert!(json["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn what_is_no_message_is_told_to_its_sender() {
        for text in ["", "[]", "{\"message\":5}", "{\"message\":\" \"}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(checked(&"x".repeat(MAX_TEXT + 1)).is_err());
        assert_eq!(read("{\"message\":\" hi \"}").unwrap(), "hi");
    }
}
