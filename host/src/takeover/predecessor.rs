//! The old process's side of a takeover: it offers its sockets on a Unix socket in the data folder,
//! one taker at a time, and gives them away once the taker serves.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::sockopt::socket_peercred;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::service::Service;
use super::sockets::Sockets;
use super::wire::{Channel, Kept, Linked, Listening, Message, Offer, PROTOCOL};
use super::{ANSWER_LIMIT, MAX_DRAINING, READY_LIMIT, SOCKET, TakeoverError, socket_path};
use crate::listener::gate::{Gate, Turn};
use crate::listener::quic::{Quic, Secret, link};
use crate::listener::tcp::Bound;
use crate::ready::ReadyFile;

/// The gates of all listeners.
#[derive(Debug, Default)]
pub struct Gates {
    /// The cleartext listener's.
    pub http: Gate,
    /// The TLS listener's.
    pub https: Gate,
    /// The admin listener's.
    pub admin: Gate,
}

impl Gates {
    fn give(&self, kept: Kept, turn: Turn) {
        let gates = [(&self.http, kept.http), (&self.https, kept.https), (&self.admin, kept.admin)];
        for (gate, _) in gates.into_iter().filter(|(_, kept)| *kept) {
            gate.give(turn);
        }
    }
}

/// What a process has to give away.
#[derive(Debug)]
pub struct Estate {
    /// Taken when it is given away, so that nothing is left open here.
    pub sockets: Mutex<Sockets>,
    /// Serves the UDP sockets.
    pub quic: Option<Arc<Quic>>,
    /// Of this process.
    pub generation: u8,
    /// Common to all generations.
    pub secret: Secret,
    /// Stop the accept loops.
    pub gates: Arc<Gates>,
    /// Removed when the successor is about to write its own.
    pub ready_file: Option<ReadyFile>,
    /// Told of the successor.
    pub service: Service,
}

/// The socket that takers come to. Removed when dropped, if it still is this process's.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor puts its own in its place.
    identity: (u64, u64),
}

impl Door {
    /// Opens it in the data folder, in place of what a former process has left.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AddrInUse`] where another process serves from here.
    pub fn open(data: &Path, succeeds: bool) -> io::Result<Self> {
        let path = data.join(SOCKET);
        if !succeeds {
            let (reachable, _folder) = socket_path(data, SOCKET)?;
            if UnixStream::connect(reachable).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
        }
        let name = format!("{SOCKET}.{}", std::process::id());
        let temporary = data.join(&name);
        let (reachable, _folder) = socket_path(data, &name)?;
        let _left_by_a_namesake = fs::remove_file(&temporary);
        let listener = UnixListener::bind(reachable)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(&temporary)?;
        fs::rename(&temporary, &path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Offers the estate to whoever comes; `handed_over` is told the process that took it.
    pub async fn serve(self, estate: Arc<Estate>, handed_over: oneshot::Sender<u32>) {
        let listener = self.listener.try_clone().and_then(tokio::net::UnixListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "this process cannot be taken over"),
        };
        let mut under_way: Option<tokio::task::JoinHandle<Option<u32>>> = None;
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted.and_then(|(s, _)| s.into_std()) {
                    Ok(stream) => stream,
                    Err(error) => {
                        warn!(%error, "a takeover cannot begin");
                        tokio::time::sleep(ANSWER_LIMIT).await;
                        continue;
                    }
                },
                Some(ended) = ended(&mut under_way) => {
                    under_way = None;
                    match ended {
                        Some(pid) => {
                            let _draining_already = handed_over.send(pid);
                            break;
                        }
                        None => continue,
                    }
                }
            };
            if under_way.is_some() {
                refuse(stream, "another takeover is under way");
                continue;
            }
            let estate = Arc::clone(&estate);
            under_way = Some(tokio::task::spawn_blocking(move || {
                let pid = taker(&stream)?;
                match talk(stream, &estate) {
                    Ok(()) => Some(pid),
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        warn!(pid, %error, cause, "not taken over; serving on");
                        None
                    }
                }
            }));
        }
        // The path is the successor's soon; until then takers hear that they are too late.
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = stream.into_std() {
                refuse(stream, "it has just been taken over, and drains");
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if is_ours {
            let _already_gone = fs::remove_file(&self.path);
        }
    }
}

/// Waits for the conversation that is under way. Cancel safe: it stays where it is.
async fn ended(
    under_way: &mut Option<tokio::task::JoinHandle<Option<u32>>>,
) -> Option<Option<u32>> {
    Some(under_way.as_mut()?.await.unwrap_or(None))
}

fn refuse(stream: UnixStream, reason: &str) {
    let refusal = Message::Refused { reason: reason.to_owned() };
    // Fits the socket's buffer, so this does not block.
    let _gone = Channel::new(stream).and_then(|channel| channel.send(&refusal));
}

/// The process at the other end, if it may take over: this user's, or root's.
fn taker(stream: &UnixStream) -> Option<u32> {
    let peer = socket_peercred(stream).ok()?;
    if peer.uid != rustix::process::getuid() && !peer.uid.is_root() {
        warn!(uid = peer.uid.as_raw(), "another user's process wants to take over");
        return None;
    }
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

/// Leads the conversation. On success everything has been given away; on an error everything is as
/// before.
fn talk(stream: UnixStream, estate: &Estate) -> Result<(), TakeoverError> {
    let pid = taker(&stream).unwrap_or_default();
    let channel = Channel::new(stream)?;
    let refuse = |reason: String| {
        let _gone = channel.send(&Message::Refused { reason: reason.clone() });
        Err(TakeoverError::Refused(reason))
    };
    match channel.receive(ANSWER_LIMIT)? {
        Message::Hello { protocol: PROTOCOL } => {}
        Message::Hello { protocol } => {
            return refuse(format!("it speaks takeover protocol {PROTOCOL}, not {protocol}"));
        }
        _ => return Err(TakeoverError::OutOfTurn),
    }
    let older = estate.quic.as_ref().map(|quic| quic.links()).transpose()?.unwrap_or_default();
    if older.len() >= MAX_DRAINING {
        return refuse(format!("{MAX_DRAINING} older processes still drain"));
    }
    info!(pid, "a takeover begins");
    let receivers = offer(&channel, estate, older)?;
    let Message::Ready { kept } = channel.receive(READY_LIMIT)? else {
        return Err(TakeoverError::OutOfTurn);
    };

    let quic = estate.quic.as_ref().filter(|_| kept.udp);
    estate.gates.give(kept, Turn::Held);
    if let Some(quic) = quic {
        quic.hold(receivers);
    }
    let confirmed = channel
        .send(&Message::Released)
        .and_then(|()| channel.receive(ANSWER_LIMIT))
        .map_err(TakeoverError::from)
        .and_then(|message| match message {
            Message::Serving => Ok(()),
            _ => Err(TakeoverError::OutOfTurn),
        });
    let given = confirmed.and_then(|()| {
        if let Some(file) = &estate.ready_file {
            file.remove_if_ours();
        }
        estate.service.succeeded_by(pid);
        Ok(channel.send(&Message::Done)?)
    });
    if let Err(error) = given {
        if let Some(quic) = quic {
            quic.resume();
        }
        estate.gates.give(kept, Turn::Ours);
        if let Some(file) = &estate.ready_file {
            file.write_unless_there();
        }
        estate.service.ready();
        let reason = "it did not hear in time that the new process serves".to_owned();
        let _gone = channel.send(&Message::Refused { reason });
        return Err(error);
    }
    estate.gates.give(kept, Turn::Theirs);
    if let Some(quic) = quic {
        quic.hand_over();
    }
    estate.sockets.lock().give_away();
    info!(pid, "taken over");
    Ok(())
}

/// Sends the offer and what belongs to it. Returns the ends of the links that this process reads.
fn offer(
    channel: &Channel,
    estate: &Estate,
    older: Vec<link::Link>,
) -> Result<Vec<UnixDatagram>, TakeoverError> {
    let sockets = estate.sockets.lock();
    let mut links = older;
    let mut receivers = Vec::new();
    if let Some(quic) = &estate.quic {
        let mut cores = Vec::new();
        for _ in 0..quic.cores() {
            let (sender, receiver) = link::pair()?;
            cores.push(sender);
            receivers.push(receiver);
        }
        links.push(link::Link { generation: estate.generation, cores });
    }
    let listening = |bound: &Option<Bound>| {
        bound.as_ref().map(|Bound { address, sockets }| Listening {
            address: *address,
            sockets: sockets.len(),
        })
    };
    let linked =
        |link: &link::Link| Linked { generation: link.generation, cores: link.cores.len() };
    let offer = Offer {
        http: listening(&sockets.http),
        https: listening(&sockets.https),
        admin: listening(&sockets.admin),
        udp: sockets.udp.len(),
        generation: estate.generation,
        secret: estate.secret,
        links: links.iter().map(linked).collect(),
    };
    let tcp = [&sockets.http, &sockets.https, &sockets.admin].into_iter().flatten();
    let mut descriptors: Vec<BorrowedFd<'_>> =
        tcp.flat_map(|bound| bound.sockets.iter().map(AsFd::as_fd)).collect();
    descriptors.extend(sockets.udp.iter().map(AsFd::as_fd));
    descriptors.extend(links.iter().flat_map(|link| link.cores.iter().map(OwnedFd::as_fd)));
    channel.send(&Message::Offer(offer))?;
    channel.send_descriptors(&descriptors)?;
    Ok(receivers)
}
