//! The new process's side of a takeover. Blocking: it has nothing else to do.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use tracing::{info, warn};

use super::sockets::{Inherited, Origin};
use super::wire::{Channel, Kept, Listening, Message, Offer, PROTOCOL};
use super::{ANSWER_LIMIT, SOCKET, TakeoverError, socket_path};
use crate::listener::quic::{Lineage, Link};
use crate::listener::tcp::Bound;

/// A takeover that is under way.
#[derive(Debug)]
pub struct Succession {
    channel: Channel,
}

/// Asks the process that serves from the data folder for its sockets. `None` where there is none.
///
/// # Errors
/// [`TakeoverError`]; that process then goes on serving.
pub fn begin(data: &Path) -> Result<Option<(Succession, Inherited)>, TakeoverError> {
    let (path, _folder) = match socket_path(data, SOCKET) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        // A process that was killed leaves its socket behind.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let peer = socket_peercred(&stream).map_err(io::Error::from)?;
    if peer.uid != rustix::process::getuid() && !peer.uid.is_root() {
        let uid = peer.uid.as_raw();
        return Err(TakeoverError::OtherUser { path: data.join(SOCKET), uid });
    }
    let channel = Channel::new(stream)?;
    channel.send(&Message::Hello { protocol: PROTOCOL })?;
    let offer = match channel.receive(ANSWER_LIMIT)? {
        Message::Offer(offer) => offer,
        Message::Refused { reason } => return Err(TakeoverError::Refused(reason)),
        _ => return Err(TakeoverError::OutOfTurn),
    };
    let descriptors = channel.receive_descriptors(offer.descriptors())?;
    info!(pid = peer.pid.as_raw_nonzero().get(), "taking over");
    Ok(Some((Succession { channel }, inherited(&offer, descriptors)?)))
}

/// Gives each descriptor the place that the offer says.
fn inherited(offer: &Offer, descriptors: Vec<OwnedFd>) -> io::Result<Inherited> {
    let mut descriptors = descriptors.into_iter();
    let mut listener = |listening: Option<Listening>| {
        let Some(Listening { address, sockets }) = listening else { return Ok(None) };
        let sockets = descriptors.by_ref().take(sockets).map(|descriptor| {
            let socket = std::net::TcpListener::from(descriptor);
            socket.set_nonblocking(true).map(|()| socket)
        });
        let sockets = sockets.collect::<io::Result<_>>()?;
        Ok::<_, io::Error>(Some(Bound { address, sockets }))
    };
    let http = listener(offer.http)?;
    let https = listener(offer.https)?;
    let admin = listener(offer.admin)?;
    let udp = descriptors.by_ref().take(offer.udp).map(Into::into).collect();
    let links: Vec<_> = offer
        .links
        .iter()
        .map(|link| Link {
            generation: link.generation,
            cores: descriptors.by_ref().take(link.cores).collect(),
        })
        .collect();
    let lineage = Lineage {
        generation: next_generation(offer.generation, &links),
        secret: offer.secret,
        links,
    };
    Ok(Inherited { origin: Origin::Takeover, http, https, admin, udp, lineage: Some(lineage) })
}

/// The next number that no process has that may still be there.
fn next_generation(before: u8, links: &[Link]) -> u8 {
    let taken = |generation| links.iter().any(|link| link.generation == generation);
    (1..=u8::MAX)
        .map(|step| before.wrapping_add(step))
        .find(|&generation| !taken(generation))
        // The old process refuses long before there are so many.
        .unwrap_or_else(|| before.wrapping_add(1))
}

impl Succession {
    /// Says that everything is built; on return the old process accepts nothing any more.
    ///
    /// # Errors
    /// [`TakeoverError`]: it goes on serving, and this process must not begin.
    pub fn ready(&mut self, kept: Kept) -> Result<(), TakeoverError> {
        let told = self.channel.send(&Message::Ready { kept });
        self.answer(told, |message| matches!(message, Message::Released))
    }

    /// Says that this process serves; on return the old one drains.
    ///
    /// # Errors
    /// [`TakeoverError`]: it goes on serving, and this process must end.
    pub fn serving(&mut self) -> Result<(), TakeoverError> {
        let told = self.channel.send(&Message::Serving);
        self.answer(told, |message| matches!(message, Message::Done))
    }

    fn answer(
        &self,
        told: io::Result<()>,
        is_expected: impl Fn(&Message) -> bool,
    ) -> Result<(), TakeoverError> {
        let answer = match told {
            // Also where it could not be told: it may have said why before it hung up.
            Ok(()) | Err(_) => self.channel.receive(ANSWER_LIMIT),
        };
        match answer {
            Ok(Message::Refused { reason }) => Err(TakeoverError::Refused(reason)),
            Ok(message) if is_expected(&message) => Ok(()),
            Ok(_) => Err(TakeoverError::OutOfTurn),
            // It never hangs up without a word while it lives. Its sockets are here.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                ) =>
            {
                warn!("the process that was to be taken over is gone; serving on its sockets");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_wrap_and_leave_out_those_that_still_drain() {
        let link = |generation| Link { generation, cores: Vec::new() };

        assert_eq!(next_generation(0, &[link(0)]), 1);
        assert_eq!(next_generation(255, &[link(255)]), 0);
        assert_eq!(next_generation(254, &[link(255), link(0), link(254)]), 1);
    }
}
