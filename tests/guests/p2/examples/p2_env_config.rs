//! JSON of what the guest is told of its surroundings: `env` (object), `args` (list), `config`
//! (all of `wasi:config/store`) and `key`, the setting `?key=`.

use std::collections::BTreeMap;

use guests_p2::{IncomingRequest, ResponseOutparam, json, parameter};
use serde_json::json;

use bindings::wasi::config::store;

guests_p2::serve!(handle);

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:guest;

            world importer { import wasi:config/store@0.2.0-rc.1; }

            package wasi:config@0.2.0-rc.1 {
                interface store {
                    variant error { upstream(string), io(string) }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }
        ",
        generate_all,
    });
}

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let args: Vec<String> = std::env::args().collect();
    let config = store::get_all().expect("settings that can be read");
    let config: BTreeMap<String, String> = config.into_iter().collect();
    let key = parameter(&request, "key").unwrap_or_default();
    let key = store::get(&key).expect("settings that can be read");
    json(out, &json!({"env": env, "args": args, "config": config, "key": key}));
}
