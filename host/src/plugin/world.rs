//! Stand-in until the loader is merged.
use super::manifest::{Manifest, Mode};
#[derive(Debug, Clone)]
pub struct World {}
impl World {
    pub fn mode(&self, _m: &Manifest) -> Mode {
        Mode::Reuse
    }
}
