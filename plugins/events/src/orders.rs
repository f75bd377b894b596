//! `/api/trading/orders`: a book of orders in the database. While somebody listens the market moves: ten
//! times a second an open order is filled a little further, and told to all streams.

use std::cell::Cell;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use wharf_sdk::hub::{self, Event};
use wharf_sdk::sql::{self, Row, SqlError};
use wharf_sdk::{Error, Request, Response, StatusCode, header, params, sse};

use crate::body::MAX_BODY;

const TOPIC: &str = "orders";
const NO_STORE: &str = "no-cache, no-store";

/// Open orders that the market keeps up.
const KEPT_OPEN: i64 = 12;
/// Orders that are kept; beyond, the oldest that are over go.
const MAX_ORDERS: i64 = 500;
/// Open orders, at the most.
const MAX_OPEN: i64 = 300;
/// Bounds of an order: pieces, and cents for a piece.
const MAX_QUANTITY: i64 = 1_000_000;
const MAX_PRICE: i64 = 100_000_000;

/// What is traded, and about what it costs, in cents.
const SYMBOLS: [(&str, i64); 6] = [
    ("HAFN", 4_215),
    ("KAI", 12_740),
    ("LOTS", 880),
    ("MAST", 23_105),
    ("PIER", 6_420),
    ("TIDE", 1_575),
];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    filled INTEGER NOT NULL DEFAULT 0,
    price INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'open',
    updated INTEGER NOT NULL
) STRICT";
const OPEN: &str = "CREATE INDEX IF NOT EXISTS orders_open ON orders (updated) WHERE status IN ('open', 'partial')";
const INSERT: &str =
    "INSERT INTO orders (symbol, side, quantity, price, updated) VALUES (?, ?, ?, ?, ?)";
const COLUMNS: &str = "id, symbol, side, quantity, filled, price, status, updated";

thread_local! {
    /// Whether this instance knows that the table is there.
    static PREPARED: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Buy,
    Sell,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// An order as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Order {
    id: i64,
    symbol: String,
    side: String,
    quantity: i64,
    filled: i64,
    price: f64,
    /// `open`, `partial`, `filled` or `cancelled`.
    status: String,
    updated_at: String,
}

impl Order {
    fn read(row: &Row) -> Result<Self, SqlError> {
        let updated = std::time::Duration::from_millis(row.get(7)?);
        let updated = SystemTime::UNIX_EPOCH + updated;
        Ok(Self {
            id: row.get(0)?,
            symbol: row.get(1)?,
            side: row.get(2)?,
            quantity: row.get(3)?,
            filled: row.get(4)?,
            price: row.get::<i64>(5)? as f64 / 100.0,
            status: row.get(6)?,
            updated_at: humantime::format_rfc3339_millis(updated).to_string(),
        })
    }
}

async fn prepare() -> Result<(), SqlError> {
    if !PREPARED.get() {
        sql::execute_batch([(TABLE, params![]), (OPEN, params![])]).await?;
        PREPARED.set(true);
    }
    Ok(())
}

/// Orders as they change.
pub(crate) async fn stream(request: Request) -> Result<Response, Error> {
    let stream = sse::stream(&request).topic(TOPIC).resume().drop_oldest();
    stream.send()?.with_header(header::CACHE_CONTROL, NO_STORE)
}

/// All orders, those that changed last first.
pub(crate) async fn list(_: Request) -> Result<Response, Error> {
    prepare().await?;
    fill_up(KEPT_OPEN).await?;
    let sql = format!("SELECT {COLUMNS} FROM orders ORDER BY updated DESC, id DESC");
    let rows = sql::query(&sql, params![]).await?.rows().await?;
    let orders = rows.iter().map(Order::read).collect::<Result<Vec<_>, _>>()?;
    Response::json(&orders)?.with_header(header::CACHE_CONTROL, NO_STORE)
}

/// One order.
pub(crate) async fn one(request: Request) -> Result<Response, Error> {
    let id = request.parse_param("id")?;
    prepare().await?;
    let order = find(id).await?.ok_or_else(Error::not_found)?;
    Response::json(&order)?.with_header(header::CACHE_CONTROL, NO_STORE)
}

#[derive(Deserialize)]
struct Place {
    symbol: String,
    side: Side,
    quantity: i64,
    price: f64,
}

/// Places an order.
pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let Place { symbol, side, quantity, price } = request.json(MAX_BODY).await?;
    let is_symbol = |symbol: &str| {
        (1..=10).contains(&symbol.len()) && symbol.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if !is_symbol(&symbol) {
        return Err(Error::unprocessable("symbol has 1 to 10 letters and digits"));
    }
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        return Err(Error::unprocessable(format!("quantity is 1 to {MAX_QUANTITY}")));
    }
    let cents = (price * 100.0).round();
    if !(1.0..=MAX_PRICE as f64).contains(&cents) {
        return Err(Error::unprocessable("price is 0.01 to 1,000,000"));
    }
    prepare().await?;
    if open().await? >= MAX_OPEN {
        return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE)
            .detail(format!("there are {MAX_OPEN} open orders: cancel some")));
    }
    let symbol = symbol.to_ascii_uppercase();
    let values = params![symbol, side.name(), quantity, cents as i64, now()];
    let id = sql::execute(INSERT, values).await?.last_insert_id;
    let order = tell(id).await?;
    Response::json(&order)?
        .with_status(StatusCode::CREATED)
        .with_header(header::LOCATION, format!("/api/trading/orders/{id}"))?
        .with_header(header::CACHE_CONTROL, NO_STORE)
}

/// Cancels what is not filled yet.
pub(crate) async fn cancel(request: Request) -> Result<Response, Error> {
    let id: i64 = request.parse_param("id")?;
    prepare().await?;
    let sql = "UPDATE orders SET status = 'cancelled', updated = ?
        WHERE id = ? AND status IN ('open', 'partial')";
    if sql::execute(sql, params![now(), id]).await?.changes == 0 {
        return Err(match find(id).await? {
            Some(order) => {
                Error::new(StatusCode::CONFLICT).detail(format!("the order is {}", order.status))
            }
            None => Error::not_found(),
        });
    }
    Response::json(&tell(id).await?)?.with_header(header::CACHE_CONTROL, NO_STORE)
}

/// Moves the market, if anybody listens.
pub(crate) async fn tick() -> Result<(), Error> {
    if hub::subscriber_count(TOPIC)? == 0 {
        return Ok(());
    }
    prepare().await?;
    fill_up(KEPT_OPEN).await?;
    let chance = random()?;
    // One of those that waited longest, so that all come to their turn.
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE status IN ('open', 'partial')
            ORDER BY updated LIMIT 1 OFFSET ?"
    );
    let rows = sql::query(&sql, params![(chance % 4) as u32]).await?;
    let Some(row) = rows.first().await? else { return Ok(()) };
    let order = Order::read(&row)?;
    let rest = order.quantity - order.filled;
    // Between nothing much and a third.
    let part = 1 + (chance >> 8) as i64 % (order.quantity / 3 + 1);
    let filled = order.filled + part.min(rest);
    let status = if filled == order.quantity { "filled" } else { "partial" };
    let sql = "UPDATE orders SET filled = ?, status = ?, updated = ?
        WHERE id = ? AND status IN ('open', 'partial')";
    if sql::execute(sql, params![filled, status, now(), order.id]).await?.changes > 0 {
        tell(order.id).await?;
    }
    Ok(())
}

/// Tells all streams of an order as it is now.
async fn tell(id: i64) -> Result<Order, Error> {
    let order = find(id).await?.ok_or_else(Error::not_found)?;
    hub::publish(TOPIC, Event::new("").json(&order)).await?;
    Ok(order)
}

async fn find(id: i64) -> Result<Option<Order>, SqlError> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE id = ?");
    let row = sql::query(&sql, params![id]).await?.first().await?;
    row.as_ref().map(Order::read).transpose()
}

async fn open() -> Result<i64, SqlError> {
    let sql = "SELECT count(*) FROM orders WHERE status IN ('open', 'partial')";
    sql::query(sql, params![]).await?.first().await?.map_or(Ok(0), |row| row.get(0))
}

/// Has others place orders until there are so many open ones; what is long over goes.
async fn fill_up(count: i64) -> Result<(), Error> {
    let missing = count - open().await?;
    if missing <= 0 {
        return Ok(());
    }
    let mut statements = Vec::new();
    for i in 0..missing {
        let chance = random()?;
        let (symbol, price) = SYMBOLS[chance as usize % SYMBOLS.len()];
        let side = if (chance >> 8) & 1 == 0 { Side::Buy } else { Side::Sell };
        let quantity = 10 * (1 + (chance >> 16) as i64 % 50);
        // Within two percent.
        let price = price + price * ((chance >> 32) as i64 % 401 - 200) / 10_000;
        statements.push((INSERT, params![symbol, side.name(), quantity, price, now() + i]));
    }
    let tidy = "DELETE FROM orders WHERE status IN ('filled', 'cancelled') AND id NOT IN
        (SELECT id FROM orders ORDER BY updated DESC LIMIT ?)";
    statements.push((tidy, params![MAX_ORDERS]));
    sql::execute_batch(statements).await?;
    Ok(())
}

fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes) >> 1)
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn orders_are_checked() {
        for (body, status) in [
            ("{", 400),
            ("{}", 422),
            (r#"{"symbol":"","side":"buy","quantity":1,"price":1}"#, 422),
            (r#"{"symbol":"KAI\r","side":"buy","quantity":1,"price":1}"#, 422),
            (r#"{"symbol":"KAI","side":"hold","quantity":1,"price":1}"#, 422),
            (r#"{"symbol":"KAI","side":"buy","quantity":0,"price":1}"#, 422),
            (r#"{"symbol":"KAI","side":"buy","quantity":1,"price":0.001}"#, 422),
            (r#"{"symbol":"KAI","side":"buy","quantity":1,"price":1e300}"#, 422),
        ] {
            let response = answer(Method::POST, "/api/trading/orders", body);

            assert_eq!(response.status(), status, "{body}");
        }
        assert_eq!(answer(Method::GET, "/api/trading/orders/x", ()).status(), 404);
    }
}
