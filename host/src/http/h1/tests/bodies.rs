//! Request bodies: both framings, 100-continue, and what is left unread.

use super::*;

const POST: &str = "HTTP/1.1\r\nHost: a\r\n";

#[tokio::test]
async fn a_body_is_echoed_while_it_is_sent() {
    let mut connection = TestConnection::new();
    connection
        .send(format!("POST /echo {POST}Transfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"))
        .await;
    connection.receive_until("\r\n\r\n").await;

    for word in ["one", "two", "six"] {
        connection.send(format!("3\r\n{word}\r\n")).await;
        assert_eq!(connection.receive_until("\r\n").await, "3\r\n");
        assert_eq!(connection.receive_until("\r\n").await, format!("{word}\r\n"));
    }
    connection.send("0\r\nx-sum: 7\r\nauthorization: no\r\n\r\n").await;
    assert_eq!(connection.receive_until("\r\n\r\n").await, "0\r\nx-sum: 7\r\n\r\n");

    // The connection goes on.
    connection.send(format!("GET /hello {POST}\r\n")).await;
    connection.receive_until("hello").await;
}

#[tokio::test]
async fn a_body_may_be_read_in_another_task() {
    let mut connection = TestConnection::with(Limits::default(), 3000, None);
    connection.send(format!("POST /elsewhere {POST}Content-Length: 500000\r\n\r\n")).await;

    connection.send(vec![b'x'; 500_000]).await;

    connection.receive_until("500000").await;
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_end_the_connection() {
    let bodies = [
        ("Transfer-Encoding: chunked", "5 \r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "5;\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello world\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
        ("Content-Length: 500", "too short"),
    ];

    for (framing, body) in bodies {
        let request = format!("POST /collect {POST}{framing}\r\n\r\n{body}");

        let answers = answer(request + "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;

        assert_eq!(statuses(&answers), ["400"], "{body}");
    }
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted() {
    let mut connection = TestConnection::new();
    let head = format!("POST /collect {POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    connection.send(head).await;

    assert_eq!(connection.receive_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    connection.send("hello").await;

    assert_eq!(statuses(&connection.receive_until("{}").await), ["200"]);
}

#[tokio::test]
async fn continue_comes_before_the_head_of_a_response_that_reads_the_body() {
    let mut connection = TestConnection::new();
    let head = format!("POST /echo {POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    connection.send(head).await;

    assert_eq!(connection.receive_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    connection.receive_until("\r\n\r\n").await;
    connection.send("hello").await;
    connection.receive_until("hello").await;
}

#[tokio::test]
async fn a_final_response_without_continue_closes() {
    let mut connection = TestConnection::new();
    let head = format!("POST /hello {POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    connection.send(head).await;

    let answer = connection.receive_until("hello").await;

    assert_eq!(statuses(&answer), ["200"]);
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_small_unread_body_is_thrown_away_and_a_large_one_closes() {
    let small = format!("POST /hello {POST}Content-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let chunked =
        format!("POST /hello {POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let large = format!("POST /hello {POST}Content-Length: 600000\r\n\r\n{}", "x".repeat(600_000));

    let kept = answer(format!("{small}{chunked}GET /204 {POST}\r\n")).await;
    let closed = answer(format!("{large}GET /204 {POST}\r\n")).await;

    assert_eq!(statuses(&kept), ["200", "200", "204"], "{kept}");
    assert_eq!(statuses(&closed), ["200"], "{closed}");
    assert!(closed.contains("connection: close\r\n"), "{closed}");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_progress_times_out() {
    let mut connection = TestConnection::new();
    connection.send(format!("POST /collect {POST}Content-Length: 5\r\n\r\nhel")).await;

    let answer = connection.receive_rest().await;

    assert_eq!(statuses(&answer), ["408"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_stops_the_client() {
    let mut connection = TestConnection::with(Limits::default(), 1000, None);
    connection.send(format!("POST /never {POST}Content-Length: 1000000\r\n\r\n")).await;

    let sent = tokio::time::timeout(Duration::from_secs(1), connection.send(vec![0; 1_000_000]));

    assert!(sent.await.is_err());
}
