//! No member name twice in one object: two readers would take two different values.

use std::borrow::Cow;

use crate::engine::ScanError;
use crate::engine::json::{Cursor, Text, index};

/// Objects with more members than this are looked at once, sorted, when they end.
const MANY: usize = 48;

/// The member names of all objects that are open.
#[derive(Default)]
pub(super) struct Keys {
    /// (hash, where the name starts): what it is, is read again in the rare case that it matters.
    names: Vec<(u32, u32)>,
}

/// One open object.
pub(super) struct Frame {
    start: usize,
    /// A bit for each hash seen: no bit, no twin.
    seen: core::cell::Cell<u64>,
}

impl Keys {
    pub(super) fn open(&self) -> Frame {
        Frame { start: self.names.len(), seen: core::cell::Cell::new(0) }
    }

    #[inline]
    pub(super) fn add(&mut self, frame: &Frame, cursor: &Cursor<'_>, name: Text) -> Result<(), ScanError> {
        let hash = if name.escaped() {
            hash(cursor.decoded(name).as_bytes())
        } else {
            hash(cursor.slice(name.span()).as_bytes())
        };
        let bit = 1 << (hash & 63);
        if frame.seen.get() & bit != 0 {
            let earlier = self.names.get(frame.start..).unwrap_or_default();
            let twin = |(other, start): &(u32, u32)| *other == hash && name_at(cursor, *start) == cursor.decoded(name);
            if earlier.len() <= MANY && earlier.iter().any(twin) {
                return Err(ScanError::DuplicateMember);
            }
        }
        frame.seen.set(frame.seen.get() | bit);
        self.names.push((hash, name.span().start));
        Ok(())
    }

    pub(super) fn close(&mut self, frame: &Frame, cursor: &Cursor<'_>) -> Result<(), ScanError> {
        if self.names.len() - frame.start > MANY {
            let mut names: Vec<_> = self
                .names
                .get(frame.start..)
                .unwrap_or_default()
                .iter()
                .map(|(_, start)| name_at(cursor, *start))
                .collect();
            names.sort_unstable();
            if names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
                return Err(ScanError::DuplicateMember);
            }
        }
        self.names.truncate(frame.start);
        Ok(())
    }
}

/// The name that starts here.
#[cold]
fn name_at<'a>(cursor: &Cursor<'a>, start: u32) -> Cow<'a, str> {
    let mut again = Cursor::new(cursor.text);
    again.at = index(start).saturating_sub(1);
    again.string().map(|name| again.decoded(name)).unwrap_or_default()
}

/// Length, first and last bytes: enough to tell the members of one FHIR object apart.
#[inline]
fn hash(name: &[u8]) -> u32 {
    let word = |bytes: Option<&[u8]>| bytes.and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (head, tail) = if name.len() >= 4 {
        (word(name.get(..4)), word(name.get(name.len() - 4..)))
    } else {
        (name.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)), 0)
    };
    let mixed = (head ^ tail.rotate_left(15)).wrapping_add(name.len() as u32).wrapping_mul(0x9E37_79B1);
    mixed ^ mixed >> 15
}
