//! The primary key of an entry: who answers (a namespace, the plugin's name), scheme, authority, raw
//! path, query, and what request fields a manifest adds.
//!
//! Nothing is normalised that the plugin would see otherwise: paths stay as they are, with their dots,
//! semicolons and percent signs (RFC 9111 §2, and cache deception). The parts are separated by bytes that
//! cannot be in them, so that no two requests that differ have one key.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

/// The default port of a scheme.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// What goes into keys; made when a configuration is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRules {
    ignored: Vec<Pattern>,
    fields: Vec<HeaderName>,
}

/// A name, or the beginning of one before a `*` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: Box<[u8]>,
    is_prefix: bool,
}

impl Pattern {
    fn matches(&self, name: &[u8]) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { *name == *self.text }
    }
}

/// Why rules for keys were refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRulesError {
    /// A pattern of query keys is empty, or has a `*` that is not at its end.
    #[error("query key {0:?} is neither a name nor the beginning of one with * at its end")]
    QueryKey(String),
}

impl KeyRules {
    /// Query keys that make no difference (`utm_*`, as they are written, undecoded), and request fields
    /// that do.
    ///
    /// # Errors
    ///
    /// A pattern that could match nothing.
    pub fn new<'a>(
        ignored: impl IntoIterator<Item = &'a str>,
        fields: impl IntoIterator<Item = HeaderName>,
    ) -> Result<Self, KeyRulesError> {
        let ignored = ignored.into_iter().map(|pattern| {
            let (text, is_prefix) = match pattern.strip_suffix('*') {
                Some(text) => (text, true),
                None => (pattern, false),
            };
            let wrong = pattern.is_empty() || text.contains(['*', '&', '=', '#']);
            if wrong {
                return Err(KeyRulesError::QueryKey(pattern.to_owned()));
            }
            Ok(Pattern { text: text.as_bytes().into(), is_prefix })
        });
        let ignored = ignored.collect::<Result<_, _>>()?;
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        fields.dedup();
        Ok(Self { ignored, fields })
    }

    /// The request fields that tell entries apart, sorted.
    pub fn fields(&self) -> &[HeaderName] {
        &self.fields
    }

    fn ignores(&self, pair: &[u8]) -> bool {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        self.ignored.iter().any(|pattern| pattern.matches(name))
    }
}

/// A request target: where it goes, without what a plugin's rules make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`, in lower case.
    pub scheme: &'a str,
    /// `Host` or `:authority` as it came.
    pub authority: &'a str,
    /// Path and query as they came.
    pub path_and_query: &'a str,
}

impl<'a> Target<'a> {
    /// Takes an absolute URL apart. A fragment is left out. Nothing where it has no authority.
    pub fn of_url(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        let scheme = match scheme {
            scheme if scheme.eq_ignore_ascii_case("http") => "http",
            scheme if scheme.eq_ignore_ascii_case("https") => "https",
            _ => return None,
        };
        (!authority.is_empty()).then_some(Self { scheme, authority, path_and_query })
    }
}

/// What finds the stored responses to a request. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: Arc<[u8]>,
    /// Where the added request fields begin.
    fields_at: u32,
}

/// After the namespace.
const AFTER_NAMESPACE: u8 = 0;
/// Before each added field.
const BEFORE_FIELD: u8 = b'\n';
/// Before each further line of a field, where the request has the field; none where it has not.
const BEFORE_LINE: u8 = b'\r';

/// Longer keys are made on the heap before they are put where they stay.
const BUFFER_BYTES: usize = 512;

impl Key {
    /// The key of a request. GET and HEAD have the same.
    pub fn new(rules: &KeyRules, namespace: &str, target: Target<'_>, headers: &HeaderMap) -> Self {
        let mut buffer = Buffer::new();
        write_target(&mut buffer, rules, namespace, target);
        let fields_at = buffer.len();
        for name in &rules.fields {
            buffer.push(&[BEFORE_FIELD]);
            for value in headers.get_all(name) {
                buffer.push(&[BEFORE_LINE]);
                buffer.push(value.as_bytes());
            }
        }
        Self {
            // A head that passed the host's limits is far below 4 GiB; were it not, the whole key would
            // count as the target's, which only makes purges miss it.
            fields_at: u32::try_from(fields_at).unwrap_or(u32::MAX),
            bytes: buffer.as_slice().into(),
        }
    }

    /// The key without the added request fields: that of all entries of one URL, for purges and
    /// invalidation. The same key where there are none.
    pub fn target(&self) -> Self {
        let end = self.fields_end();
        if end == self.bytes.len() {
            return self.clone();
        }
        Self { bytes: self.bytes[..end].into(), fields_at: self.fields_at }
    }

    /// Whether request fields were added.
    pub fn has_fields(&self) -> bool {
        self.fields_end() < self.bytes.len()
    }

    /// Who answers.
    pub fn namespace(&self) -> &str {
        let end = self.bytes.iter().position(|byte| *byte == AFTER_NAMESPACE).unwrap_or_default();
        std::str::from_utf8(&self.bytes[..end]).unwrap_or_default()
    }

    /// Its bytes: the same for the same key, in every process of one version.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A key from [`Key::as_bytes`], for storage that survives the process. Nothing where they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let namespace = bytes.iter().position(|byte| *byte == AFTER_NAMESPACE)?;
        std::str::from_utf8(&bytes[..namespace]).ok()?;
        let fields = bytes[namespace..].iter().position(|byte| *byte == BEFORE_FIELD);
        let fields_at = fields.map_or(bytes.len(), |at| namespace + at);
        Some(Self { bytes: bytes.into(), fields_at: u32::try_from(fields_at).ok()? })
    }

    /// What it takes of memory, about.
    pub fn weight(&self) -> usize {
        self.bytes.len() + 32
    }

    fn fields_end(&self) -> usize {
        usize::try_from(self.fields_at).unwrap_or(usize::MAX).min(self.bytes.len())
    }
}

/// For logs and `Cache-Status`: `plugin https://example.com/a?b`, with the number of added fields but
/// not their values, which may be secrets.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, fields) = self.bytes.split_at(self.fields_end());
        for byte in target {
            match byte {
                &AFTER_NAMESPACE => f.write_str(" ")?,
                b'!'..=b'~' => write!(f, "{}", char::from(*byte))?,
                byte => write!(f, "%{byte:02X}")?,
            }
        }
        match fields.iter().filter(|byte| **byte == BEFORE_FIELD).count() {
            0 => Ok(()),
            count => write!(f, " +{count}"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

fn write_target(buffer: &mut Buffer, rules: &KeyRules, namespace: &str, target: Target<'_>) {
    buffer.push(namespace.as_bytes());
    buffer.push(&[AFTER_NAMESPACE]);
    buffer.push(target.scheme.as_bytes());
    buffer.push(b"://");
    write_authority(buffer, target.scheme, target.authority);
    let (path, query) = match target.path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.path_and_query, None),
    };
    // RFC 9110 §4.2.3: an empty path is the same as "/"; but `*` (of OPTIONS) is none.
    buffer.push(if path.is_empty() { b"/" } else { path.as_bytes() });
    let Some(query) = query else { return };
    if rules.ignored.is_empty() {
        buffer.push(b"?");
        buffer.push(query.as_bytes());
        return;
    }
    let pairs = query.as_bytes().split(|byte| *byte == b'&');
    let mut separator: &[u8] = b"?";
    for pair in pairs.filter(|pair| !rules.ignores(pair)) {
        buffer.push(separator);
        buffer.push(pair);
        separator = b"&";
    }
}

/// RFC 9110 §4.2.3: lower case, no default port; and no dot of the root at the end of the name.
fn write_authority(buffer: &mut Buffer, scheme: &str, authority: &str) {
    let (name, port) = split_port(authority);
    let start = buffer.len();
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        buffer.push(format!("[{address}]").as_bytes());
    } else {
        buffer.push(name.strip_suffix('.').unwrap_or(name).as_bytes());
        buffer.as_mut_slice()[start..].make_ascii_lowercase();
    }
    let Some(port) = port else { return };
    // What is no port stays as it is; the host refuses it before. `parse` would take a sign.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if is_number => {
            if Some(number) != default_port(scheme) {
                buffer.push(b":");
                buffer.push(itoa::Buffer::new().format(number).as_bytes());
            }
        }
        _ => {
            buffer.push(b":");
            buffer.push(port.as_bytes());
        }
    }
}

/// An empty port is none.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            (name, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (authority, None),
    }
}

/// Bytes on the stack as long as they are few.
struct Buffer {
    short: [u8; BUFFER_BYTES],
    length: usize,
    long: Vec<u8>,
}

impl Buffer {
    fn new() -> Self {
        Self { short: [0; BUFFER_BYTES], length: 0, long: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if self.long.is_empty()
            && let Some(room) = self.short.get_mut(self.length..end)
        {
            room.copy_from_slice(bytes);
        } else {
            if self.long.is_empty() {
                self.long.extend_from_slice(&self.short[..self.length]);
            }
            self.long.extend_from_slice(bytes);
        }
        self.length = end;
    }

    fn len(&self) -> usize {
        self.length
    }

    fn as_slice(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.length] } else { &self.long }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.long.is_empty() { &mut self.short[..self.length] } else { &mut self.long }
    }
}
