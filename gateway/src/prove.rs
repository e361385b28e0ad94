//! Proof of a policy set over all requests: no invariant is broken, no policy errs, nothing is denied or allowed whole.
//!
//! The set is compiled to logic (cedar-policy-symcc) and put to cvc5. Only the `policy` verbs come here; the gateway
//! runs without a solver.

mod counterexample;
mod model;
mod prover;
mod stamp;

use fhirwall_policy::cedar::PolicySet;
use serde::{Deserialize, Serialize};

pub use counterexample::Counterexample;
pub use prover::{holds, prove};
pub use stamp::{REPORT, Stamp, stamp};

/// What to say where there is no solver.
const HOW_TO_INSTALL: &str = "policy proofs need the SMT solver cvc5, which was not found.\n\
    Install it (Debian, Ubuntu: `apt-get install cvc5`; others: https://cvc5.github.io), or set CVC5 to its path.";

/// The invariants that every set is held to.
pub const SHIPPED: &[(&str, &str)] = &[
    ("ceilings.cedar", include_str!("../../policy/invariants/ceilings.cedar")),
    ("part2.cedar", include_str!("../../policy/invariants/part2.cedar")),
    ("partners.cedar", include_str!("../../policy/invariants/partners.cedar")),
];

/// Is this the very set that ships with the gateway, which is proved before it is shipped (`.ci/run`)?
pub fn is_shipped(set: &PolicySet) -> bool {
    PolicySet::shipped().is_ok_and(|shipped| shipped.text_epoch() == set.text_epoch())
}

/// Why nothing was proved.
#[derive(Debug)]
pub enum Failure {
    /// cvc5 is not there. The text says what to do.
    NoSolver(&'static str),
    /// The set or the invariants cannot be compiled, or the solver gave no answer.
    Unusable(String),
}

/// All proofs of one set.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The epoch of the set.
    pub epoch: String,
    /// A digest of the invariants that ship with the gateway.
    pub invariants: String,
    /// The solver, as it names itself.
    pub solver: String,
    pub proofs: Vec<Proof>,
}

/// One thing to be proved, and how it went.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proof {
    pub id: String,
    pub says: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cites: String,
    /// Actions for which it was shown.
    pub actions: usize,
    /// A request that breaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_by: Option<Counterexample>,
    /// The proof is one of existence (`not everything is denied`) and failed without an example.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
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
