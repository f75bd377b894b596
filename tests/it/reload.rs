//! Files change while they are served.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use wharf_tests::{Protocol, TestServer, guest};

/// `p3_hello` that says another version.
fn version(number: usize) -> Vec<u8> {
    let marker = b"WHARF-VERSION-00";
    let mut component = guest("p3_hello");
    let at = component.windows(marker.len()).position(|bytes| bytes == marker).unwrap();
    component[at + 14..at + 16].copy_from_slice(format!("{number:02}").as_bytes());
    component
}

fn says(number: usize) -> impl Fn(&wharf_tests::Answer) -> bool {
    move |answer| answer.text().contains(&format!("WHARF-VERSION-{number:02}"))
}

#[tokio::test]
async fn a_new_file_is_served_without_a_restart() {
    let server = TestServer::builder().start().await;

    server.install("late", &guest("p3_hello"));

    server.until_get("/late", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_removed_file_is_no_longer_served() {
    let server = TestServer::with("shop", &guest("p3_hello")).await;

    fs::remove_file(server.plugins().join("shop.wasm")).unwrap();

    server.until_get("/shop", |answer| answer.status == 404).await;
    assert!(server.registered("shop").await.is_none());
}

#[tokio::test]
async fn a_manifest_change_changes_the_routes() {
    let server = TestServer::with("shop", &guest("p3_hello")).await;

    fs::write(server.plugins().join("shop.toml"), r#"routes = ["/elsewhere"]"#).unwrap();

    server.until_get("/elsewhere", |answer| answer.status == 200).await;
    assert_eq!(server.h1().await.get("/shop").await.status, 404);
}

#[tokio::test]
async fn a_file_written_in_place_is_served_once_it_is_whole() {
    let server = TestServer::with("shop", &version(0)).await;
    let new = version(1);
    let path = server.plugins().join("shop.wasm");

    let mut file = fs::File::create(&path).unwrap();
    for part in new.chunks(new.len() / 5) {
        std::io::Write::write_all(&mut file, part).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(server.h1().await.get("/shop").await.status, 200);
    }
    drop(file);

    server.until_get("/shop", says(1)).await;
}

#[tokio::test]
async fn a_broken_reload_keeps_the_old_version_and_tells_why() {
    let server = TestServer::with("shop", &version(0)).await;

    server.install("shop", b"\0asm garbage");
    let entry = server.until_registered("shop", |entry| !entry["last_error"].is_null()).await;

    assert_eq!(entry["state"], "serving", "{entry}");
    assert!(says(0)(&server.h1().await.get("/shop").await));

    server.install("shop", &version(2));
    server.until_get("/shop", says(2)).await;
    let entry = server.until_registered("shop", |entry| entry["last_error"].is_null()).await;
    assert_eq!(entry["state"], "serving");
}

#[tokio::test]
async fn requests_under_way_finish_on_the_old_version() {
    let server = TestServer::with("shop", &guest("p3_sleep")).await;
    let mut client = server.h1().await;

    let slow = async { client.get("/shop?ms=1500").await };
    let swap = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.install("shop", &version(1));
        server.until_get("/shop", says(1)).await;
    };
    let (slow, ()) = tokio::join!(slow, swap);

    assert_eq!(slow.text(), "1500");
}

/// Clients of all three protocols that keep asking for `/shop` until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    async fn start(server: &TestServer) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = tokio::task::JoinSet::new();
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            let mut client = server.client(protocol).await;
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get("/shop").await;
                    assert_eq!(answer.status, 200, "{protocol:?}: {answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, served, clients }
    }

    /// Panics if a request failed; how many there were.
    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.served.load(Ordering::Relaxed)
    }
}

/// Installs a version; from its first answer on nobody may see an older one.
async fn replace(server: &TestServer, number: usize) {
    server.install("shop", &version(number));
    server.until_get("/shop", says(number)).await;
    for _ in 0..3 {
        let answer = server.h1().await.get("/shop").await;
        assert!(says(number)(&answer), "{answer:?} after version {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_a_file_200_times_under_load_fails_no_request_and_keeps_no_memory() {
    /// What an allocator and a hundred cached versions' bookkeeping may keep.
    const KEPT: u64 = 24 << 20;
    let server = TestServer::with("shop", &version(0)).await;
    let load = Load::start(&server).await;
    // What is allocated once is there after some.
    for number in 1..30 {
        replace(&server, number).await;
    }
    let before = server.memory();

    for number in 30..200 {
        // The second hundred returns to versions whose code may be on disk.
        replace(&server, number % 100).await;
    }

    let served = load.end().await;
    assert!(served > 200, "{served}");
    let after = server.memory();
    assert!(after < before + KEPT, "{before} bytes before, {after} after");
}
