//! Verdicts kept across requests, for sets in which no policy reads outside their key.
//!
//! The key is all that policies can read: the caller's facts but for the time, and the record's. A set that reads the
//! time keeps nothing ([`super::PolicySet::verdicts_outlive_the_request`]). They live in the set they were given by, so
//! a reload forgets them.

use std::collections::HashMap;
use std::sync::Mutex;

use time::OffsetDateTime;

use crate::permit::Disclosure;
use crate::question::{Caller, Record};

/// Beyond these bounds all is forgotten and begun anew.
const MOST_CALLERS: usize = 4_096;
const MOST_VERDICTS: usize = 65_536;

/// A caller's facts, by number. Numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallerNumber(u64);

#[derive(Default)]
pub(super) struct Remembered(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    next: u64,
    callers: HashMap<Caller, CallerNumber>,
    verdicts: HashMap<(CallerNumber, Record), Disclosure>,
}

impl Remembered {
    /// The number of these facts. `None` if another thread died here: then nothing is remembered, and nothing is lost.
    pub(super) fn number(&self, caller: &Caller) -> Option<CallerNumber> {
        let timeless = Caller { time: OffsetDateTime::UNIX_EPOCH, ..caller.clone() };
        let mut kept = self.0.lock().ok()?;
        if let Some(number) = kept.callers.get(&timeless) {
            return Some(*number);
        }
        if kept.callers.len() >= MOST_CALLERS {
            kept.callers.clear();
            kept.verdicts.clear();
        }
        let number = CallerNumber(kept.next);
        kept.next = kept.next.saturating_add(1);
        kept.callers.insert(timeless, number);
        Some(number)
    }

    pub(super) fn verdict(&self, caller: CallerNumber, record: &Record) -> Option<Disclosure> {
        self.0.lock().ok()?.verdicts.get(&(caller, *record)).cloned()
    }

    pub(super) fn keep(&self, caller: CallerNumber, record: Record, verdict: Disclosure) {
        if let Ok(mut kept) = self.0.lock() {
            if kept.verdicts.len() >= MOST_VERDICTS {
                kept.verdicts.clear();
            }
            kept.verdicts.insert((caller, record), verdict);
        }
    }
}
