//! The one thread that writes the log: it takes what has queued up, writes it as one batch, syncs once, and only then
//! tells those who wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::chain::{Link, SignedHead, close_line, hex, timestamp, write_header};
use super::delivery::is_cursor;
use super::disk::{Disk, DiskFile, LEGAL_HOLD};
use super::notes::Notes;
use super::record::Kind;
use super::seal::{EncryptionKey, Sealer};
use super::segment::{self, RESERVE, RetentionRecord, SegmentRecord};
use super::sign::SigningKey;
use super::{AuditUnavailable, Durability, Receipt, Status};
use crate::clock::Clock;

/// What the thread is asked to do.
pub(super) enum Command {
    Write(Write),
    /// Sign what there is, now.
    Head(oneshot::Sender<Option<SignedHead>>),
    Close(oneshot::Sender<()>),
}

/// A record to be written.
pub(super) struct Write {
    pub(super) kind: Kind,
    pub(super) body: Bytes,
    /// May use the reserve.
    pub(super) reserved: bool,
    pub(super) ack: Option<oneshot::Sender<Result<Receipt, AuditUnavailable>>>,
    /// Its share of the queue, given back when it is dropped.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What does not change while the log is open.
pub(super) struct Settings {
    pub(super) durability: Durability,
    pub(super) segment_bytes: u64,
    pub(super) reserve_bytes: u64,
    pub(super) head_interval: Duration,
    pub(super) key: SigningKey,
    pub(super) encryption_key: Option<EncryptionKey>,
    pub(super) retention: Duration,
    pub(super) chain: String,
}

/// Where the log stands on disk.
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) status: Arc<Status>,
    pub(super) heads: watch::Sender<Option<SignedHead>>,
    file: Option<Box<dyn DiskFile>>,
    segment: u64,
    /// The length of the durable part of the segment.
    length: u64,
    link: Link,
    unsigned: u64,
    last_head: OffsetDateTime,
    health: Health,
    /// Records refused since the log could last be written.
    refused: u64,
    buffer: Vec<u8>,
    /// Seals the records of the segment, if they are to be sealed.
    sealer: Option<Sealer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// A write failed: what stands behind the durable part of the segment is unknown.
    Failed,
    /// The disk is full and the reserve is in use.
    Reserve,
}

/// A batch is written and synced at once; it is also what a crash can tear at most.
const BATCH_BYTES: usize = 1 << 20;
/// However fast records come, so many at most are not yet covered by a signature.
const UNSIGNED_RECORDS: u64 = 4096;
/// How long a record that nobody waits for may be in memory alone.
const NOTES_WAIT: Duration = Duration::from_millis(100);
const HEAD_FILE: &str = "head.json";

impl Writer {
    /// Takes the log up where it stands. Nothing is written yet.
    pub(super) fn at(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        status: Arc<Status>,
        heads: watch::Sender<Option<SignedHead>>,
        place: Place,
    ) -> io::Result<Self> {
        let file = match place.segment {
            0 => None,
            number => Some(disk.open(&segment::name(number))?),
        };
        let last_head = clock.now();
        status.durable_seq.send_replace(place.link.next_seq.saturating_sub(1));
        let sealer = sealer(&settings, place.segment)?;
        Ok(Self {
            disk,
            clock,
            settings,
            status,
            heads,
            file,
            segment: place.segment,
            length: place.length,
            link: place.link,
            unsigned: place.unsigned,
            last_head,
            health: Health::Good,
            refused: 0,
            buffer: Vec::new(),
            sealer,
        })
    }

    /// Serves commands until closed, or until nobody is left to send any. What is noted goes along.
    pub(super) fn run(mut self, commands: &Receiver<Command>, notes: &Notes) {
        let patience = self.settings.head_interval.min(NOTES_WAIT);
        loop {
            let first = match commands.recv_timeout(patience) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = notes.take();
            let mut bytes: usize = batch.iter().map(|write| write.body.len()).sum();
            let (mut other, mut next) = (None, first);
            while let Some(command) = next.take() {
                match command {
                    Command::Write(write) => {
                        bytes = bytes.saturating_add(write.body.len());
                        batch.push(write);
                        if bytes < BATCH_BYTES {
                            next = commands.try_recv().ok();
                        }
                    }
                    command @ (Command::Head(_) | Command::Close(_)) => other = Some(command),
                }
            }
            if let Some(Command::Close(_)) = other {
                batch.extend(notes.close());
            }
            self.commit(batch);
            match other {
                Some(Command::Head(answer)) => {
                    let head = self.sign_now();
                    // Who asked may have gone.
                    let _ = answer.send(head);
                }
                Some(Command::Close(answer)) => {
                    self.sign_now();
                    drop(self);
                    let _ = answer.send(());
                    return;
                }
                Some(Command::Write(_)) | None => {}
            }
        }
        self.commit(notes.close());
        self.sign_now();
    }

    /// Writes a batch and answers everyone in it.
    pub(super) fn commit(&mut self, batch: Vec<Write>) {
        if batch.is_empty() && !self.head_is_due() && !self.has_gap() {
            return;
        }
        let ready = match self.health {
            Health::Good => Ok(()),
            Health::Failed => self.resume(),
            Health::Reserve => self.leave_reserve(),
        };
        let outcome = ready.and_then(|()| self.append(&batch, self.health == Health::Good));
        match outcome {
            Ok(receipts) => {
                acknowledge(batch, receipts);
                self.rotate_if_due();
            }
            Err(error) => {
                if self.health == Health::Good {
                    self.fail(&error);
                }
                self.refuse_all_but_reserved(batch, &error);
            }
        }
    }

    /// Signs the chain as it stands, if anything is unsigned.
    pub(super) fn sign_now(&mut self) -> Option<SignedHead> {
        if (self.unsigned > 0 || self.has_gap()) && self.health == Health::Good {
            self.last_head = OffsetDateTime::UNIX_EPOCH;
            self.commit(Vec::new());
        }
        self.heads.borrow().clone()
    }

    /// Starts the next segment with its first record.
    pub(super) fn start_segment(&mut self, from_reserve: bool) -> io::Result<()> {
        let number = self.segment.saturating_add(1);
        let name = segment::name(number);
        if from_reserve {
            self.disk.rename(RESERVE, &name)?;
        }
        let mut file = self.disk.open(&name)?;
        if !from_reserve {
            file.truncate(0)?;
        }
        self.disk.sync()?;
        let body = self.segment_record(number)?;
        let mut link = self.link;
        self.buffer.clear();
        let time = timestamp(self.clock.now());
        write_line(&mut self.buffer, &mut link, &time, Kind::Segment, &body, None)?;
        let sealer = sealer(&self.settings, number)?;
        file.write_at(0, &self.buffer)?;
        file.sync()?;
        self.length = self.buffer.len() as u64;
        self.file = Some(file);
        self.segment = number;
        self.sealer = sealer;
        self.link = link;
        self.status.durable_seq.send_replace(link.next_seq.saturating_sub(1));
        self.unsigned = self.unsigned.saturating_add(1);
        Ok(())
    }

    /// Makes sure that the space for emergency access is kept back.
    pub(super) fn keep_reserve(&self) -> io::Result<()> {
        const NEW: &str = "reserve.new";
        let names = self.disk.list()?;
        if self.settings.reserve_bytes == 0 || names.iter().any(|name| name == RESERVE) {
            return Ok(());
        }
        let written = self.disk.open(NEW).and_then(|mut file| {
            // Written, not only allocated: a sparse file keeps nothing back.
            let zeros = vec![0; usize::try_from(self.settings.reserve_bytes).unwrap_or(BATCH_BYTES)];
            file.write_at(0, &zeros)?;
            file.sync()
        });
        if let Err(error) = written {
            // It may not be there.
            let _ = self.disk.remove(NEW);
            return Err(error);
        }
        self.disk.rename(NEW, RESERVE)?;
        self.disk.sync()
    }

    fn segment_record(&self, number: u64) -> io::Result<Vec<u8>> {
        let key = self.settings.key.verifying_key();
        let record = SegmentRecord {
            chain: self.settings.chain.clone(),
            segment: number,
            key: key.id(),
            public_key: key.to_base64(),
            head_interval_seconds: self.settings.head_interval.as_secs(),
            program: concat!("fhirwall ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok(serde_json::to_vec(&record)?)
    }

    fn append(&mut self, batch: &[Write], with_gap: bool) -> io::Result<Vec<Receipt>> {
        let now = self.clock.now();
        let time = timestamp(now);
        let mut link = self.link;
        self.buffer.clear();
        let lost_ends = self.status.lost_ends.load(Ordering::Relaxed);
        let gap = with_gap && self.has_gap();
        if gap {
            let body = serde_json::json!({"refused": self.refused, "lost_ends": lost_ends}).to_string();
            write_line(&mut self.buffer, &mut link, &time, Kind::Gap, body.as_bytes(), None)?;
        }
        let mut receipts = Vec::with_capacity(batch.len());
        for write in batch {
            write_line(&mut self.buffer, &mut link, &time, write.kind, &write.body, self.sealer.as_ref())?;
            receipts.push(Receipt { seq: link.next_seq.saturating_sub(1), hash: link.prev });
        }
        self.unsigned = self.unsigned.saturating_add(batch.len() as u64).saturating_add(u64::from(gap));
        let head = if self.head_is_due() { self.write_head(&mut link, &time) } else { None };
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_at(self.length, &self.buffer)?;
        match self.settings.durability {
            Durability::BeforeResponse => file.sync()?,
            Durability::DangerousUnsynced => {}
        }
        self.length = self.length.saturating_add(self.buffer.len() as u64);
        self.link = link;
        self.status.durable_seq.send_replace(link.next_seq.saturating_sub(1));
        if gap {
            self.refused = 0;
            self.status.lost_ends.fetch_sub(lost_ends, Ordering::Relaxed);
        }
        self.status.records.fetch_add(receipts.len() as u64, Ordering::Relaxed);
        if self.buffer.capacity() > 4 * BATCH_BYTES {
            self.buffer = Vec::new();
        }
        if let Some(head) = head {
            self.unsigned = 0;
            self.last_head = now;
            self.publish(head);
        }
        Ok(receipts)
    }

    /// Records were refused, or ends lost, and the log does not say so yet.
    fn has_gap(&self) -> bool {
        self.refused > 0 || self.status.lost_ends.load(Ordering::Relaxed) > 0
    }

    fn head_is_due(&self) -> bool {
        let interval = time::Duration::try_from(self.settings.head_interval).unwrap_or(time::Duration::SECOND);
        self.unsigned >= UNSIGNED_RECORDS || (self.unsigned > 0 && self.clock.now() - self.last_head >= interval)
    }

    fn write_head(&mut self, link: &mut Link, time: &str) -> Option<SignedHead> {
        let head = SignedHead::sign(&self.settings.chain, link, time, &self.settings.key)?;
        write_line(&mut self.buffer, link, time, Kind::Head, &serde_json::to_vec(&head).ok()?, None).ok()?;
        Some(head)
    }

    /// Shows the head to whoever keeps it elsewhere, and beside the log, where a later start finds it.
    fn publish(&self, head: SignedHead) {
        const NEW: &str = "head.json.new";
        let written = self.disk.open(NEW).and_then(|mut file| {
            let text = serde_json::to_vec(&head)?;
            file.truncate(0)?;
            file.write_at(0, &text)?;
            file.sync()
        });
        if written.and_then(|()| self.disk.rename(NEW, HEAD_FILE)).is_err() {
            // The head stands in the log itself; the copy only tells a later start that nothing was cut off.
            self.status.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.heads.send_replace(Some(head));
    }

    fn rotate_if_due(&mut self) {
        if self.length < self.settings.segment_bytes || self.health != Health::Good {
            return;
        }
        self.sign_now();
        if let Err(error) = self.start_segment(false).and_then(|()| self.remove_old()) {
            self.fail(&error);
        }
    }

    /// Removes the segments whose records are all past their retention, after recording that it does.
    pub(super) fn remove_old(&mut self) -> io::Result<()> {
        let numbers = segment::numbers(&self.disk.list()?);
        let oldest_kept = self.clock.now() - self.settings.retention;
        let (mut first_kept, held) = (None, self.held()?);
        // A segment is old when the next one, which is kept, began before the limit.
        for number in numbers.iter().skip(1).take_while(|number| **number <= self.segment) {
            let bytes = self.disk.read(&segment::name(*number))?;
            let Some(start) = segment::start(&bytes) else { break };
            if start.time >= oldest_kept {
                break;
            }
            if held.is_some_and(|held| start.seq > held) {
                tracing::warn!(held, "old audit segments stay: a legal hold, or a sink that has not taken them");
                break;
            }
            first_kept = Some(RetentionRecord { first_kept: *number, next_seq: start.seq, prev: start.prev });
        }
        let Some(record) = first_kept else { return Ok(()) };
        // Nothing is removed without the record that says so.
        let body = serde_json::to_vec(&record)?.into();
        let write = Write { kind: Kind::Retention, body, reserved: true, ack: None, permit: None };
        self.append(&[write], true)?;
        for number in numbers.iter().filter(|number| **number < record.first_kept) {
            self.disk.remove(&segment::name(*number))?;
        }
        self.disk.sync()
    }

    /// The first record that may not be removed yet, whatever its age: all are under a legal hold (a file of that name in
    /// the directory), and what a sink has not taken is nowhere else.
    fn held(&self) -> io::Result<Option<u64>> {
        let names = self.disk.list()?;
        if names.iter().any(|name| name == LEGAL_HOLD) {
            return Ok(Some(0));
        }
        let mut held = None;
        for cursor in names.iter().filter(|name| is_cursor(name)) {
            let bytes = self.disk.read(cursor)?;
            let taken: u64 = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            let next = taken.saturating_add(1);
            held = Some(held.map_or(next, |held: u64| held.min(next)));
        }
        Ok(held)
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the audit log cannot be written: nothing is disclosed until it can");
        self.health = Health::Failed;
        self.status.available.store(false, Ordering::Release);
        self.status.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// After a failed write: cuts off what was never acknowledged, and states the gap.
    fn resume(&mut self) -> io::Result<()> {
        self.cut_back()?;
        self.append(&[], true)?;
        self.recovered();
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        // A next segment that was begun and failed would fork the chain.
        let next = segment::name(self.segment.saturating_add(1));
        if self.disk.list()?.contains(&next) {
            self.disk.remove(&next)?;
            self.disk.sync()?;
        }
        // A new handle: the error of a failed sync belongs to the old one.
        let mut file = self.disk.open(&segment::name(self.segment))?;
        file.truncate(self.length)?;
        file.sync()?;
        self.file = Some(file);
        Ok(())
    }

    fn recovered(&mut self) {
        tracing::warn!("the audit log can be written again");
        self.health = Health::Good;
        self.status.available.store(true, Ordering::Release);
    }

    /// The log is in its reserve: is there space again?
    fn leave_reserve(&mut self) -> io::Result<()> {
        self.keep_reserve()?;
        self.cut_back()?;
        self.append(&[], true)?;
        self.recovered();
        Ok(())
    }

    fn refuse_all_but_reserved(&mut self, batch: Vec<Write>, error: &io::Error) {
        let (reserved, other): (Vec<_>, Vec<_>) = batch.into_iter().partition(|write| write.reserved);
        self.refuse(other, error);
        if reserved.is_empty() {
            return;
        }
        if !is_full(error) {
            return self.refuse(reserved, error);
        }
        match self.enter_reserve().and_then(|()| self.append(&reserved, false)) {
            Ok(receipts) => acknowledge(reserved, receipts),
            Err(error) => self.refuse(reserved, &error),
        }
    }

    fn enter_reserve(&mut self) -> io::Result<()> {
        if self.health == Health::Reserve {
            return Ok(());
        }
        self.cut_back()?;
        self.start_segment(true)?;
        tracing::error!("the audit disk is full: only emergency access is served, from the reserve");
        self.health = Health::Reserve;
        Ok(())
    }

    fn refuse(&mut self, batch: Vec<Write>, error: &io::Error) {
        for write in batch {
            self.refused = self.refused.saturating_add(1);
            if let Some(ack) = write.ack {
                // Who waited may have gone.
                let _ = ack.send(Err(AuditUnavailable::Disk(error.kind())));
            }
        }
    }
}

/// Where a log stands.
pub(super) struct Place {
    /// The last segment; 0 for a log that has none.
    pub(super) segment: u64,
    pub(super) length: u64,
    pub(super) link: Link,
    pub(super) unsigned: u64,
}

fn sealer(settings: &Settings, segment: u64) -> io::Result<Option<Sealer>> {
    let refused = || io::Error::other("the encryption key cannot be used");
    settings.encryption_key.as_ref().map(|key| key.sealer(&settings.chain, segment).ok_or_else(refused)).transpose()
}

/// Writes one line. What the log says of itself names nobody and stays in the clear: it verifies without the key.
fn write_line(
    buffer: &mut Vec<u8>,
    link: &mut Link,
    time: &str,
    kind: Kind,
    body: &[u8],
    sealer: Option<&Sealer>,
) -> io::Result<()> {
    let start = buffer.len();
    write_header(buffer, link, time, kind.as_str());
    let of_itself = matches!(kind, Kind::Segment | Kind::Head | Kind::Recovery | Kind::Gap | Kind::Retention);
    match sealer {
        Some(sealer) if !of_itself => {
            let sealed = buffer.get(start..).and_then(|header| sealer.seal(header, body));
            let sealed = sealed.ok_or_else(|| io::Error::other("a record could not be sealed"))?;
            buffer.extend_from_slice(b",\"sealed\":\"");
            buffer.extend_from_slice(sealed.as_bytes());
            buffer.push(b'"');
        }
        Some(_) | None => {
            buffer.extend_from_slice(b",\"body\":");
            buffer.extend_from_slice(body);
        }
    }
    close_line(buffer, start, link);
    Ok(())
}

fn acknowledge(batch: Vec<Write>, receipts: Vec<Receipt>) {
    for (write, receipt) in batch.into_iter().zip(receipts) {
        drop(write.permit);
        if let Some(ack) = write.ack {
            // Who waited may have gone; the record stands.
            let _ = ack.send(Ok(receipt));
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// `seq:hash`.
impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, hex(&self.hash))
    }
}
