//! Types with a rule of their own, beside scope, compartment, label and consent.

use crate::ids::ResourceType;
use crate::interaction::Interaction;

/// The rule of a type, and the test that shows it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub kind: &'static str,
    pub says: &'static str,
    pub shown_by: &'static str,
}

/// Every type with a rule of its own.
pub const RULES: &[Rule] = &[
    Rule {
        kind: "Binary",
        says: "follows the labels of what it belongs to; one that belongs to nothing known is of unknown sensitivity",
        shown_by: "tests/journey/types.rs: a_binary_follows_the_document_it_belongs_to",
    },
    Rule {
        kind: "DocumentReference",
        says: "judged as what it is; its attachment's Binary with it",
        shown_by: "tests/journey/types.rs: a_binary_follows_the_document_it_belongs_to",
    },
    Rule {
        kind: "DiagnosticReport",
        says: "results that are withheld go, with the narrative; attachments as the report's own labels and codes say",
        shown_by: "tests/journey/types.rs: what_names_a_hidden_record_is_shown_without_the_name",
    },
    Rule {
        kind: "Composition",
        says: "section entries that are withheld go, with the narrative of their section",
        shown_by: "tests/journey/types.rs: what_names_a_hidden_record_is_shown_without_the_name",
    },
    Rule {
        kind: "List",
        says: "entries whose item is withheld go",
        shown_by: "tests/journey/types.rs: what_names_a_hidden_record_is_shown_without_the_name",
    },
    Rule {
        kind: "Group",
        says: "members that are withheld go; an export of its members needs it readable",
        shown_by: "tests/journey/types.rs: what_names_a_hidden_record_is_shown_without_the_name",
    },
    Rule {
        kind: "Provenance",
        says: "created, never changed or deleted; targets that are withheld go",
        shown_by: "tests/journey/types.rs: evidence_is_created_and_never_changed",
    },
    Rule {
        kind: "AuditEvent",
        says: "created, never changed or deleted; read by whom the policies let",
        shown_by: "tests/journey/types.rs: evidence_is_created_and_never_changed",
    },
    Rule {
        kind: "Subscription",
        says: "never created or changed, by anybody: it would send records past this gateway; may be deleted",
        shown_by: "tests/journey/types.rs: nobody_makes_the_ehr_send_records_elsewhere",
    },
];

/// Does the type's own rule let this be asked at all, whoever asks?
pub fn allows(interaction: &Interaction) -> bool {
    let changes = |kind: &ResourceType| !matches!(kind.as_str(), "Subscription" | "AuditEvent" | "Provenance");
    match interaction {
        Interaction::Create { kind } | Interaction::ConditionalCreate { kind, .. } => kind.as_str() != "Subscription",
        Interaction::Update { kind, .. }
        | Interaction::Patch { kind, .. }
        | Interaction::ConditionalUpdate { kind, .. }
        | Interaction::ConditionalPatch { kind, .. } => changes(kind),
        Interaction::Delete { kind, .. } | Interaction::ConditionalDelete { kind, .. } => {
            changes(kind) || kind.as_str() == "Subscription"
        }
        Interaction::Capabilities
        | Interaction::Read { .. }
        | Interaction::Vread { .. }
        | Interaction::HistoryInstance { .. }
        | Interaction::HistoryType { .. }
        | Interaction::HistorySystem { .. }
        | Interaction::SearchType { .. }
        | Interaction::SearchSystem { .. }
        | Interaction::SearchCompartment { .. }
        | Interaction::Batch { .. }
        | Interaction::Transaction { .. }
        | Interaction::Operation { .. }
        | Interaction::Page { .. }
        | Interaction::ExportStatus { .. }
        | Interaction::ExportDelete { .. }
        | Interaction::ExportFile { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use crate::interaction::{ParseError, RequestParts, interpret};

    #[test]
    fn rules_are_the_same_for_every_way_of_writing() {
        let ask = |method: &str, target: &str| {
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            let content_type = match method {
                "POST" | "PUT" => Some("application/fhir+json"),
                "PATCH" => Some("application/json-patch+json"),
                _ => None,
            };
            interpret(&RequestParts { method, path, query, content_type, ..RequestParts::default() })
        };
        let refused = Err(ParseError::UnsupportedInteraction);
        for (kind, condition) in
            [("Subscription", "status=active"), ("AuditEvent", "type=x"), ("Provenance", "agent=x")]
        {
            for method in ["PUT", "PATCH"] {
                assert_eq!(ask(method, &format!("/{kind}/1")), refused, "{method} {kind}");
                assert_eq!(ask(method, &format!("/{kind}?{condition}")), refused, "{method} {kind}");
            }
            assert!(ask("GET", &format!("/{kind}/1")).is_ok());
            let evidence = kind != "Subscription";
            assert_eq!(ask("POST", &format!("/{kind}")).is_ok(), evidence, "{kind}");
            assert_eq!(ask("DELETE", &format!("/{kind}/1")).is_ok(), !evidence, "{kind}");
            assert_eq!(ask("DELETE", &format!("/{kind}?{condition}")).is_ok(), !evidence, "{kind}");
        }
        assert!(ask("PUT", "/Observation/1").is_ok());
    }
}
