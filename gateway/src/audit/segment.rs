//! The files of a log: their names, what stands in their first record, and how a torn end is told from a broken one.

use serde::{Deserialize, Serialize};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::chain::{BadLine, Line, Link};

/// The first record of every segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentRecord {
    /// The chain's id: the same in every segment of a log.
    pub(super) chain: String,
    pub(super) segment: u64,
    /// The id of the key that signs this segment's heads, and its public half.
    pub(super) key: String,
    pub(super) public_key: String,
    /// Heads are never further apart than this.
    pub(super) head_interval_seconds: u64,
    pub(super) program: String,
}

/// The body of a `retention` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RetentionRecord {
    /// The first segment that is kept, and what its first record continues.
    pub(super) first_kept: u64,
    pub(super) next_seq: u64,
    pub(super) prev: String,
}

pub(super) const RESERVE: &str = "reserve";

pub(super) fn name(segment: u64) -> String {
    format!("audit-{segment:08}.ndjson")
}

/// The numbers of the segments among these file names, in order.
pub(super) fn numbers(names: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| {
            let number = name.strip_prefix("audit-")?.strip_suffix(".ndjson")?.parse().ok()?;
            (*name == self::name(number)).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// What reading a segment came to.
pub(super) struct Reading<'a> {
    pub(super) lines: Vec<Line<'a>>,
    /// The length of the readable part.
    pub(super) good: usize,
    pub(super) end: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The last line is whole.
    Clean,
    /// The file ends in what an interrupted, never acknowledged write leaves: an incomplete last line, or a part that
    /// begins with a line holding bytes that were never written. Of no record that was acknowledged.
    Torn,
    /// A whole line that is not a record.
    Broken(BadLine),
}

/// Reads a segment line by line, up to the first line that is not a record.
///
/// A torn end is what a crash leaves of a batch that was never synced: the last line has no newline, or a line holds
/// NUL, which no record does, because its sectors were allocated and not written. Everything else is not torn but broken.
pub(super) fn read(bytes: &[u8]) -> Reading<'_> {
    let (mut lines, mut good) = (Vec::new(), 0_usize);
    for raw in bytes.split_inclusive(|b| *b == b'\n') {
        let Some(line) = raw.strip_suffix(b"\n") else {
            return Reading { lines, good, end: Ending::Torn };
        };
        let parsed = std::str::from_utf8(line).map_err(|_| BadLine::Form).and_then(Line::parse);
        match parsed {
            Ok(line) => lines.push(line),
            Err(_) if line.contains(&0) => return Reading { lines, good, end: Ending::Torn },
            Err(bad) => return Reading { lines, good, end: Ending::Broken(bad) },
        }
        good = good.saturating_add(raw.len());
    }
    Reading { lines, good, end: Ending::Clean }
}

/// Where and when a segment starts.
pub(super) struct Start {
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) time: OffsetDateTime,
}

/// The start of a segment, by its first record.
pub(super) fn start(bytes: &[u8]) -> Option<Start> {
    let first = bytes.split(|byte| *byte == b'\n').next()?;
    let line = Line::parse(std::str::from_utf8(first).ok()?).ok()?;
    let time = OffsetDateTime::parse(line.time, &Rfc3339).ok()?;
    Some(Start { seq: line.seq, prev: line.prev.to_owned(), time })
}

/// The first line that does not continue the one before, or where the lines lead to.
pub(super) fn follow(lines: &[Line<'_>], mut link: Link) -> Result<Link, u64> {
    for line in lines {
        if !line.continues(&link) {
            return Err(line.seq);
        }
        link = line.link();
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_segments() {
        let names = ["audit-00000002.ndjson", "audit-00000001.ndjson", "audit-1.ndjson", "audit-x.ndjson", "lock"];
        assert_eq!(numbers(&names.map(str::to_owned)), [1, 2]);
    }

    #[test]
    fn a_torn_end_is_told_from_a_broken_line() {
        assert_eq!(read(b"").end, Ending::Clean);
        assert_eq!(read(b"{\"v\":1,").end, Ending::Torn);
        assert_eq!(read(b"\0\0\0\0").end, Ending::Torn);
        assert_eq!(read(b"{\"v\":1\0\0\0}\n").end, Ending::Torn);
        assert_eq!(read(b"{\"v\":1}\n").end, Ending::Broken(BadLine::Form));
    }
}
