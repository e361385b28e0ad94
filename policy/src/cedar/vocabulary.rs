//! Names made once: every code of the tables as a Cedar entity, so that a question is built from ready parts.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::Label;

use crate::question::{Record, Target};

/// A question without its asker: the action, the thing asked about, and the action's groups.
pub(super) struct Question {
    pub(super) action: EntityUid,
    pub(super) resource: Entity,
    pub(super) groups: Vec<Entity>,
}

pub(super) struct Vocabulary {
    actions: HashMap<&'static str, (EntityUid, Vec<Entity>)>,
    target: EntityUid,
    record: EntityUid,
    kinds: HashMap<ResourceType, RestrictedExpression>,
    labels: HashMap<Label, RestrictedExpression>,
}

/// Every action of the schema, with the groups it is in, nearest first.
pub(super) const ACTIONS: &[(&str, &[&str])] = &[
    ("capabilities", &["view", "interact"]),
    ("read", &["view", "interact"]),
    ("search-type", &["view", "interact"]),
    ("search-system", &["view", "interact"]),
    ("search-compartment", &["view", "interact"]),
    ("vread", &["versions", "view", "interact"]),
    ("history-instance", &["versions", "view", "interact"]),
    ("history-type", &["versions", "view", "interact"]),
    ("history-system", &["versions", "view", "interact"]),
    ("operation", &["interact"]),
    ("create", &["change", "interact"]),
    ("update", &["change", "interact"]),
    ("patch", &["change", "interact"]),
    ("delete", &["change", "interact"]),
    ("disclose", &[]),
];

impl Vocabulary {
    /// `None` only if a code of the tables were no Cedar identifier.
    pub(super) fn new() -> Option<Self> {
        let mut actions = HashMap::new();
        for (name, groups) in ACTIONS {
            let parents: Option<HashSet<EntityUid>> = groups.iter().map(|group| uid("Action", group)).collect();
            let own = uid("Action", name)?;
            let entities =
                if groups.is_empty() { Vec::new() } else { vec![Entity::new_no_attrs(own.clone(), parents?)] };
            actions.insert(*name, (own, entities));
        }
        let kinds = ResourceType::all()
            .iter()
            .map(|name| Some((name.parse().ok()?, code("Kind", name)?)))
            .collect::<Option<HashMap<_, _>>>()?;
        let labels =
            Label::all().map(|label| Some((label, code("Label", label.code())?))).collect::<Option<HashMap<_, _>>>()?;
        Some(Self { actions, target: uid("Target", "touched")?, record: uid("Record", "found")?, kinds, labels })
    }

    pub(super) fn target(&self, key: &Target) -> Option<Question> {
        let (action, groups) = self.actions.get(key.action.as_str())?;
        let attributes = HashMap::from([
            ("kind".to_owned(), self.kinds.get(&key.kind)?.clone()),
            ("path".to_owned(), code("Path", &key.path)?),
        ]);
        let resource = Entity::new(self.target.clone(), attributes, HashSet::new()).ok()?;
        Some(Question { action: action.clone(), resource, groups: groups.clone() })
    }

    pub(super) fn record(&self, key: &Record) -> Option<Question> {
        let (action, groups) = self.actions.get("disclose")?;
        let labels = key.labels.iter().map(|label| self.labels.get(&label).cloned()).collect::<Option<Vec<_>>>()?;
        let attributes = HashMap::from([
            ("kind".to_owned(), self.kinds.get(&key.kind)?.clone()),
            ("labels".to_owned(), RestrictedExpression::new_set(labels)),
            ("consent".to_owned(), code("ConsentState", key.consent.code())?),
            ("notes_consent".to_owned(), RestrictedExpression::new_bool(key.notes_consent)),
            ("proceedings_consent".to_owned(), RestrictedExpression::new_bool(key.proceedings_consent)),
            ("patient".to_owned(), code("Relation", key.patient.code())?),
            ("emergency_patient".to_owned(), RestrictedExpression::new_bool(key.emergency_patient)),
            ("court_order".to_owned(), RestrictedExpression::new_bool(key.court_order)),
        ]);
        let resource = Entity::new(self.record.clone(), attributes, HashSet::new()).ok()?;
        Some(Question { action: action.clone(), resource, groups: groups.clone() })
    }
}

pub(super) fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    Some(EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).ok()?, EntityId::new(id)))
}

pub(super) fn code(kind: &str, id: &str) -> Option<RestrictedExpression> {
    Some(RestrictedExpression::new_entity_uid(uid(kind, id)?))
}
