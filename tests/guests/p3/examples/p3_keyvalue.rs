//! `wasi:keyvalue` over HTTP; README.md tells how.

use serde_json::json;
use wharf_sdk::keyvalue::{self, Bucket, Error as KeyValueError};
use wharf_sdk::{Error, Request, Response, Router, StatusCode};

wharf_sdk::serve!(routes);

fn routes() -> Router {
    Router::new().get("/", answer)
}

async fn answer(request: Request) -> Result<Response, Error> {
    let parameter = |name| request.query(name).unwrap_or_default().into_owned();
    let bucket = keyvalue::open(&parameter("bucket"));
    let done = bucket
        .and_then(|bucket| run(&bucket, &parameter("op"), &parameter("key"), &parameter("value")));
    let (status, json) = match done {
        Ok(json) => (StatusCode::OK, json),
        Err(error) => (StatusCode::BAD_REQUEST, json!({ "error": error.to_string() })),
    };
    Ok(Response::json(&json)?.with_status(status))
}

fn run(
    bucket: &Bucket,
    op: &str,
    key: &str,
    value: &str,
) -> Result<serde_json::Value, KeyValueError> {
    let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).expect("UTF-8"));
    let keys = || key.split(',').map(str::to_owned).collect::<Vec<_>>();
    Ok(match op {
        "get" => json!(text(bucket.get(key)?)),
        "set" => json!(bucket.set(key, value.as_bytes())?),
        "delete" => json!(bucket.delete(key)?),
        "exists" => json!(bucket.exists(key)?),
        "keys" => {
            let page = bucket.keys((!key.is_empty()).then_some(key))?;
            json!({ "keys": page.keys, "cursor": page.cursor })
        }
        "increment" => json!(bucket.increment(key, value.parse().expect("a number"))?),
        "update" => {
            let added = bucket.update(key, |old| {
                let mut new = old.unwrap_or_default();
                new.extend_from_slice(value.as_bytes());
                new
            })?;
            json!(text(Some(added)))
        }
        "get-many" => {
            let pairs = bucket.get_many(&keys())?;
            pairs.into_iter().map(|(key, value)| json!([key, text(value)])).collect()
        }
        "set-many" => {
            let values = value.split(',').map(|value| value.as_bytes().to_vec());
            json!(bucket.set_many(&keys().into_iter().zip(values).collect::<Vec<_>>())?)
        }
        "delete-many" => json!(bucket.delete_many(&keys())?),
        other => panic!("no operation {other}"),
    })
}
