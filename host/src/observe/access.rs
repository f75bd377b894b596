//! The access log: one line a request, when its response has ended.
//!
//! Formatted here rather than through `tracing`, whose formatting and system call for every event
//! cost more than a plugin's answer (numbers in the README). The query is left out: secrets and
//! personal data travel there; so are header fields.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{Method, Uri};

use super::output::Output;
use super::series::Outcome;
use crate::config::LogFormat;
use crate::http::conn::Protocol;

/// Bytes of a path that are logged.
const MAX_PATH: usize = 1024;

/// Writes access lines.
#[derive(Clone, Debug)]
pub struct AccessLog {
    output: Output,
    format: LogFormat,
}

/// What a line says.
#[derive(Debug)]
pub struct Line<'a> {
    /// When the response ended.
    pub at: SystemTime,
    /// Of the request.
    pub method: &'a Method,
    /// Of the request; only its path is logged.
    pub uri: &'a Uri,
    /// As answered; 499 where the client left first.
    pub status: u16,
    /// From the head's arrival to the end of the response body.
    pub duration: Duration,
    /// Of the response body.
    pub bytes: u64,
    /// How the exchange ended.
    pub outcome: Outcome,
    /// Of the connection.
    pub protocol: Protocol,
    /// Of the connection.
    pub peer: SocketAddr,
    /// Who answered; `-` for nobody.
    pub plugin: &'a str,
    /// The pattern that matched; `-` for none.
    pub route: &'a str,
    /// Why the request was refused or failed.
    pub reason: Option<&'static str>,
    /// Of the request.
    pub request_id: &'a str,
}

impl AccessLog {
    /// Lines in `format` to `output`.
    pub fn new(output: Output, format: LogFormat) -> Self {
        Self { output, format }
    }

    /// Writes a line from `core`.
    pub fn write(&self, core: usize, line: &Line<'_>) {
        self.output.append(core, |buffer| {
            // Writing to a `Vec` cannot fail.
            let _infallible = match self.format {
                LogFormat::Text => text(buffer, line),
                LogFormat::Json => json(buffer, line),
            };
        });
    }
}

fn text(out: &mut Vec<u8>, line: &Line<'_>) -> std::io::Result<()> {
    timestamp(out, line.at)?;
    out.extend_from_slice(b"  INFO access: ");
    out.extend_from_slice(line.method.as_str().as_bytes());
    out.push(b' ');
    // `http` lets bytes through that are not ASCII; a control character would steer a terminal.
    for byte in path(line).bytes() {
        if byte == 0x7f || byte < 0x20 {
            write!(out, "%{byte:02x}")?;
        } else {
            out.push(byte);
        }
    }
    let mut number = itoa::Buffer::new();
    out.push(b' ');
    out.extend_from_slice(number.format(line.status).as_bytes());
    out.push(b' ');
    millis(out, line.duration);
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(number.format(line.bytes).as_bytes());
    out.extend_from_slice(b"B ");
    for (name, value) in [
        ("outcome=", line.outcome.label()),
        (" protocol=", line.protocol.label()),
        (" plugin=", line.plugin),
        (" request_id=", line.request_id),
    ] {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    write!(out, " peer={}", line.peer)?;
    if let Some(reason) = line.reason {
        out.extend_from_slice(b" reason=");
        out.extend_from_slice(reason.as_bytes());
    }
    out.push(b'\n');
    Ok(())
}

fn json(out: &mut Vec<u8>, line: &Line<'_>) -> std::io::Result<()> {
    out.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(out, line.at)?;
    out.extend_from_slice(b"\",\"level\":\"INFO\",\"target\":\"access\"");
    let text = [
        ("method", line.method.as_str()),
        ("path", path(line)),
        ("outcome", line.outcome.label()),
        ("protocol", line.protocol.label()),
        ("plugin", line.plugin),
        ("route", line.route),
        ("request_id", line.request_id),
    ];
    for (name, value) in text {
        write!(out, ",\"{name}\":")?;
        serde_json::to_writer(&mut *out, value)?;
    }
    if let Some(reason) = line.reason {
        write!(out, ",\"reason\":\"{reason}\"")?;
    }
    write!(out, ",\"status\":{},\"duration_ms\":", line.status)?;
    millis(out, line.duration);
    writeln!(out, ",\"bytes\":{},\"peer\":\"{}\"}}", line.bytes, line.peer)
}

fn timestamp(out: &mut Vec<u8>, at: SystemTime) -> std::io::Result<()> {
    write!(out, "{}", humantime::format_rfc3339_micros(at))
}

fn path<'a>(line: &'a Line<'_>) -> &'a str {
    let path = line.uri.path();
    let end = path.floor_char_boundary(MAX_PATH);
    &path[..end]
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = duration.as_micros() as u64;
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(number.format(micros / 1000).as_bytes());
    let rest = (micros % 1000) as u32;
    out.push(b'.');
    for divisor in [100, 10, 1] {
        out.push(b'0' + (rest / divisor % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(method: &'a Method, uri: &'a Uri) -> Line<'a> {
        Line {
            at: SystemTime::UNIX_EPOCH,
            method,
            uri,
            status: 200,
            duration: Duration::from_micros(1_234_056),
            bytes: 42,
            outcome: Outcome::Complete,
            protocol: Protocol::H2,
            peer: "127.0.0.1:5000".parse().unwrap(),
            plugin: "shop",
            route: "/shop/*",
            reason: None,
            request_id: "00",
        }
    }

    #[test]
    fn a_line_has_method_path_status_duration_and_bytes_but_no_query() {
        let uri = Uri::from_static("/shop/cart?token=secret");
        let mut out = Vec::new();

        text(&mut out, &line(&Method::GET, &uri)).unwrap();

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1970-01-01T00:00:00.000000Z  INFO access: GET /shop/cart 200 1234.056ms 42B \
             outcome=complete protocol=h2 plugin=shop request_id=00 peer=127.0.0.1:5000\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object_whatever_the_path() {
        let uri: Uri = "/a\"b\\c".parse().unwrap_or_else(|_| Uri::from_static("/a\"b"));
        let mut out = Vec::new();

        let line = Line { reason: Some("not-found"), ..line(&Method::GET, &uri) };
        json(&mut out, &line).unwrap();

        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["path"], uri.path());
        assert_eq!(value["status"], 200);
        assert_eq!(value["duration_ms"], 1234.056);
        assert_eq!(value["reason"], "not-found");
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
