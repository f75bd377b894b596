//! Answers `?status=` with the mistake `?kind=`:
//! `error` gives an error code for a response; `short` announces more bytes than follow, `long`
//! fewer; `twice` two lengths; `not-a-number` a length that is none; `trailers` ends a body with an
//! error; `no-end` drops body and trailers at once. `connection`, `newline`, `name` and
//! `transfer-encoding` try a field that must not be, and say as 200 what the host made of it.

use guests_p3::{Answer, ErrorCode, Fields, Request, Response, answer, number, parameter};
use guests_p3::{spawn_local, text, wit_future, wit_stream};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let status = number(&request, "status", 200) as u16;
    let kind = parameter(&request, "kind").unwrap_or_default();
    match kind.as_str() {
        "error" => Err(ErrorCode::InternalError(Some("p3_bad_response".into()))),
        "short" => five_bytes(status, &[("content-length", "100")]),
        "long" => five_bytes(status, &[("content-length", "2")]),
        "twice" => five_bytes(status, &[("content-length", "5"), ("content-length", "6")]),
        "not-a-number" => five_bytes(status, &[("content-length", "five")]),
        "trailers" => failing_trailers(status),
        "no-end" => {
            let (_, reader) = wit_stream::new();
            let (_, trailers) = wit_future::new(|| Err(ErrorCode::ConnectionTerminated));
            let (response, _) = Response::new(Fields::new(), Some(reader), trailers);
            Ok(response)
        }
        "connection" => attempt("connection", b"close"),
        "transfer-encoding" => attempt("transfer-encoding", b"chunked"),
        "newline" => attempt("x-split", b"a\r\nx-smuggled: b"),
        "name" => attempt("x bad", b"a"),
        _ => five_bytes(status, &[]),
    }
}

fn five_bytes(status: u16, list: &[(&str, &str)]) -> Answer {
    let fields = Fields::new();
    for (name, value) in list {
        if let Err(error) = fields.append(name, value.as_bytes()) {
            return answer(500, Fields::new(), format!("the host refuses {name}: {error:?}"));
        }
    }
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields, Some(reader), trailers);
    if response.set_status_code(status).is_err() {
        return answer(500, Fields::new(), format!("the host refuses {status}"));
    }
    spawn_local(async move {
        writer.write_all(b"bytes".to_vec()).await;
    });
    Ok(response)
}

fn failing_trailers(status: u16) -> Answer {
    let (mut writer, reader) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(reader), trailers);
    response.set_status_code(status).expect("a valid status");
    spawn_local(async move {
        writer.write_all(b"bytes".to_vec()).await;
        drop(writer);
        let _ = end.write(Err(ErrorCode::InternalError(None))).await;
    });
    Ok(response)
}

fn attempt(name: &str, value: &[u8]) -> Answer {
    match Fields::new().append(name, value) {
        Ok(()) => text("accepted"),
        Err(error) => text(format!("{error:?}")),
    }
}
