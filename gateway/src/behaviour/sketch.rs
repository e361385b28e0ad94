//! How many distinct patients, in 256 bytes: exactly up to 64, and from there by HyperLogLog (Flajolet et al. 2007) with 256
//! registers, within about 7 %. A bound of a few patients must not be missed because two of them share a register.

const FEW: usize = 64;
const REGISTERS: usize = 256;

/// A sketch of a set, with the two sums that its estimate needs kept up to date.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    items: Items,
    /// The sum of `2^-rank` over the registers.
    sum: f64,
    /// Registers without an item; while items are few, places left.
    empty: u16,
}

#[derive(Clone, Debug)]
enum Items {
    /// The lower half of each hash.
    Few([u32; FEW]),
    Many([u8; REGISTERS]),
}

impl Sketch {
    pub(super) const fn new() -> Self {
        Self { items: Items::Few([0; FEW]), sum: 256.0, empty: 64 }
    }

    /// Adds an item by its 64-bit hash.
    pub(super) fn add(&mut self, hash: u64) {
        match &mut self.items {
            Items::Few(known) => {
                let (lower, count) = ((hash & 0xffff_ffff) as u32, FEW.saturating_sub(usize::from(self.empty)));
                if known.iter().take(count).any(|one| *one == lower) {
                    return;
                }
                match known.get_mut(count) {
                    Some(place) => {
                        *place = lower;
                        self.empty = self.empty.saturating_sub(1);
                    }
                    None => {
                        let known = *known;
                        self.items = Items::Many([0; REGISTERS]);
                        self.empty = 256;
                        known.iter().for_each(|lower| self.register(u64::from(*lower)));
                        self.register(hash);
                    }
                }
            }
            Items::Many(_) => self.register(hash),
        }
    }

    fn register(&mut self, hash: u64) {
        let Items::Many(registers) = &mut self.items else { return };
        let at = usize::from((hash & 0xff) as u8);
        // The lowest byte chose the register; the rest gives the rank of its first one.
        let rank = u8::try_from((hash >> 8).trailing_zeros().min(55)).unwrap_or(55).saturating_add(1);
        let Some(register) = registers.get_mut(at) else { return };
        if rank > *register {
            self.sum += 2.0_f64.powi(-i32::from(rank)) - 2.0_f64.powi(-i32::from(*register));
            self.empty = self.empty.saturating_sub(u16::from(*register == 0));
            *register = rank;
        }
    }

    pub(super) fn estimate(&self) -> f64 {
        if matches!(self.items, Items::Few(_)) {
            return f64::from(64_u16.saturating_sub(self.empty));
        }
        let m = 256.0_f64;
        let alpha = 0.7213 / (1.0 + 1.079 / m);
        let raw = alpha * m * m / self.sum;
        if raw <= 2.5 * m && self.empty > 0 {
            // Linear counting is better while registers are empty.
            return m * (m / f64::from(self.empty)).ln();
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    #[test]
    fn few_are_counted_exactly() {
        let hasher = RandomState::new();
        let mut sketch = Sketch::new();
        for count in 0..=64_u32 {
            assert_eq!(sketch.estimate().to_bits(), f64::from(count).to_bits());
            for _ in 0..2 {
                sketch.add(hasher.hash_one(count));
            }
        }
    }

    #[test]
    fn an_estimate_is_within_a_fifth_and_repetition_changes_nothing() {
        let hasher = RandomState::new();
        for count in [0_u32, 1, 5, 20, 100, 400, 2000, 20_000] {
            let mut sketch = Sketch::new();
            for _ in 0..3 {
                for item in 0..count {
                    sketch.add(hasher.hash_one(item));
                }
            }
            let (estimate, count) = (sketch.estimate(), f64::from(count));
            assert!((estimate - count).abs() <= (0.25 * count).max(0.5), "{estimate} for {count}");
        }
    }
}
