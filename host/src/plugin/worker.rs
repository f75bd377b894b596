//! The life of one instance: made, given calls, ended. Drives the store with wasmtime's public
//! concurrency calls instead of `wasmtime_wasi_http::handler::ProxyHandler`, which cannot bound its
//! queue, notice a client that left, tell calls of a lost instance apart or keep `https` for 0.2.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::uri::Scheme;
use wasmtime::component::{Accessor, Resource, TypedFuncCallConcurrent};
use wasmtime::{AsContextMut, Store, StoreContextMut};
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView, p2, p3};

use super::Failure;
use super::call::{Call, Job, OriginalBody, Place, Work};
use super::event::EventTask;
use super::instances::{Replay, Step, WorkerHandle};
use super::lane;
use super::program::{Exports, Guest, Program};
use super::state::{GuestClock, HostState};

type CallFuture<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

/// Starts a worker with an instance of `program`.
pub(super) fn spawn(worker: Arc<WorkerHandle>, program: Arc<Program>) {
    let guest = Arc::new(GuestClock::new());
    let clock = Arc::clone(program.engines().clock());
    let work = live(Arc::clone(&worker), program, Arc::clone(&guest));
    // The worker may be started from another core (a middleware's next plugin): its timers belong
    // to its own runtime.
    let _runtime = worker.set().runtime().clone();
    let _entered = _runtime.enter();
    lane::spawn(worker, guest, clock, Box::pin(work));
}

async fn live(worker: Arc<WorkerHandle>, program: Arc<Program>, guest: Arc<GuestClock>) {
    let Guest { mut store, exports } = match program.instantiate(worker.environment(), guest).await
    {
        Ok(instance) => instance,
        Err(error) => {
            let message = format!("{error:?}").into();
            worker.fail_inbox(&Failure::Instantiate { message });
            return;
        }
    };
    if let Err(error) = serve(&worker, &mut store, &exports).await {
        let failure = classify(&store, &error);
        worker.fail_all(&failure);
    }
}

/// What a trap means.
fn classify(store: &Store<HostState>, error: &wasmtime::Error) -> Failure {
    let state = store.data();
    if state.was_denied_memory() {
        return Failure::OutOfMemory { limit: state.environment.manifest.limits.memory };
    }
    Failure::Trap { message: format!("{error:?}").into() }
}

async fn serve(
    worker: &Arc<WorkerHandle>,
    store: &mut Store<HostState>,
    exports: &Exports,
) -> wasmtime::Result<()> {
    let handle = match &exports.proxy {
        Proxy::P3(guest) => *guest.wasi_http_handler().func_handle().func(),
        Proxy::P2(guest) => *guest.wasi_http_incoming_handler().func_handle().func(),
    };
    store
        .run_concurrent(async |accessor: &Accessor<HostState>| {
            let mut calls = pin!(FuturesUnordered::<CallFuture<'_>>::new());
            poll_fn(|cx| {
                loop {
                    match calls.poll_next_unpin(cx) {
                        Poll::Ready(Some(Ok(()))) => continue,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        Poll::Ready(None) | Poll::Pending => {}
                    }
                    let ready = accessor.poll_ready_for_concurrent_call(handle, cx).is_ready();
                    match worker.step(ready, cx.waker()) {
                        Step::Begin(job) => {
                            let call = accessor.with(|mut store| {
                                begin(worker, store.as_context_mut(), exports, job)
                            });
                            match call {
                                Ok(begun) => calls.push(begun.finish(accessor)),
                                Err(error) => return Poll::Ready(Err(error)),
                            }
                        }
                        Step::Wait => return Poll::Pending,
                        Step::End => {
                            if !calls.is_empty()
                                || accessor.poll_no_interesting_tasks(cx).is_pending()
                            {
                                return Poll::Pending;
                            }
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            })
            .await
        })
        .await?
}

type P3Result = Result<Resource<p3::Response>, p3::bindings::http::types::ErrorCode>;
/// Resolves when a request's body has been sent, or not.
type Transmission = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

/// A call whose guest task exists.
enum Begun<'a> {
    P3 {
        worker: Arc<WorkerHandle>,
        call: Arc<Call>,
        place: Arc<Place>,
        guest: &'a p3::bindings::Service,
        task: TypedFuncCallConcurrent<HostState, (Resource<p3::Request>,), (P3Result,)>,
        transmission: Transmission,
    },
    P2 {
        worker: Arc<WorkerHandle>,
        call: Arc<Call>,
        place: Arc<Place>,
        guest: &'a p2::bindings::Proxy,
        task: TypedFuncCallConcurrent<
            HostState,
            (Resource<p2::types::HostIncomingRequest>, Resource<p2::types::HostResponseOutparam>),
            (),
        >,
    },
    Event {
        worker: Arc<WorkerHandle>,
        call: Arc<Call>,
        place: Arc<Place>,
        /// `None`: the component takes no such event.
        task: Option<EventTask>,
    },
}

fn begin<'a>(
    worker: &Arc<WorkerHandle>,
    mut store: StoreContextMut<'_, HostState>,
    exports: &'a Exports,
    job: Job,
) -> wasmtime::Result<Begun<'a>> {
    let Job { call, work, reply, permit, retried } = job;
    store.data_mut().begin_call(&call);
    let worker = Arc::clone(worker);
    let request = match work {
        Work::Request(request) => request,
        Work::Event(event) => {
            // Never begun again: the guest may have done what it was told to do.
            let place = worker.begin(&call, reply, permit, None);
            let task = exports.events.start(store, event)?;
            if let Some(task) = &task {
                let _only_once = call.task.set(task.id());
            }
            return Ok(Begun::Event { worker, call, place, task });
        }
    };
    match &exports.proxy {
        Proxy::P3(guest) => {
            let (parts, body) = request.into_parts();
            let http = store.data_mut().http();
            let headers = FieldMap::new_immutable(http.hooks, parts.headers);
            let bodiless = http_body::Body::is_end_stream(&body);
            let replay = (!retried && bodiless && parts.method.is_safe()).then(|| Replay {
                method: parts.method.clone(),
                uri: parts.uri.clone(),
                headers: headers.clone(),
            });
            let uri = parts.uri.into_parts();
            let (request, transmission) = p3::Request::new(
                parts.method,
                uri.scheme,
                uri.authority,
                uri.path_and_query,
                headers,
                None,
                body,
            );
            let request = http.table.push(request)?;
            let place = worker.begin(&call, reply, permit, replay);
            let task =
                guest.wasi_http_handler().func_handle().start_call_concurrent(store, (request,))?;
            let _only_once = call.task.set(task.task());
            let transmission = Box::pin(transmission);
            Ok(Begun::P3 { worker, call, place, guest, task, transmission })
        }
        Proxy::P2(guest) => {
            let place = worker.begin(&call, reply, permit, None);
            let request = if call.next.is_some() {
                let mut shown = http::Request::new(WasiBody::new(OriginalBody(Arc::clone(&call))));
                *shown.method_mut() = request.method().clone();
                *shown.uri_mut() = request.uri().clone();
                *shown.headers_mut() = request.headers().clone();
                *call.original.lock() = Some(request);
                shown
            } else {
                request
            };
            let scheme = match request.uri().scheme() {
                Some(scheme) if *scheme == Scheme::HTTPS => {
                    p2::bindings::http::types::Scheme::Https
                }
                _ => p2::bindings::http::types::Scheme::Http,
            };
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(scheme, request)?;
            let out = http.new_response_outparam_from_callback({
                let worker = Arc::clone(&worker);
                let call = Arc::clone(&call);
                move |answer| {
                    let answer = answer
                        .map_err(|code| Failure::Reply { message: format!("{code:?}").into() });
                    worker.answer(&call, answer);
                }
            })?;
            let task = guest
                .wasi_http_incoming_handler()
                .func_handle()
                .start_call_concurrent(store, (request, out))?;
            let _only_once = call.task.set(task.task());
            Ok(Begun::P2 { worker, call, place, guest, task })
        }
    }
}

impl<'a> Begun<'a> {
    fn finish(self, accessor: &'a Accessor<HostState>) -> CallFuture<'a> {
        match self {
            Self::P3 { worker, call, place, guest, task, transmission } => Box::pin(async move {
                let handle = guest.wasi_http_handler().func_handle();
                let (result,) = handle.finish_call_concurrent(accessor, task).await?;
                let answer = match result {
                    Ok(response) => accessor
                        .with(|mut store| {
                            let response = store.data_mut().http().table.delete(response)?;
                            Ok(response.into_http_with_getter(
                                &mut store,
                                transmission,
                                HostState::http,
                            ))
                        })
                        .and_then(|converted: wasmtime::Result<_>| converted)
                        .map_err(|error: wasmtime::Error| Failure::Reply {
                            message: format!("{error:#}").into(),
                        }),
                    Err(code) => Err(Failure::Reply { message: format!("{code:?}").into() }),
                };
                worker.answer(&call, answer);
                drop(place);
                Ok(())
            }),
            Self::P2 { worker, call, place, guest, task } => Box::pin(async move {
                let handle = guest.wasi_http_incoming_handler().func_handle();
                handle.finish_call_concurrent(accessor, task).await?;
                // The first answer wins: this one counts only if the guest gave none.
                worker.answer(&call, Err(Failure::NoResponse));
                accessor.with(|mut store| store.data_mut().end_call(&call));
                drop(place);
                Ok(())
            }),
            Self::Event { worker, call, place, task } => Box::pin(async move {
                if let Some(task) = task {
                    task.finish(accessor).await?;
                }
                worker.told(&call);
                accessor.with(|mut store| store.data_mut().end_call(&call));
                drop(place);
                Ok(())
            }),
        }
    }
}
