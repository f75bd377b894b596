//! The sample plugin `jobs`: work that goes on by itself, and event streams that tell how.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use wharf_tests::{Client, EventStream, Protocol, StreamEvent, TestServer, clients, each_protocol};

async fn server() -> TestServer {
    TestServer::builder().sample("headers").sample("jobs").start().await
}

/// Begins a job; where its progress is told.
async fn start(client: &mut Client, name: &str, steps: u32) -> String {
    let answer = client.post("/jobs", json!({ "name": name, "steps": steps }).to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let location = answer.header("location").to_owned();
    let id = answer.json()["job_id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/sse/progress/{id}"));
    location
}

async fn follow(server: &TestServer, protocol: Protocol, path: &str) -> EventStream {
    EventStream::open(server.client(protocol).await, path, &[]).await
}

/// Everything until the stream ends.
async fn rest(stream: &mut EventStream) -> Vec<StreamEvent> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    events
}

/// The numbers of steps, which only grow, and the state at the end.
fn checked(events: &[StreamEvent]) -> (Vec<u64>, Value) {
    let (close, progress) = events.split_last().unwrap();
    assert_eq!(close.name, "close", "{events:?}");
    assert_eq!(close.json(), json!({ "type": "close", "message": "Job finished" }));
    assert!(progress.iter().all(|event| event.name == "progress"), "{events:?}");
    let end = progress.last().unwrap().json();
    // A cancellation is told with the step that was done last.
    let done = if end["status"] == "failed" { &progress[..progress.len() - 1] } else { progress };
    let steps: Vec<u64> = done.iter().map(|event| event.json()["step"].as_u64().unwrap()).collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    (steps, end)
}

each_protocol!(a_job_is_told_of_from_beginning_to_end, |protocol| async move {
    let server = server().await;
    let location = start(&mut server.client(protocol).await, "harbour", 8).await;

    let mut stream = follow(&server, protocol, &location).await;
    let events = rest(&mut stream).await;

    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-cache");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    let (steps, end) = checked(&events);
    assert_eq!(*steps.last().unwrap(), 8);
    assert!(steps.len() > 3, "{steps:?}");
    assert_eq!((&end["status"], &end["progress"]), (&json!("completed"), &json!(100)));
    assert!(end["message"].as_str().unwrap().contains("harbour"), "{end}");
});

each_protocol!(an_unknown_job_is_one_error_and_the_end, |protocol| async move {
    let server = server().await;

    for path in ["/sse/progress/0123456789abcdef", "/sse/progress/none%0a*"] {
        let mut stream = follow(&server, protocol, path).await;
        let events = rest(&mut stream).await;

        assert_eq!(stream.status, 200);
        let [error] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(
            (error.name.as_str(), &error.json()["error"]),
            ("error", &json!("Job not found"))
        );
    }
});

#[tokio::test]
async fn who_comes_late_sees_the_state_first() {
    let server = server().await;
    let location = start(&mut server.h1().await, "late", 30).await;
    let mut early = follow(&server, Protocol::H2, &location).await;
    // A step is told before it is committed: step 10 is in the database once step 11 is told.
    while early.next().await.unwrap().json()["step"].as_u64().unwrap() < 11 {}

    let mut late = follow(&server, Protocol::H3, &location).await;
    let first = late.next().await.unwrap();
    let others = rest(&mut late).await;
    let mut over = follow(&server, Protocol::H1, &location).await;
    let after = rest(&mut over).await;

    assert!(first.json()["step"].as_u64().unwrap() >= 10, "{first:?}");
    assert_eq!(first.json()["status"], "running");
    let (steps, _) = checked(&[vec![first], others].concat());
    assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "a step is missing: {steps:?}");
    assert_eq!(checked(&after).1["status"], "completed");
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn who_has_seen_the_end_is_told_not_to_come_back() {
    let server = server().await;
    let location = start(&mut server.h1().await, "end", 1).await;
    let mut stream = follow(&server, Protocol::H1, &location).await;
    let close = rest(&mut stream).await.pop().unwrap();
    let last = [("last-event-id", close.id.as_str())];

    let again = EventStream::open(server.h1().await, &location, &last).await;
    let unknown = "/sse/progress/0123456789abcdef";
    let seen = rest(&mut follow(&server, Protocol::H1, unknown).await).await.pop().unwrap();
    let last = [("last-event-id", seen.id.as_str())];
    let unknown = EventStream::open(server.h1().await, unknown, &last).await;

    assert!(!close.id.is_empty());
    assert_eq!((again.status.as_u16(), unknown.status.as_u16()), (204, 204));
}

#[tokio::test]
async fn a_cancelled_job_has_failed() {
    let server = server().await;
    let mut client = server.h1().await;
    let location = start(&mut client, "long", 5000).await;
    let path = location.replace("/sse/progress/", "/jobs/");
    let mut stream = follow(&server, Protocol::H2, &location).await;
    stream.next().await.unwrap();

    let request = client.request(Method::DELETE, &path).body(Bytes::new()).unwrap();
    let cancelled = client.send(request).await;
    let (_, end) = checked(&rest(&mut stream).await);
    let request = client.request(Method::DELETE, &path).body(Bytes::new()).unwrap();
    let again = client.send(request).await;

    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["status"]), (200, &json!("failed")));
    assert_eq!((&end["status"], &end["message"]), (&json!("failed"), &json!("cancelled")));
    assert_eq!(again.status, 409, "{again:?}");
}

#[tokio::test]
async fn a_job_goes_on_after_a_restart_and_a_swap() {
    let server = server().await;
    let location = start(&mut server.h1().await, "durable", 60).await;
    let mut stream = follow(&server, Protocol::H1, &location).await;
    // Step 5 is on disk once step 6 is told.
    while stream.next().await.unwrap().json()["step"].as_u64().unwrap() < 6 {}

    let server = server.restart().await;
    let mut stream = follow(&server, Protocol::H1, &location).await;
    let first = stream.next().await.unwrap();
    let version = server.registered("jobs").await.unwrap()["version"].clone();
    let component = server.plugins().join("jobs/jobs.wasm");
    let mut swapped = std::fs::read(&component).unwrap();
    // A custom section: another component that does the same.
    swapped.extend_from_slice(&[0, 5, 4, b's', b'w', b'a', b'p']);
    std::fs::write(&component, swapped).unwrap();
    let (steps, end) = checked(&[vec![first], rest(&mut stream).await].concat());
    server.until_registered("jobs", |entry| entry["version"] != version).await;

    assert!(steps[0] >= 5, "{steps:?}");
    assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "a step is missing: {steps:?}");
    assert_eq!(end["status"], "completed");
}

#[tokio::test]
async fn jobs_are_listed_and_draw_pictures() {
    let server = server().await;
    let mut client = server.h1().await;
    let location = start(&mut client, "picture", 2).await;
    rest(&mut follow(&server, Protocol::H1, &location).await).await;
    let path = location.replace("/sse/progress/", "/jobs/");

    let list = client.get("/jobs").await;
    let one = client.get(&path).await.json();
    let picture = client.get(&format!("{path}/result")).await;
    let page = client.request(Method::GET, "/jobs").header("accept", "text/html,*/*;q=0.8");
    let page = client.send(page.body(Bytes::new()).unwrap()).await;
    let unknown = client.get("/jobs/0123456789abcdef/result").await;

    assert_eq!(list.json()[0]["job_id"], one["job_id"]);
    assert_eq!((&one["status"], &one["done"]), (&json!("completed"), &json!(2)));
    assert_eq!(picture.header("content-type"), "image/bmp");
    assert_eq!(picture.body.len(), 320 * 240 + 1078);
    assert!(page.text().contains("<h1>Jobs</h1>"), "{page:?}");
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn too_many_jobs_are_refused_for_a_while() {
    let server = server().await;
    let mut client = server.h1().await;
    for i in 0..50 {
        start(&mut client, &format!("job {i}"), 5000).await;
    }

    let refused = client.post("/jobs", r#"{"name":"one more"}"#).await;

    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "5"));
}

#[tokio::test]
async fn eventsource_follows_a_job_to_its_end() {
    let server = server().await;
    let origin = format!("http://{}", server.http.unwrap());

    let Some(told) = clients::node("jobs.mjs", &[&origin]).await else { return };

    let steps = told["steps"].as_array().unwrap();
    assert_eq!(steps.last().unwrap(), 6, "{told}");
    assert_eq!(told["status"], "completed");
    assert_eq!(told["close"], json!({ "type": "close", "message": "Job finished" }));
    // After the end the client has come back once, and was told 204.
    assert_eq!(told["code"], 204, "{told}");
    assert_eq!(told["unknown"], "Job not found");
}

#[tokio::test]
async fn the_page_shows_a_job_to_its_end() {
    let server = server().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(told) = clients::browser("jobs-page.mjs", &[&origin]).await else { return };

    assert_eq!(told["errors"], json!([]));
    assert_eq!(told["state"], "completed");
    assert_eq!(told["bar"], 100);
    assert_eq!(told["again"], "completed");
    assert!(told["width"].as_u64() == Some(320), "{told}");
}

#[tokio::test]
async fn a_job_of_one_step_is_done_within_seconds() {
    let server = server().await;
    let location = start(&mut server.h1().await, "short", 1).await;

    let mut stream = follow(&server, Protocol::H1, &location).await;
    let all = tokio::time::timeout(Duration::from_secs(20), rest(&mut stream)).await.unwrap();

    assert_eq!(checked(&all).1["status"], "completed");
}
