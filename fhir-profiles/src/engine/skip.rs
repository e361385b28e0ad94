//! Where the plain part of a string ends: the one loop that most bytes of a document go through.
#![expect(unsafe_code, reason = "bytes are loaded from where the position was compared to leave enough of them")]

/// As many bytes as are looked at in one step.
pub(super) const WIDTH: usize = 16;

/// The bytes of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a> {
    all: &'a [u8],
    /// The first position from which on there are fewer than [`WIDTH`] bytes: one comparison with a bound that does not
    /// change, where a slice of a slice is checked at both ends.
    narrow: usize,
}

impl<'a> Bytes<'a> {
    pub(super) const fn of(all: &'a [u8]) -> Self {
        Self { all, narrow: (all.len() + 1).saturating_sub(WIDTH) }
    }

    #[inline(always)]
    pub(super) fn get(self, at: usize) -> Option<u8> {
        self.all.get(at).copied()
    }

    pub(super) fn range(self, range: core::ops::Range<usize>) -> Option<&'a [u8]> {
        self.all.get(range)
    }

    /// The bytes from here on, if there are so many.
    #[inline(always)]
    pub(super) fn chunk(self, at: usize) -> Option<&'a [u8; WIDTH]> {
        if at >= self.narrow {
            return None;
        }
        // SAFETY: at < narrow = len + 1 - WIDTH, so at + WIDTH is at most the length; an array of bytes needs no alignment.
        Some(unsafe { &*self.all.as_ptr().add(at).cast::<[u8; WIDTH]>() })
    }

    /// Do these two bytes stand here? May be false where they do, among the last few bytes.
    #[inline(always)]
    pub(super) fn joined(self, at: usize, pair: [u8; 2]) -> bool {
        matches!(self.chunk(at), Some([first, second, ..]) if [*first, *second] == pair)
    }

    /// The first position from `at` on that holds a quote, a backslash or a control character; the end if there is none.
    #[inline(always)]
    pub(super) fn plain_until(self, mut at: usize) -> usize {
        while let Some(chunk) = self.chunk(at) {
            if let Some(hit) = first_hit(chunk) {
                return at.wrapping_add(hit);
            }
            at = at.wrapping_add(WIDTH);
        }
        self.plain_until_end(at)
    }

    /// The same among the last few bytes of a document.
    #[cold]
    #[inline(never)]
    fn plain_until_end(self, mut at: usize) -> usize {
        while let Some(byte) = self.get(at) {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                return at;
            }
            at += 1;
        }
        at
    }
}

/// The first of these bytes that is a quote, a backslash or a control character.
///
/// SSE2, which every x86-64 has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn first_hit(chunk: &[u8; WIDTH]) -> Option<usize> {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_xor_si128,
    };
    // SAFETY: the load is unaligned and of the sixteen bytes that the reference holds; the rest is arithmetic of a
    // feature that is part of the target.
    let hits = unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast());
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c));
        // With its second bit turned, a quote is 0x20, a control character stays below, and nothing else comes there.
        let turned = _mm_xor_si128(bytes, _mm_set1_epi8(2));
        let quote_or_control = _mm_cmpeq_epi8(_mm_min_epu8(turned, _mm_set1_epi8(0x20)), turned);
        _mm_movemask_epi8(_mm_or_si128(backslash, quote_or_control))
    };
    (hits != 0).then(|| hits.trailing_zeros() as usize)
}

/// Eight bytes in one word, twice.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn first_hit(chunk: &[u8; WIDTH]) -> Option<usize> {
    let (halves, _) = chunk.as_chunks();
    let mut halves = halves.iter();
    let first = halves.next().and_then(swar_hit);
    first.or_else(|| halves.next().and_then(swar_hit).map(|hit| hit + 8))
}

#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline]
fn swar_hit(chunk: &[u8; 8]) -> Option<usize> {
    const LANES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*chunk);
    let quote = word ^ (LANES * 0x22);
    let backslash = word ^ (LANES * 0x5c);
    // The lowest set high bit is exact: a borrow can only ever disturb lanes above a true hit.
    let hit = (quote.wrapping_sub(LANES) & !quote)
        | (backslash.wrapping_sub(LANES) & !backslash)
        | (word.wrapping_sub(LANES * 0x20) & !word);
    let hit = hit & HIGHS;
    (hit != 0).then(|| (hit.trailing_zeros() / 8) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_there_or_not() {
        for len in 0..40 {
            let bytes: Vec<u8> = (0..len).collect();
            for at in (0..48).chain([usize::MAX, usize::MAX - 1, usize::MAX - 16]) {
                let end = at.checked_add(WIDTH);
                let expected = end.and_then(|end| bytes.get(at..end));
                assert_eq!(Bytes::of(&bytes).chunk(at).map(<[u8; 16]>::as_slice), expected, "{at} of {len}");
            }
        }
    }

    #[test]
    fn the_fast_skips_find_what_the_byte_at_a_time_skip_finds() {
        let slow = |bytes: &[u8]| bytes.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20);
        for byte in 0..=255u8 {
            for place in 0..40 {
                let mut bytes = vec![b'x'; 40];
                bytes[place] = byte;
                assert_eq!(Bytes::of(&bytes).plain_until(0), slow(&bytes).unwrap_or(40), "{byte} at {place}");
                for chunk in bytes.chunks_exact(8) {
                    assert_eq!(swar_hit(chunk.try_into().unwrap()), slow(chunk), "{byte} at {place}");
                }
                for chunk in bytes.chunks_exact(WIDTH) {
                    assert_eq!(first_hit(chunk.try_into().unwrap()), slow(chunk), "{byte} at {place}");
                }
            }
        }
    }
}
