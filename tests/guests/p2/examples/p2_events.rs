//! Takes events by the plain exports; prints each, and answers what it has been told so far.

use std::cell::RefCell;

use guests_p2::{IncomingRequest, ResponseOutparam, text};

use bindings::exports::wharf::host::schedule_events::{Guest as ScheduleEvents, Occurrence};
use bindings::exports::wharf::host::websocket_events::{Guest as WebSocketEvents, Socket};
use bindings::wharf::host::hub::Payload;

guests_p2::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world exporter {
                export wharf:host/schedule-events@0.1.0;
                export wharf:host/websocket-events@0.1.0;
            }
        ",
        world: "test:guest/exporter",
        generate_all,
    });
}

thread_local! {
    static SEEN: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Events;

bindings::export!(Events with_types_in bindings);

impl ScheduleEvents for Events {
    fn run(occurrence: Occurrence) {
        let Occurrence { name, due, missed } = occurrence;
        note(&format!("schedule {name} due={due} missed={missed}"));
        if name.starts_with("loop-") {
            loop {
                std::hint::spin_loop();
            }
        }
    }
}

impl WebSocketEvents for Events {
    fn message(socket: Socket, message: Payload) {
        match message {
            Payload::Text(text) => note(&format!("message {} {text}", socket.id)),
            Payload::Binary(bytes) => note(&format!("message {} {} bytes", socket.id, bytes.len())),
        }
    }

    fn closed(socket: Socket, code: u16, reason: String) {
        note(&format!("closed {} {code} {reason}", socket.id));
    }
}

fn note(line: &str) {
    println!("{line}");
    SEEN.with_borrow_mut(|seen| {
        seen.push_str(line);
        seen.push('\n');
    });
}

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    SEEN.with_borrow(|seen| text(out, seen));
}
