//! The one thread that writes the log: it takes what has queued up, writes it as one batch, syncs once, and only then
//! tells those who wait.

mod segments;
mod trouble;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::chain::{Link, SignedHead, close_line, hex, timestamp, write_header};
use super::disk::{Disk, DiskFile};
use super::notes::Notes;
use super::record::Kind;
use super::seal::{EncryptionKey, Sealer};
use super::segment;
use super::sign::SigningKey;
use super::{AuditUnavailable, Durability, Receipt, Status};
use crate::clock::Clock;
use segments::sealer;

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
/// The least time between two batches while several requests record at once: those of one interval go together. Every sync
/// costs the processor as much as a dozen records do.
const BATCH_INTERVAL: Duration = Duration::from_millis(1);
/// How long a record that nobody waits for may be in memory alone.
const NOTES_WAIT: Duration = Duration::from_millis(100);
const HEAD_FILE: &str = "head.json";

/// How long a record that has come waits for others, if the batch before was of several requests. Who asks one thing at a
/// time waits for nobody.
const fn pause(several: bool, since_last: Duration) -> Duration {
    if several { BATCH_INTERVAL.saturating_sub(since_last) } else { Duration::ZERO }
}

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
        let (mut last, mut several) = (Instant::now(), false);
        loop {
            let first = match commands.recv_timeout(patience) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if matches!(first, Some(Command::Write(_))) {
                std::thread::sleep(pause(several, last.elapsed()));
            }
            last = Instant::now();
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
            several = batch.iter().filter(|write| write.ack.is_some()).count() > 1;
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
}

/// Where a log stands.
pub(super) struct Place {
    /// The last segment; 0 for a log that has none.
    pub(super) segment: u64,
    pub(super) length: u64,
    pub(super) link: Link,
    pub(super) unsigned: u64,
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

/// `seq:hash`.
impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, hex(&self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_several_requests_wait_for_the_rest_of_the_interval_and_a_lone_one_does_not() {
        let micros = Duration::from_micros;
        for (several, since_last, waits) in
            [(false, 0, 0), (false, 200, 0), (true, 0, 1000), (true, 200, 800), (true, 1000, 0), (true, 5000, 0)]
        {
            assert_eq!(pause(several, micros(since_last)), micros(waits), "{several} {since_last}");
        }
    }
}
