//! Taking up a log where it stands: what a crash left is cut off and recorded, a broken chain is refused.

use std::io;
use std::sync::Arc;

use super::chain::{BadLine, Link, SignedHead};
use super::disk::{DirectoryError, Disk};
use super::record::Kind;
use super::segment::{self, Ending, SegmentRecord};
use super::sign::VerifyingKey;
use super::writer::Place;

/// The log cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("cannot read or write the audit log")]
    Io(#[source] io::Error),
    #[error(
        "the audit log is broken at record {seq} of `{segment}`: {problem}. Run `fhirwall audit verify`, keep the \
         directory as evidence, and start with an empty one"
    )]
    Broken { segment: String, seq: u64, problem: Problem },
    #[error("the audit writer cannot be started")]
    Thread(#[source] io::Error),
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error(transparent)]
    Line(#[from] BadLine),
    #[error("it does not continue the record before it")]
    Order,
    #[error("a segment is missing")]
    MissingSegment,
    #[error("a segment does not start with a segment record of this chain")]
    SegmentRecord,
    #[error("the segment ends in an incomplete record, but is not the last")]
    Torn,
    #[error("a signature does not fit")]
    Signature,
    #[error("the log ends before a record that was signed: it was cut off")]
    Truncated,
    #[error("the record that the head names is another one: the log was rewritten")]
    Rewritten,
    #[error("records stay unsigned for longer than the log allows")]
    Unsigned,
    #[error("the signing key changes to one that was not given")]
    Key,
    #[error("records before the first segment were removed without a record of it")]
    Retention,
}

/// What was found.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) chain: Option<String>,
    /// The key that the last segment is signed with.
    pub(super) key: Option<String>,
    /// How many bytes of an incomplete, never acknowledged batch were cut off.
    pub(super) cut: u64,
}

impl Found {
    fn nothing() -> Self {
        Self { place: Place { segment: 0, length: 0, link: Link::START, unsigned: 0 }, chain: None, key: None, cut: 0 }
    }
}

/// Reads the end of the log: its last segment, how that continues the one before, and the signed head kept beside it.
pub(super) fn find(disk: &Arc<dyn Disk>) -> Result<Found, AuditOpenError> {
    let names = disk.list().map_err(AuditOpenError::Io)?;
    let mut numbers = segment::numbers(&names);
    let gap = numbers.iter().zip(numbers.iter().skip(1)).find(|(a, b)| a.checked_add(1) != Some(**b));
    if let Some((_, after)) = gap {
        return Err(broken(*after, 0, Problem::MissingSegment));
    }
    let mut cut = 0_u64;
    while let Some(number) = numbers.pop() {
        let bytes = disk.read(&segment::name(number)).map_err(AuditOpenError::Io)?;
        let reading = segment::read(&bytes);
        if let Ending::Broken(bad) = reading.end {
            let seq = reading.lines.last().map_or(0, |line| line.seq.saturating_add(1));
            return Err(broken(number, seq, bad.into()));
        }
        if reading.lines.is_empty() {
            // A crash between the making of a segment and its first record: nothing of it was ever acknowledged.
            disk.remove(&segment::name(number)).and_then(|()| disk.sync()).map_err(AuditOpenError::Io)?;
            cut = cut.saturating_add(bytes.len() as u64);
            continue;
        }
        cut = cut.saturating_add(bytes.len().saturating_sub(reading.good) as u64);
        let before = match numbers.last() {
            Some(before) => Some(last_link(disk, *before)?),
            None => None,
        };
        let found = take_up(number, &reading, before, cut)?;
        let head = kept_head(disk, &names)?;
        if head.is_some_and(|head| head.seq >= found.place.link.next_seq) {
            return Err(broken(number, found.place.link.next_seq, Problem::Truncated));
        }
        if reading.good < bytes.len() {
            let mut file = disk.open(&segment::name(number)).map_err(AuditOpenError::Io)?;
            file.truncate(reading.good as u64).and_then(|()| file.sync()).map_err(AuditOpenError::Io)?;
        }
        return Ok(found);
    }
    match kept_head(disk, &names)? {
        Some(_) => Err(broken(1, 1, Problem::Truncated)),
        None => Ok(Found { cut, ..Found::nothing() }),
    }
}

fn take_up(
    number: u64,
    reading: &segment::Reading<'_>,
    before: Option<Link>,
    cut: u64,
) -> Result<Found, AuditOpenError> {
    let first = reading.lines.first().ok_or_else(|| broken(number, 0, Problem::SegmentRecord))?;
    let record: SegmentRecord = (first.kind == Kind::Segment.as_str())
        .then_some(first.body)
        .flatten()
        .and_then(|body| serde_json::from_str(body).ok())
        .filter(|record: &SegmentRecord| record.segment == number)
        .ok_or_else(|| broken(number, first.seq, Problem::SegmentRecord))?;
    let key =
        VerifyingKey::from_base64(&record.public_key).map_err(|_| broken(number, first.seq, Problem::SegmentRecord))?;
    let start = match before {
        Some(link) => link,
        None => own_start(first),
    };
    let link = segment::follow(&reading.lines, start).map_err(|seq| broken(number, seq, Problem::Order))?;
    let mut unsigned = 0_u64;
    for line in &reading.lines {
        unsigned = unsigned.saturating_add(1);
        if line.kind == Kind::Head.as_str() {
            if !head_fits(line, &record.chain, &key) {
                return Err(broken(number, line.seq, Problem::Signature));
            }
            unsigned = 0;
        }
    }
    let place = Place { segment: number, length: reading.good as u64, link, unsigned };
    Ok(Found { place, chain: Some(record.chain), key: Some(record.key), cut })
}

/// A head record signs exactly the record before it.
pub(super) fn head_fits(line: &super::chain::Line<'_>, chain: &str, key: &VerifyingKey) -> bool {
    let head: Option<SignedHead> = line.body.and_then(|body| serde_json::from_str(body).ok());
    head.is_some_and(|head| {
        head.chain == chain
            && head.seq.checked_add(1) == Some(line.seq)
            && head.hash == line.prev
            && head.time == line.time
            && head.verifies(key)
    })
}

/// The first segment that is kept after earlier ones were removed states itself what it continues.
fn own_start(first: &super::chain::Line<'_>) -> Link {
    match super::chain::unhex(first.prev) {
        Some(prev) => Link { next_seq: first.seq, prev },
        None => Link::START,
    }
}

fn last_link(disk: &Arc<dyn Disk>, number: u64) -> Result<Link, AuditOpenError> {
    let bytes = disk.read(&segment::name(number)).map_err(AuditOpenError::Io)?;
    let reading = segment::read(&bytes);
    let seq = reading.lines.last().map_or(0, |line| line.seq);
    match (reading.end, reading.lines.last()) {
        (Ending::Clean, Some(line)) => Ok(line.link()),
        (Ending::Broken(bad), _) => Err(broken(number, seq.saturating_add(1), bad.into())),
        (Ending::Torn | Ending::Clean, _) => Err(broken(number, seq.saturating_add(1), Problem::Torn)),
    }
}

fn kept_head(disk: &Arc<dyn Disk>, names: &[String]) -> Result<Option<SignedHead>, AuditOpenError> {
    const HEAD_FILE: &str = "head.json";
    if !names.iter().any(|name| name == HEAD_FILE) {
        return Ok(None);
    }
    let bytes = disk.read(HEAD_FILE).map_err(AuditOpenError::Io)?;
    // A head that cannot be read says nothing: the log itself carries all of them.
    Ok(serde_json::from_slice(&bytes).ok())
}

fn broken(segment: u64, seq: u64, problem: Problem) -> AuditOpenError {
    AuditOpenError::Broken { segment: segment::name(segment), seq, problem }
}
