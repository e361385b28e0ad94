//! No member name twice in one object: two readers would take two different values.

use std::borrow::Cow;

use super::names::{self, Name, Read};
use crate::engine::ScanError;
use crate::engine::json::{Text, decoded, index, string};
use crate::engine::skip::{Bytes, WIDTH};

/// Objects with more unusual members than this are looked at once, sorted, when they end.
const MANY: usize = 48;

/// The unusual member names of all objects that are open.
pub(super) struct Keys {
    /// (hash, where the name starts): what it is, is read again in the rare case that it matters.
    names: Vec<(u32, u32)>,
}

/// One open object.
pub(super) struct Frame {
    start: usize,
    /// The usual names that it has, a bit for each.
    usual: [u64; 2],
    /// A bit for each hash of the others: no bit, no twin.
    seen: u64,
}

impl Default for Keys {
    fn default() -> Self {
        Self { names: Vec::with_capacity(16) }
    }
}

impl Keys {
    #[inline]
    pub(super) fn open(&self) -> Frame {
        Frame { start: self.names.len(), usual: [0; 2], seen: 0 }
    }

    /// Takes the name of a member, and answers what it means.
    #[inline]
    pub(super) fn add(&mut self, frame: &mut Frame, document: &str, name: Text) -> Result<Name, ScanError> {
        self.add_read(frame, document, name, names::read(document, name))
    }

    /// The same for a name without escapes that starts this chunk and ends in it.
    #[inline(always)]
    pub(super) fn add_short(
        &mut self,
        frame: &mut Frame,
        document: &str,
        name: Text,
        chunk: &[u8; WIDTH],
        len: usize,
    ) -> Result<Name, ScanError> {
        self.add_read(frame, document, name, names::read_short(chunk, len))
    }

    #[inline(always)]
    fn add_read(&mut self, frame: &mut Frame, document: &str, name: Text, read: Read) -> Result<Name, ScanError> {
        match read {
            Read::Known(known) => {
                let (word, bit) = known.place();
                let [low, high] = &mut frame.usual;
                let twin;
                if word == 0 {
                    (twin, *low) = (*low & bit != 0, *low | bit);
                } else {
                    (twin, *high) = (*high & bit != 0, *high | bit);
                }
                if twin { Err(ScanError::DuplicateMember) } else { Ok(known.name()) }
            }
            Read::Other(hash) => self.add_unusual(frame, document, name, hash).map(|()| Name::Other),
        }
    }

    fn add_unusual(&mut self, frame: &mut Frame, document: &str, name: Text, hash: u32) -> Result<(), ScanError> {
        let bit = 1 << (hash & 63);
        if frame.seen & bit != 0 {
            let earlier = self.names.get(frame.start..).unwrap_or_default();
            let twin =
                |(other, start): &(u32, u32)| *other == hash && name_at(document, *start) == decoded(document, name);
            if earlier.len() <= MANY && earlier.iter().any(twin) {
                return Err(ScanError::DuplicateMember);
            }
        }
        frame.seen |= bit;
        self.names.push((hash, name.span().start));
        Ok(())
    }

    #[inline]
    pub(super) fn close(&mut self, frame: &Frame, document: &str) -> Result<(), ScanError> {
        if self.names.len() == frame.start { Ok(()) } else { self.close_unusual(frame, document) }
    }

    fn close_unusual(&mut self, frame: &Frame, document: &str) -> Result<(), ScanError> {
        if self.names.len() - frame.start > MANY {
            let names = self.names.get(frame.start..).unwrap_or_default();
            let mut names: Vec<_> = names.iter().map(|(_, start)| name_at(document, *start)).collect();
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
fn name_at(document: &str, start: u32) -> Cow<'_, str> {
    let quote = index(start).saturating_sub(1);
    string(Bytes::of(document.as_bytes()), quote).map(|(name, _)| decoded(document, name)).unwrap_or_default()
}
