//! Jobs by request: begun, listed, looked at, cancelled.

use serde_json::json;
use wharf_sdk::{Error, Request, Response, StatusCode, header};

use crate::job::{Job, Order, Status};
use crate::picture::Julia;
use crate::{page, store};

/// Bytes of what `POST /jobs` takes.
const MAX_BODY: usize = 16 << 10;

/// Begins a job.
pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let (name, steps) = request.json::<Order>(MAX_BODY).await?.checked()?;
    let job = store::add(&name, steps).await?;
    let location = format!("/sse/progress/{}", job.job_id);
    Response::json(&json!({ "job_id": job.job_id }))?
        .with_status(StatusCode::ACCEPTED)
        .with_header(header::LOCATION, location)?
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// The page for a person, all jobs for others.
pub(crate) async fn list(request: Request) -> Result<Response, Error> {
    let response = if request.prefers("text/html", "application/json") {
        page::jobs()?
    } else {
        Response::json(&store::list().await?)?
            .with_header(header::CACHE_CONTROL, "no-cache, no-store")?
    };
    response.with_header(header::VARY, "accept")
}

/// One job.
pub(crate) async fn one(request: Request) -> Result<Response, Error> {
    Response::json(&find(&request).await?)?.with_header(header::CACHE_CONTROL, "no-cache, no-store")
}

/// Cancels a job that is not over: it has failed then.
pub(crate) async fn cancel(request: Request) -> Result<Response, Error> {
    // A step may come in between; not many do.
    for _ in 0..10 {
        let mut job = find(&request).await?;
        if job.status.is_over() {
            let how = format!("the job is {}", job.status.name());
            return Err(Error::new(StatusCode::CONFLICT).detail(how));
        }
        job.status = Status::Failed;
        "cancelled".clone_into(&mut job.message);
        if store::change(&job, job.done, None).await? {
            return Response::json(&job)?.with_header(header::CACHE_CONTROL, "no-store");
        }
    }
    Err(Error::new(StatusCode::SERVICE_UNAVAILABLE).detail("the job moves on too fast"))
}

/// The picture, as far as it is drawn.
pub(crate) async fn result(request: Request) -> Result<Response, Error> {
    let job = find(&request).await?;
    let points = store::points(&job.job_id).await?;
    let policy = if job.status.is_over() { "public, max-age=3600" } else { "no-cache, no-store" };
    Response::new(Julia::of(&job.name).bmp(&points))
        .with_header(header::CONTENT_TYPE, "image/bmp")?
        .with_header(header::CACHE_CONTROL, policy)
}

async fn find(request: &Request) -> Result<Job, Error> {
    store::find(request.param("id")?).await?.ok_or_else(Error::not_found)
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn mistakes_are_told() {
        for (method, uri, body, status) in [
            (Method::POST, "/jobs", "{", 400),
            (Method::POST, "/jobs", "{}", 422),
            (Method::POST, "/jobs", r#"{"name":"a","steps":-1}"#, 422),
            (Method::POST, "/jobs", r#"{"name":"a","steps":0}"#, 422),
            (Method::POST, "/jobs", r#"{"name":"a","steps":"3"}"#, 422),
            (Method::GET, "/jobs/x", "", 404),
            (Method::DELETE, "/jobs/x", "", 404),
            (Method::PUT, "/jobs", "", 405),
        ] {
            let response = answer(method, uri, body);

            assert_eq!(response.status(), status, "{uri} {body}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }
}
