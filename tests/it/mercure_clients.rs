//! The sample plugin `mercure` and clients that others wrote: Symfony's and Python's publishers, npm's
//! `eventsource`, Chromium, curl.

use serde_json::json;
use wharf_tests::{TestServer, clients};

use crate::mercure::{HUB, KEY, legacy, sample};

fn cleartext(server: &TestServer) -> String {
    format!("http://{}{HUB}", server.http.unwrap())
}

/// A token for everything, on a stream of what is kept: the data of its events.
async fn kept(server: &TestServer, topic: &str) -> Option<String> {
    let token = legacy(json!({"subscribe": ["*"]}));
    let url = format!("{}?topic={topic}&lastEventID=earliest", cleartext(server));
    let bearer = format!("authorization: Bearer {token}");
    let output = clients::program("curl", &["-sN", "--max-time", "3", "-H", &bearer, &url]).await?;
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn symfonys_component_publishes() {
    let server = sample().await;
    let arguments =
        [cleartext(&server), KEY.into(), "https://example.com/symfony".into(), "from PHP".into()];
    let arguments = arguments.each_ref().map(String::as_str);

    let Some(answer) = clients::symfony_mercure("mercure_symfony.php", &arguments).await else {
        return;
    };

    assert_eq!(answer["id"], "urn:symfony:1");
    for topic in ["https://example.com/symfony", "https://example.com/symfony/alternate"] {
        let Some(events) = kept(&server, topic).await else { return };
        for line in ["id: urn:symfony:1", "event: note", "retry: 1000", "data: from PHP"] {
            assert!(events.lines().any(|own| own == line), "{topic}: {events}");
        }
    }
}

#[tokio::test]
async fn pythons_mercure_publisher_publishes_and_is_refused() {
    let server = sample().await;
    let arguments =
        [cleartext(&server), KEY.into(), "https://example.com/python".into(), "from Python".into()];
    let arguments = arguments.each_ref().map(String::as_str);

    let script = "mercure_publish.py";
    let Some(answers) = clients::mercure_publisher(script, &arguments).await else { return };

    assert_eq!(answers[0]["refused"], 401);
    let id = answers[0]["id"].as_str().unwrap();
    let Some(events) = kept(&server, "https://example.com/python").await else { return };
    assert!(
        events.contains(&format!("id: {id}"))
            && events.contains(r#"data: {"text": "from Python"}"#),
        "{events}"
    );
}

#[tokio::test]
async fn npms_eventsource_follows_with_a_token_and_goes_on() {
    let server = sample().await;
    let token = legacy(json!({"publish": ["*"], "subscribe": ["https://example.com/{x}"]}));
    let arguments = [cleartext(&server), token, "https://example.com/npm".into()];
    let arguments = arguments.each_ref().map(String::as_str);

    let Some(seen) = clients::node("mercure.mjs", &arguments).await else { return };

    assert_eq!(seen["first"], json!({"data": "one\ntwo", "lastEventId": seen["firstId"]}));
    assert_eq!(seen["typed"]["data"], "typed");
    assert_eq!(seen["missed"], json!({"data": "missed", "lastEventId": seen["missedId"]}));
    assert_eq!(seen["headers"]["lastEventId"], seen["typed"]["lastEventId"]);
    assert_eq!(seen["headers"]["mercureLastEventId"], seen["typed"]["lastEventId"]);
}

#[tokio::test]
async fn chromium_follows_with_a_cookie_and_the_page_works() {
    let server = sample().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());
    let token = legacy(json!({"publish": ["*"], "subscribe": ["*"]}));

    let Some(seen) = clients::browser("mercure_page.mjs", &[&origin, &token]).await else { return };

    for own in seen["own"].as_array().unwrap() {
        assert_eq!(
            (&own["status"], &own["event"]["data"]),
            (&json!(200), &json!("a\nb")),
            "{seen}"
        );
        assert_eq!(own["id"], own["event"]["lastEventId"]);
    }
    assert_eq!(seen["seen"].as_array().unwrap().len(), 2);
    for seen in seen["seen"].as_array().unwrap() {
        let id = seen["id"].as_str().unwrap();
        assert!(
            id.starts_with("urn:uuid:") && seen["shown"].as_str().unwrap().contains(id),
            "{seen}"
        );
    }
    assert_eq!(seen["errors"], json!([]), "{seen}");
}

#[tokio::test]
async fn curl_follows_over_both_versions_of_http_with_a_token_in_the_query() {
    let server = sample().await;
    let hub = format!("https://localhost:{}{HUB}", server.https.unwrap().port());
    let token = legacy(json!({"publish": ["*"], "subscribe": ["*"]}));
    for version in ["--http1.1", "--http2"] {
        let bearer = format!("authorization: Bearer {token}");
        let data =
            ["-d", "topic=https://example.com/curl", "-d", "data=from curl", "-d", "private=on"];
        let publish = [&["-sk", version, "-H", &bearer][..], &data, &[&hub]].concat();
        let Some(id) = clients::program("curl", &publish).await else { return };
        let url = format!(
            "{hub}?topic=https://example.com/%7Bname%7D&lastEventID=earliest&authorization={token}"
        );
        let follow = ["-skN", "-i", "-g", version, "--max-time", "3", &url];
        let events = clients::program("curl", &follow).await.unwrap();

        let (id, events) =
            (String::from_utf8(id.stdout).unwrap(), String::from_utf8(events.stdout).unwrap());
        assert!(id.starts_with("urn:uuid:"), "{id}");
        assert!(
            events.contains(&format!("id: {id}")) && events.contains("data: from curl"),
            "{events}"
        );
        let head = events.to_ascii_lowercase();
        assert!(
            head.contains("cache-control: private") && head.contains("last-event-id: earliest"),
            "{events}"
        );
    }
}

#[tokio::test]
async fn ten_thousand_topics_are_refused() {
    let server = sample().await;
    let topics: Vec<_> = (0..10_000).map(|n| format!("topic={n}")).collect();
    let url = format!("{}?{}", cleartext(&server), topics.join("&"));
    let status = ["-s", "-o", "/dev/null", "-w", "%{http_code}", &url];

    let Some(output) = clients::program("curl", &status).await else { return };

    let status = String::from_utf8(output.stdout).unwrap();
    assert!(["400", "414", "431"].contains(&status.as_str()), "{status}");
}
