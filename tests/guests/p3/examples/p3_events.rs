//! Takes events through the SDK: README.md tells which.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde_json::json;
use wharf_sdk::schedule::Occurrence;
use wharf_sdk::websocket::{Close, Message, Socket};
use wharf_sdk::{Error, Request, Response, Router, metrics, sleep};

wharf_sdk::serve!(routes);
wharf_sdk::schedule!(scheduled);
wharf_sdk::websocket!(message, closed);

thread_local! {
    static SEEN: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
    static RUNNING: Cell<u32> = const { Cell::new(0) };
}

fn routes() -> Router {
    Router::new().get("/", seen).get("/events", seen).get("/figures", figures)
}

/// What this instance was told, one line each.
async fn seen(_request: Request) -> Result<Response, Error> {
    Ok(Response::text(
        SEEN.with_borrow(|seen| seen.iter().map(|line| format!("{line}\n")).collect::<String>()),
    ))
}

/// `wharf:host/metrics` as JSON.
async fn figures(_request: Request) -> Result<Response, Error> {
    let figures = match metrics::server() {
        Ok(figures) => figures,
        Err(why) => return Ok(Response::text(why.to_string())),
    };
    Response::json(&json!({
        "cpu_us": figures.cpu.as_micros() as u64,
        "cores": figures.cores,
        "resident_bytes": figures.resident_bytes,
        "total_bytes": figures.total_bytes,
        "uptime_us": figures.uptime.as_micros() as u64,
        "requests": figures.requests,
        "in_flight": figures.in_flight,
        "connections": figures.connections,
        "event_streams": figures.event_streams,
        "websockets": figures.websockets,
    }))
}

fn note(line: String) {
    println!("{line}");
    SEEN.with_borrow_mut(|seen| {
        seen.push_back(line);
        seen.truncate(1000);
    });
}

/// What it does is in the schedule's name: `slow-MS`, `loop-…`, `trap-…`, `fail-…`; else nothing.
async fn scheduled(occurrence: Occurrence) -> Result<(), Error> {
    let due = occurrence.due.duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let name = occurrence.name.as_str();
    let beside = RUNNING.replace(RUNNING.get() + 1);
    note(format!("schedule {name} due={due} missed={} beside={beside}", occurrence.missed));
    match name.split_once('-') {
        Some(("slow", milliseconds)) => sleep(Duration::from_millis(milliseconds.parse()?)).await,
        Some(("loop", _)) => loop {
            std::hint::spin_loop();
        },
        Some(("trap", _)) => panic!("as its name says"),
        Some(("fail", _)) => return Err(Error::internal("as its name says")),
        _ => {}
    }
    RUNNING.set(RUNNING.get() - 1);
    println!("schedule {name} done");
    Ok(())
}

async fn message(socket: Socket, message: Message) -> Result<(), Error> {
    match message {
        Message::Text(text) => note(format!("message {} {text}", socket.id)),
        Message::Binary(bytes) => note(format!("message {} {} bytes", socket.id, bytes.len())),
    }
    Ok(())
}

async fn closed(socket: Socket, close: Close) -> Result<(), Error> {
    note(format!("closed {} {} {}", socket.id, close.code, close.reason));
    Ok(())
}
