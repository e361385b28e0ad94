//! Changes of configuration while requests are served: a new generation replaces the old one whole, or not at all.
//!
//! A generation that cannot be built never goes live, and the last good one keeps serving. Files are compared by content
//! before and after they are read, so that one that is being written is read again. Notifications only hasten what a
//! slow look at the files finds as well: a lost one costs time, never a change.

mod fingerprint;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::sync::watch as channel;

use crate::clock::Clock;
use crate::reload::fingerprint::Fingerprint;
pub use crate::reload::watch::{Timing, Trigger, hangups};

/// What a build gives.
#[derive(Debug)]
pub struct Built<G> {
    /// The generation, complete.
    pub generation: G,
    /// Every file and directory it was read from.
    pub files: Vec<PathBuf>,
}

/// Why a build failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What is wrong, for the operator; no secret.
    pub problems: String,
    /// Files that it would have been read from, as far as known: a change of one of them is a reason to try again.
    pub files: Vec<PathBuf>,
}

impl From<crate::config::Problems> for Failed {
    fn from(problems: crate::config::Problems) -> Self {
        Self { files: problems.iter().map(|problem| problem.file.clone()).collect(), problems: problems.to_string() }
    }
}

/// Builds a generation from the configuration at a path; the number is the one it gets if it goes live.
pub type Build<G> = Box<dyn Fn(&Path, u64) -> Result<Built<G>, Failed> + Send>;

/// A generation and its number: 1 is the one at start.
pub struct Numbered<G> {
    /// Counts up by one with each generation that goes live.
    pub number: u64,
    /// What it is.
    pub generation: G,
}

impl<G> fmt::Debug for Numbered<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbered").field("number", &self.number).finish_non_exhaustive()
    }
}

/// How reloading stands: for `/readyz?verbose`, metrics and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The generation that serves.
    pub generation: u64,
    /// When it went live.
    pub since: OffsetDateTime,
    /// Reloads that went live, the start not counted.
    pub succeeded: u64,
    /// Reloads that were refused.
    pub failed: u64,
    /// Why the files as they stand are not live, when they are not.
    pub rejected: Option<Rejected>,
}

/// A refused reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When.
    pub at: OffsetDateTime,
    /// What is wrong.
    pub problems: String,
}

/// The generation that serves. Readers take it once for a request, and keep it to the request's end.
#[derive(Debug)]
pub struct Live<G> {
    current: ArcSwap<Numbered<G>>,
    status: channel::Sender<Status>,
}

impl<G> Live<G> {
    /// The generation that serves now.
    pub fn current(&self) -> Arc<Numbered<G>> {
        self.current.load_full()
    }

    /// How reloading stands.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Tells every later change of the status; by then [`Live::current`] is the generation it speaks of.
    pub fn subscribe(&self) -> channel::Receiver<Status> {
        self.status.subscribe()
    }
}

/// What an attempt to reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The files say what they said.
    Unchanged,
    /// A new generation serves.
    Live(u64),
    /// The files as they stand were refused.
    Rejected,
    /// The files changed while they were read, again and again.
    Unsettled,
}

/// Carries a generation that is about to go live to what is not asked on every request.
type Carry<G> = Box<dyn Fn(&G) + Send>;

/// Builds generations and puts them live. Owned by one thread.
pub struct Reloader<G> {
    path: PathBuf,
    build: Build<G>,
    carry: Carry<G>,
    clock: Arc<dyn Clock>,
    live: Arc<Live<G>>,
    files: BTreeSet<PathBuf>,
    seen: Fingerprint,
}

impl<G> fmt::Debug for Reloader<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("path", &self.path).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// How often files that change while they are read are read again before the next occasion is waited for.
const PATIENCE: usize = 8;

impl<G> Reloader<G> {
    /// Builds the first generation.
    ///
    /// # Errors
    /// What is wrong with it: then there is no start.
    pub fn start(path: &Path, build: Build<G>, clock: Arc<dyn Clock>) -> Result<Self, Failed> {
        let mut files = BTreeSet::from([path.to_owned()]);
        let mut seen = Fingerprint::of(&files);
        let mut built = build(path, 1)?;
        for _ in 0..PATIENCE {
            files = with(path, &built.files);
            let before = Fingerprint::of(&files);
            if before == seen {
                break;
            }
            built = build(path, 1)?;
            seen = before;
        }
        let status = Status { generation: 1, since: clock.now(), succeeded: 0, failed: 0, rejected: None };
        let current = ArcSwap::from_pointee(Numbered { number: 1, generation: built.generation });
        let live = Arc::new(Live { current, status: channel::Sender::new(status) });
        Ok(Self { path: path.to_owned(), build, carry: Box::new(|_| {}), clock, live, files, seen })
    }

    /// Has each later generation carried to what is not asked on every request, before it goes live: whoever sees that it
    /// is live sees all of it.
    #[must_use]
    pub fn carrying(self, carry: impl Fn(&G) + Send + 'static) -> Self {
        Self { carry: Box::new(carry), ..self }
    }

    /// The generation that serves, for everybody who reads it.
    pub fn live(&self) -> Arc<Live<G>> {
        Arc::clone(&self.live)
    }

    /// The files and directories that the last attempt looked at.
    pub const fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// Looks at the files, and puts a new generation live if they say something new and good.
    ///
    /// `insist` builds one even if they say nothing new (SIGHUP).
    pub fn attempt(&mut self, insist: bool) -> Attempt {
        let number = self.live.current.load().number + 1;
        let mut insist = insist;
        for _ in 0..PATIENCE {
            let before = Fingerprint::of(&self.files);
            if before == self.seen && !insist {
                return Attempt::Unchanged;
            }
            let built = (self.build)(&self.path, number);
            let files = match &built {
                Ok(built) => with(&self.path, &built.files),
                // What the old generation was read from may mend it too.
                Err(failed) => with(&self.path, &failed.files).union(&self.files).cloned().collect(),
            };
            let settled = files == self.files && Fingerprint::of(&self.files) == before;
            self.files = files;
            if !settled {
                insist = true;
                continue;
            }
            self.seen = before;
            return match built {
                Ok(built) => self.put_live(number, built.generation),
                Err(failed) => self.reject(failed.problems),
            };
        }
        Attempt::Unsettled
    }

    fn put_live(&self, number: u64, generation: G) -> Attempt {
        (self.carry)(&generation);
        self.live.current.store(Arc::new(Numbered { number, generation }));
        let now = self.clock.now();
        self.live.status.send_modify(|status| {
            *status = Status {
                generation: number,
                since: now,
                succeeded: status.succeeded + 1,
                failed: status.failed,
                rejected: None,
            };
        });
        tracing::info!(generation = number, "configuration reloaded");
        Attempt::Live(number)
    }

    fn reject(&self, problems: String) -> Attempt {
        tracing::error!(serving = self.live.current.load().number, %problems, "configuration refused; the last good one serves on");
        let at = self.clock.now();
        self.live.status.send_modify(|status| {
            status.failed += 1;
            status.rejected = Some(Rejected { at, problems });
        });
        Attempt::Rejected
    }
}

fn with(path: &Path, files: &[PathBuf]) -> BTreeSet<PathBuf> {
    files.iter().cloned().chain([path.to_owned()]).collect()
}

#[cfg(test)]
mod tests;
