//! When to look at the files again: on a notification, on SIGHUP, and every now and then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::reload::Reloader;

/// How patient the watcher is.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long nothing may have changed before the files are read: an editor or a copy is then done.
    pub settle: Duration,
    /// After how long they are read although changes go on.
    pub at_most: Duration,
    /// How often they are looked at without any notification: some file systems send none.
    pub look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { settle: Duration::from_millis(250), at_most: Duration::from_secs(5), look: Duration::from_secs(15) }
    }
}

enum Wake {
    Changed,
    Asked,
    Stop,
}

/// Asks for a reload. Dropping the last one lets the watcher's thread end.
#[derive(Clone, Debug)]
pub struct Trigger(std::sync::Arc<Sender>);

#[derive(Debug)]
struct Sender(mpsc::Sender<Wake>);

impl Drop for Sender {
    fn drop(&mut self) {
        // The thread may have ended before: then there is nothing to stop.
        let _gone = self.0.send(Wake::Stop);
    }
}

impl Trigger {
    /// Asks for a new generation, whether or not a file changed.
    pub fn reload(&self) {
        let _gone = self.0.0.send(Wake::Asked);
    }
}

impl<G: Send + Sync + 'static> Reloader<G> {
    /// Watches the files in a thread of its own, until the last [`Trigger`] is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(mut self, timing: Timing) -> std::io::Result<Trigger> {
        let (sender, wakes) = mpsc::channel();
        let trigger = Trigger(std::sync::Arc::new(Sender(sender.clone())));
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let mut directories = Directories::new(sender);
            // What changed before a directory was under watch was told to nobody.
            while directories.follow(self.files()) {
                self.attempt(false);
            }
            while let Some(insist) = next(&wakes, timing) {
                self.attempt(insist);
                while directories.follow(self.files()) {
                    self.attempt(false);
                }
            }
        })?;
        Ok(trigger)
    }
}

/// Waits for the next occasion: is a generation wanted even if nothing changed? `None` at the end.
fn next(wakes: &mpsc::Receiver<Wake>, timing: Timing) -> Option<bool> {
    let mut insist = match wakes.recv_timeout(timing.look) {
        Ok(Wake::Changed) => false,
        Ok(Wake::Asked) => true,
        Err(RecvTimeoutError::Timeout) => return Some(false),
        Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
    };
    let start = Instant::now();
    while start.elapsed() < timing.at_most {
        match wakes.recv_timeout(timing.settle) {
            Ok(Wake::Changed) => {}
            Ok(Wake::Asked) => insist = true,
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    Some(insist)
}

/// The directories under watch: those of the files, since a file is often replaced by renaming another over it, and since
/// Kubernetes swaps a link beside it.
struct Directories {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(sender: mpsc::Sender<Wake>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| tells_of_change(event.kind)) {
                let _gone = sender.send(Wake::Changed);
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no notifications of changed files; they are looked at from time to time");
        }
        Self { watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    /// Watches the directories of these files; is one of them newly watched?
    fn follow(&mut self, files: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeSet<PathBuf> = files.iter().filter_map(|file| directory(file)).collect();
        for gone in self.watched.difference(&wanted) {
            let _was_removed_already = watcher.unwatch(gone);
        }
        // Watched anew each time: a directory that was replaced has the same name and no watch.
        let watched = wanted.into_iter().filter(|dir| watcher.watch(dir, RecursiveMode::NonRecursive).is_ok());
        let before = std::mem::replace(&mut self.watched, watched.collect());
        !self.watched.is_subset(&before)
    }
}

fn directory(file: &Path) -> Option<PathBuf> {
    if file.is_dir() { Some(file.to_owned()) } else { file.parent().map(Path::to_owned) }
}

/// Reading the files causes notifications too; those must not cause reading.
fn tells_of_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// Turns every SIGHUP into a reload, for as long as it is polled.
///
/// # Errors
/// When the signal cannot be listened to.
pub async fn hangups(trigger: Trigger) -> std::io::Result<()> {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    while signal.recv().await.is_some() {
        trigger.reload();
    }
    Ok(())
}
