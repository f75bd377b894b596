//! Patterns of segments, as manifests and plugins write them: `orders/*`.

use super::{MAX_SELECTOR_BYTES, SelectorError};
use crate::topic::TopicError;

/// Segments with `/` between them. `*` as a whole segment is any one segment; as the last it is one or
/// more, so `*` alone is every topic. Everything else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    /// It ends in `*`.
    open: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty, too long, has control characters, or a `*` beside something else in a
    /// segment, which would look like a wildcard and be none.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(TopicError::Empty.into());
        }
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(TopicError::Control.into());
        }
        if let Some(segment) = text.split('/').find(|part| part.contains('*') && *part != "*") {
            let cause = format!("`*` stands for a whole segment, not for part of \"{segment}\"");
            return Err(SelectorError::Syntax { kind: "pattern", cause });
        }
        let open = text.rsplit('/').next() == Some("*");
        Ok(Self { text: text.into(), open })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a topic is among those of the pattern.
    pub fn matches(&self, topic: &str) -> bool {
        self.walk(topic, |own, theirs| own == "*" || own == theirs)
    }

    /// Whether every topic of `other` is one of this pattern.
    pub fn covers(&self, other: &Self) -> bool {
        // An open end has one segment or more where a closed one has one.
        if other.open && !self.open {
            return false;
        }
        self.walk(&other.text, |own, theirs| own == "*" || own == theirs)
    }

    /// Whether every topic that begins with `prefix` is one of this pattern.
    pub fn covers_prefix(&self, prefix: &str) -> bool {
        // What follows the prefix may go on in its last segment, or in further ones.
        let whole = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        self.covers(&Self { text: format!("{whole}*").into(), open: true })
    }

    /// Whether any topic of `other` is one of this pattern.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut own, mut theirs) =
            (self.text.split('/').peekable(), other.text.split('/').peekable());
        loop {
            let (own_segment, their_segment) = match (own.next(), theirs.next()) {
                (Some(own), Some(theirs)) => (own, theirs),
                (None, None) => return true,
                _ => return false,
            };
            let is_open =
                self.open && own.peek().is_none() || other.open && theirs.peek().is_none();
            if is_open {
                return true;
            }
            if own_segment != "*" && their_segment != "*" && own_segment != their_segment {
                return false;
            }
        }
    }

    /// Whether any topic that begins with `prefix` is one of this pattern; true where that is not
    /// certain.
    pub fn overlaps_prefix(&self, prefix: &str) -> bool {
        let whole = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        self.overlaps(&Self { text: format!("{whole}*").into(), open: true })
    }

    fn walk(&self, theirs: &str, same: impl Fn(&str, &str) -> bool) -> bool {
        let mut theirs = theirs.split('/');
        let mut own = self.text.split('/').peekable();
        while let Some(segment) = own.next() {
            let Some(their) = theirs.next() else { return false };
            if self.open && own.peek().is_none() {
                return true;
            }
            if !same(segment, their) {
                return false;
            }
        }
        theirs.next().is_none()
    }

    /// Patterns that say more come first: for choosing between several that match.
    pub fn specificity(&self) -> (usize, bool, usize) {
        let literal = self.text.split('/').filter(|segment| *segment != "*").count();
        (literal, !self.open, self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_is_one_segment_and_at_the_end_the_rest() {
        for (text, topic, expected) in [
            ("orders/*", "orders/42", true),
            ("orders/*", "orders/42/lines", true),
            ("orders/*", "orders", false),
            ("orders/*", "orders/", true),
            ("orders/*", "ordersx/1", false),
            ("*", "anything/at/all", true),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", false),
            ("a/*/c", "a/b", false),
            ("a/*/c/*", "a/b/c/d/e", true),
            ("a", "a", true),
            ("a", "a/b", false),
            ("https://*", "https://example.com/x", true),
            ("https://*", "http://example.com/x", false),
        ] {
            assert_eq!(pattern(text).matches(topic), expected, "{text} {topic}");
        }
    }

    #[test]
    fn a_grant_covers_what_is_within_it() {
        for (grant, asked, expected) in [
            ("*", "orders/*", true),
            ("orders/*", "orders/*", true),
            ("orders/*", "orders/42", true),
            ("orders/*", "orders/*/lines", true),
            ("orders/*", "*", false),
            ("orders/*/lines", "orders/*", false),
            ("orders/*/lines", "orders/*/lines", true),
            ("orders/42", "orders/*", false),
            ("*/lines", "orders/lines", true),
        ] {
            assert_eq!(pattern(grant).covers(&pattern(asked)), expected, "{grant} {asked}");
        }
        for (grant, prefix, expected) in [
            ("mercure/*", "mercure/", true),
            ("mercure/*", "mercure", false),
            ("mercure/*", "mercure/a/b", true),
            ("*", "", true),
            ("mercure/*", "", false),
            ("mercure/a", "mercure/a", false),
        ] {
            assert_eq!(pattern(grant).covers_prefix(prefix), expected, "{grant} {prefix}");
        }
    }

    #[test]
    fn stars_within_segments_are_refused() {
        for text in ["", "a*", "a/b*/c", "**", "a\nb"] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
        assert!(Pattern::parse(&"a".repeat(MAX_SELECTOR_BYTES + 1)).is_err());
    }
}
