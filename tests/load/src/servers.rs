//! The servers under load, each a process of its own that ends with its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::Options;
use crate::machine::{self, Place};

/// How long a server may take until it is ready: it compiles its plugins first.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to leave before it is killed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long memory may change before it is read anyway.
const PSS_TIMEOUT: Duration = Duration::from_secs(15);

/// A running server.
pub(crate) struct Server {
    /// `HOST:PORT` of the cleartext listener.
    pub(crate) http: String,
    /// `HOST:PORT` of TLS and QUIC; empty where there is none.
    pub(crate) https: String,
    /// `HOST:PORT` of the admin listener; empty where there is none.
    pub(crate) admin: String,
    child: Child,
    dir: TempDir,
}

impl Server {
    /// The native server.
    pub(crate) fn native(place: Place) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let own = std::env::current_exe()?;
        let mut command = machine::placed(utf8(&own)?, place);
        command.arg("native").arg("--ready-file").arg(dir.path().join("ready.json"));
        Self::ready(command, dir)
    }

    /// `wharf serve` with these plugins: name, component, manifest. No access log: the others write
    /// none either.
    pub(crate) fn wharf(
        options: &Options,
        place: Place,
        plugins: &[(&str, &[u8], &str)],
    ) -> Result<Self> {
        Self::wharf_with(options, place, plugins, "[log]\naccess = \"off\"\n")
    }

    /// `wharf serve` with a `wharf.toml`.
    pub(crate) fn wharf_with(
        options: &Options,
        place: Place,
        plugins: &[(&str, &[u8], &str)],
        config: &str,
    ) -> Result<Self> {
        let wharf = wharf(options)?;
        let dir = tempfile::tempdir()?;
        let folder = dir.path().join("plugins");
        fs::create_dir(&folder)?;
        for (name, component, manifest) in plugins {
            fs::write(folder.join(format!("{name}.wasm")), component)?;
            if !manifest.is_empty() {
                fs::write(folder.join(format!("{name}.toml")), manifest)?;
            }
        }
        fs::write(dir.path().join("wharf.toml"), config)?;
        let mut command = machine::placed(utf8(&wharf)?, place);
        command
            .arg("serve")
            .arg(&folder)
            .arg("--config")
            .arg(dir.path().join("wharf.toml"))
            .args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(dir.path().join("data"))
            .arg("--ready-file")
            .arg(dir.path().join("ready.json"))
            .current_dir(dir.path());
        let server = Self::ready(command, dir)?;
        // The optimising compiler works on in the background; what is measured is its code.
        server.settle()?;
        Ok(server)
    }

    /// `wasmtime serve`, where it is installed.
    pub(crate) fn wasmtime(place: Place, component: &Path, arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // It does not tell which port it took.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let http = format!("127.0.0.1:{port}");
        let mut command = machine::placed("wasmtime", place);
        command.args(["serve", "-Scli", "--addr", &http]);
        command.args(arguments).arg(component);
        Self::other(command, dir, http)
    }

    /// Another server, which has one listener and does not tell when it is up.
    pub(crate) fn other(command: Command, dir: TempDir, http: String) -> Result<Self> {
        let child = started(command, &dir)?;
        let (https, admin) = Default::default();
        let server = Self { http, https, admin, child, dir };
        let begun = Instant::now();
        while std::net::TcpStream::connect(&server.http).is_err() {
            if begun.elapsed() > READY_TIMEOUT {
                bail!("the server is not ready:\n{}", server.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// nginx with one worker, serving the files of `root` over TLS; it has no other listener.
    pub(crate) fn nginx(place: Place, root: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        fs::write(dir.path().join("cert.pem"), made.cert.pem())?;
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let https = format!("127.0.0.1:{port}");
        let root = utf8(root)?;
        let here = utf8(dir.path())?.to_owned();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {here}/nginx.pid;\n\
             error_log {here}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
               access_log off; sendfile on; tcp_nopush on;\n\
               client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
               fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
               scgi_temp_path {here}/scgi;\n\
               server {{\n\
                 listen {https} ssl http2;\n\
                 ssl_certificate {here}/cert.pem; ssl_certificate_key {here}/key.pem;\n\
                 root {root};\n\
               }}\n\
             }}\n"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = machine::placed("nginx", place);
        command.arg("-p").arg(&here).arg("-c").arg(file);
        let mut server = Self::other(command, dir, https)?;
        server.https = std::mem::take(&mut server.http);
        Ok(server)
    }

    fn ready(command: Command, dir: TempDir) -> Result<Self> {
        let child = started(command, &dir)?;
        let (http, https, admin) = Default::default();
        let mut server = Self { http, https, admin, child, dir };
        let begun = Instant::now();
        let ready: Value = loop {
            if let Ok(text) = fs::read(server.dir.path().join("ready.json"))
                && let Ok(ready) = serde_json::from_slice(&text)
            {
                break ready;
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", server.log());
            }
            if begun.elapsed() > READY_TIMEOUT {
                bail!("the server is not ready:\n{}", server.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let address = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (server.http, server.https) = (address("http"), address("https"));
        server.admin = address("admin");
        Ok(server)
    }

    /// Waits until the server's processor time stands still.
    pub(crate) fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        let mut idle_since = Instant::now();
        let mut used = self.cpu_us()?;
        while idle_since.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.cpu_us()?;
            if now > used + 10_000 {
                (used, idle_since) = (now, Instant::now());
            }
            ensure!(begun.elapsed() < READY_TIMEOUT, "the server does not come to rest");
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The plugin folder.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// The server's own folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Processor time used so far by it and the processes that it started, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<u64> {
        machine::family(self.child.id()).into_iter().map(machine::cpu_us).sum()
    }

    pub(crate) fn pss_kib(&self) -> Result<u64> {
        machine::family(self.child.id()).into_iter().map(machine::pss_kib).sum()
    }

    /// Memory in use, in KiB, once it has stopped to change: allocators and compilers give theirs
    /// back late.
    pub(crate) fn settled_pss_kib(&self) -> Result<u64> {
        let begun = Instant::now();
        let mut before = self.pss_kib()?;
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.pss_kib()?;
            if now.abs_diff(before) < 64 || begun.elapsed() > PSS_TIMEOUT {
                return Ok(now);
            }
            before = now;
        }
    }

    /// The end of what the server wrote, access lines left out.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("access: ")).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The pid is ours until it is waited for.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < LEAVE_TIMEOUT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn started(mut command: Command, dir: &TempDir) -> Result<Child> {
    let log = fs::File::create(dir.path().join("server.log"))?;
    command
        // Captured backtraces cost, and production has none.
        .env_remove("RUST_BACKTRACE")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{command:?}"))
}

fn wharf(options: &Options) -> Result<PathBuf> {
    let path = match &options.wharf {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("wharf"),
    };
    if !path.is_file() {
        bail!("{} is missing: run `cargo build --release -p wharf`", path.display());
    }
    // The server is started in a folder of its own.
    Ok(path.canonicalize()?)
}

/// Where a test guest's component is.
pub(crate) fn guest_path(options: &Options, name: &str) -> Result<PathBuf> {
    let folder = options
        .guests
        .clone()
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"));
    let path = folder.join(format!("{name}.wasm"));
    if !path.is_file() {
        bail!("{} is missing: run `cargo xtask guests --tests`", path.display());
    }
    Ok(path.canonicalize()?)
}

/// A test guest's component.
pub(crate) fn guest(options: &Options, name: &str) -> Result<Vec<u8>> {
    Ok(fs::read(guest_path(options, name)?)?)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}
