//! One large body in one direction over TLS: HTTP/1.1 and HTTP/2 by curl, HTTP/3 by our own client.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Options;
use crate::generators::output_of;
use crate::machine::{self, Place};
use crate::report::{median, say};
use crate::scenarios::places;
use crate::servers::{Server, guest};

/// Bytes of a body.
const BYTES: u64 = 1 << 30;
/// What one transfer may take.
const LIMIT: Duration = Duration::from_secs(90);
/// Limits that a gigabyte does not meet.
const LARGE: &str = "[limits]\nbody = \"4GiB\"\ncpu-time = \"60s\"\nrequest-timeout = \"60s\"\n";

/// An HTTP version with its client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    H1,
    H2,
    H3,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::H1, Self::H2, Self::H3];

    fn label(self) -> &'static str {
        match self {
            Self::H1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
            Self::H3 => "HTTP/3",
        }
    }
}

/// Where a body comes from or goes to.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'a str,
    /// For the server's processor time; none of a server that is not ours.
    pub(crate) server: Option<&'a Server>,
    /// `HOST:PORT` of its TLS listener.
    pub(crate) https: &'a str,
    pub(crate) path: &'a str,
}

impl<'a> Contender<'a> {
    fn of(name: &'a str, server: &'a Server, path: &'a str) -> Self {
        Self { name, server: Some(server), https: &server.https, path }
    }
}

/// Sends one body through each contender in turn, round after round, and prints rates and ratios to the
/// first. `upload` is a file to send; without it the body comes from the server.
pub(crate) fn compare(
    options: &Options,
    title: &str,
    version: Version,
    upload: Option<&Path>,
    contenders: &[Contender<'_>],
) -> Result<()> {
    let (_, client) = places(options);
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut used = vec![Vec::new(); contenders.len()];
    for _ in 0..options.rounds {
        for (index, contender) in contenders.iter().enumerate() {
            let cpu = || contender.server.map_or(Ok(0), Server::cpu_us);
            let before = cpu()?;
            let seconds = transfer(version, client, upload, contender)
                .with_context(|| format!("{}, {}", contender.name, version.label()))?;
            used[index].push((cpu()? - before) as f64 / 1e3);
            rates[index].push(BYTES as f64 / 1e6 / seconds);
        }
    }
    say(&format!(
        "\n{:<44} {:>9} {:>19} {:>8} {:>8}",
        format!("{title}, {}", version.label()),
        "MB/s",
        "[min .. max]",
        "CPU ms",
        "x first"
    ));
    let base = median(rates[0].iter().copied());
    for ((contender, rates), used) in contenders.iter().zip(&rates).zip(&used) {
        let rate = median(rates.iter().copied());
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        say(&format!(
            "{:<44} {rate:>9.0} {:>19} {:>8.0} {:>8.2}",
            contender.name,
            format!("[{least:.0} .. {most:.0}]"),
            median(used.iter().copied()),
            rate / base,
        ));
    }
    Ok(())
}

/// One transfer; its seconds.
fn transfer(
    version: Version,
    client: Place,
    upload: Option<&Path>,
    contender: &Contender<'_>,
) -> Result<f64> {
    let url = format!("https://{}{}", contender.https, contender.path);
    if version == Version::H3 {
        let own = std::env::current_exe()?;
        let own = own.to_str().context("the path of this program is not UTF-8")?;
        let mut command = machine::placed(own, client);
        let bytes = if upload.is_some() { BYTES } else { 0 };
        command.args(["h3-client", "--transfer", &bytes.to_string(), &url]);
        let told: Value = serde_json::from_str(&output_of(&mut command, LIMIT)?)?;
        ensure!(upload.is_some() || told["received"] == BYTES, "got {}", told["received"]);
        return told["seconds"].as_f64().context("no time");
    }
    let mut command = machine::placed("curl", client);
    command.args(["-sS", "--fail", "--insecure", "--max-time", "80", "-o", "/dev/null"]);
    command.arg(if version == Version::H1 { "--http1.1" } else { "--http2" });
    command
        .args(["-w", "%{time_starttransfer} %{time_pretransfer} %{time_total} %{size_download}"]);
    if let Some(file) = upload {
        command.args(["-H", "expect:", "-X", "POST", "-T"]).arg(file);
    }
    command.arg(url);
    let told = output_of(&mut command, LIMIT)?;
    let mut numbers = told.split(' ').map(str::parse::<f64>);
    let mut next = || numbers.next().context("curl tells nothing")?.context("no number");
    let (_first, begun, total, received) = (next()?, next()?, next()?, next()?);
    ensure!(upload.is_some() || received as u64 == BYTES, "got {received} bytes");
    // Without the handshake, as our own client measures.
    Ok(total - begun)
}

/// 1 GiB down and up, through a plugin and through the native server.
pub(crate) fn transfers(options: &Options) -> Result<()> {
    ensure!(machine::has("curl"), "curl: not installed");
    let place = places(options).0;
    let native = Server::native(place)?;
    let (stream, read) = (guest(options, "p3_stream")?, guest(options, "p3_read")?);
    let plugins: [(&str, &[u8], &str); 2] = [("stream", &stream, LARGE), ("read", &read, LARGE)];
    let wharf = Server::wharf(options, place, &plugins)?;
    let file = native.dir().join("upload");
    File::create(&file)?.set_len(BYTES)?;
    for version in Version::ALL {
        compare(
            options,
            "1 GiB down, 64 KiB writes, TLS",
            version,
            None,
            &[
                Contender::of("native", &native, "/download"),
                Contender::of("wharf, 0.3", &wharf, "/stream/?chunks=16384&size=65536"),
            ],
        )?;
        compare(
            options,
            "1 GiB up, read and counted, TLS",
            version,
            Some(&file),
            &[
                Contender::of("native", &native, "/upload"),
                Contender::of("wharf, 0.3", &wharf, "/read/?count=1"),
            ],
        )?;
    }
    Ok(())
}

/// 1 GiB of a file: the host's reply beside nginx.
pub(crate) fn files(options: &Options) -> Result<()> {
    ensure!(machine::has("curl"), "curl: not installed");
    ensure!(machine::has("nginx"), "nginx: not installed (Debian: nginx-light)");
    let place = places(options).0;
    let root = tempfile::tempdir()?;
    // Real bytes: the pages of a file with holes are all the same page.
    let mut file = File::create(root.path().join("large.bin"))?;
    let piece: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    for _ in 0..BYTES / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let folder = root.path().to_str().context("a path is not UTF-8")?;
    let grant = format!("[capabilities]\nfiles = {{ \"{folder}\" = \"r\" }}\n{LARGE}");
    let name = root.path().file_name().and_then(|name| name.to_str()).context("no name")?;
    let path = format!("/files/?path={name}/large.bin");
    let component = guest(options, "p3_file_reply")?;
    let nginx = Server::nginx(place, root.path())?;
    let wharf = Server::wharf(options, place, &[("files", &component, &grant)])?;
    for version in [Version::H1, Version::H2] {
        compare(
            options,
            "a file of 1 GiB, TLS",
            version,
            None,
            &[
                Contender::of("nginx", &nginx, "/large.bin"),
                Contender::of("wharf, files.reply", &wharf, &path),
            ],
        )?;
    }
    Ok(())
}
