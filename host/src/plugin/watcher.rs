//! Watches the plugin folder and refreshes what changed.
//!
//! A rename into place and a writer's close are complete at once; other changes and removals settle
//! first, so that a remove-and-create shows no gap. Every two seconds the folder's metadata is
//! compared as well, for events that were lost or that the file system does not send.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::loader;
use super::registry::Registry;

/// How long a removal may be the first half of a replacement.
const REMOVAL_SETTLE: Duration = Duration::from_millis(150);
/// How long a file must be quiet that was changed without a sign of completion.
const CHANGE_SETTLE: Duration = Duration::from_secs(1);
/// How often metadata is compared.
const RESCAN: Duration = Duration::from_secs(2);
/// Events that may wait; past it everything is looked at.
const QUEUE: usize = 1024;

/// How soon a change is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    Now,
    Settle(Duration),
}

/// Starts watching; the returned watcher ends it when dropped.
///
/// # Errors
/// When the folder cannot be watched; the metadata is then still compared.
pub fn start(
    registry: &Arc<Registry>,
) -> (Option<RecommendedWatcher>, impl Future<Output = ()> + use<>) {
    let (events, received) = mpsc::channel(QUEUE);
    let overflowed = Arc::new(AtomicBool::new(false));
    let watcher = watch(registry.dir(), events, Arc::clone(&overflowed));
    let watcher = match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(
                dir = %registry.dir().display(), %error,
                "the folder cannot be watched; changes are noticed by comparing metadata"
            );
            None
        }
    };
    (watcher, run(Arc::clone(registry), received, overflowed))
}

type Change = (String, Haste);

fn watch(
    dir: &Path,
    events: mpsc::Sender<Change>,
    overflowed: Arc<AtomicBool>,
) -> notify::Result<RecommendedWatcher> {
    // Events carry canonical paths on some systems.
    let root = dir.canonicalize().map_err(notify::Error::io)?;
    let prefix = root.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let Ok(event) = event else {
            overflowed.store(true, Ordering::Relaxed);
            return;
        };
        if event.need_rescan() {
            overflowed.store(true, Ordering::Relaxed);
        }
        let Some(haste) = haste(event.kind) else { return };
        for path in &event.paths {
            if let Some(name) = plugin_of(&prefix, path)
                && events.try_send((name, haste)).is_err()
            {
                overflowed.store(true, Ordering::Relaxed);
            }
        }
    })?;
    watcher.watch(&root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

fn haste(kind: EventKind) -> Option<Haste> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Haste::Now),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            Some(Haste::Settle(REMOVAL_SETTLE))
        }
        // A file that is created is empty, unless it is a hard link.
        EventKind::Create(_) | EventKind::Modify(_) => Some(Haste::Settle(CHANGE_SETTLE)),
        _ => None,
    }
}

/// The plugin that a changed path belongs to: files in the folder, and the direct children of a
/// folder plugin.
fn plugin_of(root: &Path, path: &Path) -> Option<String> {
    let mut parts = path.strip_prefix(root).ok()?.components();
    let Some(Component::Normal(first)) = parts.next() else { return None };
    let name = loader::name_of(Path::new(first))?;
    match (parts.next(), parts.next()) {
        (None, _) => Some(name),
        (Some(Component::Normal(file)), None) => {
            let file = Path::new(file);
            let relevant = file.extension().is_some_and(|ext| ext == "wasm" || ext == "toml");
            relevant.then_some(name)
        }
        _ => None,
    }
}

async fn run(
    registry: Arc<Registry>,
    mut events: mpsc::Receiver<Change>,
    overflowed: Arc<AtomicBool>,
) {
    let mut due: HashMap<String, Instant> = HashMap::new();
    let mut seen = signatures(&registry);
    let mut rescan = tokio::time::interval(RESCAN);
    rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look = |seen: &mut _, due: &mut HashMap<String, Instant>, all| {
        for name in different(&registry, seen, all) {
            // A file that is being copied looks different each time, and waits until it does not.
            due.insert(name, Instant::now() + CHANGE_SETTLE);
        }
    };
    loop {
        let next = due.values().min().copied();
        let settled = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // Every branch is safe to cancel: a channel, a timer, a timer.
        tokio::select! {
            biased;
            change = events.recv() => match change {
                Some((name, Haste::Now)) => {
                    due.remove(&name);
                    refresh(&registry, name);
                }
                Some((name, Haste::Settle(quiet))) => {
                    due.insert(name, Instant::now() + quiet);
                }
                // The watcher failed to start: metadata it is.
                None => {
                    rescan.tick().await;
                    look(&mut seen, &mut due, false);
                }
            },
            () = settled => {
                let now = Instant::now();
                let ready: Vec<String> =
                    due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
                for name in ready {
                    due.remove(&name);
                    refresh(&registry, name);
                }
            }
            _ = rescan.tick() => {
                let all = overflowed.swap(false, Ordering::Relaxed);
                look(&mut seen, &mut due, all);
            }
        }
    }
}

fn refresh(registry: &Arc<Registry>, name: String) {
    let refreshing = Arc::clone(registry);
    registry.drain().spawn(async move { refreshing.refresh(&name).await });
}

/// What a plugin's files look like from outside: sizes, times and inodes.
type Signature = Vec<(u64, Option<SystemTime>, u64)>;

fn signatures(registry: &Registry) -> HashMap<String, Signature> {
    registry
        .names()
        .into_iter()
        .map(|name| (name.clone(), signature(registry.dir(), &name)))
        .collect()
}

fn signature(dir: &Path, name: &str) -> Signature {
    use std::os::unix::fs::MetadataExt;
    let mut paths = vec![dir.join(format!("{name}.wasm")), dir.join(format!("{name}.toml"))];
    if let Ok(entries) = fs::read_dir(dir.join(name)) {
        let mut inner: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ext| ext == "wasm" || ext == "toml"))
            .collect();
        inner.sort_unstable();
        paths.append(&mut inner);
    }
    paths
        .iter()
        .map(|path| {
            fs::metadata(path)
                .map_or((0, None, 0), |file| (file.len(), file.modified().ok(), file.ino()))
        })
        .collect()
}

/// The plugins that look different than before, or all.
fn different(registry: &Registry, seen: &mut HashMap<String, Signature>, all: bool) -> Vec<String> {
    let before = std::mem::replace(seen, signatures(registry));
    let differs = |(name, now): &(&String, &Signature)| all || before.get(*name) != Some(*now);
    seen.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_plugins() {
        let root = Path::new("/p");
        for (path, plugin) in [
            ("/p/a.wasm", Some("a")),
            ("/p/a.toml", Some("a")),
            ("/p/b/plugin.toml", Some("b")),
            ("/p/b/x.wasm", Some("b")),
            ("/p/b", Some("b")),
            ("/p/b/src/main.rs", None),
            ("/p/b/main.py", None),
            ("/p/.a.wasm.tmp", None),
            ("/p", None),
        ] {
            assert_eq!(plugin_of(root, Path::new(path)).as_deref(), plugin, "{path}");
        }
    }
}
