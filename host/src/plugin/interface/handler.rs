//! The imported handler of middleware: `wasi:http/handler` (0.3) and `wasi:http/incoming-handler`
//! (0.2) lead to the next plugin of the chain, whichever WASI that one speaks.

use std::sync::Arc;

use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types as p2_types;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{WasiHttpView, p3};

use crate::plugin::Failure;
use crate::plugin::call::Call;
use crate::plugin::state::HostState;

/// 0.3 imports match these by semver.
const P3: &str = "wasi:http/handler@0.3.0";
/// 0.2 imports match these by semver.
const P2: &str = "wasi:http/incoming-handler@0.2.12";

pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(P3)?.func_wrap_concurrent(
        "handle",
        |accessor: &Accessor<HostState>, (request,): (Resource<p3::Request>,)| {
            Box::pin(async move { Ok((handle_p3(accessor, request).await?,)) })
        },
    )?;
    linker.instance(P2)?.func_wrap_async(
        "handle",
        |mut store,
         (request, out): (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>)| {
            Box::new(async move {
                let table = store.data_mut().http().table;
                table.delete(request)?;
                let out = table.delete(out)?;
                let call = calling(store.as_context_mut())?;
                // In 0.2 the answer goes straight through to the outer caller, so the middleware's
                // own task need not wait for it; awaiting here keeps its instance, and with it the
                // request's body, alive until the head is there.
                let answer = match &call {
                    Some((call, next)) => {
                        let original = call.original.lock().take();
                        match original {
                            Some(request) => next.call(&call.exchange, request).await,
                            None => Err(handed_on_twice()),
                        }
                    }
                    None => Err(no_next()),
                };
                (out.send)(answer.map_err(|failure| p2_error(&call, &failure)));
                Ok(())
            })
        },
    )?;
    Ok(())
}

type Calling = Option<(Arc<Call>, crate::plugin::chain::Next)>;

fn calling(store: wasmtime::StoreContextMut<'_, HostState>) -> wasmtime::Result<Calling> {
    let call = current_call(store)?;
    Ok(call.and_then(|call| call.next.clone().map(|next| (call, next))))
}

/// The call on whose behalf the guest runs right now: by the component model's task, else, for tasks
/// that a guest detached from it, the only call there is.
pub(super) fn current_call(
    mut store: wasmtime::StoreContextMut<'_, HostState>,
) -> wasmtime::Result<Option<Arc<Call>>> {
    let tasks: Vec<_> = store.async_call_stack()?.collect();
    let calls = &store.data().calls;
    // The newest: a call whose body still goes out may have had the same task, which has ended, and
    // whose id was given out again.
    let by_task =
        calls.iter().rev().find(|call| call.task.get().is_some_and(|task| tasks.contains(task)));
    let ((Some(call), _) | (None, [call])) = (by_task, calls.as_slice()) else {
        return Ok(None);
    };
    Ok(Some(Arc::clone(call)))
}

fn no_next() -> Failure {
    Failure::Reply { message: "middleware called its handler where nothing follows".into() }
}

fn handed_on_twice() -> Failure {
    Failure::Reply { message: "middleware called its handler twice for one request".into() }
}

async fn handle_p3(
    accessor: &Accessor<HostState>,
    request: Resource<p3::Request>,
) -> wasmtime::Result<Result<Resource<p3::Response>, ErrorCode>> {
    let prepared = accessor.with(|mut store| {
        let calling = calling(store.as_context_mut())?;
        let request = store.data_mut().http().table.delete(request)?;
        let request = request.into_http_with_getter(&mut store, async { Ok(()) }, HostState::http);
        wasmtime::error::Ok((calling, request))
    })?;
    let (calling, request) = match prepared {
        (calling, Ok((request, _options))) => (calling, request),
        (_, Err(error)) => return Ok(Err(error.downcast()?)),
    };
    let Some((call, next)) = calling else {
        return Ok(Err(ErrorCode::InternalError(Some(no_next().to_string()))));
    };
    match next.call(&call.exchange, request).await {
        Ok(response) => accessor.with(|mut store| {
            let http = store.data_mut().http();
            let (response, _transmitted) = p3::Response::from_http(http.hooks, response);
            Ok(Ok(http.table.push(response)?))
        }),
        Err(failure) => {
            // Our own answer, if the host refused it, rather than the middleware's idea of it.
            note_refusal(&call, &failure);
            Ok(Err(ErrorCode::InternalError(Some(failure.public().to_owned()))))
        }
    }
}

fn note_refusal(call: &Call, failure: &Failure) {
    call.exchange.note_failure(failure.clone());
}

fn p2_error(call: &Calling, failure: &Failure) -> p2_types::ErrorCode {
    if let Some((call, _)) = call {
        note_refusal(call, failure);
    }
    p2_types::ErrorCode::InternalError(Some(failure.public().to_owned()))
}
