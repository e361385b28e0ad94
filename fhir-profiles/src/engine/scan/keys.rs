//! No member name twice in one object: two readers would take two different values.

use crate::engine::ScanError;
use crate::engine::json::{Cursor, Text};

/// Objects with more members than this are looked at once, sorted, when they end.
const MANY: usize = 48;

/// The member names of all objects that are open.
#[derive(Default)]
pub(super) struct Keys {
    names: Vec<(u32, Text)>,
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
        let hash =
            if name.escaped { hash(cursor.decoded(name).as_bytes()) } else { hash(cursor.slice(name.span).as_bytes()) };
        let bit = 1 << (hash & 63);
        if frame.seen.get() & bit != 0 {
            let earlier = self.names.get(frame.start..).unwrap_or_default();
            let twin = |(other, text): &(u32, Text)| *other == hash && cursor.decoded(*text) == cursor.decoded(name);
            if earlier.len() <= MANY && earlier.iter().any(twin) {
                return Err(ScanError::DuplicateMember);
            }
        }
        frame.seen.set(frame.seen.get() | bit);
        self.names.push((hash, name));
        Ok(())
    }

    pub(super) fn close(&mut self, frame: &Frame, cursor: &Cursor<'_>) -> Result<(), ScanError> {
        if self.names.len() - frame.start > MANY {
            let mut names: Vec<_> = self
                .names
                .get(frame.start..)
                .unwrap_or_default()
                .iter()
                .map(|(_, name)| cursor.decoded(*name))
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
