//! URI templates (RFC 6570) as selectors.

use super::SelectorError;
use crate::topic::Topic;

/// A URI template.
#[derive(Clone, Debug)]
pub struct UriTemplate(Topic);

impl UriTemplate {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self(Topic::parse(text)?))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a topic is among those.
    pub fn matches(&self, topic: &str) -> bool {
        self.0.as_str() == topic
    }
}
