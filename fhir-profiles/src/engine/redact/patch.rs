//! What a shown resource says of itself: its labels, the notice that travels with it, its addresses.

use super::envelope::quoted;
use super::options::{Notice, Style};
use super::plan::Cause;
use super::surgery::{Field, Surgery};
use crate::engine::json::Kind;
use crate::engine::json::Span;
use crate::engine::tree::Node;
use crate::label::{ACT_CODE, Label, LabelKind, OBSERVATION_VALUE, canonical_system};
use crate::labeller::below_base;

/// DS4P 1.0.0: a marking to be shown when the resource is rendered.
const DISPLAY: &str = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-display";

/// Strings that hold URLs: compared by structure, so that a narrative that quotes one is left alone.
const ADDRESSES: &[&str] =
    &["fullUrl", "reference", "url", "uri", "location", "source", "valueUri", "valueUrl", "valueCanonical"];

/// Rewrites a URL of the upstream to the one that clients see.
pub(super) fn own_url(surgery: &mut Surgery<'_, '_, '_>, field: &Field<'_>) {
    let (Some(public), Some(value)) = (surgery.options().public_base, field.value) else { return };
    if !ADDRESSES.contains(&&*field.name) || surgery.tree.kind(value) != Kind::String {
        return;
    }
    let Some(url) = surgery.tree.string(value) else { return };
    let Some(below) = below_base(&surgery.redaction.document.bases, &url) else { return };
    let shown = format!("{}{below}", public.trim_end_matches('/'));
    if shown != *url {
        surgery.plan.replace(surgery.tree.span(value), quoted(&shown));
    }
}

/// Settles the resource itself, when its members are settled.
pub(super) fn root(surgery: &mut Surgery<'_, '_, '_>, fields: &mut [Field<'_>]) {
    let reduced = surgery.plan.reduced || surgery.contains_reduced();
    if reduced {
        surgery.plan.reduced = true;
        surgery.drop_text(fields, "text");
    }
    let notice = surgery.options().notice.filter(|_| {
        surgery.facts.labels.contains(Label::PART2)
            && !surgery.is_contained()
            && !surgery.redaction.is_transport(surgery.resource)
    });
    let meta = fields.iter().position(|field| field.name == "meta");
    let node = meta.and_then(|at| fields.get(at)).and_then(|field| field.value);
    let before = node.map(|node| surgery.tree.written(node));
    let unlabelled = reduced || tells_of_nothing_shown(surgery);
    let after = meta_of(surgery, node, reduced, unlabelled, notice);
    if before == after.as_deref() {
        return;
    }
    match (meta.and_then(|at| fields.get_mut(at)), node, after) {
        (Some(_), Some(node), Some(after)) => surgery.plan.replace(surgery.tree.span(node), after),
        (Some(field), Some(_), None) => field.gone = Some(Cause::tidy()),
        (_, _, Some(after)) => {
            let name = fields.iter().find(|field| field.name == "resourceType").and_then(|field| field.value);
            let at = name.map_or(0, |name| surgery.tree.span(name).end);
            surgery.plan.replace(Span { start: at, end: at }, format!(r#","meta":{after}"#));
        }
        (_, _, None) => {}
    }
}

/// An envelope's labels are the highest of what stood in it, at any depth: they go when any of it went, and when there is
/// nothing in it that they could be about.
fn tells_of_nothing_shown(surgery: &Surgery<'_, '_, '_>) -> bool {
    let redaction = surgery.redaction;
    let empty = redaction.document.resources.len() == 1 && surgery.options().advisory;
    redaction.is_transport(surgery.resource) && (empty || redaction.withheld_anything())
}

/// The `meta` that the shown resource has; `None` for none.
fn meta_of(
    surgery: &Surgery<'_, '_, '_>,
    meta: Option<Node>,
    reduced: bool,
    unlabelled: bool,
    notice: Option<&Notice>,
) -> Option<String> {
    let tree = &surgery.tree;
    let list =
        |name: &str| meta.and_then(|meta| tree.member(meta, name)).map(|list| tree.items(list)).unwrap_or_default();
    let labels = list("security");
    let mut kept: Vec<String> = Vec::new();
    let mut present: Vec<Label> = Vec::new();
    for coding in &labels {
        let label = label_of(surgery, *coding);
        if !unlabelled || stays_on_reduced(surgery, label) {
            kept.push(tree.written(*coding).to_owned());
            present.extend(label);
        }
    }
    let mut wanted: Vec<(Label, &str)> = Vec::new();
    if reduced && surgery.options().style == Style::Marked && !surgery.is_contained() {
        wanted.push((Label::REDACTED, OBSERVATION_VALUE));
    }
    if notice.is_some() {
        wanted.extend([(Label::PART2, ACT_CODE), (Label::NORDSCLCD, ACT_CODE)]);
    }
    let added = wanted.iter().filter(|(label, _)| !present.contains(label));
    let added: Vec<String> =
        added.map(|(label, system)| format!(r#"{{"system":"{system}","code":"{}"}}"#, label.code())).collect();
    let extensions = list("extension");
    let annotation = notice.and_then(|notice| {
        let text = format!("{} {}", notice.statement, notice.scope);
        let stands = extensions.iter().any(|extension| {
            let value = tree.member(*extension, "valueAnnotation");
            value.and_then(|value| tree.text(value, "text")).is_some_and(|shown| shown == text)
        });
        (!stands).then(|| format!(r#"{{"url":"{DISPLAY}","valueAnnotation":{{"text":{}}}}}"#, quoted(&text)))
    });
    // What R4 does not know in a meta, and what extends it, may be labelled too.
    let bare = unlabelled && surgery.redaction.is_transport(surgery.resource);
    let members_of = || meta.into_iter().flat_map(|meta| tree.children(meta));
    let sheds = bare && members_of().any(|child| !is_plain(&tree.name(child)));
    if kept.len() == labels.len() && added.is_empty() && annotation.is_none() && !sheds {
        return meta.map(|meta| tree.written(meta).to_owned());
    }
    let security: Vec<String> = kept.into_iter().chain(added).collect();
    let extension: Vec<String> =
        extensions.iter().filter(|_| !bare).map(|node| tree.written(*node).to_owned()).chain(annotation).collect();
    let member =
        |name: &str, items: &[String]| (!items.is_empty()).then(|| format!(r#""{name}":[{}]"#, items.join(",")));
    let mut members: Vec<String> = Vec::new();
    for child in members_of() {
        match &*tree.name(child) {
            "security" => members.extend(member("security", &security)),
            "extension" => members.extend(member("extension", &extension)),
            name if bare && !is_plain(name) => {}
            _ => members.push(tree.written_whole(child).to_owned()),
        }
    }
    let lacks = |name: &str| meta.is_none_or(|meta| tree.member(meta, name).is_none());
    if lacks("security") {
        members.extend(member("security", &security));
    }
    if lacks("extension") {
        members.extend(member("extension", &extension));
    }
    (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
}

/// An element of R4's Meta that labels nothing, or those of its labels that are chosen one by one.
fn is_plain(name: &str) -> bool {
    matches!(name, "id" | "versionId" | "lastUpdated" | "source" | "profile" | "tag" | "security")
}

fn label_of(surgery: &Surgery<'_, '_, '_>, coding: Node) -> Option<Label> {
    let system = surgery.tree.text(coding, "system")?;
    let code = surgery.tree.text(coding, "code")?;
    Label::from_coding(canonical_system(&system).unwrap_or(&system), &code)
}

/// Labels of a resource that lost something: those that tell what it was go with it (42 CFR 2.13(c)). What is still
/// shown as a Part 2 record keeps the labels that protect it on its way.
fn stays_on_reduced(surgery: &Surgery<'_, '_, '_>, label: Option<Label>) -> bool {
    // The labels of an envelope tell what stood in it; what still stands in it carries its own.
    let still_part2 = surgery.facts.labels.contains(Label::PART2) && !surgery.redaction.is_transport(surgery.resource);
    let Some(label) = label else { return false };
    match label.kind() {
        LabelKind::Integrity => true,
        LabelKind::Confidentiality => still_part2 || !matches!(label, Label::RESTRICTED | Label::VERY_RESTRICTED),
        LabelKind::Law => still_part2 && label == Label::PART2,
        LabelKind::Refrain | LabelKind::Mark => still_part2,
        LabelKind::Sensitivity | LabelKind::Obligation | LabelKind::Unknown => false,
    }
}
