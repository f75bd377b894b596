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
use self::uri_template::UriTemplate;
use self::url_pattern::UrlPattern;
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
    /// WHATWG URL Pattern.
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
