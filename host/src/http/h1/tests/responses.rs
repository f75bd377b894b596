//! How responses are framed, and how a broken one ends.

use super::*;

const HOST: &str = "HTTP/1.1\r\nHost: a\r\n";

#[tokio::test]
async fn a_known_length_is_told_and_an_unknown_one_chunked() {
    let full = answer(format!("GET /hello {HOST}\r\n")).await;
    let stream = answer(format!("GET /stream {HOST}\r\n")).await;

    assert!(full.contains("\r\ncontent-length: 5\r\n") && full.contains("\r\ndate: "), "{full}");
    assert!(stream.contains("\r\ntransfer-encoding: chunked\r\n"), "{stream}");
    assert!(stream.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{stream}");
}

#[tokio::test]
async fn http_1_0_gets_an_unknown_length_until_the_close() {
    let request = "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

    let answer = answer(request).await;

    assert!(!answer.contains("transfer-encoding"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nonetwo"), "{answer}");
}

#[tokio::test]
async fn head_204_and_304_have_no_body() {
    let requests = [
        format!("HEAD /hello {HOST}\r\n"),
        format!("HEAD /stream {HOST}\r\n"),
        format!("GET /204 {HOST}\r\n"),
        format!("GET /304 {HOST}\r\n"),
        format!("GET /hello {HOST}\r\n"),
    ];

    let answers = answer(requests.concat()).await;

    assert_eq!(statuses(&answers), ["200", "200", "204", "304", "200"]);
    let heads: Vec<_> = answers.split("\r\n\r\n").collect();
    assert!(heads[0].contains("content-length: 5"), "{answers}");
    assert!(!heads[1].contains("content-length"), "{answers}");
    assert!(!heads[2].contains("content-length"), "{answers}");
    assert!(heads[3].contains("content-length: 5"), "{answers}");
    assert_eq!(heads[5..], ["hello"]);
}

#[tokio::test]
async fn trailers_are_sent_to_clients_that_take_them() {
    let taken = answer(format!("GET /trailers {HOST}TE: trailers\r\n\r\n")).await;
    let not_taken = answer(format!("GET /trailers {HOST}\r\n")).await;

    assert!(taken.contains("\r\ntrailer: x-sum\r\n"), "{taken}");
    assert!(taken.ends_with("3\r\none\r\n0\r\nx-sum: 42\r\n\r\n"), "{taken}");
    assert!(!not_taken.contains("x-sum"), "{not_taken}");
    assert!(not_taken.ends_with("3\r\none\r\n0\r\n\r\n"), "{not_taken}");
}

#[tokio::test]
async fn a_body_of_another_length_than_its_head_said_aborts_the_connection() {
    for (path, body) in [("/short", "five!"), ("/long", ""), ("/longer", "one")] {
        let answer = answer(format!("GET {path} {HOST}\r\n").repeat(2)).await;

        assert_eq!(statuses(&answer), ["200"], "{path}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_fails_is_never_ended_properly() {
    let answer = answer(format!("GET /breaks {HOST}\r\n").repeat(2)).await;

    assert_eq!(statuses(&answer), ["200"]);
    assert!(answer.ends_with("3\r\none\r\n"), "{answer}");
}

#[tokio::test]
async fn large_chunks_arrive_whole_through_a_narrow_pipe() {
    let mut connection = TestConnection::with(Limits::default(), 1000, None);
    connection.send(format!("GET /large {HOST}Connection: close\r\n\r\n")).await;

    let answer = connection.receive_rest().await;

    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let expected =
        format!("493e0\r\n{}\r\n2328\r\n{}\r\n0\r\n\r\n", "a".repeat(300_000), "b".repeat(9_000));
    assert!(body == expected, "{} bytes", body.len());
}

#[tokio::test]
async fn http_3_is_advertised_on_tls_alone() {
    let facts = TlsFacts {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
        alpn: None,
        sni: None,
        early_data: false,
    };
    let mut tls = TestConnection::with(Limits::default(), 4096, Some(facts));
    tls.send(format!("GET /see {HOST}\r\n")).await;

    let encrypted = tls.receive_until("host=a\n").await;
    let cleartext = answer(format!("GET /see {HOST}\r\n")).await;

    assert!(encrypted.contains("alt-svc: h3=\":443\"\r\n") && encrypted.contains("https://a/see"));
    assert!(!cleartext.contains("alt-svc") && cleartext.contains("http://a/see"));
}

#[tokio::test]
async fn the_handler_can_close_the_connection() {
    let answer = answer(format!("GET /close {HOST}\r\nGET /hello {HOST}\r\n")).await;

    assert_eq!(statuses(&answer), ["200"]);
    assert!(answer.contains("connection: close\r\n"));
}

#[tokio::test]
async fn a_kept_connection_counts_its_requests_down_and_closes_after_the_last() {
    let requests = format!("GET /kept {HOST}\r\n").repeat(4);

    let answers = answer(requests).await;

    assert_eq!(statuses(&answers), ["200"; 3]);
    let heads: Vec<_> = answers.split("HTTP/1.1 200").skip(1).collect();
    for (head, left) in heads.iter().zip([3, 2]) {
        assert!(head.contains(&format!("\r\nkeep-alive: timeout=200, max={left}\r\n")), "{head}");
        assert!(head.contains("\r\nconnection: keep-alive\r\n"), "{head}");
        assert_eq!(head.matches("keep-alive: ").count(), 1, "{head}");
    }
    assert!(!heads[2].contains("keep-alive"), "{answers}");
    assert!(heads[2].contains("\r\nconnection: close\r\n"), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_waits_as_long_as_it_was_told_to_and_no_longer() {
    let mut connection = TestConnection::new();
    let begun = tokio::time::Instant::now();
    connection.send(format!("GET /kept {HOST}\r\n")).await;
    connection.receive_until("kept").await;

    connection.receive_rest().await;

    assert_eq!(begun.elapsed().as_secs(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_last_response_says_how_long_is_waited() {
    let mut connection = TestConnection::new();
    connection.send(format!("GET /kept {HOST}\r\nGET /hello {HOST}\r\n")).await;
    let begun = tokio::time::Instant::now();
    connection.receive_until("hello").await;

    connection.receive_rest().await;

    assert_eq!(begun.elapsed(), Limits::default().idle_timeout);
}

#[tokio::test]
async fn a_response_can_close_its_connection() {
    let answers = answer(format!("GET /closed {HOST}\r\n").repeat(2)).await;

    assert_eq!(statuses(&answers), ["200"]);
    assert!(answers.contains("\r\nconnection: close\r\n"), "{answers}");
    assert!(!answers.contains("keep-alive"), "{answers}");
}
