//! `[cache]` of `wharf.toml`: the room that the shared cache has, and policies by name for all
//! plugins.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::file::Source;
use super::policies::NamedPolicies;
use super::units::SizeValue;

/// Bytes of memory that stored responses may take; 0: nothing is stored.
pub const DEFAULT_CACHE_SIZE: u64 = 256 << 20;
/// Largest memory for stored responses.
const MAX_CACHE_SIZE: u64 = 64 << 40;

/// The shared cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// [`DEFAULT_CACHE_SIZE`].
    pub size: u64,
    /// Those of [`wharf_cache::policy::NAMED`] and those of the file.
    pub policies: NamedPolicies,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { size: DEFAULT_CACHE_SIZE, policies: NamedPolicies::default() }
    }
}

/// `[cache]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileCache {
    size: Option<Spanned<SizeValue>>,
    policies: Option<Spanned<BTreeMap<String, String>>>,
}

impl FileCache {
    pub(super) fn apply(
        self,
        source: &Source,
        settings: &mut CacheConfig,
    ) -> Result<(), ConfigError> {
        source.size("size", self.size, 0..=MAX_CACHE_SIZE, &mut settings.size)?;
        if let Some(policies) = self.policies {
            settings.policies =
                settings.policies.with(policies.get_ref()).map_err(|(name, error)| {
                    source.fault(&policies.span(), format!("`policies.{name}`: {error}"))
                })?;
        }
        Ok(())
    }
}
