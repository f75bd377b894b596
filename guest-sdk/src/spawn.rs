//! [`spawn`]: work that goes on after the response.

use std::future::Future;

/// Runs `task` beside the instance's requests. It may go on after the handler has returned, for as long
/// as its work: the host counts the request as unfinished until then, and what has to happen at a later
/// time, or surely, belongs into a schedule.
///
/// Natively nothing runs it: it is dropped.
#[cfg(target_family = "wasm")]
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    wasip3::spawn_local(task);
}

/// Runs `task` beside the instance's requests. It may go on after the handler has returned.
///
/// Natively nothing runs it: it is dropped.
#[cfg(not(target_family = "wasm"))]
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(task);
}
