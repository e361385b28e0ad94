//! The prover: a policy set compiled to logic, action by action, and put to cvc5.

use std::str::FromStr;

use cedar_policy::{Policy, PolicyId, PolicySet as Cedar, RequestEnv, Schema};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet};
use fhirwall_policy::cedar::{PolicySet, schema_text};

use super::{Failure, HOW_TO_INSTALL, Proof, Report, model, stamp};

/// Proves everything, and tells of each.
///
/// # Errors
/// [`Failure`], where there is nothing to tell.
pub fn prove(set: &PolicySet, invariants: &[(String, String)]) -> Result<Report, Failure> {
    run(async {
        let mut prover = Prover::new(set, invariants)?;
        let mut proofs = Vec::new();
        for invariant in prover.invariants.clone() {
            proofs.push(prover.invariant(&invariant).await?);
        }
        proofs.push(prover.never_errs().await?);
        proofs.extend(prover.neither_all_nor_nothing().await?);
        Ok(Report {
            epoch: set.text_epoch().to_owned(),
            invariants: stamp::shipped_digest(),
            solver: solver_version(),
            proofs,
        })
    })
}

/// Do all invariants hold? Stops at the first that does not.
///
/// # Errors
/// [`Failure`], where that cannot be told.
pub fn holds(set: &PolicySet, invariants: &[(String, String)]) -> Result<bool, Failure> {
    run(async {
        let mut prover = Prover::new(set, invariants)?;
        for invariant in prover.invariants.clone() {
            if !prover.invariant(&invariant).await?.holds() {
                return Ok(false);
            }
        }
        Ok(prover.neither_all_nor_nothing().await?.iter().all(Proof::holds))
    })
}

fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Unusable(format!("cannot start: {error}")))?.block_on(work)
}

/// One action's worth of the set, compiled.
struct Moment {
    env: RequestEnv,
    whole: CompiledPolicySet,
    forbids: CompiledPolicySet,
}

#[derive(Clone)]
struct Invariant {
    policy: Policy,
    /// Must hold by the forbids alone, whatever is permitted.
    against_forbids: bool,
}

struct Prover {
    schema: Schema,
    policies: Vec<Policy>,
    invariants: Vec<Invariant>,
    moments: Vec<Moment>,
    solver: CedarSymCompiler<LocalSolver>,
}

impl Prover {
    fn new(set: &PolicySet, invariants: &[(String, String)]) -> Result<Self, Failure> {
        let (schema, _) = Schema::from_cedarschema_str(&schema_text()).map_err(unusable("schema"))?;
        let policies = named(&set.enforced_text(), "the policy set")?;
        let mut read = Vec::new();
        for (file, text) in invariants {
            for policy in named(text, file)? {
                if policy.effect() != cedar_policy::Effect::Forbid {
                    return Err(Failure::Unusable(format!("{file}: `{}`: an invariant is a forbid", policy.id())));
                }
                let against_forbids = match policy.annotation("against") {
                    None => false,
                    Some("forbids") => true,
                    Some(other) => {
                        return Err(Failure::Unusable(format!("{file}: @against is `forbids`, not `{other}`")));
                    }
                };
                read.push(Invariant { policy, against_forbids });
            }
        }
        let forbids = policies.iter().filter(|policy| policy.effect() == cedar_policy::Effect::Forbid);
        let (whole, forbids) = (assembled(policies.iter())?, assembled([&anything()?].into_iter().chain(forbids))?);
        let mut moments = Vec::new();
        for env in schema.request_envs() {
            moments.push(Moment {
                whole: CompiledPolicySet::compile(&whole, &env, &schema).map_err(unusable("the policy set"))?,
                forbids: CompiledPolicySet::compile(&forbids, &env, &schema).map_err(unusable("the policy set"))?,
                env,
            });
        }
        let solver = LocalSolver::cvc5().map_err(|_| Failure::NoSolver(HOW_TO_INSTALL))?;
        let solver = CedarSymCompiler::new(solver).map_err(unusable("solver"))?;
        Ok(Self { schema, policies, invariants: read, moments, solver })
    }

    /// Nothing that the invariant forbids is permitted.
    async fn invariant(&mut self, invariant: &Invariant) -> Result<Proof, Failure> {
        let ceiling = assembled([&anything()?, &invariant.policy].into_iter())?;
        let mut proof = Proof {
            id: invariant.policy.id().to_string(),
            says: invariant.policy.annotation("says").unwrap_or_default().to_owned(),
            cites: invariant.policy.annotation("cites").unwrap_or_default().to_owned(),
            actions: 0,
            broken_by: None,
            failed: false,
        };
        let envs: Vec<RequestEnv> = invariant.policy.get_valid_request_envs(&self.schema).collect();
        for moment in self.moments.iter().filter(|moment| envs.contains(&moment.env)) {
            let name = &proof.id;
            let ceiling = CompiledPolicySet::compile(&ceiling, &moment.env, &self.schema)
                .map_err(|error| Failure::Unusable(format!("invariant `{name}`: {error}")))?;
            let set = if invariant.against_forbids { &moment.forbids } else { &moment.whole };
            let found = self.solver.check_implies_with_counterexample_opt(set, &ceiling).await;
            if let Some(env) = found.map_err(|error| Failure::Unusable(format!("invariant `{name}`: {error}")))? {
                proof.broken_by = Some(model::counterexample(&env));
                return Ok(proof);
            }
            proof.actions += 1;
        }
        // An invariant that fits no action proves nothing.
        proof.failed = proof.actions == 0;
        Ok(proof)
    }

    async fn never_errs(&mut self) -> Result<Proof, Failure> {
        let mut proof = proof("no-policy-errs", "No policy fails to evaluate, whatever the request.");
        for policy in &self.policies {
            for env in policy.get_valid_request_envs(&self.schema) {
                let compiled = CompiledPolicy::compile(policy, &env, &self.schema).map_err(unusable("a policy"))?;
                let found = self.solver.check_never_errors_with_counterexample_opt(&compiled).await;
                if let Some(env) = found.map_err(unusable("a policy"))? {
                    proof.says = format!("Policy `{}` fails to evaluate.", policy.id());
                    proof.broken_by = Some(model::counterexample(&env));
                    return Ok(proof);
                }
                proof.actions += 1;
            }
        }
        Ok(proof)
    }

    async fn neither_all_nor_nothing(&mut self) -> Result<Vec<Proof>, Failure> {
        let mut some = proof("not-everything-is-denied", "For every action there is a request that is permitted.");
        let mut few = proof("not-everything-is-allowed", "For every action there is a request that is denied.");
        for moment in &self.moments {
            let denies =
                self.solver.check_always_denies_opt(&moment.whole).await.map_err(unusable("the policy set"))?;
            let allows =
                self.solver.check_always_allows_opt(&moment.whole).await.map_err(unusable("the policy set"))?;
            for (proof, broken, word) in [(&mut some, denies, "denied"), (&mut few, allows, "permitted")] {
                if broken && !proof.failed {
                    proof.failed = true;
                    proof.says = format!("Every request of {} is {word}.", moment.env.action());
                }
                proof.actions += 1;
            }
        }
        Ok(vec![some, few])
    }
}

/// What the solver says it is, in its first line.
fn solver_version() -> String {
    let program = std::env::var_os("CVC5").unwrap_or_else(|| "cvc5".into());
    let said = std::process::Command::new(program).arg("--version").output().ok();
    let text = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("cvc5").trim().to_owned()
}

fn proof(id: &str, says: &str) -> Proof {
    Proof { id: id.to_owned(), says: says.to_owned(), cites: String::new(), actions: 0, broken_by: None, failed: false }
}

/// The policies of a text, each under its `@id`.
fn named(text: &str, source: &str) -> Result<Vec<Policy>, Failure> {
    let parsed = Cedar::from_str(text).map_err(|error| Failure::Unusable(format!("{source}: {error}")))?;
    let named = parsed.policies().map(|policy| {
        let id = policy.annotation("id").ok_or_else(|| Failure::Unusable(format!("{source}: a policy without @id")))?;
        Ok(policy.new_id(PolicyId::new(id)))
    });
    let mut named: Vec<Policy> = named.collect::<Result<_, Failure>>()?;
    named.sort_by_key(|policy| policy.id().to_string());
    Ok(named)
}

fn anything() -> Result<Policy, Failure> {
    Policy::parse(Some(PolicyId::new("anything")), "permit (principal, action, resource);").map_err(unusable("prover"))
}

fn assembled<'a>(policies: impl Iterator<Item = &'a Policy>) -> Result<Cedar, Failure> {
    Cedar::from_policies(policies.cloned()).map_err(unusable("the policy set"))
}

fn unusable<E: core::fmt::Display>(what: &str) -> impl Fn(E) -> Failure {
    move |error| Failure::Unusable(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(altered: impl Fn(&str) -> String) -> PolicySet {
        let files: Vec<(String, String)> =
            PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), altered(text))).collect();
        PolicySet::load(&files).unwrap()
    }

    fn invariants() -> Vec<(String, String)> {
        super::super::SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// `None` where there is no solver, which is said.
    fn proved(set: &PolicySet) -> Option<Report> {
        match prove(set, &invariants()) {
            Ok(report) => Some(report),
            Err(Failure::NoSolver(remedy)) => {
                eprintln!("skipped: {remedy}");
                None
            }
            Err(Failure::Unusable(problem)) => panic!("{problem}"),
        }
    }

    #[test]
    fn the_shipped_set_is_proved() {
        let Some(report) = proved(&shipped(str::to_owned)) else { return };
        let failed: Vec<String> =
            report.proofs.iter().filter(|proof| !proof.holds()).map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        assert!(report.proofs.len() >= 17);
    }

    #[test]
    fn a_weakened_set_is_refuted_with_a_request_that_the_policies_permit() {
        let weakened = shipped(|text| text.replace("unless { resource.notes_consent };", "unless { context.mtls };"));
        let Some(report) = proved(&weakened) else { return };
        let notes = report.proofs.iter().find(|proof| proof.id == "notes-never-by-general-consent").unwrap();
        let shown = notes.broken_by.as_ref().unwrap().to_string();
        assert!(shown.contains("PSYTHPN") || shown.contains("HIPAAPsyNotes"), "{shown}");
    }
}
