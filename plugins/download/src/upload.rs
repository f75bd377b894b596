//! Uploads: the body of a request, or the file of a form, written as it arrives.

use wharf_sdk::{Body, Error, Request, Response, StatusCode, header};

use crate::kept::{Kept, Part, Uploads};
use crate::multipart::{self, Event, Malformed, Multipart};
use crate::name::file_name;

/// Bytes of one file. The limit of request bodies in `plugin.toml` is above it.
pub(crate) const MAX_UPLOAD: u64 = 1 << 30;

/// `POST /download?name=FILE`; the name of a form's file may be left to the form.
pub(crate) async fn post(request: Request) -> Result<Response, Error> {
    let name = request.query("name").map(|name| name.into_owned());
    upload(request, name).await
}

/// `POST /api/upload/{name}`.
pub(crate) async fn post_named(request: Request) -> Result<Response, Error> {
    let name = request.param("name")?.to_owned();
    upload(request, Some(name)).await
}

async fn upload(mut request: Request, name: Option<String>) -> Result<Response, Error> {
    let content_type = request.header("content-type").unwrap_or_default();
    let boundary = multipart::boundary(content_type)?;
    // Before a byte of it is read.
    let name = name.map(|name| checked(&name)).transpose()?;
    let body = std::mem::take(request.body_mut());
    let kept = match (boundary, name) {
        (Some(boundary), name) => of_form(body, &boundary, name).await?,
        (None, Some(name)) => whole(body, name).await?,
        (None, None) => {
            return Err(Error::bad_request("the query must have a name: ?name=FILE"));
        }
    };
    answer(&kept)
}

fn answer(kept: &Kept) -> Result<Response, Error> {
    Response::json(kept)?
        .with_status(StatusCode::CREATED)
        .with_header(header::LOCATION, kept.location())?
        .with_header(header::CACHE_CONTROL, "no-store")
}

async fn whole(mut body: Body, name: String) -> Result<Kept, Error> {
    let mut part = Uploads::open().begin()?;
    while let Some(piece) = body.next().await.transpose()? {
        add(&mut part, &piece)?;
    }
    Ok(part.keep(name)?)
}

/// The one file of a form; other fields are passed over.
async fn of_form(mut body: Body, boundary: &str, name: Option<String>) -> Result<Kept, Error> {
    let mut form = Multipart::new(boundary);
    let mut file: Option<(Part, String)> = None;
    let mut is_file = false;
    while let Some(piece) = body.next().await.transpose()? {
        form.push(&piece);
        while let Some(event) = form.next()? {
            match event {
                Event::Part { file_name: None } => is_file = false,
                Event::Part { file_name: Some(given) } => {
                    if file.is_some() {
                        return Err(Error::unprocessable("the form has more than one file"));
                    }
                    let name = match &name {
                        Some(name) => name.clone(),
                        None => checked(&given)?,
                    };
                    file = Some((Uploads::open().begin()?, name));
                    is_file = true;
                }
                Event::Data(data) => {
                    if is_file && let Some((part, _)) = &mut file {
                        add(part, &data)?;
                    }
                }
                Event::PartEnd => {}
                Event::End => {
                    // What may still come is not part of the form; it is read so that the answer is.
                    while body.next().await.transpose()?.is_some() {}
                    let (part, name) =
                        file.ok_or_else(|| Error::unprocessable("the form has no file"))?;
                    return Ok(part.keep(name)?);
                }
            }
        }
    }
    Err(Error::bad_request("the form has no end"))
}

fn add(part: &mut Part, piece: &[u8]) -> Result<(), Error> {
    if part.size() + piece.len() as u64 > MAX_UPLOAD {
        return Err(Error::body_too_large(MAX_UPLOAD as usize));
    }
    Ok(part.write(piece)?)
}

fn checked(given: &str) -> Result<String, Error> {
    file_name(given).ok_or_else(|| Error::bad_request("the file has no name that can be kept"))
}

impl From<Malformed> for Error {
    fn from(Malformed(why): Malformed) -> Self {
        Self::bad_request(why)
    }
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, block_on};

    #[test]
    fn uploads_without_a_name_or_a_form_are_400() {
        for uri in ["/download", "/download?name=", "/download?name=..", "/download?name=a/"] {
            let response = answer(Method::POST, uri, "content");

            assert_eq!(response.status(), 400, "{uri}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
        assert_eq!(answer(Method::POST, "/api/upload/%2e%2e", "content").status(), 400);
    }

    #[test]
    fn forms_that_are_none_are_told() {
        for (content_type, body, status) in [
            ("multipart/form-data", "x", 400),
            ("multipart/form-data; boundary=b", "--b\r\n", 400),
            ("multipart/form-data; boundary=b", "--b\r\nx: y\r\n\r\nz\r\n--b--", 422),
        ] {
            let mut request = Request::new(Method::POST, "/download", body).unwrap();
            request.headers_mut().insert("content-type", content_type.parse().unwrap());

            let response = block_on(crate::routes().handle(request));

            assert_eq!(response.status(), status, "{content_type} {body}");
        }
    }

    #[test]
    fn created_file_is_told_where_it_is() {
        let kept = Kept { id: "0123456789abcdef".into(), name: "ü".into(), size: 3, uploaded: 1 };

        let response = super::answer(&kept).unwrap();

        assert_eq!(response.status(), 201);
        assert_eq!(response.header("location"), Some("/download/0123456789abcdef"));
    }
}
