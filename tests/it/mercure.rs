//! The sample plugin `mercure`: the protocol of both versions, and the attacks that its security section
//! names. Foreign clients are in `mercure_clients.rs`.

#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use wharf_tests::{Answer, Client, Incoming, Protocol, TestServer, each_protocol};

pub(crate) const HUB: &str = "/.well-known/mercure";
const SUBSCRIPTIONS: &str = "/.well-known/mercure/subscriptions";
/// The key of `plugin.toml`.
pub(crate) const KEY: &str = "!ChangeThisMercureHubJWTSecretKey!";
const AUDIENCE: &str = "https://localhost:8443/.well-known/mercure";
const DETAIL: &str = "https://mercure.rocks/authorization-detail";
/// What an event may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// As it is, which is how it is to be tried.
pub(crate) async fn sample() -> TestServer {
    TestServer::builder().sample("mercure").start().await
}

/// With a name of its own for tokens.
async fn server() -> TestServer {
    server_with(&format!(
        "key = \"{KEY}\"\nalgorithm = \"HS256\"\naudience = \"{AUDIENCE}\"\ncors-origins = \"*\""
    ))
    .await
}

/// With other settings than those of `plugin.toml`.
async fn server_with(config: &str) -> TestServer {
    let manifest = std::fs::read_to_string("../plugins/mercure/plugin.toml").unwrap();
    let (before, rest) = manifest.split_once("[config]\n").unwrap();
    let (_, after) = rest.split_once("[limits]").unwrap();
    let manifest = format!("{before}[config]\n{config}\n[limits]{after}");
    TestServer::builder()
        .sample("mercure")
        .file("mercure/plugin.toml", manifest.as_bytes())
        .start()
        .await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.as_ref().chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            text.push(DIGITS[(group >> (18 - 6 * place) & 63) as usize].into());
        }
    }
    text
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let signature = base64url(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(key: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    move |message| ring::hmac::sign(&key, message).as_ref().to_vec()
}

/// A token of 0.x.
pub(crate) fn legacy(claim: Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &json!({ "mercure": claim }), hs256(KEY))
}

/// An access token of 1.0, with changes to its claims.
fn access(details: Value, changes: Value) -> String {
    let mut claims = json!({"exp": now() + 600, "aud": AUDIENCE, "authorization_details": details});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    signed(&json!({"alg": "HS256", "typ": "at+jwt"}), &claims, hs256(KEY))
}

fn may(actions: &[&str], topics: Value) -> Value {
    json!([{"type": DETAIL, "actions": actions, "topics": topics}])
}

fn everything() -> String {
    legacy(json!({"publish": ["*"], "subscribe": ["*"]}))
}

fn query(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
    pairs.join("&")
}

async fn post(client: &mut Client, token: Option<&str>, body: String) -> Answer {
    let mut request = client
        .request(Method::POST, HUB)
        .header("content-type", "application/x-www-form-urlencoded");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    client.send(request.body(Bytes::from(body)).unwrap()).await
}

/// Publishes with the right to everything; the id.
async fn publish(client: &mut Client, fields: &[(&str, &str)]) -> String {
    let answer = post(client, Some(&everything()), query(fields)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    answer.text()
}

async fn get(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client.request(Method::GET, path);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.body(Bytes::new()).unwrap()).await
}

/// An event stream as a client reads it.
struct Events {
    incoming: Incoming,
    /// A connection is there as long as its client.
    _client: Client,
}

#[derive(Debug, Default, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: String,
    retry: String,
}

impl Events {
    async fn open(mut client: Client, fields: &[(&str, &str)], token: Option<&str>) -> Self {
        let path = format!("{HUB}?{}", query(fields));
        let bearer = token.map(|token| format!("Bearer {token}"));
        let header: Vec<_> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let incoming = client.open_with(&path, &header).await;
        assert_eq!(incoming.status, 200);
        assert_eq!(incoming.headers["content-type"], "text/event-stream");
        Self { incoming, _client: client }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut data: Option<String> = None;
        loop {
            let line = timeout(SOON, self.incoming.line()).await.expect("an event came")?;
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match name {
                "data" => match &mut data {
                    Some(data) => *data = format!("{data}\n{value}"),
                    None => data = Some(value),
                },
                "id" => event.id = value,
                "event" => event.name = value,
                "retry" => event.retry = value,
                "" if line.is_empty() => {
                    if let Some(data) = data.take() {
                        event.data = data;
                        return Some(event);
                    }
                    event = Event::default();
                }
                _ => assert_eq!(name, "", "a field that is none: {line}"),
            }
        }
    }

    async fn data(&mut self) -> String {
        self.next().await.expect("the stream goes on").data
    }
}

each_protocol!(updates_reach_who_follows_them_in_both_versions, |protocol| async move {
    let server = server().await;
    let mut publisher = server.client(protocol).await;
    let topic = "https://example.com/books/1";
    for follow in [
        vec![("topic", topic)],
        vec![("topic", "https://example.com/books/{id}")],
        vec![("topic", "*")],
        vec![("match", "other"), ("match", topic)],
        vec![("match_exact", topic)],
        vec![("match_urlpattern", "https://example.com/books/:id")],
        vec![("match_urlpattern", "*")],
    ] {
        let mut events = Events::open(server.client(protocol).await, &follow, None).await;

        publish(&mut publisher, &[("topic", "https://example.com/films/1"), ("data", "no")]).await;
        let fields = [
            ("topic", topic),
            ("data", "one\ntwo"),
            ("type", "note"),
            ("retry", "7"),
            ("id", "urn:x"),
        ];
        let id = publish(&mut publisher, &fields).await;

        assert_eq!(id, "urn:x");
        let mut event = events.next().await.unwrap();
        if event.data == "no" {
            assert_eq!(follow[0].1, "*");
            event = events.next().await.unwrap();
        }
        let expected = Event {
            id: "urn:x".into(),
            name: "note".into(),
            data: "one\ntwo".into(),
            retry: "7".into(),
        };
        assert_eq!(event, expected, "{follow:?}");
    }
});

each_protocol!(alternates_reach_their_followers_once, |protocol| async move {
    let server = server().await;
    let mut publisher = server.client(protocol).await;
    let follow = [("topic", "b"), ("topic", "a")];
    let mut events = Events::open(server.client(protocol).await, &follow, None).await;

    let id = publish(&mut publisher, &[("topic", "a"), ("topic", "b"), ("data", "1")]).await;
    publish(&mut publisher, &[("topic", "b"), ("data", "2")]).await;

    assert!(id.starts_with("urn:uuid:"), "{id}");
    assert_eq!(events.next().await.unwrap(), Event { id, data: "1".into(), ..Event::default() });
    assert_eq!(events.data().await, "2");
});

each_protocol!(private_updates_reach_only_who_may_read_them, |protocol| async move {
    let server = server().await;
    let mut publisher = server.client(protocol).await;
    let topic = "https://example.com/users/1";
    let follow = [("match_urlpattern", "https://example.com/*")];
    let exact = json!([{"match": topic}]);
    let pattern = json!([{"match": "https://example.com/users/:id", "match_type": "urlpattern"}]);
    let cases = [
        (None, false),
        (Some(legacy(json!({"subscribe": ["https://example.com/users/2"]}))), false),
        (Some(legacy(json!({"publish": ["*"]}))), false),
        (Some(legacy(json!({"subscribe": ["https://example.com/users/{id}"]}))), true),
        (Some(access(may(&["publish"], exact.clone()), json!({}))), false),
        (
            Some(access(
                may(&["subscribe"], json!([{"match": "https://example.com/users/:id"}])),
                json!({}),
            )),
            false,
        ),
        (Some(access(may(&["subscribe"], exact), json!({}))), true),
        (Some(access(may(&["subscribe"], pattern), json!({}))), true),
    ];
    let mut streams = Vec::new();
    for (token, reads) in &cases {
        let client = server.client(protocol).await;
        streams.push((Events::open(client, &follow, token.as_deref()).await, *reads));
    }

    publish(&mut publisher, &[("topic", topic), ("data", "private"), ("private", "off")]).await;
    publish(&mut publisher, &[("topic", topic), ("data", "public")]).await;

    for (index, (events, reads)) in streams.iter_mut().enumerate() {
        if *reads {
            assert_eq!(events.data().await, "private", "{index}");
        }
        assert_eq!(events.data().await, "public", "{index}");
    }
    // What is kept is not given to others than what was sent.
    for (index, (token, reads)) in cases.iter().enumerate() {
        let fields = [follow[0], ("last_event_id", "earliest")];
        let client = server.client(protocol).await;
        let mut events = Events::open(client, &fields, token.as_deref()).await;
        if *reads {
            assert_eq!(events.data().await, "private", "{index}");
        }
        assert_eq!(events.data().await, "public", "{index}");
    }
});

each_protocol!(tokens_that_do_not_hold_are_refused, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let all = || may(&["publish", "subscribe"], json!([{"match": "*"}]));
    let claims = json!({"mercure": {"publish": ["*"], "subscribe": ["*"]}});
    let header = |alg: &str| json!({ "alg": alg });
    let good = everything();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let expired = json!({"mercure": claims["mercure"], "exp": now() - 1});
    let early = json!({"mercure": claims["mercure"], "nbf": now() + 300});
    for (what, token, status) in [
        ("another key", signed(&header("HS256"), &claims, hs256("x")), 401),
        ("no signature", signed(&header("none"), &claims, |_| Vec::new()), 401),
        ("none, signed", signed(&header("none"), &claims, hs256(KEY)), 401),
        ("another algorithm", signed(&header("HS512"), &claims, hs256(KEY)), 401),
        ("changed claims", format!("{}.{signature}", message.replace('.', ".A")), 401),
        ("a part less", message.to_owned(), 401),
        ("a part more", format!("{good}.x"), 401),
        ("expired", signed(&header("HS256"), &expired, hs256(KEY)), 401),
        ("not yet valid", signed(&header("HS256"), &early, hs256(KEY)), 401),
        ("1.0, expired", access(all(), json!({"exp": now() - 1})), 401),
        ("1.0, without an end", access(all(), json!({"exp": null})), 401),
        ("1.0, not yet valid", access(all(), json!({"nbf": now() + 300})), 401),
        ("1.0, for another hub", access(all(), json!({"aud": "https://other.example/"})), 401),
        (
            "1.0, a detail with a fault",
            access(
                may(&["publish"], json!([{"match": "/(x", "match_type": "urlpattern"}])),
                json!({}),
            ),
            401,
        ),
        ("1.0, the claim of 0.x", access(json!([]), json!({"mercure": {"publish": ["*"]}})), 403),
        (
            "0.x, the claim of 1.0",
            signed(&header("HS256"), &json!({"authorization_details": all()}), hs256(KEY)),
            401,
        ),
        ("for subscribers", legacy(json!({"subscribe": ["*"]})), 403),
        ("for another topic", legacy(json!({"publish": ["b"]})), 403),
        ("for some of the topics", legacy(json!({"publish": ["a"]})), 403),
    ] {
        let topics = if what == "for some of the topics" { "topic=a&topic=b" } else { "topic=a" };
        let answer = post(&mut client, Some(&token), format!("{topics}&data=x")).await;

        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let challenge = answer.header("www-authenticate");
        let error = if status == 401 { "invalid_token" } else { "insufficient_scope" };
        assert!(
            challenge.starts_with("Bearer error=\"") && challenge.contains(error),
            "{what}: {challenge}"
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
        if status == 401 {
            let bearer = format!("Bearer {token}");
            let follow =
                get(&mut client, &format!("{HUB}?topic=a"), &[("authorization", &bearer)]).await;
            assert_eq!(follow.status, 401, "{what}");
        }
    }

    let huge = json!({"mercure": {"publish": ["*"]}, "x": "x".repeat(13_000)});
    let huge = signed(&header("HS256"), &huge, hs256(KEY));
    let mut other = server.client(protocol).await;
    let huge = post(&mut other, Some(&huge), "topic=a&data=x".into()).await;
    assert!([401, 431].contains(&huge.status.as_u16()), "{huge:?}");

    let none = post(&mut client, None, "topic=a&data=x".into()).await;
    assert_eq!(none.status, 401);
    assert!(!none.header("www-authenticate").contains("error="), "{none:?}");
    assert!(none.header("www-authenticate").contains("resource_metadata=\"http"), "{none:?}");
    // Nothing of a token is in what the server says.
    assert!(!server.log().contains(signature) && !server.printed("mercure").contains(signature));
});

each_protocol!(what_would_forge_fields_or_topics_is_refused, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let mut events =
        Events::open(server.client(protocol).await, &[("topic", "*")], Some(&everything())).await;
    for (body, status) in [
        ("topic=a&data=x&id=1%0Adata:%20forged", 400),
        ("topic=a&data=x&id=1%0Ddata:%20forged", 400),
        ("topic=a&data=x&id=1%00", 400),
        ("topic=a&data=x&type=x%0A%0Adata:%20forged", 400),
        ("topic=a%0Ab&data=x", 400),
        ("topic=a%00b&data=x", 400),
        ("topic=a&data=x&retry=1%0Aid:%202", 400),
        ("topic=a&data=x&retry=-5", 400),
        ("topic=a&data=x&id=%23forged", 400),
        ("topic=a&data=x&id=earliest", 400),
        ("topic=a&data=x&type=mercure", 400),
        ("topic=a%E2%80%AEb&data=x", 400),
        ("topic=%FF&data=x", 400),
        ("topic=*&data=x", 400),
        ("data=x", 400),
        ("topic=/.well-known/mercure/subscriptions/x/y&data=x", 403),
        ("topic=/.well-known/%256Dercure&topic=/.well-known/%6Dercure/x&data=x", 403),
        ("topic=https://evil.example/.well-known/mercure/x&data=x", 403),
        ("topic=../.well-known/x/../mercure/x&data=x", 403),
    ] {
        let answer = post(&mut client, Some(&everything()), body.to_owned()).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let long = format!("topic={}&data=x", "a".repeat(2000));
    assert_eq!(post(&mut client, Some(&everything()), long).await.status, 413);
    let much = format!("topic=a&data={}", "x".repeat((1 << 20) + 1));
    assert_eq!(post(&mut client, Some(&everything()), much).await.status, 413);
    let json = client
        .request(Method::POST, HUB)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", everything()));
    assert_eq!(client.send(json.body(Bytes::from("{}")).unwrap()).await.status, 415);

    // Data may have lines; none of them is a field of its own.
    let data = "x\nid: forged\r\nevent: forged\r\rdata: y";
    publish(&mut client, &[("topic", "a"), ("data", data), ("id", "real")]).await;
    publish(&mut client, &[("topic", "a"), ("data", data), ("id", "real")]).await;
    for _replayed in 0..2 {
        let mut event = events.next().await.unwrap();
        while event.data.contains("Subscription") {
            event = events.next().await.unwrap();
        }
        let expected = "x\nid: forged\nevent: forged\n\ndata: y";
        assert_eq!(
            (event.id.as_str(), event.name.as_str(), event.data.as_str()),
            ("real", "", expected)
        );
    }
});

each_protocol!(
    subscriptions_that_cannot_be_are_refused_and_hostile_ones_bounded,
    |protocol| async move {
        let server = server().await;
        let mut client = server.client(protocol).await;
        let long = "a".repeat(1025);
        let blow_up = format!("/({})", "a?".repeat(400));
        for fields in [
            vec![],
            vec![("x", "y")],
            vec![("match", "")],
            vec![("match", "a\nb")],
            vec![("match_regexp", "a")],
            vec![("matchURLPattern", "a")],
            vec![("Match", "a")],
            vec![("match_urlpattern", "/(unclosed")],
            vec![("match_urlpattern", "/((a+)+)$")],
            vec![("match_urlpattern", "/((?:(?:(?:a{50}){50}){50}){50})")],
            vec![("match_urlpattern", &blow_up)],
            vec![("match", &long)],
        ] {
            let answer = get(&mut client, &format!("{HUB}?{}", query(&fields)), &[]).await;
            assert_eq!(answer.status, 400, "{fields:?}: {answer:?}");
            assert!(!answer.text().contains("regex"), "{answer:?}");
        }
        // More than a subscriber may have; 10,000 are more than a URL, which curl tries.
        for many in [101, 1_000, 5_000] {
            let topics: Vec<_> = (0..many).map(|n| format!("topic={n}")).collect();
            let answer = get(&mut client, &format!("{HUB}?{}", topics.join("&")), &[]).await;
            assert!([400, 414, 431].contains(&answer.status.as_u16()), "{many}: {}", answer.status);
            client = server.client(protocol).await;
        }
        // Patterns that take as long as they can do not hold up who publishes.
        let patterns: Vec<_> =
            (0..60).map(|n| format!("https://example.com/([ab]*a[ab]{{40}}x{n})")).collect();
        let fields: Vec<_> =
            patterns.iter().map(|text| ("match_urlpattern", text.as_str())).collect();
        let _held = Events::open(server.client(protocol).await, &fields, None).await;
        let topic = format!("https://example.com/{}", "abba".repeat(200));
        let mut events =
            Events::open(server.client(protocol).await, &[("match", &topic)], None).await;
        for n in 0..5 {
            publish(&mut client, &[("topic", &topic), ("data", &n.to_string())]).await;
            assert_eq!(events.data().await, n.to_string());
        }
    }
);

#[tokio::test]
async fn who_comes_back_goes_on_from_the_last_event_also_after_a_restart() {
    let server = server().await;
    let mut publisher = server.client(Protocol::H2).await;
    let topic = "https://example.com/log";
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(publish(&mut publisher, &[("topic", topic), ("data", &n.to_string())]).await);
    }

    let resume = async |server: &TestServer, fields: &[(&str, &str)], header: Option<&str>| {
        let path = format!("{HUB}?{}", query(&[&[("topic", topic)], fields].concat()));
        let mut client = server.client(Protocol::H2).await;
        let header: Vec<_> = header.into_iter().map(|id| ("last-event-id", id)).collect();
        let incoming = client.open_with(&path, &header).await;
        let told = incoming.headers.get("mercure-last-event-id").cloned();
        assert_eq!(incoming.headers.get("last-event-id"), told.as_ref());
        (Events { incoming, _client: client }, told.map(|told| told.to_str().unwrap().to_owned()))
    };
    let check = async |server: &TestServer| {
        let all = ["0", "1", "2", "3"];
        for (fields, header, first, told) in [
            (vec![], Some(ids[1].as_str()), 2, ids[1].as_str()),
            (vec![("lastEventID", ids[1].as_str())], None, 2, &ids[1]),
            (vec![("Last-Event-ID", &ids[0])], None, 1, &ids[0]),
            (vec![("last_event_id", &ids[0])], Some(ids[2].as_str()), 3, &ids[2]),
            (vec![("last_event_id", "earliest")], None, 0, "earliest"),
            (vec![], Some("urn:uuid:unknown"), 0, "earliest"),
        ] {
            let (mut events, said) = resume(server, &fields, header).await;

            assert_eq!(said.as_deref(), Some(told), "{fields:?} {header:?}");
            for expected in &all[first..] {
                assert_eq!(events.data().await, *expected, "{fields:?} {header:?}");
            }
        }
        assert_eq!(resume(server, &[], None).await.1, None);
    };
    check(&server).await;

    let server = server.restart().await;

    check(&server).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let server = server().await;
    let mut publisher = server.client(Protocol::H2).await;
    let claims = json!({"mercure": {"subscribe": ["*"]}, "exp": now() + 3});
    let token = signed(&json!({"alg": "HS256"}), &claims, hs256(KEY));
    let mut events =
        Events::open(server.client(Protocol::H2).await, &[("topic", "a")], Some(&token)).await;

    publish(&mut publisher, &[("topic", "a"), ("data", "x"), ("private", "")]).await;

    assert_eq!(events.data().await, "x");
    assert_eq!(events.next().await, None);
    let bearer = format!("Bearer {token}");
    let again = get(&mut publisher, &format!("{HUB}?topic=a"), &[("authorization", &bearer)]).await;
    assert_eq!(again.status, 401);
}

each_protocol!(who_comes_and_goes_is_told_and_listed, |protocol| async move {
    let server = server().await;
    let mut client = server.client(protocol).await;
    let watcher = access(
        may(
            &["subscribe"],
            json!([{"match": "/.well-known/mercure/subscriptions{/*}?", "match_type": "urlpattern"}]),
        ),
        json!({}),
    );
    let watch = [("match_urlpattern", "/.well-known/mercure/subscriptions/*/*")];
    let mut told = Events::open(server.client(protocol).await, &watch, Some(&watcher)).await;
    let own: Value = serde_json::from_str(&told.data().await).unwrap();
    assert_eq!(own["match"], watch[0].1);

    let payload = json!([{
        "type": DETAIL, "actions": ["subscribe"], "topics": [{"match": "*"}], "payload": {"name": "Ada"},
    }]);
    let token = access(payload, json!({}));
    let follow = [("match", "https://example.com/a b"), ("topic", "https://example.com/{x}")];
    let somebody = Events::open(server.client(protocol).await, &follow, Some(&token)).await;
    let mut came: Vec<Value> = Vec::new();
    for _ in 0..2 {
        came.push(serde_json::from_str(&told.data().await).unwrap());
    }

    let who = came[0]["subscriber"].as_str().unwrap().to_owned();
    assert!(who.starts_with("urn:uuid:"), "{who}");
    let encoded = who.replace(':', "%3A");
    let exact = format!("{SUBSCRIPTIONS}/exact/https%3A%2F%2Fexample.com%2Fa%20b/{encoded}");
    let old = format!("{SUBSCRIPTIONS}/https%3A%2F%2Fexample.com%2F%7Bx%7D/{encoded}");
    let context = "https://mercure.rocks/";
    assert_eq!(
        came[0],
        json!({
            "@context": context, "id": exact, "type": "Subscription", "match_type": "exact",
            "match": "https://example.com/a b", "subscriber": who, "active": true, "payload": {"name": "Ada"},
        })
    );
    assert_eq!(
        came[1],
        json!({
            "@context": context, "id": old, "type": "Subscription", "topic": "https://example.com/{x}",
            "subscriber": who, "active": true, "payload": {"name": "Ada"},
        })
    );

    let bearer = format!(
        "Bearer {}",
        legacy(json!({"subscribe": ["/.well-known/mercure/subscriptions{/a,b,c}"]}))
    );
    let all = get(&mut client, SUBSCRIPTIONS, &[("authorization", &bearer)]).await;
    assert_eq!(all.status, 200, "{all:?}");
    assert_eq!(all.header("content-type"), "application/ld+json");
    assert!(all.header("link").contains("rel=\"mercure\""));
    let all = all.json();
    assert_eq!((&all["id"], &all["type"]), (&json!(SUBSCRIPTIONS), &json!("Subscriptions")));
    assert!(
        all["last_event_id"].as_str().unwrap().starts_with('#')
            && all["lastEventID"] == all["last_event_id"]
    );
    assert_eq!(all["subscriptions"].as_array().unwrap().len(), 3, "{all}");
    for (path, count) in [
        (exact.rsplit_once('/').unwrap().0, 1),
        (old.rsplit_once('/').unwrap().0, 1),
        ("/.well-known/mercure/subscriptions/exact/nothing", 0),
    ] {
        let some = get(&mut client, path, &[("authorization", &bearer)]).await.json();
        assert_eq!(some["subscriptions"].as_array().unwrap().len(), count, "{path}: {some}");
    }
    for path in [&exact, &old] {
        let one = get(&mut client, path, &[("authorization", &bearer)]).await.json();
        assert_eq!((&one["id"], &one["active"]), (&json!(path), &json!(true)));
        assert!(one["last_event_id"].is_string());
    }
    let nobody = format!("{SUBSCRIPTIONS}/exact/a/urn%3Auuid%3Anobody");
    assert_eq!(get(&mut client, &nobody, &[("authorization", &bearer)]).await.status, 404);
    assert_eq!(get(&mut client, SUBSCRIPTIONS, &[]).await.status, 401);
    let other = format!("Bearer {}", legacy(json!({"subscribe": ["https://example.com/{x}"]})));
    assert_eq!(get(&mut client, SUBSCRIPTIONS, &[("authorization", &other)]).await.status, 403);

    drop(somebody);
    for _ in 0..2 {
        let gone: Value = serde_json::from_str(&told.data().await).unwrap();
        assert_eq!((&gone["subscriber"], &gone["active"]), (&json!(who), &json!(false)));
    }
    assert_eq!(get(&mut client, &exact, &[("authorization", &bearer)]).await.status, 404);
    // Who may not read them is not told.
    let mut public = Events::open(server.client(protocol).await, &[("match", "*")], None).await;
    publish(&mut client, &[("topic", "a"), ("data", "x")]).await;
    assert_eq!(public.data().await, "x");
});

each_protocol!(clients_find_the_hub_and_what_it_asks_for, |protocol| async move {
    let server = sample().await;
    let mut client = server.client(protocol).await;

    let book = client.get("/mercure/books/1").await;
    let links: Vec<_> =
        book.headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    let topic = book.json()["@id"].as_str().unwrap().to_owned();
    assert!(topic.starts_with("http") && topic.ends_with("/mercure/books/1"), "{topic}");
    assert_eq!(links[0], format!("<{topic}>; rel=\"self\""));
    assert!(
        links[1].starts_with("</.well-known/mercure>; rel=\"mercure\"; last-event-id=\"#"),
        "{links:?}"
    );

    // What is published between the resource and its subscription is not missed.
    let last = links[1].split("last-event-id=\"").nth(1).unwrap().trim_end_matches('"');
    publish(&mut client, &[("topic", &topic), ("data", "meanwhile")]).await;
    let fields = [("match", topic.as_str()), ("last_event_id", last)];
    let mut events = Events::open(server.client(protocol).await, &fields, None).await;
    assert_eq!(events.incoming.headers["mercure-last-event-id"], last);
    assert_eq!(events.data().await, "meanwhile");

    let metadata =
        client.get("/.well-known/oauth-protected-resource/.well-known/mercure").await.json();
    let hub = metadata["resource"].as_str().unwrap();
    assert!(hub.starts_with("http") && hub.ends_with(HUB), "{metadata}");
    for (audience, status) in [(hub, 200), (AUDIENCE, 401)] {
        let token = access(may(&["publish"], json!([{"match": "a"}])), json!({"aud": audience}));
        let answer = post(&mut client, Some(&token), "topic=a&data=x".into()).await;
        assert_eq!(answer.status, status, "{audience}");
    }
    assert_eq!(metadata["authorization_details_types_supported"][0], DETAIL);
    assert_eq!(metadata["bearer_methods_supported"], json!(["header", "query"]));
    assert_eq!(metadata["mercure_cookie"], "__Secure-mercure_access_token");

    let page = client.get("/mercure").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let old = client.get("/.well-known/mercure/ui/").await;
    assert_eq!((old.status.as_u16(), old.header("location")), (307, "/mercure"));
    let put = client.request(Method::PUT, HUB).body(Bytes::new()).unwrap();
    let put = client.send(put).await;
    assert_eq!((put.status.as_u16(), put.header("allow")), (405, "GET, POST, OPTIONS"));
});

#[tokio::test]
async fn pages_of_other_origins_use_the_hub_as_it_is_set() {
    let list = format!(
        "key = \"{KEY}\"\nalgorithm = \"HS256\"\naudience = \"{AUDIENCE}\"\n\
         cors-origins = \"https://app.example.com\"\nanonymous = \"off\"\nquery-tokens = \"off\""
    );
    let open = server().await;
    let closed = server_with(&list).await;
    for (server, origin, allowed, credentials) in [
        (&open, "https://app.example.com", "*", ""),
        (&closed, "https://app.example.com", "https://app.example.com", "true"),
        (&closed, "https://evil.example", "", ""),
    ] {
        let mut client = server.client(Protocol::H2).await;
        let preflight = client
            .request(Method::OPTIONS, HUB)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        let preflight = client.send(preflight.body(Bytes::new()).unwrap()).await;
        let refused = get(&mut client, SUBSCRIPTIONS, &[("origin", origin)]).await;

        assert_eq!((preflight.status.as_u16(), refused.status.as_u16()), (204, 401));
        for answer in [&preflight, &refused] {
            let field =
                |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
            assert_eq!(field("access-control-allow-origin"), allowed, "{origin}");
            assert_eq!(field("access-control-allow-credentials"), credentials, "{origin}");
        }
        if !allowed.is_empty() {
            assert!(preflight.header("access-control-allow-headers").contains("authorization"));
        }
    }
    let mut client = closed.client(Protocol::H2).await;
    assert_eq!(get(&mut client, &format!("{HUB}?match=a"), &[]).await.status, 401);
    let token = everything();
    let query = format!("{HUB}?match=a&authorization={token}");
    assert_eq!(get(&mut client, &query, &[]).await.status, 401);
    // A cookie publishes from the hub's own pages only.
    for (origin, status) in [(None, 403), (Some("https://evil.example"), 403), (Some("own"), 200)] {
        let own = format!("https://{}", closed.https.unwrap());
        let mut request = client
            .request(Method::POST, HUB)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", format!("mercureAuthorization={token}"));
        if let Some(origin) = origin {
            let authority = client.request(Method::GET, "/").body(()).unwrap();
            let authority =
                authority.uri().authority().map_or(own.clone(), |a| format!("https://{a}"));
            request = request.header("origin", if origin == "own" { &authority } else { origin });
        }
        let answer = client.send(request.body(Bytes::from("topic=a&data=x")).unwrap()).await;
        assert_eq!(answer.status, status, "{origin:?}: {answer:?}");
    }
}

#[tokio::test]
async fn asymmetric_keys_and_issuers_are_taken_from_the_settings() {
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    let random = ring::rand::SystemRandom::new();
    let ecdsa = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ecdsa.as_ref(), &random)
        .unwrap();
    let eddsa = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let eddsa = Ed25519KeyPair::from_pkcs8(eddsa.as_ref()).unwrap();
    let point = ecdsa.public_key().as_ref();
    let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
    let publisher =
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "p", "x": x, "y": y});
    let subscriber =
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": base64url(eddsa.public_key())});
    let server = server_with(&format!(
        "publisher-key = '{publisher}'\nsubscriber-key = '{{\"keys\":[{subscriber}]}}'\n\
         audience = \"https://hub.example.com/.well-known/mercure\"\nissuer = \"https://auth.example.com\""
    ))
    .await;
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": "https://auth.example.com", "aud": ["https://hub.example.com/.well-known/mercure"], "exp": now() + 60,
            "authorization_details": may(&["publish", "subscribe"], json!([{"match": "*"}])),
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let es256 = |message: &[u8]| ecdsa.sign(&random, message).unwrap().as_ref().to_vec();
    let ed25519 = |message: &[u8]| eddsa.sign(message).as_ref().to_vec();
    let header = |alg: &str| json!({"alg": alg, "typ": "at+jwt", "kid": "p"});
    let publishers = signed(&header("ES256"), &claims(json!({})), es256);
    let subscribers =
        signed(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &claims(json!({})), ed25519);

    let mut client = server.client(Protocol::H2).await;
    let mut events =
        Events::open(server.client(Protocol::H2).await, &[("match", "a")], Some(&subscribers))
            .await;
    let answer = post(&mut client, Some(&publishers), "topic=a&data=x&private".into()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(events.data().await, "x");

    let public = publisher.to_string();
    for (what, token) in [
        ("the other role's key", subscribers),
        (
            "another issuer",
            signed(&header("ES256"), &claims(json!({"iss": "https://evil.example"})), es256),
        ),
        ("no issuer", signed(&header("ES256"), &claims(json!({"iss": null})), es256)),
        ("another audience", signed(&header("ES256"), &claims(json!({"aud": AUDIENCE})), es256)),
        (
            "the public key as a secret",
            signed(&header("HS256"), &claims(json!({})), hs256(&public)),
        ),
        (
            "a key of its own",
            signed(
                &json!({"alg": "ES256", "typ": "at+jwt", "jwk": publisher}),
                &claims(json!({})),
                ed25519,
            ),
        ),
    ] {
        let answer = post(&mut client, Some(&token), "topic=a&data=x".into()).await;
        assert_eq!(answer.status, 401, "{what}");
    }
    let page = client.get("/mercure").await.text();
    assert!(page.contains("data-key=\"\"") && !page.contains(KEY));
}

#[tokio::test]
async fn wrong_settings_are_told_and_nothing_is_let_in() {
    let server = server_with("key = \"secret-value\"\nalgorithm = \"none\"").await;
    let mut client = server.client(Protocol::H2).await;

    let answer = get(&mut client, &format!("{HUB}?match=a"), &[]).await;

    assert_eq!(answer.status, 500);
    server.until_printed("mercure", "its algorithm is none of").await;
    assert!(!server.printed("mercure").contains("secret-value"));
}
