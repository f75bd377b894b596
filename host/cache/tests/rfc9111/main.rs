//! The matrix of requirements on a shared cache, `matrix.txt`: each row names its clause and what a second
//! request gets. What is not a second request's is in `effects.rs`.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

use crate::scenario::{Row, outcome};

mod effects;
mod scenario;

const MATRIX: &str = include_str!("matrix.txt");

#[test]
fn only_what_may_be_stored_is_stored() {
    check("only what may be stored is stored");
}

#[test]
fn answers_to_authorized_requests_are_shared_only_where_the_response_says_so() {
    check("answers to authorized requests are shared only where the response says so");
}

#[test]
fn cookies_are_never_stored_and_their_responses_only_where_the_response_is_for_all() {
    check("cookies are never stored and their responses only where the response is for all");
}

#[test]
fn freshness_lifetimes_come_from_the_right_place() {
    check("freshness lifetimes come from the right place");
}

#[test]
fn ages_are_calculated_as_the_clause_says() {
    check("ages are calculated as the clause says");
}

#[test]
fn stale_responses_are_used_only_where_somebody_allows_it_and_nobody_forbids_it() {
    check("stale responses are used only where somebody allows it and nobody forbids it");
}

#[test]
fn no_cache_means_validation_each_time() {
    check("no cache means validation each time");
}

#[test]
fn directives_of_requests_are_honoured() {
    check("directives of requests are honoured");
}

#[test]
fn variants_are_told_apart_by_what_vary_names() {
    check("variants are told apart by what vary names");
}

#[test]
fn targeted_fields_take_the_place_of_cache_control() {
    check("targeted fields take the place of cache control");
}

#[test]
fn every_section_of_the_matrix_has_its_test() {
    let this = include_str!("main.rs");
    for section in MATRIX.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(this.contains(&format!("check(\"{section}\")")), "{section}");
    }
}

fn check(section: &str) {
    let mut rows = MATRIX
        .lines()
        .skip_while(|line| line.strip_prefix("## ") != Some(section))
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| !line.is_empty())
        .peekable();
    assert!(rows.peek().is_some(), "no section {section:?}");
    let wrong = rows.filter_map(|line| {
        let row = Row::parse(line);
        let got = outcome(&row);
        (got != row.expect).then(|| format!("{line}\n    got {got}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{} rows are wrong\n{}", wrong.len(), wrong.join("\n"));
}
