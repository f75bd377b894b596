//! Stand-in until the loader is merged.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{cause}")]
    Compile { cause: String },
    #[error("{0}")]
    Imports(String),
    #[error("{cause}")]
    World { cause: String },
}
impl LoadError {
    pub fn imports(message: &str) -> Self {
        Self::Imports(message.to_owned())
    }
}
