//! The sample plugin `caching`: an endpoint under each cache policy, on documents that can be changed,
//! and the messages of `chat`. What the answers say, over the three protocols, what the server's cache
//! makes of it, and what clients that others wrote do.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wharf_tests::{Answer, Client, Protocol, TestServer, clients, each_protocol};

const MANIFEST: &str = include_str!("../../plugins/caching/plugin.toml");

async fn server() -> TestServer {
    TestServer::builder().sample("caching").start().await
}

/// One on which the market is always open, or always closed.
async fn server_with_market(state: &str) -> TestServer {
    let manifest = MANIFEST.replace("market = \"hours\"", &format!("market = \"{state}\""));
    assert_ne!(manifest, MANIFEST);
    let builder = TestServer::builder().sample("caching");
    builder.file("caching/plugin.toml", manifest.as_bytes()).start().await
}

async fn send(
    client: &mut Client,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = client.request(method, path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request.body(Bytes::from(body.to_owned())).unwrap()).await
}

async fn get(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    send(client, Method::GET, path, fields, "").await
}

/// Whether the client takes the 103 of this endpoint: that of the crate `h3` takes no interim response,
/// and aioquic asks in its place.
fn takes(protocol: Protocol, path: &str) -> bool {
    protocol != Protocol::H3 || path != "/api/dashboard/ada"
}

fn problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
}

each_protocol!(each_endpoint_says_what_may_be_kept_of_it, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for (path, control) in [
        ("/api/posts/1", "public, max-age=3600"),
        ("/api/articles", "public, max-age=3600"),
        ("/api/content", "public, max-age=3600"),
        ("/api/auth/token", "no-store, no-cache, must-revalidate"),
        ("/api/dashboard/ada", "private, max-age=60"),
        ("/api/dashboard/ada/widgets", "private, max-age=30, must-revalidate"),
        ("/api/dashboard/public/metrics", "public, max-age=60, stale-while-revalidate=300"),
        ("/api/events/public", "public, max-age=300"),
        ("/api/news/trending", "max-age=300, stale-while-revalidate=86400"),
        ("/api/realtime/config", "max-age=60, must-revalidate"),
        ("/api/realtime/feed/main", "max-age=0, must-revalidate"),
        ("/api/realtime/metrics", "max-age=30, must-revalidate"),
        ("/api/realtime/prices", "no-cache, max-age=30"),
        ("/api/config/static", "public, max-age=86400, immutable"),
        ("/api/config/semi-static", "public, max-age=3600"),
        ("/api/config/semi_static", "public, max-age=3600"),
        ("/api/config/dynamic", "private, max-age=300"),
        ("/api/config/realtime", "no-cache, max-age=30"),
        ("/api/config/sensitive", "no-store, no-cache"),
        ("/api/config/ultra-fresh", "max-age=1, must-revalidate"),
        ("/api/config/frequently-updated", "no-cache, max-age=30"),
        ("/api/config/user-specific", "private, max-age=60, must-revalidate"),
        ("/api/config/public-realtime", "public, max-age=300, stale-while-revalidate=900"),
        ("/api/config/sensitive-realtime", "no-store, no-cache, must-revalidate"),
        ("/api/large-dataset", "public, max-age=60"),
        ("/api/realtime/large_dataset", "no-cache, max-age=60"),
    ] {
        if !takes(protocol, path) {
            continue;
        }
        let answer = client.get(path).await;
        let head = send(&mut client, Method::HEAD, path, &[], "").await;

        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("cache-control"), control, "{path}");
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        assert_eq!(answer.header("surrogate-key"), "", "{path}: it is the host's business");
        assert_eq!((head.status.as_u16(), head.header("cache-control")), (200, control), "{path}");
        assert!(head.body.is_empty() && !answer.json().is_null(), "{path}");
    }
    for path in ["/api/config/weekly", "/api/posts/77", "/api/realtime/feed/77", "/api/posts/%00"] {
        problem(&client.get(path).await, 404);
    }
    let deleted = send(&mut client, Method::DELETE, "/api/posts/1", &[], "").await;
    problem(&deleted, 405);
    assert_eq!(deleted.header("allow"), "GET, HEAD, OPTIONS, PUT");
});

each_protocol!(posts_are_changed_by_who_has_read_the_latest_version, |protocol| async move {
    const PATH: &str = "/api/posts/1";
    let server = server().await;
    let mut client = server.client(protocol).await;
    let first = client.get(PATH).await;
    let etag = first.header("etag").to_owned();
    let same = get(&mut client, PATH, &[("if-none-match", &etag)]).await;
    let put = json!({ "title": "Changed", "body": "by PUT" }).to_string();

    let without = send(&mut client, Method::PUT, PATH, &[], &put).await;
    let stale = send(&mut client, Method::PUT, PATH, &[("if-match", "\"other\"")], &put).await;
    let weak = format!("W/{etag}");
    let weak = send(&mut client, Method::PUT, PATH, &[("if-match", &weak)], &put).await;
    let unread = send(&mut client, Method::PUT, PATH, &[("if-match", &etag)], "{}").await;
    let changed = send(&mut client, Method::PUT, PATH, &[("if-match", &etag)], &put).await;
    let again = send(&mut client, Method::PUT, PATH, &[("if-match", &etag)], &put).await;
    let second = get(&mut client, PATH, &[("if-none-match", &etag)]).await;

    assert!(etag.starts_with('"') && etag.len() > 2, "strong: {etag}");
    assert_eq!((same.status.as_u16(), same.header("etag")), (304, etag.as_str()));
    assert_eq!(same.header("cache-control"), "public, max-age=3600");
    assert!(same.body.is_empty());
    problem(&without, 428);
    problem(&stale, 412);
    problem(&weak, 412);
    problem(&unread, 422);
    assert_eq!(changed.status, 200, "{changed:?}");
    problem(&again, 412);
    // Purged: nobody is given the old one for the rest of its hour.
    assert_eq!((second.status.as_u16(), second.header("etag")), (200, changed.header("etag")));
    assert_ne!(second.header("etag"), etag);
    assert_eq!((&second.json()["title"], &second.json()["id"]), (&json!("Changed"), &json!(1)));
    let list = client.get("/api/posts").await.json();
    let list = list.as_array().unwrap();
    assert!(list.iter().any(|post| post["title"] == "Changed"), "{list:?}");
});

each_protocol!(a_new_post_is_made_once, |protocol| async move {
    const PATH: &str = "/api/posts/new-one";
    let server = server().await;
    let mut client = server.client(protocol).await;
    let put = json!({ "title": "New", "body": "by PUT" }).to_string();
    problem(&client.get(PATH).await, 404);

    let unknown = send(&mut client, Method::PUT, PATH, &[("if-match", "*")], &put).await;
    let made = send(&mut client, Method::PUT, PATH, &[("if-none-match", "*")], &put).await;
    let twice = send(&mut client, Method::PUT, PATH, &[("if-none-match", "*")], &put).await;
    let found = client.get(PATH).await;

    problem(&unknown, 404);
    assert_eq!(made.status, 201, "{made:?}");
    problem(&twice, 412);
    assert_eq!((found.status.as_u16(), found.header("etag")), (200, made.header("etag")));
});

each_protocol!(dates_of_change_answer_who_has_it_already, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for path in ["/api/articles", "/api/dashboard/bob/widgets", "/api/realtime/metrics"] {
        let answer = client.get(path).await;
        let date = answer.header("last-modified").to_owned();
        let known = get(&mut client, path, &[("if-modified-since", &date)]).await;
        let old = "Sat, 29 Oct 1994 19:43:31 GMT";
        let older = get(&mut client, path, &[("if-modified-since", old)]).await;

        assert!(date.ends_with(" GMT"), "{path}: {date:?}");
        assert_eq!(known.status, 304, "{path}");
        assert_eq!(known.header("cache-control"), answer.header("cache-control"), "{path}");
        assert_eq!(older.status, 200, "{path}");
    }
    let before = client.get("/api/articles").await.json().as_array().unwrap().len();
    let article = json!({ "title": "Late", "author": "a test" }).to_string();
    let added = send(&mut client, Method::POST, "/api/articles", &[], &article).await;
    let after = client.get("/api/articles").await.json();
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(after.as_array().unwrap().len(), before + 1);
    let bad = send(&mut client, Method::POST, "/api/articles", &[], "{}").await;
    problem(&bad, 422);
});

each_protocol!(
    content_has_the_form_and_the_language_that_the_client_reads,
    |protocol| async move {
        const PATH: &str = "/api/content";
        let server = server().await;
        let mut client = server.client(protocol).await;

        for (accept, language, kind, text) in [
            ("*/*", "*", "application/json", "Welcome"),
            ("application/xml", "fr", "application/xml; charset=utf-8", "Bienvenue"),
            (
                "application/json;q=0.3, application/xml;q=0.8",
                "de-CH, fr;q=0.5",
                "application/xml; charset=utf-8",
                "Bienvenue",
            ),
            ("application/json", "de-AT", "application/json", "Willkommen"),
            (
                "application/*;q=0.5, text/html",
                "ja, en;q=0.1, de;q=0.2",
                "application/json",
                "Willkommen",
            ),
            ("application/xml;q=0, */*;q=0.1", "FR", "application/json", "Bienvenue"),
        ] {
            let fields = [("accept", accept), ("accept-language", language)];
            let answer = get(&mut client, PATH, &fields).await;
            let etag = answer.header("etag").to_owned();
            let known = [("if-none-match", etag.as_str()), fields[0], fields[1]];

            assert_eq!(answer.status, 200, "{fields:?}: {answer:?}");
            assert_eq!(answer.header("content-type"), kind, "{fields:?}");
            assert!(answer.header("vary").starts_with("Accept, Accept-Language"), "{fields:?}");
            assert!(answer.text().contains(text), "{fields:?}: {answer:?}");
            assert_eq!(get(&mut client, PATH, &known).await.status, 304, "{fields:?}");
        }
        for fields in
            [("accept", "image/png"), ("accept", "application/json;q=0"), ("accept-language", "ja")]
        {
            let none = get(&mut client, PATH, &[fields]).await;

            problem(&none, 406);
            assert_eq!(none.header("vary"), "Accept, Accept-Language", "{fields:?}");
        }
    }
);

each_protocol!(prices_are_short_lived_while_there_is_trade, |protocol| async move {
    let open = server_with_market("open").await;
    let closed = server_with_market("closed").await;

    for (server, stock, trading) in [
        (&open, "max-age=15, must-revalidate", "max-age=1, must-revalidate"),
        (&closed, "max-age=300", "max-age=300"),
    ] {
        let mut client = server.client(protocol).await;
        let price = client.get("/api/stock/AAPL/price").await;
        let traded = client.get("/api/trading/prices/AAPL").await;
        let etag = traded.header("etag").to_owned();
        let put = send(&mut client, Method::PUT, "/api/stock/AAPL/price", &[], "{\"price\":1.25}");
        let put = put.await;
        let after = client.get("/api/stock/aapl/price").await;
        let retraded =
            get(&mut client, "/api/trading/prices/AAPL", &[("if-none-match", &etag)]).await;

        assert_eq!(price.header("cache-control"), stock);
        assert_eq!(traded.header("cache-control"), trading);
        assert_eq!(traded.headers.contains_key("expires"), trading != "max-age=300");
        assert!(etag.starts_with("\"AAPL-"), "{etag}");
        assert_eq!(put.status, 200, "{put:?}");
        assert_eq!(
            (&after.json()["price"], &after.json()["symbol"]),
            (&json!(1.25), &json!("AAPL"))
        );
        assert_eq!((retraded.status.as_u16(), &retraded.json()["price"]), (200, &json!(1.25)));
        problem(&client.get("/api/stock/NONE/price").await, 404);
        problem(&send(&mut client, Method::PUT, "/api/stock/X/price", &[], "{}").await, 422);
    }
});

each_protocol!(scores_are_short_lived_while_the_game_goes_on, |protocol| async move {
    const PATH: &str = "/api/sports/game-9/score";
    let server = server().await;
    let mut client = server.client(protocol).await;
    problem(&client.get(PATH).await, 404);

    for (status, control) in [
        ("scheduled", "max-age=3600"),
        ("live", "max-age=10, must-revalidate"),
        ("finished", "max-age=3600"),
    ] {
        let change = json!({ "status": status, "score": { "home": 2, "away": 1 } }).to_string();
        let changed = send(&mut client, Method::PUT, PATH, &[], &change).await;
        let score = client.get(PATH).await;

        assert!(changed.status.is_success(), "{changed:?}");
        assert_eq!(score.header("cache-control"), control, "{status}");
        assert_eq!(score.json()["status"], status);
        assert_eq!(score.json()["score"], json!({ "home": 2, "away": 1 }));
    }
    assert_eq!(client.get("/api/sports/1/score").await.json()["status"], "live");
});

each_protocol!(every_token_is_another, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    let tokens = [client.get("/api/auth/token").await, client.get("/api/auth/token").await];

    assert_eq!(tokens[0].header("pragma"), "no-cache");
    assert_ne!(tokens[0].json()["token"], tokens[1].json()["token"]);
    assert!(tokens[0].json()["token"].as_str().unwrap().len() >= 43);
});

#[tokio::test]
async fn dashboards_announce_what_they_need_before_they_are_ready() {
    const PATH: &str = "/api/dashboard/ada";
    const LINK: &str = "</api/dashboard/ada/widgets>; rel=preload; as=fetch; crossorigin";
    let server = server().await;
    let widgets = json!({ "widgets": [{ "type": "map" }] }).to_string();
    let mut client = server.h1().await;
    let put = send(&mut client, Method::PUT, &format!("{PATH}/widgets"), &[], &widgets).await;
    assert_eq!(put.status, 200, "{put:?}");

    for protocol in [Protocol::H1, Protocol::H2] {
        let dashboard = server.client(protocol).await.get(PATH).await;
        assert_eq!(dashboard.headers.get_all("link").iter().next().unwrap(), LINK);
        assert_eq!(dashboard.json()["widgets"], json!([{ "type": "map" }]));
    }
    problem(&client.get("/api/dashboard/a%2Fb").await, 404);

    let url = format!("https://localhost:{}{PATH}", server.https.unwrap().port());
    let Some(told) = clients::python("h3_client.py", &[&url]).await else { return };
    let has = |fields: &Value, name: &str, value: &str| {
        fields.as_array().unwrap().iter().any(|field| field[0] == name && field[1] == value)
    };
    assert!(has(&told[0]["interim"][0], ":status", "103"), "{told:?}");
    assert!(has(&told[0]["interim"][0], "link", LINK), "{told:?}");
    assert!(has(&told[0]["headers"], "link", LINK), "{told:?}");
    assert!(has(&told[0]["headers"], "cache-control", "private, max-age=60"), "{told:?}");
}

each_protocol!(what_changes_all_the_time_has_validators, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let config = json!({ "poll_seconds": 7 }).to_string();
    let text = json!({ "text": "said" }).to_string();

    for (path, method, body) in [
        ("/api/realtime/config", Method::PUT, config),
        ("/api/realtime/feed/main", Method::POST, text),
    ] {
        let first = client.get(path).await;
        let etag = first.header("etag").to_owned();
        let known = get(&mut client, path, &[("if-none-match", &etag)]).await;
        let changed = send(&mut client, method, path, &[], &body).await;
        let second = get(&mut client, path, &[("if-none-match", &etag)]).await;

        assert_eq!(known.status, 304, "{path}");
        assert_eq!(known.header("cache-control"), first.header("cache-control"), "{path}");
        assert!(changed.status.is_success(), "{path}: {changed:?}");
        assert_eq!(second.status, 200, "{path}");
        assert_ne!(second.header("etag"), etag, "{path}");
    }
    let metrics = client.get("/api/dashboard/public/metrics").await;
    assert!(metrics.header("vary").contains("Accept-Encoding"), "{metrics:?}");
    assert!(metrics.body.len() > 1024 && metrics.json()["server"]["requests"].is_u64());
    assert_eq!(client.get("/api/large-dataset?rows=3").await.json().as_array().unwrap().len(), 3);
    problem(&client.get("/api/large-dataset?rows=all").await, 400);
});

each_protocol!(messages_of_a_room_are_asked_about_each_time, |protocol| async move {
    const PATH: &str = "/api/chat/cached/messages";
    let server = TestServer::builder().sample("chat").start().await;
    let mut client = server.client(protocol).await;
    let said = json!({ "from": "ada", "message": "hello" }).to_string();
    send(&mut client, Method::POST, PATH, &[], &said).await;

    let first = client.get(PATH).await;
    let etag = first.header("etag").to_owned();
    let known = get(&mut client, PATH, &[("if-none-match", &etag)]).await;
    send(&mut client, Method::POST, PATH, &[], &said).await;
    let second = get(&mut client, PATH, &[("if-none-match", &etag)]).await;
    let id = first.json()[0]["id"].as_i64().unwrap();
    let since = client.get(&format!("{PATH}?since={id}")).await;

    assert_eq!(first.header("cache-control"), "private, no-cache, max-age=0");
    assert_eq!((known.status.as_u16(), second.status.as_u16()), (304, 200));
    assert_eq!(second.json().as_array().unwrap().len(), 2);
    assert_eq!(since.json().as_array().unwrap().len(), 1);
});

each_protocol!(what_is_purged_is_named_by_url_or_key, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    client.get("/api/posts/2").await;

    for (body, status) in [
        (json!({ "url": "/api/posts/2" }), 200),
        (json!({ "key": "posts", "soft": true }), 200),
        (json!({ "url": "https://example.org/api/posts/2" }), 200),
        (json!({ "url": "posts" }), 422),
        (json!({ "key": "a b" }), 422),
        (json!({ "url": "/a", "key": "b" }), 422),
        (json!({}), 422),
    ] {
        let path = "/caching/purge";
        let purged = send(&mut client, Method::POST, path, &[], &body.to_string()).await;

        assert_eq!(purged.status, status, "{body}: {purged:?}");
        assert!(status != 200 || purged.json()["purged"].is_u64(), "{body}: {purged:?}");
    }
    let status = client.get("/caching/status").await;
    assert!(status.json()["hits"].is_u64() && status.header("cache-control") == "no-store");
});

/// What the cache did, which the manifest's `debug` tells.
fn did(answer: &Answer) -> &str {
    answer.header("x-cache-status")
}

each_protocol!(second_answer_comes_out_of_the_cache, |protocol| async move {
    let server = server_with_market("closed").await;
    let mut client = server.client(protocol).await;

    for path in [
        "/api/posts/1",
        "/api/articles",
        "/api/content",
        "/api/events/public",
        "/api/news/trending",
        "/api/stock/AAPL/price",
        "/api/sports/2/score",
        "/api/dashboard/public/metrics",
        "/api/realtime/config",
        "/api/realtime/metrics",
        "/api/config/static",
        "/api/config/semi-static",
        "/api/config/public-realtime",
        "/api/large-dataset",
    ] {
        let first = client.get(path).await;
        let second = client.get(path).await;
        let head = send(&mut client, Method::HEAD, path, &[], "").await;

        assert_eq!((did(&first), did(&second), did(&head)), ("MISS", "HIT", "HIT"), "{path}");
        assert!(second.header("cache-status").starts_with("wharf;hit"), "{path}: {second:?}");
        assert!(second.header("age").parse::<u64>().is_ok(), "{path}: {second:?}");
        assert_eq!(second.body, first.body, "{path}");
        assert_eq!(second.header("cache-control"), first.header("cache-control"), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
    let status = client.get("/caching/status").await.json();
    assert!(status["hits"].as_u64() >= Some(28), "{status}");
    assert!(status["entries"].as_u64() >= Some(14) && status["bytes"].as_u64() > Some(0));
});

each_protocol!(what_may_not_be_shared_is_not_stored, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;

    for path in [
        "/api/auth/token",
        "/api/dashboard/ada",
        "/api/dashboard/ada/widgets",
        "/api/config/dynamic",
        "/api/config/sensitive",
        "/api/config/sensitive-realtime",
        "/api/config/user-specific",
    ] {
        for _ in 0..3 {
            if !takes(protocol, path) {
                break;
            }
            let answer = client.get(path).await;

            assert!(matches!(did(&answer), "MISS" | "BYPASS"), "{path}: {answer:?}");
            assert!(!answer.headers.contains_key("age"), "{path}: {answer:?}");
        }
    }
    // And of a page with a key in its URL that counts visits, one copy is enough.
    let first = client.get("/api/posts?utm_source=a").await;
    let second = client.get("/api/posts?utm_source=b&utm_medium=c").await;
    assert_eq!((did(&first), did(&second)), ("MISS", "HIT"));
});

each_protocol!(variants_are_stored_apart, |protocol| async move {
    const PATH: &str = "/api/content";
    let server = server().await;
    let mut client = server.client(protocol).await;

    for (accept, language, outcome, text) in [
        ("application/json", "en", "MISS", "Welcome"),
        ("application/json", "fr", "MISS", "Bienvenue"),
        ("application/xml", "fr", "MISS", "Bienvenue"),
        ("application/json", "en", "HIT", "Welcome"),
        ("application/json", "fr", "HIT", "Bienvenue"),
    ] {
        let fields = [("accept", accept), ("accept-language", language)];
        let answer = get(&mut client, PATH, &fields).await;

        assert_eq!(did(&answer), outcome, "{fields:?}");
        assert!(answer.text().contains(text), "{fields:?}: {answer:?}");
    }
});

each_protocol!(
    what_is_asked_about_each_time_is_confirmed_without_its_content,
    |protocol| async move {
        let server = server().await;
        let mut client = server.client(protocol).await;

        let first = client.get("/api/realtime/feed/main").await;
        let second = client.get("/api/realtime/feed/main").await;

        assert_eq!((did(&first), did(&second)), ("MISS", "REVALIDATED"));
        assert_eq!((second.status.as_u16(), &second.body), (200, &first.body));
    }
);

each_protocol!(old_news_are_given_at_once_while_the_new_ones_are_fetched, |protocol| async move {
    const PATH: &str = "/api/news/trending";
    let server = server().await;
    let mut client = server.client(protocol).await;
    client.get(PATH).await;
    let news = json!({ "title": "New" }).to_string();
    let added = send(&mut client, Method::POST, "/api/news", &[], &news).await;

    let old = client.get(PATH).await;
    let mut latest = client.get(PATH).await;
    let limit = Instant::now() + Duration::from_secs(60);
    while !latest.text().contains("New") && Instant::now() < limit {
        sleep(Duration::from_millis(20)).await;
        latest = client.get(PATH).await;
    }

    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!((old.status.as_u16(), did(&old)), (200, "STALE"), "{old:?}");
    assert!(!old.text().contains("New"), "{old:?}");
    assert!(latest.text().contains("New"), "{latest:?}");
    assert_eq!(did(&latest), "HIT", "the client never waited: {latest:?}");
});

each_protocol!(purged_entries_are_asked_for_anew, |protocol| async move {
    const PATH: &str = "/api/config/static";
    let server = server().await;
    let mut client = server.client(protocol).await;

    for (purge, next) in [
        (json!({ "url": PATH }), "MISS"),
        (json!({ "key": "policies" }), "MISS"),
        (json!({ "url": "/api/config/*" }), "MISS"),
    ] {
        client.get(PATH).await;
        assert_eq!(did(&client.get(PATH).await), "HIT", "{purge}");
        let path = "/caching/purge";
        let purged = send(&mut client, Method::POST, path, &[], &purge.to_string()).await;

        assert_eq!(purged.json(), json!({ "purged": 1 }), "{purge}");
        assert_eq!(did(&client.get(PATH).await), next, "{purge}");
    }
});

each_protocol!(large_answers_are_coded_as_the_client_prefers, |protocol| async move {
    const METRICS: &str = "/api/dashboard/public/metrics";
    let server = server().await;
    let mut client = server.client(protocol).await;

    for path in ["/api/large-dataset", "/api/realtime/large_dataset", METRICS] {
        let plain = client.get(path).await;
        for (accept, coding) in [
            ("gzip", "gzip"),
            ("br;q=0.9, gzip;q=0.1", "br"),
            ("zstd, gzip;q=0.5", "zstd"),
            ("gzip;q=0.5, br;q=0.4", "gzip"),
            ("gzip;q=0, identity", ""),
        ] {
            let answer = get(&mut client, path, &[("accept-encoding", accept)]).await;
            let vary = answer.header("vary").to_ascii_lowercase();

            assert_eq!(answer.header("content-encoding"), coding, "{path} {accept}");
            assert!(vary.contains("accept-encoding"), "{path} {accept}: {answer:?}");
            if coding == "gzip" {
                let mut text = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&answer.body[..]);
                std::io::Read::read_to_end(&mut decoder, &mut text).unwrap();
                assert_eq!(text, plain.body, "{path}");
            }
            if path == METRICS {
                // One copy is stored: the coded forms are made of it, and so are their tags.
                let strong = plain.header("etag");
                let weak = format!("W/{strong}");
                let expected = if coding.is_empty() { strong } else { &weak };
                assert_eq!((answer.header("etag"), did(&answer)), (expected, "HIT"), "{accept}");
            }
        }
    }
    let small = get(&mut client, "/api/realtime/config", &[("accept-encoding", "gzip")]).await;
    assert_eq!(small.header("content-encoding"), "", "less than 1,024 bytes");
});

#[tokio::test]
async fn documents_survive_a_restart() {
    let server = server().await;
    let mut client = server.client(Protocol::H1).await;
    let put = json!({ "title": "Kept", "body": "b" }).to_string();
    let made =
        send(&mut client, Method::PUT, "/api/posts/kept", &[("if-none-match", "*")], &put).await;
    assert_eq!(made.status, 201, "{made:?}");
    drop(client);

    let server = server.restart().await;

    let found = server.h1().await.get("/api/posts/kept").await;
    assert_eq!((found.status.as_u16(), found.header("etag")), (200, made.header("etag")));
    let seeded = server.h1().await.get("/api/posts/1").await;
    assert_eq!(seeded.json()["title"], "Hello, cache");
}

#[tokio::test]
async fn curl_revalidates_what_it_has_saved() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let tag = folder.path().join("etag");
    let tag = tag.to_str().unwrap();
    let ca = server.ca();
    let https = format!("https://localhost:{}/api/posts/1", server.https.unwrap().port());
    let http = format!("http://{}/api/posts/1", server.http.unwrap());

    for (version, url) in
        [("--http1.1", &http), ("--http2-prior-knowledge", &http), ("--http2", &https)]
    {
        let ask = async |option| {
            let ca = ca.to_str().unwrap();
            let shown = ["-o", "-", "-w", "\n%{http_code}", url];
            let arguments = [&["-sS", version, "--cacert", ca, option, tag][..], &shown].concat();
            clients::program("curl", &arguments).await
        };
        let Some(first) = ask("--etag-save").await else { return };
        let second = ask("--etag-compare").await.unwrap();

        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let first = text(first.stdout);
        assert!(first.contains("Hello, cache") && first.ends_with("\n200"), "{version}: {first}");
        assert_eq!(text(second.stdout), "\n304", "{version}");
    }
}

#[tokio::test]
async fn caches_and_clients_of_others_understand_the_answers() {
    let server = server().await;
    let origin = format!("http://{}", server.http.unwrap());

    let Some(seen) = clients::node("caching.mjs", &[&origin]).await else { return };

    // undici's own cache keeps what it may, asks about the rest, and varies as it is told.
    assert_eq!(seen["post"], json!({ "asked": 1, "same": true }), "{seen}");
    assert_eq!(seen["token"], json!({ "asked": 2, "same": false }), "{seen}");
    assert_eq!(seen["feed"], json!({ "asked": 2, "same": true, "last": 304 }), "{seen}");
    assert_eq!(seen["languages"], json!(["en", "de", "en"]), "{seen}");
    assert_eq!(seen["languagesAsked"], 2, "{seen}");
}

#[tokio::test]
async fn aioquic_gets_304_and_412_over_http3() {
    let server = server().await;
    let url = format!("https://localhost:{}/api/posts/1", server.https.unwrap().port());
    let Some(first) = clients::python("h3_client.py", &[&url]).await else { return };
    let etag = |answer: &Value| {
        let fields = answer["headers"].as_array().unwrap();
        let field = fields.iter().find(|field| field[0] == "etag").unwrap();
        field[1].as_str().unwrap().to_owned()
    };
    let known = format!("if-none-match: {}", etag(&first[0]));

    let second = clients::python("h3_client.py", &["-H", &known, &url]).await.unwrap();
    let put = ["-X", "PUT", "-d", "{\"title\":\"t\",\"body\":\"b\"}", &url];
    let third = clients::python("h3_client.py", &put).await.unwrap();

    assert_eq!((&first[0]["status"], &second[0]["status"]), (&json!(200), &json!(304)));
    assert_eq!(second[0]["body"], "");
    assert_eq!(third[0]["status"], 428);
}

#[tokio::test]
async fn page_shows_each_policy_in_a_browser() {
    let server = server().await;
    let origin = format!("https://localhost:{}", server.https.unwrap().port());

    let Some(seen) = clients::browser("caching-page.mjs", &[&origin]).await else { return };

    assert_eq!(seen["errors"], json!([]), "{seen}");
    let rows = seen["rows"].as_array().unwrap();
    assert!(rows.len() >= 25, "{seen}");
    for row in rows {
        assert!(row["status"].as_str().unwrap().starts_with("200 "), "{row}");
        assert!(row["headers"].as_str().unwrap().contains("cache-control: "), "{row}");
        assert!(row["age"].as_str().unwrap().starts_with("age "), "{row}");
    }
    assert!(seen["revalidated"].as_str().unwrap().starts_with("304"), "{seen}");
    assert!(seen["changed"].as_str().unwrap().contains("Changed at"), "{seen}");
    assert!(seen["purged"].as_str().unwrap().ends_with(" purged"), "{seen}");
    assert_eq!(seen["ageCounts"], json!(true), "{seen}");
}
