//! Event streams in 0.2, by plain functions: fed by this plugin (`?count=` events of `?size=` bytes) or,
//! with `?topic=`, by the hub.

use guests_p2::{IncomingRequest, ResponseOutparam, answer, fields, header, parameter};

use bindings::wharf::host::{exchange, hub, sse};

guests_p2::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer {
              import wharf:host/exchange@0.1.0;
              import wharf:host/hub@0.1.0;
              import wharf:host/sse@0.1.0;
            }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

fn event(data: String) -> hub::Event {
    hub::Event { id: None, name: None, data: hub::Payload::Text(data), retry: None, fields: vec![] }
}

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let exchange = exchange::open(&token).expect("the host names the exchange");
    let number = |name| parameter(&request, name).and_then(|text| text.parse().ok()).unwrap_or(0);
    if let Some(topic) = parameter(&request, "topic") {
        let options = sse::Options {
            subscription: hub::Subscription {
                topics: vec![hub::Selector::Exact(topic)],
                private_topics: vec![],
                within: None,
            },
            start: hub::Start::Request,
            first: vec![event("first".to_owned())],
            heartbeat: None,
            retry: None,
            lag: sse::LagPolicy::Disconnect,
            ends_with: vec!["end".to_owned()],
            max_age_ms: None,
            attributes: vec![],
            on_open: vec![],
            on_close: vec![],
        };
        match sse::reply(&exchange, &options) {
            Ok(stream) => answer(out, 200, fields(&[("wharf-reply", &stream.token)]), "unseen"),
            Err(error) => answer(out, 500, fields(&[]), &format!("{error:?}")),
        }
        return;
    }
    let options = sse::EmitterOptions { heartbeat: None, retry: Some(7) };
    let (token, emitter) = match sse::emit(&exchange, &options) {
        Ok(both) => both,
        Err(error) => return answer(out, 500, fields(&[]), &format!("{error:?}")),
    };
    answer(out, 200, fields(&[("wharf-reply", &token)]), "unseen");
    let text = "x".repeat(number("size"));
    for index in 0..number("count") {
        if emitter.send(&event(format!("{index}{text}"))).is_err() {
            println!("closed at {index}: {}", emitter.closed());
            return;
        }
    }
}
