//! Reading a log back: entry by entry, filtered, opened with the key where it is sealed.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::chain::Line;
use super::chains::directories;
use super::disk::names;
use super::record::{AuditRecord, Kind};
use super::seal::{EncryptionKey, Sealer};
use super::segment::{self, SegmentRecord};

/// One record, read back.
#[derive(Clone, PartialEq, Serialize)]
pub struct Entry {
    pub seq: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    pub kind: Kind,
    pub hash: String,
    /// `None`: sealed, and the key was not given or is another.
    pub body: Option<Value>,
}

impl Entry {
    /// The body of an attempt, a disclosure or a refusal.
    pub fn record(&self) -> Option<AuditRecord> {
        match self.kind {
            Kind::Attempt | Kind::Disclosure | Kind::Refusal => AuditRecord::deserialize_from(self.body.as_ref()?),
            Kind::End
            | Kind::RefusalAggregate
            | Kind::Segment
            | Kind::Head
            | Kind::Recovery
            | Kind::Gap
            | Kind::Retention
            | Kind::Token
            | Kind::Access
            | Kind::Risk
            | Kind::Lockdown
            | Kind::Alert
            | Kind::Configuration => None,
        }
    }
}

impl AuditRecord {
    fn deserialize_from(body: &Value) -> Option<Self> {
        serde::Deserialize::deserialize(body).ok()
    }
}

/// Which entries are looked for. An empty filter matches every entry.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub patient: Option<String>,
    pub partner: Option<String>,
    pub user: Option<String>,
    pub decision: Option<String>,
    pub kinds: Vec<Kind>,
    /// From this time on.
    pub from: Option<OffsetDateTime>,
    /// Before this time.
    pub to: Option<OffsetDateTime>,
}

impl Filter {
    pub fn matches(&self, entry: &Entry) -> bool {
        let text = |field: &str| entry.body.as_ref().and_then(|body| body.get(field)).and_then(Value::as_str);
        let is = |wanted: &Option<String>, field| wanted.as_deref().is_none_or(|wanted| text(field) == Some(wanted));
        let of_patient = |wanted: &str| {
            let patients = entry.body.as_ref().and_then(|body| body.get("patients")).and_then(Value::as_array);
            patients.is_some_and(|patients| patients.iter().any(|patient| patient.as_str() == Some(wanted)))
        };
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.from.is_none_or(|from| entry.time >= from)
            && self.to.is_none_or(|to| entry.time < to)
            && is(&self.partner, "partner")
            && is(&self.user, "user")
            && is(&self.decision, "decision")
            && self.patient.as_deref().is_none_or(of_patient)
    }
}

/// Hands every entry that matches to `each`, chain by chain, each from its oldest, until it breaks.
///
/// Lines that are no records are passed over: whether the log is whole is for `verify` to say.
///
/// # Errors
/// When a file cannot be read.
pub fn scan(
    dir: &Path,
    key: Option<&EncryptionKey>,
    filter: &Filter,
    mut each: impl FnMut(Entry) -> ControlFlow<()>,
) -> io::Result<()> {
    for chain in directories(dir)? {
        if scan_chain(&chain, key, filter, &mut each)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn scan_chain(
    dir: &Path,
    key: Option<&EncryptionKey>,
    filter: &Filter,
    each: &mut impl FnMut(Entry) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    for number in segment::numbers(&names(dir)?) {
        let bytes = fs::read(dir.join(segment::name(number)))?;
        let mut sealer = None;
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(line) = std::str::from_utf8(line).ok().and_then(|line| Line::parse(line).ok()) else { continue };
            if let (None, Some(key), Some(chain)) = (&sealer, key, chain_of(&line)) {
                sealer = key.sealer(&chain, number);
            }
            let Some(entry) = entry(&line, sealer.as_ref()) else { continue };
            if filter.matches(&entry) && each(entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// All entries that match, oldest first.
///
/// # Errors
/// When a file cannot be read.
pub fn entries(dir: &Path, key: Option<&EncryptionKey>, filter: &Filter) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    scan(dir, key, filter, |entry| {
        found.push(entry);
        ControlFlow::Continue(())
    })?;
    // Of one chain they are in order already, and stay so when its clock was set back.
    if directories(dir)?.len() > 1 {
        found.sort_by_key(|entry| entry.time);
    }
    Ok(found)
}

pub(super) fn first_seq(path: &Path) -> io::Result<Option<u64>> {
    let mut first = String::new();
    // A line that is being written, or is no text, is no first record.
    match BufReader::new(fs::File::open(path)?).read_line(&mut first) {
        Ok(_) => Ok(Line::parse(first.trim_end()).ok().map(|line| line.seq)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn chain_of(line: &Line<'_>) -> Option<String> {
    let record: SegmentRecord = serde_json::from_str(line.body?).ok()?;
    Some(record.chain)
}

pub(super) fn entry(line: &Line<'_>, sealer: Option<&Sealer>) -> Option<Entry> {
    let body = match (line.body, line.sealed) {
        (Some(body), _) => serde_json::from_str(body).ok(),
        (None, Some(sealed)) => {
            sealer.and_then(|s| s.open(line.header.as_bytes(), sealed)).and_then(|b| serde_json::from_slice(&b).ok())
        }
        (None, None) => None,
    };
    Some(Entry {
        seq: line.seq,
        time: OffsetDateTime::parse(line.time, &Rfc3339).ok()?,
        kind: Kind::from_name(line.kind)?,
        hash: line.hash.to_owned(),
        body,
    })
}

/// Patients' and users' identifiers do not print.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} {})", self.seq, self.kind.as_str())
    }
}
