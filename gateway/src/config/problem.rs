//! What is wrong with a configuration, in words an operator can act on.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake: where it stands, what it is, and how to mend it. Never holds a configured secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file that holds it.
    pub file: PathBuf,
    /// The line, counted from one, where there is one.
    pub line: Option<u64>,
    /// The key path, as `listeners[0].tls.key_file`; empty for the whole file.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem of a file or directory as a whole.
    pub fn of_file(file: &Path, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, key: String::new(), what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}\n    fix: {}", self.what, self.fix)
    }
}

/// Everything that is wrong with a configuration, in order of file and line. Never empty when returned as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Orders the problems; `Ok` when there are none.
    ///
    /// # Errors
    /// The problems themselves.
    pub fn none_in(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| (&a.file, a.line, &a.key).cmp(&(&b.file, b.line, &b.key)));
        Err(Self(problems))
    }

    /// The problems, first line first.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let plural = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {plural}", self.0.len())
    }
}

impl std::error::Error for Problems {}

/// The known word nearest to `word`, when it is near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let near = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase().replace('-', "_"));
    known
        .into_iter()
        .map(|candidate| (near(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
