//! The guest toolchain: a cargo for which `build --target wasm32-wasip2` just works. Either the active
//! one with that target of rustup's, or a folder in the user's cache made of Debian's packages
//! (`debian`). `WHARF_GUEST_TOOLCHAIN=active` or `=debian` leaves no choice.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::debian;
use crate::run::{cargo, command, output, say, succeeds_within, which};

/// The target of every guest.
pub const TARGET: &str = "wasm32-wasip2";
/// How long rustup may take to fetch some 20 MB.
const TARGET_ADD_LIMIT: Duration = Duration::from_secs(120);

/// What builds guests.
pub enum Toolchain {
    /// The toolchain that runs us.
    Active,
    /// A folder made by `debian`.
    Debian(PathBuf),
}

impl Toolchain {
    /// Finds a toolchain, or makes one: the cheapest way that works.
    ///
    /// # Errors
    /// When there is no way, or the only one failed.
    pub fn ready() -> Result<Self> {
        let choice = env::var("WHARF_GUEST_TOOLCHAIN").ok();
        match choice.as_deref() {
            Some("debian") => return Ok(Self::Debian(debian::toolchain()?)),
            Some("active") | None => {}
            Some(other) => bail!("WHARF_GUEST_TOOLCHAIN is `{other}`: write active or debian"),
        }
        if target_is_installed()? {
            return Ok(Self::Active);
        }
        if choice.is_none()
            && let Some(folder) = debian::cached_toolchain()?
        {
            return Ok(Self::Debian(folder));
        }
        if which("rustup").is_some() {
            say(&format!("guests need the target {TARGET}: trying `rustup target add {TARGET}`"));
            let mut add = command("rustup");
            add.args(["target", "add", TARGET]);
            if succeeds_within(&mut add, TARGET_ADD_LIMIT) && target_is_installed()? {
                return Ok(Self::Active);
            }
            say("rustup cannot fetch it here");
        }
        if choice.is_some() || which("apt-get").is_none() {
            bail!(
                "the active Rust toolchain has no standard library for {TARGET}; \
                 install it (`rustup target add {TARGET}`) and try again"
            );
        }
        Ok(Self::Debian(debian::toolchain()?))
    }

    /// A cargo of this toolchain, without flags that are meant for the host.
    pub fn cargo(&self) -> Command {
        let mut cargo = match self {
            Self::Active => cargo(),
            Self::Debian(folder) => debian::cargo(folder),
        };
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        cargo
    }

    /// The linker that turns what `wasm-ld` links into a component.
    ///
    /// # Errors
    /// When rustc does not tell where it lives.
    pub fn component_linker(&self) -> Result<PathBuf> {
        Ok(self.sysroot()?.join("lib/rustlib").join(host()?).join("bin/wasm-component-ld"))
    }

    /// Tells whether what was built before still fits: a change means to build anew.
    ///
    /// # Errors
    /// When rustc does not tell its version.
    pub fn identity(&self) -> Result<String> {
        let version = output(command("rustc").arg("-V"))?;
        Ok(match self {
            Self::Active => version,
            Self::Debian(folder) => folder.display().to_string(),
        })
    }

    fn sysroot(&self) -> Result<PathBuf> {
        Ok(match self {
            Self::Active => output(command("rustc").args(["--print", "sysroot"]))?.into(),
            Self::Debian(folder) => folder.clone(),
        })
    }
}

/// The triple of this machine.
fn host() -> Result<String> {
    output(command("rustc").args(["--print", "host-tuple"]))
}

/// Asks rustc, not rustup: toolchains of distributions count, too.
fn target_is_installed() -> Result<bool> {
    let folder = output(command("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    let Ok(files) = std::fs::read_dir(folder) else { return Ok(false) };
    Ok(files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}
