//! Configuration: what was written (flags, environment, [`mod@file`]) becomes [`Config`], checked and
//! complete, once. Only [`Config`] travels.
//!
//! Precedence: flag, environment, file, default. Every default is a named constant: those here,
//! [`crate::http::limits`], and [`crate::plugin::log`].

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub mod cache;
pub mod fault;
pub mod file;
pub mod layer;
pub mod policies;
mod show;
pub mod units;
pub mod value;

pub use cache::CacheConfig;
pub use fault::{TomlFault, nearest_key, parse_toml};
pub use layer::Layer;
pub use value::LogFormat;

use crate::drain::DRAIN_LIMIT;
use crate::http::forwarded::TrustedProxies;
use crate::http::limits::Limits;
use crate::observe::otlp::{DEFAULT_SERVICE_NAME, OtlpConfig};
use crate::plugin::log::Settings as PluginLogSettings;
use file::FileConfig;

/// The configuration file that is read if it exists in the working folder.
pub const DEFAULT_FILE: &str = "wharf.toml";
/// The folder of plugins.
pub const DEFAULT_PLUGINS: &str = "plugins";
/// The data folder.
pub const DEFAULT_DATA: &str = ".wharf";
/// Port of the cleartext listener, on 127.0.0.1.
pub const DEFAULT_HTTP_PORT: u16 = 8080;
/// Port of the TLS listener and of HTTP/3, on 127.0.0.1.
pub const DEFAULT_HTTPS_PORT: u16 = 8443;
/// Port of the admin listener, on 127.0.0.1.
pub const DEFAULT_ADMIN_PORT: u16 = 9090;
/// Requests in flight over all plugins; past it a bounded wait, then 503. A request in flight costs
/// some 10 KiB in the host and up to its plugin's memory limit in the guest.
pub const DEFAULT_REQUESTS: usize = 10_000;
/// How long a request waits for a permit, the global one and its plugin's together.
pub const DEFAULT_ADMIT_WAIT: Duration = Duration::from_secs(1);
/// What is logged where neither `WHARF_LOG`, `RUST_LOG` nor `[log] filter` says it.
pub const DEFAULT_LOG_FILTER: &str = "info";

/// Most cores that are served on.
const MAX_THREADS: usize = 1024;
/// Longest drain.
const MAX_DRAIN_LIMIT: Duration = Duration::from_secs(3600);

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// The folder of plugins; it exists.
    pub plugins: PathBuf,
    /// Cleartext listener: 127.0.0.1:[`DEFAULT_HTTP_PORT`].
    pub http: Option<SocketAddr>,
    /// TLS and QUIC listener: 127.0.0.1:[`DEFAULT_HTTPS_PORT`].
    pub https: Option<SocketAddr>,
    /// Admin listener.
    pub admin: AdminConfig,
    /// The data folder; not made yet. [`DEFAULT_DATA`].
    pub data: PathBuf,
    /// Certificates with their keys, readable when looked at; empty: the development certificate.
    pub certificates: Vec<CertificateFiles>,
    /// HTTP/2 is offered.
    pub http2: bool,
    /// HTTP/3 is offered, where `https` is.
    pub http3: bool,
    /// Requests with safe methods are taken as TLS early data (RFC 8470), over HTTP/3.
    pub early_data: bool,
    /// Peers whose `Forwarded` and `X-Forwarded-*` plugins see.
    pub trusted_proxies: TrustedProxies,
    /// Written once ready.
    pub ready_file: Option<PathBuf>,
    /// The process that serves with the same data folder is taken over: no.
    pub takeover: bool,
    /// Cores to serve on: all that the process may use.
    pub threads: usize,
    /// Threads that compile: half the cores, at least one.
    pub compile_threads: usize,
    /// [`DRAIN_LIMIT`].
    pub drain_limit: Duration,
    /// Limits of connections and requests.
    pub limits: Limits,
    /// Bounds of admission.
    pub admission: Admission,
    /// The shared cache.
    pub cache: CacheConfig,
    /// Logging.
    pub log: LogConfig,
    /// Export of traces; `None` where no endpoint is configured.
    pub otlp: Option<OtlpConfig>,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// 127.0.0.1:[`DEFAULT_ADMIN_PORT`].
    pub listen: Option<SocketAddr>,
    /// Authorities under which it answers besides loopback names and addresses.
    pub hosts: Vec<String>,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Bounds of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// [`DEFAULT_REQUESTS`].
    pub requests: usize,
    /// [`DEFAULT_ADMIT_WAIT`].
    pub wait: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self { requests: DEFAULT_REQUESTS, wait: DEFAULT_ADMIT_WAIT }
    }
}

/// Logging.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Text.
    pub format: LogFormat,
    /// The access log is written: yes.
    pub access: bool,
    /// `tracing` directives: [`DEFAULT_LOG_FILTER`].
    pub filter: String,
    /// The plugins' own logs.
    pub plugins: PluginLogSettings,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The configuration file that was asked for does not exist.
    #[error("the configuration file {} does not exist", file.display())]
    NoFile {
        /// As given.
        file: PathBuf,
    },
    /// The configuration file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// As given.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file says something wrong.
    #[error(transparent)]
    Toml(#[from] TomlFault),
    /// A flag or an environment variable says something wrong.
    #[error("{place}: {message}")]
    Value {
        /// Where it was said.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// The folder of plugins cannot be served.
    #[error("cannot serve the plugins folder {}: {source}", folder.display())]
    Plugins {
        /// As given.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificates and keys do not pair up.
    #[error("{certificates} certificates but {keys} private keys: each needs the other")]
    CertificatePairs {
        /// Number of `tls-cert`.
        certificates: usize,
        /// Number of `tls-key`.
        keys: usize,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use the {what} {}: {source}", file.display())]
    CertificateFile {
        /// `certificate` or `private key`.
        what: &'static str,
        /// As given.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `data` or the folder of `ready-file` is not a folder.
    #[error("cannot use {} for `{key}`: {source}", path.display())]
    Path {
        /// The setting.
        key: &'static str,
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two listeners want one address.
    #[error("`{first}` and `{second}` both want {address}")]
    SameAddress {
        /// The address.
        address: SocketAddr,
        /// One setting.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// No listener is left.
    #[error("nothing would be served: `http` and `https` are both off")]
    NothingServed,
}

impl ConfigError {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoFile { .. } => Some("name an existing file with --config, or leave it out"),
            Self::Plugins { .. } => Some("make the folder, or name another: wharf serve DIR"),
            Self::CertificatePairs { .. } => {
                Some("give --tls-cert and --tls-key the same number of times, in the same order")
            }
            Self::CertificateFile { .. } => {
                Some("leave both out to serve with a development certificate")
            }
            Self::SameAddress { .. } => Some("port 0 takes a free one"),
            Self::NothingServed => Some("give --http or --https an address"),
            _ => None,
        }
    }
}

impl Config {
    /// Settles the configuration from flags, the environment and the file: `config_file` if given,
    /// else `WHARF_CONFIG`, else [`DEFAULT_FILE`] if there is one.
    ///
    /// # Errors
    /// [`ConfigError`]: the first thing found wrong.
    pub fn load(
        flags: Layer,
        config_file: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let text = |name: &str| {
            variable(name).and_then(|value| value.into_string().ok()).filter(|v| !v.is_empty())
        };
        let named = config_file.or_else(|| text("WHARF_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let read = FileConfig::read(&path)?;
        if let (None, Some(file)) = (&read, named) {
            return Err(ConfigError::NoFile { file });
        }
        let file = read.is_some().then(|| path.clone());
        let (mut written, source) = read.unwrap_or_default();

        let below = written.layer(path.parent().unwrap_or(Path::new("")));
        let layer = flags.over(Layer::from_environment(&variable)?).over(below);

        let mut limits = Limits::default();
        let mut admission = Admission::default();
        let trusted_proxies = written.trusted_proxies(&source)?;
        written.limits.apply(&source, &mut limits, &mut admission)?;
        let mut cache = CacheConfig::default();
        written.cache.apply(&source, &mut cache)?;
        let log = LogConfig {
            format: layer.log_format.unwrap_or_default(),
            access: written.log.access.is_none_or(|switch| switch.0),
            filter: text("WHARF_LOG")
                .or_else(|| text("RUST_LOG"))
                .or_else(|| written.log.filter.take())
                .unwrap_or_else(|| DEFAULT_LOG_FILTER.to_owned()),
            plugins: {
                let mut settings = PluginLogSettings::default();
                written.log.apply(&source, &mut settings)?;
                settings
            },
        };
        crate::observe::logging::check_filter(&log.filter)
            .map_err(|message| ConfigError::Value { place: "log filter".to_owned(), message })?;

        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = layer.threads.unwrap_or(cores);
        in_range("threads", threads, 1, MAX_THREADS)?;
        let compile_threads = written.compile_threads.unwrap_or((cores / 2).max(1));
        in_range("compile-threads", compile_threads, 1, MAX_THREADS)?;
        let drain_limit = layer.drain_limit.unwrap_or(DRAIN_LIMIT);
        if drain_limit > MAX_DRAIN_LIMIT {
            return Err(ConfigError::Value {
                place: "drain-limit".to_owned(),
                message: format!("{} is longer than 1h", units::show_duration(drain_limit)),
            });
        }

        let loopback = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listen = |written: Option<value::Listen>, port| {
            written.map_or_else(|| loopback(port), |listen| listen.0)
        };
        let config = Self {
            file,
            plugins: layer.plugins.unwrap_or_else(|| DEFAULT_PLUGINS.into()),
            http: listen(layer.http, DEFAULT_HTTP_PORT),
            https: listen(layer.https, DEFAULT_HTTPS_PORT),
            admin: AdminConfig {
                listen: listen(layer.admin, DEFAULT_ADMIN_PORT),
                hosts: written.admin_hosts,
            },
            trusted_proxies,
            data: layer.data.unwrap_or_else(|| DEFAULT_DATA.into()),
            certificates: pair(layer.tls_cert, layer.tls_key)?,
            http2: layer.http2.is_none_or(|switch| switch.0),
            http3: layer.http3.is_none_or(|switch| switch.0),
            early_data: layer.early_data.is_none_or(|switch| switch.0),
            ready_file: layer.ready_file,
            takeover: layer.takeover.is_some_and(|switch| switch.0),
            threads,
            compile_threads,
            drain_limit,
            limits,
            admission,
            cache,
            log,
            otlp: otlp(written.otlp, &source, text)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Looks at what the settings name outside the process.
    fn check(&self) -> Result<(), ConfigError> {
        fs::read_dir(&self.plugins)
            .map_err(|source| ConfigError::Plugins { folder: self.plugins.clone(), source })?;
        let folder = |key, path: &Path| match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(ConfigError::Path {
                key,
                path: path.to_owned(),
                source: io::Error::from(io::ErrorKind::NotADirectory),
            }),
            Err(source) => Err(ConfigError::Path { key, path: path.to_owned(), source }),
        };
        if self.data.exists() {
            folder("data", &self.data)?;
        }
        if let Some(parent) = self.ready_file.as_deref().and_then(Path::parent)
            && !parent.as_os_str().is_empty()
        {
            folder("ready-file", parent)?;
        }
        for pair in &self.certificates {
            readable_pem("certificate", &pair.certificate, "CERTIFICATE")?;
            readable_pem("private key", &pair.key, "PRIVATE KEY")?;
        }
        self.check_listeners()
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        if self.http.is_none() && self.https.is_none() {
            return Err(ConfigError::NothingServed);
        }
        let listeners = [("http", self.http), ("https", self.https), ("admin", self.admin.listen)];
        for (i, (first, one)) in listeners.iter().enumerate() {
            for (second, other) in &listeners[i + 1..] {
                if let (Some(one), Some(other)) = (one, other)
                    && one.port() != 0
                    && one.port() == other.port()
                    && overlap(one.ip(), other.ip())
                {
                    return Err(ConfigError::SameAddress { address: *other, first, second });
                }
            }
        }
        Ok(())
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

fn in_range(key: &str, value: usize, from: usize, to: usize) -> Result<(), ConfigError> {
    if (from..=to).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value {
        place: key.to_owned(),
        message: format!("{value} is not from {from} to {to}"),
    })
}

fn pair(
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
) -> Result<Vec<CertificateFiles>, ConfigError> {
    if certificates.len() != keys.len() {
        return Err(ConfigError::CertificatePairs {
            certificates: certificates.len(),
            keys: keys.len(),
        });
    }
    let pairs = certificates.into_iter().zip(keys);
    Ok(pairs.map(|(certificate, key)| CertificateFiles { certificate, key }).collect())
}

/// A quick look; the listener parses what is inside.
fn readable_pem(what: &'static str, file: &Path, label: &str) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::CertificateFile { what, file: file.to_owned(), source };
    let text = fs::read(file).map_err(failed)?;
    let end = format!("{label}-----");
    if !text.windows(end.len()).any(|window| window == end.as_bytes()) {
        let message = format!("it holds no PEM block `{label}`");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
    }
    Ok(())
}

/// `[otlp]`, under the standard variables of OpenTelemetry.
fn otlp(
    written: file::FileOtlp,
    source: &file::Source,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<OtlpConfig>, ConfigError> {
    let sample = match written.sample {
        None => 1.0,
        Some(sample) if (0.0..=1.0).contains(sample.get_ref()) => *sample.get_ref(),
        Some(sample) => {
            let message = format!("`sample` is {}: from 0.0 to 1.0", sample.get_ref());
            return Err(source.fault(&sample.span(), message));
        }
    };
    let from_environment = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
    let Some(endpoint) = from_environment.or(written.endpoint) else {
        return Ok(None);
    };
    let refused = |message: &str| ConfigError::Value {
        place: "otlp endpoint".to_owned(),
        message: format!("`{endpoint}` {message}"),
    };
    let uri: http::Uri = endpoint.parse().map_err(|_| refused("is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
        return Err(refused("is not a URL such as http://127.0.0.1:4318"));
    }
    let mut headers: Vec<(String, String)> = written.headers.into_iter().collect();
    if let Some(more) = variable("OTEL_EXPORTER_OTLP_HEADERS") {
        // The W3C baggage syntax, as the OpenTelemetry specification has it: `a=1,b=2`.
        let pairs = more.split(',').filter_map(|pair| pair.split_once('='));
        headers.extend(pairs.map(|(name, value)| (name.trim().into(), value.trim().into())));
    }
    Ok(Some(OtlpConfig {
        endpoint,
        headers,
        service_name: variable("OTEL_SERVICE_NAME")
            .or(written.service_name)
            .unwrap_or_else(|| DEFAULT_SERVICE_NAME.to_owned()),
        sample,
    }))
}

#[cfg(test)]
mod tests;
