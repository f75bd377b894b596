//! Connection slots: how many connections may be open, in all and from one address. Shared by every
//! core and listener, TCP and QUIC; a [`Slot`] lives as long as its connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::http::conn::RefusedConnection;
use crate::http::limits::Limits;

/// Locks that the addresses are spread over, so that cores seldom meet at one.
const SHARDS: usize = 32;

/// The slots of the whole server.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    most_per_address: usize,
    taken: AtomicUsize,
    by_address: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

impl Slots {
    /// As many slots as `limits` allow.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            most: limits.connections,
            most_per_address: limits.connections_per_address,
            taken: AtomicUsize::new(0),
            by_address: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// Takes a slot for a connection from `peer`.
    ///
    /// # Errors
    /// [`RefusedConnection::Connections`] or [`RefusedConnection::Address`] when there is none left.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, RefusedConnection> {
        let address = counted_as(peer);
        let room = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_full| RefusedConnection::Connections)?;
        let mut shard = self.shard(address).lock();
        let from_address = shard.entry(address).or_insert(0);
        if *from_address >= self.most_per_address {
            // The entry is another connection's, unless none at all is allowed.
            if *from_address == 0 {
                shard.remove(&address);
            }
            drop(shard);
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(RefusedConnection::Address);
        }
        *from_address += 1;
        drop(shard);
        Ok(Slot { slots: Arc::clone(self), address })
    }

    /// Slots in use.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        // The low bits of an IPv4 address and of an IPv6 network tell neighbours apart.
        let low = match address {
            IpAddr::V4(v4) => v4.to_bits() as usize,
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as usize,
        };
        &self.by_address[low % SHARDS]
    }
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut shard = self.slots.shard(self.address).lock();
        if let Some(count) = shard.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.address);
            }
        }
        drop(shard);
        self.slots.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One host can use every address of its /64 (RFC 4291 §2.5.1): that network counts as one.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(connections: usize, connections_per_address: usize) -> Arc<Slots> {
        Slots::new(&Limits { connections, connections_per_address, ..Limits::default() })
    }

    #[test]
    fn a_slot_is_free_again_when_its_connection_ends() {
        let slots = slots(1, 1);
        let peer = IpAddr::from([192, 0, 2, 1]);

        let first = slots.take(peer);
        let second = slots.take(peer);
        drop(first);
        let third = slots.take(peer);

        assert_eq!(second.err(), Some(RefusedConnection::Connections));
        assert!(third.is_ok());
        assert_eq!(slots.taken(), 1);
    }

    #[test]
    fn one_address_cannot_take_every_slot() {
        let slots = slots(3, 2);
        let greedy = IpAddr::from([192, 0, 2, 1]);

        let held: Vec<_> = (0..5).map(|_| slots.take(greedy)).collect();
        let other = slots.take(IpAddr::from([192, 0, 2, 2]));

        assert_eq!(held.iter().flatten().count(), 2);
        assert_eq!(held[2].as_ref().err(), Some(&RefusedConnection::Address));
        assert!(other.is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let slots = slots(9, 1);

        let first = slots.take("2001:db8::1".parse().unwrap());
        let neighbour = slots.take("2001:db8::ffff:2".parse().unwrap());
        let elsewhere = slots.take("2001:db8:0:1::1".parse().unwrap());

        assert!(first.is_ok());
        assert!(neighbour.is_err());
        assert!(elsewhere.is_ok());
    }

    #[test]
    fn a_mapped_ipv4_address_is_that_address() {
        let slots = slots(9, 1);

        let v4 = slots.take("192.0.2.7".parse().unwrap());
        let mapped = slots.take("::ffff:192.0.2.7".parse().unwrap());

        assert!(v4.is_ok());
        assert!(mapped.is_err());
    }

    #[test]
    fn nothing_is_remembered_of_addresses_without_connections() {
        let slots = slots(9, 9);

        drop((0..100).map(|n| slots.take(IpAddr::from([10, 0, 0, n]))).collect::<Vec<_>>());

        assert!(slots.by_address.iter().all(|shard| shard.lock().is_empty()));
        assert_eq!(slots.taken(), 0);
    }
}
