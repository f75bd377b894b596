//! What is a plugin, what is refused, and with which words.

use std::process::Command;

use wharf_tests::{TestServer, guest, guest_unless_skipped, wharf};

#[tokio::test]
async fn components_made_for_other_hosts_are_served_as_they_are() {
    let server = TestServer::builder()
        .plugin("axum", &guest("foreign_wstd_axum"))
        .plugin("spin", &guest("foreign_spin"))
        .start()
        .await;

    for name in ["axum", "spin"] {
        let answer = server.h1().await.get(&format!("/{name}/")).await;

        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn a_hono_app_made_for_other_hosts_is_served_as_it_is() {
    let Some(component) = guest_unless_skipped("foreign_hono") else { return };
    let server = TestServer::with("foreign_hono", &component).await;
    let mut client = server.h1().await;

    for (path, text) in [
        ("/foreign_hono/", "hello from foreign_hono"),
        ("/foreign_hono/hello/you", "hello you"),
        ("/foreign_hono/any/where", "foreign_hono at /any/where"),
    ] {
        let answer = client.get(path).await;

        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.text(), text);
    }
}

#[tokio::test]
async fn a_folder_with_a_manifest_and_one_component_is_a_plugin() {
    let server = TestServer::builder()
        .file("shop/plugin.toml", br#"routes = ["GET /goods/{id}"]"#)
        .file("shop/any-name.wasm", &guest("p3_hello"))
        .start()
        .await;

    let answer = server.h1().await.get("/goods/7").await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-path"), "/goods/7");
    assert_eq!(answer.header("x-prefix"), "");
}

#[tokio::test]
async fn index_is_served_at_the_root() {
    let server = TestServer::with("index", &guest("p3_hello")).await;

    let answer = server.h1().await.get("/").await;

    assert_eq!(answer.header("x-path"), "/");
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_its_cause() {
    let component = guest("p3_hello");
    let truncated = &component[..component.len() / 2];
    let server = TestServer::builder()
        .plugin("core", &guest("core_module"))
        .plugin("cut", truncated)
        .plugin("empty", b"")
        .plugin("import", &guest("import_unresolvable"))
        .plugin("start", &guest("hostile_trap_at_start"))
        .plugin("Upper", &component)
        .plugin("typo", &component)
        .manifest("typo", "[limits]\nmemmory = \"1MiB\"")
        .plugin("first", &component)
        .manifest("first", r#"routes = ["/same"]"#)
        .file("unbuilt/plugin.toml", b"")
        .start()
        .await;

    for (name, cause) in [
        ("core", "core WebAssembly module"),
        ("cut", "truncated"),
        ("empty", "empty"),
        ("import", "demo:host/log"),
        ("start", "failed at start"),
        ("Upper", "not a plugin name"),
        ("typo", "did you mean `memory`"),
        ("unbuilt", "build it first"),
    ] {
        let entry = server.registered(name).await.unwrap();

        assert_eq!(entry["state"], "failed", "{entry}");
        assert!(entry["last_error"].as_str().unwrap().contains(cause), "{entry}");
    }
    assert_eq!(server.registered("first").await.unwrap()["state"], "serving");
}

#[tokio::test]
async fn of_two_plugins_with_one_route_the_newer_is_refused() {
    let component = guest("p3_hello");
    let server = TestServer::builder()
        .plugin("old", &component)
        .manifest("old", r#"routes = ["/same"]"#)
        .start()
        .await;

    std::fs::write(server.plugins().join("new.toml"), r#"routes = ["/same"]"#).unwrap();
    server.install("new", &component);
    let entry = server.until_registered("new", |entry| entry["state"] == "failed").await;

    assert!(entry["last_error"].as_str().unwrap().contains("already served by plugin \"old\""));
    assert_eq!(server.registered("old").await.unwrap()["state"], "serving");
}

#[tokio::test]
async fn isolated_instances_forget_and_reused_ones_do_not() {
    let server = TestServer::builder()
        .plugin("p3", &guest("p3_counter"))
        .plugin("p2", &guest("p2_counter"))
        .plugin("alone", &guest("p3_counter"))
        .manifest("alone", "[instances]\nmode = \"isolated\"")
        .plugin("kept", &guest("p2_counter"))
        .manifest("kept", "[instances]\nmode = \"reuse\"")
        .start()
        .await;

    for (path, second) in [("/p3", "2"), ("/p2", "1"), ("/alone", "1"), ("/kept", "2")] {
        let mut client = server.h1().await;
        client.get(path).await;

        assert_eq!(client.get(path).await.text(), second, "{path}");
    }
}

#[tokio::test]
async fn one_instance_serves_several_waiting_requests_at_once() {
    let server = TestServer::builder()
        .plugin("sleep", &guest("p3_sleep"))
        .manifest("sleep", "[instances]\nconcurrent = 8")
        .start()
        .await;
    let mut warm = server.h1().await;
    warm.get("/sleep?ms=1").await;

    let begun = std::time::Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = server.h1().await;
        waiting.push(async move { client.get("/sleep?ms=500").await.status });
    }
    let statuses = join_all(waiting).await;

    assert!(statuses.iter().all(|status| *status == 200));
    assert!(begun.elapsed().as_millis() < 3_000, "they waited for each other");
}

async fn join_all<T: Send + 'static>(
    futures: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut set = tokio::task::JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    set.join_all().await
}

#[test]
fn check_tells_what_a_component_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.wasm");
    std::fs::write(&file, guest("p3_hello")).unwrap();

    let output = Command::new(wharf()).arg("check").arg(&file).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);

    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(report.contains("wasi:http/handler@0.3"), "{report}");
    assert!(report.contains("/shop/*"), "{report}");
}

#[test]
fn check_refuses_what_would_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.wasm");
    std::fs::write(&file, guest("import_unresolvable")).unwrap();

    let output = Command::new(wharf()).arg("check").arg(&file).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("demo:host/log"), "{output:?}");
}
