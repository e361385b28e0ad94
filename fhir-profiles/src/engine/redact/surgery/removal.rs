//! How something is taken out, or masked where it has to stay.

use super::{Field, Surgery};
use crate::engine::elements::ElementPath;
use crate::engine::json::{Kind, Span};
use crate::engine::redact::options::Level;
use crate::engine::redact::plan::Cause;
use crate::engine::tree::Node;
use crate::ids::ResourceType;

/// The value of an element that was withheld and had to stay.
pub(super) const MASK: &str =
    r#"{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}"#;

impl Surgery<'_, '_, '_> {
    pub(in crate::engine::redact) fn remove(&mut self, field: &mut Field<'_>, cause: Cause) {
        field.gone = Some(cause);
        if let Some(node) = field.value.or(field.sibling) {
            self.record(node, cause);
        }
    }

    pub(super) fn can_be_masked(&self, at: &ElementPath, field: &Field<'_>) -> bool {
        // An extension without its value or url is none; a modifier extension without its content misleads; and a
        // Provenance that names nothing is evidence of what was taken out.
        !(at.kind() == "Extension"
            || matches!(&*field.name, "modifierExtension" | "resourceType")
            || at.is_type("Provenance") && field.name == "target"
            || self.facts.kind == ResourceType::BUNDLE && at.kind() == "Bundle")
    }

    pub(super) fn mask(&mut self, field: &mut Field<'_>, cause: Cause) {
        let list = field.value.or(field.sibling).is_some_and(|node| self.tree.kind(node) == Kind::Array);
        let objects = field.value.is_some_and(|value| match self.tree.kind(value) {
            Kind::Object => true,
            Kind::Array => self.tree.children(value).any(|item| self.tree.kind(item) == Kind::Object),
            Kind::String | Kind::Scalar | Kind::Null => false,
        });
        let mask = if list { format!("[{MASK}]") } else { MASK.to_owned() };
        if let Some(node) = field.value.or(field.sibling) {
            self.record(node, cause.at(Level::Masked));
        }
        match (field.value, field.sibling) {
            (Some(value), sibling) if objects => {
                self.plan.replace(self.tree.span(value), mask);
                field.sibling_gone = sibling.is_some();
            }
            (value, Some(sibling)) => {
                self.plan.replace(self.tree.span(sibling), mask);
                match value {
                    Some(value) if list => self.plan.replace(self.tree.span(value), "[null]"),
                    // The value goes, its sibling says why.
                    Some(_) => field.value_gone = true,
                    None => {}
                }
            }
            (Some(_) | None, None) => field.gone = Some(cause),
        }
    }

    /// Notes a removal, and the resources that stood in what went.
    pub(in crate::engine::redact) fn record(&mut self, node: Node, cause: Cause) {
        self.lose(node);
        if !cause.tidy {
            self.plan.reduced = true;
            // A resource is listed once, where resources are.
            if self.tree.resource(node).is_none() && cause.level != Level::Resource {
                self.plan.removals.push((cause, self.tree.path(node)));
            }
        }
    }

    fn lose(&mut self, node: Node) {
        self.plan.lost.extend(self.tree.held_in(node));
    }

    /// Cuts children (sorted) out of their container, with the commas that join them.
    pub(in crate::engine::redact) fn cut(&mut self, container: Node, gone: &[Node]) {
        if gone.is_empty() {
            return;
        }
        let children: Vec<(Span, bool)> = self
            .tree
            .children(container)
            .map(|child| (self.tree.whole(child), gone.binary_search(&child).is_ok()))
            .collect();
        let mut kept_before = false;
        let mut previous_end = 0;
        let mut head: Option<u32> = None;
        for (span, goes) in &children {
            match (goes, kept_before) {
                (true, true) => self.plan.replace(Span { start: previous_end, end: span.end }, ""),
                (true, false) => {
                    head.get_or_insert(span.start);
                }
                (false, _) => {
                    if let Some(start) = head.take() {
                        self.plan.replace(Span { start, end: span.start }, "");
                    }
                    kept_before = true;
                }
            }
            previous_end = span.end;
        }
        if let Some(start) = head {
            self.plan.replace(Span { start, end: previous_end }, "");
        }
    }
}
