//! Posts: cached for an hour by everybody, changed only by who has read the latest version, and purged
//! then.

use serde_json::{Map, Value};
use wharf_sdk::cache::{self, ETag, Policy, Purge, Validators};
use wharf_sdk::{Error, Request, Response, StatusCode, header};

use crate::document::{Document, id, sent, text};
use crate::store;

const KIND: &str = "post";

/// `GET /api/posts`.
pub(crate) async fn list(request: Request) -> Result<Response, Error> {
    let posts = store::list(KIND).await?;
    let body = serde_json::to_vec(&posts.iter().map(Document::to_value).collect::<Vec<_>>())?;
    let validators = Validators::etag(ETag::of(&body)?);
    json_of(body)?
        .cache(Policy::SemiStatic)?
        .surrogate_keys(["posts"])?
        .conditional(&request, &validators)
}

/// `GET /api/posts/{id}`.
pub(crate) async fn get(request: Request) -> Result<Response, Error> {
    let post = store::find(KIND, id(&request, "id")?).await?.ok_or_else(Error::not_found)?;
    let (body, validators) = representation(&post)?;
    json_of(body)?
        .cache(Policy::SemiStatic)?
        .surrogate_keys([key(&post.id).as_str(), "posts"])?
        .conditional(&request, &validators)
}

/// `PUT /api/posts/{id}`: `If-Match` names the version that is replaced; `If-None-Match: *` makes a new
/// post.
pub(crate) async fn put(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let content = Map::from_iter([
        ("title".to_owned(), Value::from(text(&sent, "title", 200)?)),
        ("body".to_owned(), Value::from(text(&sent, "body", 20_000)?)),
    ]);
    let id = id(&request, "id")?;
    let (post, is_new) = store::change(KIND, id, |current| {
        let makes = request.header("if-none-match").map(str::trim) == Some("*");
        let Some(current) = current else {
            // Without a condition this would be 404 as well, so none counts (RFC 9110 §13.2.1).
            return if makes { Ok(content) } else { Err(Error::not_found()) };
        };
        let (_, validators) = representation(current)?;
        cache::require(&request, Some(&validators))?;
        Ok(content)
    })
    .await?;
    // The cache sees to the URL of this request; the list, and other names of the host, it cannot know.
    cache::purge_key(&key(&post.id), Purge::Hard)?;
    cache::purge_key("posts", Purge::Hard)?;
    let body = serde_json::to_vec(&post.to_value())?;
    let etag = ETag::of(&body)?;
    json_of(body)?
        .with_status(if is_new { StatusCode::CREATED } else { StatusCode::OK })
        .with_header(header::CONTENT_LOCATION, request.path())?
        .with_header(header::ETAG, etag.value().clone())?
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// What is sent of a post, and its validators.
fn representation(post: &Document) -> Result<(Vec<u8>, Validators), Error> {
    let body = serde_json::to_vec(&post.to_value())?;
    let etag = ETag::of(&body)?;
    Ok((body, Validators::etag(etag)))
}

fn key(id: &str) -> String {
    format!("post-{id}")
}

/// A response of JSON that is made already.
pub(crate) fn json_of(body: Vec<u8>) -> Result<Response, Error> {
    Response::new(body).with_header(header::CONTENT_TYPE, "application/json")
}

/// The answer to who added something.
pub(crate) fn created(document: &Document) -> Result<Response, Error> {
    Response::json(&document.to_value())?
        .with_status(StatusCode::CREATED)
        .with_header(header::CACHE_CONTROL, "no-store")
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn what_is_put_must_be_a_post() {
        for (body, status) in [
            ("", 400),
            ("x", 400),
            ("[]", 422),
            ("{}", 422),
            (r#"{"title":"","body":"b"}"#, 422),
            (r#"{"title":"t","body":1}"#, 422),
        ] {
            let response = answer(Method::PUT, "/api/posts/1", body);

            assert_eq!(response.status(), status, "{body}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
        let large = format!(r#"{{"title":"{}","body":"b"}}"#, "x".repeat(70_000));
        assert_eq!(answer(Method::PUT, "/api/posts/1", large).status(), 413);
    }

    #[test]
    fn ids_that_could_not_be_are_404() {
        for id in ["%2F", "a%20b", "%00", &"x".repeat(65)] {
            assert_eq!(answer(Method::GET, &format!("/api/posts/{id}"), "").status(), 404, "{id}");
        }
        let response = answer(Method::DELETE, "/api/posts/1", "");
        assert_eq!(
            (response.status().as_u16(), response.header("allow")),
            (405, Some("GET, HEAD, OPTIONS, PUT"))
        );
    }
}
