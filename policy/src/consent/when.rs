//! FHIR dates and periods (R4 datatypes.html#dateTime, #Period), compared without guessing a time zone.
//!
//! A partial date stands for all of its instants, both ends of a period are inclusive, and a date without a time has no
//! time zone: what depends on the zone is [`Match::Maybe`], which a permit reads as no and a deny as yes.

use time::{Date, Month, OffsetDateTime, UtcOffset};

/// How surely something holds. Ordered: `and` is the minimum, `or` the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It does not hold.
    No,
    /// It cannot be told from what is given.
    Maybe,
    /// It holds.
    Yes,
}

impl Match {
    pub(super) const fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }

    /// The alternative that holds best; [`Match::No`] of none.
    pub(super) fn any(items: impl IntoIterator<Item = Self>) -> Self {
        items.into_iter().max().unwrap_or(Self::No)
    }
}

/// Where the dates of a Consent may have been written: the offsets its organization's wall clocks can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The lowest offset from UTC, such as -05:00.
    pub west: UtcOffset,
    /// The highest offset from UTC, such as -04:00.
    pub east: UtcOffset,
}

impl Zone {
    /// Anywhere on Earth: from UTC-12:00 to UTC+14:00.
    pub const ANYWHERE: Self = Self { west: time::macros::offset!(-12:00), east: time::macros::offset!(+14:00) };
}

impl Default for Zone {
    fn default() -> Self {
        Self::ANYWHERE
    }
}

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// An instant on a wall clock, in nanoseconds since 1970, and the clock's offset if it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instant {
    local: i128,
    offset: Option<i32>,
}

impl Instant {
    fn range(self, zone: Zone) -> (i128, i128) {
        let utc = |offset: i32| self.local - i128::from(offset) * SECOND;
        match self.offset {
            Some(offset) => (utc(offset), utc(offset)),
            None => (utc(zone.east.whole_seconds()), utc(zone.west.whole_seconds())),
        }
    }

    /// Is this instant at or before `other`? Two without an offset are taken to be of one clock.
    fn at_or_before(self, other: Self, zone: Zone) -> Match {
        if self.offset.is_none() && other.offset.is_none() {
            return Match::of(self.local <= other.local);
        }
        let ((self_first, self_last), (other_first, other_last)) = (self.range(zone), other.range(zone));
        if self_last <= other_first {
            Match::Yes
        } else if self_first > other_last {
            Match::No
        } else {
            Match::Maybe
        }
    }
}

/// A `date` or `dateTime` at the precision it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FhirTime {
    first: Instant,
    /// The first instant after it.
    after: Instant,
}

impl FhirTime {
    /// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or `YYYY-MM-DDThh:mm:ss[.f](Z|±hh:mm)`, and nothing else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once('T') {
            Some((date, time)) => Self::parse_instant(date, time),
            None => Self::parse_date(text),
        }
    }

    fn parse_date(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let year = i32::try_from(digits(parts.next()?, 4)?).ok().filter(|year| *year > 0)?;
        let month =
            parts.next().map(|month| digits(month, 2).and_then(month_of)).map_or(Some(None), |m| m.map(Some))?;
        let day = parts.next().map(|day| digits(day, 2)).map_or(Some(None), |d| d.map(Some))?;
        let (first, last) = match (month, day) {
            (None, _) => (midnight(year, Month::January, 1)?, midnight(year, Month::December, 31)?),
            (Some(month), None) => (midnight(year, month, 1)?, midnight(year, month, month.length(year))?),
            (Some(month), Some(day)) => {
                let only = midnight(year, month, u8::try_from(day).ok()?)?;
                (only, only)
            }
        };
        let at = |local| Instant { local, offset: None };
        Some(Self { first: at(first), after: at(last + DAY) })
    }

    fn parse_instant(date: &str, time: &str) -> Option<Self> {
        let day = Self::parse_date(date).filter(|_| date.len() == 10)?;
        let zone_at = time.find(['Z', '+', '-'])?;
        let (clock, zone) = time.split_at_checked(zone_at)?;
        let offset = parse_offset(zone)?;
        let (clock, fraction) = match clock.split_once('.') {
            Some((clock, fraction)) => (clock, Some(fraction)),
            None => (clock, None),
        };
        let mut parts = clock.split(':');
        let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
        let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
        // 60 is a leap second (the R4 grammar allows it).
        if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (nanoseconds, precision) = match fraction {
            None => (0, SECOND),
            Some(fraction) => parse_fraction(fraction)?,
        };
        let local = day.first.local + i128::from(hour * 3600 + minute * 60 + second) * SECOND + nanoseconds;
        let at = |local| Instant { local, offset: Some(offset) };
        Some(Self { first: at(local), after: at(local + precision) })
    }

    /// The day of its last instant, on the clock it was written by.
    pub(super) fn last_day(&self) -> Option<String> {
        let last = OffsetDateTime::from_unix_timestamp_nanos(self.after.local - 1).ok()?.date();
        Some(format!("{:04}-{:02}-{:02}", last.year(), u8::from(last.month()), last.day()))
    }

    /// Does all of it lie after `now`, wherever it was written?
    pub(super) fn is_after(&self, now: OffsetDateTime, zone: Zone) -> bool {
        self.first.at_or_before(instant(now), zone) == Match::No
    }
}

fn digits(text: &str, length: usize) -> Option<u32> {
    (text.len() == length && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn month_of(number: u32) -> Option<Month> {
    Month::try_from(u8::try_from(number).ok()?).ok()
}

fn midnight(year: i32, month: Month, day: u8) -> Option<i128> {
    Date::from_calendar_date(year, month, day).ok().map(|date| date.midnight().assume_utc().unix_timestamp_nanos())
}

fn parse_offset(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    // R4 grammar: up to 14:00.
    (minutes <= 59 && hours * 60 + minutes <= 14 * 60)
        .then(|| i32::try_from(hours * 3600 + minutes * 60).ok())?
        .map(|s| sign * s)
}

/// The nanoseconds of a fraction of a second, and how long its last digit lasts.
fn parse_fraction(text: &str) -> Option<(i128, i128)> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (mut nanoseconds, mut unit) = (0, SECOND);
    for digit in text.bytes().take(9) {
        unit /= 10;
        nanoseconds += i128::from(digit - b'0') * unit;
    }
    Some((nanoseconds, unit))
}

fn instant(now: OffsetDateTime) -> Instant {
    Instant { local: now.unix_timestamp_nanos(), offset: Some(0) }
}

/// One end of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Not given: no bound on this side.
    Open,
    At(FhirTime),
    /// Given as an extension only: there is a bound, and it is not known.
    Unknown,
}

/// A FHIR `Period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) start: Bound,
    pub(super) end: Bound,
}

impl Period {
    /// per-1: the start is not after the end.
    pub(super) fn is_ordered(&self, zone: Zone) -> bool {
        match (self.start, self.end) {
            (Bound::At(start), Bound::At(end)) => start.first.at_or_before(end.after, zone) != Match::No,
            (Bound::At(_) | Bound::Open | Bound::Unknown, _) => true,
        }
    }

    /// Does the period contain `now`?
    pub(super) fn holds(&self, now: OffsetDateTime, zone: Zone) -> Match {
        let now = instant(now);
        let begun = match self.start {
            Bound::Open => Match::Yes,
            Bound::Unknown => Match::Maybe,
            Bound::At(start) => start.first.at_or_before(now, zone),
        };
        let ended = match self.end {
            Bound::Open => Match::No,
            Bound::Unknown => Match::Maybe,
            Bound::At(end) => end.after.at_or_before(now, zone),
        };
        begun.min(ended.not())
    }

    /// Does the period contain all of `span` (yes), touch it or perhaps (maybe), or miss it?
    pub(super) fn covers(&self, span: &TimeSpan, zone: Zone) -> Match {
        let starts_before = match (self.start, span.0.start) {
            (Bound::Open, _) => Match::Yes,
            (Bound::Unknown, _) | (Bound::At(_), Bound::Open | Bound::Unknown) => Match::Maybe,
            (Bound::At(own), Bound::At(other)) => own.first.at_or_before(other.first, zone),
        };
        let ends_after = match (span.0.end, self.end) {
            (_, Bound::Open) => Match::Yes,
            (_, Bound::Unknown) | (Bound::Open | Bound::Unknown, Bound::At(_)) => Match::Maybe,
            (Bound::At(other), Bound::At(own)) => other.after.at_or_before(own.after, zone),
        };
        match (starts_before.min(ends_after), self.meets(span, zone)) {
            (_, Match::No) => Match::No,
            (Match::Yes, _) => Match::Yes,
            (Match::Maybe | Match::No, _) => Match::Maybe,
        }
    }

    /// Do the period and `span` share an instant?
    pub(super) fn meets(&self, span: &TimeSpan, zone: Zone) -> Match {
        let ends_too_early = |end: Bound, start: Bound| match (end, start) {
            (Bound::Open, _) | (_, Bound::Open) => Match::No,
            (Bound::Unknown, _) | (_, Bound::Unknown) => Match::Maybe,
            (Bound::At(end), Bound::At(start)) => end.after.at_or_before(start.first, zone),
        };
        ends_too_early(self.end, span.0.start).not().min(ends_too_early(span.0.end, self.start).not())
    }
}

/// When what a resource describes took place: the FHIR `dateTime` or `Period` that bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSpan(Period);

impl TimeSpan {
    /// A moment, at the precision it is written with. `None` if it is no R4 `date`, `dateTime` or `instant`.
    pub fn moment(text: &str) -> Option<Self> {
        let at = Bound::At(FhirTime::parse(text)?);
        Some(Self(Period { start: at, end: at }))
    }

    /// The span from the earlier start to the later end.
    pub(super) fn hull(&self, other: &Self) -> Self {
        let first = |at: &FhirTime| at.first.range(Zone::ANYWHERE).0;
        let last = |at: &FhirTime| at.after.range(Zone::ANYWHERE).1;
        let outer = |a: Bound, b: Bound, earlier: bool| match (a, b) {
            (Bound::At(x), Bound::At(y)) => {
                let x_is_outer = if earlier { first(&x) <= first(&y) } else { last(&x) >= last(&y) };
                Bound::At(if x_is_outer { x } else { y })
            }
            (Bound::Open | Bound::Unknown, _) | (_, Bound::Open | Bound::Unknown) => Bound::Open,
        };
        Self(Period { start: outer(self.0.start, other.0.start, true), end: outer(self.0.end, other.0.end, false) })
    }

    /// A period; a missing end is open. `None` if a bound is no R4 `dateTime`.
    pub fn period(start: Option<&str>, end: Option<&str>) -> Option<Self> {
        let bound = |text: Option<&str>| match text {
            None => Some(Bound::Open),
            Some(text) => FhirTime::parse(text).map(Bound::At),
        };
        Some(Self(Period { start: bound(start)?, end: bound(end)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn period(start: Option<&str>, end: Option<&str>) -> Period {
        TimeSpan::period(start, end).unwrap().0
    }

    #[test]
    fn only_r4_dates_are_read() {
        for right in [
            "2026",
            "2026-02",
            "2024-02-29",
            "2026-02-03T04:05:06Z",
            "2026-02-03T04:05:06.123456789123+14:00",
            "2026-12-31T23:59:60-05:00",
            "9999-12-31",
            "0001",
        ] {
            assert!(FhirTime::parse(right).is_some(), "{right}");
        }
        for wrong in [
            "",
            "26",
            "0000",
            "2026-",
            "2026-13",
            "2026-00",
            "2026-2",
            "2026-02-30",
            "2025-02-29",
            "2026-02-03-04",
            "2026-02-03T04:05Z",
            "2026-02-03T04:05:06",
            "2026-02T04:05:06Z",
            "2026-02-03T24:00:00Z",
            "2026-02-03T04:60:00Z",
            "2026-02-03T04:05:61Z",
            "2026-02-03T04:05:06.Z",
            "2026-02-03T04:05:06+14:01",
            "2026-02-03T04:05:06+1:00",
            "2026-02-03T04:05:06z",
            "2026-02-03 04:05:06Z",
            "+2026",
            "20260203",
            " 2026",
            "2026-02-03T04:05:06Z ",
            "2026-02-03TZ",
            "2026-02-03T04:05:06:07Z",
            "２０２６",
        ] {
            assert!(FhirTime::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn both_ends_are_inclusive_at_their_precision() {
        let zone = Zone { west: UtcOffset::UTC, east: UtcOffset::UTC };
        let in_2025 = period(Some("2025"), Some("2025"));
        assert_eq!(in_2025.holds(datetime!(2024-12-31 23:59:59.999 UTC), zone), Match::No);
        assert_eq!(in_2025.holds(datetime!(2025-01-01 0:00 UTC), zone), Match::Yes);
        assert_eq!(in_2025.holds(datetime!(2025-12-31 23:59:59.999 UTC), zone), Match::Yes);
        assert_eq!(in_2025.holds(datetime!(2026-01-01 0:00 UTC), zone), Match::No);
        let february = period(None, Some("2024-02"));
        assert_eq!(february.holds(datetime!(2024-02-29 23:59 UTC), zone), Match::Yes);
        assert_eq!(february.holds(datetime!(2024-03-01 0:00 UTC), zone), Match::No);
        let second = period(None, Some("2024-02-01T10:00:00+02:00"));
        assert_eq!(second.holds(datetime!(2024-02-01 8:00:00.9 UTC), zone), Match::Yes);
        assert_eq!(second.holds(datetime!(2024-02-01 8:00:01 UTC), zone), Match::No);
        assert_eq!(period(None, Some("9999")).holds(datetime!(9999-12-31 23:59 UTC), zone), Match::Yes);
    }

    #[test]
    fn a_date_without_a_zone_is_uncertain_at_its_edges() {
        let day = period(Some("2026-03-10"), Some("2026-03-10"));
        for (now, expected) in [
            (datetime!(2026-03-09 9:59:59 UTC), Match::No),
            (datetime!(2026-03-09 10:00 UTC), Match::Maybe),
            (datetime!(2026-03-10 10:00 UTC), Match::Maybe),
            (datetime!(2026-03-11 11:59:59 UTC), Match::Maybe),
            (datetime!(2026-03-11 12:00 UTC), Match::No),
        ] {
            assert_eq!(day.holds(now, Zone::ANYWHERE), expected, "{now}");
        }
        let eastern = Zone { west: time::macros::offset!(-5), east: time::macros::offset!(-4) };
        assert_eq!(day.holds(datetime!(2026-03-10 5:00 UTC), eastern), Match::Yes);
        assert_eq!(day.holds(datetime!(2026-03-10 4:30 UTC), eastern), Match::Maybe);
        assert_eq!(day.holds(datetime!(2026-03-10 3:59 UTC), eastern), Match::No);
    }

    #[test]
    fn a_span_is_covered_touched_or_missed() {
        let year = period(Some("2025-01-01"), Some("2025-12-31"));
        for (span, expected) in [
            (TimeSpan::moment("2025-06-01"), Match::Yes),
            (TimeSpan::moment("2025"), Match::Yes),
            (TimeSpan::moment("2025-12-31"), Match::Yes),
            (TimeSpan::moment("2026-01-01"), Match::No),
            (TimeSpan::moment("2026-01-01T00:30:00Z"), Match::Maybe),
            (TimeSpan::period(Some("2024-12-01"), Some("2025-02-01")), Match::Maybe),
            (TimeSpan::period(Some("2025-02-01"), None), Match::Maybe),
            (TimeSpan::period(Some("2026-02-01"), None), Match::No),
        ] {
            assert_eq!(year.covers(&span.unwrap(), Zone::ANYWHERE), expected, "{span:?}");
        }
        assert_eq!(
            year.meets(&TimeSpan::period(Some("2024-12-01"), Some("2025-02-01")).unwrap(), Zone::ANYWHERE),
            Match::Yes
        );
    }
}
