//! The request's head as JSON: `method`, `scheme`, `authority`, `path` (with the query) and
//! `headers` (pairs, in the order received).

use guests_p3::{Answer, Request, json};
use serde_json::json;
use wasip3::http::types::{Method, Scheme};

guests_p3::serve!(handle);

async fn handle(request: Request) -> Answer {
    let method = match request.get_method() {
        Method::Other(name) => name,
        known => format!("{known:?}").replace("Method::", "").to_uppercase(),
    };
    let scheme = request.get_scheme().map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
        Scheme::Other(name) => name,
    });
    let headers = request.get_headers().copy_all();
    let headers: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    json(&json!({
        "method": method,
        "scheme": scheme,
        "authority": request.get_authority(),
        "path": request.get_path_with_query(),
        "headers": headers,
    }))
}
