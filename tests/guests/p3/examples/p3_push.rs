//! Pushes each `?push=` (with `?method=` and, for `?field=NAME:VALUE`, a field), then answers with its
//! own method, path and `x-asset`. Field `x-push`: what became of the pushes, in their order.

use guests_p3::{Answer, Request, answer, fields, header, parameter, path};
use wasip3::http::types::Method;

use bindings::wharf::host::exchange::{self, PushOptions};

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
    let exchange = exchange::open(&token).expect("its own token");
    let target = request.get_path_with_query().unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let options = PushOptions {
        method: parameter(&request, "method").unwrap_or_else(|| "GET".to_owned()),
        headers: parameter(&request, "field")
            .and_then(|field| {
                let (name, value) = field.split_once(':')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .into_iter()
            .collect(),
    };
    let outcomes: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "push")
        .map(|(_, path)| match exchange.push(&path, Some(&options)) {
            Ok(()) => "pushed",
            Err(error) => error.name(),
        })
        .collect();

    let method = match request.get_method() {
        Method::Get => "GET",
        Method::Head => "HEAD",
        _ => "other",
    };
    let asset = header(&request, "x-asset").unwrap_or_default();
    let fields = fields(&[("x-push", &outcomes.join(","))]);
    answer(200, fields, format!("{method} {} {asset}", path(&request)))
}
