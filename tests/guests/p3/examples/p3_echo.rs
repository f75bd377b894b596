//! Gives body, trailers and `content-type` back. `/copy` carries each piece through the guest's
//! memory; any other path leaves it to the host to join the two ends.

use guests_p3::{Answer, Request, Response, fields, header, path, spawn_local};
use guests_p3::{wit_future, wit_stream};
use wasip3::wit_bindgen::StreamResult;

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let copies = path(&request) == "/copy";
    let content_type = header(&request, "content-type");
    let head =
        fields(&[("content-type", content_type.as_deref().unwrap_or("application/octet-stream"))]);
    let (_received, received) = wit_future::new(|| Ok(()));
    let (mut body, trailers) = Request::consume_body(request, received);
    if !copies {
        return Ok(Response::new(head, Some(body), trailers).0);
    }
    let (mut writer, reader) = wit_stream::new();
    let (response, _) = Response::new(head, Some(reader), trailers);
    spawn_local(async move {
        loop {
            let (result, piece) = body.read(Vec::with_capacity(64 << 10)).await;
            let ended = !matches!(result, StreamResult::Complete(_));
            if !writer.write_all(piece).await.is_empty() || ended {
                break;
            }
        }
    });
    Ok(response)
}
