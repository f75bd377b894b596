//! Imports `demo:host/log`, which no host has.

use guests_p3::{Answer, Request, text};

guests_p3::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package demo:host;
            interface log { line: func(text: string); }
            world importer { import log; }
        ",
    });
}

async fn handle(_request: Request) -> Answer {
    bindings::demo::host::log::line("import_unresolvable was asked");
    text("ok")
}
