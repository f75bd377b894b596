//! `cargo xtask cache-tests`: the field's public suite for HTTP caches (http-tests/cache-tests), against a
//! Wharf with `plugins/proxy` at every path in front of the suite's own origin server; for comparison
//! against Debian's varnish or nginx in the same place. The suite comes from npm into `target/cache-tests`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::guests;
use crate::run::{cargo, command, output, run, say, step, which};

/// The suite, and what its client needs of its own dependencies (it names all of npm, too).
const SUITE: &str = "http-cache-tests@0.4.5";
const FETCH: &str = "node-fetch@2.7.0";
/// How long a server may take until it is there.
const READY: Duration = Duration::from_secs(60);
/// How long the whole suite may take; it waits for entries to become stale.
const LIMIT: Duration = Duration::from_secs(600);

/// What a test is, as the suite lists it.
struct Test {
    id: String,
    kind: String,
    depends_on: Vec<String>,
}

/// What stands in front of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Wharf,
    Varnish,
    Nginx,
    Nothing,
}

/// A process that ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Runs the suite; prints the table and what failed.
///
/// `--front wharf|varnish|nginx|none` is what is tested (wharf), `--suite FOLDER` another edition of the
/// suite than npm's, an id only that test, with its messages.
///
/// # Errors
/// When the suite cannot be had or run; what it finds is no error.
pub fn cache_tests(root: &Path, target: &Path, arguments: &[&str]) -> Result<()> {
    let (mut front, mut suite, mut id) = (Front::Wharf, None, "");
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--front" => {
                front = match rest.next().copied() {
                    Some("wharf") => Front::Wharf,
                    Some("varnish") => Front::Varnish,
                    Some("nginx") => Front::Nginx,
                    Some("none") => Front::Nothing,
                    other => bail!("--front {other:?}: wharf, varnish, nginx or none"),
                }
            }
            "--suite" => suite = Some(PathBuf::from(rest.next().context("--suite FOLDER")?)),
            other => id = other,
        }
    }
    ensure!(which("node").is_some() && which("npm").is_some(), "node and npm are not installed");
    let folder = root.join("target/cache-tests");
    let suite = match suite {
        Some(suite) => suite.canonicalize()?,
        None => fetched(&folder)?,
    };
    if front == Front::Wharf {
        if !root.join("plugins/proxy/proxy.wasm").is_file() {
            guests::plugins(root)?;
        }
        step("server", || run(cargo().args(["build", "--package", "wharf"])))?;
    }
    let (origin, _origin) = origin(&suite, &folder)?;
    let place = folder.join("front");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    let (base, _front) = match front {
        Front::Wharf => wharf(root, target, &place, origin)?,
        Front::Varnish => varnish(&place, origin)?,
        Front::Nginx => nginx(&place, origin)?,
        Front::Nothing => (format!("http://127.0.0.1:{origin}"), None),
    };
    let tests = listed(&suite)?;
    let results = step("suite", || ran(&suite, &base, id))?;
    if id.is_empty() {
        fs::write(folder.join(format!("{front:?}.json").to_lowercase()), results.to_string())?;
        report(&tests, &results);
    }
    Ok(())
}

/// The suite from npm, once.
fn fetched(folder: &Path) -> Result<PathBuf> {
    let suite = folder.join("package");
    if suite.join("node_modules/node-fetch").exists() {
        return Ok(suite);
    }
    fs::create_dir_all(folder)?;
    step("the suite, from npm", || {
        let npm = || {
            let mut npm = command("npm");
            npm.current_dir(folder).args(["--no-audit", "--no-fund", "--loglevel=error"]);
            npm
        };
        let packed = output(npm().args(["pack", SUITE]))?;
        let archive = packed.lines().last().context("npm packed nothing")?;
        run(command("tar").current_dir(folder).args(["-xzf", archive]))?;
        // Installed where the suite looks for it, without what else the suite names.
        let modules = folder.join("modules");
        fs::create_dir_all(&modules)?;
        fs::write(modules.join("package.json"), "{\"private\":true}")?;
        run(npm().current_dir(&modules).args(["install", FETCH]))?;
        fs::rename(modules.join("node_modules"), suite.join("node_modules"))?;
        Ok(())
    })?;
    Ok(suite)
}

/// The suite's origin server, and its port.
fn origin(suite: &Path, folder: &Path) -> Result<(u16, Running)> {
    let port = free_port()?;
    let mut node = command("node");
    node.current_dir(suite)
        .args(["--no-warnings", "server/server.mjs"])
        .env("npm_config_protocol", "http")
        .env("npm_config_port", port.to_string())
        .env("npm_config_pidfile", folder.join("origin.pid"));
    let origin = started(&mut node, &folder.join("origin.log"))?;
    answers(port)?;
    Ok((port, origin))
}

/// Wharf as a user would put it in front of a server.
fn wharf(
    root: &Path,
    target: &Path,
    place: &Path,
    origin: u16,
) -> Result<(String, Option<Running>)> {
    let plugins = place.join("plugins");
    fs::create_dir_all(&plugins)?;
    fs::copy(root.join("plugins/proxy/proxy.wasm"), plugins.join("proxy.wasm"))?;
    // What a manifest may ask for and does not get by default, all within RFC 9111 §4.2.2 and §4.2.4.
    let manifest = format!(
        "routes = [\"/*\"]\n\
         [config]\n\
         upstream = \"http://127.0.0.1:{origin}\"\n\
         forwarded = \"off\"\n\
         via = \"off\"\n\
         [capabilities]\n\
         outbound = [\"http://127.0.0.1:{origin}\"]\n\
         [cache]\n\
         heuristic = true\n\
         set-cookie = \"store\"\n\
         stale-if-error = \"60s\"\n"
    );
    fs::write(plugins.join("proxy.toml"), manifest)?;
    let ready = place.join("ready.json");
    let mut wharf = command(target.join("debug/wharf"));
    wharf
        .args(["serve", "plugins", "--http", "127.0.0.1:0", "--https", "off", "--admin", "off"])
        .arg("--data")
        .arg(place.join("data"))
        .arg("--ready-file")
        .arg(&ready)
        .current_dir(place);
    let server = started(&mut wharf, &place.join("wharf.log"))?;
    let begun = Instant::now();
    let http = loop {
        if let Ok(text) = fs::read(&ready)
            && let Ok(told) = serde_json::from_slice::<Value>(&text)
        {
            break told["http"].as_str().context("no address")?.to_owned();
        }
        ensure!(begun.elapsed() < READY, "wharf is not ready: {}", place.display());
        thread::sleep(Duration::from_millis(20));
    };
    Ok((format!("http://{http}"), Some(server)))
}

/// Varnish with its own policy.
fn varnish(place: &Path, origin: u16) -> Result<(String, Option<Running>)> {
    ensure!(which("varnishd").is_some(), "varnishd: not installed (Debian: varnish)");
    let port = free_port()?;
    let mut varnish = command("varnishd");
    varnish
        .args(["-F", "-a", &format!("127.0.0.1:{port}"), "-b", &format!("127.0.0.1:{origin}")])
        .args(["-s", "malloc,64m", "-n"])
        .arg(place);
    let server = started(&mut varnish, &place.join("varnish.log"))?;
    answers(port)?;
    Ok((format!("http://127.0.0.1:{port}"), Some(server)))
}

/// nginx as a caching proxy that revalidates.
fn nginx(place: &Path, origin: u16) -> Result<(String, Option<Running>)> {
    ensure!(which("nginx").is_some(), "nginx: not installed (Debian: nginx-light)");
    let port = free_port()?;
    let here = place.display();
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off;\n\
           client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
           fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
           scgi_temp_path {here}/scgi;\n\
           proxy_cache_path {here}/cache keys_zone=cache:10m;\n\
           server {{ listen 127.0.0.1:{port};\n\
             location / {{ proxy_pass http://127.0.0.1:{origin};\n\
               proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
               proxy_cache cache; proxy_cache_revalidate on; proxy_cache_key $request_uri; }} }} }}\n"
    );
    fs::write(place.join("nginx.conf"), config)?;
    let mut nginx = command("nginx");
    nginx.arg("-p").arg(place).arg("-c").arg(place.join("nginx.conf"));
    let server = started(&mut nginx, &place.join("nginx.log"))?;
    answers(port)?;
    Ok((format!("http://127.0.0.1:{port}"), Some(server)))
}

/// The tests that concern a shared cache.
fn listed(suite: &Path) -> Result<Vec<Test>> {
    const LIST: &str = "
        const suites = [...(await import('./tests/index.mjs')).default]
        for (const more of ['surrogate-control', 'cdn-cache-control', 'interim']) {
          try { suites.push((await import(`./tests/${more}.mjs`)).default) } catch {}
        }
        const seen = new Set(), tests = []
        for (const suite of suites) for (const test of suite.tests) {
          if (test.browser_only || seen.has(test.id)) continue
          seen.add(test.id)
          tests.push([test.id, test.kind || 'required', test.depends_on || []])
        }
        console.log(JSON.stringify(tests))";
    let mut node = command("node");
    node.current_dir(suite).args(["--no-warnings", "--input-type=module", "-e", LIST]);
    let told: Vec<(String, String, Vec<String>)> = serde_json::from_str(&output(&mut node)?)?;
    Ok(told.into_iter().map(|(id, kind, depends_on)| Test { id, kind, depends_on }).collect())
}

/// What the suite's client found; with an id it says more by itself.
fn ran(suite: &Path, base: &str, id: &str) -> Result<Value> {
    let log = suite.join("results.txt");
    let mut node = command("node");
    node.current_dir(suite)
        .args(["--no-warnings", "cli.mjs"])
        .env("npm_config_base", base)
        // It takes an empty one for none in the second only, where npm would put its own settings.
        .env("npm_config_id", id)
        .env("npm_package_config_id", "");
    let mut client = started(&mut node, &log)?;
    let begun = Instant::now();
    while client.0.try_wait()?.is_none() {
        ensure!(begun.elapsed() < LIMIT, "the suite does not end");
        thread::sleep(Duration::from_millis(100));
    }
    let told = fs::read_to_string(log)?;
    if !id.is_empty() {
        say(&told);
        return Ok(Value::Null);
    }
    // Its log may come before the object.
    let object = told.find("\n{\n").map_or(0, |at| at + 1);
    serde_json::from_str(&told[object..]).with_context(|| format!("no results:\n{told}"))
}

fn report(tests: &[Test], results: &Value) {
    let by_id: BTreeMap<&str, &Test> = tests.iter().map(|test| (&*test.id, test)).collect();
    say(&format!("{:<10} {:>6} {:>7} {:>24}", "kind", "tests", "passed", "with what they rest on"));
    for kind in ["required", "optimal", "check"] {
        let of_kind = || tests.iter().filter(|test| test.kind == kind);
        let passed = of_kind().filter(|test| results[&test.id] == true).count();
        let sound = of_kind().filter(|test| is_sound(test, &by_id, results)).count();
        say(&format!("{kind:<10} {:>6} {passed:>7} {sound:>24}", of_kind().count()));
    }
    for kind in ["required", "optimal", "check"] {
        for test in tests.iter().filter(|test| test.kind == kind) {
            match &results[&test.id] {
                Value::Bool(true) if is_sound(test, &by_id, results) => {}
                Value::Bool(true) => {
                    say(&format!("{kind} {}: rests on one that fails", test.id));
                }
                Value::Array(why) => {
                    let why: Vec<&str> = why.iter().filter_map(Value::as_str).collect();
                    say(&format!("{kind} {}: {}", test.id, why.join(": ")));
                }
                _ => say(&format!("{kind} {}: not run", test.id)),
            }
        }
    }
}

/// Whether a test passed, and all those without which it would mean nothing.
fn is_sound(test: &Test, tests: &BTreeMap<&str, &Test>, results: &Value) -> bool {
    results[&test.id] == true
        && test
            .depends_on
            .iter()
            .all(|id| tests.get(&**id).is_none_or(|before| is_sound(before, tests, results)))
}

fn started(command: &mut Command, log: &Path) -> Result<Running> {
    let log = fs::File::create(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    Ok(Running(child))
}

/// Waits until somebody listens.
fn answers(port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(begun.elapsed() < READY, "nobody listens at port {port}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
