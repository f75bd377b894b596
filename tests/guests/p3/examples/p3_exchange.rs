//! JSON of what `wharf:host/exchange` tells of this request: `request_id`, `route`, `cancelled`,
//! `protocol`, `peer`, `local`, `connection_id`, `requests`, `alpn`, `tls`, `early_data`. `forged`:
//! what became of opening `?token=`, or else a token made up; `error` where the own one failed.

use guests_p3::{Answer, Request, header, json, parameter};
use serde_json::json;

use bindings::wharf::host::exchange::{self, Protocol};

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer { import wharf:host/exchange@0.1.0; }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

async fn handle(request: Request) -> Answer {
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let forged = parameter(&request, "token").unwrap_or_else(|| "0".repeat(token.len().max(1)));
    let forged = match exchange::open(&forged) {
        Ok(exchange) => format!("opened {}", exchange.request_id()),
        Err(error) => error.name().to_owned(),
    };
    let exchange = match exchange::open(&token) {
        Ok(exchange) => exchange,
        Err(error) => return json(&json!({"error": error.name(), "forged": forged})),
    };
    let connection = exchange.connection();
    json(&json!({
        "request_id": exchange.request_id(),
        "route": exchange.route(),
        "cancelled": exchange.cancelled(),
        "protocol": match connection.protocol {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
            Protocol::Http3 => "HTTP/3",
        },
        "peer": connection.peer,
        "local": connection.local,
        "connection_id": connection.id,
        "requests": connection.requests,
        "tls": connection.tls.as_ref().map(|tls| &tls.version),
        "alpn": connection.tls.as_ref().and_then(|tls| tls.alpn.as_ref()),
        "early_data": connection.tls.as_ref().is_some_and(|tls| tls.early_data),
        "early_data_field": header(&request, "early-data"),
        "forged": forged,
    }))
}
