//! What the operator sees.

use wharf_tests::{Client, TestServer, guest};

#[tokio::test]
async fn health_readiness_metrics_and_plugins_are_told() {
    let server = TestServer::with("shop", &guest("p3_hello")).await;
    server.h1().await.get("/shop").await;
    let mut admin = Client::h1(server.admin.unwrap()).await;

    assert_eq!(admin.get("/healthz").await.status, 200);
    assert_eq!(admin.get("/readyz").await.status, 200);
    let plugins = admin.get("/plugins").await.json();
    let shop = &plugins[0];
    assert_eq!(shop["name"], "shop");
    assert_eq!(shop["state"], "serving");
    assert_eq!(shop["mode"], "reuse");
    assert_eq!(shop["routes"][0], "/shop");
    let metrics = server.metrics().await;
    for name in [
        "wharf_requests_total",
        "wharf_request_duration_seconds",
        "wharf_connections",
        "wharf_plugin_instances",
        "wharf_compile_seconds",
        "wharf_reloads_total",
    ] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    assert!(metrics.contains("plugin=\"shop\""), "{metrics}");
}

#[tokio::test]
async fn the_access_log_has_a_line_a_request() {
    let server = TestServer::with("shop", &guest("p3_hello")).await;

    server.h1().await.get("/shop/logged?secret=1").await;
    for _ in 0..100 {
        if server.log().contains("/shop/logged") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let log = server.log();
    let line = log.lines().find(|line| line.contains("/shop/logged")).unwrap();
    assert!(line.contains("GET") && line.contains("200"), "{line}");
    assert!(!line.contains("secret"), "{line}");
}
