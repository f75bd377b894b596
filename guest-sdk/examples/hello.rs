//! A handler in ten lines.

use wharf_sdk::{Error, Request, Response, Router};

fn routes() -> Router {
    Router::new().get("/hello/{name}", hello)
}

async fn hello(request: Request) -> Result<Response, Error> {
    Ok(Response::text(format!("hello {}\n", request.param("name")?)))
}

wharf_sdk::serve!(routes);
