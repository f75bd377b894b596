//! Socket activation: listening sockets that a service manager has bound (systemd's `LISTEN_FDS`
//! protocol, `sd_listen_fds(3)`), told apart by `LISTEN_FDNAMES`, or else by type, address and order.
//!
//! `listenfd` turns the numbers into sockets, which is what this crate may not do itself (`unsafe`);
//! names and meaning are decided here. What is passed but cannot be served is an error: a manager
//! that holds a port which nobody accepts on would leave its clients waiting.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use super::sockets::{Inherited, Origin};
use crate::config::Config;
use crate::listener::tcp::Bound;

/// The first descriptor that is passed.
const FIRST: usize = 3;
/// Most that are taken.
const MAX: usize = 256;

/// Why the passed sockets cannot be served. Wrong configuration, not wrong luck.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// Not a number, or too large a one.
    #[error("LISTEN_FDS is `{0}`, not a number up to {MAX}")]
    Count(String),
    /// A descriptor is no such socket.
    #[error("descriptor {descriptor} ({name}): {source}")]
    Descriptor {
        /// Which.
        descriptor: usize,
        /// Its name, or what is said for none.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A descriptor cannot be any of ours.
    #[error("descriptor {descriptor} ({name}, {address}): {why}")]
    Unwanted {
        /// Which.
        descriptor: usize,
        /// Its name, or what is said for none.
        name: String,
        /// Where it is bound.
        address: SocketAddr,
        /// Why it is not served.
        why: &'static str,
    },
}

impl ActivationError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "name the sockets http, https, admin and https-udp (FileDescriptorName= in systemd), \
         or leave LISTEN_FDS unset"
    }
}

/// A listener that a socket can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Http,
    Https,
    Admin,
    Udp,
}

impl Role {
    fn of_name(name: &str) -> Option<Self> {
        match name {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "admin" => Some(Self::Admin),
            "https-udp" | "http3" => Some(Self::Udp),
            _ => None,
        }
    }
}

/// A passed socket.
#[derive(Debug)]
enum Passed {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

#[derive(Debug)]
struct Descriptor {
    number: usize,
    name: String,
    address: SocketAddr,
    socket: Passed,
}

/// What the environment passes to this process; nothing where it passes nothing. To be called
/// before other threads run: it takes the variables out of the environment.
///
/// # Errors
/// [`ActivationError`], for exit code 2.
pub fn from_environment(config: &Config) -> Result<Inherited, ActivationError> {
    let Some(count) = env::var_os("LISTEN_FDS").filter(|count| !count.is_empty()) else {
        return Ok(Inherited::default());
    };
    let count = count.to_string_lossy().into_owned();
    if !count.parse::<usize>().is_ok_and(|count| count <= MAX) {
        return Err(ActivationError::Count(count));
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut descriptors = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        descriptors.push(descriptor(&mut passed, index, name)?);
    }
    assign(config, descriptors)
}

fn descriptor(
    passed: &mut ListenFd,
    index: usize,
    name: String,
) -> Result<Descriptor, ActivationError> {
    let number = FIRST + index;
    // A datagram socket is not a TCP listener, and stays in place for the second try.
    let socket = match passed.take_udp_socket(index) {
        Ok(Some(socket)) => Ok(Passed::Udp(socket)),
        Ok(None) => Err(io::ErrorKind::NotFound.into()),
        Err(_) => passed.take_tcp_listener(index).and_then(|socket| {
            socket.map(Passed::Tcp).ok_or_else(|| io::ErrorKind::NotFound.into())
        }),
    };
    let checked = socket.and_then(|socket| {
        let address = match &socket {
            Passed::Tcp(socket) => {
                if socket_type(socket)? != SocketType::STREAM || !socket_acceptconn(socket)? {
                    return Err(io::Error::other("it is not a listening TCP socket"));
                }
                socket.set_nonblocking(true)?;
                socket.local_addr()?
            }
            Passed::Udp(socket) => {
                socket.set_nonblocking(true)?;
                socket.local_addr()?
            }
        };
        Ok((address, socket))
    });
    match checked {
        Ok((address, socket)) => Ok(Descriptor { number, name, address, socket }),
        Err(source) => {
            Err(ActivationError::Descriptor { descriptor: number, name: shown(&name), source })
        }
    }
}

fn shown(name: &str) -> String {
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

/// Gives every socket its listener: by name, else by address, else the first that has none.
fn assign(config: &Config, descriptors: Vec<Descriptor>) -> Result<Inherited, ActivationError> {
    let mut inherited = Inherited { origin: Origin::Activation, ..Inherited::default() };
    // Those whose place is certain first.
    let (certain, rest): (Vec<_>, Vec<_>) =
        descriptors.into_iter().partition(|passed| certain_role(config, passed).is_some());
    let mut udp = Vec::new();
    for passed in certain.into_iter().chain(rest) {
        if let Passed::Udp(_) = passed.socket {
            udp.push((passed.number, passed.name.clone(), passed.address));
        }
        let role = certain_role(config, &passed)
            .or_else(|| first_without_socket(config, &inherited, &passed));
        place(config, &mut inherited, role, passed)?;
    }
    // Clients look for HTTP/3 on the port where they found HTTPS.
    let https = inherited.https.as_ref().map(|bound| bound.address).or(config.https);
    for (descriptor, name, address) in udp {
        if https.is_none_or(|https| https.port() != address.port()) {
            let why = "HTTPS is not on the same port";
            return Err(ActivationError::Unwanted { descriptor, name: shown(&name), address, why });
        }
    }
    if inherited.http.is_none()
        && inherited.https.is_none()
        && inherited.admin.is_none()
        && inherited.udp.is_empty()
    {
        inherited.origin = Origin::Nowhere;
    }
    Ok(inherited)
}

fn certain_role(config: &Config, passed: &Descriptor) -> Option<Role> {
    let is_at = |wanted: Option<SocketAddr>| {
        wanted.is_some_and(|wanted| wanted.port() == passed.address.port())
    };
    Role::of_name(&passed.name).or(match passed.socket {
        Passed::Udp(_) => Some(Role::Udp),
        Passed::Tcp(_) if is_at(config.http) => Some(Role::Http),
        Passed::Tcp(_) if is_at(config.https) => Some(Role::Https),
        Passed::Tcp(_) if is_at(config.admin.listen) => Some(Role::Admin),
        Passed::Tcp(_) => None,
    })
}

fn first_without_socket(
    config: &Config,
    inherited: &Inherited,
    passed: &Descriptor,
) -> Option<Role> {
    // Two sockets of one address, for two cores, are one listener's.
    let takes =
        |bound: &Option<Bound>| bound.as_ref().is_none_or(|bound| bound.address == passed.address);
    let roles = [
        (Role::Http, config.http, &inherited.http),
        (Role::Https, config.https, &inherited.https),
        (Role::Admin, config.admin.listen, &inherited.admin),
    ];
    roles
        .into_iter()
        .find_map(|(role, wanted, bound)| (wanted.is_some() && takes(bound)).then_some(role))
}

fn place(
    config: &Config,
    inherited: &mut Inherited,
    role: Option<Role>,
    passed: Descriptor,
) -> Result<(), ActivationError> {
    let Descriptor { number, name, address, socket } = passed;
    let unwanted = |why| {
        Err(ActivationError::Unwanted { descriptor: number, name: shown(&name), address, why })
    };
    let (slot, wanted) = match role {
        Some(Role::Http) => (&mut inherited.http, config.http),
        Some(Role::Https) => (&mut inherited.https, config.https),
        Some(Role::Admin) => (&mut inherited.admin, config.admin.listen),
        Some(Role::Udp) => {
            let Passed::Udp(socket) = socket else {
                return unwanted("it is named for UDP, and is a TCP socket");
            };
            if config.https.is_none() || !config.http3 {
                return unwanted("HTTP/3 is off");
            }
            inherited.udp.push(socket);
            return Ok(());
        }
        None => return unwanted("no listener is left for it"),
    };
    if wanted.is_none() {
        return unwanted("its listener is off");
    }
    let Passed::Tcp(socket) = socket else {
        return unwanted("it is named for TCP, and is a UDP socket");
    };
    match slot {
        None => *slot = Some(Bound { address, sockets: vec![socket] }),
        Some(bound) if bound.address == address => bound.sockets.push(socket),
        Some(_) => return unwanted("its listener has another address already"),
    }
    Ok(())
}
