//! What plugins keep: `wharf:host/sql`, `wasi:keyvalue`, and that both hold what they acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use wharf_tests::{Answer, Client, TestServer, each_protocol, guest};

const GRANTS: &str = "[capabilities]\nsql = true\nkeyvalue = true\n";
/// Without end.
const RUNAWAY: &str =
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";

async fn server(name: &str, limits: &str) -> TestServer {
    TestServer::builder()
        .plugin("db", &guest(name))
        .manifest("db", &format!("{GRANTS}{limits}"))
        .start()
        .await
}

async fn run(client: &mut Client, path: &str, statement: &Value) -> Answer {
    client.post(&format!("/db/{path}"), statement.to_string()).await
}

async fn execute(client: &mut Client, sql: &str) -> Value {
    run(client, "execute", &json!([sql])).await.json()
}

async fn number(client: &mut Client, sql: &str) -> Value {
    run(client, "query", &json!([sql])).await.json()["batches"][0][0][0].clone()
}

async fn values_and_batches(mut client: Client) {
    execute(&mut client, "CREATE TABLE IF NOT EXISTS t (a, b, c, d, e)").await;
    execute(&mut client, "DELETE FROM t").await;
    let values = json!([null, -5, 0.5, "ü,\"\n", { "blob": [0, 255] }]);
    let insert = json!(["INSERT INTO t VALUES (?, ?, ?, ?, ?)", values]);

    let inserted = run(&mut client, "execute", &insert).await.json();
    let read =
        run(&mut client, "query", &json!(["SELECT * FROM t WHERE b = ?", [-5]])).await.json();
    let many = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
         SELECT i FROM n";
    let batches = run(&mut client, "query?max=1000", &json!([many])).await.json();

    assert_eq!(inserted["changes"], 1);
    assert_eq!(read, json!({ "columns": ["a", "b", "c", "d", "e"], "batches": [[values]] }));
    let batches = batches["batches"].as_array().unwrap();
    assert_eq!(batches.iter().map(|batch| batch.as_array().unwrap().len()).sum::<usize>(), 3000);
    assert!(batches.iter().all(|batch| batch.as_array().unwrap().len() <= 1000));
}

each_protocol!(sql_is_the_same_over_every_protocol, async |protocol| {
    let server = server("p3_sql", "").await;
    values_and_batches(server.client(protocol).await).await;
});

#[tokio::test]
async fn what_is_not_granted_or_not_allowed_is_refused_by_name() {
    let server = TestServer::builder()
        .plugin("db", &guest("p3_sql"))
        .plugin("pairs", &guest("p3_keyvalue"))
        .plugin("granted", &guest("p3_sql"))
        .manifest("granted", GRANTS)
        .start()
        .await;
    let mut client = server.h1().await;

    let refused = run(&mut client, "execute", &json!(["SELECT 1"])).await.json();
    assert_eq!(refused["error"], "NotGranted");
    let refused = client.get("/pairs?op=get&key=a").await;
    assert!(refused.text().contains("keyvalue = true"), "{}", refused.text());

    let outside = server.dir().join("outside.db");
    for sql in [
        format!("ATTACH '{}' AS other", outside.display()),
        format!("VACUUM INTO '{}'", outside.display()),
        "SELECT load_extension('x')".to_owned(),
        "PRAGMA synchronous = OFF".to_owned(),
        "PRAGMA journal_mode = DELETE".to_owned(),
        "BEGIN".to_owned(),
        "CREATE TEMP TABLE x (a)".to_owned(),
        "CREATE VIRTUAL TABLE x USING csv(filename = '/etc/passwd')".to_owned(),
    ] {
        for path in ["execute", "query"] {
            let answer = client.post(&format!("/granted/{path}"), json!([sql]).to_string()).await;
            assert_eq!(answer.json()["error"], "Refused", "{sql}");
        }
    }
    for sql in ["SELECT readfile('/etc/passwd')", "SELEC", "SELECT 1; SELECT 2", "SELECT ?"] {
        let answer = client.post("/granted/query", json!([sql]).to_string()).await;
        assert_eq!(answer.json()["error"], "Syntax", "{sql}");
    }
    assert!(!outside.exists());
}

#[tokio::test]
async fn transactions_are_isolated_and_end_with_their_exchange() {
    let server = server("p3_sql", "").await;
    let mut client = server.h1().await;
    execute(&mut client, "CREATE TABLE t (a UNIQUE)").await;
    let count = "SELECT count(*) FROM t";

    let statements = json!([["INSERT INTO t VALUES (1)"], [count]]);
    let mut writer = server.h1().await;
    let (written, before) =
        tokio::join!(run(&mut writer, "transaction?pause_ms=500", &statements), async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            number(&mut client, count).await
        });
    assert_eq!(written.json()[1], json!([[1]]));
    assert_eq!(before, 0);
    assert_eq!(number(&mut client, count).await, 1);

    for (end, statement) in [("rollback", 2), ("drop", 3), ("leak", 4)] {
        let statements = json!([["INSERT INTO t VALUES (?)", [statement]]]);
        run(&mut client, &format!("transaction?end={end}"), &statements).await;
        // The writer is free for the next well before the busy limit, whatever the guest kept.
        let begun = Instant::now();
        assert_eq!(execute(&mut client, "DELETE FROM t WHERE a > 1").await["changes"], 0, "{end}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{end}");
    }
    let batch = json!([["INSERT INTO t VALUES (5)"], ["INSERT INTO t VALUES (1)"]]);
    let failed = run(&mut client, "batch", &batch).await.json();
    assert_eq!((&failed["error"], &failed["kind"]), (&json!("Constraint"), &json!("Unique")));
    let reading = json!([["INSERT INTO t VALUES (6)"], [count]]);
    let read = run(&mut client, "transaction?kind=read", &reading).await.json();
    assert_eq!((&read[0]["error"], &read[1]), (&json!("Refused"), &json!([[1]])));
}

#[tokio::test]
async fn who_waits_for_the_writer_is_told_after_the_busy_limit() {
    let server = server("p3_sql", "[instances]\nconcurrent = 1\n").await;
    let mut client = server.h1().await;
    execute(&mut client, "CREATE TABLE t (a)").await;
    let mut holder = server.h1().await;

    let holding = json!([["INSERT INTO t VALUES (1)"]]);
    let (held, busy) =
        tokio::join!(run(&mut holder, "transaction?pause_ms=8000", &holding), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            execute(&mut client, "INSERT INTO t VALUES (2)").await
        });

    assert_eq!(busy["error"], "Busy");
    assert_eq!(held.status, 200);
    assert_eq!(number(&mut client, "SELECT sum(a) FROM t").await, 1);
}

#[tokio::test]
async fn a_runaway_query_ends_with_its_client_or_at_the_deadline_and_stops_nobody() {
    let server = server("p3_sql", "[limits]\nrequest-timeout = \"4s\"\n").await;
    let mut client = server.h1().await;
    execute(&mut client, "CREATE TABLE t (a)").await;
    let write = format!("INSERT INTO t {RUNAWAY}");
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let stat = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("stat")).ok()
        };
        // Running now: state `R` after the name.
        tasks
            .filter_map(stat)
            .filter(|stat| stat.contains("(wharf-sql") && stat.contains(") R"))
            .count()
    };

    // The client leaves: reads and writes end, and the writer is free at once.
    for sql in [RUNAWAY, &write] {
        let mut leaver = server.h1().await;
        let path = if sql == RUNAWAY { "query" } else { "execute" };
        let left = timeout(Duration::from_millis(700), run(&mut leaver, path, &json!([sql]))).await;
        assert!(left.is_err(), "it has no end");
        drop(leaver);
        assert_eq!(number(&mut client, "SELECT 7").await, 7);
        let begun = Instant::now();
        let done = execute(&mut client, "INSERT INTO t VALUES (1)").await;
        assert_eq!(done["changes"], 1, "{done}");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    // It stays: the request's limit ends it; others read and write meanwhile.
    let mut waiting = server.h1().await;
    let endless = json!([RUNAWAY]);
    let (late, ()) = tokio::join!(run(&mut waiting, "query", &endless), async {
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(number(&mut client, "SELECT 7").await, 7);
            assert_eq!(execute(&mut client, "INSERT INTO t VALUES (1)").await["changes"], 1);
            assert!(begun.elapsed() < Duration::from_secs(3));
        }
    });
    assert!(late.status == 504 || late.json()["error"] == "Interrupted", "{}", late.text());
    let begun = Instant::now();
    while threads() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "a statement runs on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn pairs_are_kept_counted_swapped_and_listed() {
    let server = server("p3_keyvalue", "").await;
    let mut client = server.h1().await;
    let mut op = async |query: &str| client.get(&format!("/db?op={query}")).await.json();

    assert_eq!(op("get&key=a").await, json!(null));
    op("set&key=a&value=x").await;
    assert_eq!(op("get&key=a").await, json!("x"));
    assert_eq!(op("get&key=a&bucket=default").await, json!("x"));
    assert_eq!(op("exists&key=a&bucket=other").await, json!(false));
    assert_eq!(op("increment&key=n&value=5").await, json!(5));
    assert_eq!(op("increment&key=n&value=-7").await, json!(-2));
    assert!(op("increment&key=a&value=1").await["error"].is_string());
    assert_eq!(op("update&key=a&value=y").await, json!("xy"));
    op("set-many&key=k,l&value=1,2").await;
    assert_eq!(op("get-many&key=l,none,k").await, json!([["l", "2"], ["none", null], ["k", "1"]]));
    let page = op("keys").await;
    assert_eq!((&page["keys"], &page["cursor"]), (&json!(["a", "n", "k", "l"]), &json!(null)));
    op("delete-many&key=k,none").await;
    op("delete&key=n").await;
    assert_eq!(op("keys").await["keys"], json!(["a", "l"]));
    drop(client);

    let counts = (0..40).map(async |_| {
        let mut client = server.h1().await;
        client.get("/db?op=increment&key=count&value=1").await.json().as_i64().unwrap()
    });
    let mut counts = futures_util::future::join_all(counts).await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_0_2_plugin_has_both_by_plain_functions() {
    let server = server("p2_store", "").await;
    let mut client = server.h1().await;
    let mut get = async |path: &str| client.get(&format!("/db/{path}")).await.json();

    assert_eq!(get("sql?q=CREATE%20TABLE%20t(a)").await, json!({ "changes": 0 }));
    assert_eq!(get("sql?q=INSERT%20INTO%20t%20VALUES(7),(8)").await, json!({ "changes": 2 }));
    assert_eq!(get("sql?q=SELECT%20a,'x'%20FROM%20t").await, json!([[7, "x"], [8, "x"]]));
    assert_eq!(get("keyvalue?op=set&key=a&value=5").await, json!(null));
    assert_eq!(get("keyvalue?op=get&key=a").await, json!("5"));
    assert_eq!(get("keyvalue?op=increment&key=a&value=3").await, json!(8));
    assert_eq!(get("keyvalue?op=keys").await, json!({ "keys": ["a"], "cursor": null }));
    assert_eq!(get("keyvalue?op=get-many&key=a,b").await, json!([["a", "8"], null]));
}

/// How often the server is killed: `WHARF_KILLS`; CI has less patience than a release.
fn kills() -> usize {
    std::env::var("WHARF_KILLS").map_or(5, |text| text.parse().unwrap())
}

/// Writes until the server is gone; gives the numbers that were acknowledged.
async fn write_until_killed(server: &TestServer, writer: usize, round: usize) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    let mut client = server.h1().await;
    for i in 0.. {
        let number = (round * 64 + writer) * 1_000_000 + i;
        let request = if writer.is_multiple_of(2) {
            let insert = json!(["INSERT INTO t VALUES (?)", [number]]).to_string();
            client.request(http::Method::POST, "/db/execute").body(insert.into()).unwrap()
        } else {
            let path = format!("/pairs?op=set&key={number}&value={number}");
            client.request(http::Method::GET, &path).body(bytes::Bytes::new()).unwrap()
        };
        match client.try_send(request).await {
            Ok(answer) if answer.status == 200 => acknowledged.push(number),
            Ok(answer) => panic!("{}", answer.text()),
            Err(_killed) => break,
        }
    }
    acknowledged
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let mut server = TestServer::builder()
        .plugin("db", &guest("p3_sql"))
        .manifest("db", GRANTS)
        .plugin("pairs", &guest("p3_keyvalue"))
        .manifest("pairs", GRANTS)
        .start()
        .await;
    let created = execute(&mut server.h1().await, "CREATE TABLE t (n INTEGER PRIMARY KEY)").await;
    assert_eq!(created["changes"], 0, "{created}");
    let mut acknowledged = BTreeMap::new();

    for round in 0..kills() {
        let writers = (0..8).map(|writer| write_until_killed(&server, writer, round));
        let kill = async {
            // At another moment each time.
            tokio::time::sleep(Duration::from_millis(120 + 37 * (round as u64 % 11))).await;
            server.signal("KILL").await;
        };
        let (written, ()) = tokio::join!(futures_util::future::join_all(writers), kill);
        server = server.restart().await;

        for (writer, numbers) in written.into_iter().enumerate() {
            acknowledged.entry(writer % 2).or_insert_with(Vec::new).extend(numbers);
        }
        let mut client = server.h1().await;
        let (rows, keys) = (&acknowledged[&0], &acknowledged[&1]);
        assert!(rows.len() > round && keys.len() > round, "nothing was written");
        let check = json!([
            "SELECT count(*) FROM json_each(?) AS a LEFT JOIN t ON t.n = a.value WHERE t.n IS NULL",
            [json!(rows).to_string()]
        ]);
        let lost = run(&mut client, "query", &check).await.json();
        assert_eq!(lost["batches"], json!([[[0]]]), "round {round}");
        assert_eq!(number(&mut client, "PRAGMA integrity_check").await, "ok");
        for keys in keys.chunks(200) {
            let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
            let found = client.get(&format!("/pairs?op=get-many&key={}", names.join(","))).await;
            for pair in found.json().as_array().unwrap() {
                assert_eq!(pair[0], pair[1], "round {round}");
            }
        }
    }
}

#[tokio::test]
async fn an_export_is_csv_with_every_row() {
    let server = TestServer::builder().sample("export").start().await;
    let mut client = server.h1().await;

    let few = client.get("/export/csv?rows=120").await;
    let none = client.get("/export/csv?rows=0").await;
    let default = client.get("/export/csv").await;

    assert_eq!(few.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(few.header("content-disposition"), "attachment; filename=\"users.csv\"");
    let rows = parse_csv(&few.text());
    assert_eq!(rows.len(), 121);
    assert_eq!(rows[0], ["id", "name", "email", "country", "created"]);
    assert!(rows.iter().enumerate().skip(1).all(|(i, row)| row[0] == i.to_string()));
    for special in [',', '"', '\n'] {
        assert!(rows.iter().any(|row| row[1].contains(special)), "{special:?}");
    }
    assert_eq!(none.text(), "id,name,email,country,created\r\n");
    assert_eq!(parse_csv(&default.text()).len(), 100_001);
    for rows in ["x", "-1", "1e3", "", "20000001"] {
        let bad = client.get(&format!("/export/csv?rows={rows}")).await;
        assert_eq!(bad.status, 400, "{rows}");
        assert_eq!(bad.header("content-type"), "application/problem+json");
    }
    assert_eq!(client.post("/export/csv", "").await.status, 405);
    let head = client.request(http::Method::HEAD, "/export/csv").body(bytes::Bytes::new()).unwrap();
    let head = client.send(head).await;
    assert_eq!((head.status.as_u16(), head.text().len()), (200, 0));
    assert_eq!(head.header("content-type"), "text/csv; charset=utf-8");
}

/// RFC 4180, literally.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut field = String::new();
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(characters.next(), Some('\n'));
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(other),
        }
    }
    assert!(field.is_empty() && row.is_empty() && !quoted);
    rows
}
