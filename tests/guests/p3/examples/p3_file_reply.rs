//! Answers with the file `?path=` through `wharf:host/files`: `&type=`, `&attachment=` or `&inline=` (a
//! name), `&once=1`, `&pre=1`; `&status=` and `&set=NAME:VALUE` (several, split by `|`) on the response;
//! `&rate=` limits it. `&again=1` uses its token for the next request as well. Errors: 500, with the
//! code in `x-error`.

use std::cell::RefCell;

use guests_p3::{Answer, Request, answer, fields, header, number, parameter};

use bindings::wharf::host::{exchange, files};

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer {
              import wharf:host/exchange@0.1.0;
              import wharf:host/files@0.1.0;
            }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

async fn handle(request: Request) -> Answer {
    let parameter = |name| parameter(&request, name);
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let Ok(exchange) = exchange::open(&token) else {
        return answer(500, fields(&[]), "no exchange");
    };
    let named =
        |kind, name: String| files::Disposition { kind, name: (!name.is_empty()).then_some(name) };
    let attachment = parameter("attachment").map(|n| named(files::DispositionKind::Attachment, n));
    let inline = parameter("inline").map(|n| named(files::DispositionKind::Inline, n));
    let options = files::ReplyOptions {
        content_type: parameter("type"),
        disposition: attachment.or(inline),
        once: number(&request, "once", 0) == 1,
        precompressed: number(&request, "pre", 0) == 1,
    };
    if let Some(rate) = parameter("rate").and_then(|rate| rate.parse().ok()) {
        exchange.set_bandwidth_limit(Some(rate));
    }
    let old = LAST.take().filter(|_| number(&request, "again", 0) == 1);
    let reply = match old {
        Some(token) => Ok(token),
        None => files::reply(&exchange, &parameter("path").unwrap_or_default(), &options),
    };
    let token = match reply {
        Ok(token) => token,
        Err(error) => {
            return answer(500, fields(&[("x-error", name(error.code))]), error.message);
        }
    };
    LAST.set(Some(token.clone()));
    let set = parameter("set").unwrap_or_default();
    let mut list = vec![("wharf-reply", token.as_str())];
    list.extend(set.split('|').filter_map(|field| field.split_once(':')));
    answer(number(&request, "status", 200) as u16, fields(&list), "the plugin's own")
}

fn name(code: files::ErrorCode) -> &'static str {
    match code {
        files::ErrorCode::NotGranted => "not-granted",
        files::ErrorCode::Invalid => "invalid",
        files::ErrorCode::NotFound => "not-found",
        files::ErrorCode::NotAFile => "not-a-file",
        files::ErrorCode::Unreadable => "unreadable",
        files::ErrorCode::TooMany => "too-many",
    }
}
