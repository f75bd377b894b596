//! `wharf.toml` as it was written: serde structs, one a table, every key optional.
//!
//! [`FileConfig::read`] refuses unknown keys; ranges are checked when the values are applied to the
//! defaults, so that an error still has its line. [`super::Config`] is what travels on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::cache::FileCache;
use super::fault::{TomlFault, parse_toml};
use super::layer::Layer;
use super::units::{DurationValue, SizeValue, show_duration, show_size};
use super::value::{Listen, LogFormat, Switch};
use super::{Admission, ConfigError};
use crate::http::forwarded::TrustedProxies;
use crate::http::limits::Limits;
use crate::plugin::log::Settings as PluginLogSettings;

/// Largest `wharf.toml` that is read.
const MAX_FILE: u64 = 1 << 20;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileConfig {
    plugins: Option<PathBuf>,
    http: Option<Listen>,
    https: Option<Listen>,
    admin: Option<Listen>,
    data: Option<PathBuf>,
    tls_cert: Option<OneOrMany>,
    tls_key: Option<OneOrMany>,
    http2: Option<Switch>,
    http3: Option<Switch>,
    early_data: Option<Switch>,
    ready_file: Option<PathBuf>,
    takeover: Option<Switch>,
    log_format: Option<LogFormat>,
    threads: Option<usize>,
    drain_limit: Option<DurationValue>,
    /// Names under which the admin listener may be addressed besides loopback ones.
    #[serde(default)]
    pub(super) admin_hosts: Vec<String>,
    /// Peers whose word about earlier hops counts.
    trusted_proxies: Option<Spanned<Vec<String>>>,
    pub(super) compile_threads: Option<usize>,
    #[serde(default)]
    pub(super) limits: FileLimits,
    #[serde(default)]
    pub(super) cache: FileCache,
    #[serde(default)]
    pub(super) log: FileLog,
    #[serde(default)]
    pub(super) otlp: FileOtlp,
}

/// `"a"` or `["a", "b"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a path, or a list of paths")]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// `[limits]`: the names are those of [`Limits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileLimits {
    handshake_timeout: Option<Spanned<DurationValue>>,
    sniff_timeout: Option<Spanned<DurationValue>>,
    header_timeout: Option<Spanned<DurationValue>>,
    idle_timeout: Option<Spanned<DurationValue>>,
    body_idle_timeout: Option<Spanned<DurationValue>>,
    body_min_rate: Option<Spanned<SizeValue>>,
    write_idle_timeout: Option<Spanned<DurationValue>>,
    switch_idle_timeout: Option<Spanned<DurationValue>>,
    half_close_grace: Option<Spanned<DurationValue>>,
    connections: Option<Spanned<u64>>,
    connections_per_address: Option<Spanned<u64>>,
    streams: Option<Spanned<u64>>,
    headers: Option<Spanned<u64>>,
    header_bytes: Option<Spanned<SizeValue>>,
    url_bytes: Option<Spanned<SizeValue>>,
    h2_control_frames: Option<Spanned<u64>>,
    h2_pending_resets: Option<Spanned<u64>>,
    h2_local_resets: Option<Spanned<u64>>,
    requests: Option<Spanned<u64>>,
    admit_wait: Option<Spanned<DurationValue>>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileLog {
    pub(super) access: Option<Switch>,
    pub(super) filter: Option<String>,
    plugin_file_size: Option<Spanned<SizeValue>>,
    plugin_files: Option<Spanned<u64>>,
    plugin_rate: Option<Spanned<SizeValue>>,
    plugin_burst: Option<Spanned<SizeValue>>,
}

/// `[otlp]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileOtlp {
    pub(super) endpoint: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) service_name: Option<String>,
    pub(super) sample: Option<Spanned<f64>>,
}

/// A file with its text, to tell the line of a value.
#[derive(Debug, Default)]
pub struct Source {
    file: String,
    text: String,
}

impl FileConfig {
    /// Reads and parses `file`. `None` if it does not exist.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::Toml`].
    pub fn read(file: &Path) -> Result<Option<(Self, Source)>, ConfigError> {
        let failed = |source| ConfigError::Read { file: file.to_owned(), source };
        match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > MAX_FILE => {
                return Err(failed(io::Error::other("it is larger than 1 MiB")));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(file).map_err(failed)?;
        let source = Source { file: file.display().to_string(), text };
        let config = parse_toml(&source.file, &source.text)?;
        Ok(Some((config, source)))
    }

    /// What the file says of the settings that flags have too. Paths are relative to `folder`, the
    /// file's own.
    pub(super) fn layer(&mut self, folder: &Path) -> Layer {
        let path = |path: PathBuf| folder.join(path);
        let paths = |paths: Option<OneOrMany>| match paths {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![path(one)],
            Some(OneOrMany::Many(many)) => many.into_iter().map(path).collect(),
        };
        Layer {
            plugins: self.plugins.take().map(path),
            http: self.http,
            https: self.https,
            admin: self.admin,
            data: self.data.take().map(path),
            tls_cert: paths(self.tls_cert.take()),
            tls_key: paths(self.tls_key.take()),
            http2: self.http2,
            http3: self.http3,
            early_data: self.early_data,
            ready_file: self.ready_file.take().map(path),
            takeover: self.takeover,
            log_format: self.log_format,
            threads: self.threads,
            drain_limit: self.drain_limit.map(|value| value.0),
        }
    }
}

impl FileConfig {
    pub(super) fn trusted_proxies(&self, source: &Source) -> Result<TrustedProxies, ConfigError> {
        let Some(written) = &self.trusted_proxies else { return Ok(TrustedProxies::default()) };
        let texts = written.get_ref().iter().map(String::as_str);
        TrustedProxies::parse(texts).map_err(|text| {
            let message = format!(
                "`trusted-proxies` has \"{text}\": addresses, and networks like \"10.0.0.0/8\""
            );
            source.fault(&written.span(), message)
        })
    }
}

/// Timeouts of one step on a connection.
const STEP: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
/// Timeouts of a connection or a body that lies still.
const STILL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
/// Graces and waits, which may be nothing.
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);

impl FileLimits {
    pub(super) fn apply(
        self,
        source: &Source,
        limits: &mut Limits,
        admission: &mut Admission,
    ) -> Result<(), ConfigError> {
        let s = source;
        s.time("handshake-timeout", self.handshake_timeout, STEP, &mut limits.handshake_timeout)?;
        s.time("sniff-timeout", self.sniff_timeout, STEP, &mut limits.sniff_timeout)?;
        s.time("header-timeout", self.header_timeout, STEP, &mut limits.header_timeout)?;
        s.time("idle-timeout", self.idle_timeout, STILL, &mut limits.idle_timeout)?;
        s.time("body-idle-timeout", self.body_idle_timeout, STILL, &mut limits.body_idle_timeout)?;
        s.size("body-min-rate", self.body_min_rate, 1..=1 << 30, &mut limits.body_min_rate)?;
        s.time(
            "write-idle-timeout",
            self.write_idle_timeout,
            STILL,
            &mut limits.write_idle_timeout,
        )?;
        limits.switch_idle_timeout = limits.idle_timeout;
        s.time(
            "switch-idle-timeout",
            self.switch_idle_timeout,
            STILL,
            &mut limits.switch_idle_timeout,
        )?;
        s.time("half-close-grace", self.half_close_grace, GRACE, &mut limits.half_close_grace)?;
        s.count("connections", self.connections, 1..=10_000_000, &mut limits.connections)?;
        s.count(
            "connections-per-address",
            self.connections_per_address,
            1..=10_000_000,
            &mut limits.connections_per_address,
        )?;
        s.count("streams", self.streams, 1..=65_536, &mut limits.streams)?;
        s.count("headers", self.headers, 8..=10_000, &mut limits.headers)?;
        s.size("header-bytes", self.header_bytes, 1 << 10..=1 << 20, &mut limits.header_bytes)?;
        s.size("url-bytes", self.url_bytes, 256..=1 << 20, &mut limits.url_bytes)?;
        s.count(
            "h2-control-frames",
            self.h2_control_frames,
            10..=1_000_000,
            &mut limits.h2_control_frames,
        )?;
        s.count(
            "h2-pending-resets",
            self.h2_pending_resets,
            1..=10_000,
            &mut limits.h2_pending_resets,
        )?;
        s.count("h2-local-resets", self.h2_local_resets, 1..=100_000, &mut limits.h2_local_resets)?;
        s.count("requests", self.requests, 1..=10_000_000, &mut admission.requests)?;
        s.time("admit-wait", self.admit_wait, GRACE, &mut admission.wait)
    }
}

impl FileLog {
    pub(super) fn apply(
        self,
        source: &Source,
        settings: &mut PluginLogSettings,
    ) -> Result<(), ConfigError> {
        let sizes = 1 << 10..=1 << 40;
        source.size(
            "plugin-file-size",
            self.plugin_file_size,
            sizes.clone(),
            &mut settings.file_size,
        )?;
        source.count("plugin-files", self.plugin_files, 1..=1_000, &mut settings.files)?;
        source.size("plugin-rate", self.plugin_rate, sizes.clone(), &mut settings.rate)?;
        source.size("plugin-burst", self.plugin_burst, sizes, &mut settings.burst)
    }
}

impl Source {
    /// The fault of the value at `span`.
    pub(super) fn fault(&self, span: &Range<usize>, message: String) -> ConfigError {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        ConfigError::Toml(TomlFault { file: self.file.clone(), line, message })
    }

    fn time(
        &self,
        key: &str,
        written: Option<Spanned<DurationValue>>,
        range: RangeInclusive<Duration>,
        into: &mut Duration,
    ) -> Result<(), ConfigError> {
        let Some(written) = written else {
            return Ok(());
        };
        let value = written.get_ref().0;
        if !range.contains(&value) {
            let (from, to) = (show_duration(*range.start()), show_duration(*range.end()));
            let message = format!("`{key}` is {}: from {from} to {to}", show_duration(value));
            return Err(self.fault(&written.span(), message));
        }
        *into = value;
        Ok(())
    }

    pub(super) fn size<T: TryFrom<u64>>(
        &self,
        key: &str,
        written: Option<Spanned<SizeValue>>,
        range: RangeInclusive<u64>,
        into: &mut T,
    ) -> Result<(), ConfigError> {
        let Some(written) = written else {
            return Ok(());
        };
        self.number(key, written.get_ref().0, &written.span(), &range, show_size, into)
    }

    fn count<T: TryFrom<u64>>(
        &self,
        key: &str,
        written: Option<Spanned<u64>>,
        range: RangeInclusive<u64>,
        into: &mut T,
    ) -> Result<(), ConfigError> {
        let Some(written) = written else {
            return Ok(());
        };
        let show = |number: u64| number.to_string();
        self.number(key, *written.get_ref(), &written.span(), &range, show, into)
    }

    fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        value: u64,
        span: &Range<usize>,
        range: &RangeInclusive<u64>,
        show: impl Fn(u64) -> String,
        into: &mut T,
    ) -> Result<(), ConfigError> {
        let refused = || {
            let (from, to) = (show(*range.start()), show(*range.end()));
            self.fault(span, format!("`{key}` is {}: from {from} to {to}", show(value)))
        };
        if !range.contains(&value) {
            return Err(refused());
        }
        *into = T::try_from(value).map_err(|_| refused())?;
        Ok(())
    }
}
