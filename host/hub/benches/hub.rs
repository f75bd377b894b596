//! What an event costs: framed, given its place, matched, offered and taken, replayed.
//!
//! `cargo bench -p wharf-hub`; numbers count only with the machine and the commit.

#![expect(clippy::unwrap_used, reason = "a bench ends with what went wrong")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wharf_hub::{
    Content, Draft, HistoryLimits, Hub, Next, Pattern, Rule, Run, SelectorKind, Shard, Start,
    Subscriber, SubscriberId, Subscription, Topic, frame,
};

fn draft(topic: &str) -> Draft {
    let content = Content::text("{\"symbol\":\"WASM\",\"price\":42.25,\"volume\":1000}");
    Draft::new(Topic::parse(topic).unwrap(), Vec::new(), content).unwrap()
}

fn follow(kind: SelectorKind, text: &str) -> Subscription {
    Subscription::new("", [(kind, text)], []).unwrap()
}

fn subscribe(
    hub: &Hub,
    shard: &mut Shard,
    id: u128,
    subscription: Subscription,
) -> Arc<Subscriber> {
    let (cursor, _) = hub.begin(&subscription, &Start::Now);
    let subscriber = Subscriber::new(SubscriberId(id), subscription, cursor);
    subscriber.refill(Vec::new(), cursor, true);
    shard.add(&subscriber);
    subscriber
}

/// One event is published, offered to all and taken by all.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish, offer and take");
    for subscribers in [1, 1000, 10_000] {
        group.throughput(Throughput::Elements(subscribers));
        for (name, kind, text) in [
            ("exact", SelectorKind::Exact, "ticks/1"),
            ("pattern", SelectorKind::Pattern, "ticks/*"),
        ] {
            let mut hub = Hub::new(Run(1));
            let mut shard = Shard::default();
            let all: Vec<_> = (0..subscribers)
                .map(|id| subscribe(&hub, &mut shard, id.into(), follow(kind, text)))
                .collect();
            let mut wake = Vec::new();
            group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
                bencher.iter_batched(
                    || draft("ticks/1"),
                    |draft| {
                        let event = hub.publish(draft, 0);
                        shard.offer(&event, &mut wake);
                        wake.clear();
                        for subscriber in &all {
                            let Next::Event(event) = subscriber.next(Waker::noop()) else {
                                panic!("everybody gets it")
                            };
                            black_box(event.frame());
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// An event gets its place and goes into its topic's history.
fn publish(criterion: &mut Criterion) {
    let mut hub = Hub::new(Run(1));
    criterion.bench_function("publish", |bencher| {
        bencher.iter_batched(
            || draft("ticks/1"),
            |draft| black_box(hub.publish(draft, 0)),
            BatchSize::SmallInput,
        );
    });
}

/// An event's bytes on a stream, of one line and of a hundred.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let line = "{\"symbol\":\"WASM\",\"price\":42.25,\"volume\":1000}";
    for lines in [1, 100] {
        let content = Content::text(vec![line; lines].join("\n"));
        group.throughput(Throughput::Bytes(content.data.bytes().len() as u64));
        group.bench_function(BenchmarkId::from_parameter(lines), |bencher| {
            bencher.iter(|| frame::event(black_box(&content), Some("1a2b3c4d-0-7f")));
        });
    }
    group.finish();
}

/// Whether a topic is selected, by each kind of selector.
fn selectors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    for (name, kind, text) in [
        ("exact", SelectorKind::Exact, "books/1984/sold"),
        ("pattern", SelectorKind::Pattern, "books/*/sold"),
        ("template", SelectorKind::UriTemplate, "books/{id}/sold"),
        ("URL pattern", SelectorKind::UrlPattern, "https://shop.example/books/:id/sold"),
    ] {
        let topic = match kind {
            SelectorKind::UrlPattern => "https://shop.example/books/1984/sold",
            _ => "books/1984/sold",
        };
        let subscription = follow(kind, text);
        let selector = &subscription.topics()[0];
        assert!(selector.matches(topic), "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| selector.matches(black_box(topic)));
        });
    }
    group.finish();
}

/// An event of a topic that nobody follows, beside so many groups of those who follow others.
fn groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("offer beside patterns");
    for patterns in [1, 100, 1000] {
        let mut hub = Hub::new(Run(1));
        let mut shard = Shard::default();
        for id in 0..patterns {
            let pattern = follow(SelectorKind::Pattern, &format!("rooms/{id}/*"));
            subscribe(&hub, &mut shard, id, pattern);
        }
        let event = hub.publish(draft("ticks/1"), 0);
        let mut wake = Vec::new();
        group.bench_function(BenchmarkId::from_parameter(patterns), |bencher| {
            bencher.iter(|| shard.offer(black_box(&event), &mut wake));
        });
    }
    group.finish();
}

/// The events after a place, 64 of them, from histories of several lengths.
fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay of 64");
    for kept in [100, 10_000, 100_000] {
        let mut hub = Hub::new(Run(1));
        let limits = HistoryLimits { events: kept, bytes: 64 << 20, age: u64::MAX };
        let every = Pattern::parse("*").unwrap();
        let rule = Rule { pattern: every.clone(), durable: true, limits };
        hub.set_rules("bench", vec![rule], &vec![every].into());
        for number in 1..=kept as u64 {
            hub.deliver(number, draft("ticks/1"), 0, 0).unwrap();
        }
        for (name, kind, text) in [
            ("exact", SelectorKind::Exact, "ticks/1"),
            ("pattern", SelectorKind::Pattern, "ticks/*"),
        ] {
            let subscription = follow(kind, text);
            let middle = Start::After(format!("1-{:x}-0", kept / 4));
            group.bench_function(BenchmarkId::new(name, kept), |bencher| {
                bencher.iter(|| {
                    let (cursor, _) = hub.begin(&subscription, &middle);
                    black_box(hub.replay(&subscription, cursor, 64, hub.losses()))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, frames, publish, selectors, fan_out, groups, replay);
criterion_main!(benches);
