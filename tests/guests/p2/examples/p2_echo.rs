//! Gives body, trailers and `content-type` back, piece by piece.

use std::io::Write;

use guests_p2::{IncomingRequest, ResponseOutparam, fields, header, start};
use wasip2::http::types::{Fields, IncomingBody, OutgoingBody};
use wasip2::io::streams::StreamError;

guests_p2::serve!(handle);

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let content_type = header(&request, "content-type");
    let content_type = content_type.as_deref().unwrap_or("application/octet-stream");
    let from = request.consume().expect("the body is taken once");
    let to = start(out, 200, fields(&[("content-type", content_type)]));
    {
        let reader = from.stream().expect("the stream is taken once");
        let mut writer = to.write().expect("the stream is taken once");
        loop {
            let piece = match reader.blocking_read(64 << 10) {
                Ok(piece) => piece,
                Err(StreamError::Closed) => break,
                // Dropping the outgoing body unfinished cuts the response off.
                Err(StreamError::LastOperationFailed(_)) => return,
            };
            if writer.write_all(&piece).is_err() || writer.blocking_flush().is_err() {
                return;
            }
        }
    }
    if let Ok(trailers) = trailers(from) {
        let _ = OutgoingBody::finish(to, trailers);
    }
}

fn trailers(body: IncomingBody) -> Result<Option<Fields>, ()> {
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let received = trailers.get().ok_or(())??.map_err(|_| ())?;
    // Those received are immutable; the response's are its own.
    Ok(received.map(|fields| fields.clone()))
}
