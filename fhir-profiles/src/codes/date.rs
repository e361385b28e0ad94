//! Calendar days, as far as code lists need them: compared, never calculated with.

/// A day, ordered as the calendar orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(u32);

impl Date {
    pub const MIN: Self = Self(0);
    pub const MAX: Self = Self::new(9999, 12, 31);

    pub const fn new(year: u32, month: u32, day: u32) -> Self {
        Self(year * 10_000 + month * 100 + day)
    }
}

/// A span of days, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dates {
    pub from: Date,
    pub to: Date,
}

impl Dates {
    pub const ALWAYS: Self = Self { from: Date::MIN, to: Date::MAX };

    pub const fn new(from: Date, to: Date) -> Self {
        Self { from, to }
    }

    /// The days that a FHIR date, dateTime or instant covers: `2021` is the whole year. `None` if it is none of them.
    pub fn covered_by(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if let [y, e, a, r, b'-', m, o, b'-', d, n, ..] = bytes {
            let day = Date::new(digits(&[*y, *e, *a, *r])?, digits(&[*m, *o])?, digits(&[*d, *n])?);
            return Some(Self::new(day, day));
        }
        let number = |range: core::ops::Range<usize>| digits(bytes.get(range)?);
        let year = number(0..4)?;
        match (bytes.len(), bytes.get(4)) {
            (4, _) => Some(Self::new(Date::new(year, 1, 1), Date::new(year, 12, 31))),
            (7, Some(b'-')) => {
                let month = number(5..7)?;
                Some(Self::new(Date::new(year, month, 1), Date::new(year, month, 31)))
            }
            _ => None,
        }
    }

    pub fn meets(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    /// The shortest span that covers both.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

/// A number of few digits and nothing else.
#[inline]
fn digits(bytes: &[u8]) -> Option<u32> {
    let digit = |byte: u8| if byte.is_ascii_digit() { Some(u32::from(byte - b'0')) } else { None };
    bytes.iter().try_fold(0, |number, byte| Some(number * 10 + digit(*byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_dates_cover_what_they_leave_open() {
        let day = |y, m, d| Date::new(y, m, d);
        assert_eq!(Dates::covered_by("2007"), Some(Dates::new(day(2007, 1, 1), day(2007, 12, 31))));
        assert_eq!(Dates::covered_by("2007-10"), Some(Dates::new(day(2007, 10, 1), day(2007, 10, 31))));
        assert_eq!(Dates::covered_by("2007-10-02T01:02:03Z"), Some(Dates::new(day(2007, 10, 2), day(2007, 10, 2))));
        for wrong in ["", "07", "2007-1", "2007/10/02", "x007", "20071002"] {
            assert_eq!(Dates::covered_by(wrong), None, "{wrong}");
        }
    }
}
