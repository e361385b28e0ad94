//! What only a consent of its own can permit, and what a consent must carry to permit Part 2 records.
//!
//! 45 CFR 164.508(b)(3)(ii): an authorization for psychotherapy notes is combined with no other. 42 CFR 2.31(b): so with
//! substance use disorder counseling notes. 42 CFR 2.31(d): so with use in proceedings against the patient.

use fhir_profiles::label::Label;

use super::asked::Asked;
use super::provision::Rule;
use super::record::Terms;
use super::terms::{Effect, LabelTerm, PurposeTerm, Role, Scope};
use super::when::Bound;
use crate::purpose::PurposeOfUse;

/// Whether the endpoint discloses as a Part 2 program, or holds what it received under a single consent for treatment,
/// payment and operations (2.12(d)(2)(i)(C), 2.33(b)(1)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part2Role {
    #[default]
    Program,
    Recipient,
}

/// What a Consent must show to be taken for a written consent (2.31(a)), where FHIR leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part2Elements {
    pub role: Part2Role,
    /// How the signature must show.
    pub signature: Signature,
    /// Whether a consent for treatment, payment and operations must name this recipient: 2.31(a)(4) lets it name a class,
    /// which FHIR R4 can only show as no actor at all.
    pub recipient: RecipientNamed,
    /// Whether a consent for treatment, payment and operations must expire: 2.31(a)(7) takes "none" for it.
    pub expiry: Expiry,
}

impl Default for Part2Elements {
    fn default() -> Self {
        Self {
            role: Part2Role::Program,
            signature: Signature::Attributed,
            recipient: RecipientNamed::Always,
            expiry: Expiry::UnlessTpo,
        }
    }
}

/// How 2.31(a)(8) must show in FHIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// It names who agreed (`performer`), or fits [`Signature::SourceOrVerified`]; and nobody found it unverified.
    Attributed,
    /// `source[x]` holds or refers to the signed form, or `verification.verified` is true.
    SourceOrVerified,
    /// `verification.verified` is true.
    Verified,
    /// The recorder of Consents is trusted to record signed ones alone.
    Unchecked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientNamed {
    Always,
    UnlessTpo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Always,
    UnlessTpo,
}

/// Why a permit that matches does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lack {
    /// The Consent's scope is not patient-privacy.
    Scope,
    /// Its category does not reach this purpose.
    Category,
    /// It is dated in the future.
    SignedInFuture,
    /// Psychotherapy and counseling notes need a consent of their own.
    NotesOfTheirOwn,
    /// Proceedings need a consent of their own.
    ProceedingsOfTheirOwn,
    /// 2.31(a)(3): nothing in it speaks of Part 2 records.
    Description,
    /// 2.31(a)(4): it names no recipient.
    Recipient,
    /// 2.31(a)(5): it names no purpose.
    Purpose,
    /// 2.31(a)(7): it never expires.
    Expiry,
    /// 2.31(a)(8): nothing shows a signature.
    Signature,
    /// 2.31(a)(9): it has no date.
    Date,
}

/// May the permit at the end of this path, which matches, decide?
pub(super) fn lack(asked: &Asked<'_>, terms: &Terms, path: &[&Rule]) -> Option<Lack> {
    let purpose = asked.question.purpose;
    if terms.scope != Scope::PatientPrivacy {
        return Some(Lack::Scope);
    }
    if !terms.reach.includes(purpose) {
        return Some(Lack::Category);
    }
    if terms.signed.is_some_and(|signed| signed.is_after(asked.question.now, asked.question.zone)) {
        return Some(Lack::SignedInFuture);
    }
    if asked.notes && !terms.only_notes {
        return Some(Lack::NotesOfTheirOwn);
    }
    if asked.part2 && purpose.is_a(PurposeOfUse::Hlegal) && !terms.only_proceedings {
        return Some(Lack::ProceedingsOfTheirOwn);
    }
    if !asked.part2 || asked.may_redisclose() {
        return None;
    }
    lacking_element(asked.question.part2, terms, path)
}

fn lacking_element(elements: Part2Elements, terms: &Terms, path: &[&Rule]) -> Option<Lack> {
    let tpo = is_tpo(path);
    let about_part2 = |term: &LabelTerm| matches!(term, LabelTerm::Known(label) if speaks_of_part2(*label));
    if !terms.directive && !path.iter().any(|rule| rule.labels.iter().any(about_part2)) {
        return Some(Lack::Description);
    }
    let named = path.iter().any(|rule| rule.actors.iter().any(|actor| actor.role == Role::Recipient));
    let recipient_waived = tpo && elements.recipient == RecipientNamed::UnlessTpo;
    if !named && !recipient_waived {
        return Some(Lack::Recipient);
    }
    if path.iter().all(|rule| rule.purposes.is_empty()) {
        return Some(Lack::Purpose);
    }
    let expires = path.iter().any(|rule| rule.period.is_some_and(|p| matches!(p.end, Bound::At(_))));
    let expiry_waived = tpo && elements.expiry == Expiry::UnlessTpo;
    if !expires && !expiry_waived {
        return Some(Lack::Expiry);
    }
    let verified = terms.verified == Some(true);
    let signed = match elements.signature {
        Signature::Attributed => verified || (terms.verified.is_none() && (terms.source || terms.performer)),
        Signature::SourceOrVerified => terms.source || verified,
        Signature::Verified => verified,
        Signature::Unchecked => true,
    };
    if !signed {
        return Some(Lack::Signature);
    }
    terms.signed.is_none().then_some(Lack::Date)
}

/// The labels of records that a Part 2 program makes. ETH is no parent of SUD, so both stand here.
pub(super) fn speaks_of_part2(label: Label) -> bool {
    let closed = fhir_profiles::label::LabelSet::EMPTY.with(label);
    [Label::PART2, Label::ETH, Label::SUD].into_iter().any(|part2| closed.contains(part2))
}

pub(super) fn is_notes(label: Label) -> bool {
    label == Label::PSYTHPN || label == Label::HIPAA_PSY_NOTES
}

/// Is the permit at the end of this path a single consent for treatment, payment and health care operations?
pub(super) fn is_tpo(path: &[&Rule]) -> bool {
    let nearest = path.iter().rev().find(|rule| !rule.purposes.is_empty());
    nearest.is_some_and(|rule| names_tpo(rule))
}

pub(super) fn names_tpo(rule: &Rule) -> bool {
    [PurposeOfUse::Treat, PurposeOfUse::Hpaymt, PurposeOfUse::Hoperat]
        .into_iter()
        .all(|purpose| rule.purposes.contains(&PurposeTerm::Known(purpose)))
}

/// Is every permit in the tree for notes alone? An unlabelled permit is for everything.
pub(super) fn only_notes(root: &Rule) -> bool {
    let notes = |term: &LabelTerm| matches!(term, LabelTerm::Known(label) if is_notes(*label));
    every_permit(root, false, &|rule, inherited| match rule.labels.as_slice() {
        [] => inherited,
        labels => labels.iter().all(notes),
    })
}

/// Is every permit in the tree for proceedings alone?
pub(super) fn only_proceedings(root: &Rule) -> bool {
    let proceedings = |term: &PurposeTerm| *term == PurposeTerm::Known(PurposeOfUse::Hlegal);
    every_permit(root, false, &|rule, inherited| match rule.purposes.as_slice() {
        [] => inherited,
        purposes => purposes.iter().all(proceedings),
    })
}

fn every_permit(rule: &Rule, inherited: bool, narrows: &impl Fn(&Rule, bool) -> bool) -> bool {
    let narrow = narrows(rule, inherited);
    let own = match rule.effect {
        Some(Effect::Permit | Effect::EmergencyOnly) => narrow,
        Some(Effect::Deny | Effect::Unstated) | None => true,
    };
    own && rule.exceptions.iter().all(|exception| every_permit(exception, narrow, narrows))
}
