//! The chains of one audit directory.
//!
//! A chain has one writer. While a process hands over to a new one, both write: the new one a chain of its own, in a
//! directory beside the first chain's segments. Whoever reads the log reads all of them.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::names;

/// How many processes may overlap. The first chain lies in the audit directory itself.
const MOST: u32 = 8;
const PREFIX: &str = "chain-";

/// The directories of all chains in an audit directory: the directory itself, and what lies beside its segments.
///
/// # Errors
/// When the directory cannot be read.
pub fn directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    let beside = names(root)?.into_iter().filter(|name| is_beside(name)).map(|name| root.join(name));
    Ok(std::iter::once(root.to_owned()).chain(beside.filter(|dir| dir.is_dir())).collect())
}

/// Where a process may write, in the order in which it tries.
pub(super) fn candidates(root: &Path) -> impl Iterator<Item = PathBuf> {
    let beside = (2..=MOST).map(|number| root.join(format!("{PREFIX}{number}")));
    std::iter::once(root.to_owned()).chain(beside.collect::<Vec<_>>())
}

/// The audit directory that a chain's directory belongs to.
pub(super) fn root(dir: &Path) -> &Path {
    let beside = dir.file_name().and_then(|name| name.to_str()).is_some_and(is_beside);
    dir.parent().filter(|_| beside).unwrap_or(dir)
}

fn is_beside(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
    number.is_some_and(|number: u32| (2..=MOST).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_beside_belongs_to_the_directory_above_it_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["chain-2", "chain-3", "chain-1", "chain-99", "chain-x", "other"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = directories(dir.path()).unwrap();
        assert_eq!(found, [dir.path().to_owned(), dir.path().join("chain-2"), dir.path().join("chain-3")]);
        assert!(found.iter().all(|chain| root(chain) == dir.path()));
        assert_eq!(root(Path::new("/audit/other")), Path::new("/audit/other"));
        assert_eq!(candidates(dir.path()).take(2).collect::<Vec<_>>(), found[..2]);
    }
}
