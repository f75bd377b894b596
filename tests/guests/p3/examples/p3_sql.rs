//! The plugin's SQL database over HTTP; README.md tells how.

use std::time::Duration;

use serde_json::{Value as Json, json};
use wharf_sdk::sql::{self, Access, SqlError, Value};
use wharf_sdk::{Error, Request, Response, Router, StatusCode};

wharf_sdk::serve!(routes);

mod plain {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer { import wharf:host/sql@0.1.0; }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

const LIMIT: usize = 8 << 20;

fn routes() -> Router {
    Router::new()
        .get("/answer", answer)
        .post("/execute", execute)
        .post("/query", query)
        .post("/batch", batch)
        .post("/transaction", transaction)
        .post("/blocking", blocking)
}

async fn answer(_: Request) -> Result<Response, Error> {
    Ok(Response::text("here"))
}

async fn execute(mut request: Request) -> Result<Response, Error> {
    let (text, params) = statement(&request.json(LIMIT).await?);
    Ok(reply(sql::execute(&text, params).await.map(executed)))
}

async fn query(mut request: Request) -> Result<Response, Error> {
    let (text, params) = statement(&request.json(LIMIT).await?);
    let max = request.parse_query("max")?.unwrap_or(1000);
    let pause = request.parse_query("pause_ms")?.unwrap_or(0);
    Ok(reply(read(&text, params, max, pause).await))
}

async fn read(text: &str, params: Vec<Value>, max: u32, pause: u64) -> Result<Json, SqlError> {
    let mut rows = sql::query(text, params).await?;
    let columns = rows.columns();
    let mut batches = Vec::new();
    loop {
        let batch = rows.next_batch(max).await?;
        if batch.is_empty() {
            return Ok(json!({ "columns": columns, "batches": batches }));
        }
        batches.push(table(batch));
        wharf_sdk::sleep(Duration::from_millis(pause)).await;
    }
}

async fn batch(mut request: Request) -> Result<Response, Error> {
    let list: Vec<Json> = request.json(LIMIT).await?;
    let statements: Vec<_> = list.iter().map(statement).collect();
    let statements = statements.iter().map(|(text, params)| (text.as_str(), params.clone()));
    let done = sql::execute_batch(statements).await;
    Ok(reply(done.map(|done| done.into_iter().map(executed).collect())))
}

async fn transaction(mut request: Request) -> Result<Response, Error> {
    let list: Vec<Json> = request.json(LIMIT).await?;
    let access = match request.query("kind").as_deref() {
        Some("read") => Access::Read,
        _ => Access::Write,
    };
    let pause = request.parse_query("pause_ms")?.unwrap_or(0);
    let end = request.query("end").unwrap_or_default().into_owned();
    let done = async {
        let transaction = sql::transaction(access).await?;
        let mut results = Vec::new();
        for one in &list {
            let (text, params) = statement(one);
            let done = if text.starts_with("SELECT") {
                match transaction.query(&text, params).await {
                    Ok(rows) => rows.rows().await.map(table),
                    Err(error) => Err(error),
                }
            } else {
                transaction.execute(&text, params).await.map(executed)
            };
            results.push(done.unwrap_or_else(|error| fault(&error)));
        }
        wharf_sdk::sleep(Duration::from_millis(pause)).await;
        match end.as_str() {
            "rollback" => transaction.rollback().await?,
            "drop" => drop(transaction),
            "leak" => std::mem::forget(transaction),
            _ => transaction.commit().await?,
        }
        Ok(Json::Array(results))
    };
    Ok(reply(done.await))
}

async fn blocking(mut request: Request) -> Result<Response, Error> {
    use plain::wharf::host::sql;

    let (text, _) = statement(&request.json(LIMIT).await?);
    let rows = sql::query(&text, &[]).and_then(|cursor| cursor.next(1));
    Ok(Response::text(match rows {
        Ok(rows) => format!("{} rows", rows.len()),
        Err(error) => format!("{error:?}"),
    }))
}

fn statement(json: &Json) -> (String, Vec<Value>) {
    let text = json[0].as_str().expect("a text").to_owned();
    let params = json[1].as_array().into_iter().flatten().map(|value| match value {
        Json::Null => Value::Null,
        Json::Bool(fact) => Value::from(*fact),
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Real(number.as_f64().expect("a number")), Value::Integer),
        Json::Object(blob) => {
            Value::Blob(serde_json::from_value(blob["blob"].clone()).expect("a list of bytes"))
        }
        Json::Array(_) => panic!("an array is no value"),
    });
    (text, params.collect())
}

fn executed(done: sql::Executed) -> Json {
    json!({ "changes": done.changes, "last_insert_id": done.last_insert_id })
}

fn table(rows: Vec<sql::Row>) -> Json {
    let value = |value| match value {
        Value::Null => Json::Null,
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!({ "blob": bytes }),
    };
    rows.into_iter().map(|row| row.into_values().into_iter().map(value).collect::<Json>()).collect()
}

fn fault(error: &SqlError) -> Json {
    let name = format!("{error:?}");
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    let detail = match error {
        SqlError::Constraint(kind, _) => json!(format!("{kind:?}")),
        _ => Json::Null,
    };
    json!({ "error": name, "kind": detail, "message": error.to_string() })
}

fn reply(done: Result<Json, SqlError>) -> Response {
    let (status, json) = match done {
        Ok(json) => (StatusCode::OK, json),
        Err(error) => (StatusCode::BAD_REQUEST, fault(&error)),
    };
    Response::json(&json).expect("JSON is JSON").with_status(status)
}
