//! The stamp of a policy set: the report of its proofs, kept beside it, and read when the set is to go live.
//!
//! The gateway runs without a solver, so it cannot prove. It can read what `policy prove --save` left, and see whether that
//! speaks of this very set and of the invariants that this program holds sets to.

use std::collections::BTreeSet;

use super::{Proof, Report, SHIPPED};

/// The file beside the policies in which `policy prove --save` leaves its report.
pub const REPORT: &str = "proof.json";

/// What is known of a set's proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Every invariant of this program was proved of this set.
    Proved,
    /// Nothing is known: no report, or one about another set or other invariants. The text says which.
    Missing(String),
    /// A proof of this set failed, or the report cannot be read. The text says which.
    Failed(String),
}

/// Reads the report that lies beside a set of this epoch.
pub fn stamp(report: Option<&str>, epoch: &str) -> Stamp {
    let Some(text) = report else {
        return Stamp::Missing(format!("no {REPORT} lies beside it: run `fhirwall policy prove --save`"));
    };
    let report: Report = match serde_json::from_str(text) {
        Ok(report) => report,
        Err(error) => {
            return Stamp::Failed(format!(
                "{REPORT} cannot be read ({error}): run `fhirwall policy prove --save` again"
            ));
        }
    };
    if report.epoch != epoch {
        return Stamp::Missing(format!("{REPORT} is about another set: run `fhirwall policy prove --save` again"));
    }
    let failed: Vec<&str> =
        report.proofs.iter().filter(|proof| !proof.holds()).map(|proof| proof.id.as_str()).collect();
    if !failed.is_empty() {
        return Stamp::Failed(format!("{REPORT} says that this policy set breaks: {}", failed.join(", ")));
    }
    if report.invariants != shipped_digest() || !covers_the_shipped(&report.proofs) {
        return Stamp::Missing(format!("{REPORT} is about other invariants: run `fhirwall policy prove --save` again"));
    }
    Stamp::Proved
}

/// A digest of the invariants that ship with the gateway.
pub(super) fn shipped_digest() -> String {
    let mut text = String::new();
    for (name, invariants) in SHIPPED {
        text.push_str(name);
        text.push('\0');
        text.push_str(invariants);
        text.push('\0');
    }
    crate::identify::base64url(&crate::identify::sha256(text.as_bytes()))
}

/// Is every invariant that ships with the gateway among these proofs?
fn covers_the_shipped(proofs: &[Proof]) -> bool {
    let proved: BTreeSet<&str> = proofs.iter().map(|proof| proof.id.as_str()).collect();
    let shipped = SHIPPED.iter().flat_map(|(_, text)| text.lines());
    let mut ids = shipped.filter_map(|line| line.strip_prefix("@id(\"")?.strip_suffix("\")"));
    ids.all(|id| proved.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(alter: impl Fn(&mut Report)) -> String {
        let ids = SHIPPED.iter().flat_map(|(_, text)| text.lines());
        let ids = ids.filter_map(|line| line.strip_prefix("@id(\"")?.strip_suffix("\")"));
        let proof = |id: &str| Proof {
            id: id.to_owned(),
            says: String::new(),
            cites: String::new(),
            actions: 1,
            broken_by: None,
            failed: false,
        };
        let mut report = Report {
            epoch: "e1".to_owned(),
            invariants: shipped_digest(),
            solver: "cvc5".to_owned(),
            proofs: ids.map(proof).collect(),
        };
        alter(&mut report);
        serde_json::to_string(&report).unwrap()
    }

    #[track_caller]
    fn is(stamp: Stamp, expected: fn(String) -> Stamp, says: &str) {
        let (Stamp::Missing(why) | Stamp::Failed(why)) = &stamp else { panic!("{stamp:?}") };
        assert_eq!(stamp, expected(why.clone()));
        assert!(why.contains(says), "{why}");
    }

    #[test]
    fn a_report_counts_for_its_own_set_and_these_invariants_alone() {
        assert_eq!(stamp(Some(&report(|_| {})), "e1"), Stamp::Proved);
        is(stamp(None, "e1"), Stamp::Missing, "no proof.json");
        is(stamp(Some(&report(|_| {})), "e2"), Stamp::Missing, "another set");
        is(stamp(Some(&report(|report| report.invariants.clear())), "e1"), Stamp::Missing, "other invariants");
        is(stamp(Some(&report(|report| drop(report.proofs.pop()))), "e1"), Stamp::Missing, "other invariants");
    }

    #[test]
    fn a_failed_proof_or_an_unreadable_report_is_no_stamp() {
        let failed = report(|report| report.proofs.iter_mut().take(1).for_each(|proof| proof.failed = true));
        is(stamp(Some(&failed), "e1"), Stamp::Failed, "breaks: reads-only-within-its-ceiling");
        is(stamp(Some("{"), "e1"), Stamp::Failed, "cannot be read");
        // Of another set it says nothing.
        is(stamp(Some(&failed), "e2"), Stamp::Missing, "another set");
    }
}
