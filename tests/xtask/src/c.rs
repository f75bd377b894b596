//! Builds the plugins in C with Debian's clang and wasi-libc; `wasm-component-ld` makes a component of
//! what they link. The bindings are committed, because their generator takes minutes to compile. A machine
//! without these packages goes without these plugins.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::guests::{Built, place};
use crate::run::{command, output, run, which};
use crate::toolchain::Toolchain;

const CLANG: &str = "clang-22";
const WASM_LD: &str = "wasm-ld-22";
/// Debian's libc lives under the target's old name.
const TARGET: &str = "wasm32-wasi";
const LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";
/// Sources and objects, in the plugin's folder.
const INPUTS: [&str; 3] = ["hello.c", "bindings/plugin.c", "bindings/plugin_component_type.o"];
/// The server's interfaces that the bindings were made from.
const INTERFACES: [&str; 3] = ["exchange.wit", "hub.wit", "sse.wit"];
const HEADER: &str = "bindings/plugin.h";

/// Builds the plugin into its folder, unless its sources are those of the last build.
///
/// # Errors
/// When it does not build, or its bindings are older than the server's interfaces.
pub fn build(root: &Path, plugin: &Path) -> Result<Built> {
    for name in INTERFACES {
        let interface = fs::read(root.join("wit").join(name)).context(name)?;
        if fs::read(plugin.join("wit/deps/wharf").join(name)).context(name)? != interface {
            bail!("wit/deps/wharf/{name} is not wit/{name}: copy it and make the bindings anew");
        }
    }
    let name = plugin.file_name().context("a plugin has a folder")?;
    let component = plugin.join(name).with_extension("wasm");
    let work = plugin.join("build");
    let stamp = work.join("sources");
    let sources = sources(plugin)?;
    if component.is_file() && fs::read_to_string(&stamp).is_ok_and(|before| before == sources) {
        return Ok(Built::Done);
    }
    let (clang, wasm_ld) = match tools()? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Built::Skipped(format!("{missing} is not installed"))),
    };
    fs::create_dir_all(&work)?;
    let made = work.join("component.wasm");
    // `-fuse-ld` wants a path.
    let linker = Toolchain::ready()?.component_linker()?;
    run(command(clang)
        .current_dir(plugin)
        .arg(format!("--target={TARGET}"))
        .args(["-Wno-deprecated", "-Wall", "-Wextra", "-Werror"])
        .args(["-Os", "-s", "-mexec-model=reactor", "-Ibindings"])
        .args(INPUTS)
        .arg(format!("-fuse-ld={}", linker.display()))
        .arg(format!("-Wl,--wasm-ld-path,{}", wasm_ld.display()))
        .arg("-o")
        .arg(&made))?;
    place(&made, &component)?;
    fs::remove_file(made)?;
    fs::write(stamp, sources)?;
    Ok(Built::Done)
}

/// The compiler and the linker behind `wasm-component-ld`, or what is missing.
fn tools() -> Result<Result<(PathBuf, PathBuf), &'static str>> {
    let Some(clang) = which(CLANG) else { return Ok(Err(CLANG)) };
    let Some(wasm_ld) = which(WASM_LD) else { return Ok(Err("lld-22")) };
    if !Path::new(LIBC).is_file() {
        return Ok(Err("wasi-libc"));
    }
    let builtins = output(
        command(&clang)
            .arg(format!("--target={TARGET}"))
            .args(["-Wno-deprecated", "--print-libgcc-file-name"]),
    )?;
    if !Path::new(&builtins).is_file() {
        return Ok(Err("libclang-rt-22-dev-wasm32"));
    }
    Ok(Ok((clang, wasm_ld)))
}

/// Tells one state of what a component is made of from another.
fn sources(plugin: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    include_str!("c.rs").hash(&mut hasher);
    for file in INPUTS.into_iter().chain([HEADER]) {
        let path = plugin.join(file);
        fs::read(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
