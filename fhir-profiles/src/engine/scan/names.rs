//! The member names that FHIR is full of, each told apart from all others by its length and its first bytes.

mod list;

use crate::engine::json::{Text, decoded, index, slice};
use crate::engine::skip::{Bytes, WIDTH};
use list::NAMES;

/// Member names that mean something to the scanner. First those whose strings are kept ([`Name::KEPT`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Name {
    System,
    Code,
    Value,
    Url,
    Reference,
    ResourceType,
    Id,
    Type,
    Confidentiality,
    FullUrl,
    /// `identifier` and `display`: a Reference without `reference` has one of them.
    Display,
    Extension,
    ValueCoding,
    Meta,
    SecurityLabel,
    /// Other elements that hold URLs.
    Address,
    Contained,
    Entry,
    Parameter,
    Part,
    /// The dates of service, authorship or finding that R4 resources carry at their top.
    Date,
    PeriodEnd,
    Link,
    Request,
    Security,
    Tag,
    VersionId,
    Source,
    Resource,
    Search,
    Response,
    Outcome,
    Mode,
    Other,
}

impl Name {
    /// The names whose strings are kept, whatever the object is.
    pub(super) const KEPT: usize = Self::Display as usize + 1;

    /// Where the string of this name is kept; where nobody looks, if it is of no use.
    #[inline(always)]
    pub(super) fn slot(self) -> usize {
        (self as usize).min(Self::KEPT)
    }
}

/// A set of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names(u64);

impl Names {
    pub(super) const fn of(names: &[Name]) -> Self {
        let (mut bits, mut left) = (0, names);
        while let Some((name, rest)) = left.split_first() {
            bits |= 1 << *name as u32;
            left = rest;
        }
        Self(bits)
    }

    #[inline(always)]
    pub(super) const fn has(self, name: Name) -> bool {
        self.0 >> name as u32 & 1 == 1
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What is compared of a name: its first sixteen bytes, zeros behind a shorter one, and its length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Start {
    words: [u64; 2],
    len: usize,
}

/// One of the names below, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known(u8);

impl Known {
    #[inline(always)]
    pub(super) fn name(self) -> Name {
        MEANINGS.get(usize::from(self.0)).copied().unwrap_or(Name::Other)
    }

    /// A bit of its own among all of them: which word of two, and which bit of it.
    #[inline(always)]
    pub(super) const fn place(self) -> (u8, u64) {
        (self.0 >> 6, 1 << (self.0 & 63))
    }

    fn text(self) -> &'static str {
        TEXTS.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

/// A name as it was read: one of those below, or a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Read {
    Known(Known),
    Other(u32),
}

/// Reads a member name without escapes that starts this chunk and ends in it.
///
/// No byte of it is zero (JSON has no control characters in strings), so that its words tell its length too.
#[inline(always)]
pub(super) fn read_short(chunk: &[u8; WIDTH], len: usize) -> Read {
    let start = Start { words: words_of(chunk, len), len };
    let number = start.number();
    if STARTS.get(usize::from(number)) == Some(&start.words) {
        Read::Known(Known(number))
    } else {
        Read::Other(start.tag())
    }
}

#[inline(always)]
fn words_of(chunk: &[u8; WIDTH], len: usize) -> [u64; 2] {
    let word = u128::from_le_bytes(*chunk) & MASKS.get(len & (WIDTH - 1)).copied().unwrap_or(0);
    [word as u64, (word >> 64) as u64]
}

/// Reads a member name.
#[inline]
pub(super) fn read(document: &str, name: Text) -> Read {
    if name.escaped() {
        return read_decoded(&decoded(document, name));
    }
    let span = name.span();
    let start = Start::of(document.as_bytes(), index(span.start), index(span.end.wrapping_sub(span.start)));
    start.find(|| slice(document, span))
}

#[cold]
fn read_decoded(name: &str) -> Read {
    Start::of(name.as_bytes(), 0, name.len()).find(|| name)
}

impl Start {
    #[inline]
    fn of(bytes: &[u8], at: usize, len: usize) -> Self {
        let Some(chunk) = Bytes::of(bytes).chunk(at) else { return Self::at_the_end(bytes, at, len) };
        let words = if len < WIDTH {
            words_of(chunk, len)
        } else {
            let word = u128::from_le_bytes(*chunk);
            [word as u64, (word >> 64) as u64]
        };
        Self { words, len }
    }

    /// The same for one of the last names of a document.
    #[cold]
    fn at_the_end(bytes: &[u8], at: usize, len: usize) -> Self {
        start_of(bytes.get(at..at + len).unwrap_or_default())
    }

    #[inline]
    const fn hash(self) -> u64 {
        let [first, second] = self.words;
        // Found by trying: no two of the names below meet in the first ten bits.
        (first ^ second.rotate_left(29)).wrapping_add(self.len as u64).wrapping_mul(0xaff9_edb3_9783_b141)
    }

    const fn place(self) -> usize {
        (self.hash() >> 54) as usize
    }

    /// Tells most names apart that are none of those below.
    const fn tag(self) -> u32 {
        (self.hash() >> 32) as u32
    }

    /// The name below that this may be.
    #[inline(always)]
    fn number(self) -> u8 {
        PLACES.get(self.place()).copied().unwrap_or(u8::MAX)
    }

    #[inline]
    fn find<'n>(self, whole: impl Fn() -> &'n str) -> Read {
        let known = Known(self.number());
        let starts_alike = STARTS.get(usize::from(known.0)) == Some(&self.words);
        if starts_alike && known.text().len() == self.len && (self.len <= WIDTH || known.text() == whole()) {
            Read::Known(known)
        } else {
            Read::Other(self.tag())
        }
    }
}

/// By length: the bytes of a chunk that are a name.
static MASKS: [u128; WIDTH] = masks();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn masks() -> [u128; WIDTH] {
    let mut masks = [0; WIDTH];
    let mut len = 1;
    while len < WIDTH {
        masks[len] = u128::MAX >> (128 - 8 * len);
        len += 1;
    }
    masks
}

const COUNT: usize = 128;

/// By [`Start::place`]: the number of the name that may stand there.
static PLACES: [u8; 1024] = places();

/// By number, so many that every `u8` is one: how a name starts. Those that are none start with what no text contains.
static STARTS: [[u64; 2]; 256] = starts();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn starts() -> [[u64; 2]; 256] {
    let mut starts = [[u64::MAX; 2]; 256];
    let (_, texts) = listed();
    let mut number = 0;
    while number < COUNT {
        starts[number] = start_of(texts[number].as_bytes()).words;
        number += 1;
    }
    starts
}

/// By number: what a name means.
static MEANINGS: [Name; 256] = listed().0;

/// By number: the name.
static TEXTS: [&str; COUNT] = listed().1;

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn listed() -> ([Name; 256], [&'static str; COUNT]) {
    let (mut meanings, mut listed) = ([Name::Other; 256], [""; COUNT]);
    let (mut group, mut number) = (0, 0);
    while group < NAMES.len() {
        let (name, texts) = NAMES[group];
        let mut at = 0;
        while at < texts.len() {
            (meanings[number], listed[number]) = (name, texts[at]);
            (at, number) = (at + 1, number + 1);
        }
        group += 1;
    }
    (meanings, listed)
}

#[expect(clippy::indexing_slicing, reason = "asked within its length")]
const fn start_of(text: &[u8]) -> Start {
    let (mut words, mut at) = ([0; 2], 0);
    while at < text.len() && at < WIDTH {
        words[at / 8] |= (text[at] as u64) << (8 * (at % 8));
        at += 1;
    }
    Start { words, len: text.len() }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn places() -> [u8; 1024] {
    let mut places = [u8::MAX; 1024];
    let (_, texts) = listed();
    let mut number = 0;
    while number < COUNT {
        let place = start_of(texts[number].as_bytes()).place();
        assert!(places[place] == u8::MAX, "two names meet: try another factor");
        places[place] = number as u8;
        number += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Option<&'static str> {
        // Far from the end of the text, near it, and at it.
        let text = |read| match read {
            Read::Known(known) => Some(known.text()),
            Read::Other(_) => None,
        };
        let mut document = name.as_bytes().to_vec();
        let alone = text(Start::of(&document, 0, name.len()).find(|| name));
        document.extend_from_slice(b"\":1}");
        let near = text(Start::of(&document, 0, name.len()).find(|| name));
        document.extend_from_slice(b"            ");
        let read = Start::of(&document, 0, name.len()).find(|| name);
        let far = text(read);
        assert!(alone == near && near == far, "{name}");
        if name.len() < WIDTH {
            assert_eq!(read_short(document.first_chunk().unwrap(), name.len()), read, "{name}");
        }
        far
    }

    #[test]
    fn every_name_finds_itself_and_no_other() {
        let names: Vec<&str> = NAMES.iter().flat_map(|(_, texts)| texts.iter().copied()).collect();
        assert_eq!(names.len(), COUNT);
        for name in &names {
            assert_eq!(found(name), Some(*name));
            for near in [format!("{name}s"), format!("_{name}"), name.to_uppercase(), name.replacen(['e', 'a'], "o", 1)]
            {
                assert_eq!(found(&near), names.iter().copied().find(|known| *known == near), "{near}");
            }
        }
        // Alike at both ends, and as long.
        assert_eq!(found("medicationXXXXableConcept"), None);
        assert_eq!(found(""), None);
        let places: std::collections::BTreeSet<_> = (0..COUNT as u8).map(|number| Known(number).place()).collect();
        assert!(places.len() == COUNT && places.iter().all(|(word, _)| *word < 2), "a bit for each");
    }
}
