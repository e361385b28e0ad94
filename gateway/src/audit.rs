//! The audit log: what was decided and disclosed, so that nobody can change it unnoticed, and nothing is disclosed
//! without it (45 CFR 164.312(b), 164.312(c)(1)).
//!
//! Append-only segments of JSON lines make one hash chain; heads of it are signed. [`AuditLog::record`] returns when the
//! record is durable: the caller sends nothing before. A log that cannot be written refuses, and the gateway answers 503.

mod chain;
pub mod chains;
pub mod delivery;
pub mod disk;
pub mod event;
mod logical;
mod notes;
pub mod ocsf;
mod open;
pub mod read;
mod recent;
mod record;
mod refusals;
pub mod report;
mod seal;
mod segment;
mod sign;
pub mod sinks;
mod tail;
pub mod verify;
pub mod webhook;
mod writer;

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

pub use chain::{BadLine, Line, SignedHead};
pub use open::{AuditOpenError, Problem};
pub use record::{AuditRecord, EmergencyAccess, End, Kind, Record, Withheld, Would, exception};
pub use refusals::RefusalCounts;
pub use seal::{EncryptionKey, InvalidEncryptionKey};
pub use sign::{InvalidKey, SigningKey, VerifyingKey};

use crate::clock::Clock;
use disk::{Directory, DirectoryError, Disk};
use notes::Notes;
use recent::Recent;
use writer::{Command, Settings, Write, Writer};

/// How a log is kept.
#[derive(Debug)]
pub struct AuditConfig {
    pub dir: PathBuf,
    pub durability: Durability,
    pub signing_key: SigningKey,
    /// Seals the records at rest; without it they stand in the clear.
    pub encryption_key: Option<EncryptionKey>,
    /// Closed segments are removed when all in them is older: six years by default (45 CFR 164.316(b)(2)(i)).
    pub retention: Duration,
    /// How many decisions are kept in memory for look-ups.
    pub recent_decisions: usize,
    /// A segment is closed when it is larger.
    pub segment_bytes: u64,
    /// Space kept back for emergency access on a full disk; 0 keeps none.
    pub reserve_bytes: u64,
    /// No record stays unsigned for longer.
    pub head_interval: Duration,
    /// How long a record may wait to become durable before the answer is refused.
    pub patience: Duration,
    /// How many bytes of records may wait.
    pub queue_bytes: u32,
}

impl AuditConfig {
    /// The defaults: synced before every answer, 64 MiB segments, 1 MiB of reserve, a signature a second.
    pub fn new(dir: impl Into<PathBuf>, signing_key: SigningKey) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::BeforeResponse,
            signing_key,
            encryption_key: None,
            retention: Duration::from_secs(6 * 366 * 24 * 3600),
            recent_decisions: 4096,
            segment_bytes: 64 << 20,
            reserve_bytes: 1 << 20,
            head_interval: Duration::from_secs(1),
            patience: Duration::from_secs(5),
            queue_bytes: 16 << 20,
        }
    }
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it survives the loss of power.
    #[default]
    BeforeResponse,
    /// When the operating system has it: a crash of the machine loses records of what was disclosed.
    DangerousUnsynced,
}

/// The log of this process.
pub struct AuditLog {
    commands: Sender<Command>,
    notes: Arc<Notes>,
    queue: Arc<Semaphore>,
    queue_bytes: u32,
    patience: Duration,
    status: Arc<Status>,
    heads: watch::Receiver<Option<SignedHead>>,
    refusals: RefusalCounts,
    clock: Arc<dyn Clock>,
    recent: Recent,
    dir: PathBuf,
    encryption_key: Option<EncryptionKey>,
    acknowledgements: OnceLock<Vec<watch::Receiver<u64>>>,
}

/// Proof that a record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub seq: u64,
    pub hash: [u8; 32],
}

/// The record is not known to be durable. Nothing may be disclosed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditUnavailable {
    #[error("the audit log cannot be written: {0}")]
    Disk(io::ErrorKind),
    #[error("the audit log did not take the record in time")]
    Slow,
    #[error("the audit log is closed")]
    Closed,
    #[error("the record cannot be written as JSON, or is larger than the queue")]
    Unwritable,
}

/// Counters, for metrics and readiness.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) available: AtomicBool,
    pub(crate) records: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) lost_ends: AtomicU64,
    /// The last durable record, as it grows.
    pub(crate) durable_seq: watch::Sender<u64>,
}

impl AuditLog {
    /// Takes up the log in the directory, or begins one, and starts the thread that writes it.
    ///
    /// What a crash left of a batch that nobody was told about is cut off, and the cut is recorded. A chain that is
    /// broken, or shorter than its last signed head, is refused, as is a directory that another process writes to.
    pub fn open(config: AuditConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, AuditOpenError> {
        let disk: Arc<dyn Disk> = Arc::new(Directory::lock(&config.dir)?);
        Self::open_on(disk, config, clock)
    }

    /// The same beside another process that still writes to the directory: this one begins, or takes up, a chain of its
    /// own ([`chains`]). Only for a process that takes over from the other.
    pub fn open_beside(config: AuditConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, AuditOpenError> {
        for dir in chains::candidates(&config.dir) {
            match Directory::lock(&dir) {
                Err(DirectoryError::Locked(_)) => {}
                locked => return Self::open_on(Arc::new(locked?), AuditConfig { dir, ..config }, clock),
            }
        }
        Err(DirectoryError::Locked(config.dir).into())
    }

    /// The same on any [`Disk`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: AuditConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, AuditOpenError> {
        let status = Arc::new(Status {
            available: AtomicBool::new(true),
            records: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            lost_ends: AtomicU64::new(0),
            durable_seq: watch::Sender::new(0),
        });
        let (heads, head) = watch::channel(None);
        let (patience, queue_bytes) = (config.patience, config.queue_bytes);
        let (dir, encryption_key) = (config.dir.clone(), config.encryption_key.clone());
        let recent = Recent::new(config.recent_decisions);
        let writer = start(disk, config, Arc::clone(&clock), Arc::clone(&status), heads)?;
        let (commands, received) = channel();
        let notes = Arc::new(Notes::default());
        let noted = Arc::clone(&notes);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&received, &noted))
            .map_err(AuditOpenError::Thread)?;
        Ok(Arc::new(Self {
            commands,
            notes,
            queue: Arc::new(Semaphore::new(queue_bytes as usize)),
            queue_bytes,
            patience,
            status,
            heads: head,
            refusals: RefusalCounts::default(),
            clock,
            recent,
            dir,
            encryption_key,
            acknowledgements: OnceLock::new(),
        }))
    }

    /// Writes a record and returns when it is durable.
    ///
    /// # Errors
    /// When it is not known to be durable: the caller refuses the request with 503 and discloses nothing.
    pub async fn record(&self, record: impl Borrow<Record>) -> Result<Receipt, AuditUnavailable> {
        let record = record.borrow();
        let body = record.body().cloned().ok_or(AuditUnavailable::Unwritable)?;
        let cost = self.cost(&body).ok_or(AuditUnavailable::Unwritable)?;
        let (ack, answer) = oneshot::channel();
        let written = async {
            let permit = Arc::clone(&self.queue).acquire_many_owned(cost).await.ok();
            let write = Write { kind: record.kind, body, reserved: record.reserved, ack: Some(ack), permit };
            self.commands.send(Command::Write(write)).map_err(|_| AuditUnavailable::Closed)?;
            let receipt = answer.await.map_err(|_| AuditUnavailable::Closed)??;
            // An emergency waits for no other machine: its record is on this one.
            if !record.reserved {
                for sink in self.acknowledgements.get().into_iter().flatten() {
                    let taken = sink.clone().wait_for(|taken| *taken >= receipt.seq).await.map(|_| ());
                    taken.map_err(|_| AuditUnavailable::Closed)?;
                }
            }
            Ok(receipt)
        };
        let receipt = timeout(self.patience, written).await.map_err(|_| AuditUnavailable::Slow)??;
        if let Some((decision, body)) = record.decided() {
            self.recent.push(record.kind, decision, body);
        }
        Ok(receipt)
    }

    /// The latest decisions in memory, oldest first.
    pub fn recent(&self) -> Vec<(Kind, AuditRecord)> {
        self.recent.all()
    }

    /// The latest record of a recent decision as JSON, from memory alone.
    pub fn recent_decision(&self, id: &str) -> Option<serde_json::Value> {
        let (_, record) = self.recent.find(id)?;
        serde_json::to_value(record).ok()
    }

    /// The latest record of a decision, from memory or, for an older one, from the log. Reads files: not for the path
    /// of a request.
    ///
    /// # Errors
    /// When a file of the log cannot be read.
    pub fn decision(&self, id: &str) -> io::Result<Option<(Kind, AuditRecord)>> {
        if let Some(found) = self.recent.find(id) {
            return Ok(Some(found));
        }
        let kinds = vec![Kind::Attempt, Kind::Disclosure, Kind::Refusal];
        let filter = read::Filter { decision: Some(id.to_owned()), kinds, ..read::Filter::default() };
        let entries = read::entries(chains::root(&self.dir), self.encryption_key.as_ref(), &filter)?;
        Ok(entries.last().and_then(|entry| Some((entry.kind, entry.record()?))))
    }

    /// Chains a record without waiting for it: it is written with the next one that somebody waits for, and soon in any
    /// case. When the queue is full it is counted as lost, and the count is recorded.
    pub fn note(&self, record: Record) {
        let taken = record.body().cloned().and_then(|body| {
            let permit = Some(Arc::clone(&self.queue).try_acquire_many_owned(self.cost(&body)?).ok()?);
            Some(Write { kind: record.kind, body, reserved: false, ack: None, permit })
        });
        if taken.is_none_or(|write| !self.notes.add(write)) {
            self.status.lost_ends.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where its chain is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The counters of refusals of callers that were never identified.
    pub fn refusals(&self) -> &RefusalCounts {
        &self.refusals
    }

    /// Chains one record of the refusals counted since the last call, if there were any. Called at an interval.
    pub fn flush_refusals(&self) {
        if let Some(record) = self.refusals.take(self.clock.now()) {
            self.note(record);
        }
    }

    /// Is the end of the log still what was written? Reads files: not for the path of a request.
    ///
    /// # Errors
    /// When a file of the log cannot be read.
    pub fn check_recent(&self) -> io::Result<Option<verify::Finding>> {
        let head = self.heads.borrow().clone();
        verify::verify_recent(&self.dir, head)
    }

    /// Could the last record be written? Readiness follows this; a request must not rely on it.
    pub fn is_available(&self) -> bool {
        self.status.available.load(Ordering::Acquire)
    }

    /// How many records became durable, since the start.
    pub fn records(&self) -> u64 {
        self.status.records.load(Ordering::Relaxed)
    }

    /// The sequence number of the last durable record.
    pub fn durable_seq(&self) -> u64 {
        *self.status.durable_seq.borrow()
    }

    /// The same as it grows.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.status.durable_seq.subscribe()
    }

    /// From now on a record counts as written only when these have taken it as well: each tells the last record that
    /// its sink has taken. For a directory that does not outlive its machine. Records of emergency access do not wait.
    /// Only the first call holds.
    pub fn wait_for(&self, sinks: Vec<watch::Receiver<u64>>) {
        if self.acknowledgements.set(sinks).is_err() {
            tracing::error!("the sinks that must acknowledge a record were named twice");
        }
    }

    /// How often writing failed, since the start.
    pub fn failures(&self) -> u64 {
        self.status.failures.load(Ordering::Relaxed)
    }

    /// The latest signed head, as it changes: to be kept where the log's own host cannot reach.
    pub fn heads(&self) -> watch::Receiver<Option<SignedHead>> {
        self.heads.clone()
    }

    /// Signs what is in the log now, and returns the latest head.
    pub async fn sign_head(&self) -> Option<SignedHead> {
        let (answer, head) = oneshot::channel();
        self.commands.send(Command::Head(answer)).ok()?;
        head.await.ok().flatten()
    }

    /// Writes what is queued, signs the end, and lets go of the directory.
    pub async fn close(&self) {
        self.flush_refusals();
        let (answer, closed) = oneshot::channel();
        if self.commands.send(Command::Close(answer)).is_ok() {
            // An error means that the thread has already ended.
            let _ = closed.await;
        }
    }

    fn cost(&self, body: &[u8]) -> Option<u32> {
        u32::try_from(body.len()).ok().filter(|cost| *cost <= self.queue_bytes)
    }
}

fn start(
    disk: Arc<dyn Disk>,
    config: AuditConfig,
    clock: Arc<dyn Clock>,
    status: Arc<Status>,
    heads: watch::Sender<Option<SignedHead>>,
) -> Result<Writer, AuditOpenError> {
    let found = open::find(&disk)?;
    let key_changed = found.key.is_some_and(|id| id != config.signing_key.verifying_key().id());
    let new = found.place.segment == 0;
    let settings = Settings {
        durability: config.durability,
        segment_bytes: config.segment_bytes,
        reserve_bytes: config.reserve_bytes,
        head_interval: config.head_interval,
        key: config.signing_key,
        encryption_key: config.encryption_key,
        retention: config.retention,
        chain: found.chain.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
    };
    let mut writer = Writer::at(disk, clock, settings, status, heads, found.place).map_err(AuditOpenError::Io)?;
    if new || key_changed {
        writer.start_segment(false).map_err(AuditOpenError::Io)?;
    }
    if found.cut > 0 {
        let body = serde_json::json!({ "bytes_cut": found.cut }).to_string().into();
        writer.commit(vec![Write { kind: Kind::Recovery, body, reserved: true, ack: None, permit: None }]);
    }
    writer.keep_reserve().map_err(AuditOpenError::Io)?;
    // A removal that a crash interrupted is finished here.
    writer.remove_old().map_err(AuditOpenError::Io)?;
    writer.sign_now();
    Ok(writer)
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("status", &self.status).finish_non_exhaustive()
    }
}
