//! What the gateway says for itself, and how interactions are classed.

use bytes::Bytes;
use fhir_profiles::bundle::Entry;
use fhir_profiles::interaction::Interaction;
use fhirwall_policy::subject::Subject;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use uuid::Uuid;

use crate::admit::RouteClass;
use crate::listen::Answer;
use crate::refusal::{FHIR_JSON, base_headers};
use crate::state::Bearer;

/// Room taken before the EHR is asked; the rest is taken when the answer's length is known.
pub(super) const FIRST_ROOM: u64 = 64 * 1024;

/// A FHIR resource as an answer.
pub(super) fn resource(decision: Uuid, body: Bytes) -> Answer {
    let mut headers = base_headers(decision);
    headers.insert(CONTENT_TYPE, FHIR_JSON);
    Answer { status: StatusCode::OK, headers, body, rest: None, ending: None }
}

/// What kind of work a request is, and how much of it.
pub(super) fn route_class(interaction: &Interaction) -> (RouteClass, u32) {
    let class = match interaction {
        Interaction::Capabilities => RouteClass::Metadata,
        Interaction::Read { .. } | Interaction::Vread { .. } => RouteClass::Read,
        Interaction::SearchType { .. }
        | Interaction::SearchSystem { .. }
        | Interaction::SearchCompartment { .. }
        | Interaction::Page { .. } => RouteClass::Search,
        Interaction::HistoryInstance { .. } | Interaction::HistoryType { .. } | Interaction::HistorySystem { .. } => {
            RouteClass::History
        }
        Interaction::Create { .. }
        | Interaction::Update { .. }
        | Interaction::Patch { .. }
        | Interaction::Delete { .. }
        | Interaction::ConditionalCreate { .. }
        | Interaction::ConditionalUpdate { .. }
        | Interaction::ConditionalPatch { .. }
        | Interaction::ConditionalDelete { .. } => RouteClass::Write,
        Interaction::Batch { entries } | Interaction::Transaction { entries } => {
            return (RouteClass::Read, entries.iter().map(cost).fold(0, u32::saturating_add));
        }
        Interaction::Operation { .. } => RouteClass::Operation,
        Interaction::ExportStatus { .. } | Interaction::ExportDelete { .. } => RouteClass::Metadata,
        Interaction::ExportFile { .. } => RouteClass::Bulk,
    };
    (class, 1)
}

/// A Bundle costs what its entries would cost alone, in reads.
fn cost(entry: &Entry) -> u32 {
    match &entry.request {
        Ok(interaction) => route_class(interaction).0.cost(),
        Err(_) => RouteClass::Read.cost(),
    }
}

/// What a lockdown or a revocation may name.
pub(super) fn bearer(subject: &Subject) -> Bearer<'_> {
    Bearer {
        issuer: &subject.issuer,
        token_id: &subject.token_id,
        sub: &subject.sub,
        client_id: &subject.partner.client_id,
        patient: subject.patient.as_ref().map(fhir_profiles::ids::LogicalId::as_str),
        issued_at: None,
    }
}
