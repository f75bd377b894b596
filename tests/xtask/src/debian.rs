//! A guest toolchain made of Debian's packages, for machines where rustup cannot fetch one: Debian's
//! rustc, clang and wasi-libc, `wasm-component-ld` from crates.io, and the standard library built once
//! from Debian's copy of its source.
//!
//! The folder lives in the user's cache, keyed by the versions of the packages and by our own sources.
//! It comes into being by a rename, so that one that exists is whole.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cache_folder, command, output, run, say, which};
use crate::toolchain::TARGET;
use crate::tools;

const LLVM: &str = "22";
const PACKAGES: [&str; 8] = [
    "binutils",
    "cargo-web",
    "clang-22",
    "libclang-rt-22-dev-wasm32",
    "lld-22",
    "rust-web-src",
    "rustc-web",
    "wasi-libc",
];
const COMPONENT_LINKER: (&str, &str) = ("wasm-component-ld", "0.5.31");
/// Where wasi-libc installs.
const LIBC: &str = "/usr/lib/wasm32-wasi";

const LIBC_STUBS: &str = include_str!("../toolchain/libc-stubs.c");
const CRT1_COMMAND: &str = include_str!("../toolchain/crt1-command.c");

/// The toolchain, if an earlier run made one that fits what is installed now.
///
/// # Errors
/// When the user has no cache folder.
pub fn cached_toolchain() -> Result<Option<PathBuf>> {
    let Some(versions) = installed(&PACKAGES) else { return Ok(None) };
    let folder = toolchain_folder(&versions)?;
    Ok(folder.exists().then_some(folder))
}

/// The toolchain, made if it is missing.
///
/// # Errors
/// When a package cannot be installed or a step of the build fails.
pub fn toolchain() -> Result<PathBuf> {
    if let Some(folder) = cached_toolchain()? {
        return Ok(folder);
    }
    // Two commands at once: the second waits and finds the toolchain made.
    let lock = File::create(cache_folder()?.join("guest-toolchain.lock"))?;
    lock.lock().context("cannot lock the cache folder")?;
    install(&PACKAGES)?;
    let versions = installed(&PACKAGES).context("Debian's packages are still not installed")?;
    let folder = toolchain_folder(&versions)?;
    if !folder.exists() {
        say(&format!("making the guest toolchain in {}: once, some minutes", folder.display()));
        let linker = tools::installed(COMPONENT_LINKER.0, COMPONENT_LINKER.1, &[])?;
        let partial = folder.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        assemble(&partial, &linker)?;
        build_standard_library(&partial)?;
        fs::rename(&partial, &folder)?;
    }
    Ok(folder)
}

/// Debian's cargo with the toolchain in `folder`.
pub fn cargo(folder: &Path) -> Command {
    let bin = folder.join("bin");
    let old = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(bin.clone()).chain(env::split_paths(&old)));
    let mut cargo = command("/usr/bin/cargo");
    cargo.env("PATH", path.unwrap_or(old)).env("RUSTC", bin.join("rustc"));
    // Both are the active toolchain's: its libraries, and its wrapper's choice of a toolchain.
    cargo.env_remove("LD_LIBRARY_PATH").env_remove("RUSTUP_TOOLCHAIN");
    cargo
}

/// Makes sure of Debian packages. A package is never removed for it.
///
/// # Errors
/// When `apt-get` fails, or there is no way to become root.
pub fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| installed(&[package]).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing Debian's packages {}", missing.join(" ")));
    let apt = || -> Result<Command> {
        let root = output(command("id").arg("-u"))? == "0";
        let mut apt = if root {
            command("env")
        } else if let Some(sudo) = which("sudo") {
            command(sudo)
        } else {
            bail!("only root can install packages: `apt-get install {}`", missing.join(" "));
        };
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
        Ok(apt)
    };
    run(apt()?.arg("update"))?;
    run(apt()?.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(&missing))
}

/// Names and versions of the packages, if all of them are installed.
fn installed(packages: &[&str]) -> Option<String> {
    let query = command("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Abbrev} ${Package} ${Version}\n"])
        .args(packages)
        .output()
        .ok()?;
    let text = String::from_utf8(query.stdout).ok()?;
    let all = query.status.success() && text.lines().all(|line| line.starts_with("ii "));
    all.then_some(text)
}

fn toolchain_folder(versions: &str) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (versions, LIBC_STUBS, CRT1_COMMAND, include_str!("debian.rs")).hash(&mut hasher);
    let folder = cache_folder()?.join("guest-toolchain");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{:016x}", hasher.finish())))
}

/// Lays the folder out as rustc wants a sysroot to be; all but the standard library.
fn assemble(root: &Path, linker: &Path) -> Result<()> {
    let rustc = "/usr/bin/rustc";
    let host = output(command(rustc).args(["--print", "host-tuple"]))?;
    let system = PathBuf::from(output(command(rustc).args(["--print", "sysroot"]))?);

    let bin = root.join("bin");
    fs::create_dir_all(&bin)?;
    symlink("/usr/bin/cargo", bin.join("cargo"))?;
    symlink("/usr/bin/rustdoc", bin.join("rustdoc"))?;
    // The sysroot is where the script is: the folder is renamed after this.
    let script = format!("#!/bin/sh\nexec {rustc} --sysroot \"${{0%/bin/rustc}}\" \"$@\"\n");
    fs::write(bin.join("rustc"), script)?;
    fs::set_permissions(bin.join("rustc"), fs::Permissions::from_mode(0o755))?;

    let rustlib = root.join("lib/rustlib");
    let host_bin = rustlib.join(&host).join("bin");
    fs::create_dir_all(&host_bin)?;
    symlink(system.join("lib/rustlib").join(&host).join("lib"), rustlib.join(&host).join("lib"))?;
    symlink(system.join("lib/rustlib/src"), rustlib.join("src"))?;
    let wasm_ld = format!("/usr/bin/wasm-ld-{LLVM}");
    symlink(&wasm_ld, host_bin.join("wasm-ld"))?;
    symlink(&wasm_ld, host_bin.join("rust-lld"))?;
    fs::copy(linker.join("wasm-component-ld"), host_bin.join("wasm-component-ld"))?;

    let libraries = rustlib.join(TARGET).join("lib/self-contained");
    fs::create_dir_all(&libraries)?;
    for file in ["crt1-reactor.o", "libc.a"] {
        fs::copy(Path::new(LIBC).join(file), libraries.join(file))?;
    }
    compile(CRT1_COMMAND, &libraries.join("crt1-command.o"))?;
    let stubs = root.join("libc-stubs.o");
    compile(LIBC_STUBS, &stubs)?;
    run(command("ar").arg("rs").arg(libraries.join("libc.a")).arg(&stubs))
}

fn compile(source: &str, object: &Path) -> Result<()> {
    let file = object.with_extension("c");
    fs::write(&file, source)?;
    // Debian's libc lives under the target's old name.
    run(command(format!("clang-{LLVM}"))
        .args(["--target=wasm32-wasi", "-Wno-deprecated", "-Os", "-c", "-o"])
        .args([object, &file]))?;
    fs::remove_file(file)?;
    Ok(())
}

fn build_standard_library(root: &Path) -> Result<()> {
    say("building Rust's standard library for guests: about a minute");
    let work = root.join("build");
    fs::create_dir_all(work.join("src"))?;
    fs::write(work.join("src/lib.rs"), "")?;
    fs::write(
        work.join("Cargo.toml"),
        "[package]\nname = \"probe\"\nedition = \"2021\"\n\n[profile.release]\ndebug = 0\n\n[workspace]\n",
    )?;
    let target = work.join("target");
    run(cargo(root)
        .current_dir(&work)
        .args(["build", "--quiet", "--release", "-Zbuild-std=std,panic_abort", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        // `-Zbuild-std` outside of nightly.
        .env("RUSTC_BOOTSTRAP", "1")
        // Guests with `lto = true` want the bitcode of the standard library.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    let libraries = root.join("lib/rustlib").join(TARGET).join("lib");
    for file in fs::read_dir(target.join(TARGET).join("release/deps"))? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.extension() == Some(OsStr::new("rlib")) && !name.starts_with("libprobe") {
            fs::copy(&path, libraries.join(name.as_ref()))?;
        }
    }
    fs::remove_dir_all(work)?;
    Ok(())
}
