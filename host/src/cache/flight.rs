//! One answer for many: requests that miss the same entry wait for the first one's answer.
//!
//! The first to ask is the [`Leader`]; the others follow what it tells by a [`watch`] channel. A leader
//! that is dropped without a word (its client left) is noticed by that channel, and one of the
//! followers takes its place.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Locks that the flights are spread over.
const SHARDS: usize = 32;

/// What followers are told; `T` is what an answer can be.
type Told<T> = Option<T>;

/// Where those who ask the same hear of it.
type Asking<K, T> = HashMap<K, watch::Receiver<Told<T>>>;

/// The requests that others wait for, by what they ask.
pub struct Flights<K, T> {
    shards: Arc<[Mutex<Asking<K, T>>]>,
    hasher: RandomState,
}

/// What a request is to an answer.
#[derive(Debug)]
pub enum Role<K: Hash + Eq, T> {
    /// It asks the plugin.
    Leader(Leader<K, T>),
    /// It waits for the one that does.
    Follower(Follower<T>),
}

/// Who asks. The others wait for as long as it lives and says nothing.
pub struct Leader<K: Hash + Eq, T> {
    flights: Flights<K, T>,
    key: K,
    tell: watch::Sender<Told<T>>,
}

/// Who waits.
#[derive(Debug)]
pub struct Follower<T>(watch::Receiver<Told<T>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// Joins the flight for `key`, or begins it.
    pub fn join(&self, key: &K) -> Role<K, T> {
        match self.shard(key).lock().entry(key.clone()) {
            Place::Occupied(place) => Role::Follower(Follower(place.get().clone())),
            Place::Vacant(place) => {
                let (tell, told) = watch::channel(None);
                place.insert(told);
                Role::Leader(Leader { flights: self.clone(), key: key.clone(), tell })
            }
        }
    }

    /// Begins the flight for `key`; nothing where it is under way.
    pub fn lead(&self, key: &K) -> Option<Leader<K, T>> {
        match self.join(key) {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) => None,
        }
    }
}

impl<K: Hash + Eq, T> Flights<K, T> {
    /// Flights under way.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: &K) -> &Mutex<HashMap<K, watch::Receiver<Told<T>>>> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }
}

impl<K: Hash + Eq, T> Leader<K, T> {
    /// Tells what the answer is; may be said again when more is known. Who comes from now on joins
    /// for as long as the leader lives.
    pub fn tell(&self, answer: T) {
        self.tell.send_replace(Some(answer));
    }
}

impl<K: Hash + Eq, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        // Before the channel closes: a follower that takes the place must find it free.
        self.flights.shard(&self.key).lock().remove(&self.key);
    }
}

impl<T: Clone> Follower<T> {
    /// What the leader told; `None` if it was dropped without a word.
    pub async fn told(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|told| told.clone())
    }
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), hasher: self.hasher.clone() }
    }
}

impl<K: Hash + Eq, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flights").field(&self.count()).finish()
    }
}

impl<K: Hash + Eq, T> fmt::Debug for Leader<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leader")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower(role: Role<u8, u8>) -> Follower<u8> {
        let Role::Follower(follower) = role else { panic!("it leads") };
        follower
    }

    #[tokio::test]
    async fn all_get_what_the_first_one_tells() {
        let flights = Flights::default();
        let leader = flights.lead(&1).unwrap();
        let early = follower(flights.join(&1));

        leader.tell(7);
        let late = follower(flights.join(&1));

        assert_eq!((early.told().await, late.told().await), (Some(7), Some(7)));
        assert!(flights.lead(&2).is_some(), "another key is another flight");
    }

    #[tokio::test]
    async fn one_takes_the_place_of_a_leader_that_left() {
        let flights = Flights::default();
        let leader = flights.lead(&1).unwrap();
        let followers = [follower(flights.join(&1)), follower(flights.join(&1))];

        drop(leader);
        let mut leaders = Vec::new();
        for follower in followers {
            assert_eq!(follower.told().await, None);
            leaders.extend(flights.lead(&1));
        }

        assert_eq!(leaders.len(), 1);
        drop(leaders);
        assert_eq!(flights.count(), 0);
    }
}
