//! Sizes, durations and dates, each with its unit.

use std::fmt;
use std::time::Duration;

use serde_json::{Value as Json, json};
use time::macros::format_description;

use crate::config::node::Value;
use crate::config::read::{At, Setting};
use crate::config::shape::Shape;
use crate::config::value::text;

/// A number of bytes, as `16MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// So many kibibytes.
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// The size in bytes, as this machine counts memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0.is_multiple_of(*unit);
        let (name, unit) = SIZE_UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Setting for ByteSize {
    fn read(at: &At<'_>) -> Option<Self> {
        let fix = "write a number and its unit: B, KiB, MiB or GiB, as `16MiB`";
        if matches!(at.value(), Value::Integer(_)) {
            return at.refuse("a size needs its unit", fix);
        }
        let text = at.text()?;
        let parse =
            |(name, unit): &(&str, u64)| text.strip_suffix(name)?.trim_end().parse::<u64>().ok()?.checked_mul(*unit);
        match SIZE_UNITS.iter().find_map(parse) {
            Some(bytes) if bytes > 0 => Some(Self(bytes)),
            Some(_) | None => at.refuse(format!("`{}` is no size", at.written()), fix),
        }
    }

    fn shape() -> Shape {
        text("a size with its unit: B, KiB, MiB or GiB", Some("^[0-9]+ ?(B|KiB|MiB|GiB)$"), "16MiB")
    }

    fn shown(&self) -> Json {
        json!(self.to_string())
    }
}

const TIME_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Setting for Duration {
    fn read(at: &At<'_>) -> Option<Self> {
        let fix = "write a number and its unit: ms, s, m, h or d, as `30s`";
        if matches!(at.value(), Value::Integer(_) | Value::Float) {
            return at.refuse("a duration needs its unit", fix);
        }
        let text = at.text()?;
        let parse = |(name, unit): &(&str, u64)| text.strip_suffix(name)?.parse::<u64>().ok()?.checked_mul(*unit);
        match TIME_UNITS.iter().find_map(parse) {
            Some(millis) if millis > 0 => Some(Self::from_millis(millis)),
            Some(_) | None => at.refuse(format!("`{}` is no duration", at.written()), fix),
        }
    }

    fn shape() -> Shape {
        text("a duration with its unit: ms, s, m, h or d", Some("^[0-9]+(ms|s|m|h|d)$"), "30s")
    }

    fn shown(&self) -> Json {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, unit): &&(&str, u64)| millis.is_multiple_of(*unit);
        let (name, unit) = TIME_UNITS.iter().rev().find(fits).copied().unwrap_or(("ms", 1));
        json!(format!("{}{name}", millis / unit))
    }
}

/// A calendar date, `2028-02-01`.
impl Setting for time::Date {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        match Self::parse(&text, format_description!("[year]-[month]-[day]")) {
            Ok(date) => Some(date),
            Err(_) => at.refuse(format!("`{}` is no date", at.written()), "write year, month and day, as `2028-02-01`"),
        }
    }

    fn shape() -> Shape {
        text("a date", Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), "2028-02-01")
    }

    fn shown(&self) -> Json {
        json!(self.to_string())
    }
}
