//! What a component is: its handler, found by semver, what it imports and exports, and, for bytes
//! that are no component, what they are instead.

use std::fmt;

use wasmparser::{Parser, Payload};

use super::load_error::LoadError;
use super::manifest::{Manifest, Mode};

/// The handler that makes a component a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2.x`.
    P2,
    /// `wasi:http/handler@0.3.x`.
    P3,
}

/// What a component is.
#[derive(Clone, Debug)]
pub struct World {
    /// The handler it exports; of both, 0.3.
    pub wasi: Wasi,
    /// The handler's full name, for example `wasi:http/handler@0.3.0`.
    pub handler: String,
    /// It imports a handler: it wraps other plugins.
    pub is_middleware: bool,
    /// Names of its imports.
    pub imports: Vec<String>,
    /// Names of its exports.
    pub exports: Vec<String>,
    /// It takes what clients of WebSockets send.
    pub websocket_events: Option<Lifted>,
    /// It takes what schedules come to.
    pub schedule_events: Option<Lifted>,
}

/// An interface of ours that a component exports, plain or as its `-async` twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifted {
    /// The export's full name, for example `wharf:host/schedule-events@0.1.0`.
    pub name: String,
}

impl Lifted {
    /// The twin, else the plain interface.
    fn among(exports: &[String], interface: &str) -> Option<Self> {
        let twin = format!("{interface}-async");
        let find = |interface: &str| exports.iter().find(|name| matches(name, interface, 1));
        let name = find(&twin).or_else(|| find(interface))?.clone();
        Some(Self { name })
    }

    /// The name without package and version.
    fn short(&self) -> &str {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        name.split('@').next().unwrap_or_default()
    }
}

impl World {
    /// Reads what a component is from its bytes, without compiling them.
    ///
    /// # Errors
    /// [`LoadError::NotAComponent`] for other bytes, [`LoadError::World`] when it exports no handler.
    pub fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        check_bytes(bytes)?;
        let (imports, exports) = names(bytes).map_err(|error| LoadError::NotAComponent {
            cause: explain_invalid(&error.to_string()),
        })?;
        let handler = |interface: &str, minor: u64| {
            exports.iter().find(|name| matches(name, interface, minor)).cloned()
        };
        let found = handler(P3_HANDLER, 3)
            .map(|name| (Wasi::P3, name))
            .or_else(|| handler(P2_HANDLER, 2).map(|name| (Wasi::P2, name)));
        let Some((wasi, handler)) = found else {
            return Err(LoadError::World { cause: no_handler(&exports) });
        };
        let is_middleware =
            imports.iter().any(|name| matches(name, P3_HANDLER, 3) || matches(name, P2_HANDLER, 2));
        let websocket_events = Lifted::among(&exports, WEBSOCKET_EVENTS);
        let schedule_events = Lifted::among(&exports, SCHEDULE_EVENTS);
        Ok(Self {
            wasi,
            handler,
            is_middleware,
            imports,
            exports,
            websocket_events,
            schedule_events,
        })
    }

    /// Whether it can be called as `manifest` wishes.
    ///
    /// # Errors
    /// [`LoadError::Schedule`] where it has schedules and does not take their times.
    pub fn check(&self, manifest: &Manifest) -> Result<(), LoadError> {
        match manifest.schedules.first() {
            Some(schedule) if self.schedule_events.is_none() => {
                Err(LoadError::Schedule { name: schedule.name.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// How its instances are used: as the manifest says, else `reuse` for 0.3 and `isolated` for
    /// 0.2, whose guests may rely on a fresh instance.
    pub fn mode(&self, manifest: &Manifest) -> Mode {
        manifest.instances.mode.unwrap_or(match self.wasi {
            Wasi::P2 => Mode::Isolated,
            Wasi::P3 => Mode::Reuse,
        })
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.handler)?;
        if self.is_middleware {
            f.write_str(" (middleware)")?;
        }
        for events in [&self.websocket_events, &self.schedule_events].into_iter().flatten() {
            write!(f, ", {}", events.short())?;
        }
        Ok(())
    }
}

const P3_HANDLER: &str = "wasi:http/handler";
const P2_HANDLER: &str = "wasi:http/incoming-handler";
/// What takes the messages of WebSockets; with `-async`, its twin.
pub const WEBSOCKET_EVENTS: &str = "wharf:host/websocket-events";
/// What takes the times of schedules; with `-async`, its twin.
pub const SCHEDULE_EVENTS: &str = "wharf:host/schedule-events";

/// Whether `name` is `interface@0.minor.x`. Release candidates match nothing, as in wasmtime.
fn matches(name: &str, interface: &str, minor: u64) -> bool {
    let Some(version) = name.strip_prefix(interface).and_then(|rest| rest.strip_prefix('@')) else {
        return false;
    };
    let mut numbers = version.split('.');
    numbers.next() == Some("0")
        && numbers.next() == Some(minor.to_string().as_str())
        && numbers.next().is_some_and(|patch| patch.bytes().all(|b| b.is_ascii_digit()))
        && numbers.next().is_none()
}

fn no_handler(exports: &[String]) -> String {
    let accepted = format!("{P3_HANDLER}@0.3.x or {P2_HANDLER}@0.2.x");
    if let Some(candidate) =
        exports.iter().find(|name| name.contains("http/") && name.contains("-rc"))
    {
        return format!(
            "it exports {candidate}, a release candidate that no host matches any more; build it \
             again with final WASI ({accepted})"
        );
    }
    if exports.is_empty() {
        return format!("it exports nothing; a plugin exports {accepted}");
    }
    format!("it exports {}; a plugin exports {accepted}", exports.join(", "))
}

/// Says what bytes are that cannot be a component, without compiling them.
///
/// # Errors
/// [`LoadError::NotAComponent`].
pub fn check_bytes(bytes: &[u8]) -> Result<(), LoadError> {
    // The preamble: `\0asm`, a version, and a layer that is 0 for core modules, 1 for components.
    let cause = match bytes {
        [] => "the file is empty".to_owned(),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => "it is a core WebAssembly module; build it for \
             wasm32-wasip2, or wrap it with `wasm-tools component new`"
            .to_owned(),
        bytes if b"\0asm".starts_with(&bytes[..bytes.len().min(4)]) => {
            format!("the file ends after {} bytes; it is truncated", bytes.len())
        }
        bytes if bytes.starts_with(b"(") => {
            "it is WebAssembly text; assemble it with `wasm-tools parse`".to_owned()
        }
        _ => "it does not begin like WebAssembly".to_owned(),
    };
    Err(LoadError::NotAComponent { cause })
}

/// Tells a truncated component from a malformed one by the parser's own words.
pub fn explain_invalid(cause: &str) -> String {
    if cause.contains("unexpected end") || cause.contains("unexpected end-of-file") {
        return format!("the file is truncated ({cause})");
    }
    cause.to_owned()
}

/// Names of the imports and exports of the outermost component.
fn names(bytes: &[u8]) -> wasmparser::Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The outermost component ends with its own `End`, at depth 0.
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_match_by_semver() {
        for (name, fits) in [
            ("wasi:http/handler@0.3.0", true),
            ("wasi:http/handler@0.3.2", true),
            ("wasi:http/handler@0.3.0-rc-2026-03-15", false),
            ("wasi:http/handler@0.2.0", false),
            ("wasi:http/handler@1.3.0", false),
            ("wasi:http/handler", false),
            ("my:http/handler@0.3.0", false),
        ] {
            assert_eq!(matches(name, P3_HANDLER, 3), fits, "{name}");
        }
    }

    #[test]
    fn of_an_interface_and_its_twin_the_twin_is_found() {
        let exports = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("wharf:host/{name}")).collect()
        };
        for (names, expected) in [
            (&["schedule-events@0.1.0"][..], Some("schedule-events")),
            (
                &["schedule-events@0.1.7", "schedule-events-async@0.1.0"],
                Some("schedule-events-async"),
            ),
            (&["schedule-events@0.2.0", "websocket-events@0.1.0", "schedule-events"], None),
        ] {
            let found = Lifted::among(&exports(names), SCHEDULE_EVENTS);

            assert_eq!(found.as_ref().map(Lifted::short), expected, "{names:?}");
        }
    }

    #[test]
    fn what_is_no_component_is_told() {
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (&b"\0as"[..], "truncated"),
            (&b"\0asm\x01\0\0\0"[..], "core WebAssembly module"),
            (&b"(component)"[..], "WebAssembly text"),
            (&b"MZ"[..], "does not begin like WebAssembly"),
        ] {
            let error = check_bytes(bytes).expect_err("none of them is a component").to_string();

            assert!(error.contains(expected), "{error}");
        }
    }
}
