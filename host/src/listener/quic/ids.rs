//! Connection ids: which process and which core a datagram is for.
//!
//! An id names the core that gave it out and the *generation* of its process, because a process
//! that was taken over shares its sockets with its successors ([`super::link`]). A check under a
//! key that all generations share tells our ids from a client's own in first packets, where both
//! occur. An observer learns core and generation and nothing else (RFC 9000 §5.1).

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::{InvalidCid, RandomConnectionIdGenerator};

/// Cores that a connection id's first byte can name, with room for randomness.
pub const MAX_CORES: usize = 128;
/// Bytes of our connection ids: core, generation, two random ones, four of the check.
pub(super) const ID_LEN: usize = 8;
/// Bytes before the check.
const NAMED: usize = 4;

/// What all ids of this process have in common.
pub(super) struct Ids {
    generation: u8,
    cores: u8,
    key: [u8; 32],
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressee {
    /// A client without a connection, or nobody.
    Anyone,
    /// A core of this process.
    Core(usize),
    /// Another process: its generation, and the byte that names the core there.
    Process(u8, u8),
}

impl Ids {
    /// For a process with `cores` cores, at most [`MAX_CORES`].
    pub(super) fn new(generation: u8, cores: usize, key: [u8; 32]) -> Self {
        Self { generation, cores: cores as u8, key }
    }

    /// Number of cores.
    pub(super) fn cores(&self) -> usize {
        usize::from(self.cores)
    }

    /// Reads whom a datagram is for.
    pub(super) fn addressee(&self, datagram: &[u8]) -> Addressee {
        let Some(id) = self.named(datagram) else { return Addressee::Anyone };
        if id[1] == self.generation {
            Addressee::Core(usize::from(id[0] % self.cores))
        } else {
            Addressee::Process(id[1], id[0])
        }
    }

    /// The id in a datagram, where it is one of ours, of whatever generation.
    fn named<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        let first = *datagram.first()?;
        if first & 0x80 == 0 {
            // A short header: our id follows at once, and has our length (RFC 9000 §17.3).
            return datagram.get(1..=ID_LEN);
        }
        // A long header: version, length of the id, id. The version must be one whose types are
        // numbered so.
        if datagram.get(1..5)? != [0, 0, 0, 1] || usize::from(*datagram.get(5)?) != ID_LEN {
            return None;
        }
        let id = datagram.get(6..6 + ID_LEN)?;
        match first & 0x30 {
            // Handshake is sure to carry our id (RFC 9000 §7.2).
            0x20 => Some(id),
            // Initial carries the client's own until our first answer, or our Retry, has arrived.
            0x00 => self.is_ours(id).then_some(id),
            _ => None,
        }
    }

    /// Whether this process or one before it made the id.
    fn is_ours(&self, id: &[u8]) -> bool {
        id.len() == ID_LEN && id[NAMED..] == self.check(&id[..NAMED])
    }

    fn check(&self, named: &[u8]) -> [u8; ID_LEN - NAMED] {
        let hash = blake3::keyed_hash(&self.key, named);
        std::array::from_fn(|i| hash.as_bytes()[i])
    }
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the key.
        let Self { generation, cores, .. } = self;
        f.debug_struct("Ids").field("generation", generation).field("cores", cores).finish()
    }
}

/// Makes one core's ids.
#[derive(Debug)]
pub(super) struct CoreIds {
    core: u8,
    ids: Arc<Ids>,
    random: RandomConnectionIdGenerator,
}

impl CoreIds {
    /// `core` is below `ids.cores()`.
    pub(super) fn new(core: usize, ids: Arc<Ids>) -> Self {
        Self { core: core as u8, ids, random: RandomConnectionIdGenerator::new(NAMED) }
    }
}

impl ConnectionIdGenerator for CoreIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        id[..NAMED].copy_from_slice(&self.random.generate_cid());
        // The multiples that fit a byte whole, so that none is more likely than another.
        let multiples = u8::MAX / self.ids.cores;
        id[0] = id[0] % multiples * self.ids.cores + self.core;
        id[1] = self.ids.generation;
        let check = self.ids.check(&id[..NAMED]);
        id[NAMED..].copy_from_slice(&check);
        ConnectionId::new(&id)
    }

    /// Ids of processes that are gone are valid too: whoever still uses them is told by a stateless
    /// reset (RFC 9000 §10.3), for which all generations have one key.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if self.ids.is_ours(id) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// A short header, a Handshake and an Initial with `id`.
    fn datagrams(id: &[u8]) -> [Vec<u8>; 3] {
        let long = |first| [&[first, 0, 0, 0, 1, ID_LEN as u8][..], id, &[0; 20]].concat();
        [[&[0x40][..], id, &[0; 20]].concat(), long(0xe0), long(0xc0)]
    }

    #[test]
    fn a_connection_id_names_its_core() {
        for cores in [1, 2, 3, 16, MAX_CORES] {
            for core in [0, cores / 2, cores - 1] {
                let ids = Arc::new(Ids::new(3, cores, KEY));
                let mut maker = CoreIds::new(core, Arc::clone(&ids));
                for _ in 0..50 {
                    let id = maker.generate_cid();

                    assert!(maker.validate(&id).is_ok());
                    for datagram in datagrams(&id) {
                        assert_eq!(ids.addressee(&datagram), Addressee::Core(core));
                    }
                }
            }
        }
    }

    #[test]
    fn a_successor_knows_the_ids_of_those_before_it() {
        let mut before = CoreIds::new(2, Arc::new(Ids::new(255, 3, KEY)));
        let after = Arc::new(Ids::new(0, 2, KEY));

        let id = before.generate_cid();

        for datagram in datagrams(&id) {
            let Addressee::Process(255, core) = after.addressee(&datagram) else {
                panic!("{:?}", after.addressee(&datagram));
            };
            assert_eq!(core % 3, 2);
        }
        assert!(CoreIds::new(0, after).validate(&id).is_ok());
    }

    #[test]
    fn first_packets_and_foreign_ids_are_anyones() {
        let ids = Ids::new(0, 2, KEY);
        for datagram in [
            &[][..],
            &[0x40],
            &[0xc0, 0, 0, 0, 1, 8, 1, 0, 3, 4, 5, 6, 7, 8], // Initial, an id of the client's
            &[0xd0, 0, 0, 0, 1, 8, 1, 0, 3, 4, 5, 6, 7, 8], // 0-RTT
            &[0xe0, 0, 0, 0, 1, 4, 1, 0, 3, 4],             // an id that is too short
            &[0xe0, 0x6b, 0x33, 0x43, 0xcf, 8, 1, 0, 3, 4, 5, 6, 7, 8], // version 2 numbers anew
            &[0xe0, 0, 0, 0, 1],
        ] {
            assert_eq!(ids.addressee(datagram), Addressee::Anyone, "{datagram:x?}");
        }
    }
}
