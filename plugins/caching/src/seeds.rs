//! What the table has at first.

use serde_json::{Value, json};

/// A large set of data: readings of a station, made in place.
pub(crate) const READINGS: &str = "WITH RECURSIVE n (i) AS (
        SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000
    )
    INSERT INTO documents (kind, id, content, updated)
    SELECT 'reading', CAST(i AS TEXT), json_object(
        'id', i,
        'station', 'station-' || (i % 25),
        'temperature', ((i * 7919) % 400) / 10.0 - 5,
        'humidity', (i * 104729) % 101,
        'note', 'reading ' || i || ' of station ' || (i % 25)
    ), ?1 FROM n";

/// Kinds, ids and contents.
pub(crate) fn documents() -> Vec<(&'static str, String, Value)> {
    let mut documents = Vec::new();
    let mut add = |kind, id: &str, content| documents.push((kind, id.to_owned(), content));
    for (id, title, body) in [
        ("1", "Hello, cache", "The first copy is made here, the others are not."),
        ("2", "Strong validators", "The same tag stands for the same bytes."),
        ("3", "Lost updates", "Who changes a post says which version was read."),
    ] {
        add("post", id, json!({ "title": title, "body": body }));
    }
    for (id, title) in [("1", "What is fresh"), ("2", "What is stale"), ("3", "What is neither")] {
        add("article", id, json!({ "title": title, "author": "the editors" }));
    }
    for (id, title) in [("1", "Port reopens"), ("2", "Ferry keeps its timetable")] {
        add("news", id, json!({ "title": title }));
    }
    for (id, title, at) in
        [("1", "Harbour festival", "2030-06-01"), ("2", "Night of the lighthouses", "2030-08-17")]
    {
        add("event", id, json!({ "title": title, "date": at }));
    }
    for (language, title, text) in [
        ("en", "Welcome", "The same thing in the language and the form that you read."),
        ("fr", "Bienvenue", "La même chose, dans la langue et la forme que vous lisez."),
        ("de", "Willkommen", "Dasselbe in der Sprache und der Form, die Sie lesen."),
    ] {
        add("content", language, json!({ "language": language, "title": title, "text": text }));
    }
    for (symbol, price) in [
        ("AAPL", 227.52),
        ("AMZN", 186.33),
        ("GOOG", 165.14),
        ("MSFT", 430.81),
        ("NVDA", 121.44),
        ("TSLA", 249.98),
    ] {
        add("stock", symbol, json!({ "symbol": symbol, "price": price, "currency": "USD" }));
    }
    for (id, status, home, away) in
        [("1", "live", 2, 1), ("2", "finished", 0, 3), ("3", "live", 0, 0)]
    {
        let game = json!({
            "game": id, "status": status, "home": "Harbour", "away": "Island",
            "score": { "home": home, "away": away },
        });
        add("game", id, game);
    }
    add("config", "realtime", json!({ "poll_seconds": 5, "features": { "trending": true } }));
    for id in ["1", "main"] {
        add("feed", id, json!({ "items": ["The feed begins."] }));
    }
    documents
}
