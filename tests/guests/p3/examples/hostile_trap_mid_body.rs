//! Sends the head and `the first part`, then panics; `/length` announces a longer body before.

use guests_p3::{Answer, Fields, Request, Response, fields, path, spawn_local, text};
use guests_p3::{wit_future, wit_stream};
use wasip3::clocks::monotonic_clock;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let fields = match path(&request).as_str() {
        "/ok" => return text("ok"),
        "/length" => fields(&[("content-length", "1000")]),
        _ => Fields::new(),
    };
    let (mut writer, reader) = wit_stream::new();
    let (_trailers, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields, Some(reader), trailers);
    spawn_local(async move {
        writer.write_all(b"the first part".to_vec()).await;
        // Time for the host to send it on.
        monotonic_clock::wait_for(50_000_000).await;
        let _kept = (writer, _trailers);
        panic!("hostile_trap_mid_body has sent enough");
    });
    Ok(response)
}
