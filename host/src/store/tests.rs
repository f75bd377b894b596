//! The store without a guest.

use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use std::time::{Duration, Instant};

/// An exchange that a test ends.
#[derive(Default)]
struct Exchange {
    left: AtomicBool,
    over: AtomicBool,
}

impl Asker for Exchange {
    fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn claim() -> Claim {
    Claim { asker: None, time: Duration::from_secs(60) }
}

fn database() -> (TempDir, Arc<Database>) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let store = Store::new(dir.path().to_owned()).expect("a thread can be started");
    let database = store.sql("shop").expect("its folder can be made");
    (dir, database)
}

fn sql(text: &str) -> Statement {
    with(text, vec![])
}

fn with(text: &str, params: Vec<Value>) -> Statement {
    Statement { sql: text.to_owned(), params }
}

async fn number(database: &Database, text: &str) -> i64 {
    let cursor = database.query(&claim(), sql(text)).await.expect("it is right");
    match cursor.next(1).await.expect("it can be read").as_slice() {
        [row] => match row.as_slice() {
            [Value::Integer(number)] => *number,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Without end.
const RUNAWAY: &str =
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
const RUNAWAY_WRITE: &str = "INSERT INTO t (a) WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL \
     SELECT i + 1 FROM n WHERE i > 0) SELECT max(i) FROM n";

#[tokio::test]
async fn values_come_back_as_they_went() {
    let (_dir, database) = database();
    let values = vec![
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(-0.5),
        Value::Text("ü\0,\"\n".to_owned()),
        Value::Blob(vec![0, 255]),
    ];
    database.execute(&claim(), sql("CREATE TABLE t (a, b, c, d, e)")).await.expect("it is right");
    let insert = with("INSERT INTO t VALUES (?, ?, ?, ?, ?)", values.clone());

    let done = database.execute(&claim(), insert).await.expect("it is right");
    let cursor = database.query(&claim(), sql("SELECT * FROM t")).await.expect("it is right");

    assert_eq!(done, Executed { changes: 1, last_insert_id: 1 });
    assert_eq!(cursor.columns(), ["a", "b", "c", "d", "e"]);
    assert_eq!(cursor.next(10).await, Ok(vec![values]));
    assert_eq!(cursor.next(10).await, Ok(vec![]));
}

#[tokio::test]
async fn a_large_result_is_read_in_batches() {
    let (_dir, database) = database();
    let text = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
         SELECT i, printf('%0100d', i) FROM n";
    let cursor = database.query(&claim(), sql(text)).await.expect("it is right");

    let mut sizes = Vec::new();
    let mut last = 0;
    loop {
        let rows = cursor.next(usize::MAX).await.expect("it goes on");
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            assert_eq!(row[0], Value::Integer(last + 1));
            last += 1;
        }
        sizes.push(rows.len());
    }

    assert_eq!(last, 10_000);
    assert!(sizes.iter().all(|size| *size < 5000), "{sizes:?}");
}

#[tokio::test]
async fn faults_have_their_kinds() {
    let (_dir, database) = database();
    for text in [
        "CREATE TABLE p (id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL DEFAULT 1, c CHECK (c > 0))",
        "CREATE TABLE f (p REFERENCES p (id), s)",
        "CREATE TABLE s (i INTEGER) STRICT",
        "INSERT INTO p (id, u, c) VALUES (1, 1, 1)",
    ] {
        database.execute(&claim(), sql(text)).await.expect(text);
    }

    for (text, kind) in [
        ("INSERT INTO p (id) VALUES (1)", Constraint::PrimaryKey),
        ("INSERT INTO p (u) VALUES (1)", Constraint::Unique),
        ("INSERT INTO p (n) VALUES (NULL)", Constraint::NotNull),
        ("INSERT INTO p (c) VALUES (0)", Constraint::Check),
        ("INSERT INTO f (p) VALUES (9)", Constraint::ForeignKey),
        ("INSERT INTO s VALUES ('x')", Constraint::Datatype),
    ] {
        let error = database.execute(&claim(), sql(text)).await.expect_err(text);

        assert!(
            matches!(error, StoreError::Constraint { kind: it, .. } if it == kind),
            "{error:?}"
        );
    }
    for text in ["SELEC 1", "SELECT * FROM nothing", "SELECT ?", "SELECT 1; SELECT 2", "", "-- x"] {
        let error = database.query(&claim(), sql(text)).await.expect_err(text);
        assert!(matches!(error, StoreError::Syntax(_)), "{text}: {error:?}");
    }
    let error = database.query(&claim(), sql("SELECT zeroblob(9000000)")).await.expect_err("large");
    assert!(matches!(error, StoreError::TooLarge(_)), "{error:?}");
}

#[tokio::test]
async fn nothing_leads_out_of_the_database() {
    let (dir, database) = database();
    database.execute(&claim(), sql("CREATE TABLE t (a)")).await.expect("it is right");
    let out = dir.path().join("out.db");
    let out = out.display();

    for text in [
        format!("ATTACH '{out}' AS other"),
        format!("/**/ -- x\n ATTACH DATABASE 'file:{out}?mode=rwc' AS other"),
        "DETACH main".to_owned(),
        "VACUUM".to_owned(),
        format!("VACUUM INTO '{out}'"),
        format!("; VACUUM INTO '{out}'"),
        "SELECT load_extension('x')".to_owned(),
        "BEGIN".to_owned(),
        "COMMIT".to_owned(),
        "SAVEPOINT x".to_owned(),
        "RELEASE together".to_owned(),
        "ROLLBACK".to_owned(),
        "PRAGMA synchronous = OFF".to_owned(),
        "PRAGMA journal_mode = DELETE".to_owned(),
        "PRAGMA journal_mode".to_owned(),
        "PRAGMA writable_schema = ON".to_owned(),
        "PRAGMA trusted_schema = ON".to_owned(),
        "PRAGMA foreign_keys = OFF".to_owned(),
        "PRAGMA max_page_count = 1000000000".to_owned(),
        "PRAGMA hard_heap_limit = 1".to_owned(),
        format!("PRAGMA temp_store_directory = '{out}'"),
        "PRAGMA query_only = OFF".to_owned(),
        "PRAGMA wal_checkpoint".to_owned(),
        "SELECT * FROM pragma_database_list".to_owned(),
        "CREATE TEMP TABLE x (a)".to_owned(),
        "CREATE VIRTUAL TABLE x USING csv(filename = '/etc/passwd')".to_owned(),
    ] {
        let executed = database.execute(&claim(), sql(&text)).await.expect_err(&text);
        assert!(matches!(executed, StoreError::Refused(_)), "{text}: {executed:?}");
        let queried = database.query(&claim(), sql(&text)).await.expect_err(&text);
        assert!(matches!(queried, StoreError::Refused(_)), "{text}: {queried:?}");
        let transaction = database.begin(&claim(), Access::Write).await.expect("it is free");
        let executed = transaction.execute(sql(&text)).await.expect_err(&text);
        assert!(matches!(executed, StoreError::Refused(_)), "{text}: {executed:?}");
        transaction.finish(true).await.expect("it goes on");
    }
    for text in ["UPDATE sqlite_schema SET sql = ''", "SELECT readfile('/etc/passwd')"] {
        database.execute(&claim(), sql(text)).await.expect_err(text);
    }
    let files: Vec<_> = std::fs::read_dir(dir.path()).expect("it is there").collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[tokio::test]
async fn what_runs_away_ends_at_its_deadline_or_when_its_asker_leaves() {
    let (_dir, database) = database();
    database.execute(&claim(), sql("CREATE TABLE t (a)")).await.expect("it is right");
    let short = Claim { asker: None, time: Duration::from_millis(200) };

    for text in [RUNAWAY, RUNAWAY_WRITE] {
        let begun = Instant::now();
        let late = if text == RUNAWAY {
            database.query(&short, sql(text)).await.map(|_| ())
        } else {
            database.execute(&short, sql(text)).await.map(|_| ())
        };
        assert_eq!(late.expect_err("it has no end"), StoreError::Interrupted);
        assert!(begun.elapsed() < Duration::from_secs(10));

        let exchange = Arc::new(Exchange::default());
        let left = Claim { asker: Some(Arc::clone(&exchange) as _), time: Duration::from_secs(60) };
        let run = async {
            if text == RUNAWAY {
                database.query(&left, sql(text)).await.map(|_| ())
            } else {
                database.execute(&left, sql(text)).await.map(|_| ())
            }
        };
        let leave = async {
            assert_eq!(number(&database, "SELECT 7").await, 7);
            exchange.left.store(true, Ordering::Relaxed);
        };
        let (gone, ()) = tokio::join!(run, leave);
        assert_eq!(gone.expect_err("it has no end"), StoreError::Interrupted);
    }

    // Dropped, it is given up: the writer is free for the next.
    let own = claim();
    let dropped = database.execute(&own, sql(RUNAWAY_WRITE));
    assert!(tokio::time::timeout(Duration::from_millis(100), dropped).await.is_err());
    database.execute(&claim(), sql("INSERT INTO t VALUES (1)")).await.expect("the writer is free");
    assert_eq!(number(&database, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_transaction_is_alone_and_all_or_nothing() {
    let (_dir, database) = database();
    database.execute(&claim(), sql("CREATE TABLE t (a UNIQUE)")).await.expect("it is right");
    let count = "SELECT count(*) FROM t";

    let reading = database.begin(&claim(), Access::Read).await.expect("it is free");
    let writing = database.begin(&claim(), Access::Write).await.expect("it is free");
    writing.execute(sql("INSERT INTO t VALUES (1)")).await.expect("it is right");
    writing.execute(sql("INSERT INTO t VALUES (1)")).await.expect_err("it is there");
    let seen = writing.query(sql(count)).await.expect("it is right").next(1).await;
    assert_eq!(seen, Ok(vec![vec![Value::Integer(1)]]));
    assert_eq!(number(&database, count).await, 0);
    writing.finish(true).await.expect("it can be written");

    assert_eq!(number(&database, count).await, 1);
    let seen = reading.query(sql(count)).await.expect("it is right").next(1).await;
    assert_eq!(seen, Ok(vec![vec![Value::Integer(0)]]));
    let refused = reading.execute(sql("INSERT INTO t VALUES (2)")).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(writing.finish(true).await, Err(StoreError::Ended));

    let dropped = database.begin(&claim(), Access::Write).await.expect("it is free");
    dropped.execute(sql("INSERT INTO t VALUES (3)")).await.expect("it is right");
    drop(dropped);
    let batch = vec![sql("INSERT INTO t VALUES (4)"), sql("INSERT INTO t VALUES (4)")];
    database.execute_batch(&claim(), batch).await.expect_err("they are the same");
    assert_eq!(number(&database, count).await, 1);
}

#[tokio::test]
async fn a_transaction_ends_with_its_exchange_and_at_its_deadline() {
    let (_dir, database) = database();
    database.execute(&claim(), sql("CREATE TABLE t (a)")).await.expect("it is right");
    let exchange = Arc::new(Exchange::default());
    let of_exchange =
        Claim { asker: Some(Arc::clone(&exchange) as _), time: Duration::from_secs(60) };
    let short = Claim { asker: None, time: Duration::from_millis(100) };

    for claim_of_it in [of_exchange, short] {
        let kept = database.begin(&claim_of_it, Access::Write).await.expect("it is free");
        exchange.over.store(true, Ordering::Relaxed);
        let next = database.execute(&claim(), sql("INSERT INTO t VALUES (1)")).await;

        next.expect("the writer is free before the busy limit");
        assert_eq!(kept.finish(true).await, Err(StoreError::Ended));
    }
}

#[tokio::test]
async fn who_waits_for_longer_than_the_busy_limit_is_told() {
    let (_dir, database) = database();
    let _kept = database.begin(&claim(), Access::Write).await.expect("it is free");

    tokio::time::pause();
    let busy = database.execute(&claim(), sql("CREATE TABLE t (a)")).await;

    assert_eq!(busy, Err(StoreError::Busy));
}

#[tokio::test]
async fn writes_beside_a_bad_one_are_kept() {
    let (_dir, database) = database();
    for text in [
        "CREATE TABLE t (a INTEGER PRIMARY KEY)",
        "CREATE TABLE late (t REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)",
    ] {
        database.execute(&claim(), sql(text)).await.expect(text);
    }
    // Holds the writer, so that the others come together.
    let first = database.begin(&claim(), Access::Write).await.expect("it is free");
    let of = |text: &'static str| {
        let database = Arc::clone(&database);
        async move { database.execute(&claim(), sql(text)).await }
    };
    let group = async {
        tokio::join!(
            of("INSERT INTO t VALUES (1)"),
            of("INSERT OR ROLLBACK INTO t VALUES (1)"),
            of("INSERT INTO t VALUES (2)"),
            of("INSERT INTO late VALUES (99)"),
            of("INSERT INTO t VALUES (3)"),
        )
    };
    let (results, finished) = tokio::join!(group, async {
        tokio::task::yield_now().await;
        first.finish(true).await
    });

    finished.expect("nothing was written");
    assert!(results.0.is_ok() && results.2.is_ok() && results.4.is_ok(), "{results:?}");
    assert!(matches!(results.1, Err(StoreError::Constraint { .. })), "{results:?}");
    assert!(matches!(results.3, Err(StoreError::Constraint { .. })), "{results:?}");
    assert_eq!(number(&database, "SELECT sum(a) FROM t").await, 6);
    assert_eq!(number(&database, "SELECT count(*) FROM late").await, 0);
}

#[tokio::test]
async fn pairs_are_set_listed_counted_and_swapped() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let store = Store::new(dir.path().to_owned()).expect("a thread can be started");
    let pairs = store.pairs("shop").expect("its folder can be made");
    let (own, other) = (Pairs::bucket("").unwrap(), Pairs::bucket("other").unwrap());
    let claim = claim();
    let key = || "a".to_owned();

    assert_eq!(pairs.get(&claim, &own, key()).await, Ok(None));
    let many = (0..1000).map(|i| (format!("k{i}"), vec![1])).collect();
    pairs.set(&claim, &own, many).await.expect("it is right");
    pairs.set(&claim, &own, vec![(key(), b"x".to_vec())]).await.expect("it is right");
    let (page, after) = pairs.list(&claim, &own, 0).await.expect("it is right");
    let (rest, end) = pairs.list(&claim, &own, after.unwrap()).await.expect("it is right");
    assert_eq!((page.len(), rest, end), (1000, vec![key()], None));
    assert_eq!(pairs.list(&claim, &other, 0).await, Ok((vec![], None)));
    assert_eq!(pairs.exists(&claim, &other, key()).await, Ok(false));

    assert!(pairs.increment(&claim, &own, key(), Delta::Signed(1)).await.is_err());
    for (by, sum) in [(5, 5), (-7, -2)] {
        let added = pairs.increment(&claim, &other, key(), Delta::Signed(by)).await;
        assert_eq!(added, Ok(sum));
    }
    assert!(pairs.increment(&claim, &other, key(), Delta::Signed(i64::MIN)).await.is_err());
    assert!(pairs.increment(&claim, &other, key(), Delta::Unsigned(1)).await.is_err());

    let seen = pairs.state(&claim, &own, key()).await.expect("it is right").map(|(it, _)| it);
    let swap = |seen, value: &[u8]| pairs.swap(&claim, &own, key(), seen, value.to_vec());
    assert_eq!(swap(seen, b"y").await, Ok(Swap::Done));
    assert!(matches!(swap(seen, b"z").await, Ok(Swap::Changed(Some((_, value)))) if value == b"y"));
    let now = pairs.state(&claim, &own, key()).await.expect("it is right").map(|(it, _)| it);
    pairs.delete(&claim, &own, vec![key()]).await.expect("it is right");
    pairs.set(&claim, &own, vec![(key(), b"y".to_vec())]).await.expect("it is right");
    assert!(matches!(swap(now, b"z").await, Ok(Swap::Changed(Some(_)))));
}

#[tokio::test]
async fn many_increments_at_once_all_count() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let store = Store::new(dir.path().to_owned()).expect("a thread can be started");
    let pairs = store.pairs("shop").expect("its folder can be made");
    let bucket = Pairs::bucket("default").unwrap();
    let claim = claim();

    let all = (0..300).map(|_| pairs.increment(&claim, &bucket, "n".to_owned(), Delta::Signed(1)));
    let sums = futures_util::future::join_all(all).await;

    let mut sums: Vec<_> = sums.into_iter().map(|sum| sum.expect("it is a number")).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=300).collect::<Vec<_>>());
}
