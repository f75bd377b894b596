//! `wharf:host/registry`: what is served right now, for plugins that are granted it.

use super::bindings::wharf::host::registry::{Endpoint, Host, RegistryError};
use crate::plugin::state::HostState;

impl Host for HostState {
    fn endpoints(&mut self) -> wasmtime::Result<Result<Vec<Endpoint>, RegistryError>> {
        if !self.environment.manifest.capabilities.registry {
            return Ok(Err(RegistryError::NotGranted));
        }
        let endpoints = self.environment.services.endpoints.endpoints();
        let endpoints = endpoints.into_iter().map(|endpoint| Endpoint {
            plugin: endpoint.plugin,
            version: endpoint.version,
            method: endpoint.method,
            host: endpoint.host,
            path: endpoint.path,
        });
        Ok(Ok(endpoints.collect()))
    }
}
