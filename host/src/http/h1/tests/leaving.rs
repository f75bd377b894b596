//! Clients that leave, stall or are too slow; and the server that leaves.

use super::*;

const GET: &str = "HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_cancels_its_request() {
    let mut connection = TestConnection::new();
    connection.send(format!("GET /never {GET}")).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.states.active.load(Ordering::Relaxed), 1);

    let TestConnection { client, handler, states, .. } = connection;
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;

    assert_eq!(handler.cancelled.load(Ordering::SeqCst), 1);
    assert_eq!(states.active.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_is_served_within_the_grace() {
    let quick = answer(format!("GET /slow {GET}")).await;
    let never = answer(format!("GET /never {GET}")).await;

    assert_eq!(statuses(&quick), ["200"]);
    assert_eq!(never, "");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_gets_the_whole_of_a_response_that_has_begun() {
    let mut connection = TestConnection::with(Limits::default(), 1000, None);
    connection.send(format!("GET /large {GET}")).await;
    connection.client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;

    let answer = connection.receive_rest().await;

    assert!(answer.ends_with("\r\n0\r\n\r\n") && answer.len() > 309_000);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_gets_probes_that_are_valid_chunks() {
    let answer = answer(format!("GET /drip {GET}")).await;

    // Each piece comes after four: the first at once or 40 ms after a chunk, the last 6 s later.
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let chunk = "00005\r\npiece\r\n";
    assert_eq!(body, format!("{chunk}{chunk}{chunk}0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_quiet_chunked_response_is_noticed() {
    let mut connection = TestConnection::new();
    connection.send(format!("GET /drip {GET}")).await;
    connection.receive_until("\r\n\r\n").await;

    let TestConnection { client, handler, states, .. } = connection;
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;

    assert_eq!(handler.cancelled.load(Ordering::SeqCst), 1);
    assert_eq!(states.active.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stays_open_gets_no_probes() {
    let mut connection = TestConnection::new();
    connection.send(format!("GET /drip {GET}")).await;

    let answer = connection.receive_until("\r\n0\r\n\r\n").await;

    assert!(answer.ends_with("\r\n\r\n5\r\npiece\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_answered_408_after_the_header_timeout() {
    let mut connection = TestConnection::new();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begun = tokio::time::Instant::now();

    // One byte a second does not help.
    connection.send("GET / HTTP/1.1\r\nX: ").await;
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        connection.send("x").await;
    }
    let answer = connection.receive_rest().await;

    assert_eq!(statuses(&answer), ["408"]);
    assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_silently() {
    let mut fresh = TestConnection::new();
    let mut used = TestConnection::new();
    let begun = tokio::time::Instant::now();
    used.send(format!("GET /hello {GET}")).await;
    used.receive_until("hello").await;

    assert_eq!(fresh.receive_rest().await, "");
    assert_eq!(used.receive_rest().await, "");
    assert_eq!(begun.elapsed().as_secs(), Limits::default().idle_timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off() {
    let mut connection = TestConnection::with(Limits::default(), 1000, None);
    let begun = tokio::time::Instant::now();
    connection.send(format!("GET /endless {GET}")).await;

    while connection.states.active.load(Ordering::Relaxed) == 1 || connection.asked() == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let limit = Limits::default().write_idle_timeout;
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit + Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_slowly_is_not_cut_off() {
    let mut connection = TestConnection::with(Limits::default(), 1000, None);
    connection.send(format!("GET /endless {GET}")).await;

    let mut buffer = [0; 500];
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        connection.client.read_exact(&mut buffer).await.unwrap();
    }

    assert_eq!(connection.states.active.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn draining_closes_idle_connections_and_finishes_the_others() {
    let mut idle = TestConnection::new();
    let mut busy = TestConnection::new();
    idle.send(format!("GET /hello {GET}")).await;
    idle.receive_until("hello").await;
    busy.send(format!("GET /slow {GET}GET /hello {GET}")).await;
    while busy.asked() == 0 {
        tokio::task::yield_now().await;
    }

    idle.drain.begin();
    busy.drain.begin();

    assert_eq!(idle.receive_rest().await, "");
    let answer = busy.receive_rest().await;
    assert_eq!(statuses(&answer), ["200"]);
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(idle.cancelled() + busy.cancelled(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_keeps_sending_can_read_the_answer() {
    let mut connection = TestConnection::with(Limits::default(), 1000, None);
    connection.send("GET /see HTTP/1.1\r\n\r\n").await;

    // More than the pipe holds: somebody must be reading it.
    connection.send(vec![b'x'; 100_000]).await;
    let answer = connection.receive_rest().await;

    assert_eq!(statuses(&answer), ["400"]);
}
