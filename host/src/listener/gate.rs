//! Whether a listener accepts. A process that is being taken over holds its listeners for a moment,
//! and then either goes on or leaves them to its successor, which has the same sockets.

use std::sync::Arc;

use tokio::sync::watch;

/// Who accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This process.
    Ours,
    /// Nobody for a moment: what comes waits in the kernel.
    Held,
    /// The successor, for good.
    Theirs,
}

/// One listener's gate; all clones are the same.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<Turn>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Turn::Ours)))
    }
}

impl Gate {
    /// Says who accepts from now on.
    pub fn give(&self, turn: Turn) {
        self.0.send_replace(turn);
    }

    /// For one accept loop.
    pub(super) fn watch(&self) -> watch::Receiver<Turn> {
        self.0.subscribe()
    }
}
