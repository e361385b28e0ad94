//! SMART scopes, v1 and v2, and what a set of them grants.
//!
//! Ground: SMART App Launch 2.2 "Scopes for requesting FHIR Resources": `("patient"|"user"|"system") "/" (type|"*") "."
//! suffix`, the suffix an in-order subset of `cruds` or, in v1, `read`, `write` or `*`; then perhaps `?name=value&…`.
//! What is not exactly that grants nothing: the standard lets a server ignore it, and guessing would widen.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::interaction::Access;

/// On whose behalf a scope grants. A scope is judged in its own context alone: `user/` never widens `patient/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeContext {
    Patient,
    User,
    System,
}

impl ScopeContext {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::User => "user",
            Self::System => "system",
        }
    }
}

/// A subset of `cruds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Letters(u8);

impl Letters {
    const ORDER: [(char, Access); 5] = [
        ('c', Access::Create),
        ('r', Access::Read),
        ('u', Access::Update),
        ('d', Access::Delete),
        ('s', Access::Search),
    ];

    const fn bit(access: Access) -> u8 {
        match access {
            Access::Create => 1,
            Access::Read => 2,
            Access::Update => 4,
            Access::Delete => 8,
            Access::Search => 16,
        }
    }

    pub const fn contains(self, access: Access) -> bool {
        self.0 & Self::bit(access) != 0
    }

    const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The suffix of a scope; `None` if it is empty, out of order or unknown.
    fn parse(suffix: &str) -> Option<Self> {
        match suffix {
            "read" => return Some(Self(2 | 16)),
            "write" => return Some(Self(1 | 4 | 8)),
            "*" => return Some(Self(31)),
            _ => {}
        }
        let mut letters = Self(0);
        let mut rest = suffix;
        for (letter, access) in Self::ORDER {
            if let Some(after) = rest.strip_prefix(letter) {
                letters.0 |= Self::bit(access);
                rest = after;
            }
        }
        (rest.is_empty() && letters.0 != 0).then_some(letters)
    }

    fn text(self) -> String {
        Self::ORDER.iter().filter(|(_, access)| self.contains(*access)).map(|(letter, _)| *letter).collect()
    }
}

/// The scope letter of an access.
pub const fn letter(access: Access) -> &'static str {
    match access {
        Access::Create => "c",
        Access::Read => "r",
        Access::Update => "u",
        Access::Delete => "d",
        Access::Search => "s",
    }
}

/// One `name=value` of a granular scope, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Criterion {
    pub name: String,
    pub value: String,
}

/// The search expression of a granular scope: every criterion must hold. Empty: the whole type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constraint(pub Vec<Criterion>);

/// One resource scope that this gateway understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub context: ScopeContext,
    /// `None` is `*`: every type, present and future.
    pub kind: Option<ResourceType>,
    pub letters: Letters,
    /// The search expression that a resource must match, all parameters together; empty for the whole type.
    pub constraint: Constraint,
}

impl Scope {
    /// Reads one scope. `None`: it grants nothing here (launch and identity scopes, unknown types, odd suffixes, and
    /// granular expressions with modifiers, chains or control parameters, which SMART 2.2 calls experimental).
    pub fn parse(text: &str) -> Option<Self> {
        let (head, expression) = match text.split_once('?') {
            Some((head, expression)) => (head, Some(expression)),
            None => (text, None),
        };
        let (context, rest) = head.split_once('/')?;
        let context = match context {
            "patient" => ScopeContext::Patient,
            "user" => ScopeContext::User,
            "system" => ScopeContext::System,
            _ => return None,
        };
        let (kind, suffix) = rest.split_once('.')?;
        let kind = if kind == "*" { None } else { Some(kind.parse().ok()?) };
        let constraint = match expression {
            Some(expression) => parse_constraint(expression)?,
            None => Constraint::default(),
        };
        // A search expression over every type names parameters that most types lack: nothing could evaluate it.
        if kind.is_none() && !constraint.0.is_empty() {
            return None;
        }
        Some(Self { context, kind, letters: Letters::parse(suffix)?, constraint })
    }

    fn covers(&self, kind: ResourceType) -> bool {
        self.kind.is_none_or(|own| own == kind)
    }

    /// What both grant. Contexts never mix, and both constraints must hold.
    fn both(&self, other: &Self) -> Option<Self> {
        let kind = match (self.kind, other.kind) {
            (None, kind) | (kind, None) => kind,
            (Some(a), Some(b)) if a == b => Some(a),
            (Some(_), Some(_)) => return None,
        };
        let letters = self.letters.both(other.letters);
        if self.context != other.context || letters.0 == 0 {
            return None;
        }
        let mut constraint = self.constraint.clone();
        for parameter in &other.constraint.0 {
            if !constraint.0.contains(parameter) {
                constraint.0.push(parameter.clone());
            }
        }
        Some(Self { context: self.context, kind, letters, constraint })
    }
}

/// SMART v2 text, as records and refusals show it.
impl core::fmt::Display for Scope {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = self.kind.map_or("*", ResourceType::as_str);
        write!(f, "{}/{kind}.{}", self.context.as_str(), self.letters.text())?;
        for (at, parameter) in self.constraint.0.iter().enumerate() {
            write!(f, "{}{}={}", if at == 0 { '?' } else { '&' }, parameter.name, parameter.value)?;
        }
        Ok(())
    }
}

fn parse_constraint(expression: &str) -> Option<Constraint> {
    let mut parameters = Vec::new();
    for pair in expression.split('&') {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (decode(name)?, decode(value)?);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || value.is_empty() || !name.chars().all(plain) {
            return None;
        }
        parameters.push(Criterion { name, value });
    }
    Some(Constraint(parameters))
}

/// Percent-decodes once. `None` on a malformed escape or bytes that are no text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// What a set of scopes says to one access to one type in one context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    None,
    /// The whole type.
    Whole,
    /// Only resources that match one of these expressions.
    Matching(Vec<&'a Constraint>),
}

/// The effective scopes of a caller. An empty set grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

/// More scopes than this in one token are not read: no honest client sends them (attack case 37).
const MAX_SCOPES: usize = 512;

impl ScopeSet {
    /// Reads scopes as a token or a partner file carries them; what grants nothing is left out.
    pub fn parse<S: AsRef<str>>(scopes: &[S]) -> Self {
        Self(scopes.iter().take(MAX_SCOPES).filter_map(|text| Scope::parse(text.as_ref())).collect())
    }

    /// What both sets grant: a token never reaches beyond the partner's registered ceiling.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> Self {
        let mut scopes: Vec<Scope> = Vec::new();
        for own in &self.0 {
            for scope in ceiling.0.iter().filter_map(|limit| own.both(limit)) {
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        Self(scopes)
    }

    /// What the set grants for an access to a type in one context.
    pub fn grants(&self, access: Access, kind: ResourceType, context: ScopeContext) -> Grant<'_> {
        let mut matching = Vec::new();
        for scope in self.granting(access, kind).filter(|scope| scope.context == context) {
            if scope.constraint.0.is_empty() {
                return Grant::Whole;
            }
            matching.push(&scope.constraint);
        }
        if matching.is_empty() { Grant::None } else { Grant::Matching(matching) }
    }

    /// The scopes that grant an access to a type, in any context.
    pub fn granting(&self, access: Access, kind: ResourceType) -> impl Iterator<Item = &Scope> {
        self.0.iter().filter(move |scope| scope.letters.contains(access) && scope.covers(kind))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(name: &str) -> ResourceType {
        name.parse().unwrap()
    }

    #[track_caller]
    fn reads_as(text: &str, expected: &str) {
        assert_eq!(Scope::parse(text).map(|scope| scope.to_string()).as_deref(), Some(expected), "{text}");
    }

    #[track_caller]
    fn grants_nothing(text: &str) {
        assert_eq!(Scope::parse(text), None, "{text}");
    }

    #[test]
    fn both_versions_are_read() {
        reads_as("patient/Observation.rs", "patient/Observation.rs");
        reads_as("patient/Observation.read", "patient/Observation.rs");
        reads_as("user/*.write", "user/*.cud");
        reads_as("system/*.*", "system/*.cruds");
        reads_as("patient/Observation.cruds", "patient/Observation.cruds");
        reads_as(
            "patient/Observation.rs?category=http%3A%2F%2Fterminology.hl7.org%2FCodeSystem%2Fobservation-category%7Claboratory",
            "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        );
        reads_as("user/Condition.s?category=a&code=b", "user/Condition.s?category=a&code=b");
    }

    #[test]
    fn whatever_departs_from_the_grammar_grants_nothing() {
        for text in [
            "",
            "openid",
            "launch/patient",
            "patient/Observation",
            "patient/Observation.",
            "patient/Observation.sr",
            "patient/Observation.rr",
            "patient/Observation.rx",
            "patient/Observation.READ",
            "patient/Observation.reads",
            "patient/observation.rs",
            "patient/Nothing.rs",
            "patient/*.*?x",
            "patient/*.rs?category=laboratory",
            "Patient/Observation.rs",
            "patient//Observation.rs",
            "patient/Observation.rs?",
            "patient/Observation.rs?category",
            "patient/Observation.rs?category=",
            "patient/Observation.rs?=x",
            "patient/Observation.rs?category=x&",
            "patient/Observation.rs?code:in=x",
            "patient/Observation.rs?subject.name=x",
            "patient/Observation.rs?_filter=x",
            "patient/Observation.rs?category=%2",
            "patient/Observation.rs?category=%zz",
            "patient/Observation.rs?category=%ff",
            " patient/Observation.rs",
        ] {
            grants_nothing(text);
        }
    }

    #[test]
    fn a_constraint_is_decoded_once() {
        let scope = Scope::parse("patient/Observation.rs?code=%2541").unwrap();
        assert_eq!(scope.constraint.0[0].value, "%41");
    }

    #[test]
    fn each_scope_grants_in_its_own_context_alone() {
        let set = ScopeSet::parse(&["patient/Observation.r", "user/Condition.r"]);
        assert_eq!(set.grants(Access::Read, kind("Observation"), ScopeContext::Patient), Grant::Whole);
        assert_eq!(set.grants(Access::Read, kind("Observation"), ScopeContext::User), Grant::None);
        assert_eq!(set.grants(Access::Read, kind("Condition"), ScopeContext::Patient), Grant::None);
        assert_eq!(set.grants(Access::Read, kind("Condition"), ScopeContext::User), Grant::Whole);
        assert_eq!(set.grants(Access::Search, kind("Observation"), ScopeContext::Patient), Grant::None);
    }

    #[test]
    fn the_ceiling_narrows_type_letters_context_and_constraint() {
        let token = ScopeSet::parse(&["patient/*.cruds", "user/*.rs"]);
        let ceiling = ScopeSet::parse(&["patient/Observation.rs?category=laboratory", "patient/Condition.rs"]);
        let effective: Vec<String> = token.within(&ceiling).iter().map(ToString::to_string).collect();
        assert_eq!(effective, ["patient/Observation.rs?category=laboratory", "patient/Condition.rs"]);
        let narrow = ScopeSet::parse(&["patient/Observation.r?code=x"]);
        let effective: Vec<String> = narrow.within(&ceiling).iter().map(ToString::to_string).collect();
        assert_eq!(effective, ["patient/Observation.r?code=x&category=laboratory"]);
        assert!(token.within(&ScopeSet::default()).is_empty());
    }

    #[test]
    fn ten_thousand_scopes_are_not_read_to_the_end() {
        let many: Vec<String> = (0..10_000).map(|_| "openid".to_owned()).chain(["patient/*.*".to_owned()]).collect();
        assert!(ScopeSet::parse(&many).is_empty());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = Scope::parse(&text);
        }

        #[test]
        fn printed_scopes_parse_back(
            context in prop::sample::select(vec!["patient", "user", "system"]),
            kind in prop::sample::select(vec!["*", "Observation", "Condition"]),
            letters in "c?r?u?d?s?",
        ) {
            let text = format!("{context}/{kind}.{letters}");
            let parsed = Scope::parse(&text);
            prop_assert_eq!(parsed.is_some(), !letters.is_empty());
            if let Some(scope) = parsed {
                prop_assert_eq!(scope.to_string(), text);
            }
        }

        #[test]
        fn a_ceiling_never_widens(token in scopes(), ceiling in scopes()) {
            let (token, ceiling) = (ScopeSet::parse(&token), ScopeSet::parse(&ceiling));
            let both = token.within(&ceiling);
            for context in [ScopeContext::Patient, ScopeContext::User, ScopeContext::System] {
                for access in [Access::Create, Access::Read, Access::Search] {
                    for name in ["Observation", "Condition", "Patient"] {
                        if both.grants(access, kind(name), context) != Grant::None {
                            prop_assert_ne!(token.grants(access, kind(name), context), Grant::None);
                            prop_assert_ne!(ceiling.grants(access, kind(name), context), Grant::None);
                        }
                    }
                }
            }
        }
    }

    fn scopes() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("(patient|user|system)/(\\*|Observation|Condition)\\.c?r?s?(\\?category=a)?", 0..6)
    }
}
