//! What somebody follows.

use std::sync::Arc;

use crate::event::Event;
use crate::selector::{Pattern, Selector, SelectorError, SelectorKind};

/// Selectors of one subscription, those for private events counted apart.
pub const MAX_SELECTORS: usize = 256;

/// Selectors, and what all their topics begin with. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    within: Arc<str>,
    topics: Arc<[Selector]>,
    private: Arc<[Selector]>,
}

/// Why something cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// A selector is none.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// It follows nothing.
    #[error("a subscription has at least one topic")]
    Nothing,
    /// There are more than [`MAX_SELECTORS`].
    #[error("a subscription has at most {MAX_SELECTORS} topics")]
    TooMany,
}

impl Subscription {
    /// Reads a subscription. Topics and patterns are those of the whole name: `within` stands before
    /// what each says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new<'a>(
        within: &str,
        topics: impl IntoIterator<Item = (SelectorKind, &'a str)>,
        private: impl IntoIterator<Item = (SelectorKind, &'a str)>,
    ) -> Result<Self, SubscriptionError> {
        let topics = selectors(within, &mut topics.into_iter())?;
        if topics.is_empty() {
            return Err(SubscriptionError::Nothing);
        }
        let private = selectors(within, &mut private.into_iter())?;
        Ok(Self { within: within.into(), topics, private })
    }

    /// Follows more, or less: what is left of `topics` after `change`.
    ///
    /// # Errors
    /// There are too many.
    pub fn with_topics(&self, topics: Vec<Selector>) -> Result<Self, SubscriptionError> {
        let mut distinct = Vec::with_capacity(topics.len());
        for topic in topics {
            if !distinct.contains(&topic) {
                distinct.push(topic);
            }
        }
        if distinct.len() > MAX_SELECTORS {
            return Err(SubscriptionError::TooMany);
        }
        Ok(Self { topics: distinct.into(), ..self.clone() })
    }

    /// What every topic begins with.
    pub fn within(&self) -> &str {
        &self.within
    }

    /// The selectors.
    pub fn topics(&self) -> &[Selector] {
        &self.topics
    }

    /// The selectors for private events.
    pub fn private_topics(&self) -> &[Selector] {
        &self.private
    }

    /// A selector as it was written, without what stands before it.
    pub fn written<'a>(&'a self, selector: &'a Selector) -> &'a str {
        match selector.kind() {
            SelectorKind::Exact | SelectorKind::Pattern => {
                selector.as_str().strip_prefix(&*self.within).unwrap_or(selector.as_str())
            }
            SelectorKind::UriTemplate | SelectorKind::UrlPattern => selector.as_str(),
        }
    }

    /// Whether every topic that it can match is one of `grants`.
    pub fn is_within(&self, grants: &[Pattern]) -> bool {
        self.topics.iter().all(|selector| grants.iter().any(|grant| self.covered(selector, grant)))
    }

    /// Whether every topic that it can match begins with `prefix`.
    pub fn is_below(&self, prefix: &str) -> bool {
        self.within.starts_with(prefix)
            || self.topics.iter().all(|selector| match selector.kind() {
                SelectorKind::Exact | SelectorKind::Pattern => {
                    selector.as_str().starts_with(prefix)
                }
                SelectorKind::UriTemplate | SelectorKind::UrlPattern => false,
            })
    }

    /// Whether all that `selector`, one of this subscription, can match is `grant`'s.
    pub(crate) fn covered(&self, selector: &Selector, grant: &Pattern) -> bool {
        match selector {
            Selector::Exact(topic) => grant.matches(topic.as_str()),
            Selector::Pattern(pattern) => grant.covers(pattern),
            Selector::UriTemplate(_) | Selector::UrlPattern(_) => grant.covers_prefix(&self.within),
        }
    }

    /// Whether any that `selector`, one of this subscription, can match is `pattern`'s; true where that
    /// is not certain.
    pub(crate) fn touched(&self, selector: &Selector, pattern: &Pattern) -> bool {
        match selector {
            Selector::Exact(topic) => pattern.matches(topic.as_str()),
            Selector::Pattern(own) => pattern.overlaps(own),
            Selector::UriTemplate(_) | Selector::UrlPattern(_) => {
                pattern.overlaps_prefix(&self.within)
            }
        }
    }

    /// Whether an event of these topics comes to whoever follows this.
    pub fn admits(&self, event: &Event) -> bool {
        let matches = |selectors: &[Selector]| {
            event
                .topics()
                .any(|topic| selectors.iter().any(|one| self.selects(one, topic.as_str())))
        };
        matches(&self.topics) && (!event.is_private() || matches(&self.private))
    }

    /// Whether a private event comes to whoever follows this, its topics being among those that are
    /// followed.
    pub fn may_see(&self, event: &Event) -> bool {
        !event.is_private()
            || event
                .topics()
                .any(|topic| self.private.iter().any(|one| self.selects(one, topic.as_str())))
    }

    /// Whether one of its selectors matches a topic.
    pub(crate) fn selects(&self, selector: &Selector, topic: &str) -> bool {
        selects(&self.within, selector, topic)
    }
}

/// Whether a selector of a subscription within `within` matches a topic.
pub(crate) fn selects(within: &str, selector: &Selector, topic: &str) -> bool {
    match selector {
        Selector::Exact(_) | Selector::Pattern(_) => selector.matches(topic),
        Selector::UriTemplate(_) | Selector::UrlPattern(_) => {
            topic.strip_prefix(within).is_some_and(|rest| selector.matches(rest))
        }
    }
}

/// Reads selectors, each with `within` before it where it says whole topics.
pub fn selectors(
    within: &str,
    written: &mut dyn Iterator<Item = (SelectorKind, &str)>,
) -> Result<Arc<[Selector]>, SubscriptionError> {
    let mut selectors = Vec::new();
    for (kind, text) in written {
        if selectors.len() == MAX_SELECTORS {
            return Err(SubscriptionError::TooMany);
        }
        let selector = match kind {
            SelectorKind::Exact | SelectorKind::Pattern if !within.is_empty() => {
                Selector::parse(kind, &format!("{within}{text}"))?
            }
            _ => Selector::parse(kind, text)?,
        };
        if !selectors.contains(&selector) {
            selectors.push(selector);
        }
    }
    Ok(selectors.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_subscription_is_not_without_end() {
        let names: Vec<String> = (0..10_000).map(|index| format!("t/{index}")).collect();
        let of = |count: usize| {
            let topics = names[..count].iter().map(|name| (SelectorKind::Exact, name.as_str()));
            Subscription::new("", topics, []).map(|subscription| subscription.topics().len())
        };

        assert_eq!(of(0), Err(SubscriptionError::Nothing));
        assert_eq!(of(MAX_SELECTORS), Ok(MAX_SELECTORS));
        assert_eq!(of(10_000), Err(SubscriptionError::TooMany));
    }

    #[test]
    fn a_subscription_is_held_against_every_grant() {
        let template = (SelectorKind::UriTemplate, "/{id}");
        let pattern = |text| (SelectorKind::Pattern, text);
        let exact = |text| (SelectorKind::Exact, text);
        for (within, topics, grants, expected) in [
            ("", vec![exact("a/1")], &["a/*"][..], true),
            ("", vec![exact("a/1"), exact("b")], &["a/*"], false),
            ("", vec![exact("a/1"), exact("b")], &["a/*", "b"], true),
            ("", vec![pattern("*")], &["a/*"], false),
            ("a/", vec![pattern("*")], &["a/*"], true),
            ("a/", vec![exact("../b")], &["a/*"], true),
            ("m/", vec![template], &["m/*"], true),
            ("m", vec![template], &["m/*"], false),
            ("", vec![template], &["m/*"], false),
            ("", vec![template], &["*"], true),
        ] {
            let subscription = Subscription::new(within, topics.clone(), []).unwrap();

            assert_eq!(subscription.is_within(&patterns(grants)), expected, "{within} {topics:?}");
        }
    }
}
