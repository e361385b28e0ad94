//! One Consent, read strictly.

use core::fmt;

use fhir_profiles::ids::LogicalId;
use fhir_profiles::label::{ACT_CODE, OBSERVATION_VALUE};
use fhir_profiles::reference::Reference;

use super::json::{Node, Object};
use super::provision::{Rule, concept, each, has_unknown_element, object_of, refuse_modifiers, text};
use super::separate;
use super::terms::{Code, Effect, Reach, Scope, is_part2_directive};
use super::when::FhirTime;

/// A Consent that was understood.
#[derive(Clone)]
pub struct ConsentRecord {
    pub(super) id: LogicalId,
    pub(super) patient: Reference,
    pub(super) status: Status,
    /// `None` unless the status is active: a consent that is not active says nothing, whatever it holds.
    pub(super) terms: Option<Box<Terms>>,
}

/// What an active Consent says.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) scope: Scope,
    pub(super) reach: Reach,
    /// Its category or policy rule is `42CFRPart2CD`.
    pub(super) directive: bool,
    pub(super) signed: Option<FhirTime>,
    /// It refers to, or carries, the signed form.
    pub(super) source: bool,
    /// It names who agreed.
    pub(super) performer: bool,
    /// Whether somebody verified it with the patient, where it says so.
    pub(super) verified: Option<bool>,
    pub(super) root: Rule,
    /// Every permit in it is for psychotherapy or counseling notes alone.
    pub(super) only_notes: bool,
    /// Every permit in it is for legal proceedings alone.
    pub(super) only_proceedings: bool,
}

/// `Consent.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Draft,
    Proposed,
    Active,
    Rejected,
    Inactive,
    EnteredInError,
}

/// A Consent that was not understood, which counts as a denial. It names itself as far as it could be told.
#[derive(Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// `Consent.id`.
    pub id: Option<LogicalId>,
    /// `Consent.patient`.
    pub patient: Option<Reference>,
    /// What stood in the way.
    pub why: Why,
}

/// Why a Consent cannot be understood. It carries no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Not one JSON value, or a key stands twice.
    NotJson,
    /// Not a Consent.
    NotConsent,
    /// Written for another FHIR version.
    OtherVersion,
    /// A modifier extension or `implicitRules`.
    Modifier,
    /// An element that R4 does not define.
    UnknownElement,
    /// An element that is missing, of the wrong type, empty, or no legal value.
    Malformed(&'static str),
    /// The source left parts of it out: `SUBSETTED`, `REDACTED` or `MASKED`.
    Incomplete,
}

impl ConsentRecord {
    /// Reads one R4 Consent.
    ///
    /// # Errors
    /// [`Unreadable`] for anything whose meaning is not certain: JSON with a key that stands twice, another version's
    /// Consent, a modifier extension, `implicitRules`, an unknown element of the root, a missing or malformed element,
    /// or a copy with parts left out. An unknown code, or an unknown element of a provision, is no error: it is weighed
    /// in [`super::evaluate`].
    pub fn parse(json: &[u8]) -> Result<Self, Unreadable> {
        let node = Node::parse(json).ok_or(Unreadable { id: None, patient: None, why: Why::NotJson })?;
        let object = node.as_object().ok_or(Unreadable { id: None, patient: None, why: Why::NotConsent })?;
        Self::read(object).map_err(|why| Unreadable { id: id(object), patient: patient(object), why })
    }

    fn read(object: &Object) -> Result<Self, Why> {
        if object.get("resourceType").and_then(Node::as_text) != Some("Consent") {
            return Err(Why::NotConsent);
        }
        refuse_modifiers(object)?;
        // R4 resource.html: implicitRules is a modifier element.
        if object.contains_key("implicitRules") || object.contains_key("_implicitRules") {
            return Err(Why::Modifier);
        }
        let id = id(object).ok_or(Why::Malformed("id"))?;
        let status = Status::read(object)?;
        let patient = patient(object);
        if status != Status::Active {
            // An inactive R5 Consent has no `patient`; it names nobody, and says nothing to anybody.
            return Ok(Self { id, patient: patient.unwrap_or(Reference::Opaque), status, terms: None });
        }
        let terms = Terms::read(object)?;
        let patient = patient.ok_or(Why::Malformed("patient"))?;
        Ok(Self { id, patient, status, terms: Some(Box::new(terms)) })
    }

    /// `Consent.id`.
    pub const fn id(&self) -> &LogicalId {
        &self.id
    }

    /// `Consent.patient`.
    pub const fn patient(&self) -> &Reference {
        &self.patient
    }

    /// `Consent.status`.
    pub const fn status(&self) -> Status {
        self.status
    }
}

impl Terms {
    fn read(object: &Object) -> Result<Self, Why> {
        const ELEMENTS: &[&str] = &[
            "resourceType",
            "id",
            "meta",
            "language",
            "text",
            "contained",
            "extension",
            "identifier",
            "status",
            "scope",
            "category",
            "patient",
            "dateTime",
            "performer",
            "organization",
            "sourceAttachment",
            "sourceReference",
            "policy",
            "policyRule",
            "verification",
            "provision",
        ];
        const OTHER_VERSIONS: &[&str] = &[
            "subject",
            "decision",
            "grantor",
            "grantee",
            "manager",
            "controller",
            "regulatoryBasis",
            "policyBasis",
            "policyText",
            "date",
            "period",
            "except",
            "consentingParty",
            "actor",
            "action",
            "purpose",
            "securityLabel",
        ];
        if OTHER_VERSIONS.iter().any(|element| object.contains_key(*element)) {
            return Err(Why::OtherVersion);
        }
        if has_unknown_element(object, ELEMENTS) {
            return Err(Why::UnknownElement);
        }
        refuse_incomplete(object)?;
        each(object, "policy", |node| refuse_modifiers(object_of(node, "policy")?))?;
        let scope = Scope::of(&concept(object.get("scope").ok_or(Why::Malformed("scope"))?)?);
        let categories = each(object, "category", concept)?;
        if categories.is_empty() {
            return Err(Why::Malformed("category"));
        }
        let policy_rule = object.get("policyRule").map(concept).transpose()?.unwrap_or_default();
        let signed =
            text(object, "dateTime")?.map(|at| FhirTime::parse(at).ok_or(Why::Malformed("dateTime"))).transpose()?;
        let root = Rule::root(object.get("provision"), Effect::of_policy_rule(&policy_rule))?;
        Ok(Self {
            scope,
            reach: categories.iter().map(Reach::of).min().unwrap_or(Reach::Nothing),
            directive: categories.iter().any(is_part2_directive) || is_part2_directive(&policy_rule),
            signed,
            source: object.contains_key("sourceReference") || object.contains_key("sourceAttachment"),
            performer: object.contains_key("performer"),
            verified: each(object, "verification", verified)?.into_iter().max(),
            only_notes: separate::only_notes(&root),
            only_proceedings: separate::only_proceedings(&root),
            root,
        })
    }
}

fn verified(node: &Node) -> Result<bool, Why> {
    let object = object_of(node, "verification")?;
    refuse_modifiers(object)?;
    match object.get("verified") {
        Some(Node::Bool(verified)) => Ok(*verified),
        Some(_) | None => Err(Why::Malformed("verification")),
    }
}

/// A copy that says of itself that parts are missing may lack the very provision that denies.
fn refuse_incomplete(object: &Object) -> Result<(), Why> {
    let Some(meta) = object.get("meta") else { return Ok(()) };
    let meta = object_of(meta, "meta")?;
    let read = |node: &Node| {
        let coding = object_of(node, "meta")?;
        Ok(text(coding, "system")?.zip(text(coding, "code")?).map(|(system, code)| Code::new(system, code)))
    };
    let marks = each(meta, "security", read)?.into_iter().chain(each(meta, "tag", read)?).flatten();
    let incomplete = |mark: Code| {
        ["SUBSETTED", "REDACTED", "MASKED"].iter().any(|code| mark.is(OBSERVATION_VALUE, code))
            || mark.is(ACT_CODE, "REDACT")
            || mark.is(ACT_CODE, "MASK")
    };
    if marks.into_iter().any(incomplete) { Err(Why::Incomplete) } else { Ok(()) }
}

fn id(object: &Object) -> Option<LogicalId> {
    object.get("id")?.as_text()?.parse().ok()
}

fn patient(object: &Object) -> Option<Reference> {
    Some(Reference::parse(object.get("patient")?.as_object()?.get("reference")?.as_text()?))
}

impl Status {
    fn read(object: &Object) -> Result<Self, Why> {
        match text(object, "status")?.ok_or(Why::Malformed("status"))? {
            "draft" => Ok(Self::Draft),
            "proposed" => Ok(Self::Proposed),
            "active" => Ok(Self::Active),
            "rejected" => Ok(Self::Rejected),
            "inactive" => Ok(Self::Inactive),
            "entered-in-error" => Ok(Self::EnteredInError),
            _ => Err(Why::Malformed("status")),
        }
    }

    /// The code of consent-state-codes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Proposed => "proposed",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Inactive => "inactive",
            Self::EnteredInError => "entered-in-error",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("it is not one JSON value in which every key stands once"),
            Self::NotConsent => f.write_str("it is not a Consent"),
            Self::OtherVersion => f.write_str("it is written for another version of FHIR than R4"),
            Self::Modifier => f.write_str("it carries a modifier that this gateway does not know"),
            Self::UnknownElement => f.write_str("it has an element that R4 does not define"),
            Self::Malformed(element) => write!(f, "its element `{element}` is missing or malformed"),
            Self::Incomplete => f.write_str("parts of it were left out by its source"),
        }
    }
}

impl fmt::Debug for ConsentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentRecord").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unreadable").field("why", &self.why).finish_non_exhaustive()
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Consent cannot be understood: {}", self.why)
    }
}

impl core::error::Error for Unreadable {}
