//! Large sets of data, which the host compresses for who accepts that.

use std::time::Duration;

use wharf_sdk::cache::CacheControl;
use wharf_sdk::{Error, Request, Response};

use crate::posts::json_of;
use crate::store;

/// Rows that there are.
const MAX_ROWS: u32 = 2_000;
const DEFAULT_ROWS: u32 = 1_000;

/// `GET /api/large-dataset?rows=`.
pub(crate) async fn whole(request: Request) -> Result<Response, Error> {
    let control = CacheControl::new().public().max_age(Duration::from_secs(60));
    rows(&request).await?.cache(control)
}

/// `GET /api/realtime/large_dataset?rows=`.
pub(crate) async fn realtime(request: Request) -> Result<Response, Error> {
    let control = CacheControl::new().no_cache().max_age(Duration::from_secs(60));
    rows(&request).await?.cache(control)
}

async fn rows(request: &Request) -> Result<Response, Error> {
    let rows = request.parse_query("rows")?.unwrap_or(DEFAULT_ROWS);
    if rows > MAX_ROWS {
        return Err(Error::bad_request(format!("there are {MAX_ROWS} rows")));
    }
    let rows = store::contents("reading", rows).await?;
    json_of(format!("[{}]", rows.join(",")).into_bytes())?.surrogate_keys(["dataset"])
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn rows_are_a_number_that_there_is() {
        for rows in ["x", "-1", "2001", ""] {
            let response = answer(Method::GET, &format!("/api/large-dataset?rows={rows}"), "");

            assert_eq!(response.status(), 400, "{rows}");
        }
    }
}
