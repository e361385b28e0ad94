//! The log, told elsewhere: at least once, in order, without ever holding up an answer.
//!
//! The log is its own spool. Each sink keeps a cursor beside it, the last record that it has taken; [`Delivery::run`]
//! reads on from there, delivers, and only then moves the cursor. A sink that is slow or away falls behind and catches
//! up; a crash between delivery and cursor delivers twice, and FHIR ids and OCSF uids are the same both times.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::sync::{Mutex, watch};

use super::AuditLog;
use super::read::Entry;
use super::record::{Kind, Record};
use super::sinks::{Sink, SinkError};
use super::tail::Tail;

/// One sink with its cursor.
pub struct Delivery {
    name: String,
    log: Arc<AuditLog>,
    sink: Box<dyn Sink>,
    cursor: PathBuf,
    taken: watch::Sender<u64>,
    /// How many records it will never take.
    parked: AtomicU64,
    work: Mutex<Work>,
}

/// Where the reading stands, and what was read and not taken yet.
struct Work {
    tail: Option<Tail>,
    untold: Vec<Entry>,
}

/// How many entries are told at once.
const BATCH: usize = 256;

impl Delivery {
    /// `name` is the sink's, and names its cursor: a renamed sink is told everything again, as is one whose cursor
    /// cannot be read or belongs to another log.
    pub fn new(name: &str, sink: Box<dyn Sink>, log: Arc<AuditLog>) -> Self {
        let cursor = log.dir.join(cursor_name(name));
        let taken = fs::read_to_string(&cursor).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let taken = if taken > log.durable_seq() { 0 } else { taken };
        let tail = Tail::new(log.dir.clone(), log.encryption_key.clone());
        let work = Mutex::new(Work { tail: Some(tail), untold: Vec::new() });
        let (name, parked) = (name.to_owned(), AtomicU64::new(0));
        let delivery = Self { name, log, sink, cursor, taken: watch::Sender::new(taken), parked, work };
        // From now on the log keeps what this sink has not taken.
        if let Err(error) = delivery.move_to(taken) {
            tracing::warn!(%error, sink = delivery.name, "the cursor of an audit sink cannot be kept");
        }
        delivery
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells the sink the next batch of durable records; returns how many. To be called again at once while it returns
    /// more than none, and after a pause when it fails.
    ///
    /// A record that the sink refuses for good, while it takes another, is parked: it stays in the log, that it was refused
    /// is recorded and counted, and the sink is told on. One that refuses all it is told is told again: it is the sink
    /// that is wrong then. One that does not answer in time is told half as many next time, and takes at least one.
    ///
    /// # Errors
    /// When the sink did not take them: the cursor stays where it was.
    pub async fn run(&self) -> Result<usize, SinkError> {
        let mut work = self.work.lock().await;
        if work.untold.is_empty() {
            work.untold = self.read(&mut work).await?;
        }
        let Some(last) = work.untold.last().map(|entry| entry.seq) else { return Ok(0) };
        match self.sink.deliver(&work.untold).await {
            Err(error) if error.is_for_good() => {
                // Read anew next time: what comes after may be taken.
                let untold = std::mem::take(&mut work.untold);
                self.one_by_one(&untold, error).await?;
                self.move_to(last).map_err(SinkError::Io)?;
                return Ok(untold.len());
            }
            Err(error) if error.is_slow() => {
                let half = work.untold.len().div_ceil(2);
                work.untold.truncate(half);
                return Err(error);
            }
            delivered => delivered?,
        }
        self.move_to(last).map_err(SinkError::Io)?;
        Ok(std::mem::take(&mut work.untold).len())
    }

    /// Tells each entry by itself, and parks what is refused for good if anything is taken.
    async fn one_by_one(&self, entries: &[Entry], error: SinkError) -> Result<(), SinkError> {
        let (mut taken, mut refused) = (0_usize, Vec::new());
        for entry in entries.iter().filter(|entry| self.sink.tells(entry)) {
            match self.sink.deliver(std::slice::from_ref(entry)).await {
                Ok(()) => taken = taken.saturating_add(1),
                Err(error) if error.is_for_good() => refused.push((entry, error)),
                Err(error) => return Err(error),
            }
        }
        if taken == 0 {
            return Err(error);
        }
        for (entry, error) in refused {
            self.park(entry, &error);
        }
        Ok(())
    }

    fn park(&self, entry: &Entry, error: &SinkError) {
        const ALERT: &str = "audit-sink-refusal";
        self.parked.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, sink = self.name, record = entry.seq, "an audit sink will never take a record; it is told on");
        let of_a_refusal = entry.kind == Kind::Alert
            && entry.body.as_ref().and_then(|body| body.get("alert")).is_some_and(|alert| alert == ALERT);
        // A sink that takes no such alert either would be told of its own refusals for ever.
        if !of_a_refusal {
            let says = format!("record {} ({}) stays in the log alone: {error}", entry.seq, entry.hash);
            self.log.note(Record::of(
                Kind::Alert,
                json!({
                    "alert": ALERT,
                    "subject": self.name,
                    "says": says,
                    "times_before": 0,
                    "runbook": "docs/runbooks/audit-sink-behind.md",
                }),
            ));
        }
    }

    /// How many records the sink will never take, since the start.
    pub fn parked(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    /// Returns when there is something to tell, or the log is gone.
    pub async fn until_more(&self) {
        let taken = *self.taken.borrow();
        // The sender lives as long as the log does.
        let _ = self.log.durable().wait_for(|durable| *durable > taken).await;
    }

    /// How many durable records the sink has not taken yet.
    pub fn behind(&self) -> u64 {
        self.log.durable_seq().saturating_sub(*self.taken.borrow())
    }

    /// The last record that the sink has taken, as it grows.
    pub fn taken(&self) -> watch::Receiver<u64> {
        self.taken.subscribe()
    }

    async fn read(&self, work: &mut Work) -> Result<Vec<Entry>, SinkError> {
        let (taken, durable) = (*self.taken.borrow(), self.log.durable_seq());
        let new = || Tail::new(self.log.dir.clone(), self.log.encryption_key.clone());
        let mut tail = work.tail.take().unwrap_or_else(new);
        let read = tokio::task::spawn_blocking(move || (tail.next(taken, durable, BATCH), tail));
        let (entries, tail) = read.await.map_err(|_| SinkError::Io(io::ErrorKind::Other.into()))?;
        work.tail = Some(tail);
        entries.map_err(SinkError::Io)
    }

    /// Synced before it replaces the last one: an empty cursor would have years of records told again.
    fn move_to(&self, seq: u64) -> io::Result<()> {
        let new = self.cursor.with_extension("cursor.new");
        let mut file = File::create(&new)?;
        file.write_all(seq.to_string().as_bytes())?;
        file.sync_data()?;
        fs::rename(new, &self.cursor)?;
        self.taken.send_replace(seq);
        Ok(())
    }
}

/// Removes the cursors of sinks that are not told any more: a cursor holds what its sink has not taken.
///
/// # Errors
/// When the directory cannot be read or changed.
pub fn forget_all_but(dir: &Path, names: &[&str]) -> io::Result<()> {
    let kept: Vec<String> = names.iter().map(|name| cursor_name(name)).collect();
    for name in super::disk::names(dir)? {
        if is_cursor(&name) && !kept.contains(&name) {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

pub(super) fn is_cursor(name: &str) -> bool {
    name.starts_with("sink-") && name.ends_with(".cursor")
}

fn cursor_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("sink-{name}.cursor")
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("name", &self.name).finish_non_exhaustive()
    }
}
