//! Which elements cannot simply be taken out: those R4 requires, and those that change the meaning of what they stand in.

mod table;

use std::borrow::Cow;

use table::ELEMENTS;

/// Where an element stands: its type, and the path below it.
#[derive(Clone, Debug)]
pub(super) struct ElementPath {
    kind: Cow<'static, str>,
    path: String,
}

/// What R4 says of an element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bond {
    /// min >= 1.
    pub(super) required: bool,
    /// isModifier.
    pub(super) modifier: bool,
}

impl Bond {
    pub(super) const fn binds(self) -> bool {
        self.required || self.modifier
    }
}

impl ElementPath {
    /// The root of a type.
    pub(super) fn of(kind: &str) -> Self {
        Self { kind: Cow::Owned(kind.to_owned()), path: String::new() }
    }

    pub(super) fn is_type(&self, kind: &str) -> bool {
        self.path.is_empty() && self.kind == kind
    }

    /// The path below the type, such as `component.code`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// The element below this one with this member name, and what binds it.
    pub(super) fn step(&self, name: &str) -> (Self, Bond) {
        match name {
            // Implicit in every element: an extension is one by type; a modifier extension changes its element.
            "extension" => return (Self::of("Extension"), Bond::default()),
            "modifierExtension" => return (Self::of("Extension"), Bond { required: false, modifier: true }),
            "resourceType" => return (Self::of("code"), Bond { required: true, modifier: false }),
            _ => {}
        }
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        let Some(word) = words(&self.kind).find(|word| names(word, &path)) else {
            return (Self { kind: self.kind.clone(), path }, Bond::default());
        };
        let end = word.find(['+', '~', '=', '@']).unwrap_or(word.len());
        let (stem, marks) = word.split_at_checked(end).unwrap_or((word, ""));
        let bond = Bond { required: marks.contains('+'), modifier: marks.contains('~') };
        if let Some((_, same)) = marks.split_once('@') {
            return (Self { kind: self.kind.clone(), path: same.to_owned() }, bond);
        }
        let next = match marks.split_once('=') {
            None => Self { kind: self.kind.clone(), path },
            Some((_, "")) => {
                let chosen = path.strip_prefix(stem.trim_end_matches("[x]")).unwrap_or_default();
                Self::of(chosen)
            }
            Some((_, kind)) => Self::of(kind),
        };
        (next, bond)
    }
}

fn words(kind: &str) -> impl Iterator<Item = &'static str> {
    let line = ELEMENTS.binary_search_by_key(&kind, |(kind, _)| *kind).ok().and_then(|at| ELEMENTS.get(at));
    line.map_or("", |(_, line)| *line).split_ascii_whitespace()
}

/// Does this word of the table speak of this path?
fn names(word: &str, path: &str) -> bool {
    let stem = word.find(['+', '~', '=', '@']).and_then(|end| word.get(..end)).unwrap_or(word);
    match stem.strip_suffix("[x]") {
        Some(base) => path
            .strip_prefix(base)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()) && !rest.contains('.')),
        None => stem == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bond(kind: &str, path: &str) -> (bool, bool) {
        let mut at = ElementPath::of(kind);
        let mut bond = Bond::default();
        for step in path.split('.') {
            (at, bond) = at.step(step);
        }
        (bond.required, bond.modifier)
    }

    #[test]
    fn the_table_says_what_r4_says() {
        assert!(ELEMENTS.is_sorted_by_key(|(kind, _)| *kind));
        assert_eq!(bond("Observation", "status"), (true, true));
        assert_eq!(bond("Observation", "code"), (true, false));
        assert_eq!(bond("Observation", "valueQuantity"), (false, false));
        assert_eq!(bond("Observation", "valueQuantity.comparator"), (false, true));
        assert_eq!(bond("Observation", "component.code"), (true, false));
        assert_eq!(bond("Observation", "note.text"), (true, false));
        assert_eq!(bond("Observation", "extension.url"), (true, false));
        assert_eq!(bond("Observation", "modifierExtension"), (false, true));
        assert_eq!(bond("MedicationRequest", "medicationReference"), (true, false));
        assert_eq!(bond("MedicationRequest", "medicationCodeableConcept"), (true, false));
        assert_eq!(bond("Patient", "link.other"), (true, false));
        assert_eq!(bond("Patient", "link"), (false, true));
        assert_eq!(bond("Patient", "birthDate"), (false, false));
        assert_eq!(bond("Patient", "identifier.use"), (false, true));
        assert_eq!(bond("Questionnaire", "item.item.item.linkId"), (true, false));
        assert_eq!(bond("Provenance", "target"), (true, false));
        assert_eq!(bond("List", "entry.item"), (true, false));
        assert_eq!(bond("Nothing", "code"), (false, false));
    }
}
