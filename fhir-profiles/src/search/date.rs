//! FHIR dates as intervals of time: a date of less precision is the whole day, month or year (R4 search.html#date).

/// From the first to the last nanosecond that a date may mean, since 0001-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start: i128,
    pub(super) end: i128,
}

const SECOND: i128 = 1_000_000_000;

impl Interval {
    /// Refuses what is no FHIR date, dateTime or instant. A time without a zone is read as UTC, as R4 lets servers choose.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = i64::from(digits(parts.next()?, 4)?);
        let month = match parts.next() {
            Some(month) => Some(digits(month, 2).filter(|m| (1..=12).contains(m))?),
            None => None,
        };
        let day = match (parts.next(), month) {
            (Some(day), Some(month)) => Some(digits(day, 2).filter(|d| (1..=days_in(year, month)).contains(d))?),
            _ => None,
        };
        if parts.next().is_some() || year == 0 {
            return None;
        }
        let midnight = |y, m, d| i128::from(days_from_epoch(y, m, d)) * 86_400 * SECOND;
        let start = midnight(year, month.unwrap_or(1), day.unwrap_or(1));
        let Some(time) = time else {
            let end = match (month, day) {
                (Some(_), Some(_)) => start + 86_400 * SECOND,
                (Some(12), None) | (None, _) => midnight(year + 1, 1, 1),
                (Some(month), None) => midnight(year, month + 1, 1),
            };
            return Some(Self { start, end: end - 1 });
        };
        day?;
        let (clock, offset) = zone(time)?;
        let (seconds, length) = clock_of_day(clock)?;
        let start = start + seconds - i128::from(offset) * 60 * SECOND;
        Some(Self { start, end: start + length - 1 })
    }
}

/// The clock part and the offset in minutes.
fn zone(time: &str) -> Option<(&str, i32)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = time.rfind(['+', '-', ' ']) else { return Some((time, 0)) };
    let (clock, offset) = time.split_at_checked(at)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes =
        i32::try_from(digits(hours, 2).filter(|h| *h <= 14)? * 60 + digits(minutes, 2).filter(|m| *m < 60)?).ok()?;
    Some((clock, if offset.starts_with('-') { -minutes } else { minutes }))
}

/// Nanoseconds into the day, and the length of what the precision leaves open.
fn clock_of_day(clock: &str) -> Option<(i128, i128)> {
    let mut parts = clock.split(':');
    let hours = digits(parts.next()?, 2).filter(|h| *h < 24)?;
    let minutes = digits(parts.next()?, 2).filter(|m| *m < 60)?;
    let whole = i128::from(hours * 3600 + minutes * 60) * SECOND;
    let Some(seconds) = parts.next() else { return Some((whole, 60 * SECOND)) };
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = match seconds.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (seconds, None),
    };
    let whole = whole + i128::from(digits(seconds, 2).filter(|s| *s <= 60)?) * SECOND;
    let Some(fraction) = fraction else { return Some((whole, SECOND)) };
    let width = u32::try_from(fraction.len()).ok().filter(|width| (1..=9).contains(width))?;
    let unit = 10_i128.pow(9 - width);
    Some((whole + i128::from(digits(fraction, fraction.len())?) * unit, unit))
}

fn digits(text: &str, width: usize) -> Option<u32> {
    (text.len() == width && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn days_in(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 0000-03-01 of the proleptic Gregorian calendar (H. Hinnant, `days_from_civil`, without its shift to 1970).
fn days_from_epoch(year: i64, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, i64::from(month) - 3) } else { (year - 1, i64::from(month) + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_whole_time_that_it_leaves_open() {
        let of = |text: &str| Interval::parse(text).unwrap();
        assert_eq!(of("2024").end + 1, of("2025").start);
        assert_eq!(of("2024-02").end + 1, of("2024-03").start);
        assert_eq!(of("2024-12").end + 1, of("2025-01").start);
        assert_eq!(of("2024-02-29").end + 1, of("2024-03-01").start);
        assert_eq!(of("2024-03-01T00:00Z").start, of("2024-03-01").start);
        assert_eq!(of("2024-03-01T01:00:00+01:00").start, of("2024-03-01").start);
        assert_eq!(of("2024-03-01T00:00:00.5Z").start - of("2024-03-01").start, SECOND / 2);
        assert_eq!(of("2024-03-01T10:00:00Z").end - of("2024-03-01T10:00:00Z").start + 1, SECOND);
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for wrong in [
            "",
            "24",
            "2024-13",
            "2024-00",
            "2023-02-29",
            "2024-1-1",
            "2024-01-01T",
            "2024-01T10:00",
            "2024-01-01T25:00",
            "gt2024",
            "0000",
            "2024-01-01T10:00:00+99:00",
        ] {
            assert_eq!(Interval::parse(wrong), None, "{wrong}");
        }
    }
}
