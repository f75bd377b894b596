//! [`Socket`]: what a plugin knows of one of its WebSockets, and can do to it.

use super::{Message, Selector, SendError};

/// One of this plugin's WebSockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Socket {
    /// Names it for as long as it lives, in every instance and version of the plugin.
    pub id: String,
    /// The subprotocol that was chosen.
    pub protocol: Option<String>,
    /// What the plugin wrote on it when it accepted it.
    pub attributes: Vec<(String, String)>,
}

impl Socket {
    /// The socket with this id, to be sent to.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), protocol: None, attributes: Vec::new() }
    }

    /// The first attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sends a message to its client: [`send`](super::send).
    ///
    /// # Errors
    /// [`SendError::Gone`] once it has ended; natively always.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        super::send(&self.id, message).await
    }

    /// Sends a message unless too much waits already: [`try_send`](super::try_send).
    ///
    /// # Errors
    /// [`SendError::Full`], then; [`SendError::Gone`] once it has ended, natively always.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        super::try_send(&self.id, message)
    }

    /// Closes it, after what is queued: [`close`](super::close).
    ///
    /// # Errors
    /// [`SendError::Gone`] where it has ended; natively always.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), SendError> {
        super::close(&self.id, code, reason)
    }

    /// Lets it follow further topics: [`join`](super::join).
    ///
    /// # Errors
    /// [`SendError::Refused`] where it is not granted; natively always.
    pub fn join(
        &self,
        topics: impl IntoIterator<Item = impl Into<Selector>>,
    ) -> Result<(), SendError> {
        super::join(&self.id, topics)
    }

    /// Lets it follow these topics no longer: [`leave`](super::leave).
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn leave(
        &self,
        topics: impl IntoIterator<Item = impl Into<Selector>>,
    ) -> Result<(), SendError> {
        super::leave(&self.id, topics)
    }
}
