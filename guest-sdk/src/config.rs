//! The plugin's settings: `[config]` of its manifest, by `wasi:config/store@0.2.0-rc.1`.

use crate::Error;

/// The value of a setting; `None` where there is none, and natively always.
///
/// # Errors
///
/// 500 where the host cannot read its settings.
pub fn get(name: &str) -> Result<Option<String>, Error> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wasi::config::store::get(name)
        .map_err(|why| Error::internal(format!("setting {name:?}: {why:?}")));
    #[cfg(not(target_family = "wasm"))]
    {
        let _without_a_host = name;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn natively_there_are_no_settings() {
        assert_eq!(super::get("greeting").unwrap(), None);
    }
}
