//! What a set of files says, in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The digest of every file's content, symbolic links followed; a directory counts with the files directly in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<PathBuf, Content>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Digest(Vec<u8>),
    Directory,
    /// It is not there, or not to be read; the kind of error, since that changes when it is mended.
    Unreadable(std::io::ErrorKind),
}

impl Fingerprint {
    pub(super) fn of(files: &BTreeSet<PathBuf>) -> Self {
        let mut contents = BTreeMap::new();
        for file in files {
            if file.is_dir() {
                for entry in std::fs::read_dir(file).into_iter().flatten().flatten() {
                    // Kubernetes keeps the files of a volume behind hidden links; what counts is what they show.
                    let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                    if !hidden && entry.path().is_file() {
                        contents.insert(entry.path(), content(&entry.path()));
                    }
                }
                contents.insert(file.clone(), Content::Directory);
            } else {
                contents.insert(file.clone(), content(file));
            }
        }
        Self(contents)
    }
}

fn content(file: &Path) -> Content {
    match std::fs::read(file) {
        Ok(bytes) => Content::Digest(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref().to_vec()),
        Err(error) => Content::Unreadable(error.kind()),
    }
}
