//! Loading a policy set: all problems at once, and nothing half loaded.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy as cedar;

use super::meta::{Mode, PolicyMeta};
use super::template::{self, Template};
use super::vocabulary::Vocabulary;
use super::{PolicySet, Slice, Slices, schema};

/// What is wrong with a policy file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    pub file: String,
    /// The `@id` of the policy, where it has one.
    pub policy: Option<String>,
    pub message: String,
}

impl core::fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.policy {
            Some(policy) => write!(f, "{}: policy `{policy}`: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl core::error::Error for PolicyProblem {}

/// A partner that stands under a template of the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ceiling {
    /// The template's `@id`.
    pub template: String,
    /// The partner's client id.
    pub app: String,
}

pub(super) struct Read {
    pub(super) policy: cedar::Policy,
    pub(super) meta: Arc<PolicyMeta>,
    /// The one app that the policy is about, if it is about one.
    pub(super) sole: Option<cedar::EntityUid>,
}

impl Read {
    pub(super) fn new(policy: &cedar::Policy, mut meta: PolicyMeta) -> Self {
        let cited = PROTECTING.iter().any(|clause| meta.cites.contains(clause));
        meta.protects_part2 = !meta.permits && (names_part2(policy) || cited);
        let policy = policy.new_id(cedar::PolicyId::new(&meta.id));
        Self { sole: sole_app(&policy), policy, meta: Arc::new(meta) }
    }
}

pub(super) fn load(files: &[(String, String)], ceilings: &[Ceiling]) -> Result<PolicySet, Vec<PolicyProblem>> {
    let mut problems = Vec::new();
    let text = schema::schema_text();
    let schema = match cedar::Schema::from_cedarschema_str(&text) {
        Ok((schema, _)) => schema,
        Err(error) => return Err(vec![problem("schema.cedarschema", None, error.to_string())]),
    };
    let Some(vocabulary) = Vocabulary::new() else {
        return Err(vec![problem("schema.cedarschema", None, "a code of the built-in tables is no Cedar name".into())]);
    };
    let (mut policies, mut templates): (Vec<Read>, Vec<Template>) = (Vec::new(), Vec::new());
    // By name: a set is the same set however its directory was listed.
    let mut files: Vec<&(String, String)> = files.iter().collect();
    files.sort();
    for (file, text) in &files {
        read_file(file, text, &mut policies, &mut templates, &mut problems);
    }
    if policies.is_empty() && problems.is_empty() {
        problems.push(problem("policies", None, "the set holds no policy, so nothing could be permitted".to_owned()));
    }
    let mut ceilings: Vec<&Ceiling> = ceilings.iter().collect();
    ceilings.sort();
    ceilings.dedup();
    problems.extend(template::link(&templates, &ceilings, &mut policies));
    let full = match assemble(policies.iter()) {
        Ok(full) => full,
        Err(error) => {
            problems.push(problem("policies", None, error));
            return Err(problems);
        }
    };
    let metas: HashMap<cedar::PolicyId, Arc<PolicyMeta>> =
        policies.iter().map(|read| (read.policy.id().clone(), Arc::clone(&read.meta))).collect();
    problems.extend(validate(&schema, &full, &metas));
    let (interact, disclose) = match (slices(&policies, Moment::Interact), slices(&policies, Moment::Disclose)) {
        (Ok(interact), Ok(disclose)) if problems.is_empty() => (interact, disclose),
        (Err(error), _) | (_, Err(error)) => {
            problems.push(problem("policies", None, error));
            return Err(problems);
        }
        (Ok(_), Ok(_)) => return Err(problems),
    };
    let texts = || files.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()]).chain([text.as_str()]);
    let under = ceilings.iter().flat_map(|ceiling| [ceiling.template.as_str(), ceiling.app.as_str()]);
    Ok(PolicySet {
        remembered: super::remembered::Remembered::default(),
        sources: policies.iter().map(|read| read.policy.clone()).collect(),
        text_epoch: digest(texts()),
        epoch: digest(texts().chain(under)),
        vocabulary,
        listed: policies.iter().map(|read| Arc::clone(&read.meta)).collect(),
        policies: metas,
        interact,
        disclose,
        reads_time: policies.iter().any(|read| reads_attribute(&read.policy, "time")),
    })
}

pub(super) fn problem(file: &str, policy: Option<&str>, message: String) -> PolicyProblem {
    PolicyProblem { file: file.to_owned(), policy: policy.map(str::to_owned), message }
}

fn read_file(
    file: &str,
    text: &str,
    policies: &mut Vec<Read>,
    templates: &mut Vec<Template>,
    problems: &mut Vec<PolicyProblem>,
) {
    let parsed = match cedar::PolicySet::from_str(text) {
        Ok(parsed) => parsed,
        Err(errors) => {
            problems.extend(errors.iter().map(|error| problem(file, None, error.to_string())));
            return;
        }
    };
    // The parser names them policy0, policy1, … in the order of the file.
    let place = |id: &cedar::PolicyId| id.to_string().trim_start_matches("policy").parse::<usize>().ok();
    let mut found: Vec<&cedar::Policy> = parsed.policies().collect();
    found.sort_by_key(|policy| place(policy.id()));
    for policy in found {
        match PolicyMeta::read(file, policy.effect(), policy.annotations(), policies.len()) {
            Ok(meta) if policies.iter().any(|other| other.meta.id == meta.id) => {
                problems.push(problem(file, Some(&meta.id), "this @id is already in use".to_owned()));
            }
            Ok(meta) => match shadowable(policy, &meta) {
                Ok(()) => policies.push(Read::new(policy, meta)),
                Err(message) => problems.push(problem(file, Some(&meta.id), message)),
            },
            Err(message) => problems.push(problem(file, policy.annotation("id"), message)),
        }
    }
    let mut found: Vec<&cedar::Template> = parsed.templates().collect();
    found.sort_by_key(|template| place(template.id()));
    for template in found {
        match Template::read(file, template) {
            Ok(read) => templates.push(read),
            Err(message) => problems.push(problem(file, template.annotation("id"), message)),
        }
    }
}

/// What protects Part 2 records is never only watched: neither a forbid that speaks of a label of theirs, or of notes that
/// may be counseling notes, nor one that says of itself that it rests on 42 CFR Part 2.
fn shadowable(policy: &cedar::Policy, meta: &PolicyMeta) -> Result<(), String> {
    let rests_on_part2 = meta.cites.contains("42 CFR 2.") || meta.cites.contains("42 CFR Part 2");
    if meta.mode == Mode::Shadow && (names_part2(policy) || rests_on_part2) {
        return Err("a forbid that protects Part 2 records cannot run in shadow mode".to_owned());
    }
    Ok(())
}

/// The clauses of Part 2 whose forbids need no Part 2 label: presence is not to be told of, and a counseling note is not
/// told from a psychotherapy note.
const PROTECTING: [&str; 2] = ["42 CFR 2.13(c)", "42 CFR 2.11, 2.31(b)"];

/// Does the policy speak of a label of substance use records? Those forbids are never only watched.
fn names_part2(policy: &cedar::Policy) -> bool {
    const PART2: [&str; 7] = ["42CFRPart2", "SUD", "ETH", "ETHUD", "OPIOIDUD", "PSYTHPN", "HIPAAPsyNotes"];
    policy
        .entity_literals()
        .iter()
        .any(|uid| uid.type_name().basename() == "Label" && PART2.contains(&uid.id().unescaped()))
}

fn validate(
    schema: &cedar::Schema,
    full: &cedar::PolicySet,
    metas: &HashMap<cedar::PolicyId, Arc<PolicyMeta>>,
) -> Vec<PolicyProblem> {
    let result = cedar::Validator::new(schema.clone()).validate(full, cedar::ValidationMode::Strict);
    let located = |id: &cedar::PolicyId, message: String| {
        let file = metas.get(id).map_or("policies", |meta| meta.file.as_str());
        problem(file, Some(id.as_ref()), message)
    };
    let errors = result.validation_errors().map(|error| located(error.policy_id(), error.to_string()));
    // A policy that can never apply is a typo that looks like protection.
    let warnings = result.validation_warnings().map(|warning| located(warning.policy_id(), warning.to_string()));
    errors.chain(warnings).collect()
}

fn assemble<'a>(policies: impl Iterator<Item = &'a Read>) -> Result<cedar::PolicySet, String> {
    cedar::PolicySet::from_policies(policies.map(|read| read.policy.clone())).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Interact,
    Disclose,
}

/// Can the policy's action be asked at this moment?
fn concerns(policy: &cedar::Policy, moment: Moment) -> bool {
    let disclose = |uid: &cedar::EntityUid| uid.id().unescaped() == "disclose";
    let of_moment = |uid: &cedar::EntityUid| disclose(uid) == (moment == Moment::Disclose);
    match policy.action_constraint() {
        cedar::ActionConstraint::Any => true,
        cedar::ActionConstraint::Eq(uid) => of_moment(&uid),
        cedar::ActionConstraint::In(uids) => uids.iter().any(of_moment),
    }
}

/// The one app that the policy is about, if it is about one.
fn sole_app(policy: &cedar::Policy) -> Option<cedar::EntityUid> {
    match policy.principal_constraint() {
        cedar::PrincipalConstraint::Eq(uid) => Some(uid),
        cedar::PrincipalConstraint::Any
        | cedar::PrincipalConstraint::In(_)
        | cedar::PrincipalConstraint::Is(_)
        | cedar::PrincipalConstraint::IsIn(..) => None,
    }
}

fn slices(policies: &[Read], moment: Moment) -> Result<Slices, String> {
    let here = policies.iter().filter(|read| concerns(&read.policy, moment));
    let (mut everyones, mut own): (Vec<&Read>, HashMap<&cedar::EntityUid, Vec<&Read>>) = (Vec::new(), HashMap::new());
    for read in here {
        match &read.sole {
            None => everyones.push(read),
            Some(app) => own.entry(app).or_default().push(read),
        }
    }
    let slice = |own: &[&Read]| -> Result<Slice, String> {
        let all = || everyones.iter().chain(own).copied();
        let shadowed = all().any(|read| read.meta.mode == Mode::Shadow);
        Ok(Slice {
            enforced: assemble(all().filter(|read| read.meta.mode == Mode::Enforce))?,
            with_shadow: if shadowed { Some(assemble(all())?) } else { None },
        })
    };
    let mut by_app = HashMap::new();
    for (app, own) in &own {
        by_app.insert((*app).clone(), slice(own)?);
    }
    Ok(Slices { everyone: slice(&[])?, by_app })
}

/// Does the policy read an attribute of this name, of anything?
fn reads_attribute(policy: &cedar::Policy, name: &str) -> bool {
    fn reads(value: &serde_json::Value, name: &str) -> bool {
        match value {
            serde_json::Value::Object(members) => {
                members.get("attr").is_some_and(|attr| attr == name)
                    || members.values().any(|member| reads(member, name))
            }
            serde_json::Value::Array(items) => items.iter().any(|item| reads(item, name)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => false,
        }
    }
    // A policy whose form cannot be read is taken to read everything.
    policy.to_json().map_or(true, |json| reads(&json, name))
}

/// FNV-1a over 128 bits: a name for a set of texts that its operator wrote, not a protection against forgery.
fn digest<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut state: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            state ^= u128::from(byte);
            state = state.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    format!("{state:032x}")
}
