//! Schedules: called at their times, never beside themselves, whatever becomes of the plugin and the
//! process.

use std::time::Duration;

use serde_json::Value;
use wharf_tests::{TestServer, guest};

fn builder(guest_name: &str, schedules: &[(&str, &str)]) -> wharf_tests::Builder {
    let schedule =
        |(name, timing): &(&str, &str)| format!("[[schedule]]\nname = \"{name}\"\n{timing}\n");
    let manifest: String = schedules.iter().map(schedule).collect();
    let limits = "[limits]\ncpu-time = \"300ms\"\n";
    TestServer::builder()
        .plugin("events", &guest(guest_name))
        .manifest("events", &format!("{limits}{manifest}"))
}

/// One schedule of the plugin, as `/plugins` tells it.
fn status<'a>(entry: &'a Value, name: &str) -> &'a Value {
    let schedules = entry["schedules"].as_array().unwrap();
    schedules.iter().find(|schedule| schedule["name"] == name).unwrap_or(&Value::Null)
}

async fn until_run(server: &TestServer, name: &str, times: u64) -> Value {
    let has_run = |entry: &Value| status(entry, name)["runs"].as_u64() >= Some(times);
    let entry = server.until_registered("events", has_run).await;
    status(&entry, name).clone()
}

/// What the plugin printed when it was called.
#[derive(Debug)]
struct Called {
    due: u64,
    missed: u32,
}

fn calls(server: &TestServer, name: &str) -> Vec<Called> {
    let log = server.printed("events");
    let begun = format!("schedule {name} due=");
    let rest = log.lines().filter_map(|line| Some(line.split_once(&begun)?.1));
    rest.map(|rest| {
        let (due, rest) = rest.split_once(" missed=").unwrap();
        let missed = rest.split(' ').next().unwrap();
        Called { due: due.parse().unwrap(), missed: missed.parse().unwrap() }
    })
    .collect()
}

/// Every call of `name` ended before the next one began, over all versions and processes.
fn assert_alternates(server: &TestServer, name: &str) {
    let (begun, done) = (format!("schedule {name} due="), format!("schedule {name} done"));
    let log = server.printed("events");
    let mut running = false;
    for line in log.lines() {
        if line.contains(&begun) {
            assert!(!running, "two at once:\n{log}");
            running = true;
        } else if line.contains(&done) {
            running = false;
        }
    }
}

/// The same component as another version: a custom section of no meaning is added.
fn another_version(component: &[u8]) -> Vec<u8> {
    [component, &[0, 5, 4, b'n', b'e', b'x', b't']].concat()
}

#[tokio::test]
async fn components_of_both_generations_are_called_at_their_times() {
    for guest_name in ["p3_events", "p2_events"] {
        let server = builder(guest_name, &[("tick", "every = \"200ms\"")]).start().await;

        let status = until_run(&server, "tick", 3).await;

        assert_eq!(status["timing"], "every 200ms");
        assert_eq!(status["last_outcome"], "ok");
        let calls = calls(&server, "tick");
        assert!(calls.len() >= 3, "{calls:?}");
        for pair in calls.windows(2) {
            let steps = u64::from(pair[1].missed) + 1;
            assert_eq!(pair[1].due - pair[0].due, 200 * steps, "{calls:?}");
        }
        let metrics = server.metrics().await;
        let counted =
            "wharf_plugin_events_total{plugin=\"events\",kind=\"schedule\",outcome=\"ok\"}";
        assert!(metrics.contains(counted), "{metrics}");
    }
}

#[tokio::test]
async fn cron_patterns_with_seconds_are_called_at_whole_seconds() {
    let server = builder("p3_events", &[("beat", "cron = \"* * * * * *\"")]).start().await;

    until_run(&server, "beat", 2).await;

    let calls = calls(&server, "beat");
    assert!(calls.iter().all(|call| call.due % 1000 == 0), "{calls:?}");
}

#[tokio::test]
async fn a_call_that_takes_long_is_alone_and_the_next_one_tells_what_was_missed() {
    let schedules = [("slow-700", "every = \"200ms\""), ("tick", "every = \"100ms\"")];
    let server = builder("p3_events", &schedules).start().await;

    until_run(&server, "slow-700", 3).await;

    assert_alternates(&server, "slow-700");
    let calls = calls(&server, "slow-700");
    assert!(calls[1..].iter().all(|call| call.missed >= 3), "{calls:?}");
    // The other one went on meanwhile, in the same instance.
    assert!(server.printed("events").matches("schedule tick due=").count() >= 6);
}

#[tokio::test]
async fn failures_are_told_and_the_next_call_comes_all_the_same() {
    let schedules = [("trap-it", "every = \"300ms\""), ("fail-it", "every = \"300ms\"")];
    let server = builder("p3_events", &schedules).start().await;

    let trap = until_run(&server, "trap-it", 2).await;
    until_run(&server, "fail-it", 2).await;

    assert!(trap["failures"].as_u64() >= Some(2), "{trap}");
    server.until_logged("kind=\"trap\"").await;
    // What the interface cannot tell is in the plugin's log.
    server.until_printed("events", "schedule fail-it failed: ").await;
    let metrics = server.metrics().await;
    let counted = "wharf_plugin_events_total{plugin=\"events\",kind=\"schedule\",outcome=\"trap\"}";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_stopped_before_the_next_one() {
    let server = TestServer::builder()
        .plugin("events", &guest("p3_events"))
        .manifest(
            "events",
            "[limits]\nrequest-timeout = \"400ms\"\n\
             [[schedule]]\nname = \"slow-60000\"\nevery = \"100ms\"\n",
        )
        .start()
        .await;

    let slow = until_run(&server, "slow-60000", 2).await;

    assert_eq!(slow["last_outcome"], "timeout");
    // The instance that it would not leave is gone: nothing is beside the second one.
    assert_eq!(server.printed("events").matches("beside=1").count(), 0);
}

#[tokio::test]
async fn a_call_that_spins_is_ended_at_its_cpu_limit() {
    for guest_name in ["p3_events", "p2_events"] {
        let server = builder(guest_name, &[("loop-it", "every = \"300ms\"")]).start().await;

        // One: the next runs where nobody else wants the CPU, which here may be never.
        let spin = until_run(&server, "loop-it", 1).await;

        assert_eq!(spin["last_outcome"], "cpu-time");
    }
}

#[tokio::test]
async fn a_schedule_that_nothing_takes_is_refused_with_what_to_export() {
    let manifest = "[[schedule]]\nname = \"tick\"\nevery = \"5s\"\n";
    let server = TestServer::builder()
        .plugin("hello", &guest("p3_hello"))
        .manifest("hello", manifest)
        .start()
        .await;

    let entry = server.until_registered("hello", |entry| entry["state"] == "failed").await;

    let error = entry["last_error"].as_str().unwrap();
    assert!(error.contains("schedule \"tick\""), "{error}");
    assert!(error.contains("wharf:host/schedule-events-async@0.1.x"), "{error}");
}

#[tokio::test]
async fn a_new_version_goes_on_with_the_cadence_and_waits_for_the_call_of_the_old_one() {
    let schedules = [("slow-900", "every = \"300ms\""), ("tick", "every = \"300ms\"")];
    let server = builder("p3_events", &schedules).start().await;
    server.until_printed("events", "schedule slow-900 due=").await;
    let before = server.registered("events").await.unwrap();

    server.install("events", &another_version(&guest("p3_events")));
    server.until_registered("events", |entry| entry["version"] != before["version"]).await;
    let runs = status(&server.registered("events").await.unwrap(), "slow-900")["runs"].as_u64();
    until_run(&server, "slow-900", runs.unwrap() + 2).await;

    assert_alternates(&server, "slow-900");
    let ticks = calls(&server, "tick");
    assert!(ticks.windows(2).all(|pair| (pair[1].due - pair[0].due) % 300 == 0), "{ticks:?}");
}

#[tokio::test]
async fn what_was_missed_while_the_server_was_down_is_told() {
    let server = builder("p3_events", &[("tick", "every = \"1s\"")]).start().await;
    until_run(&server, "tick", 1).await;
    server.signal("KILL").await;
    // What is missed is two seconds at least.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let before = calls(&server, "tick").len();

    let server = server.restart().await;
    until_run(&server, "tick", 1).await;
    // Its line may be written a little later.
    while calls(&server, "tick").len() <= before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let calls = calls(&server, "tick");
    let (last, first) = (&calls[before - 1], &calls[before]);
    assert!(first.missed >= 1, "{calls:?}");
    assert_eq!(first.due - last.due, 1000 * (u64::from(first.missed) + 1), "{calls:?}");
}

#[tokio::test]
async fn a_drain_waits_for_the_call_that_goes_on() {
    let mut server = builder("p3_events", &[("slow-1000", "every = \"300ms\"")]).start().await;
    server.until_printed("events", "schedule slow-1000 due=").await;

    server.signal("TERM").await;
    let code = server.wait().await;

    assert_eq!(code, Some(0));
    let log = server.printed("events");
    let (_, after) = log.rsplit_once("schedule slow-1000 due=").unwrap();
    assert!(after.contains("schedule slow-1000 done"), "{log}");
}

#[tokio::test]
async fn a_process_that_takes_over_waits_for_the_call_of_the_old_one() {
    let mut server = builder("p3_events", &[("slow-1500", "every = \"500ms\"")]).start().await;
    server.until_printed("events", "schedule slow-1500 due=").await;

    let mut old = server.take_over(&[]).await;
    until_run(&server, "slow-1500", 2).await;

    assert_eq!(old.wait().await, Some(0));
    assert_alternates(&server, "slow-1500");
}
