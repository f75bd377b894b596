//! Prices: short-lived while there is trade, longer when there is none.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use wharf_sdk::cache::{self, CacheControl, ETag, Policy, Purge, Validators};
use wharf_sdk::{Error, Request, Response, StatusCode, header};

use crate::document::{Document, id, now, sent, time};
use crate::hours::is_open;
use crate::store;

const KIND: &str = "stock";
/// When there is no trade.
const CLOSED: Duration = Duration::from_secs(300);

/// `GET /api/stock/{symbol}/price`.
pub(crate) async fn stock(request: Request) -> Result<Response, Error> {
    let (stock, is_open) = (find(&request).await?, is_open()?);
    let control = if is_open {
        CacheControl::new().max_age(Duration::from_secs(15)).must_revalidate()
    } else {
        CacheControl::new().max_age(CLOSED)
    };
    Response::json(&price(&stock, is_open))?
        .cache(control)?
        .surrogate_keys([key(&stock.id).as_str()])
}

/// `GET /api/trading/prices/{symbol}`.
pub(crate) async fn trading(request: Request) -> Result<Response, Error> {
    let (stock, is_open) = (find(&request).await?, is_open()?);
    let state = if is_open { "open" } else { "closed" };
    let version = format!("{}-{}-{state}", stock.id, stock.updated);
    let response =
        Response::json(&price(&stock, is_open))?.surrogate_keys([key(&stock.id).as_str()])?;
    let response = if is_open {
        let expires = SystemTime::now() + Duration::from_secs(1);
        response.cache(Policy::UltraFresh)?.expires(expires)?
    } else {
        response.cache(CacheControl::new().max_age(CLOSED))?
    };
    response.conditional(&request, &Validators::etag(ETag::of_version(&version)?))
}

/// `GET /api/realtime/prices`.
pub(crate) async fn all(_: Request) -> Result<Response, Error> {
    let (stocks, is_open) = (store::list(KIND).await?, is_open()?);
    let mut prices: Vec<Value> = stocks.iter().map(|stock| price(stock, is_open)).collect();
    prices.sort_by(|a, b| a["symbol"].as_str().cmp(&b["symbol"].as_str()));
    let answer = json!({ "prices": prices, "generated_at": time(now()) });
    Response::json(&answer)?.cache(Policy::Realtime)?.surrogate_keys(["stocks"])
}

/// `PUT` of a price: `{"price","currency"}`.
pub(crate) async fn put(mut request: Request) -> Result<Response, Error> {
    let sent = sent(&mut request).await?;
    let number = sent.get("price").and_then(Value::as_f64);
    let number = number.filter(|number| number.is_finite() && (0.0..1e12).contains(number));
    let Some(number) = number else {
        return Err(Error::unprocessable("`price` is a number from 0").member("field", "price"));
    };
    let currency = sent.get("currency").and_then(Value::as_str).unwrap_or("USD");
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
        let rule = "`currency` is three letters, such as USD";
        return Err(Error::unprocessable(rule).member("field", "currency"));
    }
    let symbol = symbol(&request)?;
    let content = Map::from_iter([
        ("symbol".to_owned(), Value::from(symbol.as_str())),
        ("price".to_owned(), Value::from(number)),
        ("currency".to_owned(), Value::from(currency)),
    ]);
    let (stock, is_new) = store::change(KIND, &symbol, |_| Ok(content)).await?;
    cache::purge_key(&key(&symbol), Purge::Hard)?;
    cache::purge_key("stocks", Purge::Hard)?;
    Response::json(&price(&stock, is_open()?))?
        .with_status(if is_new { StatusCode::CREATED } else { StatusCode::OK })
        .with_header(header::CACHE_CONTROL, "no-store")
}

/// Symbols are in capital letters, whatever the client writes.
fn symbol(request: &Request) -> Result<String, Error> {
    Ok(id(request, "symbol")?.to_ascii_uppercase())
}

async fn find(request: &Request) -> Result<Document, Error> {
    store::find(KIND, &symbol(request)?).await?.ok_or_else(Error::not_found)
}

fn key(symbol: &str) -> String {
    format!("stock-{symbol}")
}

fn price(stock: &Document, is_open: bool) -> Value {
    let mut price = stock.content.clone();
    price.insert("market".to_owned(), Value::from(if is_open { "open" } else { "closed" }));
    price.insert("timestamp".to_owned(), Value::from(time(stock.updated)));
    Value::Object(price)
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn prices_are_numbers_in_a_currency() {
        for body in [
            "{}",
            r#"{"price":"1"}"#,
            r#"{"price":-1}"#,
            r#"{"price":1e300}"#,
            r#"{"price":1,"currency":"euro"}"#,
        ] {
            let response = answer(Method::PUT, "/api/stock/AAPL/price", body);

            assert_eq!(response.status(), 422, "{body}");
        }
    }
}
