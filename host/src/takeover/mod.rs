//! Restart without a gap: a new process takes over the listening sockets of the old one.
//!
//! The old process ([`predecessor`]) listens on a Unix socket in the data folder. The new one
//! ([`successor`]) gets the very same sockets from it, TCP and UDP, so that what waits in the kernel
//! is lost by neither; it builds everything and says so; the old one stops accepting, the new one
//! begins, and the old one drains. Until the last message the old process can go on as if nothing
//! had happened, and does when the new one dies, refuses or is late.
//!
//! ```text
//! new                          old
//! Hello {protocol}          →
//!                           ←  Offer {listeners, generation, secret, links} + descriptors
//! … builds, compiles …
//! Ready {what it keeps}     →
//!                           ←  Released          accepts nothing, reads no UDP socket
//! … serves …
//! Serving                   →
//!                           ←  Done              its connections drain
//! ```
//! Invariants: at no time do both read a UDP socket; a TCP connection that the kernel has taken is
//! accepted by one of them. [`activation`] has the sockets that systemd passes, [`service`] tells
//! systemd how it goes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod activation;
pub mod predecessor;
pub mod service;
pub mod sockets;
pub mod spawn;
pub mod successor;
mod wire;

/// The socket's name in the data folder.
const SOCKET: &str = "takeover.sock";
/// The longest path of a Unix socket (`sun_path`, with its final zero).
const MAX_SOCKET_PATH: usize = 108;
/// How long one of the two waits for an answer that the other gives at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the old process waits until the new one has compiled everything. It serves meanwhile; a
/// process that hangs only keeps others from taking over.
pub const READY_LIMIT: Duration = Duration::from_secs(300);
/// Processes that may still drain when one more takes over: each costs a descriptor a core.
pub const MAX_DRAINING: usize = 32;

/// Why nothing is taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeoverError {
    /// The old process does not want to.
    #[error("the running process refuses the takeover: {0}")]
    Refused(String),
    /// It belongs to somebody else.
    #[error("the process at {} is another user's ({uid})", path.display())]
    OtherUser {
        /// The socket.
        path: PathBuf,
        /// The user.
        uid: u32,
    },
    /// What it says makes no sense.
    #[error("the running process answers what was not asked")]
    OutOfTurn,
    /// It cannot be talked to.
    #[error("the running process cannot be talked to")]
    Io(#[from] io::Error),
}

/// A path for the socket `name` in `folder` that fits a socket address, and what must stay open
/// while it is used.
fn socket_path(folder: &Path, name: &str) -> io::Result<(PathBuf, Option<File>)> {
    use std::os::fd::AsRawFd;

    let path = folder.join(name);
    if path.as_os_str().len() < MAX_SOCKET_PATH {
        return Ok((path, None));
    }
    let folder = File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
    Ok((path, Some(folder)))
}
