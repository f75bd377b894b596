//! Builds the plugins in Python: `componentize-py` makes one component of CPython and `app.py`. It comes
//! from PyPI, pinned, into a virtual environment in the user's cache. A machine without Python goes
//! without these plugins.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guests::{Built, place};
use crate::run::{cache_folder, command, run, say, which};

const COMPONENTIZE: &str = "0.25.1";
/// The world in `wit/` that a plugin is built for.
const WORLD: &str = "plugin";

/// Builds the plugin into its folder, unless its sources are those of the last build.
///
/// # Errors
/// When the tool cannot be installed or the plugin does not build.
pub fn build(root: &Path, plugin: &Path) -> Result<Built> {
    // The tool reads no interface from outside of the plugin's folder.
    place(&root.join("wit/exchange.wit"), &plugin.join("wit/deps/wharf.wit"))?;
    let name = plugin.file_name().context("a plugin has a folder")?;
    let component = plugin.join(name).with_extension("wasm");
    let work = plugin.join("build");
    let stamp = work.join("sources");
    let sources = sources(plugin)?;
    if component.is_file() && fs::read_to_string(&stamp).is_ok_and(|before| before == sources) {
        return Ok(Built::Done);
    }
    let Some(python) = which("python3") else {
        return Ok(Built::Skipped("python3 is not installed".to_owned()));
    };
    let Some(tool) = installed(&python)? else {
        let why = "python3 cannot make a virtual environment (Debian: install python3-venv)";
        return Ok(Built::Skipped(why.to_owned()));
    };
    fs::create_dir_all(&work)?;
    let made = work.join("component.wasm");
    run(command(tool)
        .current_dir(plugin)
        .args(["--wit-path", "wit", "--world", WORLD, "componentize", "app", "--output"])
        .arg(&made))?;
    place(&made, &component)?;
    fs::remove_file(made)?;
    fs::write(stamp, sources)?;
    Ok(Built::Done)
}

/// `componentize-py`, installed if it is missing; none where Python lacks its module `ensurepip`.
fn installed(python: &Path) -> Result<Option<PathBuf>> {
    let cache = cache_folder()?;
    let folder = cache.join(format!("python-{COMPONENTIZE}"));
    let tool = folder.join("bin/componentize-py");
    // Scripts in such an environment name its path, so it cannot be made beside and renamed: this
    // file says that it is whole.
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(Some(tool));
    }
    let lock = File::create(cache.join("python.lock"))?;
    lock.lock().context("cannot lock the cache folder")?;
    if whole.exists() {
        return Ok(Some(tool));
    }
    let check = command(python).args(["-c", "import ensurepip, venv"]).output()?;
    if !check.status.success() {
        return Ok(None);
    }
    say(&format!("installing componentize-py {COMPONENTIZE} from PyPI: once"));
    run(command(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(command(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("componentize-py=={COMPONENTIZE}")))?;
    fs::write(whole, "")?;
    Ok(Some(tool))
}

/// Tells one state of what a component is made of from another.
fn sources(plugin: &Path) -> Result<String> {
    let mut files = vec![plugin.join("app.py")];
    for folder in [plugin.join("wit"), plugin.join("wit/deps")] {
        for file in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            files.push(file?.path());
        }
    }
    files.retain(|path| path.is_file());
    files.sort();
    let mut hasher = DefaultHasher::new();
    COMPONENTIZE.hash(&mut hasher);
    for path in files {
        path.strip_prefix(plugin)?.hash(&mut hasher);
        fs::read(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
