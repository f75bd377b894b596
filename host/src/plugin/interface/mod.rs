//! What guests may import: WASI 0.2 and 0.3, `wasi:http`, `wasi:config`, and our own interfaces, one
//! file each. Everything is linked for every plugin and refused when called without a grant, because
//! most languages import all of WASI whether they use it or not.

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi_config::WasiConfig;

use super::state::HostState;

mod cache;
pub mod exchange;
mod exchange_async;
mod files;
mod handler;
mod hub;
pub mod keyvalue;
mod metrics;
pub mod outbound;
mod registry;
pub mod sql;
pub mod sse;
mod upgrade;
mod websocket;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "wharf:host/host",
        imports: {
            "wharf:host/sql.[drop]cursor": trappable,
            "wharf:host/sql.[drop]transaction": trappable,
            "wharf:host/sql.[method]cursor.columns": trappable,
            "wharf:host/sql": async | store | trappable,
            "wharf:host/files.reply": async | trappable,
            "wharf:host/upgrade.accept": store | trappable,
            "wharf:host/hub.publish": async | trappable,
            "wharf:host/hub.wait": async | trappable,
            "wharf:host/sse.[method]emitter.send": async | trappable,
            "wharf:host/sse.[method]emitter.comment": async | trappable,
            default: trappable,
        },
        with: {
            "wharf:host/sql.cursor": super::sql::OpenCursor,
            "wharf:host/sql.transaction": super::sql::OpenTransaction,
            "wharf:host/sql-async.cursor": super::sql::OpenCursor,
            "wharf:host/sql-async.transaction": super::sql::OpenTransaction,
            "wharf:host/sse.emitter": super::sse::OpenEmitter,
            "wharf:host/exchange.exchange": super::exchange::OpenExchange,
        },
    });
}

/// A linker with everything.
///
/// # Errors
/// When two interfaces claim one name.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| {
        WasiConfig::new(&state.config)
    })?;
    handler::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    bindings::Host_::add_to_linker::<HostState, HasSelf<HostState>>(&mut linker, |state| state)?;
    Ok(linker)
}
