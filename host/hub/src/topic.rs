//! The names that events are published under.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Bytes of a topic's name, at the most.
pub const MAX_TOPIC_BYTES: usize = 1024;

/// A topic's name: 1 to [`MAX_TOPIC_BYTES`] bytes without control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Why a string is no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no characters.
    #[error("a topic has at least one character")]
    Empty,
    /// It has more than [`MAX_TOPIC_BYTES`].
    #[error("a topic has at most {MAX_TOPIC_BYTES} bytes")]
    TooLong,
    /// It has a control character: those could break a line of an event stream or of a log.
    #[error("a topic has no control characters")]
    Control,
}

impl Topic {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        if name.is_empty() {
            Err(TopicError::Empty)
        } else if name.len() > MAX_TOPIC_BYTES {
            Err(TopicError::TooLong)
        } else if name.contains(char::is_control) {
            Err(TopicError::Control)
        } else {
            Ok(Self(name.into()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_short_and_without_control_characters() {
        for (name, expected) in [
            ("", Err(TopicError::Empty)),
            ("orders/42", Ok(())),
            ("https://example.com/é?x={y}", Ok(())),
            ("a\nb", Err(TopicError::Control)),
            ("a\0b", Err(TopicError::Control)),
            ("a\u{85}b", Err(TopicError::Control)),
            (&"x".repeat(MAX_TOPIC_BYTES), Ok(())),
            (&"x".repeat(MAX_TOPIC_BYTES + 1), Err(TopicError::TooLong)),
        ] {
            assert_eq!(Topic::parse(name).map(|_| ()), expected, "{name:?}");
        }
    }
}
