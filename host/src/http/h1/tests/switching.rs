//! A connection that leaves HTTP.

use super::*;

const ASKS: &str = "HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

#[tokio::test]
async fn what_was_read_ahead_comes_after_the_switch() {
    let answer = answer(format!("GET /switch {ASKS}GET /hello HTTP/1.1\r\n\r\n")).await;

    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nx-own: 1"
    );
    assert_eq!(rest, "first GET /hello HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn responses_before_it_are_sent_first() {
    let hello = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

    let answer = answer(format!("{hello}GET /switch {ASKS}x")).await;

    assert_eq!(statuses(&answer), ["200", "101"]);
    assert!(answer.ends_with("first x"), "{answer}");
}

#[tokio::test]
async fn the_connection_is_counted_as_hijacked() {
    let mut connection = TestConnection::new();
    connection.send(format!("GET /switch {ASKS}")).await;
    connection.receive_until("first ").await;
    let states = Arc::clone(&connection.states);
    let count = |state: &std::sync::atomic::AtomicU64| state.load(Ordering::Relaxed);

    assert_eq!((count(&states.hijacked), count(&states.active), count(&states.idle)), (1, 0, 0));

    connection.client.shutdown().await.unwrap();
    assert_eq!(connection.receive_rest().await, "");
    drop(connection);
    assert_eq!(count(&states.hijacked), 0);
}

#[tokio::test(start_paused = true)]
async fn one_on_which_nothing_moves_is_closed() {
    let mut connection = TestConnection::new();
    let begun = tokio::time::Instant::now();
    connection.send(format!("GET /switch {ASKS}")).await;
    connection.receive_until("first ").await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    connection.send("x").await;
    connection.receive_until("x").await;

    assert_eq!(connection.receive_rest().await, "");

    let limit = Limits::default().switch_idle_timeout;
    assert_eq!(begun.elapsed().as_secs(), 50 + limit.as_secs());
}

#[tokio::test(start_paused = true)]
async fn one_whose_client_takes_nothing_is_closed() {
    let mut connection = TestConnection::with(Limits::default(), 100, None);
    let begun = tokio::time::Instant::now();
    connection.send(format!("GET /switch {ASKS}")).await;
    connection.receive_until("\r\n\r\n").await;

    // More than comes back through the pipe.
    let _cut_off = connection.client.write_all(&[b'x'; 1000]).await;

    assert!(begun.elapsed() < Limits::default().write_idle_timeout * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_426_names_what_would_do() {
    let answer = answer("GET /refuse HTTP/1.1\r\nHost: a\r\n\r\n").await;

    assert!(answer.contains("\r\nupgrade: echo\r\nconnection: upgrade\r\n"), "{answer}");
}
