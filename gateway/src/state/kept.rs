//! Revocations and lockdowns on disk, so that a restart lifts none of them: a journal of changes, one JSON line each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Lockdown, Revocation};

/// One change.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    Revoked {
        what: Revocation,
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    Restored(Revocation),
    LockedDown(Lockdown),
    Lifted(String),
}

/// The journal, open for more.
pub(super) struct Journal(File);

impl Journal {
    /// Reads what holds, and writes it anew without what has ended.
    ///
    /// A last line without its end is of a change that was never confirmed. Any other line that cannot be read is an
    /// error: a stop that is forgotten is worse than a start that is refused.
    pub(super) fn open(dir: &Path, now: OffsetDateTime) -> io::Result<(Self, Vec<Change>)> {
        fs::create_dir_all(dir)?;
        let path = dir.join("state.ndjson");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
        let changes = whole.lines().map(serde_json::from_str).collect::<Result<Vec<Change>, _>>();
        let standing = standing(changes?, now);
        let new = dir.join("state.ndjson.new");
        let mut file = create(&new)?;
        for change in &standing {
            write(&mut file, change)?;
        }
        file.sync_data()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()?;
        Ok((Self(OpenOptions::new().append(true).open(&path)?), standing))
    }

    /// Returns when the change is durable.
    pub(super) fn keep(&mut self, change: &Change) -> io::Result<()> {
        write(&mut self.0, change)?;
        self.0.sync_data()
    }
}

fn create(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

fn write(file: &mut File, change: &Change) -> io::Result<()> {
    file.write_all(format!("{}\n", serde_json::to_string(change)?).as_bytes())
}

/// What is left of these changes now, in their order.
fn standing(changes: Vec<Change>, now: OffsetDateTime) -> Vec<Change> {
    let mut standing: Vec<Change> = Vec::new();
    for change in changes {
        let same = |other: &Change| match (&change, other) {
            (Change::Revoked { what, .. } | Change::Restored(what), Change::Revoked { what: other, .. }) => {
                what == other
            }
            (Change::LockedDown(lockdown), Change::LockedDown(other)) => lockdown.id == other.id,
            (Change::Lifted(id), Change::LockedDown(other)) => *id == other.id,
            (_, _) => false,
        };
        standing.retain(|other| !same(other));
        let holds = match &change {
            Change::Revoked { until, .. } => *until > now,
            Change::LockedDown(lockdown) => lockdown.until > now,
            Change::Restored(_) | Change::Lifted(_) => false,
        };
        if holds {
            standing.push(change);
        }
    }
    standing
}
