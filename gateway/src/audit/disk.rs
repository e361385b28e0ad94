//! What the log asks of a disk, so that a modelled one can lose, tear and refuse what a real one may.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A directory of files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names of the files in it.
    fn list(&self) -> io::Result<Vec<String>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Opens for writing; makes the file if it is not there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes renames, new and removed files durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file open for writing.
pub trait DiskFile: Send {
    /// Writes all of it at the offset, or fails with any part of it written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything written is durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A directory of the operating system, locked against a second writer for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("another process writes to the audit directory `{}`", .0.display())]
    Locked(PathBuf),
    #[error("cannot use the audit directory `{}`", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// While a file of this name lies in the directory, nothing is removed (Fed. R. Civ. P. 37(e); 45 CFR 164.316(b)(2)).
pub(super) const LEGAL_HOLD: &str = "legal-hold";
/// Records name patients: nobody but the gateway's own user reads them.
const FILE_MODE: u32 = 0o600;

impl Directory {
    /// Makes the directory if it is not there, and takes its lock.
    pub fn lock(path: &Path) -> Result<Self, DirectoryError> {
        let io = |error| DirectoryError::Io(path.to_owned(), error);
        fs::create_dir_all(path).map_err(io)?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DirectoryError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = names(&self.path)?;
        // A hold on the audit directory holds each of its chains.
        if super::chains::root(&self.path).join(LEGAL_HOLD).exists() && !names.iter().any(|name| name == LEGAL_HOLD) {
            names.push(LEGAL_HOLD.to_owned());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file =
            OpenOptions::new().create(true).write(true).truncate(false).mode(FILE_MODE).open(self.path.join(name))?;
        Ok(Box::new(OpenFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The names of the files in a directory, sorted.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

struct OpenFile(File);

impl DiskFile for OpenFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::lock(dir.path()).unwrap();
        assert!(matches!(Directory::lock(dir.path()), Err(DirectoryError::Locked(_))));
        drop(first);
        assert!(Directory::lock(dir.path()).is_ok());
    }
}
