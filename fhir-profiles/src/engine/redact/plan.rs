//! What is to be done to one resource: spans to cut, texts to put in their place, and why.

use super::options::{Level, Removal};
use crate::engine::facts::LabelSource;
use crate::engine::json::{Span, index};
use crate::label::LabelSet;

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) level: Level,
    pub(super) rule: Option<u32>,
    pub(super) labels: LabelSet,
    pub(super) source: Option<LabelSource>,
    /// Goes for neatness alone (free text of an outcome): nothing was withheld.
    pub(super) tidy: bool,
}

impl Cause {
    pub(super) const fn resource(rule: Option<u32>, labels: LabelSet, source: Option<LabelSource>) -> Self {
        Self { level: Level::Resource, rule, labels, source, tidy: false }
    }

    pub(super) const fn element(rule: u32, labels: LabelSet) -> Self {
        Self { level: Level::Element, rule: Some(rule), labels, source: Some(LabelSource::Inline), tidy: false }
    }

    pub(super) const fn reference(rule: Option<u32>, labels: LabelSet, source: Option<LabelSource>) -> Self {
        Self { level: Level::Reference, rule, labels, source, tidy: false }
    }

    /// Text that may repeat what went.
    pub(super) const fn text() -> Self {
        Self { level: Level::Text, rule: None, labels: LabelSet::EMPTY, source: None, tidy: false }
    }

    pub(super) const fn tidy() -> Self {
        Self { level: Level::Text, rule: None, labels: LabelSet::EMPTY, source: None, tidy: true }
    }

    #[must_use]
    pub(super) const fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    pub(super) fn removal(self, resource: u32, path: String) -> Removal {
        Removal { resource, path, level: self.level, rule: self.rule, labels: self.labels, source: self.source }
    }
}

/// A span that goes, and what stands there instead.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) span: Span,
    pub(super) text: Box<str>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) edits: Vec<Edit>,
    /// Why, and where below the resource.
    pub(super) removals: Vec<(Cause, String)>,
    /// Resources that stood in what went.
    pub(super) lost: Vec<u32>,
    /// Something is missing that a rule withheld.
    pub(super) reduced: bool,
}

/// A point to return to when the object that was being planned goes as a whole.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    edits: usize,
    removals: usize,
    lost: usize,
    reduced: bool,
}

impl Plan {
    pub(super) const fn reduced(&self) -> bool {
        self.reduced
    }

    pub(super) const fn mark(&self) -> Mark {
        Mark { edits: self.edits.len(), removals: self.removals.len(), lost: self.lost.len(), reduced: self.reduced }
    }

    pub(super) fn rewind(&mut self, mark: Mark) {
        self.edits.truncate(mark.edits);
        self.removals.truncate(mark.removals);
        self.lost.truncate(mark.lost);
        self.reduced = mark.reduced;
    }

    pub(super) fn replace(&mut self, span: Span, text: impl Into<Box<str>>) {
        self.edits.push(Edit { span, text: text.into() });
    }

    /// As [`Self::replace`], instead of what was to stand there before.
    pub(super) fn supersede(&mut self, span: Span, text: impl Into<Box<str>>) {
        self.edits.retain(|edit| edit.span.start != span.start || edit.span.end != span.end);
        self.replace(span, text);
    }
}

/// The document with the edits applied. An edit inside a span that goes is void.
pub(super) fn splice(text: &str, mut edits: Vec<&Edit>) -> Vec<u8> {
    // Insertions before removals at the same place; of two removals there, the larger.
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end != edit.span.start, core::cmp::Reverse(edit.span.end)));
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let removed: usize = edits.iter().map(|edit| index(edit.span.end - edit.span.start)).sum();
    // Voided edits make this a little too small or too large; never by much.
    let mut out = Vec::with_capacity((text.len() + added).saturating_sub(removed));
    let mut at = 0;
    for edit in edits {
        if index(edit.span.start) < at {
            // Never expected to reach beyond what goes; if it did, too much goes rather than too little.
            at = at.max(index(edit.span.end));
            continue;
        }
        out.extend_from_slice(text.get(at..index(edit.span.start)).unwrap_or_default().as_bytes());
        out.extend_from_slice(edit.text.as_bytes());
        at = index(edit.span.end);
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default().as_bytes());
    out
}
