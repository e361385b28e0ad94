//! Texts that repeat in a document are looked up once. Bounded and without randomness: a table for what was just seen,
//! a sorted map behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::json::{Cursor, Text, offset};
use crate::labeller::{Labeller, SystemCodes};
use crate::reference::Reference;

const SLOTS: usize = 64;

#[inline]
fn slot(text: &str) -> usize {
    let bytes = text.as_bytes();
    let tail = bytes.len().checked_sub(8).and_then(|from| bytes.get(from..)).and_then(|b| b.try_into().ok());
    let word = tail.map_or_else(|| bytes.iter().fold(0, |sum, b| sum << 5 ^ u64::from(*b)), u64::from_le_bytes);
    (word.wrapping_add(bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
}

/// Each distinct reference of a document, once.
pub(super) struct Interner<'a> {
    recent: [Option<(&'a str, u32)>; SLOTS],
    numbers: BTreeMap<&'a str, u32>,
    pub(super) unique: Vec<Arc<Reference>>,
}

impl Default for Interner<'_> {
    fn default() -> Self {
        Self { recent: [None; SLOTS], numbers: BTreeMap::new(), unique: Vec::with_capacity(16) }
    }
}

impl<'a> Interner<'a> {
    /// The number of this text as it is written; parsed when it is new.
    pub(super) fn number(&mut self, cursor: &Cursor<'a>, text: Text, parse: impl FnOnce() -> Arc<Reference>) -> u32 {
        let written = cursor.slice(text.span());
        let slot = slot(written);
        if let Some(Some((known, number))) = self.recent.get(slot)
            && *known == written
        {
            return *number;
        }
        let next = offset(self.unique.len());
        let unique = &mut self.unique;
        let number = *self.numbers.entry(written).or_insert_with(|| {
            unique.push(parse());
            next
        });
        if let Some(recent) = self.recent.get_mut(slot) {
            *recent = Some((written, number));
        }
        number
    }
}

/// The listed codes of a system, by the name it is written with.
pub(super) struct SystemCache<'a, 'l> {
    recent: [Option<(&'a str, Option<&'l SystemCodes>)>; SLOTS],
}

impl Default for SystemCache<'_, '_> {
    fn default() -> Self {
        Self { recent: [None; SLOTS] }
    }
}

impl<'a, 'l> SystemCache<'a, 'l> {
    pub(super) fn codes(&mut self, cursor: &Cursor<'a>, name: Text, labeller: &'l Labeller) -> Option<&'l SystemCodes> {
        let written = cursor.slice(name.span());
        // Two places for each name, so that two systems that meet in one do not drive each other out.
        let slot = slot(written);
        for place in [slot, slot ^ 1] {
            if let Some(Some((known, codes))) = self.recent.get(place)
                && *known == written
            {
                return *codes;
            }
        }
        let codes = labeller.system(&cursor.decoded(name));
        let before = self.recent.get_mut(slot).and_then(|recent| recent.replace((written, codes)));
        if let (Some(_), Some(other)) = (before, self.recent.get_mut(slot ^ 1)) {
            *other = before;
        }
        codes
    }
}
