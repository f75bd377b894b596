//! The shared cache in front of plugins: what its operator does with it, what manifests say of it, and
//! what hostile clients and plugins try. `caching.rs` has its policies, `proxy.rs` a foreign origin.

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use wharf_tests::{Answer, Client, Protocol, TestServer, each_protocol, guest};

async fn server(manifest: &str, config: &str) -> TestServer {
    let manifest = format!("routes = [\"/*\"]\n[capabilities]\nkeyvalue = true\n{manifest}");
    TestServer::builder()
        .plugin("kept", &guest("p3_cached"))
        .manifest("kept", &manifest)
        .config(config)
        .start()
        .await
}

async fn ask(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client.request(Method::GET, path);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.body(Bytes::new()).unwrap()).await
}

/// The number of the call that made an answer.
fn call(answer: &Answer) -> u32 {
    answer.header("x-call").parse().unwrap_or_else(|_| panic!("{answer:?}"))
}

fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").contains(";hit")
}

/// Whether an answer is stored, by whether the second request gets the first one's.
async fn is_stored(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> bool {
    let first = call(&ask(client, path, fields).await);
    call(&ask(client, path, fields).await) == first
}

/// The sum of a metric's series whose labels have this text.
fn metric(metrics: &str, name: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[tokio::test]
async fn the_operator_purges_and_sees_what_the_cache_does() {
    let server = server("", "").await;
    let mut client = server.h1().await;
    let mut admin = Client::h1(server.admin.unwrap()).await;
    let (one, two) = ("/shelf/a?count&set=surrogate-key:red%20blue", "/shelf/b?count");

    for (order, soft) in [
        (json!({ "url": one }), false),
        (json!({ "url": "/shelf/*" }), false),
        (json!({ "key": "blue" }), false),
        (json!({ "key": ["none", "red"], "soft": true }), true),
        (json!({ "plugin": "kept", "all": true }), false),
        (json!({ "all": true }), false),
    ] {
        let before = call(&ask(&mut client, one, &[]).await);
        let other = call(&ask(&mut client, two, &[]).await);
        let request =
            admin.request(Method::POST, "/purge").header("content-type", "application/json");
        let purged = admin.send(request.body(Bytes::from(order.to_string())).unwrap()).await;
        let after = ask(&mut client, one, &[]).await;
        let beside = call(&ask(&mut client, two, &[]).await);

        assert_eq!(purged.status, 200, "{order} {purged:?}");
        assert_ne!(call(&after), before, "{order}");
        let all = order.get("all").is_some() || order["url"] == "/shelf/*";
        assert_eq!(beside != other, all, "{order}");
        let why = if soft { "fwd=stale" } else { "fwd=uri-miss" };
        assert!(after.header("cache-status").contains(why), "{order} {after:?}");
        assert_eq!(purged.json()["purged"], if all { 2 } else { 1 }, "{order}");
    }
    let nothing = admin.request(Method::POST, "/purge").body(Bytes::new()).unwrap();
    assert_eq!(admin.send(nothing).await.status, 400);

    assert!(is_hit(&ask(&mut client, one, &[]).await));
    ask(&mut client, "/never?count&cc=no-store", &[]).await;
    let metrics = server.metrics().await;
    for (name, label, least) in [
        ("wharf_cache_requests", "hit", 1),
        ("wharf_cache_requests", "miss", 1),
        ("wharf_cache_refused", "no-store", 1),
        ("wharf_cache_entries", "", 2),
        ("wharf_cache_bytes", "", 200),
    ] {
        assert!(metric(&metrics, name, label) >= least, "{name} {label}\n{metrics}");
    }
}

each_protocol!(manifests_say_what_is_kept_and_by_what, |protocol| async move {
    let server = server(
        "[cache]\nignore-query = [\"utm_*\"]\nkey-headers = [\"x-tenant\"]\n\
         [[cache.route]]\nroute = \"/off/*\"\nenabled = false\n\
         [[cache.route]]\nroute = \"/small/*\"\nlargest = \"50B\"\n\
         [[cache.route]]\nroute = \"/brief/*\"\nignore-query = [\"*\"]\n",
        "",
    )
    .await;
    let mut client = server.client(protocol).await;

    assert!(is_stored(&mut client, "/on?count", &[]).await);
    assert!(!is_stored(&mut client, "/off/x?count", &[]).await);
    assert!(!is_stored(&mut client, "/small/x?count", &[]).await, "100 bytes");
    assert!(is_stored(&mut client, "/small/x?count&bytes=50", &[]).await);
    let first = call(&ask(&mut client, "/on?utm_source=a&count", &[]).await);
    assert_eq!(call(&ask(&mut client, "/on?count&utm_medium=b", &[]).await), first);
    let tenant = call(&ask(&mut client, "/on?count", &[("x-tenant", "a")]).await);
    assert_ne!(tenant, first);
    assert_ne!(call(&ask(&mut client, "/on?count", &[("x-tenant", "b")]).await), tenant);
    assert_eq!(call(&ask(&mut client, "/on?count", &[("x-tenant", "a")]).await), tenant);
});

#[tokio::test]
async fn a_crowd_at_a_cold_object_is_one_call() {
    let server = server("", "").await;
    let mut crowd = JoinSet::new();
    for number in 0..60 {
        let mut client =
            server.client([Protocol::H1Tls, Protocol::H2, Protocol::H3][number % 3]).await;
        crowd.spawn(async move { call(&ask(&mut client, "/cold?count&delay_ms=500", &[]).await) });
    }

    assert_eq!(crowd.join_all().await, vec![1; 60]);
}

#[tokio::test]
async fn a_new_version_answers_at_once() {
    let server = server("", "").await;
    let mut client = server.h1().await;
    assert_eq!(ask(&mut client, "/page", &[]).await.text().len(), 100);
    assert!(is_hit(&ask(&mut client, "/page", &[]).await));

    server.install("kept", &guest("p3_hello"));
    let answer = server.until_get("/page", |answer| answer.body.len() != 100).await;

    assert!(!is_hit(&answer), "{answer:?}");
}

// Poisoning: what one client says and the key does not know must be in nobody else's answer.

each_protocol!(a_clients_word_about_earlier_hops_is_in_no_answer, |protocol| async move {
    const NAMES: [&str; 6] = [
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "x-host",
        "x-forwarded-for",
    ];
    let path = NAMES.iter().fold("/page?count".to_owned(), |path, name| path + "&show=" + name);
    let said = NAMES.map(|name| (name, "evil.example"));

    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    let attack = ask(&mut client, &path, &said).await;
    assert_eq!(attack.text(), "GET /page\n");

    let trusting = self::server("", "trusted-proxies = [\"127.0.0.0/8\", \"::1\"]").await;
    let mut client = trusting.client(protocol).await;
    let behind = ask(&mut client, &path, &said).await;
    assert_eq!(behind.text().matches("evil.example").count(), NAMES.len(), "{behind:?}");
});

each_protocol!(what_stands_for_another_request_is_not_kept, |protocol| async move {
    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    ] {
        let path = format!("/{name}?count&show={name}");
        let odd = ask(&mut client, &path, &[(name, "/admin")]).await;
        let plain = ask(&mut client, &path, &[]).await;
        let again = ask(&mut client, &path, &[(name, "/admin")]).await;

        assert!(odd.text().contains("/admin"), "the plugin may want it: {odd:?}");
        assert!(!plain.text().contains("/admin"), "{plain:?}");
        assert_ne!(call(&again), call(&plain), "nor is it answered from what is kept");
    }

    // A GET with a body, which frameworks may read parameters from.
    let request = client.request(Method::GET, "/fat?count").header("content-length", "6");
    let fat = client.send(request.body(Bytes::from("evil=1")).unwrap()).await;
    let plain = ask(&mut client, "/fat?count", &[]).await;
    assert_ne!(call(&fat), call(&plain));
    assert_eq!(call(&ask(&mut client, "/fat?count", &[]).await), call(&plain));
    let request = client.request(Method::GET, "/fat?count").header("content-length", "6");
    let fat = client.send(request.body(Bytes::from("evil=1")).unwrap()).await;
    assert_ne!(call(&fat), call(&plain));
});

each_protocol!(no_two_paths_that_a_plugin_tells_apart_are_one, |protocol| async move {
    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    let mut calls = Vec::new();
    for path in [
        "/a/b",
        "/a/b/",
        "/a//b",
        "/A/b",
        "/a;x/b",
        "/a/b;.css",
        "/a/b%2ecss",
        "/a/b.css",
        "/a%2fb",
        "/a%2Fb",
        "/a/b%00",
        "/a/b%0a",
        "/a/x/../b",
        "/a/x/%2e%2e/b",
        "/a/./b",
        "/%61/b",
        "/a/b%5c",
        "/a/b%3fcount",
        "/a/b%23",
    ] {
        let answer = ask(&mut client, &format!("{path}?count"), &[]).await;
        assert!(answer.status == 200 && !is_hit(&answer), "{path} {answer:?}");
        calls.push(call(&answer));
    }
    let all = calls.len();
    calls.dedup();
    assert_eq!(calls.len(), all, "{calls:?}");
});

each_protocol!(what_is_one_users_is_not_anothers, |protocol| async move {
    const PLAIN: &str = "cc=max-age=60";
    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    let (token, cookie) = (("authorization", "Bearer a"), ("cookie", "sid=a"));
    for (number, (more, fields, stored)) in [
        (PLAIN, &[][..], true),
        (PLAIN, &[token], false),
        ("cc=public,max-age=60", &[token], true),
        ("cc=s-maxage=60", &[token], true),
        ("cc=must-revalidate,max-age=60", &[token], true),
        ("cc=private,max-age=60", &[], false),
        ("cc=max-age=60&set=set-cookie:sid=b", &[], false),
        ("cc=public,max-age=60&set=set-cookie:sid=b", &[cookie], true),
        ("cc=max-age=60&set=vary:cookie", &[cookie], true),
        ("cc=max-age=60&set=vary:*", &[], false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/user/{number}?count&{more}");
        assert_eq!(is_stored(&mut client, &path, fields).await, stored, "{path} {fields:?}");
    }
    let kept =
        ask(&mut client, "/user/7?count&cc=public,max-age=60&set=set-cookie:sid=b", &[]).await;
    assert!(is_hit(&kept) && kept.header("set-cookie").is_empty(), "{kept:?}");
    let path = "/vary?count&cc=max-age=60&set=vary:cookie&show=cookie";
    let ada = ask(&mut client, path, &[cookie]).await;
    let bob = ask(&mut client, path, &[("cookie", "sid=b")]).await;
    let nobody = ask(&mut client, path, &[]).await;
    assert!(ada.text().contains("sid=a") && bob.text().contains("sid=b"), "{ada:?} {bob:?}");
    assert!(!nobody.text().contains("sid="), "{nobody:?}");
});

#[tokio::test]
async fn a_flood_of_variants_pushes_out_its_own_kind_only() {
    let server = server("", "").await;
    let mut client = server.client(Protocol::H2).await;
    assert!(is_stored(&mut client, "/other?count", &[]).await);
    for number in 0..2_000 {
        let agent = number.to_string();
        let answer =
            ask(&mut client, "/flood?set=vary:user-agent", &[("user-agent", &agent)]).await;
        assert_eq!(answer.status, 200);
    }

    assert!(is_hit(&ask(&mut client, "/other?count", &[]).await));
    let last = ask(&mut client, "/flood?set=vary:user-agent", &[("user-agent", "1999")]).await;
    assert!(is_hit(&last), "the latest are kept: {last:?}");
    let metrics = server.metrics().await;
    let entries = metric(&metrics, "wharf_cache_entries", "");
    assert!(entries <= 34, "{entries} entries");
}

each_protocol!(numbers_out_of_this_world_do_no_harm, |protocol| async move {
    const HUGE: &str = "99999999999999999999999999";
    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    for (path, stored) in [
        (format!("/a?count&cc=max-age={HUGE}"), true),
        (format!("/b?count&cc=max-age=60&set=age:{HUGE}"), false),
        (format!("/c?count&cc=max-age={HUGE}&set=age:{HUGE}"), false),
        ("/d?count&cc=max-age=-1".to_owned(), false),
        ("/e?count&cc=max-age=60,max-age=0".to_owned(), false),
        (format!("/f?count&cc=max-age=60,stale-while-revalidate={HUGE}"), true),
        ("/g?count&cc=&set=expires:0".to_owned(), false),
    ] {
        assert_eq!(is_stored(&mut client, &path, &[]).await, stored, "{path}");
    }
    let fields = [("cache-control", &*format!("max-age={HUGE}, max-stale={HUGE}, min-fresh=1"))];
    assert_eq!(ask(&mut client, "/a?count", &fields).await.status, 200);
});

each_protocol!(parts_do_not_stand_for_the_whole, |protocol| async move {
    const TAG: &str = "set=etag:%22v1%22";
    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    let path = &format!("/part?count&bytes=1000&{TAG}");

    let part = ask(&mut client, path, &[("range", "bytes=0-9")]).await;
    let whole = ask(&mut client, path, &[]).await;
    assert_eq!((part.status.as_u16(), part.body.len()), (206, 10));
    assert_eq!((whole.status.as_u16(), whole.body.len()), (200, 1000));
    let cut = ask(&mut client, path, &[("range", "bytes=990-")]).await;
    assert_eq!((cut.status.as_u16(), cut.header("content-range")), (206, "bytes 990-999/1000"));
    assert!(is_hit(&cut), "{cut:?}");
    let old = ask(&mut client, path, &[("range", "bytes=0-9"), ("if-range", "\"v0\"")]).await;
    assert_eq!((old.status.as_u16(), old.body.len()), (200, 1000));

    // A thousand parts of one body ask for more than it (CVE-2011-3192).
    let many = (0..1000).fold("bytes=0-".to_owned(), |many, from| format!("{many},{from}-"));
    let many = ask(&mut client, path, &[("range", &many[..4000])]).await;
    assert!(many.body.len() <= 2_000, "{} bytes", many.body.len());
    assert_eq!(ask(&mut client, path, &[]).await.body.len(), 1000);

    // A plugin that sends a part of its own accord.
    let odd = "/odd?count&status=206&set=content-range:bytes%200-99/1000";
    assert!(!is_stored(&mut client, odd, &[]).await);
});

#[tokio::test]
async fn an_answer_that_is_not_as_long_as_it_says_is_not_kept() {
    let server = server("", "").await;
    for length in ["99", "101", "1e2", "100,100", "-1"] {
        let path = format!("/odd/{length}?count&set=content-length:{length}");
        for _ in 0..2 {
            // What is broken may end the connection.
            let mut client = server.h1().await;
            let answer = ask(&mut client, &path, &[]).await;
            assert!(!is_hit(&answer), "{length} {answer:?}");
            let whole = answer.status == 200 && answer.broken.is_none();
            assert!(!whole || answer.body.len() == 100, "{length} {answer:?}");
        }
    }
    assert_eq!(server.h1().await.get("/fine").await.status, 200);
}

each_protocol!(errors_are_kept_only_where_they_say_so, |protocol| async move {
    let server = server("", "").await;
    let mut client = server.client(protocol).await;
    for (status, control, stored) in [
        (404, "", false),
        (404, "max-age=60", true),
        (500, "", false),
        (503, "max-age=60", true),
        (429, "max-age=60", false),
        (301, "", false),
        (301, "max-age=60", true),
    ] {
        let path = format!("/status?count&status={status}&cc={control}");
        assert_eq!(is_stored(&mut client, &path, &[]).await, stored, "{path}");
    }
});
