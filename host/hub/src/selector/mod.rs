//! Selectors: which topics somebody follows or is granted.
//!
//! Untrusted clients write them, so every kind matches in time that grows with the product of the two
//! lengths at the most.

use std::fmt;
use std::sync::Arc;

mod pattern;
mod uri_template;
mod url_pattern;

pub use self::pattern::Pattern;
pub use self::uri_template::UriTemplate;
pub use self::url_pattern::UrlPattern;
use crate::topic::{Topic, TopicError};

/// Bytes of a selector, at the most.
pub const MAX_SELECTOR_BYTES: usize = 1024;

/// How a selector is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectorKind {
    /// The very topic.
    Exact,
    /// Segments with wildcards: [`Pattern`].
    Pattern,
    /// RFC 6570, and the very string.
    UriTemplate,
    /// WHATWG URL Pattern, and after a space a base URL: [`UrlPattern`].
    UrlPattern,
}

/// Why a selector is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// It is no topic's name.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// It is longer than [`MAX_SELECTOR_BYTES`].
    #[error("a selector has at most {MAX_SELECTOR_BYTES} bytes")]
    TooLong,
    /// It does not follow its syntax; how.
    #[error("not a {kind}: {cause}")]
    Syntax {
        /// Which syntax.
        kind: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// Which topics. Cheap to clone.
#[derive(Clone)]
pub enum Selector {
    /// This one.
    Exact(Topic),
    /// Those of a pattern.
    Pattern(Arc<Pattern>),
    /// Those that a URI template can expand to, and the very string.
    UriTemplate(Arc<UriTemplate>),
    /// Those that a URL pattern matches.
    UrlPattern(Arc<UrlPattern>),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(kind: SelectorKind, text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLong);
        }
        Ok(match kind {
            SelectorKind::Exact => Self::Exact(Topic::parse(text)?),
            SelectorKind::Pattern => Self::Pattern(Arc::new(Pattern::parse(text)?)),
            SelectorKind::UriTemplate => Self::UriTemplate(Arc::new(UriTemplate::parse(text)?)),
            SelectorKind::UrlPattern => Self::UrlPattern(Arc::new(UrlPattern::parse(text)?)),
        })
    }

    /// Whether a topic is among them.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Exact(own) => own.as_str() == topic,
            Self::Pattern(pattern) => pattern.matches(topic),
            Self::UriTemplate(template) => template.matches(topic),
            Self::UrlPattern(pattern) => pattern.matches(topic),
        }
    }

    /// How it is written.
    pub fn kind(&self) -> SelectorKind {
        match self {
            Self::Exact(_) => SelectorKind::Exact,
            Self::Pattern(_) => SelectorKind::Pattern,
            Self::UriTemplate(_) => SelectorKind::UriTemplate,
            Self::UrlPattern(_) => SelectorKind::UrlPattern,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(topic) => topic.as_str(),
            Self::Pattern(pattern) => pattern.as_str(),
            Self::UriTemplate(template) => template.as_str(),
            Self::UrlPattern(pattern) => pattern.as_str(),
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind(), self.as_str())
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.as_str() == other.as_str()
    }
}

impl Eq for Selector {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same numbers in every run: xorshift64*.
    pub(super) struct Random(u64);

    impl Random {
        pub(super) fn new(seed: u64) -> Self {
            Self(seed | 1)
        }

        pub(super) fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
            usize::try_from(number).expect("it has 31 bits") % end
        }

        pub(super) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
            of[self.below(of.len())]
        }
    }

    #[test]
    fn selectors_are_short_whatever_their_kind() {
        for kind in [
            SelectorKind::Exact,
            SelectorKind::Pattern,
            SelectorKind::UriTemplate,
            SelectorKind::UrlPattern,
        ] {
            let text = format!("https://example.com/{}", "a".repeat(MAX_SELECTOR_BYTES));
            assert_eq!(Selector::parse(kind, &text), Err(SelectorError::TooLong), "{kind:?}");
            assert!(Selector::parse(kind, &text[..MAX_SELECTOR_BYTES]).is_ok(), "{kind:?}");
            assert!(Selector::parse(kind, "https://example.com/\u{7f}").is_err(), "{kind:?}");
        }
    }
}
