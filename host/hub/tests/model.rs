//! Random operations on the hub, its shard and its subscribers, against a model that is slow and
//! literal: it keeps every event there ever was and says which of them each client is still owed.
//!
//! What must hold: nobody gets an event twice or out of order, or one that it is not to see; nobody is
//! without an event that it was owed unless it was told that something may be lost; and nobody is told
//! so without a cause. The seeds are fixed; `WHARF_HUB_SEEDS=N` runs N of them in place of the first few.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use wharf_hub::{
    Content, Draft, Event, EventId, HistoryLimits, Hub, Next, Pattern, Payload, Resumption, Rule,
    Run, Selector, SelectorKind, Shard, Start, Subscriber, SubscriberId, Subscription, Topic,
};

const SEEDS: u64 = 20;
const STEPS: usize = 400;
const TOPICS: [&str; 6] = ["a/1", "a/2", "a/2/x", "b/1", "b/2", "c"];
const PATTERNS: [&str; 6] = ["*", "a/*", "b/*", "a/2/*", "c", "*/2"];
/// So that the bound of all histories is met as well.
const MAX_BYTES: usize = 100_000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

/// What the model knows of an event. Its number is where it stands among all.
#[derive(Clone)]
struct Known {
    id: EventId,
    durable: bool,
    topics: Vec<&'static str>,
    private: bool,
    except: Option<SubscriberId>,
    own: Option<String>,
    published: u64,
    weight: usize,
    /// For bringing it back after a restart.
    draft: Draft,
}

impl Known {
    fn count(&self) -> u64 {
        if self.durable { self.id.durable } else { self.id.volatile }
    }

    fn is_after(&self, cursor: &EventId) -> bool {
        self.count() > if self.durable { cursor.durable } else { cursor.volatile }
    }
}

/// A client: it comes and goes, and knows the id of the last event that it got.
struct Client {
    subscriber: Arc<Subscriber>,
    attached: bool,
    last_id: String,
    known: u64,
    /// What it is owed, and whether that is certain: what it no longer follows it may get or not.
    due: BTreeMap<usize, bool>,
    got: BTreeSet<usize>,
}

struct World {
    dice: Dice,
    now: u64,
    hub: Hub,
    shard: Shard,
    mailbox: VecDeque<Arc<Event>>,
    rules: Vec<Rule>,
    all: Vec<Known>,
    kept: BTreeMap<&'static str, Vec<usize>>,
    /// Of each topic: what went, as the place of each and when.
    gone: Vec<(&'static str, bool, u64, u64)>,
    losses: u64,
    runs: u32,
    numbers: u64,
    disk: BTreeMap<u64, usize>,
    disk_missing: BTreeMap<&'static str, u64>,
    loaded: u64,
    clients: Vec<Client>,
    told: usize,
    lags: usize,
    owed: usize,
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

/// Literally: segment by segment.
fn pattern_matches(pattern: &str, topic: &str) -> bool {
    let (own, theirs): (Vec<_>, Vec<_>) =
        (pattern.split('/').collect(), topic.split('/').collect());
    let open = own.last() == Some(&"*");
    if theirs.len() < own.len() || theirs.len() > own.len() && !open {
        return false;
    }
    own.iter().zip(&theirs).all(|(own, their)| *own == "*" || own == their)
}

fn selects(selector: &Selector, topic: &str) -> bool {
    match selector.kind() {
        SelectorKind::Exact => selector.as_str() == topic,
        _ => pattern_matches(selector.as_str(), topic),
    }
}

fn follows(subscription: &Subscription, event: &Known) -> bool {
    let any = |selectors: &[Selector]| {
        event.topics.iter().any(|topic| selectors.iter().any(|one| selects(one, topic)))
    };
    any(subscription.topics()) && (!event.private || any(subscription.private_topics()))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            now: 1_000_000,
            hub: Hub::new(Run(1)).with_max_bytes(MAX_BYTES),
            shard: Shard::default(),
            mailbox: VecDeque::new(),
            rules: Vec::new(),
            all: Vec::new(),
            kept: BTreeMap::new(),
            gone: Vec::new(),
            losses: 1,
            runs: 1,
            numbers: 0,
            disk: BTreeMap::new(),
            disk_missing: BTreeMap::new(),
            loaded: 0,
            clients: Vec::new(),
            told: 0,
            lags: 0,
            owed: 0,
        };
        world.change_rules();
        world
    }

    fn change_rules(&mut self) {
        self.rules.clear();
        for text in PATTERNS {
            if self.dice.chance(40) {
                let limits = HistoryLimits {
                    events: self.dice.pick(&[0, 3, 20, 70, 200]),
                    bytes: self.dice.pick(&[2000, 20_000, 1 << 20]),
                    age: self.dice.pick(&[2000, 3_600_000]),
                };
                let durable = self.dice.chance(50);
                self.rules.push(Rule { pattern: pattern(text), durable, limits });
            }
        }
        self.hub.set_rules("p", self.rules.clone(), &vec![pattern("*")].into());
        self.expire();
    }

    fn rule(&self, topic: &str) -> Option<Rule> {
        let matching = self.rules.iter().filter(|one| pattern_matches(one.pattern.as_str(), topic));
        matching.max_by_key(|one| one.pattern.specificity()).cloned()
    }

    fn is_durable(&self, topic: &str) -> bool {
        self.rule(topic).is_some_and(|rule| rule.durable)
    }

    /// Takes the oldest of a topic, as the hub is expected to.
    fn drop_oldest(&mut self, topic: &'static str) {
        let index = self.kept.get_mut(topic).unwrap().remove(0);
        self.losses += 1;
        let event = &self.all[index];
        self.gone.push((topic, event.durable, event.count(), self.losses));
    }

    fn trim(&mut self, topic: &'static str) {
        let rule = self.rule(topic);
        let limits = rule.as_ref().map_or_else(HistoryLimits::default, |rule| rule.limits);
        while let Some(oldest) = self.kept.get(topic).and_then(|kept| kept.first()) {
            let kept = &self.kept[topic];
            let bytes: usize = kept.iter().map(|index| self.all[*index].weight).sum();
            let age = self.now.saturating_sub(self.all[*oldest].published);
            if rule.is_none() && self.all[*oldest].durable
                || kept.len() <= limits.events && bytes <= limits.bytes && age <= limits.age
            {
                return;
            }
            self.drop_oldest(topic);
        }
    }

    fn bytes(&self) -> usize {
        self.kept.values().flatten().map(|index| self.all[*index].weight).sum()
    }

    fn bound(&mut self) {
        while self.bytes() > MAX_BYTES {
            let serial = |index: usize| self.all[index].id.serial();
            let heads = self.kept.iter().filter_map(|(topic, kept)| Some((*topic, *kept.first()?)));
            let (topic, _) = heads
                .min_by_key(|(topic, index)| {
                    let place = self.all[*index].topics.iter().position(|one| one == topic);
                    (serial(*index), place)
                })
                .unwrap();
            self.drop_oldest(topic);
        }
    }

    fn expire(&mut self) {
        self.hub.expire(self.now);
        for topic in TOPICS {
            self.trim(topic);
        }
        self.bound();
    }

    fn place(&mut self, index: usize) {
        for topic in self.all[index].topics.clone() {
            self.kept.entry(topic).or_default().push(index);
        }
        for topic in self.all[index].topics.clone() {
            self.trim(topic);
        }
        self.bound();
    }

    fn publish(&mut self) {
        self.now += self.dice.pick(&[0, 1, 30]);
        let mut topics = vec![self.dice.pick(&TOPICS)];
        let mut alternates = Vec::new();
        while self.dice.chance(25) {
            let topic = self.dice.pick(&TOPICS);
            alternates.push(Topic::parse(topic).unwrap());
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        let durable = topics.iter().any(|topic| self.is_durable(topic));
        let index = self.all.len();
        // Some ids are used again and again, by topics that know nothing of each other.
        let own = match self.dice.roll(10) {
            0 => Some(format!("own-{index}")),
            1 => Some(format!("own-{}", self.dice.roll(4))),
            _ => None,
        };
        let length = self.dice.pick(&[0, 0, 0, 500, 30_000]);
        let content = Content {
            id: own.as_deref().map(Into::into),
            data: Payload::text(format!("{index} {}", "x".repeat(length))),
            ..Content::text("")
        };
        let private = self.dice.chance(15);
        let ids: Vec<_> = self.clients.iter().map(|client| client.subscriber.id()).collect();
        let except = (!ids.is_empty() && self.dice.chance(15)).then(|| self.dice.pick(&ids));
        let draft = Draft::new(Topic::parse(topics[0]).unwrap(), alternates, content)
            .unwrap()
            .private(private)
            .except(except);
        assert_eq!(self.hub.is_durable(&draft), durable);
        let event = if durable {
            self.numbers += 1 + self.dice.roll(3) as u64;
            let published = self.now - self.dice.roll(100) as u64;
            let event = self.hub.deliver(self.numbers, draft.clone(), published, self.now).unwrap();
            assert!(self.hub.deliver(self.numbers, draft.clone(), published, self.now).is_none());
            self.disk.insert(self.numbers, index);
            event
        } else {
            self.hub.publish(draft.clone(), self.now)
        };
        self.all.push(Known {
            id: event.id(),
            durable,
            topics,
            private,
            except,
            own,
            published: event.published_at(),
            weight: event.weight(),
            draft,
        });
        self.place(index);
        for client in self.clients.iter_mut().filter(|client| client.attached) {
            let event = &self.all[index];
            if follows(&client.subscriber.subscription(), event)
                && event.except != Some(client.subscriber.id())
            {
                client.due.insert(index, true);
            }
        }
        self.mailbox.push_back(event);
    }

    fn offer(&mut self, most: usize) {
        let mut wake = Vec::new();
        for _ in 0..most {
            let Some(event) = self.mailbox.pop_front() else { return };
            self.shard.offer(&event, &mut wake);
        }
    }

    fn keeps(&self, subscription: &Subscription, index: usize) -> bool {
        self.kept.iter().any(|(topic, kept)| {
            kept.contains(&index)
                && subscription.topics().iter().any(|selector| selects(selector, topic))
        })
    }

    /// Whether something of what is followed went that is after `cursor`, and that after `known`.
    fn misses(&self, subscription: &Subscription, cursor: &EventId, known: u64) -> bool {
        self.gone.iter().any(|(topic, durable, count, at)| {
            let after = *count > if *durable { cursor.durable } else { cursor.volatile };
            let followed = subscription.topics().iter().any(|one| selects(one, topic));
            after && *at > known && followed
        })
    }

    fn some_subscription(&mut self) -> Subscription {
        let mut topics = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            topics.push(if self.dice.chance(50) {
                (SelectorKind::Exact, self.dice.pick(&TOPICS))
            } else {
                (SelectorKind::Pattern, self.dice.pick(&PATTERNS))
            });
        }
        let private =
            self.dice.chance(50).then(|| (SelectorKind::Pattern, self.dice.pick(&PATTERNS)));
        Subscription::new("", topics, private).unwrap()
    }

    fn enter(&mut self) {
        let subscription = self.some_subscription();
        let id = SubscriberId(self.clients.len() as u128);
        let place = self.hub.position();
        self.clients.push(Client {
            subscriber: Subscriber::new(id, subscription, place),
            attached: false,
            last_id: String::new(),
            known: 0,
            due: BTreeMap::new(),
            got: BTreeSet::new(),
        });
        let start = if self.dice.chance(50) { Start::Now } else { Start::Earliest };
        self.attach(self.clients.len() - 1, &start);
    }

    /// What the model says of a place to go on from: the place, and whether nothing is missing.
    fn place_of(&self, subscription: &Subscription, text: &str) -> (EventId, bool) {
        let run = Run(self.runs);
        let all_kept = TOPICS
            .iter()
            .filter(|topic| subscription.topics().iter().any(|selector| selects(selector, topic)));
        let all_durable = || all_kept.clone().all(|topic| self.is_durable(topic));
        let own = (0..self.all.len()).find(|index| {
            let event = &self.all[*index];
            event.own.as_deref() == Some(text)
                && follows(subscription, event)
                && self.kept.values().any(|kept| kept.contains(index))
        });
        if let Some(own) = own {
            let id = self.all[own].id;
            let of_this_run = id.volatile > 0 || id.durable > self.loaded;
            return (id, of_this_run || all_durable());
        }
        let oldest = EventId { run, durable: 0, volatile: 0 };
        let position = self.hub.position();
        match EventId::parse(text) {
            Some(id) if id.run == run => {
                let ok = id.durable <= position.durable && id.volatile <= position.volatile;
                if ok { (id, true) } else { (oldest, false) }
            }
            Some(id) if id.run.0 < self.runs && id.run.0 > 0 && id.durable <= position.durable => {
                (EventId { run, durable: id.durable, volatile: 0 }, all_durable())
            }
            _ => (oldest, false),
        }
    }

    fn attach(&mut self, which: usize, start: &Start) {
        let subscription = self.clients[which].subscriber.subscription();
        let id = self.clients[which].subscriber.id();
        let (cursor, resumption) = self.hub.begin(&subscription, start);
        let oldest = EventId { run: Run(self.runs), durable: 0, volatile: 0 };
        let expected = match start {
            Start::Now => (self.hub.position(), Resumption::Fresh),
            Start::After(text) if text.is_empty() => (self.hub.position(), Resumption::Fresh),
            Start::Earliest => (oldest, Resumption::Complete),
            Start::After(text) => {
                let (place, whole) = self.place_of(&subscription, text);
                let complete = whole && !self.misses(&subscription, &place, 0);
                (place, if complete { Resumption::Complete } else { Resumption::Lost })
            }
        };
        // A wildcard may also match topics that the model does not use: their rule is a wildcard's too.
        if cursor != expected.0 || resumption != expected.1 {
            let whole = resumption == Resumption::Lost && expected.1 == Resumption::Complete;
            let wild = subscription.topics().iter().any(|one| one.kind() == SelectorKind::Pattern);
            assert!(
                cursor == expected.0 && whole && wild,
                "{start:?} of {subscription:?}: {:?}, not {expected:?}",
                (cursor, resumption)
            );
        }
        let subscriber = Subscriber::new(id, subscription.clone(), cursor);
        let known = self.hub.losses();
        let limit = 1 + self.dice.roll(64);
        let replay = self.hub.replay(&subscription, cursor, limit, known);
        subscriber.refill(replay.events, replay.cursor, replay.head);
        self.shard.add(&subscriber);
        let mut due = BTreeMap::new();
        for (index, event) in self.all.iter().enumerate() {
            let owed = event.is_after(&cursor)
                && follows(&subscription, event)
                && event.except != Some(id)
                && self.keeps(&subscription, index);
            // What is of another run is here only if it came back from the disk.
            if owed {
                due.insert(index, true);
            }
        }
        let client = &mut self.clients[which];
        if resumption == Resumption::Complete && !matches!(start, Start::Earliest) {
            // Nothing that it was still owed may be forgotten, and nothing come again.
            for (index, certain) in &client.due {
                let event = &self.all[*index];
                let again = due.contains_key(index);
                assert!(again || !certain, "{index} ({}) is lost to {start:?}", event.id);
            }
            let twice: Vec<_> = client.got.iter().filter(|index| due.contains_key(index)).collect();
            assert!(twice.is_empty(), "{twice:?} come again after {start:?}");
        }
        if resumption == Resumption::Lost || matches!(start, Start::Earliest) {
            self.told += 1;
            client.got.clear();
        }
        self.owed += due.len();
        client.due = due;
        client.subscriber = subscriber;
        client.attached = true;
        client.known = known;
    }

    /// What a client that does not understand ids, or makes them up, comes back with.
    fn forged(&mut self) -> String {
        let position = self.hub.position();
        let EventId { run, durable, volatile } = position;
        let far = self.dice.roll(50) as u64;
        match self.dice.roll(8) {
            0 => "nonsense".to_owned(),
            1 => "own-1".to_owned(),
            2 => EventId { run, durable: durable + 1 + far, volatile }.to_string(),
            3 => EventId { run, durable, volatile: volatile + 1 + far }.to_string(),
            4 => EventId { run: Run(999), durable, volatile }.to_string(),
            5 => EventId { run, durable: durable.saturating_sub(far), volatile }.to_string(),
            6 => EventId { run: Run(1), durable: durable.saturating_sub(far), volatile: 0 }
                .to_string(),
            _ => "ffffffffffffffff-ffffffffffffffff-ffffffffffffffff".to_owned(),
        }
    }

    fn detach(&mut self, which: usize) {
        if std::mem::replace(&mut self.clients[which].attached, false) {
            self.shard.remove(&self.clients[which].subscriber);
        }
    }

    fn come_back(&mut self, which: usize) {
        self.detach(which);
        let last = self.clients[which].last_id.clone();
        // Its own id may be that of several events, of which it got a later one.
        let plain = EventId::parse(&last).is_some();
        if plain && self.dice.chance(80) {
            self.attach(which, &Start::After(last));
        } else {
            let start = match self.dice.roll(3) {
                0 => Start::Now,
                1 => Start::Earliest,
                _ => Start::After(if self.dice.chance(50) { last } else { self.forged() }),
            };
            let client = &mut self.clients[which];
            client.due.clear();
            client.got.clear();
            // From here on it is another client, which has got nothing yet.
            client.last_id.clear();
            self.attach(which, &start);
        }
    }

    /// Takes what there is, and holds it against what is owed.
    fn take(&mut self, which: usize, most: usize) {
        for _ in 0..most {
            let client = &self.clients[which];
            let subscription = client.subscriber.subscription();
            match client.subscriber.next(Waker::noop()) {
                Next::Event(event) => self.got(which, &event),
                Next::Behind(cursor) => {
                    let limit = 1 + self.dice.roll(64);
                    let known = client.known;
                    let replay = self.hub.replay(&subscription, cursor, limit, known);
                    let missed = self.misses(&subscription, &cursor, known);
                    assert!(!replay.lost || missed, "told a loss without one after {cursor}");
                    let gone: Vec<usize> = self.clients[which]
                        .due
                        .iter()
                        .filter(|(index, _)| !self.keeps(&subscription, **index))
                        .map(|(index, _)| *index)
                        .collect();
                    let client = &mut self.clients[which];
                    client.subscriber.refill(replay.events, replay.cursor, replay.head);
                    client.known = self.hub.losses();
                    for index in gone {
                        let certain = client.due.remove(&index).unwrap();
                        assert!(replay.lost || !certain, "{index} is lost and nobody was told");
                    }
                    self.lags += usize::from(replay.lost);
                }
                Next::Nothing => {
                    // What is in the mailbox was not offered yet.
                    let waiting: BTreeSet<String> =
                        self.mailbox.iter().map(|event| event.id().to_string()).collect();
                    for (index, certain) in &client.due {
                        let id = self.all[*index].id.to_string();
                        assert!(!certain || waiting.contains(&id), "{index} ({id}) did not come");
                    }
                    return;
                }
                Next::Ended => panic!("nobody ended it"),
            }
        }
    }

    fn got(&mut self, which: usize, event: &Arc<Event>) {
        let text = std::str::from_utf8(event.content().data.bytes()).unwrap();
        let index: usize = text.split(' ').next().unwrap().parse().unwrap();
        let client = &mut self.clients[which];
        client.last_id = event.id_text();
        assert!(client.got.insert(index), "{index} came twice");
        assert!(client.due.remove(&index).is_some(), "{index} was not owed");
        let before: Vec<_> = client.due.range(..index).filter(|(_, certain)| **certain).collect();
        assert!(before.is_empty(), "{index} came before {before:?}");
    }

    /// Follows other topics from now on.
    fn change(&mut self, which: usize) {
        let subscription = self.some_subscription();
        let client = &mut self.clients[which];
        let changed =
            client.subscriber.subscription().with_topics(subscription.topics().to_vec()).unwrap();
        let position = self.hub.position();
        self.shard.change(&client.subscriber, changed, position);
        // What it still follows may be so by another selector now, which began only now.
        client.due.values_mut().for_each(|certain| *certain = false);
    }

    /// The server ends, well or badly, and starts again.
    fn restart(&mut self) {
        for which in 0..self.clients.len() {
            self.detach(which);
            // A topic may have become durable meanwhile: ids do not tell what was published before.
            let all = &self.all;
            self.clients[which].due.retain(|index, _| all[*index].durable);
        }
        if self.dice.chance(70) {
            self.delete();
        }
        self.runs += 1;
        self.mailbox.clear();
        self.shard = Shard::default();
        self.hub = Hub::new(Run(self.runs)).with_max_bytes(MAX_BYTES);
        self.kept.clear();
        self.gone.clear();
        self.losses = 1;
        for run in 1..self.runs {
            self.hub.know_run(Run(run));
        }
        for (topic, number) in &self.disk_missing {
            self.hub.know_missing(Some(&Topic::parse(topic).unwrap()), *number);
            self.gone.push((topic, true, *number, 1));
        }
        // The plugins come after.
        let rules = std::mem::take(&mut self.rules);
        for (number, index) in self.disk.clone() {
            let known = &self.all[index];
            let event = self.hub.deliver(number, known.draft.clone(), known.published, self.now);
            self.all[index].id = event.unwrap().id();
            self.place(index);
        }
        self.hub.advance(self.numbers);
        self.loaded = self.numbers;
        self.rules = rules;
        self.hub.set_rules("p", self.rules.clone(), &vec![pattern("*")].into());
        self.expire();
    }

    fn delete(&mut self) {
        for evicted in self.hub.take_evicted() {
            let index = self.disk.remove(&evicted.number).expect("each is told once");
            assert!(!self.kept.values().any(|kept| kept.contains(&index)), "{index} is still kept");
            for topic in &evicted.topics {
                let topic = TOPICS.iter().find(|one| **one == topic.as_str()).unwrap();
                let missing = self.disk_missing.entry(topic).or_default();
                *missing = (*missing).max(evicted.number);
            }
        }
    }

    fn step(&mut self) {
        let which = self.dice.roll(self.clients.len().max(1));
        let is_attached = self.clients.get(which).is_some_and(|client| client.attached);
        match self.dice.roll(100) {
            0..30 => self.publish(),
            30..33 => (0..80).for_each(|_| self.publish()),
            33..50 => {
                let most = self.dice.pick(&[1, 10, 1000]);
                self.offer(most);
            }
            50..55 if self.clients.len() < 8 => self.enter(),
            55..80 if is_attached => {
                let most = self.dice.pick(&[1, 5, 100, 1000]);
                self.take(which, most);
            }
            80..84 if is_attached => self.detach(which),
            84..90 if which < self.clients.len() => self.come_back(which),
            90..92 if is_attached => self.change(which),
            92..95 => {
                self.now += self.dice.pick(&[10, 500, 3000]);
                self.expire();
            }
            95 => self.change_rules(),
            96 | 97 => self.delete(),
            98 => self.restart(),
            _ => self.now += 1,
        }
        assert_eq!((self.hub.bytes(), self.hub.losses()), (self.bytes(), self.losses));
        assert!(self.hub.bytes() <= MAX_BYTES);
        assert!(self.hub.topics() <= TOPICS.len());
        let attached = self.clients.iter().filter(|client| client.attached).count();
        assert_eq!((self.shard.len(), self.shard.all().len()), (attached, attached));
    }

    fn finish(&mut self) {
        self.offer(usize::MAX);
        for which in 0..self.clients.len() {
            if !self.clients[which].attached {
                self.come_back(which);
            }
            self.take(which, usize::MAX);
            assert!(!self.clients[which].due.values().any(|certain| *certain));
        }
    }
}

#[test]
fn everybody_gets_what_it_is_owed_or_is_told() {
    let seeds = std::env::var("WHARF_HUB_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (mut told, mut lags, mut owed) = (0, 0, 0);
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let mut world = World::new(seed);
        let run = std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                world.step();
            }
            world.finish();
            (world.told, world.lags, world.owed)
        });
        match std::panic::catch_unwind(run) {
            Ok(counts) => {
                told += counts.0;
                lags += counts.1;
                owed += counts.2;
            }
            Err(cause) => {
                eprintln!("with the seed {seed}");
                std::panic::resume_unwind(cause);
            }
        }
    }

    assert!(told > 0 && lags > 0 && owed > 0, "what is to be tested happens: {told} {lags} {owed}");
}
