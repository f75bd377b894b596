//! What somebody follows ([`Subscription`]) and from where on ([`Start`]).

use super::event::MAX_TOPIC;

/// Selectors of a subscription, at the most; as many again for private events.
const MAX_SELECTORS: usize = 256;

/// Which topics. A string is that very topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// This one, whatever characters it has.
    Exact(String),
    /// Those that match segment by segment: `*` is any one segment, as the last one it is one or more.
    /// `orders/*` matches `orders/42` and `orders/42/lines`; `*` alone matches every topic.
    Pattern(String),
    /// Those that the URI template (RFC 6570) can expand to, and the very string.
    UriTemplate(String),
    /// Those that the URL pattern (WHATWG) matches.
    UrlPattern(String),
}

impl Selector {
    /// The topic, pattern or template.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text)
            | Self::Pattern(text)
            | Self::UriTemplate(text)
            | Self::UrlPattern(text) => text,
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let text = self.as_str();
        if text.is_empty() {
            Err("a selector has at least one character".to_owned())
        } else if text.len() > MAX_TOPIC {
            Err(format!("a selector has at most {MAX_TOPIC} bytes, not {}", text.len()))
        } else if text.contains(char::is_control) {
            Err("a selector has no control characters".to_owned())
        } else {
            Ok(())
        }
    }
}

impl From<&str> for Selector {
    fn from(topic: &str) -> Self {
        Self::Exact(topic.to_owned())
    }
}

impl From<String> for Selector {
    fn from(topic: String) -> Self {
        Self::Exact(topic)
    }
}

/// What somebody follows: at most 256 selectors.
///
/// ```
/// use wharf_sdk::hub::Subscription;
///
/// let room = "lobby";
/// let subscription = Subscription::new().topic(format!("chat/{room}")).topics("notices/*");
/// # let _ = subscription;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub(crate) topics: Vec<Selector>,
    pub(crate) private: Vec<Selector>,
    pub(crate) within: Option<String>,
    fault: Option<String>,
}

impl Subscription {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// This very topic. A segment `*` is refused rather than taken as a pattern, so that what a client
    /// names never becomes one: patterns are [`topics`](Self::topics), and a topic that has such a
    /// segment is a [`Selector::Exact`].
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        let topic = topic.into();
        if topic.split('/').any(|segment| segment == "*") {
            let fault = "a topic with a segment `*` is followed by `topics`, as a pattern";
            self.fault.get_or_insert_with(|| fault.to_owned());
        }
        self.select(Selector::Exact(topic))
    }

    /// All topics of this pattern, as [`Selector::Pattern`] says: `orders/*`. Of what a client names
    /// make no pattern.
    #[must_use]
    pub fn topics(self, pattern: impl Into<String>) -> Self {
        self.select(Selector::Pattern(pattern.into()))
    }

    /// What this selects.
    #[must_use]
    pub fn select(mut self, selector: impl Into<Selector>) -> Self {
        self.topics.push(selector.into());
        self
    }

    /// Of private events those that this selects come as well, where a topic of this subscription
    /// matches them, too.
    #[must_use]
    pub fn private(mut self, selector: impl Into<Selector>) -> Self {
        self.private.push(selector.into());
        self
    }

    /// What all topics here begin with; the selectors then say what follows it.
    #[must_use]
    pub fn within(mut self, prefix: impl Into<String>) -> Self {
        self.within = Some(prefix.into());
        self
    }

    /// What it selects.
    pub fn selectors(&self) -> &[Selector] {
        &self.topics
    }

    /// What about it cannot be so.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for selectors in [&self.topics, &self.private] {
            if selectors.len() > MAX_SELECTORS {
                return Err(format!("a subscription has at most {MAX_SELECTORS} selectors"));
            }
            selectors.iter().try_for_each(Selector::check)?;
        }
        Ok(())
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn from_host(
        topics: Vec<Selector>,
        private: Vec<Selector>,
        within: Option<String>,
    ) -> Self {
        Self { topics, private, within, fault: None }
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Now,
    /// After the event with this id; an empty string is `Now`.
    After(String),
    /// With the oldest event that is kept.
    Earliest,
    /// After the event that the request names in `Last-Event-ID`, as a header or else in the query;
    /// else `Now`.
    Request,
}

/// Whether a subscription begins where it was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resumption {
    /// It was to begin now.
    Fresh,
    /// Nothing was missed.
    Complete,
    /// Something may have been missed: the history does not reach back so far, or the id is not known.
    Lost,
}

/// The methods of a builder that follows topics: it has a field `subscription`.
macro_rules! follows {
    () => {
        /// This very topic, as [`Subscription::topic`](crate::hub::Subscription::topic) says.
        pub fn topic(mut self, topic: impl Into<String>) -> Self {
            self.subscription = self.subscription.topic(topic);
            self
        }

        /// All topics of this pattern: `orders/*`.
        pub fn topics(mut self, pattern: impl Into<String>) -> Self {
            self.subscription = self.subscription.topics(pattern);
            self
        }

        /// What this says, in place of all topics so far.
        pub fn subscription(mut self, subscription: crate::hub::Subscription) -> Self {
            self.subscription = subscription;
            self
        }
    };
}

/// The methods of a builder that begins somewhere: it has a field `start`.
macro_rules! starts {
    () => {
        /// Begins after the event with this id; an empty string is now.
        pub fn after(mut self, id: impl Into<String>) -> Self {
            self.start = crate::hub::Start::After(id.into());
            self
        }

        /// Begins with the oldest event that is kept.
        pub fn earliest(mut self) -> Self {
            self.start = crate::hub::Start::Earliest;
            self
        }

        /// Begins here.
        pub fn start(mut self, start: crate::hub::Start) -> Self {
            self.start = start;
            self
        }
    };
}

pub(crate) use {follows, starts};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_names_becomes_no_pattern() {
        for topic in ["*", "chat/*", "chat/*/x"] {
            let told = Subscription::new().topic(topic).check().unwrap_err();

            assert!(told.contains("`topics`"), "{told}");
        }
        assert_eq!(Subscription::new().topic("chat/a*").check(), Ok(()));
        assert_eq!(Subscription::new().select("chat/*").topics("chat/*").check(), Ok(()));
    }

    #[test]
    fn selectors_are_few_and_short() {
        let many = (0..257).fold(Subscription::new(), |all, i| all.topic(i.to_string()));

        assert!(many.check().is_err());
        assert!(Subscription::new().topic("").check().is_err());
        assert!(Subscription::new().topic("a\nb").check().is_err());
        assert!(Subscription::new().topics("x".repeat(1025)).check().is_err());
        assert!(Subscription::new().private("a\0").check().is_err());
    }
}
