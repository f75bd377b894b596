//! Bodies piece by piece, both ways, with trailers.

use wharf_sdk::{Error, HeaderMap, HeaderValue, Request, Response, Router};

fn routes() -> Router {
    Router::new().get("/count/{n}", count).post("/upper", upper).post("/sum", sum)
}

/// Writes as fast as the client reads, in constant memory.
async fn count(request: Request) -> Result<Response, Error> {
    let n: u64 = request.parse_param("n")?;
    let response = Response::stream(move |mut body| async move {
        for i in 0..n {
            body.write(format!("{i}\n")).await?;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-count", n.into());
        body.set_trailers(trailers);
        Ok(())
    });
    response.with_header("content-type", "text/plain")?.with_header("trailer", "x-count")
}

/// Answers each piece of the request while the next is on its way.
async fn upper(request: Request) -> Result<Response, Error> {
    Ok(Response::stream(|mut out| async move {
        let mut body = request.into_body();
        while let Some(piece) = body.next().await.transpose()? {
            out.write(piece.to_ascii_uppercase()).await?;
        }
        Ok(())
    }))
}

/// Adds up the bytes of a body of any size, and names the trailers that came after it.
async fn sum(mut request: Request) -> Result<Response, Error> {
    let mut bytes: u64 = 0;
    while let Some(piece) = request.body_mut().next().await.transpose()? {
        bytes += piece.len() as u64;
    }
    let trailers = request.body_mut().trailers().await?.unwrap_or_default();
    let names: Vec<&str> = trailers.keys().map(|name| name.as_str()).collect();
    let mut response = Response::text(format!("{bytes} bytes, trailers: {}\n", names.join(" ")));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    Ok(response)
}

wharf_sdk::serve!(routes);
