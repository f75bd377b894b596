//! What several endpoints take, and say of it in the same words.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use wharf_sdk::Error;

/// Bytes of a JSON body, at the most.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// Bytes of a message.
const MAX_MESSAGE: usize = 16 << 10;
/// Bytes of a name: encoded, it is a part of a topic of at most 1,024.
const MAX_NAME: usize = 128;

/// A user's id: text, or a number as some databases have it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum UserId {
    Text(String),
    Number(u64),
}

impl UserId {
    /// The id as text.
    ///
    /// # Errors
    ///
    /// 422 where it cannot be one.
    pub(crate) fn checked(self) -> Result<String, Error> {
        match self {
            Self::Text(text) => name("user_id", text),
            Self::Number(number) => Ok(number.to_string()),
        }
    }
}

/// A name that a client gave in JSON.
///
/// # Errors
///
/// 422 where it is empty, long, or has control characters.
pub(crate) fn name(what: &str, text: String) -> Result<String, Error> {
    if text.trim().is_empty() || text.len() > MAX_NAME || text.contains(char::is_control) {
        let rule = format!("{what} has 1 to {MAX_NAME} bytes and no control characters");
        return Err(Error::unprocessable(rule));
    }
    Ok(text)
}

/// A message that a client gave in JSON.
///
/// # Errors
///
/// 422 where it is empty or long.
pub(crate) fn message(text: String) -> Result<String, Error> {
    if text.trim().is_empty() || text.len() > MAX_MESSAGE {
        return Err(Error::unprocessable(format!("message has 1 to {MAX_MESSAGE} bytes")));
    }
    Ok(text)
}

/// A name as one segment of a topic or a path, whatever characters it has.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, UNRESERVED).to_string()
}

/// All but what stands for itself in a URI (RFC 3986 §2.3).
const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_texts_and_numbers() {
        let read = |json| serde_json::from_str::<UserId>(json).ok()?.checked().ok();

        assert_eq!(read("\"ada\"").as_deref(), Some("ada"));
        assert_eq!(read("42").as_deref(), Some("42"));
        for wrong in ["\"\"", "\" \"", "\"a\\nb\"", "-1", "1.5", "null", "[]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("ada-1_2.3~"), "ada-1_2.3~");
        assert_eq!(segment("a/b *"), "a%2Fb%20%2A");
    }
}
