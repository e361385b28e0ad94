//! Search: parameters decoded once, typed by the R4 table, each with a rule; what a search asks, reads and reaches.
//!
//! This module refuses what R4 does not define (400), what asks about hidden things (403), and what it has no rule for.

mod date;
mod decode;
mod element;
pub(crate) mod facts;
mod matches;
mod patient;
mod presentation;
mod rows;
mod rules;
mod table;
mod value;

pub use matches::{CannotEvaluate, matches, matches_value};
pub use patient::PatientConstraint;
pub use presentation::{Presentation, Summary, Total};
pub use rows::AnswerRow;

use crate::ids::ResourceType;
use crate::interaction::ParseError;

/// Search parameters in the order given, decoded once and each allowed by a rule; presentation apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    given: Vec<Parameter>,
    /// Criteria that this gateway adds: sent upstream, not shown to the client.
    added: Vec<Parameter>,
    presentation: Presentation,
    came_as_form: bool,
}

/// One search parameter, decoded. Values are PHI: they do not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter {
    key: Box<str>,
    value: Box<str>,
}

/// The type of a search parameter (R4 search.html#ptypes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Number,
    Date,
    String,
    Token,
    Reference,
    Composite,
    Quantity,
    Uri,
    Special,
}

/// Which types a reference parameter may point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    Of(&'static [&'static str]),
    /// Any type of R4.
    Any,
}

/// One parameter of one type, as R4 defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub targets: Targets,
    /// Alternative element paths joined by `|`; empty where R4's expression is no path.
    pub paths: &'static str,
}

const fn row(name: &'static str, kind: Kind, targets: Targets, paths: &'static str) -> Row {
    Row { name, kind, targets, paths }
}

/// The R4 definition of a parameter of a type, its own or one that every type has.
pub fn definition(kind: ResourceType, name: &str) -> Option<&'static Row> {
    let bases: &[&str] = if name.starts_with('_') { &["Resource", "DomainResource"] } else { &[kind.as_str()] };
    bases.iter().find_map(|base| {
        let at = table::PARAMETERS.binary_search_by(|(name, _)| (*name).cmp(base)).ok()?;
        let (_, rows) = table::PARAMETERS.get(at)?;
        let at = rows.binary_search_by(|row| row.name.cmp(name)).ok()?;
        rows.get(at)
    })
}

/// All parameters that R4 defines for a type, but those that every type has.
pub fn definitions(kind: ResourceType) -> &'static [Row] {
    table::PARAMETERS
        .binary_search_by(|(name, _)| (*name).cmp(kind.as_str()))
        .ok()
        .and_then(|at| table::PARAMETERS.get(at))
        .map_or(&[], |(_, rows)| rows)
}

/// A FHIR date, dateTime or instant.
pub(crate) fn is_date(text: &str) -> bool {
    value::is_date(text)
}

/// `id` or `Patient/id`.
pub(crate) fn names_a_patient(text: &str) -> bool {
    let id = text.strip_prefix("Patient/").unwrap_or(text);
    id.parse::<crate::ids::LogicalId>().is_ok()
}

impl Row {
    /// Each element path, as JSON names.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.paths.split('|').filter(|path| !path.is_empty())
    }
}

impl Kind {
    /// The code of R4 value set `search-param-type`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Date => "date",
            Self::String => "string",
            Self::Token => "token",
            Self::Reference => "reference",
            Self::Composite => "composite",
            Self::Quantity => "quantity",
            Self::Uri => "uri",
            Self::Special => "special",
        }
    }
}

impl Targets {
    pub fn contain(self, kind: ResourceType) -> bool {
        match self {
            Self::Any => true,
            Self::Of(names) => names.contains(&kind.as_str()),
        }
    }

    /// Every type, in the order of the table.
    pub fn types(self) -> Vec<ResourceType> {
        match self {
            Self::Any => ResourceType::every().collect(),
            Self::Of(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }
}

impl Parameter {
    /// The whole left side: name, modifier, chain.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name before any modifier or chain: `subject` of `subject:Patient.name`, `_has` of `_has:…`.
    pub fn name(&self) -> &str {
        self.key.split([':', '.']).next().unwrap_or(&self.key)
    }

    /// The modifier of the last link: `exact` of `subject:Patient.name:exact`. `_has` has none.
    pub fn modifier(&self) -> Option<&str> {
        if self.name() == "_has" {
            return None;
        }
        let last = self.key.rsplit('.').next().unwrap_or(&self.key);
        last.split_once(':').map(|(_, modifier)| modifier)
    }

    /// Does it read another type than the one searched?
    pub fn is_chained(&self) -> bool {
        self.name() == "_has" || self.key.contains('.')
    }

    /// The whole right side, with R4's escapes as given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The alternatives: split at commas that are not escaped, escapes left in place (R4 search.html#escaping).
    pub fn values(&self) -> impl Iterator<Item = &str> {
        value::alternatives(&self.value)
    }
}

impl core::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Parameter").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Query {
    /// A search on one type or, with `_type`, on several: every parameter must be one of each type.
    ///
    /// `base` is the endpoint's own base: references with it become relative.
    pub fn search(
        kinds: &[ResourceType],
        url: Option<&str>,
        form: Option<&str>,
        base: &str,
    ) -> Result<Self, ParseError> {
        let mut query = Self::search_pairs(kinds, decode::merged(url, form)?, base)?;
        query.came_as_form = form.is_some();
        Ok(query)
    }

    /// A search on the base: `_type` names the types, and every parameter must be one of each.
    pub fn search_system(
        url: Option<&str>,
        form: Option<&str>,
        base: &str,
    ) -> Result<(Vec<ResourceType>, Self), ParseError> {
        let (types, pairs): (Vec<_>, Vec<_>) =
            decode::merged(url, form)?.into_iter().partition(|(name, _)| name == "_type");
        let names = match types.as_slice() {
            // Without `_type` it is every type at once, which no caller can be judged for.
            [] => return Err(ParseError::UnsupportedParameter),
            [(_, names)] => names,
            _ => return Err(ParseError::Repeated),
        };
        let kinds: Result<Vec<ResourceType>, _> = names.split(',').map(str::parse).collect();
        let kinds = kinds.map_err(|_| ParseError::MalformedValue)?;
        let mut query = Self::search_pairs(&kinds, pairs, base)?.with_own("_type", names);
        query.came_as_form = form.is_some();
        Ok((kinds, query))
    }

    /// As [`Query::search`], of decoded pairs.
    pub(crate) fn search_pairs(
        kinds: &[ResourceType],
        pairs: Vec<(String, String)>,
        base: &str,
    ) -> Result<Self, ParseError> {
        let mut query = Self::split(pairs)?;
        for parameter in &mut query.given {
            rules::allow(kinds, parameter, base)?;
        }
        rules::once_each(&query.given)?;
        Ok(query)
    }

    /// The same query with one more parameter of the client's own.
    #[must_use]
    pub(crate) fn with_own(mut self, key: &str, value: &str) -> Self {
        self.given.push(Parameter { key: key.into(), value: value.into() });
        self
    }

    /// A criterion text such as a granular scope's `category=…`: search parameters of the type, none of presentation.
    pub fn criteria(kind: ResourceType, text: &str) -> Result<Self, ParseError> {
        let query = Self::search(&[kind], Some(text), None, "")?;
        if query.presentation == Presentation::default() { Ok(query) } else { Err(ParseError::UnsupportedParameter) }
    }

    /// Decoded pairs of which each must pass `allow`; for what is no search (history, operations).
    pub(crate) fn typed(
        pairs: Vec<(String, String)>,
        mut allow: impl FnMut(&str, &str) -> Result<(), ParseError>,
    ) -> Result<Self, ParseError> {
        let query = Self::split(pairs)?;
        for (at, parameter) in query.given.iter().enumerate() {
            allow(&parameter.key, &parameter.value)?;
            if query.given.iter().take(at).any(|earlier| earlier.key == parameter.key) {
                return Err(ParseError::Repeated);
            }
        }
        Ok(query)
    }

    /// The pairs of a query text, for [`Query::typed`].
    pub(crate) fn decode(text: Option<&str>) -> Result<Vec<(String, String)>, ParseError> {
        decode::pairs(text)
    }

    fn split(pairs: Vec<(String, String)>) -> Result<Self, ParseError> {
        let mut query = Self::default();
        let mut shown: Vec<String> = Vec::new();
        for (name, value) in pairs {
            if !presentation::take(&mut query.presentation, &name, &value)? {
                query.given.push(Parameter { key: name.into(), value: value.into() });
            } else if shown.contains(&name) {
                return Err(ParseError::Repeated);
            } else {
                shown.push(name);
            }
        }
        Ok(query)
    }

    /// The client's own parameters, presentation apart.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.given.iter()
    }

    /// The client's and the added ones: what the EHR is asked.
    pub fn all(&self) -> impl Iterator<Item = &Parameter> {
        self.given.iter().chain(&self.added)
    }

    /// The value of the one parameter with this key, if it is there.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.given.iter().find(|parameter| &*parameter.key == key).map(Parameter::value)
    }

    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    pub const fn presentation(&self) -> &Presentation {
        &self.presentation
    }

    /// The parameters came (also) in a form: the EHR gets a form too, so that none of them stands in its access log.
    pub const fn came_as_form(&self) -> bool {
        self.came_as_form
    }

    /// The same query with one more criterion, which the client does not see.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        let mut query = self.clone();
        let parameter = Parameter { key: key.into(), value: value.into() };
        if !query.all().any(|there| *there == parameter) {
            query.added.push(parameter);
        }
        query
    }

    /// The same query with another page size upstream.
    #[must_use]
    pub fn with_count(&self, count: u32) -> Self {
        let mut query = self.clone();
        query.presentation.count = Some(count.max(1));
        query
    }

    /// Canonical text for the EHR: all criteria and `_count`, nothing else of presentation.
    pub fn upstream(&self) -> String {
        let mut out = String::new();
        for parameter in self.all() {
            decode::encode(&mut out, &parameter.key, &parameter.value);
        }
        if let Some(count) = self.presentation.count {
            decode::encode(&mut out, "_count", &count.to_string());
        }
        out
    }

    /// Canonical text for the client's `self` link: its own parameters and presentation, nothing that was added.
    pub fn client(&self) -> String {
        let mut out = String::new();
        for parameter in &self.given {
            decode::encode(&mut out, &parameter.key, &parameter.value);
        }
        self.presentation.write(|name, value| decode::encode(&mut out, name, value));
        out
    }
}
