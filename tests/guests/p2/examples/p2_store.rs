//! The store by its plain functions: `wharf:host/sql` and `wasi:keyvalue` 0.2.0-draft; README.md tells
//! how.

use guests_p2::{IncomingRequest, ResponseOutparam, json, parameter, path};
use serde_json::{Value as Json, json};

use bindings::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use bindings::wharf::host::sql::{self, Value};

guests_p2::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer {
                import wharf:host/sql@0.1.0;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let parameter = |name| parameter(&request, name).unwrap_or_default();
    let done = if path(&request).ends_with("/sql") {
        query(&parameter("q")).map_err(|error| format!("{error:?}"))
    } else {
        pairs(&parameter("op"), &parameter("key"), &parameter("value"))
            .map_err(|error| format!("{error:?}"))
    };
    json(out, &done.unwrap_or_else(|error| json!({ "error": error })));
}

fn query(text: &str) -> Result<Json, sql::SqlError> {
    if !text.starts_with("SELECT") {
        let transaction = sql::begin(sql::TransactionKind::Write)?;
        let done = transaction.execute(text, &[])?;
        transaction.commit()?;
        return Ok(json!({ "changes": done.changes }));
    }
    let cursor = sql::query(text, &[])?;
    let mut all = Vec::new();
    loop {
        let rows = cursor.next(100)?;
        if rows.is_empty() {
            return Ok(all.into());
        }
        let value = |value: Value| match value {
            Value::Null => Json::Null,
            Value::Integer(number) => json!(number),
            Value::Real(number) => json!(number),
            Value::Text(text) => json!(text),
            Value::Blob(bytes) => json!({ "blob": bytes }),
        };
        all.extend(rows.into_iter().map(|row| row.into_iter().map(value).collect::<Json>()));
    }
}

fn pairs(op: &str, key: &str, value: &str) -> Result<Json, store::Error> {
    let bucket = store::open("")?;
    let text = |value: Vec<u8>| String::from_utf8(value).expect("UTF-8");
    Ok(match op {
        "get" => json!(bucket.get(key)?.map(text)),
        "set" => json!(bucket.set(key, value.as_bytes())?),
        "increment" => json!(atomics::increment(&bucket, key, value.parse().expect("a number"))?),
        "keys" => {
            let page = bucket.list_keys(key.parse().ok())?;
            json!({ "keys": page.keys, "cursor": page.cursor })
        }
        "get-many" => {
            let keys: Vec<_> = key.split(',').map(str::to_owned).collect();
            let pairs = batch::get_many(&bucket, &keys)?;
            pairs
                .into_iter()
                .map(|pair| json!(pair.map(|(key, value)| (key, text(value)))))
                .collect()
        }
        other => panic!("no operation {other}"),
    })
}
