//! URI templates (RFC 6570) as selectors: could this topic be an expansion of that template?
//!
//! All four levels of the RFC. The question is asked of untrusted templates for every event, so it is
//! answered without backtracking: part by part, the set of places in the topic is kept up to which the
//! template can have matched. That takes time in proportion to the length of the topic times the number of
//! parts, which is bounded.

use super::SelectorError;
use crate::topic::Topic;

/// Expressions in a template, at the most.
const MAX_EXPRESSIONS: usize = 16;

/// Variables in all expressions of a template together, at the most.
const MAX_VARIABLES: usize = 32;

/// A URI template. A text that does not follow the syntax is the name of one topic and nothing else:
/// that is how deployed Mercure hubs take it, and topics with braces in them would have no selector
/// otherwise.
#[derive(Clone, Debug)]
pub struct UriTemplate {
    text: Topic,
    /// Empty where the text stands for itself only.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Literal),
    Expression(Expression),
}

/// Text between expressions.
#[derive(Clone, Debug)]
struct Literal {
    raw: Box<str>,
    /// As RFC 6570 §3.1 expands it, where that is something else: beyond ASCII. Topics are IRIs as often
    /// as they are URIs, so both forms count.
    encoded: Option<Box<str>>,
}

#[derive(Clone, Debug)]
struct Expression {
    operator: &'static Operator,
    variables: Vec<Variable>,
}

#[derive(Clone, Debug)]
struct Variable {
    name: Box<str>,
    modifier: Modifier,
}

/// RFC 6570 §2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    None,
    /// `:n`: the first so many characters of a string.
    Prefix(u16),
    /// `*`: each member of a list on its own.
    Explode,
}

/// A row of the table in RFC 6570, appendix A.
#[derive(Debug)]
struct Operator {
    symbol: Option<char>,
    /// Comes before the first value.
    first: &'static str,
    separator: u8,
    named: Named,
    /// Whether reserved characters stay as they are.
    reserved: bool,
}

/// Whether a value has the name of its variable before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    No,
    /// `name` alone where the value is empty.
    Bare,
    /// `name=` where the value is empty.
    Always,
}

#[rustfmt::skip]
static OPERATORS: [Operator; 8] = [
    Operator { symbol: None,      first: "",  separator: b',', named: Named::No,     reserved: false },
    Operator { symbol: Some('+'), first: "",  separator: b',', named: Named::No,     reserved: true },
    Operator { symbol: Some('#'), first: "#", separator: b',', named: Named::No,     reserved: true },
    Operator { symbol: Some('.'), first: ".", separator: b'.', named: Named::No,     reserved: false },
    Operator { symbol: Some('/'), first: "/", separator: b'/', named: Named::No,     reserved: false },
    Operator { symbol: Some(';'), first: ";", separator: b';', named: Named::Bare,   reserved: false },
    Operator { symbol: Some('?'), first: "?", separator: b'&', named: Named::Always, reserved: false },
    Operator { symbol: Some('&'), first: "&", separator: b'&', named: Named::Always, reserved: false },
];

impl UriTemplate {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no topic's name, or has more than [`MAX_EXPRESSIONS`] or [`MAX_VARIABLES`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let parts = parts(text).unwrap_or_default();
        let expressions = || {
            parts.iter().filter_map(|part| match part {
                Part::Expression(expression) => Some(expression),
                Part::Literal(_) => None,
            })
        };
        let variables: usize = expressions().map(|expression| expression.variables.len()).sum();
        if expressions().count() > MAX_EXPRESSIONS || variables > MAX_VARIABLES {
            return Err(SelectorError::Syntax {
                kind: "URI template",
                cause: format!(
                    "it has at most {MAX_EXPRESSIONS} expressions and {MAX_VARIABLES} variables"
                ),
            });
        }
        Ok(Self { text: Topic::parse(text)?, parts })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// Whether a topic is among those.
    pub fn matches(&self, topic: &str) -> bool {
        if self.as_str() == topic {
            return true;
        }
        let Some(first) = self.parts.first() else { return false };
        if let Part::Literal(literal) = first
            && literal.lengths(topic.as_bytes(), 0).next().is_none()
        {
            return false;
        }
        let mut reached = Places::none(topic.len());
        reached.add(0);
        for part in &self.parts {
            reached = match part {
                Part::Literal(literal) => literal.step(topic.as_bytes(), &reached),
                Part::Expression(expression) => expression.step(topic.as_bytes(), &reached),
            };
            if reached.is_empty() {
                return false;
            }
        }
        reached.has(topic.len())
    }
}

impl Literal {
    fn new(raw: &str) -> Self {
        let encoded = (!raw.is_ascii()).then(|| {
            let mut encoded = String::with_capacity(raw.len() * 3);
            for byte in raw.bytes() {
                if byte.is_ascii() {
                    encoded.push(byte.into());
                } else {
                    encoded.push_str(&format!("%{byte:02X}"));
                }
            }
            encoded.into()
        });
        Self { raw: raw.into(), encoded }
    }

    /// How many bytes of the topic it can be from there on.
    fn lengths(&self, topic: &[u8], place: usize) -> impl Iterator<Item = usize> {
        [Some(&self.raw), self.encoded.as_ref()]
            .into_iter()
            .flatten()
            .filter(move |form| topic[place..].starts_with(form.as_bytes()))
            .map(|form| form.len())
    }

    fn step(&self, topic: &[u8], from: &Places) -> Places {
        let mut reached = Places::none(topic.len());
        for place in from.iter() {
            for length in self.lengths(topic, place) {
                reached.add(place + length);
            }
        }
        reached
    }
}

impl Expression {
    /// RFC 6570 §3.2.1: variables that have no value are left out, and with none at all the expression
    /// is empty; the others come in order.
    fn step(&self, topic: &[u8], from: &Places) -> Places {
        let mut reached = from.clone();
        // Where the value of the next variable can begin.
        let mut begins = follow(topic, from, self.operator.first.as_bytes());
        for variable in &self.variables {
            let ends = variable.step(self.operator, topic, &begins);
            begins.add_all(&follow(topic, &ends, &[self.operator.separator]));
            reached.add_all(&ends);
        }
        reached
    }
}

impl Variable {
    fn step(&self, operator: &Operator, topic: &[u8], from: &Places) -> Places {
        let characters = Characters { operator, modifier: self.modifier };
        // §3.2.7: an exploded value brings its own names, those of its members.
        if operator.named == Named::No || self.modifier == Modifier::Explode {
            return characters.step(topic, from);
        }
        let named = follow(topic, from, self.name.as_bytes());
        let mut reached = characters.step(topic, &follow(topic, &named, b"="));
        if operator.named == Named::Bare {
            reached.add_all(&named);
        }
        reached
    }
}

/// What a value can consist of.
struct Characters<'a> {
    operator: &'a Operator,
    modifier: Modifier,
}

impl Characters<'_> {
    fn step(&self, topic: &[u8], from: &Places) -> Places {
        match self.modifier {
            Modifier::Prefix(most) => self.prefix(topic, from, most),
            Modifier::None | Modifier::Explode => {
                let mut reached = from.clone();
                for place in 0..topic.len() {
                    if reached.has(place)
                        && let Some(length) = self.length(topic, place)
                    {
                        reached.add(place + length);
                    }
                }
                reached
            }
        }
    }

    /// At most so many characters: for every place the smallest number of them that leads to it.
    fn prefix(&self, topic: &[u8], from: &Places, most: u16) -> Places {
        let mut counts = vec![None; topic.len() + 1];
        for place in from.iter() {
            counts[place] = Some(0);
        }
        for place in 0..topic.len() {
            let Some(count) = counts[place].filter(|count| *count < most) else { continue };
            let Some(length) = self.length(topic, place) else { continue };
            let next = &mut counts[place + length];
            *next = Some(next.map_or(count + 1, |known: u16| known.min(count + 1)));
        }
        let mut reached = Places::none(topic.len());
        for (place, _) in counts.iter().enumerate().filter(|(_, count)| count.is_some()) {
            reached.add(place);
        }
        reached
    }

    /// Bytes of the character there, if it can be one of the value.
    fn length(&self, topic: &[u8], place: usize) -> Option<usize> {
        let byte = topic[place];
        let allowed = is_unreserved(byte)
            || (self.operator.reserved && is_reserved(byte))
            || match self.modifier {
                // §3.2.1: the members of a list that is not exploded have commas between them.
                Modifier::None => byte == b',',
                Modifier::Explode => byte == self.operator.separator || byte == b'=',
                Modifier::Prefix(_) => false,
            };
        if allowed {
            return Some(1);
        }
        let first = triplet(topic, place)?;
        if !matches!(self.modifier, Modifier::Prefix(_)) {
            return Some(3);
        }
        // §2.4.1: characters are counted before they are encoded, and are not split.
        if is_continuation(first) {
            return None;
        }
        let mut length = 3;
        while length < 12 && triplet(topic, place + length).is_some_and(is_continuation) {
            length += 3;
        }
        Some(length)
    }
}

/// Places in a topic: before each of its bytes, and at its end.
#[derive(Clone)]
struct Places(Box<[bool]>);

impl Places {
    fn none(length: usize) -> Self {
        Self(vec![false; length + 1].into())
    }

    fn add(&mut self, place: usize) {
        self.0[place] = true;
    }

    fn add_all(&mut self, other: &Self) {
        for (own, their) in self.0.iter_mut().zip(&other.0) {
            *own |= their;
        }
    }

    fn has(&self, place: usize) -> bool {
        self.0[place]
    }

    fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, has)| **has).map(|(place, _)| place)
    }
}

/// The places that lie behind `text`, where it stands at one of those.
fn follow(topic: &[u8], from: &Places, text: &[u8]) -> Places {
    let mut reached = Places::none(topic.len());
    for place in from.iter().filter(|place| topic[*place..].starts_with(text)) {
        reached.add(place + text.len());
    }
    reached
}

/// The byte that `%XX` stands for.
fn triplet(text: &[u8], place: usize) -> Option<u8> {
    let &[b'%', high, low] = text.get(place..place + 3)? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// Whether a byte of UTF-8 goes on with a character.
fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 3986 §2.2.
fn is_reserved(byte: u8) -> bool {
    b":/?#[]@!$&'()*+,;=".contains(&byte)
}

/// RFC 6570 §2; none where the text is no template.
fn parts(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, tail) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        if !literal.is_empty() {
            is_literal(literal).then_some(())?;
            parts.push(Part::Literal(Literal::new(literal)));
        }
        let Some(tail) = tail.strip_prefix('{') else { break };
        let (inner, tail) = tail.split_once('}')?;
        parts.push(Part::Expression(expression(inner)?));
        rest = tail;
    }
    Some(parts)
}

/// RFC 6570 §2.1.
fn is_literal(text: &str) -> bool {
    text.char_indices().all(|(place, character)| match character {
        '%' => triplet(text.as_bytes(), place).is_some(),
        _ => !character.is_control() && !" \"'<>\\^`{|}".contains(character),
    })
}

/// RFC 6570 §2.2; what stands between the braces.
fn expression(text: &str) -> Option<Expression> {
    let symbol = text.chars().next().filter(|symbol| "+#./;?&=,!@|".contains(*symbol));
    // §2.2: `=`, `,`, `!`, `@` and `|` are reserved, there is no such operator.
    let operator = OPERATORS.iter().find(|operator| operator.symbol == symbol)?;
    let list = &text[symbol.map_or(0, char::len_utf8)..];
    let variables = list.split(',').map(variable).collect::<Option<_>>()?;
    Some(Expression { operator, variables })
}

/// RFC 6570 §2.3 and §2.4.
fn variable(text: &str) -> Option<Variable> {
    let (name, modifier) = if let Some(name) = text.strip_suffix('*') {
        (name, Modifier::Explode)
    } else if let Some((name, length)) = text.split_once(':') {
        let digits = (1..=4).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits && !length.starts_with('0'))?;
        (name, Modifier::Prefix(length))
    } else {
        (text, Modifier::None)
    };
    is_name(name).then(|| Variable { name: name.into(), modifier })
}

/// RFC 6570 §2.3: letters, digits, underscores and encoded bytes, with single dots between them.
fn is_name(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && label.char_indices().all(|(place, character)| match character {
                '%' => triplet(label.as_bytes(), place).is_some(),
                _ => character == '_' || character.is_ascii_alphanumeric(),
            })
    })
}

#[cfg(test)]
#[path = "uri_template_tests.rs"]
mod tests;
