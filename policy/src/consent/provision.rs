//! `Consent.provision`: one rule and its exceptions, as read.

use fhir_profiles::ids::{InstanceId, ResourceType};
use fhir_profiles::reference::Reference;

use super::json::{Node, Object};
use super::record::Why;
use super::terms::{Code, Concept, ConsentAction, Effect, LabelTerm, PurposeTerm, RESOURCE_TYPES, Role};
use super::when::{Bound, FhirTime, Period, Zone};
use crate::purpose::PurposeOfUse;

/// One provision. An empty list constrains nothing.
#[derive(Clone, Default)]
pub(super) struct Rule {
    pub(super) effect: Option<Effect>,
    /// It has an element that R4 does not define, or one whose value is not given.
    pub(super) unknown: bool,
    pub(super) period: Option<Period>,
    pub(super) actors: Vec<Actor>,
    pub(super) actions: Vec<Option<ConsentAction>>,
    pub(super) labels: Vec<LabelTerm>,
    pub(super) purposes: Vec<PurposeTerm>,
    pub(super) classes: Vec<Class>,
    pub(super) codes: Vec<Concept>,
    pub(super) data_period: Option<Period>,
    pub(super) data: Vec<DataTerm>,
    pub(super) exceptions: Vec<Self>,
}

#[derive(Clone)]
pub(super) struct Actor {
    pub(super) role: Role,
    pub(super) name: Name,
}

/// A `Reference` to a party.
#[derive(Clone, Default)]
pub(super) struct Name {
    pub(super) reference: Option<Reference>,
    pub(super) identifier: Option<(Box<str>, Box<str>)>,
}

/// One `provision.class`.
#[derive(Clone)]
pub(super) enum Class {
    Kind(ResourceType),
    Code(Code),
    Unknown,
}

/// One `provision.data`.
#[derive(Clone)]
pub(super) struct DataTerm {
    pub(super) meaning: Meaning,
    pub(super) reference: Option<Reference>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Instance,
    Related,
    Dependents,
    AuthoredBy,
    Unknown,
}

impl Rule {
    /// The root, whose own `type` may be missing: then `base` decides.
    pub(super) fn root(provision: Option<&Node>, base: Effect) -> Result<Self, Why> {
        let mut root = match provision {
            None => Self::default(),
            // R5 made `provision` a list and moved the base decision to `decision`.
            Some(Node::Array(_)) => return Err(Why::OtherVersion),
            Some(node) => Self::read(node)?,
        };
        root.effect = root.effect.or(Some(base));
        Ok(root)
    }

    fn read(node: &Node) -> Result<Self, Why> {
        const ELEMENTS: &[&str] = &[
            "id",
            "extension",
            "type",
            "period",
            "actor",
            "action",
            "securityLabel",
            "purpose",
            "class",
            "code",
            "dataPeriod",
            "data",
            "provision",
        ];
        let object = object_of(node, "provision")?;
        refuse_modifiers(object)?;
        let (effect, unknown_type) = match text(object, "type")? {
            None => (None, false),
            Some("permit") => (Some(Effect::Permit), false),
            Some("deny") => (Some(Effect::Deny), false),
            Some(_) => (Some(Effect::Deny), true),
        };
        Ok(Self {
            effect,
            unknown: unknown_type || has_unknown_element(object, ELEMENTS),
            period: period(object, "period")?,
            actors: each(object, "actor", Actor::read)?,
            actions: each(object, "action", |node| Ok(ConsentAction::of(&concept(node)?)))?,
            labels: each(object, "securityLabel", |node| Ok(LabelTerm::of(coding(node)?.as_ref())))?,
            purposes: each(object, "purpose", |node| Ok(PurposeTerm::of(coding(node)?.as_ref())))?,
            classes: each(object, "class", |node| Ok(Class::of(coding(node)?)))?,
            codes: each(object, "code", concept)?,
            data_period: period(object, "dataPeriod")?,
            data: each(object, "data", DataTerm::read)?,
            exceptions: each(object, "provision", Self::read)?,
        })
    }

    /// What the rule decides where it holds. A nested rule without a type breaks R4 ("required in all nested rules"),
    /// and is read as a denial.
    pub(super) fn effect_for(&self, purpose: PurposeOfUse) -> Effect {
        self.effect.unwrap_or(Effect::Deny).for_purpose(purpose)
    }
}

impl Actor {
    fn read(node: &Node) -> Result<Self, Why> {
        let object = object_of(node, "actor")?;
        refuse_modifiers(object)?;
        let role = object.get("role").map(concept).transpose()?.map_or(Role::Other, |role| Role::of(&role));
        let name = object.get("reference").map(Name::read).transpose()?.unwrap_or_default();
        Ok(Self { role, name })
    }
}

impl Name {
    fn read(node: &Node) -> Result<Self, Why> {
        let object = object_of(node, "reference")?;
        let identifier = match object.get("identifier") {
            None => None,
            Some(identifier) => {
                let identifier = object_of(identifier, "identifier")?;
                text(identifier, "system")?.zip(text(identifier, "value")?).map(|(s, v)| (s.into(), v.into()))
            }
        };
        Ok(Self { reference: text(object, "reference")?.map(Reference::parse), identifier })
    }
}

impl Class {
    fn of(coding: Option<Code>) -> Self {
        match coding {
            None => Self::Unknown,
            Some(coding) if &*coding.system == RESOURCE_TYPES => coding.code.parse().map_or(Self::Unknown, Self::Kind),
            Some(coding) => Self::Code(coding),
        }
    }
}

impl DataTerm {
    fn read(node: &Node) -> Result<Self, Why> {
        let object = object_of(node, "data")?;
        refuse_modifiers(object)?;
        let meaning = match text(object, "meaning")? {
            Some("instance") => Meaning::Instance,
            Some("related") => Meaning::Related,
            Some("dependents") => Meaning::Dependents,
            Some("authoredby") => Meaning::AuthoredBy,
            Some(_) | None => Meaning::Unknown,
        };
        let name = object.get("reference").map(Name::read).transpose()?.unwrap_or_default();
        Ok(Self { meaning, reference: name.reference })
    }

    /// The instance that the term names on the server with these bases.
    pub(super) fn instance<'a>(&'a self, bases: &[&str]) -> Option<&'a InstanceId> {
        self.reference.as_ref()?.on_server(bases)
    }
}

pub(super) fn object_of<'a>(node: &'a Node, element: &'static str) -> Result<&'a Object, Why> {
    // R4 json.html: "objects are never empty".
    node.as_object().filter(|object| !object.is_empty()).ok_or(Why::Malformed(element))
}

/// A string element. Absent is `None`; empty or of another type is malformed.
pub(super) fn text<'a>(object: &'a Object, element: &'static str) -> Result<Option<&'a str>, Why> {
    match object.get(element) {
        None => Ok(None),
        Some(node) => node.as_text().filter(|text| !text.is_empty()).map(Some).ok_or(Why::Malformed(element)),
    }
}

/// A repeating element, each item read. Absent is empty; an empty array is malformed (R4 json.html).
pub(super) fn each<T>(
    object: &Object,
    element: &'static str,
    read: impl Fn(&Node) -> Result<T, Why>,
) -> Result<Vec<T>, Why> {
    match object.get(element) {
        None => Ok(Vec::new()),
        Some(node) => {
            let items = node.as_array().filter(|items| !items.is_empty()).ok_or(Why::Malformed(element))?;
            items.iter().map(read).collect()
        }
    }
}

/// A `Coding`; `None` if it lacks a system or a code.
fn coding(node: &Node) -> Result<Option<Code>, Why> {
    let object = object_of(node, "coding")?;
    Ok(text(object, "system")?.zip(text(object, "code")?).map(|(system, code)| Code::new(system, code)))
}

/// A `CodeableConcept`; codings without a system or a code name nothing and are left out.
pub(super) fn concept(node: &Node) -> Result<Concept, Why> {
    let object = object_of(node, "CodeableConcept")?;
    Ok(each(object, "coding", coding)?.into_iter().flatten().collect())
}

fn period(object: &Object, element: &'static str) -> Result<Option<Period>, Why> {
    let Some(node) = object.get(element) else { return Ok(None) };
    let period = object_of(node, element)?;
    let bound = |end: &'static str, sibling: &str| match text(period, end)? {
        Some(at) => FhirTime::parse(at).map(Bound::At).ok_or(Why::Malformed(element)),
        None if period.contains_key(sibling) => Ok(Bound::Unknown),
        None => Ok(Bound::Open),
    };
    let period = Period { start: bound("start", "_start")?, end: bound("end", "_end")? };
    // The widest zone: only what is out of order everywhere is.
    period.is_ordered(Zone::ANYWHERE).then_some(Some(period)).ok_or(Why::Malformed(element))
}

/// An element that R4 does not define here, or a primitive that is there by its extension alone.
pub(super) fn has_unknown_element(object: &Object, elements: &[&str]) -> bool {
    object.keys().any(|key| match key.strip_prefix('_') {
        Some(sibling) => !elements.contains(&sibling) || !object.contains_key(sibling),
        None => !elements.contains(&key.as_str()),
    })
}

/// R4 extensibility.html#modifierExtension: who does not know a modifier extension must not process the element.
pub(super) fn refuse_modifiers(object: &Object) -> Result<(), Why> {
    let refused = object.contains_key("modifierExtension") || object.contains_key("_modifierExtension");
    if refused { Err(Why::Modifier) } else { Ok(()) }
}
