//! The audit chain: whole, then with one byte changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Guide;
use crate::audit::verify::{Anchors, verify};

impl Guide<'_> {
    /// Verifies the chain, breaks a copy of it by one bit, and finds the place.
    pub(super) fn chain(&mut self) -> anyhow::Result<()> {
        self.screen.stop("The record of all this, and one flipped bit");
        self.screen.say("Every answer and refusal above is in a hash chain whose heads are signed. A copy of it is changed by one bit.");
        let dir = self.world.audit_dir();
        self.screen.request("fhirwall audit verify --dir", &dir.display().to_string(), "the auditor");
        let whole = verify(&dir, &Anchors::default()).context("cannot read the audit log")?;
        self.screen.answer(&format!("whole: {} records, {} signed heads", whole.records, whole.heads));
        let kinds: Vec<String> = whole.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        self.screen.quote(&kinds.join(", "));
        self.screen.line("");
        self.screen.check("the chain is whole", whole.finding.is_none() && whole.records > 0);

        let copy = self.world.dir().join("state/audit-copy");
        let flipped = copied_with_one_flipped_bit(&dir, &copy);
        let broken = flipped.and_then(|()| verify(&copy, &Anchors::default()).context("cannot read the copy"));
        // The copy goes, whatever came of it.
        drop(fs::remove_dir_all(&copy));
        match broken?.finding {
            Some(finding) => {
                self.screen.line("");
                self.screen
                    .answer(&format!("broken at record {} (line {}): {}", finding.seq, finding.line, finding.problem));
                self.screen.line("");
                self.screen.check("one flipped bit is found, and the first bad record named", true);
            }
            None => self.screen.check("one flipped bit is found, and the first bad record named", false),
        }
        Ok(())
    }
}

/// Copies the log and flips the lowest bit of a letter or digit in the middle of its largest file.
fn copied_with_one_flipped_bit(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let mut largest: Option<(usize, PathBuf)> = None;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let path = to.join(entry.file_name());
        let bytes = fs::read(entry.path())?;
        fs::write(&path, &bytes)?;
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        if largest.as_ref().is_none_or(|(most, _)| lines > *most) {
            largest = Some((lines, path));
        }
    }
    let (_, path) = largest.context("the audit log has no file")?;
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    let byte = bytes.iter_mut().skip(middle).find(|byte| byte.is_ascii_digit()).context("the audit log is empty")?;
    *byte ^= 1;
    Ok(fs::write(&path, &bytes)?)
}
