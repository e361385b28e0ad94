//! Proof of a policy set over all requests: no invariant is broken, no policy errs, nothing is denied or allowed whole.
//!
//! The set is compiled to logic (cedar-policy-symcc) and put to cvc5. Only the `policy` verbs come here; the gateway
//! runs without a solver.

mod counterexample;
#[cfg(feature = "prove")]
mod model;
#[cfg(feature = "prove")]
mod prover;

use serde::Serialize;

pub use counterexample::Counterexample;
#[cfg(feature = "prove")]
pub use prover::{holds, prove};
#[cfg(not(feature = "prove"))]
pub use without::{holds, prove};

/// What to say where there is no solver.
#[cfg(feature = "prove")]
const HOW_TO_INSTALL: &str = "policy proofs need the SMT solver cvc5, which was not found.\n\
    Install it (Debian, Ubuntu: `apt-get install cvc5`; others: https://cvc5.github.io), or set CVC5 to its path.";

/// The invariants that every set is held to.
pub const SHIPPED: &[(&str, &str)] = &[
    ("part2.cedar", include_str!("../../policy/invariants/part2.cedar")),
    ("partners.cedar", include_str!("../../policy/invariants/partners.cedar")),
];

/// Why nothing was proved.
#[derive(Debug)]
pub enum Failure {
    /// cvc5 is not there, or this program was built without the `prove` feature. The text says what to do.
    NoSolver(&'static str),
    /// The set or the invariants cannot be compiled, or the solver gave no answer.
    Unusable(String),
}

/// All proofs of one set.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The epoch of the set.
    pub epoch: String,
    pub proofs: Vec<Proof>,
}

/// One thing to be proved, and how it went.
#[derive(Debug, Serialize)]
pub struct Proof {
    pub id: String,
    pub says: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cites: String,
    /// Actions for which it was shown.
    pub actions: usize,
    /// A request that breaks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_by: Option<Counterexample>,
    /// The proof is one of existence (`not everything is denied`) and failed without an example.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl Proof {
    pub const fn holds(&self) -> bool {
        self.broken_by.is_none() && !self.failed
    }
}

impl core::fmt::Display for Proof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let word = if self.holds() { "PROVED" } else { "FAILED" };
        write!(f, "{word} {}: {}", self.id, self.says)?;
        if !self.cites.is_empty() {
            write!(f, " ({})", self.cites)?;
        }
        if let Some(broken) = &self.broken_by {
            write!(f, "\n{broken}")?;
        }
        Ok(())
    }
}

/// The file beside the policies in which `policy prove --save` leaves its report.
pub const REPORT: &str = "proof.json";

/// Why a set that carries this report must not be served: a proof of this very set failed, or the report is unreadable.
/// A report about another set says nothing.
pub fn carried_failure(report: &str, epoch: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Carried {
        epoch: String,
        proofs: Vec<CarriedProof>,
    }
    #[derive(serde::Deserialize)]
    struct CarriedProof {
        id: String,
        broken_by: Option<serde_json::Value>,
        #[serde(default)]
        failed: bool,
    }
    let carried: Carried = match serde_json::from_str(report) {
        Ok(carried) => carried,
        Err(error) => {
            return Some(format!("{REPORT} cannot be read ({error}): run `fhirwall policy prove --save` again"));
        }
    };
    let failed = |proof: &&CarriedProof| proof.failed || proof.broken_by.is_some();
    let failed: Vec<&str> = carried.proofs.iter().filter(failed).map(|proof| proof.id.as_str()).collect();
    (carried.epoch == epoch && !failed.is_empty())
        .then(|| format!("{REPORT} says that this policy set breaks: {}", failed.join(", ")))
}

/// A build without the symbolic compiler.
#[cfg(not(feature = "prove"))]
mod without {
    use fhirwall_policy::cedar::PolicySet;

    use super::{Failure, Report};

    const HOW_TO_BUILD: &str = "this fhirwall was built without proofs; build it with `--features prove`";

    /// Proves everything, and tells of each.
    ///
    /// # Errors
    /// Always: this build cannot prove.
    pub fn prove(_: &PolicySet, _: &[(String, String)]) -> Result<Report, Failure> {
        Err(Failure::NoSolver(HOW_TO_BUILD))
    }

    /// Do all invariants hold?
    ///
    /// # Errors
    /// Always: this build cannot prove.
    pub fn holds(_: &PolicySet, _: &[(String, String)]) -> Result<bool, Failure> {
        Err(Failure::NoSolver(HOW_TO_BUILD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_carries_a_failed_proof_is_refused_and_no_other() {
        let report =
            |broken: &str| format!(r#"{{"epoch":"e1","proofs":[{{"id":"a","says":"","actions":1{broken}}}]}}"#);
        assert_eq!(carried_failure(&report(""), "e1"), None);
        assert_eq!(carried_failure(&report(r#","broken_by":{}"#), "e2"), None);
        for broken in [r#","broken_by":{}"#, r#","failed":true"#] {
            assert!(carried_failure(&report(broken), "e1").is_some_and(|why| why.contains("breaks: a")));
        }
        assert!(carried_failure("{", "e1").is_some());
    }
}
