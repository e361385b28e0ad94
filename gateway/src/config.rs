//! The configuration: read whole, checked whole, immutable from then on.
//!
//! Nothing loads that holds an unknown key, a missing protection, or a secret in plain sight. Every mistake is told at
//! once, each with its line and its fix. This module alone reads files and the environment.

mod address;
mod certificate;
mod consent;
mod diff;
mod edit;
mod emergency;
mod endpoint;
mod gateway;
mod identity;
mod issuer;
mod limits;
mod listener;
mod node;
mod operation;
mod partner;
mod problem;
mod quantity;
mod read;
mod reference;
mod section;
mod sensitivity;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use address::{Origin, RedirectUri, WebUrl, is_loopback};
pub use consent::{Consent, ConsentPart2, ConsentSource, Offset, Unreadable};
pub use diff::{Change, How, changes};
pub use edit::set_top_level;
pub use emergency::Emergency;
pub(crate) use endpoint::program_instance;
pub use endpoint::{
    Endpoint, EndpointAuthentication, EndpointPart2, FhirVersion, Part2Identifier, Part2Programs, Part2Role, Part2Tag,
    Upstream, UpstreamAuth,
};
pub use gateway::{Directory, Gateway, Keys, Mode, Policies, ProofWanted, Waiver};
pub use identity::{Partners, RegisteredPartner};
pub use issuer::{Claims, DpopNonce, Introspection, Issuer, Provider, Smart, SmartMode};
pub use limits::{
    AddressRates, Alerts, Limits, PartnerRates, Risk, RiskAnswer, RiskMode, RiskRule, RiskScores, UserRates,
};
pub use listener::{Admin, AdminRole, ClientAuth, Listener, ListenerTls, Role, Serves, TrustedProxy};
pub use operation::{Audit, Durability, LogFormat, LogLevel, Shutdown, Sink, SinkKind, State, Telemetry};
pub use partner::{Agreement, Assessment, Contacts, Dpop, Evidence, MtlsMode, PartnerFile, PartnerLimits};
pub use problem::{Problem, Problems};
pub use quantity::ByteSize;
pub use read::{At, Setting};
pub use reference::reference;
pub(crate) use sensitivity::READ_AS;
pub use sensitivity::{CodeGroup, CodeListFile, LabelMapping, LabelSource, Labels, UnknownLabel};
pub use shape::{Form, Key, Section, Shape};
pub use value::{FilePath, Network, Place, Secret, Sha256};

use fhirwall_policy::cedar::Ceiling;

use crate::config::read::{Environment, Source};

/// A whole configuration: the gateway's file, its partners and its policies.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// What that file says.
    pub gateway: Arc<Gateway>,
    /// The partners by `client_id`.
    pub partners: Partners,
    /// The policies' texts.
    pub policies: Arc<[PolicyText]>,
    /// The files of `labels.lists`.
    pub code_lists: Arc<[CodeListFile]>,
    /// The files of `labels.shadow_lists`.
    pub shadow_lists: Arc<[CodeListFile]>,
}

/// One file of a policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// Its name, as `part2.cedar`.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl Config {
    /// Reads the gateway's file, every partner and every policy that it names.
    ///
    /// `env` answers for `${NAME}`. Relative paths start at the directory of the file that names them.
    ///
    /// # Errors
    /// Everything that is wrong, in all files, at once.
    pub fn load(path: &Path, env: Environment<'_>) -> Result<Self, Problems> {
        let (gateway, mut problems) = read_document::<Gateway>(path, env);
        let Some(gateway) = gateway else {
            Problems::none_in(problems)?;
            return Err(Problem::of_file(path, "this file could not be read", "see the problems above").into());
        };
        let partners = identity::read_partners(&gateway.partners.dir, env, &mut problems);
        let policies = read_policies(&gateway.policies.dir, &mut problems);
        let mut lists = |files: &[FilePath]| -> Arc<[CodeListFile]> {
            let read = files.iter().filter_map(|file| {
                let (list, wrong) = read_document::<CodeListFile>(file, env);
                problems.extend(wrong);
                list
            });
            read.collect()
        };
        let (code_lists, shadow_lists) = (lists(&gateway.labels.lists), lists(&gateway.labels.shadow_lists));
        Problems::none_in(problems)?;
        let gateway = Arc::new(gateway);
        Ok(Self { file: path.to_owned(), gateway, partners, policies: policies.into(), code_lists, shadow_lists })
    }
}

impl Config {
    /// The policies' names and texts, as the policy set loads them.
    pub fn policy_files(&self) -> Vec<(String, String)> {
        let cedar = self.policies.iter().filter(|policy| policy.name.ends_with(".cedar"));
        cedar.map(|policy| (policy.name.clone(), policy.text.clone())).collect()
    }

    /// Who stands under which template of the policy set.
    pub fn ceilings(&self) -> Vec<Ceiling> {
        let ceilings = self.partners.iter().flat_map(|one| {
            one.file
                .ceilings
                .iter()
                .map(|template| Ceiling { template: template.clone(), app: one.partner.client_id.to_string() })
        });
        ceilings.collect()
    }

    /// Every file and directory that this configuration is read from, its own file first.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.file.clone()];
        files_of(&Gateway::shape(), &self.gateway.shown(), &mut files);
        let partner_shape = PartnerFile::shape();
        for partner in self.partners.iter() {
            files_of(&partner_shape, &partner.file.shown(), &mut files);
        }
        files
    }
}

fn files_of(shape: &Shape, shown: &serde_json::Value, files: &mut Vec<PathBuf>) {
    match shape {
        Shape::Section(section) => {
            for key in &section.keys {
                shown.get(key.name).into_iter().for_each(|value| files_of(&key.shape, value, files));
            }
        }
        Shape::List(of) => shown.as_array().into_iter().flatten().for_each(|item| files_of(of, item, files)),
        Shape::Text(form) if *form == value::FILE_PATH => files.extend(shown.as_str().map(PathBuf::from)),
        Shape::Text(_) | Shape::Bool | Shape::Integer { .. } | Shape::Words(_) => {}
    }
}

/// The process's environment, for `${NAME}`.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The JSON Schema of the gateway's file, for editors.
pub fn json_schema() -> serde_json::Value {
    schema_of(&Gateway::shape(), "fhirwall.yaml")
}

/// The JSON Schema of a partner's file, for editors.
pub fn partner_json_schema() -> serde_json::Value {
    schema_of(&PartnerFile::shape(), "partner.yaml")
}

fn schema_of(shape: &Shape, title: &str) -> serde_json::Value {
    let mut schema = shape.json_schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        object.insert("title".to_owned(), title.into());
    }
    schema
}

/// Reads one partner's file.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load_partner(path: &Path, env: Environment<'_>) -> Result<PartnerFile, Problems> {
    let (file, problems) = read_document::<PartnerFile>(path, env);
    Problems::none_in(problems)?;
    file.ok_or_else(|| Problem::of_file(path, "this file could not be read", "see the problems above").into())
}

fn read_document<T: Setting>(path: &Path, env: Environment<'_>) -> (Option<T>, Vec<Problem>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let fix = "check the path and that the gateway's user may read it";
            return (None, vec![Problem::of_file(path, format!("cannot be read: {error}"), fix)]);
        }
    };
    match node::parse(&text) {
        Ok(root) => Source::new(path, env).read::<T>(&root),
        Err((line, message)) => {
            let problem =
                Problem::of_file(path, format!("this is no YAML: {message}"), "correct the syntax at this line");
            (None, vec![Problem { line, ..problem }])
        }
    }
}

/// The files of a directory by name, hidden ones (as Kubernetes' `..data`) left out.
fn list(dir: &Path, key: &str, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            let fix = format!("create it, or correct `{key}.dir`");
            problems.push(Problem::of_file(dir, format!("this directory cannot be read: {error}"), fix));
            return Vec::new();
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_name().as_encoded_bytes().starts_with(b".") => {}
            Ok(entry) => paths.push(entry.path()),
            Err(error) => {
                problems.push(Problem::of_file(dir, format!("cannot be listed: {error}"), "check its permissions"));
            }
        }
    }
    paths.sort();
    paths
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn read_policies(dir: &Path, problems: &mut Vec<Problem>) -> Vec<PolicyText> {
    let before = problems.len();
    let mut policies = Vec::new();
    for path in list(dir, "policies", problems) {
        let report = path.file_name().is_some_and(|name| name == crate::prove::REPORT);
        if !(report || has_extension(&path, "cedar") || has_extension(&path, "cedarschema")) {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match std::fs::read_to_string(&path) {
            Ok(text) => policies.push(PolicyText { name, text }),
            Err(error) => {
                problems.push(Problem::of_file(&path, format!("cannot be read: {error}"), "check its permissions"));
            }
        }
    }
    let none = !policies.iter().any(|policy| policy.name.ends_with(".cedar"));
    if none && problems.len() == before {
        problems.push(Problem::of_file(
            dir,
            "there is no policy here, and without one nothing may be disclosed",
            "add at least one *.cedar file",
        ));
    }
    policies
}
