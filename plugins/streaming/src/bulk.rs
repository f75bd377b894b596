//! Many items in one request, each with an event that tells what became of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wharf_sdk::{Error, Request, Response};

use crate::reply::live;
use crate::trailers::hex;

const MAX_BODY: usize = 1 << 20;
const MAX_ITEMS: usize = 10_000;

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Value>,
}

/// The data of an event. The status is the event's name again, for clients that read data alone.
#[derive(Serialize)]
struct Event<'a, T> {
    status: &'a str,
    #[serde(flatten)]
    more: T,
}

#[derive(Serialize)]
struct Started {
    total: usize,
}

#[derive(Serialize)]
struct Success<'a> {
    index: usize,
    id: &'a Value,
    /// Of the item as compact JSON.
    sha256: String,
}

#[derive(Serialize)]
struct Failed {
    index: usize,
    message: &'static str,
}

#[derive(Serialize)]
struct Completed {
    total: usize,
    succeeded: usize,
    failed: usize,
}

pub(crate) async fn process(mut request: Request) -> Result<Response, Error> {
    let Bulk { items } = request.json(MAX_BODY).await?;
    if items.len() > MAX_ITEMS {
        return Err(Error::unprocessable(format!("more than {MAX_ITEMS} items")));
    }
    live(&request, "text/event-stream", async move |mut writer| {
        let total = items.len();
        writer.write(event("started", &Started { total })?).await?;
        let mut failed = 0;
        for (index, item) in items.iter().enumerate() {
            let event = match identify(item) {
                Ok(id) => {
                    let sha256 = hex(&Sha256::digest(item.to_string()));
                    event("success", &Success { index, id, sha256 })?
                }
                Err(message) => {
                    failed += 1;
                    event("error", &Failed { index, message })?
                }
            };
            writer.write(event).await?;
        }
        let completed = Completed { total, succeeded: total - failed, failed };
        writer.write(event("completed", &completed)?).await?;
        Ok(())
    })
}

/// The id of an item: itself, or its member `id`.
fn identify(item: &Value) -> Result<&Value, &'static str> {
    let id = match item {
        Value::Object(members) => members.get("id").ok_or("the item has no id")?,
        Value::String(_) | Value::Number(_) => item,
        _ => return Err("an item is a string, a number or an object with an id"),
    };
    match id {
        Value::String(text) if text.is_empty() => Err("the id is empty"),
        Value::String(_) | Value::Number(_) => Ok(id),
        _ => Err("an id is a string or a number"),
    }
}

/// An event whose data is JSON, which is one line and so one `data` field.
fn event(name: &str, more: &impl Serialize) -> Result<String, Error> {
    let data = serde_json::to_string(&Event { status: name, more })?;
    Ok(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, pieces};

    /// Events as pairs of name and data.
    fn events(body: &Value) -> Vec<(String, Value)> {
        let response = answer(Method::POST, "/api/bulk-process", body.to_string());
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        pieces(response)
            .iter()
            .map(|event| {
                let event = event.strip_prefix("event: ").unwrap().strip_suffix("\n\n").unwrap();
                let (name, data) = event.split_once("\ndata: ").unwrap();
                (name.to_owned(), serde_json::from_str(data).unwrap())
            })
            .collect()
    }

    #[test]
    fn bad_item_does_not_stop_the_rest() {
        let events = events(&json!({"items": [{"id": "a"}, null, 7, {"id": ""}, "b\n"]}));

        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["started", "success", "error", "success", "error", "success", "completed"];
        assert_eq!(names, expected);
        assert_eq!(events[0].1, json!({"status": "started", "total": 5}));
        assert_eq!((&events[1].1["index"], &events[1].1["id"]), (&json!(0), &json!("a")));
        assert_eq!(events[1].1["sha256"], hex(&Sha256::digest(r#"{"id":"a"}"#)));
        assert_eq!(
            events[4].1,
            json!({"status": "error", "index": 3, "message": "the id is empty"})
        );
        assert_eq!(events[5].1["id"], "b\n");
        assert_eq!(
            events[6].1,
            json!({"status": "completed", "total": 5, "succeeded": 3, "failed": 2})
        );
    }

    #[test]
    fn nothing_to_do_is_started_and_completed() {
        let events = events(&json!({"items": []}));

        assert_eq!(events.len(), 2);
        assert_eq!(
            events[1].1,
            json!({"status": "completed", "total": 0, "succeeded": 0, "failed": 0})
        );
    }

    #[test]
    fn bad_request_is_a_problem_document() {
        for (body, status) in
            [("", 400), ("{\"items\":", 400), ("{}", 422), ("{\"items\":7}", 422), ("[1]", 422)]
        {
            let response = answer(Method::POST, "/api/bulk-process", body);

            assert_eq!(response.status(), status, "{body}");
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }

    #[test]
    fn too_many_items_are_422() {
        let body = json!({"items": vec![1; MAX_ITEMS + 1]}).to_string();

        assert_eq!(answer(Method::POST, "/api/bulk-process", body).status(), 422);
    }
}
