//! Following a log as it grows: every record is read once, however long its segment is.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::chain::Line;
use super::disk::names;
use super::read::{Entry, chain_of, entry, first_seq};
use super::seal::{EncryptionKey, Sealer};
use super::segment;

/// A reader that knows where it stands.
pub(super) struct Tail {
    dir: PathBuf,
    key: Option<EncryptionKey>,
    at: Option<At>,
}

struct At {
    segment: u64,
    /// Where in the segment the next line begins.
    offset: u64,
    /// The last record that was passed.
    seq: u64,
    sealer: Option<Sealer>,
}

impl Tail {
    pub(super) fn new(dir: PathBuf, key: Option<EncryptionKey>) -> Self {
        Self { dir, key, at: None }
    }

    /// The next entries after `seq`, up to and with `last`, at most so many.
    ///
    /// # Errors
    /// When a file cannot be read; the next call looks for its place anew.
    pub(super) fn next(&mut self, seq: u64, last: u64, most: usize) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let stood = self.at.take().filter(|at| at.seq == seq);
        let Some(mut at) = (match stood {
            Some(at) => Some(at),
            None => self.seek(seq)?,
        }) else {
            return Ok(found);
        };
        while !self.read(&mut at, last, most, &mut found)? {
            let next = at.segment.saturating_add(1);
            if !self.dir.join(segment::name(next)).exists() {
                break;
            }
            at = At { segment: next, offset: 0, seq: at.seq, sealer: None };
        }
        self.at = Some(at);
        Ok(found)
    }

    /// The start of the segment that holds the record after `seq`, or of the first that is kept.
    fn seek(&self, seq: u64) -> io::Result<Option<At>> {
        let mut segment = None;
        for number in segment::numbers(&names(&self.dir)?).into_iter().rev() {
            segment = Some(number);
            if first_seq(&self.dir.join(segment::name(number)))?.is_some_and(|first| first <= seq.saturating_add(1)) {
                break;
            }
        }
        Ok(segment.map(|segment| At { segment, offset: 0, seq, sealer: None }))
    }

    /// Reads on in one segment. `true`: there is enough; `false`: the segment has no more.
    fn read(&self, at: &mut At, last: u64, most: usize, found: &mut Vec<Entry>) -> io::Result<bool> {
        let mut file = File::open(self.dir.join(segment::name(at.segment)))?;
        file.seek(SeekFrom::Start(at.offset))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut bytes = Vec::new();
        // Beyond the last durable record there may be half a line, or a reserve of zeros.
        while at.seq < last && found.len() < most {
            bytes.clear();
            let read = file.read_until(b'\n', &mut bytes)?;
            if bytes.pop() != Some(b'\n') {
                return Ok(false);
            }
            at.offset = at.offset.saturating_add(read as u64);
            // Whether the log is whole is for `verify` to say.
            let Some(line) = std::str::from_utf8(&bytes).ok().and_then(|line| Line::parse(line).ok()) else { continue };
            if let (None, Some(key), Some(chain)) = (&at.sealer, &self.key, chain_of(&line)) {
                at.sealer = key.sealer(&chain, at.segment);
            }
            if line.seq > at.seq {
                at.seq = line.seq;
                found.extend(entry(&line, at.sealer.as_ref()));
            }
        }
        Ok(true)
    }
}
