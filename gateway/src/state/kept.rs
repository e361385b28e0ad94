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

const NAME: &str = "state.ndjson";

/// The journal, open for more.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Reads what holds, and writes it anew without what has ended.
    ///
    /// A last line without its end is of a change that was never confirmed. Any other line that cannot be read is an
    /// error: a stop that is forgotten is worse than a start that is refused.
    pub(super) fn open(dir: &Path, now: OffsetDateTime) -> io::Result<(Self, Vec<Change>)> {
        fs::create_dir_all(dir)?;
        let path = dir.join(NAME);
        let standing = standing(changes(&path)?.0, now);
        let new = dir.join("state.ndjson.new");
        let mut file = create(&new)?;
        for change in &standing {
            write(&mut file, change)?;
        }
        file.sync_data()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()?;
        Ok((Self { file: OpenOptions::new().append(true).open(&path)?, path }, standing))
    }

    /// The same beside another process that writes to it as well: nothing is written anew, both append.
    pub(super) fn open_beside(dir: &Path, now: OffsetDateTime) -> io::Result<(Self, Vec<Change>)> {
        let path = dir.join(NAME);
        let (changes, whole) = changes(&path)?;
        if !whole {
            return Err(io::Error::other("the last change was not written to its end: restart instead"));
        }
        Ok((Self { file: OpenOptions::new().append(true).open(&path)?, path }, standing(changes, now)))
    }

    /// All that was changed so far, by this process and the other one.
    pub(super) fn changes(&self) -> io::Result<Vec<Change>> {
        Ok(changes(&self.path)?.0)
    }

    /// Returns when the change is durable.
    pub(super) fn keep(&mut self, change: &Change) -> io::Result<()> {
        write(&mut self.file, change)?;
        self.file.sync_data()
    }
}

/// The changes in the file, and whether it ends with a whole one.
fn changes(path: &Path) -> io::Result<(Vec<Change>, bool)> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    let changes = whole.lines().map(serde_json::from_str).collect::<Result<Vec<Change>, _>>()?;
    Ok((changes, text.is_empty() || text.ends_with('\n')))
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
