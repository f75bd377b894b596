//! What is sent: files by the host (`files.reply`), with ranges and conditions, and the list of them.

use serde::Serialize;
use wharf_sdk::{Error, Request, Response, StatusCode, files, header};

use crate::builtin::Builtin;
use crate::kept::{Kept, Uploads};

/// Bytes a second.
const DEFAULT_RATE: u64 = 1 << 20;
const MAX_RATE: u64 = 1 << 30;

/// The video that is always there.
const SAMPLE: &str = "sample";

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    kept: Kept,
    location: String,
}

/// `GET /download`: what was uploaded, the newest first.
pub(crate) async fn list(_: Request) -> Result<Response, Error> {
    let listed = |kept: Kept| Listed { location: kept.location(), kept };
    let all: Vec<Listed> = Uploads::open().list()?.into_iter().map(listed).collect();
    Response::json(&all)?.with_header(header::CACHE_CONTROL, "no-store")
}

/// `GET /download/{id}`, `?once=1`.
pub(crate) async fn file(request: Request) -> Result<Response, Error> {
    let once = is_once(&request)?;
    let kept = kept(&request)?;
    let path = kept.path();
    let reply = files::reply(&request, &path).attachment(&kept.name);
    let (reply, policy) =
        if once { (reply.once(), "no-store") } else { (reply, "private, no-cache") };
    reply.send()?.with_header(header::CACHE_CONTROL, policy)
}

/// `GET /stream-video/{id}`.
pub(crate) async fn video(request: Request) -> Result<Response, Error> {
    let (path, name) = if request.param("id")? == SAMPLE {
        (Builtin::Video.ready()?, "sample.mp4".to_owned())
    } else {
        let kept = kept(&request)?;
        (kept.path(), kept.name)
    };
    files::reply(&request, &path)
        .content_type("video/mp4")
        .inline(&name)
        .send()?
        .with_header(header::CACHE_CONTROL, "private, no-cache")
}

/// `GET /download/limited`, `?rate=BYTES`.
pub(crate) async fn limited(request: Request) -> Result<Response, Error> {
    let rate = rate(&request)?;
    let path = Builtin::Bulk.ready()?;
    if let Some(exchange) = request.exchange() {
        exchange.set_bandwidth_limit(Some(rate));
    }
    files::reply(&request, &path)
        .attachment("bulk.bin")
        .send()?
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// `DELETE /download/{id}`.
pub(crate) async fn delete(request: Request) -> Result<Response, Error> {
    if Uploads::open().delete(request.param("id")?)? {
        Ok(Response::new(()).with_status(StatusCode::NO_CONTENT))
    } else {
        Err(unknown())
    }
}

fn kept(request: &Request) -> Result<Kept, Error> {
    Uploads::open().find(request.param("id")?)?.ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::not_found().detail("there is no such file")
}

fn is_once(request: &Request) -> Result<bool, Error> {
    match request.query("once").as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(Error::bad_request("query parameter \"once\": neither 0 nor 1")),
    }
}

fn rate(request: &Request) -> Result<u64, Error> {
    match request.parse_query("rate")? {
        None => Ok(DEFAULT_RATE),
        Some(rate @ 1..=MAX_RATE) => Ok(rate),
        Some(rate) => Err(Error::bad_request(format!(
            "query parameter \"rate\": {rate} is not between 1 and {MAX_RATE} bytes a second"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::answer;

    fn get(uri: &str) -> Request {
        Request::new(Method::GET, uri, ()).unwrap()
    }

    #[test]
    fn rates_are_positive_numbers() {
        assert_eq!(rate(&get("/download/limited")).unwrap(), 1 << 20);
        assert_eq!(rate(&get("/download/limited?rate=4096")).unwrap(), 4096);
        for bad in ["", "0", "-1", "fast", "1e6", "1.5", "1073741825", "99999999999999999999"] {
            let error = rate(&get(&format!("/download/limited?rate={bad}"))).unwrap_err();
            assert_eq!(error.status(), 400, "{bad}");
        }
    }

    #[test]
    fn once_is_a_choice() {
        assert!(is_once(&get("/download/x?once=1")).unwrap());
        assert!(!is_once(&get("/download/x?once=0")).unwrap());
        assert!(!is_once(&get("/download/x")).unwrap());
        assert_eq!(is_once(&get("/download/x?once=maybe")).unwrap_err().status(), 400);
    }

    #[test]
    fn unknown_files_are_404() {
        for (method, uri) in [
            (Method::GET, "/download/0123456789abcdef"),
            (Method::GET, "/download/nothing"),
            (Method::GET, "/download/%2e%2e"),
            (Method::GET, "/download/..%2Fbuiltin"),
            (Method::DELETE, "/download/0123456789abcdef"),
            (Method::GET, "/stream-video/0123456789abcdef"),
        ] {
            let response = answer(method, uri, ());

            assert_eq!(response.status(), 404, "{uri}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }
}
