//! `GET /export/csv?rows=N`: users from the plugin's database as CSV (RFC 4180).
//!
//! The table is read page by page by its key, and a page is read only when the one before it has gone
//! out: no reader of the database and no memory is held for a client that is slow.

mod csv;
mod users;

use wharf_sdk::{Body, BodyWriter, Error, Method, Request, Response, Router, header};

/// Rows without `?rows=`.
const DEFAULT_ROWS: u64 = 100_000;
/// Most rows; the table would not grow far beyond them.
const MAX_ROWS: u64 = 20_000_000;
/// Rows of a page: about 64 KiB of CSV, and one answer of the database.
const PAGE: u64 = 1000;

fn routes() -> Router {
    Router::new().get("/export/csv", export)
}

wharf_sdk::serve!(routes);

async fn export(request: Request) -> Result<Response, Error> {
    let count = rows(&request)?;
    let body = if request.method() == Method::HEAD {
        // Not an empty body, whose length of 0 is not that of GET's.
        Body::stream(async |_| Ok(()))
    } else {
        // Before the head, so that a database which does not answer is an error and not a torn file.
        users::prepare().await.map_err(Error::internal)?;
        users::grow(count.min(PAGE)).await.map_err(Error::internal)?;
        Body::stream(async move |writer| write(writer, count).await)
    };
    Response::new(body)
        .with_header(header::CONTENT_TYPE, "text/csv; charset=utf-8")?
        .with_header(header::CONTENT_DISPOSITION, "attachment; filename=\"users.csv\"")?
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// What `?rows=` asks for.
fn rows(request: &Request) -> Result<u64, Error> {
    let Some(text) = request.query("rows") else { return Ok(DEFAULT_ROWS) };
    // `u64` would also take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(count) if digits && count <= MAX_ROWS => Ok(count),
        _ => Err(Error::bad_request(format!("rows: a number from 0 to {MAX_ROWS}, not `{text}`"))),
    }
}

async fn write(mut writer: BodyWriter, count: u64) -> Result<(), Error> {
    let mut lines = csv::Lines::default();
    lines.header();
    let (mut written, mut last) = (0, 0);
    while written < count {
        let page = PAGE.min(count - written);
        users::grow(written + page).await.map_err(Error::internal)?;
        let mut rows = users::after(last, page).await.map_err(Error::internal)?;
        loop {
            let batch = rows.next_batch(PAGE as u32).await.map_err(Error::internal)?;
            if batch.is_empty() {
                break;
            }
            written += batch.len() as u64;
            for row in &batch {
                last = lines.user(row).map_err(Error::internal)?;
            }
        }
        writer.write(lines.take()).await?;
    }
    if count == 0 {
        writer.write(lines.take()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::StatusCode;

    use super::*;

    fn answer(method: Method, uri: &str) -> Response {
        let request = Request::new(method, uri, ()).unwrap();
        match pin!(routes().handle(request)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(response) => response,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }

    #[test]
    fn head_tells_of_the_file_and_reads_nothing() {
        let response = answer(Method::HEAD, "/export/csv?rows=10000000");

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.header("content-type"), Some("text/csv; charset=utf-8"));
        let disposition = response.header("content-disposition");
        assert_eq!(disposition, Some("attachment; filename=\"users.csv\""));
    }

    #[test]
    fn what_is_no_number_of_rows_is_a_bad_request() {
        for rows in ["x", "-1", "%2B1", "1.5", "", "20000001", "99999999999999999999"] {
            let response = answer(Method::GET, &format!("/export/csv?rows={rows}"));

            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{rows}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }
}
