//! The grammar of `Cache-Control` (RFC 9111 §5.2): a list of tokens, each with an optional argument that
//! is a token or a quoted string.

use std::borrow::Cow;

/// One directive as it was written.
pub(super) struct Directive<'a> {
    /// Not lower-cased, and not checked to be a token.
    pub(super) name: &'a [u8],
    pub(super) argument: Argument<'a>,
}

/// What follows the name.
pub(super) enum Argument<'a> {
    None,
    /// Without its quotes.
    Value(Cow<'a, [u8]>),
    /// A blank around the equals sign, an open quote, something after the closing one.
    Invalid,
}

/// The directives of one line.
pub(super) struct Directives<'a> {
    rest: &'a [u8],
}

impl<'a> Directives<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// What follows the equals sign, and moves on to the next comma.
    fn argument(&mut self) -> Argument<'a> {
        if let Some(quoted) = self.rest.strip_prefix(b"\"") {
            return self.quoted(quoted);
        }
        let value = self.take_until(|byte| byte == b',').trim_ascii_end();
        match value.first() {
            None | Some(b' ' | b'\t') => Argument::Invalid,
            Some(_) if value.contains(&b'"') => Argument::Invalid,
            Some(_) => Argument::Value(Cow::Borrowed(value)),
        }
    }

    fn quoted(&mut self, quoted: &'a [u8]) -> Argument<'a> {
        let mut unescaped = Vec::new();
        let mut bytes = quoted.iter().enumerate();
        let mut escaped = false;
        let end = loop {
            match bytes.next() {
                None => {
                    self.rest = &[];
                    return Argument::Invalid;
                }
                Some((at, b'"')) => break at,
                Some((at, b'\\')) => {
                    if !escaped {
                        unescaped.extend_from_slice(&quoted[..at]);
                        escaped = true;
                    }
                    unescaped.extend(bytes.next().map(|(_, byte)| byte));
                }
                Some((_, byte)) if escaped => unescaped.push(*byte),
                Some(_) => {}
            }
        };
        self.rest = &quoted[end + 1..];
        let tail = self.take_until(|byte| byte == b',');
        if !tail.trim_ascii().is_empty() {
            return Argument::Invalid;
        }
        Argument::Value(if escaped { Cow::Owned(unescaped) } else { Cow::Borrowed(&quoted[..end]) })
    }

    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let at = self.rest.iter().position(|byte| ends(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest;
        taken
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
            self.rest = &self.rest[start..];
            let written = self.take_until(|byte| matches!(byte, b',' | b'='));
            let name = written.trim_ascii_end();
            let argument = match self.rest.strip_prefix(b"=") {
                None => Argument::None,
                Some(rest) => {
                    self.rest = rest;
                    let argument = self.argument();
                    if name.len() == written.len() { argument } else { Argument::Invalid }
                }
            };
            if !name.is_empty() {
                return Some(Directive { name, argument });
            }
        }
    }
}
