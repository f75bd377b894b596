//! `p3_file_reply` in 0.2: answers with the file `?path=`, as an attachment.

use guests_p2::{IncomingRequest, ResponseOutparam, answer, fields, header, parameter};

use bindings::wharf::host::{exchange, files};

guests_p2::serve!(handle);

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

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let token = header(&request, "wharf-exchange").unwrap_or_default();
    let exchange = exchange::open(&token).expect("the host names the exchange");
    let disposition = files::Disposition { kind: files::DispositionKind::Attachment, name: None };
    let options = files::ReplyOptions {
        content_type: None,
        disposition: Some(disposition),
        once: false,
        precompressed: false,
    };
    let path = parameter(&request, "path").unwrap_or_default();
    match files::reply(&exchange, &path, &options) {
        Ok(token) => answer(out, 200, fields(&[("wharf-reply", &token)]), "the plugin's own"),
        Err(error) => {
            answer(out, 500, fields(&[("x-error", name(error.code))]), error.message);
        }
    }
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
