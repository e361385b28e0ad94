//! The files of the log: a new one begun, old ones removed, space kept back.

use std::io;

use super::super::chain::timestamp;
use super::super::delivery::is_cursor;
use super::super::disk::LEGAL_HOLD;
use super::super::record::Kind;
use super::super::seal::Sealer;
use super::super::segment::{self, RESERVE, RetentionRecord, SegmentRecord};
use super::{BATCH_BYTES, Health, Settings, Write, Writer, write_line};

impl Writer {
    /// Starts the next segment with its first record.
    pub(in crate::audit) fn start_segment(&mut self, from_reserve: bool) -> io::Result<()> {
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
    pub(in crate::audit) fn keep_reserve(&self) -> io::Result<()> {
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

    pub(super) fn rotate_if_due(&mut self) {
        if self.length < self.settings.segment_bytes || self.health != Health::Good {
            return;
        }
        self.sign_now();
        if let Err(error) = self.start_segment(false).and_then(|()| self.remove_old()) {
            self.fail(&error);
        }
    }

    /// Removes the segments whose records are all past their retention, after recording that it does.
    pub(in crate::audit) fn remove_old(&mut self) -> io::Result<()> {
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
}

/// Seals the records of a segment, if a key is configured.
pub(super) fn sealer(settings: &Settings, segment: u64) -> io::Result<Option<Sealer>> {
    let refused = || io::Error::other("the encryption key cannot be used");
    settings.encryption_key.as_ref().map(|key| key.sealer(&settings.chain, segment).ok_or_else(refused)).transpose()
}
