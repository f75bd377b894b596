//! Content codings (RFC 9110 §8.4.1, §12.5.3): which of the codings at hand a client prefers.
//!
//! Pure, and without allocation. Nothing is compressed here: files are kept coded, and what plugins
//! answer is coded in [`finish`](super::finish).

use http::HeaderValue;

/// Elements of `Accept-Encoding` that are looked at.
const MAX_ELEMENTS: usize = 32;

/// A coding that we make, or that files are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Every coding; of those that a client likes as well, the smallest first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// As `content-encoding` tells it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What a coded file's name ends in.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings that the client takes, the one it likes best first, as far as it likes them at least
/// as well as no coding at all; `order` decides among those that it likes as well. Nothing where it
/// named none (§12.5.3: it might take any, and old ones do not).
pub fn accepted<'a>(
    values: impl IntoIterator<Item = &'a HeaderValue>,
    order: [Coding; Coding::ALL.len()],
) -> impl Iterator<Item = Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let mut identity = None;
    let mut any = None;
    let elements = values.into_iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    for element in elements.take(MAX_ELEMENTS) {
        let mut parameters = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parameters.next().unwrap_or_default();
        let Some(weight) = parameters.try_fold(1000, |_, parameter| weight(parameter)) else {
            continue;
        };
        let is = |token: &str| name.eq_ignore_ascii_case(token.as_bytes());
        // RFC 9110 §8.4.1.3: `x-gzip` is the same.
        let coding = order
            .iter()
            .position(|coding| is(coding.token()) || *coding == Coding::Gzip && is("x-gzip"));
        match coding {
            Some(index) => weights[index] = Some(weight),
            None if is("identity") => identity = Some(weight),
            None if name == b"*" => any = Some(weight),
            None => {}
        }
    }
    let least = identity.unwrap_or(0).max(1);
    let mut accepted: [(u16, Coding); Coding::ALL.len()] =
        std::array::from_fn(|index| (weights[index].or(any).unwrap_or(0), order[index]));
    // Stable: our own preference decides among equals.
    accepted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    accepted.into_iter().take_while(move |(weight, _)| *weight >= least).map(|(_, coding)| coding)
}

/// Thousandths of `q=` (§12.4.2); `None` where it is none.
fn weight(parameter: &[u8]) -> Option<u16> {
    let equals = parameter.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
    if !name.eq_ignore_ascii_case(b"q") {
        return None;
    }
    let (whole, part) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', part @ ..] if part.len() <= 3 => (whole, part),
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = part.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths = thousandths * 10 + u16::from(digit - b'0');
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(field: &str) -> Vec<&'static str> {
        let value = HeaderValue::from_str(field).unwrap();
        accepted([&value], Coding::ALL).map(Coding::token).collect()
    }

    #[test]
    fn codings_are_chosen_as_rfc_9110_says() {
        for (clause, field, expected) in [
            ("§12.5.3 a list", "gzip, deflate, br, zstd", &["br", "zstd", "gzip"][..]),
            ("§12.5.3 one", "gzip", &["gzip"]),
            ("§12.5.3 none that we have", "compress", &[]),
            ("§12.5.3 empty", "", &[]),
            ("§12.5.3 any", "*", &["br", "zstd", "gzip"]),
            ("§12.5.3 any but one", "*, br;q=0", &["zstd", "gzip"]),
            ("§12.5.3 nothing but identity", "identity;q=1, *;q=0", &[]),
            ("§12.5.3 identity is liked better", "identity, gzip;q=0.5", &[]),
            ("§12.5.3 identity is not liked", "gzip;q=0.5, identity;q=0", &["gzip"]),
            ("§12.4.2 weights", "br;q=0.5, gzip;q=0.8, zstd;q=0", &["gzip", "br"]),
            ("§12.4.2 thousandths", "br;q=0.998, gzip;q=0.999", &["gzip", "br"]),
            ("§12.4.2 blanks", "br ; q=0.1 ,\tgzip ; Q=1.0", &["gzip", "br"]),
            ("§12.4.2 too precise", "br;q=0.0001, gzip", &["gzip"]),
            ("§12.4.2 above one", "br;q=1.5, gzip", &["gzip"]),
            ("§12.4.2 no number", "br;q=, gzip;q=x, zstd", &["zstd"]),
            ("§8.4.1 names ignore case", "BR, GZip", &["br", "gzip"]),
            ("§8.4.1.3 the old name", "x-gzip", &["gzip"]),
        ] {
            assert_eq!(tokens(field), expected, "{clause}: {field}");
        }
    }

    #[test]
    fn among_equals_the_order_decides() {
        let order = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
        for (field, expected) in [
            ("gzip, deflate, br, zstd", ["zstd", "br", "gzip"]),
            ("gzip, br;q=0.9, zstd;q=0.9", ["gzip", "zstd", "br"]),
        ] {
            let value = HeaderValue::from_static(field);
            let tokens: Vec<_> = accepted([&value], order).map(Coding::token).collect();
            assert_eq!(tokens, expected, "{field}");
        }
    }

    #[test]
    fn without_the_field_nothing_is_coded() {
        assert!(accepted([], Coding::ALL).next().is_none());
    }

    #[test]
    fn a_field_without_end_is_read_up_to_a_bound() {
        let field = format!("{}br", "x,".repeat(MAX_ELEMENTS));

        assert!(tokens(&field).is_empty());
    }
}
