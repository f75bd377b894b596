//! What is measured, one function a name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::generators::{Generator, output_of};
use crate::machine::{self, Place};
use crate::reload::connections;
use crate::report::{self, Row, figure, median, say};
use crate::servers::{Server, guest, guest_path};

/// One server in a comparison.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    pub(crate) path: &'static str,
}

const REUSE: &str = "[instances]\nmode = \"reuse\"\n";
const ISOLATED: &str = "[instances]\nmode = \"isolated\"\n";
/// Limits that a gigabyte does not meet.
const STREAMING: &str =
    "[limits]\nbody = \"4GiB\"\ncpu-time = \"60s\"\nrequest-timeout = \"60s\"\n";

pub(crate) fn places(options: &Options) -> (Place, Place) {
    if options.unpinned {
        (Place::Anywhere, Place::Anywhere)
    } else {
        (Place::ServerCore, Place::ClientCore)
    }
}

/// Runs one generator against each in turn, round after round.
pub(crate) fn compare(
    options: &Options,
    title: &str,
    generator: Generator,
    tls: bool,
    contenders: &[Contender],
) -> Result<()> {
    if let Some(missing) = generator.missing() {
        say(&format!("\n{title}: {missing}"));
        return Ok(());
    }
    let (_, client) = places(options);
    let mut rows: Vec<Row> = contenders
        .iter()
        .map(|contender| Row { name: contender.name.to_owned(), runs: Vec::new() })
        .collect();
    for _ in 0..options.rounds {
        for (contender, row) in contenders.iter().zip(&mut rows) {
            let Contender { server, path, .. } = contender;
            let url = match tls {
                true => format!("https://{}{path}", server.https),
                false => format!("http://{}{path}", server.http),
            };
            generator.run(&url, Duration::from_secs(1), client)?;
            let before = server.cpu_us()?;
            let mut run = generator
                .run(&url, options.duration(), client)
                .with_context(|| format!("{}:\n{}", row.name, server.log()))?;
            run.cpu_us = server.cpu_us()? - before;
            ensure!(run.requests > 0, "{}: nothing was answered:\n{}", row.name, server.log());
            row.runs.push(run);
        }
    }
    report::table(title, &rows);
    Ok(())
}

fn wasmtime(
    options: &Options,
    name: &'static str,
    guest: &str,
    arguments: &[&str],
) -> Result<Option<Contender>> {
    if !machine::has("wasmtime") {
        say("wasmtime serve: not installed");
        return Ok(None);
    }
    let server = Server::wasmtime(places(options).0, &guest_path(options, guest)?, arguments)?;
    Ok(Some(Contender { name, server, path: "/" }))
}

fn native(options: &Options) -> Result<Contender> {
    Ok(Contender { name: "native hyper", server: Server::native(places(options).0)?, path: "/" })
}

fn wharf(
    options: &Options,
    name: &'static str,
    component: &str,
    manifest: &str,
) -> Result<Contender> {
    let component = guest(options, component)?;
    let server = Server::wharf(options, places(options).0, &[("hello", &component, manifest)])?;
    Ok(Contender { name, server, path: "/hello/" })
}

/// A small answer in cleartext.
pub(crate) fn hello(options: &Options) -> Result<()> {
    let mut contenders = vec![
        native(options)?,
        wharf(options, "wharf, 0.3 reuse", "p3_plain", REUSE)?,
        wharf(options, "wharf, 0.2 reuse", "p2_hello", REUSE)?,
        Contender {
            name: "wharf, 0.3 reuse, with its access log",
            server: Server::wharf_with(
                options,
                places(options).0,
                &[("hello", &guest(options, "p3_plain")?, REUSE)],
                "",
            )?,
            path: "/hello/",
        },
    ];
    contenders.extend(wasmtime(options, "wasmtime serve, 0.3 default", "p3_plain", &[])?);
    compare(options, "hello, HTTP/1.1 (wrk -c64)", Generator::Wrk, false, &contenders)?;
    // `wasmtime serve` speaks HTTP/2 too, but only where its version takes prior knowledge.
    contenders.truncate(3);
    compare(options, "hello, h2c (h2load -c32 -m10)", Generator::H2load, false, &contenders)
}

/// A fresh instance for each request.
pub(crate) fn isolated(options: &Options) -> Result<()> {
    let mut contenders = vec![
        native(options)?,
        wharf(options, "wharf, 0.3 isolated", "p3_plain", ISOLATED)?,
        wharf(options, "wharf, 0.2 isolated", "p2_hello", ISOLATED)?,
    ];
    let off = ["--max-instance-reuse-count=1"];
    contenders.extend(wasmtime(options, "wasmtime serve, 0.3 reuse off", "p3_plain", &off)?);
    contenders.extend(wasmtime(options, "wasmtime serve, 0.2 reuse off", "p2_hello", &off)?);
    compare(options, "isolated, HTTP/1.1 (wrk -c64)", Generator::Wrk, false, &contenders)
}

/// A small answer over TLS.
pub(crate) fn tls(options: &Options) -> Result<()> {
    let contenders = [native(options)?, wharf(options, "wharf, 0.3 reuse", "p3_plain", REUSE)?];
    compare(options, "TLS, HTTP/1.1 (wrk -c64)", Generator::Wrk, true, &contenders)?;
    compare(options, "TLS, HTTP/2 (h2load -c32 -m10)", Generator::H2load, true, &contenders)
}

/// A small answer over HTTP/3.
pub(crate) fn h3(options: &Options) -> Result<()> {
    let contenders = [native(options)?, wharf(options, "wharf, 0.3 reuse", "p3_plain", REUSE)?];
    compare(options, "HTTP/3 (own client, 8 x 10 streams)", Generator::H3, true, &contenders)
}

/// Memory without work.
pub(crate) fn idle_memory(options: &Options) -> Result<()> {
    const PLUGINS: usize = 10;
    say("\nidle memory (Pss)");
    let component = guest(options, "p3_hello")?;
    let place = places(options).0;
    let names: Vec<String> = (0..PLUGINS).map(|number| format!("hello{number}")).collect();
    let several: Vec<(&str, &[u8], &str)> =
        names.iter().map(|name| (name.as_str(), component.as_slice(), "")).collect();
    let memory = |plugins: &[(&str, &[u8], &str)]| -> Result<(Server, u64)> {
        let server = Server::wharf(options, place, plugins)?;
        let pss = server.settled_pss_kib()?;
        Ok((server, pss))
    };
    let (_, none) = memory(&[])?;
    figure("server without plugins", &format!("{none} KiB"));
    let (server, one) = memory(&several[..1])?;
    figure("server that has compiled one plugin (Rust, 0.3)", &format!("{one} KiB"));
    let (_, ten) = memory(&several)?;
    let each = ten.saturating_sub(one) as i64 / (PLUGINS as i64 - 1);
    figure("each further plugin of the same component", &format!("{each} KiB"));
    idle_connections("wharf", &server, "/hello0/")?;
    let native = Server::native(place)?;
    figure("native server", &format!("{} KiB", native.settled_pss_kib()?));
    idle_connections("native", &native, "/")
}

/// What an idle keep-alive connection holds that has had one answer.
fn idle_connections(name: &str, server: &Server, path: &str) -> Result<()> {
    /// With twice as many, both sides stay below 1024 open files.
    const CONNECTIONS: u64 = 400;
    // The second half is measured. The first pays for what is not the connections' (instances, pages
    // of code) and makes the allocator give back what compiling took.
    let first = connections(&server.http, path, CONNECTIONS)?;
    let before = server.settled_pss_kib()?;
    let held = connections(&server.http, path, CONNECTIONS)?;
    let after = server.settled_pss_kib()?;
    drop((first, held));
    let each = (after as f64 - before as f64) / CONNECTIONS as f64;
    figure(&format!("each idle HTTP/1.1 connection, {name}"), &format!("{each:.1} KiB"));
    Ok(())
}

/// Bodies of many megabytes, with curl.
pub(crate) fn streams(options: &Options) -> Result<()> {
    const GIB: u64 = 1 << 30;
    const UPLOAD: u64 = 256 << 20;
    say("\nstreams (curl, HTTP/1.1)");
    ensure!(machine::has("curl"), "curl: not installed");
    let (place, client) = places(options);
    let native = Server::native(place)?;
    let (stream, read) = (guest(options, "p3_stream")?, guest(options, "p3_read")?);
    let plugins: [(&str, &[u8], &str); 2] =
        [("stream", &stream, STREAMING), ("read", &read, STREAMING)];
    let wharf = Server::wharf(options, place, &plugins)?;
    let upload = native.dir().join("upload");
    std::fs::File::create(&upload)?.set_len(UPLOAD)?;
    let body = format!("@{}", upload.display());
    let down = "/stream/?chunks=16384&size=65536";
    for (name, server, path, bytes) in [
        ("native, 1 GiB out", &native, "/download", GIB),
        ("wharf, 1 GiB out in 64 KiB writes", &wharf, down, GIB),
        ("native, 256 MiB in", &native, "/upload", UPLOAD),
        ("wharf, 256 MiB in, read and hashed by the guest", &wharf, "/read/", UPLOAD),
    ] {
        let (mut rates, mut used) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let mut command = machine::placed("curl", client);
            command.args(["-sS", "--fail", "--http1.1", "--max-time", "60", "-o", "/dev/null"]);
            command.args(["-w", "%{time_total} %{size_download}"]);
            if bytes == UPLOAD {
                command.args(["-H", "expect:", "--data-binary", &body]);
            }
            command.arg(format!("http://{}{path}", server.http));
            let before = server.cpu_us()?;
            let told = output_of(&mut command, Duration::from_secs(70))
                .with_context(|| format!("{name}:\n{}", server.log()))?;
            used.push((server.cpu_us()? - before) as f64 / 1e3);
            let (seconds, received) = told.split_once(' ').context("curl tells nothing")?;
            ensure!(bytes == UPLOAD || received.parse() == Ok(bytes), "{name}: got {received}");
            rates.push(bytes as f64 / 1e9 / seconds.parse::<f64>()?);
        }
        let (rate, cpu) = (median(rates.into_iter()), median(used.into_iter()));
        figure(name, &format!("{rate:.2} GB/s, {cpu:.0} ms CPU"));
    }
    Ok(())
}
