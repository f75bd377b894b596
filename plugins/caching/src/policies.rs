//! `/api/config/{policy}`: the same document under each named policy.

use serde_json::json;
use wharf_sdk::cache::{self, Policy};
use wharf_sdk::{Error, Request, Response, header};

use crate::document::{now, time};
use crate::store;

/// `GET /api/config`: the names, and what they stand for.
pub(crate) async fn list(_: Request) -> Result<Response, Error> {
    let policies: Vec<_> = cache::policies()
        .into_iter()
        .map(|(name, text)| {
            let url = format!("/api/config/{name}");
            json!({ "policy": name, "cache_control": text, "url": url })
        })
        .collect();
    Response::json(&policies)?.with_header(header::CACHE_CONTROL, "no-cache")
}

/// `GET /api/config/{policy}`; `static`, for example.
pub(crate) async fn get(request: Request) -> Result<Response, Error> {
    let name = request.param("policy")?.to_owned();
    let control = Policy::named(name.clone()).text().map_err(|_| Error::not_found())?;
    let config = store::find("config", "realtime").await?.ok_or_else(Error::not_found)?;
    let answer = json!({
        "policy": name,
        "cache_control": &control,
        "config": config.content,
        "generated_at": time(now()),
    });
    Response::json(&answer)?
        .with_header(header::CACHE_CONTROL, control)?
        .surrogate_keys(["policies"])
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn names_that_nothing_is_called_are_404() {
        assert_eq!(answer(Method::GET, "/api/config/weekly", "").status(), 404);
    }
}
