//! The log of durable events without a hub.

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::store::Store;

/// Logs of two processes on one file, as in a takeover; each has threads of its own.
fn logs() -> (TempDir, Log, Log) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let log = |run| {
        let store = Store::new(dir.path().to_owned()).expect("a thread can be started");
        store.log(run).expect("its folder can be made")
    };
    let (one, other) = (log(1), log(2));
    (dir, one, other)
}

async fn append(log: &Log, text: &str) -> (Vec<String>, u64) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let number = log
        .append(7, text.as_bytes().to_vec(), move |foreign, number| {
            let texts = texts(&foreign.records);
            let _nobody = tell.send((texts, number));
        })
        .await
        .expect("it can be written");
    let (foreign, told) = told.await.expect("it was settled before it was answered");
    assert_eq!(told, number);
    (foreign, number)
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.event).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_settled_in_the_order_of_their_numbers() {
    let (_dir, log, _) = logs();
    let settled = Arc::new(Mutex::new(Vec::new()));
    let mut writers = tokio::task::JoinSet::new();

    for writer in 0..8 {
        let (log, settled) = (log.clone(), Arc::clone(&settled));
        writers.spawn(async move {
            for index in 0..50 {
                let settled = Arc::clone(&settled);
                let event = format!("{writer}-{index}").into_bytes();
                log.append(1, event, move |_, number| settled.lock().push(number))
                    .await
                    .expect("it can be written");
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer panics");
    }

    assert_eq!(*settled.lock(), (1..=400).collect::<Vec<u64>>());
    let logged = log.load(1).await.expect("it can be read");
    assert_eq!((logged.records.len(), logged.last), (400, 400));
}

#[tokio::test]
async fn a_write_brings_what_another_process_wrote_before_it() {
    let (_dir, one, other) = logs();

    assert_eq!(append(&one, "a").await, (vec![], 1));
    assert_eq!(append(&other, "b").await, (vec!["a".to_owned()], 2));
    assert_eq!(append(&other, "c").await, (vec![], 3));
    assert_eq!(append(&one, "d").await, (vec!["b".to_owned(), "c".to_owned()], 4));

    let foreign = other.foreign().await.expect("it can be read");
    assert_eq!((texts(&foreign.records), foreign.runs), (vec!["d".to_owned()], vec![1]));
    other.delivered(4);
    assert_eq!(other.foreign().await.expect("it can be read"), Foreign::default());
}

#[tokio::test]
async fn what_comes_after_an_own_event_waits_for_it() {
    let (dir, one, other) = logs();
    append(&other, "a").await;
    append(&one, "b").await;
    append(&other, "c").await;
    // The same run, which has delivered nothing yet: its own event is on disk and not settled.
    let store = Store::new(dir.path().to_owned()).expect("a thread can be started");
    let behind = store.log(1).expect("its folder can be made");

    let foreign = behind.foreign().await.expect("it can be read");

    assert_eq!(texts(&foreign.records), ["a"]);
}

#[tokio::test]
async fn a_log_that_is_made_later_is_found() {
    let (_dir, one, other) = logs();
    assert_eq!(other.load(1).await.expect("there is nothing"), Logged::default());
    assert_eq!(other.foreign().await.expect("there is nothing"), Foreign::default());

    append(&one, "a").await;
    let foreign = other.foreign().await.expect("it can be read");
    other.record(2).await.expect("it can be written");

    assert_eq!(texts(&foreign.records), ["a"]);
    let mut logged = one.load(3).await.expect("it can be read");
    logged.runs.sort_unstable();
    assert_eq!(logged.runs, [1, 2]);
}

#[tokio::test]
async fn what_was_deleted_is_remembered_and_its_numbers_are_not_used_again() {
    let (_dir, one, other) = logs();
    for text in ["a", "b", "c"] {
        append(&one, text).await;
    }

    let both = vec!["x".to_owned(), "y".to_owned()];
    let events = vec![(1, both), (2, vec!["x".to_owned()]), (3, vec!["z".to_owned()])];
    one.delete(events).await.expect("it can be written");
    one.delete(vec![(1, vec!["z".to_owned()])]).await.expect("it can be written");

    let logged = other.load(9).await.expect("it can be read");
    let mut missing = logged.missing;
    missing.sort();
    assert_eq!(missing, [("x".to_owned(), 2), ("y".to_owned(), 1), ("z".to_owned(), 3)]);
    assert_eq!((logged.records, logged.last), (vec![], 3));
    assert_eq!(append(&other, "d").await.1, 4);
}

#[tokio::test]
async fn topics_that_lost_events_long_ago_are_put_together() {
    let (_dir, log, other) = logs();
    append(&log, "a").await;
    let most = u64::from(MAX_MISSING_TOPICS);

    for from in [0, most / 2, most] {
        let events =
            (from + 1..=from + most / 2).map(|number| (number, vec![format!("t/{number}")]));
        log.delete(events.collect()).await.expect("it can be written");
    }

    let missing = other.load(1).await.expect("it can be read").missing;
    assert!(missing.len() <= MAX_MISSING_TOPICS as usize + 1, "{}", missing.len());
    let others =
        missing.iter().find(|(topic, _)| topic.is_empty()).expect("some were put together");
    let kept = missing.iter().filter(|(topic, _)| !topic.is_empty()).map(|(_, number)| *number);
    assert_eq!(kept.min(), Some(others.1 + 1));
    assert_eq!(missing.len() as u64 - 1 + others.1, most * 3 / 2);
}
