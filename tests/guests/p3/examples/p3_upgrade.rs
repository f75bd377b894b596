//! Switches to the protocol `?protocol=` (`test` where not given) and then does what `?mode=` says:
//! `echo`; `greet` (says `hello` first, then echoes); `bye` (says `bye` and ends both sides); `count`
//! (reads to the end, then says how many bytes came); `source` (`?bytes=` of `x`, reading nothing);
//! `stubborn` (keeps both ends for ever); `trap` (at the first byte). Without a switch: `requested`
//! lists what is asked for, `forget` answers 200 `forgot` without the token, `other` answers 404 with
//! it, `bare` answers 101 without asking, `twice` gives the second acceptance's error. A refusal is
//! 400 with its name. Prints `p3_upgrade: input ended` when the client's side has ended.

use guests_p3::{
    Answer, Request, Response, fields, header, number, parameter, spawn_local, text, wit_future,
};
use wasip3::clocks::monotonic_clock;
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

use bindings::wharf::host::{exchange, upgrade};

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer {
              import wharf:host/exchange@0.1.0;
              import wharf:host/upgrade@0.1.0;
            }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

async fn handle(request: Request) -> Answer {
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let Ok(exchange) = exchange::open(&token) else { return text("no exchange".to_owned()) };
    let mode = parameter(&request, "mode").unwrap_or_default();
    let protocol = parameter(&request, "protocol").unwrap_or_else(|| "test".to_owned());
    match mode.as_str() {
        "requested" => return text(upgrade::requested(&exchange).join("|")),
        "bare" => return answer(101, &[]),
        _ => {}
    }
    let (writer, outgoing) = bindings::wit_stream::new();
    let (reply, incoming) = match upgrade::accept(&exchange, &protocol, outgoing) {
        Ok(accepted) => accepted,
        Err(why) => return answer(400, &[("x-refused", why.name())]),
    };
    match mode.as_str() {
        "forget" => return text("forgot".to_owned()),
        "other" => return answer(404, &[("wharf-reply", &reply)]),
        "twice" => {
            let (_unused, outgoing) = bindings::wit_stream::new();
            let Err(why) = upgrade::accept(&exchange, &protocol, outgoing) else {
                return text("accepted twice".to_owned());
            };
            return text(why.name().to_owned());
        }
        _ => {}
    }
    let bytes = number(&request, "bytes", 0);
    spawn_local(speak(mode, bytes, incoming, writer));
    answer(101, &[("wharf-reply", &reply), ("x-switched", "yes")])
}

fn answer(status: u16, head: &[(&str, &str)]) -> Answer {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields(head), None, trailers);
    let _ = response.set_status_code(status);
    Ok(response)
}

async fn speak(
    mode: String,
    bytes: u64,
    mut incoming: StreamReader<u8>,
    mut writer: StreamWriter<u8>,
) {
    match mode.as_str() {
        "bye" => {
            writer.write_all(b"bye".to_vec()).await;
            return;
        }
        "source" => {
            let mut left = bytes as usize;
            while left > 0 {
                let piece = left.min(64 << 10);
                if !writer.write_all(vec![b'x'; piece]).await.is_empty() {
                    println!("p3_upgrade: the client took no more");
                    return;
                }
                left -= piece;
            }
            return;
        }
        "stubborn" => loop {
            monotonic_clock::wait_for(3_600_000_000_000).await;
        },
        "greet" => {
            writer.write_all(b"hello".to_vec()).await;
        }
        _ => {}
    }
    let mut count = 0;
    loop {
        let (result, piece) = incoming.read(Vec::with_capacity(64 << 10)).await;
        count += piece.len();
        if !piece.is_empty() {
            assert!(mode != "trap", "as it was told");
            if mode != "count" && !writer.write_all(piece).await.is_empty() {
                break;
            }
        }
        if !matches!(result, StreamResult::Complete(_)) {
            println!("p3_upgrade: input ended");
            break;
        }
    }
    if mode == "count" {
        writer.write_all(count.to_string().into_bytes()).await;
    }
}
