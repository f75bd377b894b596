use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::timeout;

use super::testing::{PATIENCE, TestServer, reuse_port};
use crate::http::Handle;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::conn::{Conn, RefusedConnection};
use crate::http::h3;
use crate::http::limits::Limits;

/// Answers with the connection's core and TLS facts.
struct Facts;

impl Handle for Facts {
    async fn handle(
        &self,
        conn: &Arc<Conn>,
        _: Request<RequestBody>,
        _: Arc<crate::http::interim::Interim>,
    ) -> Response<ResponseBody> {
        let tls = conn.tls.as_ref().unwrap();
        let text = format!(
            "{} {} {} {}",
            tls.version,
            tls.cipher,
            tls.alpn.as_deref().unwrap_or("-"),
            tls.sni.as_deref().unwrap_or("-"),
        );
        let mut response = Response::new(ResponseBody::full(text));
        response.headers_mut().insert("core", conn.core.into());
        response
    }
}

type Client = h3::tests::Client;

async fn get(client: &mut Client) -> (usize, String) {
    let response = timeout(PATIENCE, client.get("/")).await.unwrap().unwrap();
    let core = response.headers()["core"].to_str().unwrap().parse().unwrap();
    (core, response.into_body())
}

#[tokio::test]
async fn tls_facts_of_a_connection_are_known() {
    let server = TestServer::start(Facts);
    let mut client = Client::new(server.connect().await).await;

    let (_, facts) = get(&mut client).await;

    assert_eq!(facts, "TLSv1.3 TLS_AES_256_GCM_SHA384 h3 localhost");
}

#[tokio::test]
async fn a_client_whose_address_changes_stays_with_its_core() {
    let server = TestServer::with(Facts, 4, Limits::default(), Arc::new(|_| Ok(Box::new(()))));
    let endpoint = server.client(h3::ALPN);
    let connection = endpoint.connect(server.addr, "localhost").unwrap().await.unwrap();
    let mut client = Client::new(connection).await;
    let (core, _) = get(&mut client).await;

    // With four sockets, twelve addresses reach another core but for one in 16 million.
    for _ in 0..12 {
        endpoint.rebind(reuse_port(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();

        assert_eq!(get(&mut client).await.0, core);
    }
    assert_eq!(server.states.accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn cores_share_new_connections() {
    let server = TestServer::with(Facts, 2, Limits::default(), Arc::new(|_| Ok(Box::new(()))));
    let mut seen = [0; 2];

    for _ in 0..24 {
        let mut client = Client::new(server.connect().await).await;
        seen[get(&mut client).await.0] += 1;
    }

    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[tokio::test]
async fn a_peer_without_a_slot_is_refused_and_slots_are_given_back() {
    struct Slot(Arc<AtomicUsize>);
    impl Drop for Slot {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let taken = Arc::new(AtomicUsize::new(0));
    let slots = Arc::clone(&taken);
    let server = TestServer::with(
        Facts,
        1,
        Limits::default(),
        Arc::new(move |_| {
            if slots.fetch_add(1, Ordering::SeqCst) == 0 {
                return Ok(Box::new(Slot(Arc::clone(&slots))));
            }
            slots.fetch_sub(1, Ordering::SeqCst);
            Err(RefusedConnection::Connections)
        }),
    );
    let first = server.connect().await;

    let second = server.client(h3::ALPN).connect(server.addr, "localhost").unwrap().await;

    assert!(matches!(second, Err(quinn::ConnectionError::ConnectionClosed(_))), "{second:?}");
    first.close(0u32.into(), b"");
    while taken.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    server.connect().await;
}

#[tokio::test]
async fn another_application_protocol_is_refused() {
    let server = TestServer::start(Facts);

    let error = server.client(b"hq").connect(server.addr, "localhost").unwrap().await.unwrap_err();

    assert!(error.to_string().contains("120"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_stands_still_is_dropped() {
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let gone = Arc::new(tokio::sync::Notify::new());
    struct Gone(Arc<tokio::sync::Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let slot = Arc::clone(&gone);
    let server = TestServer::with(
        Facts,
        1,
        limits,
        Arc::new(move |_| Ok(Box::new(Gone(Arc::clone(&slot))))),
    );
    // Between client and server, somebody lets the first datagram through and nothing else.
    let between = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let client = server.client(h3::ALPN);
    let _connecting = client.connect(between.local_addr().unwrap(), "localhost").unwrap();
    let mut datagram = vec![0; 2048];
    let len = between.recv(&mut datagram).await.unwrap();
    between.send_to(&datagram[..len], server.addr).await.unwrap();

    timeout(PATIENCE, gone.notified()).await.unwrap();
}

#[tokio::test]
async fn draining_refuses_new_connections_and_ends_idle_ones() {
    let server = TestServer::start(Facts);
    let mut client = Client::new(server.connect().await).await;
    get(&mut client).await;

    let drain = server.drain.clone();
    let finished = tokio::join!(drain.finish(PATIENCE), client.closed());

    assert!(finished.0, "drained in time");
    assert_eq!(finished.1, Some(0x100));
}
