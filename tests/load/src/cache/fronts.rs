//! The caches that are compared: Wharf's, varnish and nginx (Debian's packages), each with one object in
//! it, beside the native server that answers the same bytes itself.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::Options;
use crate::machine::{self, Place};
use crate::servers::{Server, guest};

/// Connections and requests that no measurement meets.
const WHARF: &str = "[log]\naccess = \"off\"\n[limits]\nconnections = 20000\n\
    connections-per-address = 20000\n";

/// Wharf with the guest `p3_cached` at `/cached`, its own settings after the common ones.
pub(super) fn wharf(
    options: &Options,
    place: Place,
    config: &str,
    manifest: &str,
) -> Result<Server> {
    let component = guest(options, "p3_cached")?;
    let manifest = format!("[capabilities]\nkeyvalue = true\n{manifest}");
    let plugins: [(&str, &[u8], &str); 1] = [("cached", &component, &manifest)];
    Server::wharf_with(options, place, &plugins, &format!("{WHARF}{config}"))
}

/// varnish with its own policy and memory, taking HTTP/1.1 and prior-knowledge HTTP/2.
pub(super) fn varnish(place: Place, origin: &str) -> Result<Server> {
    ensure!(machine::has("varnishd"), "varnishd: not installed (Debian: varnish)");
    let dir = tempfile::tempdir()?;
    let http = free_address()?;
    let work = dir.path().join("work");
    let mut command = machine::placed("varnishd", place);
    command
        .args(["-F", "-p", "feature=+http2", "-p", "vsl_mask=-VCL_trace"])
        .args(["-a", &http, "-b", origin, "-s", "malloc,256m", "-n"])
        .arg(work);
    Server::other(command, dir, http)
}

/// One nginx worker with `proxy_cache`; it has one listener for each version.
pub(super) fn nginx(place: Place, origin: &str, http2: bool) -> Result<Server> {
    ensure!(machine::has("nginx"), "nginx: not installed (Debian: nginx-light)");
    let dir = tempfile::tempdir()?;
    let http = free_address()?;
    std::fs::write(dir.path().join("nginx.conf"), nginx_config(dir.path(), &http, origin, http2))?;
    let mut command = machine::placed("nginx", place);
    command.arg("-p").arg(dir.path()).arg("-c").arg(dir.path().join("nginx.conf"));
    Server::other(command, dir, http)
}

fn nginx_config(here: &Path, http: &str, origin: &str, http2: bool) -> String {
    let here = here.display();
    let http2 = if http2 { " http2" } else { "" };
    format!(
        "daemon off; master_process off; worker_processes 1; pid {here}/nginx.pid;\n\
         error_log {here}/error.log;\n\
         events {{ worker_connections 16000; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
           open_file_cache max=1000 inactive=60s;\n\
           client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
           fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
           scgi_temp_path {here}/scgi;\n\
           proxy_cache_path {here}/cache keys_zone=cache:10m;\n\
           server {{\n\
             listen {http} backlog=4096{http2};\n\
             location / {{ proxy_pass http://{origin}; proxy_cache cache; }}\n\
           }}\n\
         }}\n"
    )
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
