//! Is the log whole? Checked with public keys alone, here or on another machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::chain::{Line, Link, SignedHead, hex, unhex};
use super::chains::directories;
use super::disk::names;
use super::open::{Problem, head_fits};
use super::record::Kind;
use super::segment::{self, Ending, RetentionRecord, SegmentRecord};
use super::sign::VerifyingKey;

/// What a check of a log came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    pub chain: String,
    pub segments: u64,
    pub records: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub last_hash: String,
    /// The ids of the keys that signed.
    pub keys: Vec<String>,
    /// Heads whose signature was checked.
    pub heads: u64,
    /// Records after the last head: whole, but not yet signed.
    pub unsigned: u64,
    /// Bytes after the last record that were never acknowledged; the next start cuts them off.
    pub torn_bytes: u64,
    /// The record up to which an anchored head vouches for the log.
    pub anchored_seq: Option<u64>,
    /// Records by kind.
    pub kinds: BTreeMap<String, u64>,
    /// The first bad record; everything before it is as it was written.
    pub finding: Option<Finding>,
}

/// The first place where the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub segment: String,
    /// The line in the segment, from 1.
    pub line: u64,
    /// The sequence number that the record has or should have.
    pub seq: u64,
    #[serde(serialize_with = "as_text")]
    pub problem: Problem,
}

fn as_text<S: serde::Serializer>(problem: &Problem, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(problem)
}

/// What the log is checked against.
#[derive(Debug, Default)]
pub struct Anchors {
    /// The keys that may have signed. Empty: the key of the first segment is believed, and no other.
    pub keys: Vec<VerifyingKey>,
    /// A head that was kept elsewhere.
    pub head: Option<SignedHead>,
}

/// More records than this in a row cannot have gone unsigned.
const UNSIGNED_LIMIT: u64 = 65_536;

/// Checks every record of the log in this directory: form, hash, order, segments, signatures, and the anchored head.
///
/// # Errors
/// When a file cannot be read. What is wrong with the log is no error but a [`Finding`].
pub fn verify(dir: &Path, anchors: &Anchors) -> io::Result<Verification> {
    // Read before the segments: a log that is being written only grows.
    let kept = fs::read(dir.join("head.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let heads: Vec<SignedHead> = anchors.head.iter().cloned().chain(kept).collect();
    let mut check = Check::new(&anchors.keys, &heads);
    let numbers = segment::numbers(&names(dir)?);
    for (at, number) in numbers.iter().enumerate() {
        let bytes = fs::read(dir.join(segment::name(*number)))?;
        let last = at.checked_add(1) == Some(numbers.len());
        if let Err(finding) = check.segment(*number, &bytes, last) {
            check.result.finding = Some(finding);
            return Ok(check.result);
        }
    }
    if let Err(finding) = check.finish(numbers.first().copied().unwrap_or(1)) {
        check.result.finding = Some(finding);
    }
    Ok(check.result)
}

/// The same for every chain of an audit directory, the first one first. An anchored head vouches for the chain that it
/// names; one whose chain is not there tells that it was removed or rewritten, and is held against the first.
///
/// # Errors
/// When a file cannot be read.
pub fn verify_chains(root: &Path, anchors: &Anchors) -> io::Result<Vec<(PathBuf, Verification)>> {
    let without = Anchors { keys: anchors.keys.clone(), head: None };
    let mut checked = Vec::new();
    for dir in directories(root)? {
        let result = verify(&dir, &without)?;
        // A process that took over and failed leaves a directory without a record.
        if checked.is_empty() || result.segments > 0 || result.finding.is_some() {
            checked.push((dir, result));
        }
    }
    if let Some(head) = &anchors.head {
        let named = checked.iter().position(|(_, result)| result.chain == head.chain).unwrap_or(0);
        if let Some((dir, result)) = checked.get_mut(named) {
            *result = verify(dir, anchors)?;
        }
    }
    Ok(checked)
}

/// Checks the last segments of a log that is being written, and that it still holds what its writer signed last: cheap
/// enough to be done every few minutes. Older segments are for [`verify`].
///
/// # Errors
/// When a file cannot be read.
pub(super) fn verify_recent(dir: &Path, head: Option<SignedHead>) -> io::Result<Option<Finding>> {
    const SEGMENTS: usize = 2;
    let heads: Vec<SignedHead> = head.into_iter().collect();
    let mut check = Check::new(&[], &heads);
    let numbers = segment::numbers(&names(dir)?);
    let from = numbers.len().saturating_sub(SEGMENTS);
    for (at, number) in numbers.iter().enumerate().skip(from) {
        let bytes = fs::read(dir.join(segment::name(*number)))?;
        let last = at.checked_add(1) == Some(numbers.len());
        if let Err(finding) = check.segment(*number, &bytes, last) {
            return Ok(Some(finding));
        }
    }
    let next = check.next_seq();
    let cut_off = heads.iter().any(|head| head.seq >= next);
    Ok(cut_off.then(|| check.finding(next, Problem::Truncated)))
}

struct Check<'a> {
    trusted: &'a [VerifyingKey],
    anchors: &'a [SignedHead],
    result: Verification,
    link: Option<Link>,
    /// What the first segment continues, and what removed segments before it is on record.
    start: Link,
    retained: Option<(u64, Link)>,
    key: Option<VerifyingKey>,
    known: Vec<VerifyingKey>,
    segment: u64,
    line: u64,
}

impl<'a> Check<'a> {
    fn new(trusted: &'a [VerifyingKey], anchors: &'a [SignedHead]) -> Self {
        Self {
            trusted,
            anchors,
            result: Verification::default(),
            link: None,
            start: Link::START,
            retained: None,
            key: None,
            known: Vec::new(),
            segment: 0,
            line: 0,
        }
    }

    fn segment(&mut self, number: u64, bytes: &[u8], last: bool) -> Result<(), Finding> {
        if self.segment != 0 && self.segment.checked_add(1) != Some(number) {
            self.segment = self.segment.saturating_add(1);
            self.line = 1;
            return Err(self.finding(self.next_seq(), Problem::MissingSegment));
        }
        (self.segment, self.line) = (number, 0);
        self.result.segments = self.result.segments.saturating_add(1);
        let reading = segment::read(bytes);
        for line in &reading.lines {
            self.line = self.line.saturating_add(1);
            self.record(line)?;
        }
        self.line = self.line.saturating_add(1);
        match reading.end {
            Ending::Clean if reading.lines.is_empty() && !last => {
                Err(self.finding(self.next_seq(), Problem::SegmentRecord))
            }
            Ending::Clean => Ok(()),
            Ending::Broken(bad) => Err(self.finding(self.next_seq(), bad.into())),
            Ending::Torn if last => {
                self.result.torn_bytes = bytes.len().saturating_sub(reading.good) as u64;
                Ok(())
            }
            Ending::Torn => Err(self.finding(self.next_seq(), Problem::Torn)),
        }
    }

    fn record(&mut self, line: &Line<'_>) -> Result<(), Finding> {
        match &self.link {
            Some(link) if !line.continues(link) => return Err(self.finding(link.next_seq, Problem::Order)),
            Some(_) => {}
            None => {
                let prev = unhex(line.prev).ok_or_else(|| self.finding(line.seq, Problem::Order))?;
                self.start = Link { next_seq: line.seq, prev };
                self.result.first_seq = line.seq;
            }
        }
        let is_first = self.line == 1;
        if is_first != (line.kind == Kind::Segment.as_str()) {
            return Err(self.finding(line.seq, Problem::SegmentRecord));
        }
        if is_first {
            self.segment_record(line)?;
        } else if line.kind == Kind::Head.as_str() {
            self.head(line)?;
        } else if line.kind == Kind::Retention.as_str() {
            self.retention(line);
        }
        if line.kind != Kind::Head.as_str() {
            self.result.unsigned = self.result.unsigned.saturating_add(1);
        }
        if self.result.unsigned > UNSIGNED_LIMIT {
            return Err(self.finding(line.seq, Problem::Unsigned));
        }
        for head in self.anchors.iter().filter(|head| head.seq == line.seq) {
            if head.hash != line.hash || head.chain != self.result.chain {
                return Err(self.finding(line.seq, Problem::Rewritten));
            }
        }
        let count = self.result.kinds.entry(line.kind.to_owned()).or_default();
        *count = count.saturating_add(1);
        self.result.records = self.result.records.saturating_add(1);
        self.link = Some(line.link());
        Ok(())
    }

    fn segment_record(&mut self, line: &Line<'_>) -> Result<(), Finding> {
        let wrong = |problem| self.finding(line.seq, problem);
        let body = line.body.ok_or_else(|| wrong(Problem::SegmentRecord))?;
        let record: SegmentRecord = serde_json::from_str(body).map_err(|_| wrong(Problem::SegmentRecord))?;
        let key = VerifyingKey::from_base64(&record.public_key).map_err(|_| wrong(Problem::SegmentRecord))?;
        let same_chain = self.key.is_none() || record.chain == self.result.chain;
        if record.segment != self.segment || key.id() != record.key || !same_chain {
            return Err(wrong(Problem::SegmentRecord));
        }
        let believed = if self.trusted.is_empty() {
            self.key.as_ref().is_none_or(|known| *known == key)
        } else {
            self.trusted.contains(&key)
        };
        if !believed {
            return Err(wrong(Problem::Key));
        }
        if !self.result.keys.contains(&record.key) {
            self.result.keys.push(record.key);
            self.known.push(key.clone());
        }
        self.result.chain = record.chain;
        self.key = Some(key);
        Ok(())
    }

    fn head(&mut self, line: &Line<'_>) -> Result<(), Finding> {
        let fits = self.key.as_ref().is_some_and(|key| head_fits(line, &self.result.chain, key));
        if !fits {
            return Err(self.finding(line.seq, Problem::Signature));
        }
        self.result.heads = self.result.heads.saturating_add(1);
        self.result.unsigned = 0;
        Ok(())
    }

    fn retention(&mut self, line: &Line<'_>) {
        let record: Option<RetentionRecord> = line.body.and_then(|body| serde_json::from_str(body).ok());
        let kept = record.and_then(|r| Some((r.first_kept, Link { next_seq: r.next_seq, prev: unhex(&r.prev)? })));
        self.retained = kept.or(self.retained);
    }

    fn finish(&mut self, first_segment: u64) -> Result<(), Finding> {
        let link = self.link.unwrap_or(Link::START);
        self.result.last_seq = link.next_seq.saturating_sub(1);
        self.result.last_hash = hex(&link.prev);
        let from_the_start = first_segment == 1 && self.start == Link::START;
        if !from_the_start && self.retained != Some((first_segment, self.start)) {
            let segment = segment::name(first_segment);
            return Err(Finding { segment, line: 1, seq: self.start.next_seq, problem: Problem::Retention });
        }
        let cut_off = self.anchors.iter().filter(|head| head.seq >= link.next_seq).map(|head| head.seq).max();
        if cut_off.is_some() {
            return Err(self.finding(link.next_seq, Problem::Truncated));
        }
        if let Some(forged) = self.anchors.iter().find(|head| !self.known.iter().any(|key| head.verifies(key))) {
            return Err(self.finding(forged.seq, Problem::Signature));
        }
        self.result.anchored_seq = self.anchors.iter().map(|head| head.seq).max();
        Ok(())
    }

    fn next_seq(&self) -> u64 {
        self.link.unwrap_or(Link::START).next_seq
    }

    fn finding(&self, seq: u64, problem: Problem) -> Finding {
        Finding { segment: segment::name(self.segment), line: self.line, seq, problem }
    }
}
