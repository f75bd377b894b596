//! A stored document: JSON with a kind, an id, and when it was last changed.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value};
use wharf_sdk::{Error, Request};

/// Bytes of a document that a client sends.
const MAX_BODY: usize = 64 << 10;
/// Letters of an id.
const MAX_ID: usize = 64;

/// What a kind's documents have in common.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) content: Map<String, Value>,
    /// Milliseconds since 1970.
    pub(crate) updated: i64,
}

impl Document {
    /// When it was last changed.
    pub(crate) fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.updated.unsigned_abs())
    }

    /// Its content with its id and when it was last changed.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = Map::new();
        let id = match self.id.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(self.id.as_str()),
        };
        value.insert("id".to_owned(), id);
        value.extend(self.content.clone());
        value.insert("updated_at".to_owned(), Value::from(time(self.updated)));
        Value::Object(value)
    }
}

/// Milliseconds since 1970 in RFC 3339.
pub(crate) fn time(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map(|time| time.to_string()).unwrap_or_default()
}

/// Now, in milliseconds since 1970.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// The id in the path. What could not be one names nothing.
///
/// # Errors
/// 404.
pub(crate) fn id<'a>(request: &'a Request, parameter: &str) -> Result<&'a str, Error> {
    let id = request.param(parameter)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(fits) {
        return Err(Error::not_found());
    }
    Ok(id)
}

/// The JSON object that the client sends.
///
/// # Errors
/// 400 for what is no JSON, 413, 422 for what is no object.
pub(crate) async fn sent(request: &mut Request) -> Result<Map<String, Value>, Error> {
    request.json(MAX_BODY).await
}

/// A text that the client must send.
///
/// # Errors
/// 422 where it is not there, empty, or too long.
pub(crate) fn text(sent: &Map<String, Value>, name: &str, most: usize) -> Result<String, Error> {
    let text = sent.get(name).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.chars().count() > most {
        let rule = format!("`{name}` is a text of 1 to {most} characters");
        return Err(Error::unprocessable(rule).member("field", name));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_tell_their_id_and_time() {
        let content = Map::from_iter([("title".to_owned(), Value::from("x"))]);
        let document = Document { id: "7".to_owned(), content, updated: 1_700_000_000_123 };

        let text = document.to_value().to_string();

        assert_eq!(text, r#"{"id":7,"title":"x","updated_at":"2023-11-14T22:13:20.123Z"}"#);
        assert_eq!(
            document.modified(),
            SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
        );
    }

    #[test]
    fn texts_are_there_and_not_too_long() {
        let sent =
            Map::from_iter([("a".to_owned(), Value::from(" ä ")), ("b".to_owned(), 1.into())]);

        assert_eq!(text(&sent, "a", 1).unwrap(), "ä");
        for name in ["b", "c"] {
            assert_eq!(text(&sent, name, 9).unwrap_err().status(), 422, "{name}");
        }
    }
}
