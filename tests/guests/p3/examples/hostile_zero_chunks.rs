//! Writes pieces of no length for ever after the head, except on `/ok`.

use guests_p3::{Answer, Fields, Request, Response, path, spawn_local, text};
use guests_p3::{wit_future, wit_stream};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    if path(&request) == "/ok" {
        return text("ok");
    }
    let (mut writer, reader) = wit_stream::new();
    let (_trailers, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        let _kept = _trailers;
        loop {
            writer.write(Vec::new()).await;
        }
    });
    Ok(response)
}
