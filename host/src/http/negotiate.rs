//! Proactive negotiation (RFC 9110 §12): which of the offered media types or languages a client
//! wants.
//!
//! Pure. Elements that are no ranges are passed over; a weight that is none counts as 0, so that
//! nothing is sent on the strength of a mistake.

/// Elements of a field that are looked at.
const MAX_ELEMENTS: usize = 64;
/// Offers that are looked at.
pub const MAX_OFFERS: usize = 256;

/// The media type that the client wants (§12.5.1): an index into `offers`, the earlier of two that
/// are wanted alike, `None` where it accepts none of them. Without any `Accept` it accepts all.
///
/// An offer's parameters (`text/html;level=1`) only count for ranges that name them.
pub fn media_type<'a>(
    accept: impl IntoIterator<Item = &'a str>,
    offers: &[impl AsRef<str>],
) -> Option<usize> {
    let ranges = Ranges::parse(accept);
    ranges.choose(offers, |range, offer| {
        let ((kind, sub), parameters) = media(range)?;
        let ((offered_kind, offered_sub), offered) = media(offer)?;
        let named = parameters.clone().count();
        let has = |wanted: (&str, &str)| {
            offered.clone().any(|own| {
                own.0.eq_ignore_ascii_case(wanted.0) && own.1.eq_ignore_ascii_case(wanted.1)
            })
        };
        match (kind, sub) {
            ("*", "*") => Some(0),
            (kind, "*") if kind.eq_ignore_ascii_case(offered_kind) => Some(1),
            (kind, sub)
                if kind.eq_ignore_ascii_case(offered_kind)
                    && sub.eq_ignore_ascii_case(offered_sub)
                    && parameters.clone().all(has) =>
            {
                Some(2 + named)
            }
            _ => None,
        }
    })
}

/// The language that the client wants (§12.5.4), as [`media_type`] does. A range is satisfied by what
/// begins with it (basic filtering, RFC 4647 §3.3.1). A client that accepts nothing so is given what
/// its ranges begin with (lookup, RFC 4647 §3.4): most ask for `fr-CA` and read `fr`.
pub fn language<'a>(
    accept_language: impl IntoIterator<Item = &'a str>,
    offers: &[impl AsRef<str>],
) -> Option<usize> {
    let ranges = Ranges::parse(accept_language);
    let begins = |long: &str, short: &str| {
        long.get(..short.len()).is_some_and(|start| start.eq_ignore_ascii_case(short))
            && matches!(long.as_bytes().get(short.len()), None | Some(b'-'))
    };
    let filtered = ranges.choose(offers, |range, offer| match range {
        "*" => Some(0),
        _ => begins(offer, range).then_some(range.len()),
    });
    filtered.or_else(|| {
        // What is refused by name stays refused.
        let refused = |offer: &str| {
            ranges.0.iter().any(|(range, weight)| *weight == 0 && begins(offer, range))
        };
        let shortened = |range: &str, offer: &str| {
            (begins(range, offer) && !refused(offer)).then_some(offer.len())
        };
        let wanted: Vec<_> = ranges.0.iter().copied().filter(|(_, weight)| *weight > 0).collect();
        if wanted.is_empty() { None } else { Ranges(wanted).choose(offers, shortened) }
    })
}

/// The ranges of a field with their weights, in thousandths.
struct Ranges<'a>(Vec<(&'a str, u16)>);

impl<'a> Ranges<'a> {
    fn parse(values: impl IntoIterator<Item = &'a str>) -> Self {
        let elements = values.into_iter().flat_map(|value| value.split(','));
        let elements = elements.map(str::trim).filter(|element| !element.is_empty());
        Self(elements.take(MAX_ELEMENTS).map(weighted).collect())
    }

    /// The offer of the greatest weight. `specificity` tells how well a range fits an offer; of the
    /// ranges that fit one, the best-fitting gives its weight (§12.5.1).
    fn choose(
        &self,
        offers: &[impl AsRef<str>],
        specificity: impl Fn(&str, &str) -> Option<usize>,
    ) -> Option<usize> {
        if self.0.is_empty() {
            return (!offers.is_empty()).then_some(0);
        }
        let weight = |offer: &str| {
            let fitting = self.0.iter();
            let fitting =
                fitting.filter_map(|(range, weight)| Some((specificity(range, offer)?, *weight)));
            fitting.max_by_key(|(specificity, _)| *specificity).map_or(0, |(_, weight)| weight)
        };
        let offers = &offers[..offers.len().min(MAX_OFFERS)];
        let weights = offers.iter().map(|offer| weight(offer.as_ref())).enumerate();
        // `max_by_key` takes the last of equals.
        let best = weights.rev().max_by_key(|(_, weight)| *weight);
        best.filter(|(_, weight)| *weight > 0).map(|(index, _)| index)
    }
}

/// A range without its weight, and the weight (§12.4.2).
fn weighted(element: &str) -> (&str, u16) {
    for (at, _) in element.match_indices(';') {
        let Some((name, value)) = element[at + 1..].split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("q") {
            continue;
        }
        // Whatever followed the weight once were extensions of `Accept`.
        let value = value.split(';').next().unwrap_or_default().trim();
        return (element[..at].trim_end(), thousandths(value).unwrap_or(0));
    }
    (element, 1000)
}

fn thousandths(value: &str) -> Option<u16> {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

/// Two names that belong together: type and subtype, or a parameter's name and value.
type Pair<'a> = (&'a str, &'a str);

/// Type and subtype, and the parameters.
fn media(text: &str) -> Option<(Pair<'_>, impl Iterator<Item = Pair<'_>> + Clone)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next()?.split_once('/')?;
    let parameters = parts.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches('"')))
    });
    Some((media, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_chosen_as_rfc_9110_says() {
        let offers = ["application/json", "application/xml", "text/html;level=1"];
        for (clause, accept, chosen) in [
            ("§12.5.1 no field", &[][..], Some(0)),
            ("§12.5.1 an empty field", &[""], Some(0)),
            ("§12.5.1 one", &["application/xml"], Some(1)),
            ("§12.5.1 any", &["*/*"], Some(0)),
            ("§12.5.1 any of a kind", &["text/*"], Some(2)),
            ("§12.5.1 none of ours", &["image/png"], None),
            ("§12.5.1 weights", &["application/json;q=0.5, application/xml;q=0.8"], Some(1)),
            ("§12.5.1 over two lines", &["application/json;q=0.5", "application/xml"], Some(1)),
            ("§12.5.1 the specific one", &["*/*, application/json;q=0.1"], Some(1)),
            ("§12.5.1 refused", &["application/json;q=0, */*;q=0.1"], Some(1)),
            ("§12.5.1 all refused", &["*/*;q=0"], None),
            ("§12.5.1 parameters", &["text/html;level=1, application/*;q=0.9"], Some(2)),
            ("§12.5.1 other parameters", &["text/html;level=2, */*;q=0.1"], Some(0)),
            ("§12.5.1 a weight before others", &["application/xml;q=1;x=y, */*;q=0.2"], Some(1)),
            (
                "§12.4.2 thousandths",
                &["application/json;q=0.998, application/xml;q=0.999"],
                Some(1),
            ),
            ("§12.4.2 no number", &["application/json;q=x, application/xml;q=0.001"], Some(1)),
            ("§12.4.2 above one", &["application/json;q=2"], None),
            ("§8.3.1 names ignore case", &["Application/XML"], Some(1)),
            ("§5.6.1 empty elements", &[",, application/xml ,"], Some(1)),
            ("no range", &["json, application/xml;q=0.5"], Some(1)),
        ] {
            assert_eq!(media_type(accept.iter().copied(), &offers), chosen, "{clause}");
        }
        assert_eq!(media_type(["*/*"], &[] as &[&str]), None);
        assert_eq!(media_type([], &[] as &[&str]), None);
    }

    #[test]
    fn languages_are_chosen_as_rfc_9110_and_4647_say() {
        let offers = ["en", "fr", "de-CH"];
        for (clause, accept, chosen) in [
            ("§12.5.4 no field", &[][..], Some(0)),
            ("§12.5.4 one", &["fr"], Some(1)),
            ("§12.5.4 any", &["*"], Some(0)),
            ("§12.5.4 weights", &["da, en-gb;q=0.8, en;q=0.7"], Some(0)),
            ("§12.5.4 weights decide", &["en;q=0.1, fr;q=0.9, de;q=0.5"], Some(1)),
            ("§12.5.4 none of ours", &["ja"], None),
            ("§12.5.4 any but", &["*;q=0.5, en;q=0"], Some(1)),
            ("4647 §3.3.1 a beginning", &["de"], Some(2)),
            ("4647 §3.3.1 only whole subtags", &["d"], None),
            ("4647 §3.4 a longer range", &["fr-CA"], Some(1)),
            ("4647 §3.4 after what fits", &["fr-CA, en;q=0.5"], Some(0)),
            ("4647 §3.4 not what is refused", &["fr-CA, fr;q=0"], None),
            ("4647 §3.4 weights", &["fr-CA;q=0.4, en-GB;q=0.6"], Some(0)),
            ("4647 §2 names ignore case", &["FR, DE-ch;q=0.1"], Some(1)),
        ] {
            assert_eq!(language(accept.iter().copied(), &offers), chosen, "{clause}");
        }
    }

    #[test]
    fn hostile_fields_are_read_up_to_a_bound() {
        let long = format!("{}fr", "en;q=0,".repeat(MAX_ELEMENTS));
        assert_eq!(language([long.as_str()], &["fr"]), None);
        let odd = ["é, \u{1F600}-x, ;;;=q;q, /;q=1, a/;q=0.5, -"];
        assert_eq!(language(odd, &["fr"]), None);
        assert_eq!(media_type(odd, &["a/b"]), None);
    }
}
