//! `wharf:host/exchange-async`: what of an exchange a guest can await.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};
use wasmtime_wasi::WasiView;

use super::bindings::wharf::host::exchange_async::{Host, HostWithStore};
use super::exchange::OpenExchange;
use crate::plugin::state::HostState;

impl Host for HostState {}

impl<T> HostWithStore<T> for HasSelf<HostState> {
    async fn cancelled(
        accessor: &Accessor<T, Self>,
        exchange: Resource<OpenExchange>,
    ) -> wasmtime::Result<()> {
        let exchange = accessor.with(|mut store| {
            let found = store.get().ctx().table.get(&exchange).map(OpenExchange::exchange);
            found.map(Arc::clone)
        })?;
        exchange.cancelled().await;
        Ok(())
    }
}
