//! What the server serves right now, of which `wharf:host/registry` tells plugins that have
//! `registry = true` under `[capabilities]`.

/// One route of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The plugin's name.
    pub plugin: String,
    /// The content hash of its component, in hexadecimal.
    pub version: String,
    /// Absent: any method.
    pub method: Option<String>,
    /// Absent: any host.
    pub host: Option<String>,
    /// For example `/posts/{id}` or `/js/*`.
    pub path: String,
}

/// The manifest does not grant `registry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotGranted;

impl std::fmt::Display for NotGranted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the manifest does not have `registry = true` under [capabilities]")
    }
}

impl std::error::Error for NotGranted {}

/// Every route of every serving plugin, ordered by path.
///
/// # Errors
///
/// [`NotGranted`]; natively always, as there is no host.
pub fn endpoints() -> Result<Vec<Endpoint>, NotGranted> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wharf::host::registry::endpoints()
        .map(|endpoints| {
            endpoints
                .into_iter()
                .map(|endpoint| Endpoint {
                    plugin: endpoint.plugin,
                    version: endpoint.version,
                    method: endpoint.method,
                    host: endpoint.host,
                    path: endpoint.path,
                })
                .collect()
        })
        .map_err(|_| NotGranted);
    #[cfg(not(target_family = "wasm"))]
    Err(NotGranted)
}
