//! Which elements cannot simply be taken out: those R4 requires, and those that change the meaning of what they stand in.

mod table;

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::known::Known;
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
    pub(super) fn of(kind: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: kind.into(), path: String::new() }
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
        let path = if self.path.is_empty() { name.to_owned() } else { [&self.path, ".", name].concat() };
        let Some(word) = words(&self.kind).and_then(|words| words.of(&path)) else {
            return (Self { kind: self.kind.clone(), path }, Bond::default());
        };
        let marks = word.marks;
        let bond = Bond { required: marks.contains('+'), modifier: marks.contains('~') };
        if let Some((_, same)) = marks.split_once('@') {
            return (Self { kind: self.kind.clone(), path: same.to_owned() }, bond);
        }
        let next = match marks.split_once('=') {
            None => Self { kind: self.kind.clone(), path },
            Some((_, "")) => Self::of(path.strip_prefix(word.path).unwrap_or_default().to_owned()),
            Some((_, kind)) => Self::of(kind),
        };
        (next, bond)
    }
}

/// What the table says of one path of a type.
struct Word {
    path: &'static str,
    /// `value[x]`: the path goes on with the name of a type.
    choice: bool,
    marks: &'static str,
}

/// What the table says of a type.
struct Words {
    exact: Vec<Word>,
    /// The paths of those.
    paths: Known,
    choices: Vec<Word>,
}

impl Words {
    /// What speaks of this path.
    fn of(&self, path: &str) -> Option<&Word> {
        let exact = self.paths.find(path).and_then(|at| self.exact.get(at));
        exact.or_else(|| self.choices.iter().find(|word| word.names(path)))
    }
}

/// The table, read once.
static LINES: LazyLock<Vec<(&str, Words)>> = LazyLock::new(|| {
    let read = |word: &'static str| {
        let end = word.find(['+', '~', '=', '@']).unwrap_or(word.len());
        let (stem, marks) = word.split_at_checked(end).unwrap_or((word, ""));
        let path = stem.strip_suffix("[x]");
        Word { path: path.unwrap_or(stem), choice: path.is_some(), marks }
    };
    let words = |line: &'static str| {
        let (choices, exact): (Vec<_>, Vec<_>) =
            line.split_ascii_whitespace().map(read).partition(|word: &Word| word.choice);
        Words { paths: Known::of(exact.iter().map(|word| word.path)), exact, choices }
    };
    ELEMENTS.iter().map(|(kind, line)| (*kind, words(line))).collect()
});

fn words(kind: &str) -> Option<&'static Words> {
    TYPES.find(kind).and_then(|at| LINES.get(at)).map(|(_, words)| words)
}

static TYPES: LazyLock<Known> = LazyLock::new(|| Known::of(ELEMENTS.iter().map(|(kind, _)| *kind)));

impl Word {
    /// Does it, a choice, speak of this path?
    fn names(&self, path: &str) -> bool {
        path.strip_prefix(self.path)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()) && !rest.contains('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bond(kind: &'static str, path: &str) -> (bool, bool) {
        let mut at = ElementPath::of(kind);
        let mut bond = Bond::default();
        for step in path.split('.') {
            (at, bond) = at.step(step);
        }
        (bond.required, bond.modifier)
    }

    #[test]
    fn an_element_is_itself_before_it_is_a_choice_of_a_type() {
        for (kind, words) in LINES.iter() {
            assert!(words.exact.iter().zip(0..).all(|(word, at)| words.paths.find(word.path) == Some(at)), "{kind}");
        }
        let (at, _) = ElementPath::of("ResearchElementDefinition").step("characteristic");
        assert_eq!(at.step("participantEffectiveTimeFromStart").0.kind(), "Duration");
        assert_eq!(at.step("participantEffectivePeriod").0.kind(), "Period");
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
