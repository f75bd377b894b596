//! The hub's rules one by one; all of them together are in `tests/model.rs`.

use super::*;
use crate::event::Content;
use crate::history::HistoryLimits;
use crate::selector::SelectorKind;

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn draft(name: &str) -> Draft {
    Draft::new(topic(name), Vec::new(), Content::text("x")).unwrap()
}

fn own(name: &str, id: &str) -> Draft {
    let content = Content { id: Some(id.into()), ..Content::text("x") };
    Draft::new(topic(name), Vec::new(), content).unwrap()
}

fn follow(topics: &[&str]) -> Subscription {
    let topics = topics.iter().map(|text| {
        (if text.contains('*') { SelectorKind::Pattern } else { SelectorKind::Exact }, *text)
    });
    Subscription::new("", topics, []).unwrap()
}

fn rule(text: &str, durable: bool, events: usize) -> Rule {
    let limits = HistoryLimits { events, ..HistoryLimits::default() };
    Rule { pattern: Pattern::parse(text).unwrap(), durable, limits }
}

fn hub(rules: Vec<Rule>) -> Hub {
    let mut hub = Hub::new(Run(2));
    hub.set_rules("plugin", rules, &vec![Pattern::parse("*").unwrap()].into());
    hub
}

fn begin(hub: &Hub, topics: &[&str], after: &str) -> Resumption {
    hub.begin(&follow(topics), &Start::After(after.to_owned())).1
}

#[test]
fn what_is_on_disk_is_kept_until_somebody_says_how_much() {
    let mut hub = Hub::new(Run(1));
    for number in 1..=2000 {
        hub.deliver(number, draft("a"), 0, 1_000_000_000).unwrap();
    }
    hub.expire(1_000_000_000);
    assert_eq!(hub.take_evicted(), []);

    hub.set_rules("p", vec![rule("a", true, 1500)], &vec![Pattern::parse("a").unwrap()].into());
    hub.expire(1000);

    assert_eq!(hub.take_evicted().len(), 500);
    assert_eq!(hub.take_evicted(), []);
}

#[test]
fn the_same_id_in_another_topic_is_another_event() {
    let mut hub = hub(vec![rule("b", false, 1)]);
    hub.publish(own("a", "1"), 0);
    hub.publish(draft("a"), 0);
    hub.publish(own("b", "1"), 0);

    let (cursor, resumption) = hub.begin(&follow(&["a"]), &Start::After("1".to_owned()));

    assert_eq!((cursor.volatile, resumption), (1, Resumption::Complete));
    // It is not in the history any more, whatever another topic has under its name.
    hub.publish(own("a", "2"), 0);
    hub.publish(own("b", "2"), 0);
    assert_eq!(begin(&hub, &["b"], "1"), Resumption::Lost);
    assert_eq!(begin(&hub, &["b"], "2"), Resumption::Complete);
}

#[test]
fn an_id_that_looks_like_a_place_takes_nobodys() {
    let mut hub = hub(vec![]);
    let place = hub.publish(draft("a"), 0).id();
    hub.publish(draft("a"), 0);
    hub.publish(own("b", &place.to_string()), 0);

    let (cursor, _) = hub.begin(&follow(&["a"]), &Start::After(place.to_string()));

    assert_eq!(cursor, place);
}

#[test]
fn a_topic_that_expired_is_not_lost_to_who_had_it_all() {
    let mut hub = hub(vec![]);
    let id = hub.publish(draft("a"), 0).id().to_string();
    hub.publish(draft("b"), 0);

    hub.expire(10_000_000);

    assert_eq!((hub.bytes(), begin(&hub, &["a"], &id)), (0, Resumption::Complete));
    assert_eq!(begin(&hub, &["b"], &id), Resumption::Lost);
    assert_eq!(begin(&hub, &["c"], &id), Resumption::Complete);
}

#[test]
fn topics_without_events_are_known_up_to_a_bound() {
    let mut hub = hub(vec![rule("*", false, 0)]);
    let first = hub.position().to_string();
    for index in 0..=MAX_EMPTY_TOPICS {
        hub.publish(draft(&format!("t/{index}")), 0);
        // One that is used all the time takes no more room for it.
        hub.publish(draft("busy"), 0);
    }

    assert_eq!(hub.topics(), MAX_EMPTY_TOPICS);
    // Not known any more: it may have lost something.
    assert_eq!(begin(&hub, &["t/0"], &first), Resumption::Lost);
    let now = hub.position().to_string();
    assert_eq!(begin(&hub, &["t/0"], &now), Resumption::Complete);
}

#[test]
fn durable_events_are_gone_on_from_in_another_run() {
    let rules = || vec![rule("d/*", true, 100), rule("d/v", false, 100)];
    let mut hub = hub(rules());
    hub.know_run(Run(1));
    hub.know_missing(Some(&topic("d/old")), 3);
    for number in [2, 4, 6] {
        hub.deliver(number, draft("d/1"), 0, 0).unwrap();
    }
    hub.advance(9);

    for (topics, id, expected) in [
        (&["d/1"][..], "1-4-0", Resumption::Complete),
        (&["d/1"], "1-4-77", Resumption::Complete),
        (&["d/old"], "1-3-0", Resumption::Complete),
        (&["d/old"], "1-2-0", Resumption::Lost),
        // Not all of them are on disk.
        (&["d/*"], "1-4-0", Resumption::Lost),
        (&["d/1", "a"], "1-4-0", Resumption::Lost),
        (&["d/1/*"], "1-4-0", Resumption::Complete),
        // Never was, is of a run that is not known, is of this run but ahead.
        (&["d/1"], "1-a-0", Resumption::Lost),
        (&["d/1"], "3-4-0", Resumption::Lost),
        (&["d/1"], "2-9-1", Resumption::Lost),
    ] {
        assert_eq!(begin(&hub, topics, id), expected, "{topics:?} {id}");
    }
    let (cursor, _) = hub.begin(&follow(&["d/1"]), &Start::After("1-4-7".to_owned()));
    let events = hub.replay(&follow(&["d/1"]), cursor, 10, hub.losses()).events;
    assert_eq!(events.iter().map(|event| event.id().durable).collect::<Vec<_>>(), [6]);
}

#[test]
fn who_comes_from_a_process_that_is_ahead_goes_on_there() {
    let mut hub = hub(vec![rule("d", true, 100)]);
    hub.know_run(Run(1));
    hub.deliver(1, draft("d"), 0, 0).unwrap();
    assert_eq!(begin(&hub, &["d"], "1-3-0"), Resumption::Lost);

    hub.share(true);
    let (cursor, resumption) = hub.begin(&follow(&["d"]), &Start::After("1-3-0".to_owned()));

    assert_eq!((cursor.durable, resumption), (3, Resumption::Complete));
    assert_eq!(begin(&hub, &["d"], "1-ffffffff-0"), Resumption::Lost);
}

#[test]
fn an_event_is_durable_if_one_of_its_topics_is() {
    let hub = hub(vec![rule("d", true, 100)]);

    let with = |name: &str, also: &str| {
        Draft::new(topic(name), vec![topic(also)], Content::text("")).unwrap()
    };

    assert!(hub.is_durable(&with("d", "a")) && hub.is_durable(&with("a", "d")));
    assert!(!hub.is_durable(&with("a", "b")));
}

#[test]
fn a_rule_counts_for_what_its_plugin_may_publish_to() {
    let mut hub = Hub::new(Run(1));
    let grants: Arc<[Pattern]> = vec![Pattern::parse("mine/*").unwrap()].into();
    hub.set_rules("p", vec![rule("*", true, 100)], &grants);

    assert!(hub.is_durable(&draft("mine/1")) && !hub.is_durable(&draft("yours/1")));
    hub.know_run(Run(0));
    hub.advance(5);
    assert_eq!(begin(&hub, &["mine/*"], "0-5-0"), Resumption::Complete);
    assert_eq!(begin(&hub, &["*"], "0-5-0"), Resumption::Lost);
}

#[test]
fn an_event_is_deleted_when_all_its_topics_have_dropped_it() {
    let mut hub = hub(vec![rule("none", true, 0), rule("some", true, 1)]);
    let both =
        |text: &str| Draft::new(topic("none"), vec![topic("some")], Content::text(text)).unwrap();

    hub.deliver(1, both("a"), 0, 0).unwrap();
    assert_eq!(hub.take_evicted(), []);
    hub.deliver(2, both("b"), 0, 0).unwrap();

    let evicted = hub.take_evicted();
    assert_eq!(evicted.iter().map(|event| event.number).collect::<Vec<_>>(), [1]);
    assert_eq!(*evicted[0].topics, [topic("none"), topic("some")]);
}

#[test]
fn the_order_of_all_topics_is_swept() {
    let mut hub = hub(vec![rule("*", false, 1)]);
    for index in 0..100_000 {
        hub.publish(draft(&format!("t/{}", index % 10)), 0);
        assert!(hub.order.len() <= SWEEP_FROM + 1, "{}", hub.order.len());
    }
    assert_eq!(hub.entries, 10);
}

#[test]
fn a_loss_is_told_once_and_only_if_it_came_after_the_beginning() {
    let mut hub = hub(vec![rule("few", false, 2)]);
    for _ in 0..10 {
        hub.publish(draft("few"), 0);
        hub.publish(draft("many"), 0);
    }
    let all = follow(&["few", "many"]);
    let (cursor, _) = hub.begin(&all, &Start::Earliest);
    let known = hub.losses();

    let replay = hub.replay(&all, cursor, 5, known);
    assert!(!replay.lost && !replay.head);
    assert!(!hub.replay(&all, replay.cursor, 5, known).lost);
    hub.publish(draft("few"), 0);

    assert!(hub.replay(&all, replay.cursor, 5, known).lost);
    assert!(!hub.replay(&all, replay.cursor, 5, hub.losses()).lost);
}
