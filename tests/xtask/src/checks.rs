//! `cargo xtask test`: every check there is, cheapest first, one after the other; the first failure ends
//! it. CI runs the same.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, check, command, line, run, say, step, succeeds_within};
use crate::{clients, guests, tools};

/// Workspaces of their own, built for guests: formatted like ours, checked when they are built.
const GUEST_WORKSPACES: [&str; 2] = ["plugins", "tests/guests"];
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
/// How long the advisories may take to arrive.
const ADVISORIES_LIMIT: Duration = Duration::from_secs(60);

/// What the tests came to.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs everything; `quick` leaves out the documentation and cargo-deny.
///
/// # Errors
/// The first check that fails.
pub fn test(root: &Path, quick: bool) -> Result<()> {
    step("fmt", || {
        run(cargo().args(["fmt", "--all", "--check"]))?;
        for workspace in GUEST_WORKSPACES {
            run(cargo().current_dir(workspace).args(["fmt", "--all", "--check"]))?;
        }
        Ok(())
    })?;
    // Before the long steps: what it wants from the network is missing early or not at all.
    guests::plugins(root)?;
    guests::for_tests(root)?;
    clients::ready(root)?;
    step("clippy", || {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    if !quick {
        step("doc", || {
            run(cargo()
                .args(["doc", "--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", "-D warnings"))
        })?;
        step("deny", deny)?;
    }
    // Tests use the binary beside them; `cargo test` alone does not build it for another package.
    step("build", || run(cargo().args(["build", "--package", "wharf"])))?;
    let counts = step("tests", || tests(root))?;
    let Counts { passed, failed, ignored } = counts;
    println!("{passed} passed, {failed} failed, {ignored} skipped");
    Ok(())
}

/// Licenses, sources and duplicates always; advisories where their database can be fetched. Those are
/// told and do not fail: they come without a change of ours.
fn deny() -> Result<()> {
    let (package, version) = CARGO_DENY;
    let deny = || -> Result<_> {
        let mut deny = command(tools::installed(package, version, &[])?.join(package));
        deny.args(["--workspace", "--all-features", "--config", ".deny.toml"]);
        Ok(deny)
    };
    run(deny()?.args(["check", "bans", "licenses", "sources"]))?;
    if succeeds_within(deny()?.args(["fetch", "db"]), ADVISORIES_LIMIT) {
        let mut advisories = deny()?;
        advisories.args(["check", "--disable-fetch", "advisories"]);
        if run(&mut advisories).is_err() {
            say("ADVISORIES: see above; they do not fail this run");
        }
    } else {
        say("SKIPPED: advisories, as their database cannot be fetched here");
    }
    Ok(())
}

/// Runs the tests of the workspace, passing their output on and adding up their results.
fn tests(root: &Path) -> Result<Counts> {
    let mut cargo = cargo();
    cargo
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("WHARF_GUESTS", guests::tests_folder(root))
        .env("WHARF_CLIENTS", clients::folder(root))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("cannot run {}", line(&cargo)))?;
    let output = child.stdout.take().context("the output was piped")?;
    let mut counts = Counts::default();
    for text in BufReader::new(output).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).into_owned();
        println!("{text}");
        counts.add(&text);
    }
    let Counts { passed, failed, ignored } = counts;
    check(&cargo, child.wait()?)
        .with_context(|| format!("{passed} passed, {failed} failed, {ignored} skipped"))?;
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(counts)
}

impl Counts {
    /// Adds a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; …`; other lines are nothing.
    fn add(&mut self, text: &str) {
        let Some(result) = text.strip_prefix("test result: ") else { return };
        let mut words = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            let Ok(number) = word.parse::<u64>() else { continue };
            match words.peek() {
                Some(&"passed") => self.passed += number,
                Some(&"failed") => self.failed += number,
                Some(&"ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn results_of_several_test_binaries_add_up() {
        let mut counts = Counts::default();

        for text in [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test reload::h2 ... ok",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            counts.add(text);
        }

        assert_eq!((counts.passed, counts.failed, counts.ignored), (7, 3, 1));
    }
}
