//! Waits for the client's leaving. `/head`: before it answers; `/body`: while it sends a piece a second;
//! prints `waiting`, then `request cancelled` and, 300 ms later, `cleaned up`. `/poll`: as `/head`, but
//! asks every 10 ms and prints only `seen`. Anything else: `ok`.

use guests_p3::{
    Answer, Request, Response, fields, header, path, spawn_local, text, wit_future, wit_stream,
};
use wasip3::clocks::monotonic_clock::wait_for;

use bindings::wharf::host::exchange::{self, Exchange};
use bindings::wharf::host::exchange_async::cancelled;

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer { import wharf:host/exchange-async@0.1.0; }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

const MILLISECOND: u64 = 1_000_000;

async fn handle(request: Request) -> Answer {
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let exchange = exchange::open(&token).expect("its own token");
    match path(&request).as_str() {
        "/head" => {
            until_cancelled(&exchange).await;
            text("nobody reads this")
        }
        "/body" => {
            let (mut writer, reader) = wit_stream::new();
            let (_, trailers) = wit_future::new(|| Ok(None));
            let (response, _) = Response::new(fields(&[]), Some(reader), trailers);
            spawn_local(async move {
                writer.write_all(b"begun\n".to_vec()).await;
                until_cancelled(&exchange).await;
                drop(writer);
            });
            Ok(response)
        }
        "/poll" => {
            println!("waiting");
            while !exchange.cancelled() {
                wait_for(10 * MILLISECOND).await;
            }
            println!("seen");
            text("nobody reads this")
        }
        _ => text("ok"),
    }
}

async fn until_cancelled(exchange: &Exchange) {
    println!("waiting");
    cancelled(exchange).await;
    println!("request cancelled");
    wait_for(300 * MILLISECOND).await;
    println!("cleaned up");
}
