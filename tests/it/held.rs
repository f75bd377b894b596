//! What the host holds for plugins: connections that cost no instance.

use wharf_tests::{TestServer, each_protocol, guest};

const GRANTS: &str = "[capabilities]\nhub = { publish = [\"load\"], subscribe = [\"load\"] }\n";

/// Fewer than a connection may have streams.
const STREAMS: usize = 100;

async fn server() -> TestServer {
    let builder = TestServer::builder().plugin("load", &guest("p3_realtime"));
    builder.manifest("load", GRANTS).start().await
}

each_protocol!(
    held_streams_keep_no_instance_busy_and_all_get_all_events_in_order,
    |protocol| async move {
        let server = server().await;
        let mut clients = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut client = server.client(protocol).await;
            streams.push(client.open("/load/events").await);
            clients.push(client);
        }
        let resting =
            server.until_registered("load", |plugin| plugin["in_flight"].as_u64() == Some(0)).await;

        let mut publisher = server.h1().await;
        for number in 0..3 {
            publisher.post("/load/publish?times=2", format!("event {number}")).await;
        }

        assert!(resting["instances"].as_u64().unwrap() <= 8, "{resting}");
        for stream in &mut streams {
            for number in [0, 0, 1, 1, 2, 2] {
                assert!(stream.line().await.unwrap().starts_with("id: "));
                assert_eq!(stream.line().await.unwrap(), format!("data: event {number}"));
                assert_eq!(stream.line().await.unwrap(), "");
            }
        }
    }
);
