//! The settings in force as a `wharf.toml` that would give them, secrets masked: what
//! `wharf serve --check` prints.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use super::Config;
use super::units::{show_duration, show_size};
use super::value::{Listen, Switch};

impl Config {
    /// The settings as TOML.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _infallible = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let listen = |address: Option<SocketAddr>| quoted(Listen(address));
        let path = |path: &Path| quoted(path.display());
        writeln!(out, "plugins = {}", path(&self.plugins))?;
        writeln!(out, "http = {}", listen(self.http))?;
        writeln!(out, "https = {}", listen(self.https))?;
        writeln!(out, "admin = {}", listen(self.admin.listen))?;
        let hosts: Vec<String> = self.admin.hosts.iter().map(quoted).collect();
        writeln!(out, "admin-hosts = [{}]", hosts.join(", "))?;
        let proxies: Vec<String> = self.trusted_proxies.iter().map(quoted).collect();
        writeln!(out, "trusted-proxies = [{}]", proxies.join(", "))?;
        writeln!(out, "data = {}", path(&self.data))?;
        if !self.certificates.is_empty() {
            let files = self.certificates.iter();
            let certificates: Vec<_> = files.clone().map(|pair| path(&pair.certificate)).collect();
            let keys: Vec<_> = files.map(|pair| path(&pair.key)).collect();
            writeln!(out, "tls-cert = [{}]", certificates.join(", "))?;
            writeln!(out, "tls-key = [{}]", keys.join(", "))?;
        }
        writeln!(out, "http2 = {}", quoted(Switch(self.http2)))?;
        writeln!(out, "http3 = {}", quoted(Switch(self.http3)))?;
        writeln!(out, "early-data = {}", quoted(Switch(self.early_data)))?;
        if let Some(file) = &self.ready_file {
            writeln!(out, "ready-file = {}", path(file))?;
        }
        writeln!(out, "takeover = {}", quoted(Switch(self.takeover)))?;
        writeln!(out, "log-format = {}", quoted(self.log.format))?;
        writeln!(out, "threads = {}", self.threads)?;
        writeln!(out, "compile-threads = {}", self.compile_threads)?;
        writeln!(out, "drain-limit = {}", quoted(show_duration(self.drain_limit)))?;
        self.write_limits(out)?;
        self.write_cache(out)?;
        self.write_log(out)?;
        self.write_otlp(out)
    }

    fn write_limits(&self, out: &mut String) -> fmt::Result {
        let limits = &self.limits;
        writeln!(out, "\n[limits]")?;
        for (key, value) in [
            ("handshake-timeout", limits.handshake_timeout),
            ("sniff-timeout", limits.sniff_timeout),
            ("header-timeout", limits.header_timeout),
            ("idle-timeout", limits.idle_timeout),
            ("body-idle-timeout", limits.body_idle_timeout),
            ("write-idle-timeout", limits.write_idle_timeout),
            ("switch-idle-timeout", limits.switch_idle_timeout),
            ("half-close-grace", limits.half_close_grace),
            ("admit-wait", self.admission.wait),
        ] {
            writeln!(out, "{key} = {}", quoted(show_duration(value)))?;
        }
        for (key, value) in [
            ("body-min-rate", limits.body_min_rate),
            ("header-bytes", limits.header_bytes as u64),
            ("url-bytes", limits.url_bytes as u64),
        ] {
            writeln!(out, "{key} = {}", quoted(show_size(value)))?;
        }
        for (key, value) in [
            ("connections", limits.connections),
            ("connections-per-address", limits.connections_per_address),
            ("streams", limits.streams as usize),
            ("headers", limits.headers),
            ("h2-control-frames", limits.h2_control_frames as usize),
            ("h2-pending-resets", limits.h2_pending_resets),
            ("h2-local-resets", limits.h2_local_resets),
            ("requests", self.admission.requests),
        ] {
            writeln!(out, "{key} = {value}")?;
        }
        Ok(())
    }

    fn write_cache(&self, out: &mut String) -> fmt::Result {
        let cache = &self.cache;
        writeln!(out, "\n[cache]")?;
        writeln!(out, "size = {}", quoted(show_size(cache.size)))?;
        writeln!(out, "\n[cache.policies]")?;
        for (name, policy) in cache.policies.added() {
            writeln!(out, "{name} = {}", quoted(policy.text()))?;
        }
        Ok(())
    }

    fn write_log(&self, out: &mut String) -> fmt::Result {
        let plugins = &self.log.plugins;
        writeln!(out, "\n[log]")?;
        writeln!(out, "access = {}", quoted(Switch(self.log.access)))?;
        writeln!(out, "filter = {}", quoted(&self.log.filter))?;
        writeln!(out, "plugin-file-size = {}", quoted(show_size(plugins.file_size)))?;
        writeln!(out, "plugin-files = {}", plugins.files)?;
        writeln!(out, "plugin-rate = {}", quoted(show_size(plugins.rate)))?;
        writeln!(out, "plugin-burst = {}", quoted(show_size(plugins.burst)))
    }

    fn write_otlp(&self, out: &mut String) -> fmt::Result {
        let Some(otlp) = &self.otlp else {
            return Ok(());
        };
        writeln!(out, "\n[otlp]")?;
        writeln!(out, "endpoint = {}", quoted(masked_userinfo(&otlp.endpoint)))?;
        writeln!(out, "service-name = {}", quoted(&otlp.service_name))?;
        writeln!(out, "sample = {:?}", otlp.sample)?;
        // Values are keys of the collector more often than not.
        let headers: Vec<String> =
            otlp.headers.iter().map(|(name, _)| format!("{} = \"***\"", quoted(name))).collect();
        writeln!(out, "headers = {{ {} }}", headers.join(", "))
    }
}

fn quoted(value: impl fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

/// `http://user:secret@collector` without the secret.
fn masked_userinfo(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}
