//! What a subscriber follows and what a token grants: topics by name, by URL pattern, or by the URI
//! templates of Mercure 0.x.

use wharf_hub::{SelectorKind, selector};
use wharf_sdk::hub;

use crate::text::is_protocol_string;

/// The matcher that stands for every topic, whatever its type.
pub(crate) const EVERYTHING: &str = "*";

/// How a matcher is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchType {
    /// 1.0, `match`: the very topic.
    Exact,
    /// 1.0, `match_urlpattern`.
    UrlPattern,
    /// 0.x, `topic`: the very topic, or a URI template.
    Topic,
}

impl MatchType {
    /// By the name that 1.0 gives it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "exact" => Some(Self::Exact),
            "urlpattern" => Some(Self::UrlPattern),
            _ => None,
        }
    }

    /// The name that 1.0 gives it.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Exact => Some("exact"),
            Self::UrlPattern => Some("urlpattern"),
            Self::Topic => None,
        }
    }
}

/// A matcher that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    pub(crate) kind: MatchType,
    pub(crate) text: String,
    selector: wharf_hub::Selector,
}

impl Matcher {
    /// Reads a matcher; `base` is the hub's URL, which relative URL patterns belong to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(kind: MatchType, text: String, base: &str) -> Result<Self, String> {
        if text.is_empty() || !is_protocol_string(&text) {
            return Err(
                "a matcher has neither control nor format characters, and is not empty".into()
            );
        }
        let selector = match (kind, text.as_str()) {
            (_, EVERYTHING) => wharf_hub::Selector::parse(SelectorKind::Pattern, EVERYTHING),
            (MatchType::Exact, _) => wharf_hub::Selector::parse(SelectorKind::Exact, &text),
            (MatchType::Topic, _) if !text.contains('{') => {
                wharf_hub::Selector::parse(SelectorKind::Exact, &text)
            }
            (MatchType::Topic, _) => wharf_hub::Selector::parse(SelectorKind::UriTemplate, &text),
            (MatchType::UrlPattern, _) if text.contains(' ') => {
                return Err("a space in a URL pattern is written %20".into());
            }
            (MatchType::UrlPattern, _) => {
                wharf_hub::Selector::parse(SelectorKind::UrlPattern, &format!("{text} {base}"))
            }
        };
        let selector = selector.map_err(|error| match error {
            selector::SelectorError::Syntax { .. } => {
                "a matcher does not follow its syntax".to_owned()
            }
            error => error.to_string(),
        })?;
        Ok(Self { kind, text, selector })
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.selector.matches(topic)
    }

    /// For the host, who asks it of every event.
    pub(crate) fn selector(&self) -> hub::Selector {
        let text = self.selector.as_str().to_owned();
        match self.selector.kind() {
            SelectorKind::Exact => hub::Selector::Exact(text),
            SelectorKind::Pattern => hub::Selector::Pattern(text),
            SelectorKind::UriTemplate => hub::Selector::UriTemplate(text),
            SelectorKind::UrlPattern => hub::Selector::UrlPattern(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUB: &str = "https://hub.example.com/.well-known/mercure";

    fn matches(kind: MatchType, text: &str, topic: &str) -> bool {
        Matcher::new(kind, text.to_owned(), HUB).unwrap().matches(topic)
    }

    #[test]
    fn a_star_is_everything_whatever_the_type() {
        for kind in [MatchType::Exact, MatchType::UrlPattern, MatchType::Topic] {
            for topic in ["a", "https://example.com/a/b", "/.well-known/mercure/subscriptions"] {
                assert!(matches(kind, "*", topic), "{kind:?} {topic}");
            }
        }
    }

    #[test]
    fn each_type_has_its_own_syntax() {
        use MatchType::{Exact, Topic, UrlPattern};
        for (kind, text, topic, expected) in [
            (Exact, "https://example.com/{id}", "https://example.com/1", false),
            (Exact, "https://example.com/{id}", "https://example.com/{id}", true),
            (Exact, "a/*", "a/b", false),
            (Topic, "https://example.com/{id}", "https://example.com/1", true),
            (Topic, "https://example.com/{id}", "https://example.com/{id}", true),
            (Topic, "https://example.com/:id", "https://example.com/1", false),
            (Topic, "a/*", "a/b", false),
            (UrlPattern, "https://example.com/:id", "https://example.com/1", true),
            (UrlPattern, "/books/:id", "/books/1", true),
            (UrlPattern, "/books/:id", "https://hub.example.com/books/1", true),
            (UrlPattern, "/books/:id", "https://example.com/books/1", false),
        ] {
            assert_eq!(matches(kind, text, topic), expected, "{kind:?} {text} {topic}");
        }
    }

    #[test]
    fn what_cannot_be_a_matcher_is_refused_without_internals() {
        for (kind, text) in [
            (MatchType::Exact, ""),
            (MatchType::Exact, "a\nb"),
            (MatchType::Exact, "a\u{202e}b"),
            (MatchType::UrlPattern, "/(unclosed"),
            (MatchType::UrlPattern, "/a b"),
            (MatchType::UrlPattern, "/((?=a))"),
        ] {
            let told = Matcher::new(kind, text.to_owned(), HUB).unwrap_err();

            assert!(!told.contains("regex") && !told.contains("token"), "{told}");
        }
        assert!(Matcher::new(MatchType::Topic, "{+a}".repeat(17), HUB).is_err());
        assert!(Matcher::new(MatchType::Exact, "a".repeat(1025), HUB).is_err());
    }
}
