//! A `wharf serve` process with its own plugin folder, data folder and ports.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::{Client, Protocol};

/// How long the server may take until it is ready: guests are compiled by an unoptimised host.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a condition may take to come true.
const EVENTUALLY: Duration = Duration::from_secs(30);

/// The server's binary: `WHARF_BIN`, or the one beside the tests.
pub fn wharf() -> PathBuf {
    if let Some(path) = std::env::var_os("WHARF_BIN") {
        return path.into();
    }
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("wharf");
    assert!(path.exists(), "{} is missing: run `cargo build -p wharf`", path.display());
    path
}

/// A test guest's component, as `cargo xtask guests --tests` left it.
pub fn guest(name: &str) -> Vec<u8> {
    let path = guest_file(name, "wasm");
    fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo xtask guests --tests`", path.display())
    })
}

/// The component of a guest whose language this machine may lack. None, which is said, where
/// `cargo xtask guests --tests` could not build it; its test cannot run then.
pub fn guest_unless_skipped(name: &str) -> Option<Vec<u8>> {
    match fs::read_to_string(guest_file(name, "skipped")) {
        Ok(why) => tell_skipped(name, &why),
        Err(_) => return Some(guest(name)),
    }
    None
}

fn tell_skipped(name: &str, why: &str) {
    let text = format!("SKIPPED: a test without its guest {name}: {why}\n");
    // Not `eprintln!`: of a test that passes, cargo shows nothing printed so.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn guest_file(name: &str, extension: &str) -> PathBuf {
    std::env::var_os("WHARF_GUESTS")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests"),
            PathBuf::from,
        )
        .join(name)
        .with_extension(extension)
}

/// What a server is started with.
pub struct Builder {
    dir: TempDir,
    arguments: Vec<String>,
    config: String,
    environment: Vec<(String, String)>,
}

impl Builder {
    /// Adds a bare file `NAME.wasm`.
    #[must_use]
    pub fn plugin(self, name: &str, component: &[u8]) -> Self {
        fs::write(self.plugins().join(format!("{name}.wasm")), component).unwrap();
        self
    }

    /// Adds `NAME.toml` beside it.
    #[must_use]
    pub fn manifest(self, name: &str, manifest: &str) -> Self {
        fs::write(self.plugins().join(format!("{name}.toml")), manifest).unwrap();
        self
    }

    /// Adds any file to the plugin folder.
    #[must_use]
    pub fn file(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.plugins().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Adds a sample plugin, as `cargo xtask guests` left it in its folder.
    #[must_use]
    pub fn sample(mut self, name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name);
        for file in ["plugin.toml".to_owned(), format!("{name}.wasm")] {
            let path = folder.join(&file);
            let bytes = fs::read(&path).unwrap_or_else(|error| {
                panic!("{}: {error}; run `cargo xtask guests`", path.display())
            });
            self = self.file(&format!("{name}/{file}"), &bytes);
        }
        // What it serves without a call.
        for entry in fs::read_dir(folder.join("public")).into_iter().flatten() {
            let entry = entry.unwrap();
            let file = format!("{name}/public/{}", entry.file_name().to_str().unwrap());
            self = self.file(&file, &fs::read(entry.path()).unwrap());
        }
        self
    }

    /// As [`Builder::sample`], for a plugin whose language this machine may lack. None, which is said,
    /// where `cargo xtask guests` could not build it; its test cannot run then.
    #[must_use]
    pub fn sample_unless_skipped(self, name: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name);
        match fs::read_to_string(folder.join(name).with_extension("skipped")) {
            Ok(why) => {
                tell_skipped(name, &why);
                None
            }
            Err(_) => Some(self.sample(name)),
        }
    }

    /// Adds command-line arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Adds to `wharf.toml`.
    #[must_use]
    pub fn config(mut self, config: &str) -> Self {
        self.config.push_str(config);
        self.config.push('\n');
        self
    }

    /// Sets an environment variable of the server.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(self) -> TestServer {
        fs::write(self.dir.path().join("wharf.toml"), &self.config).unwrap();
        let mut command = Command::new(wharf());
        let mut child = self.serve(&mut command, &[]).spawn().unwrap();
        let ready = ready(self.dir.path(), &mut child).await;
        self.server(child, &ready)
    }

    /// Starts the server with the program and first arguments of `launcher`, which becomes it.
    pub async fn start_by(self, mut launcher: Command) -> TestServer {
        fs::write(self.dir.path().join("wharf.toml"), &self.config).unwrap();
        let mut child = self.serve(launcher.arg(wharf()), &[]).spawn().unwrap();
        let ready = ready(self.dir.path(), &mut child).await;
        self.server(child, &ready)
    }

    /// Adds everything that a server of this folder is started with; `more` are flags with values
    /// that stand for those of the same names.
    fn serve<'a>(&self, command: &'a mut Command, more: &[&str]) -> &'a mut Command {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .unwrap();
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let own = [
            ("--config", path("wharf.toml")),
            ("--http", "127.0.0.1:0".to_owned()),
            ("--https", "127.0.0.1:0".to_owned()),
            ("--admin", "127.0.0.1:0".to_owned()),
            ("--data", path("data")),
            ("--ready-file", path("ready.json")),
        ];
        // A flag may be given once: those of the test stand for the harness's own.
        let given = |flag: &str| more.contains(&flag) || self.arguments.iter().any(|a| a == flag);
        let own = own.iter().filter(|(flag, _)| !given(flag));
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let kept = arguments.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten();
        command
            .arg("serve")
            .arg(self.plugins())
            .args(own.flat_map(|(flag, value)| [*flag, value]))
            .args(kept)
            .args(more)
            .envs(self.environment.clone())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
    }

    fn server(self, child: Child, ready: &Value) -> TestServer {
        let address = |key: &str| ready[key].as_str().map(|text| text.parse().unwrap());
        TestServer {
            http: address("http"),
            https: address("https"),
            admin: address("admin"),
            builder: self,
            child,
        }
    }
}

/// Waits until `child` has written the ready file of its folder.
async fn ready(dir: &Path, child: &mut Child) -> Value {
    let begun = Instant::now();
    let log = || fs::read_to_string(dir.join("server.log")).unwrap();
    loop {
        // It is another process's until this one has taken over.
        if let Ok(text) = fs::read(dir.join("ready.json")) {
            let ready: Value = serde_json::from_slice(&text).unwrap();
            if ready["pid"].as_u64() == child.id().map(u64::from) {
                return ready;
            }
        }
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the server ended with {status}:\n{}", log());
        }
        assert!(begun.elapsed() < READY_TIMEOUT, "the server is not ready:\n{}", log());
        sleep(Duration::from_millis(20)).await;
    }
}

/// A running server; killed when dropped.
pub struct TestServer {
    /// The cleartext listener.
    pub http: Option<SocketAddr>,
    /// The TLS and QUIC listener.
    pub https: Option<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    builder: Builder,
    child: Child,
}

/// A server that was taken over, and drains; killed when dropped.
pub struct Predecessor(Child);

impl Predecessor {
    /// Waits for its end; its exit code.
    pub async fn wait(&mut self) -> Option<i32> {
        self.0.wait().await.unwrap().code()
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl TestServer {
    /// A server without plugins.
    pub fn builder() -> Builder {
        let dir = tempfile::Builder::new().prefix("wharf-test-").tempdir().unwrap();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        Builder { dir, arguments: Vec::new(), config: String::new(), environment: Vec::new() }
    }

    /// A server with one bare plugin.
    pub async fn with(name: &str, component: &[u8]) -> Self {
        Self::builder().plugin(name, component).start().await
    }

    /// Starts a process with the same folders, and `more` arguments, that takes over from this one.
    /// Returns the old one once the new one serves.
    pub async fn take_over(&mut self, more: &[&str]) -> Predecessor {
        let child = self.successor(more);
        let old = std::mem::replace(&mut self.child, child);
        ready(self.builder.dir.path(), &mut self.child).await;
        Predecessor(old)
    }

    /// Starts a process that is to take over, and leaves it to the caller.
    pub fn successor(&self, more: &[&str]) -> Child {
        let mut command = Command::new(wharf());
        self.builder.serve(&mut command, more).arg("--takeover").spawn().unwrap()
    }

    /// The server's own folder.
    pub fn dir(&self) -> &Path {
        self.builder.dir.path()
    }

    /// The folder of plugins.
    pub fn plugins(&self) -> PathBuf {
        self.builder.dir.path().join("plugins")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.builder.dir.path().join("data")
    }

    /// What the server wrote to its standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.builder.dir.path().join("server.log")).unwrap()
    }

    /// Waits until the server has written `text` to its log: lines are written by a thread of their
    /// own, after the answer is on its way.
    pub async fn until_logged(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < EVENTUALLY, "no `{text}` in the log:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a plugin has printed so far, which is in a log of its own.
    pub fn printed(&self, plugin: &str) -> String {
        let path = self.data().join("logs/plugins").join(plugin).with_extension("log");
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits until a plugin has printed `text`.
    pub async fn until_printed(&self, plugin: &str, text: &str) {
        let begun = Instant::now();
        while !self.printed(plugin).contains(text) {
            let log = || self.printed(plugin);
            assert!(begun.elapsed() < EVENTUALLY, "{plugin} has no `{text}`:\n{}", log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// A client with a connection of its own; HTTP/1.1 in cleartext, the others over TLS.
    pub async fn client(&self, protocol: Protocol) -> Client {
        match protocol {
            Protocol::H1 => Client::h1(self.http.unwrap()).await,
            Protocol::H1Tls => Client::h1_tls(self.https.unwrap(), &self.ca()).await,
            Protocol::H2c => Client::h2c(self.http.unwrap()).await,
            Protocol::H2 => Client::h2(self.https.unwrap(), &self.ca()).await,
            Protocol::H3 => Client::h3(self.https.unwrap(), &self.ca()).await,
        }
    }

    /// An HTTP/1.1 client.
    pub async fn h1(&self) -> Client {
        self.client(Protocol::H1).await
    }

    /// The certificate of the development authority.
    pub fn ca(&self) -> PathBuf {
        self.data().join("dev-cert/ca.pem")
    }

    /// Puts a component in place as a careful user would: written aside, renamed over.
    pub fn install(&self, name: &str, component: &[u8]) {
        let temporary = self.plugins().join(format!(".{name}.new"));
        fs::write(&temporary, component).unwrap();
        fs::rename(temporary, self.plugins().join(format!("{name}.wasm"))).unwrap();
    }

    /// What `/plugins` says.
    pub async fn registry(&self) -> Value {
        let answer = Client::h1(self.admin.unwrap()).await.get("/plugins").await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// One plugin's entry in `/plugins`.
    pub async fn registered(&self, name: &str) -> Option<Value> {
        let registry = self.registry().await;
        registry.as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned()
    }

    /// Waits until a plugin's entry fits.
    pub async fn until_registered(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let entry = self.registered(name).await;
            if let Some(entry) = entry.as_ref().filter(|entry| fits(entry)) {
                return entry.clone();
            }
            assert!(begun.elapsed() < EVENTUALLY, "{name} is {entry:?}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a GET's answer fits.
    pub async fn until_get(
        &self,
        path: &str,
        fits: impl Fn(&crate::Answer) -> bool,
    ) -> crate::Answer {
        let begun = Instant::now();
        loop {
            let answer = self.h1().await.get(path).await;
            if fits(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < EVENTUALLY, "{path} is {answer:?}\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        Client::h1(self.admin.unwrap()).await.get("/metrics").await.text()
    }

    /// Resident memory of the server, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([format!("-{name}"), pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Starts it anew, with the same folders, after its end; a server that still runs is killed.
    pub async fn restart(mut self) -> Self {
        let _ended = self.child.start_kill();
        self.child.wait().await.unwrap();
        let _removed = fs::remove_file(self.dir().join("ready.json"));
        self.builder.start().await
    }

    /// Waits for the server's end; its exit code.
    pub async fn wait(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }
}
