//! One layer of settings: what the flags say, or the environment, or the top level of
//! `wharf.toml`. All three are the same type, so that precedence is one function.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::ConfigError;
use super::units::parse_duration;
use super::value::{Listen, LogFormat, Switch};

/// The settings of `wharf serve` that can be given anywhere.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Folder of plugins: every component in it is served [env: WHARF_PLUGINS] [default: plugins]
    #[arg(value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// HTTP/1.1 and prior-knowledge h2c [env: WHARF_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR|off")]
    pub http: Option<Listen>,
    /// HTTP/1.1 and HTTP/2 over TLS, HTTP/3 on the same UDP port [env: WHARF_HTTPS] [default:
    /// 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR|off")]
    pub https: Option<Listen>,
    /// Health, metrics and the list of plugins [env: WHARF_ADMIN] [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR|off")]
    pub admin: Option<Listen>,
    /// Store, compiled-code cache, logs, development certificate [env: WHARF_DATA] [default:
    /// .wharf]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Certificate chain in PEM; repeat for more, each with its key, chosen by SNI [env:
    /// WHARF_TLS_CERT, comma-separated]
    #[arg(long = "tls-cert", value_name = "FILE")]
    pub tls_cert: Vec<PathBuf>,
    /// Private key in PEM of the certificate at the same place [env: WHARF_TLS_KEY,
    /// comma-separated]
    #[arg(long = "tls-key", value_name = "FILE")]
    pub tls_key: Vec<PathBuf>,
    /// Whether HTTP/2 is offered [env: WHARF_HTTP2] [default: on]
    #[arg(long, value_name = "on|off")]
    pub http2: Option<Switch>,
    /// Whether HTTP/3 is offered [env: WHARF_HTTP3] [default: on]
    #[arg(long, value_name = "on|off")]
    pub http3: Option<Switch>,
    /// Whether safe requests are taken in 0-RTT data over HTTP/3 [env: WHARF_EARLY_DATA] [default: on]
    #[arg(long, value_name = "on|off")]
    pub early_data: Option<Switch>,
    /// Written once ready: JSON with the real addresses and the process id [env: WHARF_READY_FILE]
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Take over the sockets of the process that serves with the same data folder, and let it drain;
    /// without such a process, just start [env: WHARF_TAKEOVER] [default: off]
    #[arg(
        long,
        value_name = "on|off",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on"
    )]
    pub takeover: Option<Switch>,
    /// Log lines for people or for machines [env: WHARF_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<LogFormat>,
    /// Cores to serve on, each with its own runtime [env: WHARF_THREADS] [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// How long a drain waits for work to end [env: WHARF_DRAIN_LIMIT] [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub drain_limit: Option<Duration>,
}

impl Layer {
    /// Reads the environment through `variable`; an empty variable counts as unset.
    ///
    /// # Errors
    /// [`ConfigError::Value`], which names the variable.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let environment = Environment(variable);
        Ok(Self {
            plugins: environment.path("WHARF_PLUGINS"),
            http: environment.parse("WHARF_HTTP", Listen::from_str)?,
            https: environment.parse("WHARF_HTTPS", Listen::from_str)?,
            admin: environment.parse("WHARF_ADMIN", Listen::from_str)?,
            data: environment.path("WHARF_DATA"),
            tls_cert: environment.paths("WHARF_TLS_CERT")?,
            tls_key: environment.paths("WHARF_TLS_KEY")?,
            http2: environment.parse("WHARF_HTTP2", Switch::from_str)?,
            http3: environment.parse("WHARF_HTTP3", Switch::from_str)?,
            early_data: environment.parse("WHARF_EARLY_DATA", Switch::from_str)?,
            ready_file: environment.path("WHARF_READY_FILE"),
            takeover: environment.parse("WHARF_TAKEOVER", Switch::from_str)?,
            log_format: environment.parse("WHARF_LOG_FORMAT", LogFormat::from_str)?,
            threads: environment.parse("WHARF_THREADS", usize::from_str)?,
            drain_limit: environment.parse("WHARF_DRAIN_LIMIT", parse_duration)?,
        })
    }

    /// This layer where it says something, else `below`. Certificates and keys go together: pairs
    /// are never mixed from two layers.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let (tls_cert, tls_key) = if self.tls_cert.is_empty() && self.tls_key.is_empty() {
            (below.tls_cert, below.tls_key)
        } else {
            (self.tls_cert, self.tls_key)
        };
        Self {
            plugins: self.plugins.or(below.plugins),
            http: self.http.or(below.http),
            https: self.https.or(below.https),
            admin: self.admin.or(below.admin),
            data: self.data.or(below.data),
            tls_cert,
            tls_key,
            http2: self.http2.or(below.http2),
            http3: self.http3.or(below.http3),
            early_data: self.early_data.or(below.early_data),
            ready_file: self.ready_file.or(below.ready_file),
            takeover: self.takeover.or(below.takeover),
            log_format: self.log_format.or(below.log_format),
            threads: self.threads.or(below.threads),
            drain_limit: self.drain_limit.or(below.drain_limit),
        }
    }
}

/// Environment variables, by whatever means they are read.
struct Environment<F>(F);

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.0)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = (self.0)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let text = value.into_string().map_err(|_| ConfigError::Value {
            place: format!("environment variable {name}"),
            message: "its value is not UTF-8".to_owned(),
        })?;
        Ok(Some(text))
    }

    fn paths(&self, name: &str) -> Result<Vec<PathBuf>, ConfigError> {
        let text = self.text(name)?.unwrap_or_default();
        Ok(text.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect())
    }

    fn parse<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let value = parse(&text).map_err(|error| ConfigError::Value {
            place: format!("environment variable {name}"),
            message: error.to_string(),
        })?;
        Ok(Some(value))
    }
}
