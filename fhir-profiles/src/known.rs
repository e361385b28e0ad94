//! Lists of known words in which a word is found by one comparison, where a sorted list needs a handful that no processor
//! can foresee. Without randomness: the words are ours, and a word that is none of them costs no more than the longest
//! run of neighbours.

/// The places of words in a list of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    words: Vec<&'static str>,
    /// By hash: the number of a word and one, or zero. A word stands at its own place or the next free one.
    slots: Vec<u16>,
}

impl Known {
    /// Of words that all differ, and are fewer than 30,000.
    pub(crate) fn of(words: impl IntoIterator<Item = &'static str>) -> Self {
        let words: Vec<&'static str> = words.into_iter().collect();
        let mut slots = vec![0; (2 * words.len() + 1).next_power_of_two()];
        let last = slots.len() - 1;
        for (word, number) in words.iter().zip(1u16..) {
            let mut place = hash(word);
            while slots.get(place & last).is_some_and(|slot| *slot != 0) {
                place = place.wrapping_add(1);
            }
            if let Some(slot) = slots.get_mut(place & last) {
                *slot = number;
            }
        }
        Self { words, slots }
    }

    /// The place of this word in the list.
    pub(crate) fn find(&self, word: &str) -> Option<usize> {
        let mut place = hash(word);
        loop {
            let number = *self.slots.get(place & self.slots.len().wrapping_sub(1))?;
            let at = usize::from(number.checked_sub(1)?);
            if self.words.get(at) == Some(&word) {
                return Some(at);
            }
            place = place.wrapping_add(1);
        }
    }
}

/// Of both ends and the length.
#[inline]
fn hash(word: &str) -> usize {
    let bytes = word.as_bytes();
    let (first, last) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
    };
    let ends = first.rotate_left(29).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ last;
    (ends.wrapping_add(bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_at_its_place_and_no_other_word() {
        let words = ["", "a", "b", "ab", "Patient", "Observation", "ObservationDefinition", "Patienu"];
        let known = Known::of(words);
        for (word, at) in words.iter().zip(0..) {
            assert_eq!(known.find(word), Some(at), "{word}");
        }
        for other in ["c", "patient", "Observatio", "ObservationDefinitioN", "\0"] {
            assert_eq!(known.find(other), None, "{other}");
        }
        assert_eq!(Known::of([]).find(""), None);
        assert_eq!(Known::default().find("a"), None);
    }
}
