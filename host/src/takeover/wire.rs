//! What the two processes of a takeover say to each other: JSON messages with their length before
//! them, and after some of them descriptors (`SCM_RIGHTS`), on a Unix stream socket. Blocking.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::listener::quic::Secret;

/// Both processes must mean the same by a message, by a descriptor's place and by what goes over a
/// link.
pub(super) const PROTOCOL: u32 = 1;
/// Bytes of one message; an offer of the largest machine has a few thousand.
const MAX_MESSAGE: usize = 64 * 1024;
/// Descriptors at once; the system takes 253.
const BATCH: usize = 32;
/// Descriptors of one takeover.
const MAX_DESCRIPTORS: usize = 64 * 1024;

/// Everything that is said. See [`super`] for who says what when.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub(super) enum Message {
    Hello { protocol: u32 },
    Offer(Offer),
    Refused { reason: String },
    Ready { kept: Kept },
    Released,
    Serving,
    Done,
}

/// What is to be had. Its descriptors follow in the order of its fields.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Offer {
    pub(super) http: Option<Listening>,
    pub(super) https: Option<Listening>,
    pub(super) admin: Option<Listening>,
    /// UDP sockets on the port of `https`.
    pub(super) udp: usize,
    /// Of the process that offers.
    pub(super) generation: u8,
    /// See [`crate::listener::quic::Secret`].
    pub(super) secret: Secret,
    /// Ways to the processes that may still have connections, the one that offers among them.
    pub(super) links: Vec<Linked>,
}

/// A listener's sockets.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) sockets: usize,
}

/// A process's links.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Linked {
    pub(super) generation: u8,
    pub(super) cores: usize,
}

/// Which listeners the new process has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Kept {
    /// The cleartext listener.
    pub http: bool,
    /// The TLS listener.
    pub https: bool,
    /// The admin listener.
    pub admin: bool,
    /// The UDP sockets.
    pub udp: bool,
}

impl Offer {
    /// Descriptors that follow.
    pub(super) fn descriptors(&self) -> usize {
        let listeners = [self.http, self.https, self.admin].into_iter().flatten();
        let tcp = listeners.map(|listener| listener.sockets);
        let links = self.links.iter().map(|link| link.cores);
        tcp.chain([self.udp]).chain(links).fold(0, usize::saturating_add)
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// # Errors
    /// Where the socket is lost.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(super::ANSWER_LIMIT))?;
        Ok(Self(stream))
    }

    pub(super) fn send(&self, message: &Message) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(text);
        (&self.0).write_all(&bytes)
    }

    /// The next message. An end of the conversation is [`io::ErrorKind::UnexpectedEof`].
    pub(super) fn receive(&self, limit: Duration) -> io::Result<Message> {
        // The limit is for each read; the peer is trusted not to send byte by byte.
        self.0.set_read_timeout(Some(limit))?;
        let mut length = [0; 4];
        (&self.0).read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
        }
        let mut text = vec![0; length];
        (&self.0).read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Sends descriptors, each batch with a byte to carry it.
    pub(super) fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        for batch in descriptors.chunks(BATCH) {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(batch)) {
                return Err(io::Error::other("no room for descriptors"));
            }
            sendmsg(&self.0, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Receives `count` descriptors; a child would not inherit them.
    pub(super) fn receive_descriptors(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        if count > MAX_DESCRIPTORS {
            return Err(invalid("too many descriptors are announced"));
        }
        let mut descriptors = Vec::with_capacity(count);
        while descriptors.len() < count {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut parts = [IoSliceMut::new(&mut byte)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(self.0.as_fd(), &mut parts, &mut control, flags)?;
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let before = descriptors.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(batch) = message {
                    descriptors.extend(batch);
                }
            }
            if descriptors.len() == before || descriptors.len() > count {
                // The system drops what the limit of open files does not allow.
                return Err(invalid(
                    "descriptors are missing (is the limit of open files reached?)",
                ));
            }
        }
        Ok(descriptors)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn channels() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), Channel::new(other).unwrap())
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (one, other) = channels();
        let files: Vec<_> = (0..BATCH + 5).map(|_| File::open("/dev/null").unwrap()).collect();
        let offer = Offer { udp: files.len(), secret: [200; 32], ..Offer::default() };

        one.send(&Message::Offer(offer)).unwrap();
        one.send_descriptors(&files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        one.send(&Message::Done).unwrap();

        let Message::Offer(offer) = other.receive(super::super::ANSWER_LIMIT).unwrap() else {
            panic!("no offer");
        };
        let received = other.receive_descriptors(offer.descriptors()).unwrap();
        let last = other.receive(super::super::ANSWER_LIMIT).unwrap();
        assert_eq!((received.len(), offer.secret), (BATCH + 5, [200; 32]));
        assert!(matches!(last, Message::Done));
    }

    #[test]
    fn an_end_a_delay_and_nonsense_are_errors() {
        let (one, other) = channels();
        let late = other.receive(Duration::from_millis(10)).unwrap_err();
        (&one.0).write_all(&[0, 0, 0, 2, b'n', b'o']).unwrap();
        let nonsense = other.receive(super::super::ANSWER_LIMIT);
        (&one.0).write_all(&u32::MAX.to_be_bytes()).unwrap();
        let long = other.receive(super::super::ANSWER_LIMIT);
        drop(one);
        let end = other.receive(super::super::ANSWER_LIMIT).unwrap_err();

        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        assert!(nonsense.is_err() && long.is_err());
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
