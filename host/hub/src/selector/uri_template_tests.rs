use super::*;
use regex::Regex;

fn matches(template: &str, topic: &str) -> bool {
    UriTemplate::parse(template).unwrap().matches(topic)
}

/// RFC 6570 §3.2, all rows of the examples, with the values of §3.2: each expansion is a topic of its
/// template.
#[test]
fn every_expansion_of_the_rfc_matches() {
    #[rustfmt::skip]
    let rows = [
        // §1.2, levels 1 to 4
        ("{var}", "value"), ("{hello}", "Hello%20World%21"), ("{+hello}", "Hello%20World!"),
        ("{+path}/here", "/foo/bar/here"), ("here?ref={+path}", "here?ref=/foo/bar"),
        ("X{#var}", "X#value"), ("X{#hello}", "X#Hello%20World!"), ("map?{x,y}", "map?1024,768"),
        ("X{.x,y}", "X.1024.768"), ("{/var,x}/here", "/value/1024/here"), ("{;x,y,empty}", ";x=1024;y=768;empty"),
        ("{?x,y,empty}", "?x=1024&y=768&empty="), ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
        ("{var:3}", "val"), ("{var:30}", "value"), ("{+path:6}/here", "/foo/b/here"), ("{keys}", "semi,%3B,dot,.,comma,%2C"),
        ("{keys*}", "semi=%3B,dot=.,comma=%2C"), ("{+keys*}", "semi=;,dot=.,comma=,"), ("{#path:6}here", "#/foo/bhere"),
        ("{#keys*}", "#semi=;,dot=.,comma=,"), ("X{.var:3}", "X.val"), ("X{.list*}", "X.red.green.blue"),
        ("{/var:1,var}", "/v/value"), ("{/list*}", "/red/green/blue"), ("{/list*,path:4}", "/red/green/blue/%2Ffoo"),
        ("{;hello:5}", ";hello=Hello"), ("{;list}", ";list=red,green,blue"), ("{;list*}", ";list=red;list=green;list=blue"),
        ("{?var:3}", "?var=val"), ("{?list*}", "?list=red&list=green&list=blue"), ("{?keys*}", "?semi=%3B&dot=.&comma=%2C"),
        ("{&var:3}", "&var=val"), ("{&keys}", "&keys=semi,%3B,dot,.,comma,%2C"),
        // §3.2.1
        ("{count}", "one,two,three"), ("{/count}", "/one,two,three"), ("{/count*}", "/one/two/three"),
        ("{;count*}", ";count=one;count=two;count=three"), ("{&count*}", "&count=one&count=two&count=three"),
        // §3.2.2
        ("{half}", "50%25"), ("O{empty}X", "OX"), ("O{undef}X", "OX"), ("{x,hello,y}", "1024,Hello%20World%21,768"),
        ("?{x,empty}", "?1024,"), ("?{x,undef}", "?1024"), ("?{undef,y}", "?768"),
        // §3.2.3 and §3.2.4
        ("{base}index", "http%3A%2F%2Fexample.com%2Fhome%2Findex"), ("{+base}index", "http://example.com/home/index"),
        ("O{+undef}X", "OX"), ("up{+path}{var}/here", "up/foo/barvalue/here"), ("{+x,hello,y}", "1024,Hello%20World!,768"),
        ("foo{#empty}", "foo#"), ("foo{#undef}", "foo"), ("{#path,x}/here", "#/foo/bar,1024/here"),
        // §3.2.5 and §3.2.6
        ("{.who}", ".fred"), ("{.half,who}", ".50%25.fred"), ("www{.dom*}", "www.example.com"), ("X{.empty}", "X."),
        ("X{.keys*}", "X.semi=%3B.dot=..comma=%2C"), ("X{.empty_keys*}", "X"), ("{/half,who}", "/50%25/fred"),
        ("{/who,dub}", "/fred/me%2Ftoo"), ("{/var,empty}", "/value/"), ("{/var,undef}", "/value"),
        // §3.2.7 to §3.2.9
        ("{;empty}", ";empty"), ("{;v,empty,who}", ";v=6;empty;who=fred"), ("{;v,bar,who}", ";v=6;who=fred"),
        ("{?x,y,undef}", "?x=1024&y=768"), ("?fixed=yes{&x,y,empty}", "?fixed=yes&x=1024&y=768&empty="),
        // A variable without any value at all.
        ("{?var}", ""), ("{/var}", ""), ("{;var}", ""), ("{.var}", ""), ("{&var}", ""),
    ];

    for (template, topic) in rows {
        assert!(matches(template, topic), "{template} {topic}");
    }
}

#[test]
fn what_no_expansion_is_does_not_match() {
    for (template, topic, why) in [
        (
            "https://example.com/books/{id}",
            "https://example.com/books/1/pages",
            "§3.2.2: `/` is encoded",
        ),
        ("https://example.com/books/{id}", "https://example.com/book/1", "the literal differs"),
        ("https://example.com/books/{id}", "http://example.com/books/1", "the literal differs"),
        (
            "https://example.com/books/{id}",
            "https://example.com/books/a b",
            "§3.2.2: a space is encoded",
        ),
        ("https://example.com/books/{id}", "https://example.com/books/50%", "half an encoded byte"),
        (
            "https://example.com/books/{id}",
            "https://example.com/books/50%2",
            "half an encoded byte",
        ),
        (
            "https://example.com/books/{id}",
            "https://example.com/books/é",
            "§3.2.1: beyond ASCII is encoded",
        ),
        ("/books/{id}/reviews", "/books/1/reviewsx", "something follows"),
        ("/books/{id}/reviews", "x/books/1/reviews", "something comes before"),
        ("{var:3}", "valu", "§2.4.1: three characters"),
        ("{var:3}", "%C3%A9%C3%A9%C3%A9%C3%A9", "§2.4.1: three characters, each encoded"),
        ("{var:1}", "a,b", "§2.4.1: a prefix is of a string, not of a list"),
        ("/search{?q}", "/search?other=1", "§3.2.8: the name of the variable"),
        ("/search{?q}", "/search?q", "§3.2.8: `=` in any case"),
        ("/search{?q,p}", "/search?p=1&q=2", "§3.2.1: in the order of the template"),
        ("/search{?q}", "/search?q=1&q=2", "§3.2.8: once"),
        ("{;x}", ";xy=1", "§3.2.7: the name of the variable"),
        ("{x}", "a=b", "§3.2.2: `=` is encoded"),
        ("{/x}", "x", "§3.2.6: `/` before it"),
        ("{/x}", "/a/b", "§3.2.6: one segment"),
        ("{a}{b}c", "abd", "the literal differs"),
    ] {
        assert!(!matches(template, topic), "{template} {topic}: {why}");
    }
}

#[test]
fn characters_are_counted_before_they_are_encoded() {
    assert!(matches("{var:3}", "%C3%A9%E2%82%AC%F0%9F%92%A9"));
    assert!(matches("{var:2}{x}", "%C3%A9%E2%82%AC%F0%9F%92%A9"));
    assert!(matches("{var:3}", "a%20b"));
}

#[test]
fn a_template_matches_itself_and_literals_both_ways_of_writing_them() {
    assert!(matches("https://example.com/books/{id}", "https://example.com/books/{id}"));
    assert!(matches("/café/{id}", "/café/1"));
    assert!(matches("/café/{id}", "/caf%C3%A9/1"));
    assert!(!matches("/café/{id}", "/cafe/1"));
}

#[test]
fn what_is_no_template_stands_for_itself() {
    for text in [
        "{",
        "}",
        "a{b",
        "{}",
        "{ a}",
        "{=a}",
        "{|a}",
        "{a:0}",
        "{a:10000}",
        "{a:x}",
        "{a..b}",
        "a b",
        "50%",
        "{a}}",
    ] {
        assert!(matches(text, text), "{text}");
        for topic in ["", "a", "x", "ab", "50"] {
            assert!(!matches(text, topic), "{text} {topic}");
        }
    }
}

#[test]
fn templates_have_a_bounded_number_of_parts() {
    assert!(UriTemplate::parse(&"{+a}".repeat(MAX_EXPRESSIONS)).is_ok());
    assert!(UriTemplate::parse(&"{+a}".repeat(MAX_EXPRESSIONS + 1)).is_err());
    assert!(UriTemplate::parse(&format!("{{a{}}}", ",a".repeat(MAX_VARIABLES - 1))).is_ok());
    assert!(UriTemplate::parse(&format!("{{a{}}}", ",a".repeat(MAX_VARIABLES))).is_err());
    assert!(UriTemplate::parse("").is_err());
    assert!(UriTemplate::parse("a\nb").is_err());
}

#[test]
fn hostile_templates_are_answered_without_backtracking() {
    // With backtracking this takes 1,024 to the power of 16 steps.
    let template = UriTemplate::parse(&format!("{}!", "{+a}".repeat(MAX_EXPRESSIONS))).unwrap();
    let topic = "a".repeat(1023) + "b";

    assert!(!(0..100).any(|_| template.matches(&topic)));
}

/// The same question as a regular expression: another algorithm, and the RFC's rules written out.
fn model(template: &str) -> Option<Regex> {
    let mut pattern = String::from("^(?:");
    for part in parts(template)? {
        match part {
            Part::Literal(literal) => {
                let forms = [Some(&literal.raw), literal.encoded.as_ref()];
                let forms: Vec<_> = forms.into_iter().flatten().map(|form| escape(form)).collect();
                pattern += &format!("(?:{})", forms.join("|"));
            }
            Part::Expression(expression) => pattern += &model_of_expression(&expression),
        }
    }
    Some(Regex::new(&format!("{pattern})$")).unwrap())
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() })
        .collect()
}

fn model_of_expression(expression: &Expression) -> String {
    let operator = expression.operator;
    let reserved = if operator.reserved { r"\:\/\?\#\[\]\@\!\$\&'\(\)\*\+\,\;\=" } else { "" };
    let separator = escape(&char::from(operator.separator).to_string());
    let allowed = format!(r"A-Za-z0-9\-._~{reserved}");
    let values: Vec<_> = expression
        .variables
        .iter()
        .map(|variable| {
            let name = escape(&variable.name);
            let value = match variable.modifier {
                Modifier::None => format!("(?:[{allowed},]|%[0-9A-Fa-f]{{2}})*"),
                Modifier::Explode => return format!("(?:[{allowed}={separator}]|%[0-9A-Fa-f]{{2}})*"),
                Modifier::Prefix(most) => {
                    let most = most.min(40);
                    format!("(?:[{allowed}]|%[0-7C-Fc-f][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){{0,3}}){{0,{most}}}")
                }
            };
            match operator.named {
                Named::No => value,
                Named::Bare => format!("{name}(?:={value})?"),
                Named::Always => format!("{name}={value}"),
            }
        })
        .collect();
    // Every choice of variables that have a value.
    let mut choices = Vec::new();
    for choice in 1..1_u32 << values.len() {
        let chosen = values.iter().enumerate().filter(|(index, _)| choice >> index & 1 == 1);
        let chosen: Vec<_> = chosen.map(|(_, value)| value.as_str()).collect();
        choices.push(chosen.join(&separator));
    }
    format!("(?:{}(?:{}))?", escape(operator.first), choices.join("|"))
}

#[test]
fn templates_agree_with_a_regular_expression_that_says_the_same() {
    let mut random = super::super::tests::Random::new(0x6570);
    let (mut both, mut neither) = (0, 0);
    for round in 0..6_000 {
        let template: String = (0..random.below(4) + 1).map(|_| random_part(&mut random)).collect();
        let Some(model) = model(&template) else { continue };
        let parsed = UriTemplate::parse(&template).unwrap();
        for _ in 0..12 {
            let topic: String = (0..random.below(9)).map(|_| random.pick(TOPIC_PIECES)).collect();
            if topic == template {
                continue;
            }

            let expected = model.is_match(&topic);

            assert_eq!(parsed.matches(&topic), expected, "round {round}: {template:?} {topic:?}");
            if expected { both += 1 } else { neither += 1 }
        }
    }
    assert!(both > 1_000 && neither > 1_000, "{both} {neither}");
}

fn random_part(random: &mut super::super::tests::Random) -> String {
    if random.below(3) == 0 {
        return random
            .pick(&["a", "/", "x=", "?", "b/", "%41", "é", ";", "&", ".", ","])
            .to_owned();
    }
    let operator = random.pick(&["", "+", "#", ".", "/", ";", "?", "&"]);
    let variables: Vec<_> = (0..random.below(3) + 1)
        .map(|_| {
            let name = random.pick(&["a", "x", "b.c", "%41"]);
            format!("{name}{}", random.pick(&["", "", "", "*", ":1", ":2", ":3"]))
        })
        .collect();
    format!("{{{operator}{}}}", variables.join(","))
}

const TOPIC_PIECES: &[&str] = &[
    "a", "b", "x", "a=", "x=", "b.c=", "%41=", "/", "?", "&", ";", ".", ",", "#", "=", "%41",
    "%C3%A9", "%A9", "%4", "é", "x=a", "/a", "&a=", ";x", "-",
];
