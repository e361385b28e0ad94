//! Bundles and outcomes: what says how much there is, where more is, and what went wrong.

use super::options::{Style, Totals};
use super::plan::Cause;
use super::surgery::{Field, Surgery};
use crate::engine::document::BundleType;
use crate::engine::elements::ElementPath;
use crate::engine::json::{Kind, Span, escape_into, index};
use crate::engine::tree::Node;
use crate::ids::ResourceType;

/// On every searchset and document of a silent partner, whether or not anything was withheld (42 CFR 2.13(c)(1): an
/// answer must not reveal that a person is a patient).
const SILENT_OUTCOME: &str = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"suppressed","details":{"text":"This source may withhold information by law; absence here is not evidence of absence."}}]}"#;

/// Where something was withheld from a marked partner.
const MARKED_OUTCOME: &str = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"suppressed","details":{"text":"Some information was withheld."}}]}"#;

/// Is this resource one of ours, and so nothing to judge or tidy?
pub(super) fn is_advisory(resource: &str) -> bool {
    resource == SILENT_OUTCOME || resource == MARKED_OUTCOME
}

/// Members of an OperationOutcome in which servers quote records and requests.
pub(super) fn tidied(surgery: &Surgery<'_, '_, '_>, object: Node, name: &str) -> Option<Cause> {
    if !surgery.options().strip_outcomes || surgery.facts.kind != ResourceType::OPERATION_OUTCOME {
        return None;
    }
    let at = surgery.path_of(object);
    let quotes = match (at.kind(), at.path()) {
        ("OperationOutcome", "") => name == "text",
        ("OperationOutcome", "issue") => matches!(name, "diagnostics" | "location" | "expression"),
        ("OperationOutcome", "issue.details") => name == "text",
        _ => false,
    };
    quotes.then_some(Cause::tidy())
}

/// Are these items answers by position, so that one that goes leaves another in its place?
pub(super) fn stands_in(surgery: &Surgery<'_, '_, '_>, at: &ElementPath) -> bool {
    at.kind() == "Bundle" && at.path() == "entry" && bundle_type(surgery).is_some_and(BundleType::answers_by_position)
}

fn bundle_type(surgery: &Surgery<'_, '_, '_>) -> Option<BundleType> {
    surgery.redaction.document.sites.get(index(surgery.resource)).and_then(|site| site.bundle_type)
}

/// Settles a Bundle, when its entries are settled.
pub(super) fn settle(surgery: &mut Surgery<'_, '_, '_>, fields: &mut [Field<'_>]) -> Result<(), Cause> {
    if surgery.facts.kind != ResourceType::BUNDLE {
        return Ok(());
    }
    // A document without its Composition and a message without its header are neither.
    if let Some(BundleType::Document | BundleType::Message) = bundle_type(surgery)
        && let Some(cause) = first_entry_gone(surgery, fields)
    {
        return Err(cause);
    }
    if surgery.options().totals == Totals::Remove {
        for field in fields.iter_mut().filter(|field| field.name == "total") {
            field.gone = Some(Cause::tidy());
        }
    }
    if surgery.plan.reduced {
        // It signed what was there before.
        surgery.drop_text(fields, "signature");
    }
    links(surgery, fields);
    if surgery.options().advisory && surgery.resource == 0 {
        advise(surgery, fields);
    }
    Ok(())
}

fn first_entry_gone(surgery: &Surgery<'_, '_, '_>, fields: &[Field<'_>]) -> Option<Cause> {
    let entries = fields.iter().find(|field| field.name == "entry")?;
    let first = *surgery.tree.items(entries.value?).first()?;
    let resource = surgery.tree.resource(surgery.tree.member(first, "resource")?)?;
    let lost = surgery.plan.lost.contains(&resource).then(Cause::text);
    surgery.redaction.why_withheld(resource).or(entries.gone).or(lost)
}

/// Links show the URLs that the judge gives them.
fn links(surgery: &mut Surgery<'_, '_, '_>, fields: &mut [Field<'_>]) {
    for field in fields.iter_mut().filter(|field| field.name == "link" && field.gone.is_none()) {
        let Some(list) = field.value else { continue };
        let items = surgery.tree.items(list);
        let mut gone = Vec::new();
        for item in &items {
            let relation = surgery.tree.text(*item, "relation").unwrap_or_default();
            let Some(url) = surgery.tree.member(*item, "url") else { continue };
            let shown = surgery.tree.string(url);
            match shown.as_deref().and_then(|shown| surgery.redaction.judge.link(&relation, shown)) {
                Some(new) if Some(&*new) == shown.as_deref() => {}
                // The judge's link stands instead of the one that leads to the public base.
                Some(new) => surgery.plan.supersede(surgery.tree.span(url), quoted(&new)),
                None => gone.push(*item),
            }
        }
        if !items.is_empty() && gone.len() == items.len() {
            field.gone = Some(Cause::tidy());
        } else {
            surgery.cut(list, &gone);
        }
    }
}

pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    escape_into(&mut out, text);
    out.push('"');
    out
}

/// Adds the outcome that says that information may be missing.
fn advise(surgery: &mut Surgery<'_, '_, '_>, fields: &mut [Field<'_>]) {
    let (outcome, wanted) = match surgery.options().style {
        Style::Silent => (SILENT_OUTCOME, true),
        Style::Marked => (MARKED_OUTCOME, surgery.plan.reduced || surgery.redaction.withheld_anything()),
    };
    let entry = match bundle_type(surgery) {
        Some(BundleType::Searchset) => format!(r#"{{"resource":{outcome},"search":{{"mode":"outcome"}}}}"#),
        Some(BundleType::Document) => format!(r#"{{"resource":{outcome}}}"#),
        Some(
            BundleType::History
            | BundleType::BatchResponse
            | BundleType::TransactionResponse
            | BundleType::Message
            | BundleType::Transaction
            | BundleType::Batch
            | BundleType::Collection
            | BundleType::Unknown,
        )
        | None => return,
    };
    let document = surgery.redaction.document;
    let stands = document.resources.iter().zip(0u32..).any(|(facts, at)| {
        facts.kind == ResourceType::OPERATION_OUTCOME && facts.parent == Some(0) && document.text_of(at) == outcome
    });
    if !wanted || stands {
        return;
    }
    let end = surgery.tree.span(surgery.tree.root()).end;
    let before_end = |end: u32| Span { start: end.saturating_sub(1), end: end.saturating_sub(1) };
    let Some(field) = fields.iter_mut().find(|field| field.name == "entry") else {
        surgery.plan.replace(before_end(end), format!(r#","entry":[{entry}]"#));
        return;
    };
    let Some(list) = field.value else { return };
    let span = surgery.tree.span(list);
    if field.gone.take().is_some() || surgery.tree.kind(list) != Kind::Array {
        surgery.plan.replace(span, format!("[{entry}]"));
    } else {
        let joint = if surgery.tree.children(list).next().is_some() { "," } else { "" };
        surgery.plan.replace(before_end(span.end), format!("{joint}{entry}"));
    }
}
