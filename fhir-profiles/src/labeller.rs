//! From what stands in a resource to its labels: label codings, clinical codes, and the source of the record.
//!
//! Built once from plain configuration and never changed. Leniency only ever tightens: an alias or a mapping can add a
//! label, none can take one away.

use core::fmt;
use std::collections::BTreeMap;

use crate::codes::{CodeList, Dates, canonical_system, comparable, part2_lists};
use crate::ids::InstanceId;
use crate::label::{self, Label, LabelSet};
use crate::reference::Reference;

/// One line of `labels.map`: this coding is read as that label.
#[derive(Clone, Debug)]
pub struct LabelMapping {
    pub system: String,
    pub code: String,
    pub read_as: Label,
}

/// What marks a record as one of a Part 2 program, whatever its codes (42 CFR 2.12: provenance decides).
#[derive(Clone)]
pub enum ProgramSource {
    /// Any reference to this Organization, Location, HealthcareService, Practitioner or role.
    Instance(InstanceId),
    /// Any identifier with this system and value, such as the program's NPI.
    Identifier { system: String, value: String },
    /// `meta.source` equal to this, or continuing it after `#` or `/`.
    MetaSource(String),
    /// A `meta.tag` coding.
    Tag { system: String, code: String },
}

/// Organizations' identifiers are configuration, yet need not stand in logs.
impl fmt::Debug for ProgramSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance(_) => "Instance(..)",
            Self::Identifier { .. } => "Identifier(..)",
            Self::MetaSource(_) => "MetaSource(..)",
            Self::Tag { .. } => "Tag(..)",
        })
    }
}

/// Plain configuration of a [`Labeller`].
#[derive(Clone, Debug)]
pub struct LabellerConfig {
    /// Further names of code systems and of label systems: (alias, name it stands for).
    pub system_aliases: Vec<(String, String)>,
    pub map: Vec<LabelMapping>,
    pub lists: Vec<CodeList>,
    pub programs: Vec<ProgramSource>,
    /// What a label that no table knows counts as, beside [`Label::UNKNOWN`].
    pub unknown: LabelSet,
    /// The base URLs of this server as its own answers write them, without a trailing slash: an absolute reference
    /// below one of them is a local one.
    pub bases: Vec<String>,
}

impl Default for LabellerConfig {
    /// The shipped Part 2 lists and nothing site-specific.
    fn default() -> Self {
        Self {
            system_aliases: Vec::new(),
            map: Vec::new(),
            lists: part2_lists(),
            programs: Vec::new(),
            unknown: LabelSet::EMPTY,
            bases: Vec::new(),
        }
    }
}

/// The labelling service of one endpoint.
pub struct Labeller {
    aliases: BTreeMap<Box<str>, Box<str>>,
    map: BTreeMap<(Box<str>, Box<str>), LabelSet>,
    lists: Vec<CodeList>,
    /// By every name of a system that has codes.
    systems: BTreeMap<Box<str>, SystemCodes>,
    programs: Vec<ProgramSource>,
    unknown: LabelSet,
    bases: Vec<Box<str>>,
}

/// The codes of one system, in comparable form, each with its lists and dates.
#[derive(Clone, Debug, Default)]
pub(crate) struct SystemCodes {
    canonical: Box<str>,
    codes: BTreeMap<Box<str>, Vec<(u16, Dates)>>,
    /// A bit per hash of a listed code: most codes are of no list and are told so at once.
    sieve: Vec<u64>,
}

impl SystemCodes {
    /// The lists that hold this code, each with its dates.
    pub(crate) fn find(&self, code: &str) -> &[(u16, Dates)] {
        if !self.may_hold(code) {
            return &[];
        }
        let code = comparable(&self.canonical, code);
        self.codes.get(code.as_str()).map(Vec::as_slice).unwrap_or_default()
    }

    /// Never false for a listed code: the hash sees letters and digits only, in upper case.
    fn may_hold(&self, code: &str) -> bool {
        let (word, bit) = sieve_bit(code);
        self.sieve.get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    fn insert(&mut self, code: &str, list: u16, dates: Dates) {
        let (word, bit) = sieve_bit(code);
        self.sieve.resize(SIEVE_WORDS, 0);
        if let Some(bits) = self.sieve.get_mut(word) {
            *bits |= 1 << bit;
        }
        let code = comparable(&self.canonical, code);
        self.codes.entry(code.into()).or_default().push((list, dates));
    }
}

const SIEVE_WORDS: usize = 256;

fn sieve_bit(code: &str) -> (usize, u32) {
    let hash = code.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| match UPPER.get(usize::from(byte)) {
        Some(0) | None => hash,
        Some(upper) => (hash ^ u64::from(*upper)).wrapping_mul(0x100_0000_01b3),
    });
    let slot = (hash >> 20) % (SIEVE_WORDS as u64 * 64);
    ((slot / 64) as usize, (slot % 64) as u32)
}

/// By byte: a letter or digit in upper case; zero for anything else.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static UPPER: [u8; 256] = {
    let (mut upper, mut byte) = ([0; 256], 0);
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            upper[byte] = (byte as u8).to_ascii_uppercase();
        }
        byte += 1;
    }
    upper
};

impl Default for Labeller {
    fn default() -> Self {
        Self::new(LabellerConfig::default())
    }
}

impl fmt::Debug for Labeller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists: Vec<_> = self.lists.iter().map(|list| (&list.name, &list.version)).collect();
        f.debug_struct("Labeller").field("lists", &lists).finish_non_exhaustive()
    }
}

impl Labeller {
    /// Knows no list and no source.
    pub(crate) fn of_nothing() -> Self {
        Self::new(LabellerConfig {
            system_aliases: Vec::new(),
            map: Vec::new(),
            lists: Vec::new(),
            programs: Vec::new(),
            unknown: LabelSet::EMPTY,
            bases: Vec::new(),
        })
    }

    pub fn new(config: LabellerConfig) -> Self {
        let boxed = |text: String| -> Box<str> { text.trim_end_matches('/').into() };
        let aliases: BTreeMap<_, _> =
            config.system_aliases.into_iter().map(|(alias, name)| (boxed(alias), boxed(name))).collect();
        let mut map: BTreeMap<_, LabelSet> = BTreeMap::new();
        for LabelMapping { system, code, read_as } in config.map {
            map.entry((system.into(), code.into())).or_default().insert(read_as);
        }
        let mut systems: BTreeMap<Box<str>, SystemCodes> = BTreeMap::new();
        for (list, at) in config.lists.iter().zip(0u16..) {
            for entry in &list.entries {
                let system = canonical_system(&entry.system).unwrap_or(&entry.system);
                let codes = systems.entry(system.into()).or_default();
                codes.canonical = system.into();
                codes.insert(&entry.code, at, entry.dates);
            }
        }
        let bases = config.bases.into_iter().map(boxed).collect();
        let unknown = config.unknown.with(Label::UNKNOWN);
        Self { aliases, map, lists: config.lists, systems, programs: config.programs, unknown, bases }
    }

    /// The code lists, by the index that [`crate::engine::LabelSource::Code`] names.
    pub fn lists(&self) -> &[CodeList] {
        &self.lists
    }

    /// What a label that no table knows counts as.
    pub(crate) const fn unknown(&self) -> LabelSet {
        self.unknown
    }

    /// The base URLs of this server.
    pub fn bases(&self) -> &[Box<str>] {
        &self.bases
    }

    /// Reads one label coding; no labels where it protects nothing. `None`: no table and no mapping knows it; the caller
    /// treats it as [`Label::UNKNOWN`].
    pub fn label(&self, system: &str, code: &str) -> Option<LabelSet> {
        if let Some(mapped) = self.mapped(system, code) {
            return Some(mapped);
        }
        let system = self.named(system);
        let system = label::canonical_system(system).unwrap_or(system);
        LabelSet::from_coding(system, code)
    }

    fn mapped(&self, system: &str, code: &str) -> Option<LabelSet> {
        if self.map.is_empty() { None } else { self.map.get(&(Box::from(system), Box::from(code))).copied() }
    }

    fn named<'s>(&'s self, system: &'s str) -> &'s str {
        let system = system.trim().trim_end_matches('/');
        self.aliases.get(system).map_or(system, |name| name)
    }

    /// The listed codes of a system under any of its names.
    pub(crate) fn system(&self, name: &str) -> Option<&SystemCodes> {
        if self.systems.is_empty() {
            return None;
        }
        let name = self.named(name);
        self.systems.get(canonical_system(name).unwrap_or(name))
    }

    /// The labels of a list.
    pub(crate) fn list_labels(&self, list: u16) -> LabelSet {
        self.lists.get(usize::from(list)).map_or(LabelSet::EMPTY, |list| list.labels)
    }

    /// The labels that a code has on some day of the given days, with the list that says so.
    pub fn code(&self, system: &str, code: &str, days: Dates) -> Vec<(u16, LabelSet)> {
        let found = self.system(system).map(|codes| codes.find(code)).unwrap_or_default();
        let on_those_days = found.iter().filter(|(_, dates)| dates.meets(days));
        on_those_days.map(|(list, _)| (*list, self.list_labels(*list))).collect()
    }

    /// What follows one of this server's bases in a URL, from its slash on.
    #[inline]
    pub(crate) fn below_own_base<'u>(&self, url: &'u str) -> Option<&'u str> {
        below_base(&self.bases, url)
    }

    /// A reference below one of this server's bases is a local one.
    pub(crate) fn local(&self, reference: Reference) -> Reference {
        match reference {
            Reference::Absolute { base, instance, version } if self.bases.contains(&base) => {
                Reference::Relative { instance, version }
            }
            other @ (Reference::Absolute { .. }
            | Reference::Relative { .. }
            | Reference::Contained(_)
            | Reference::Urn(_)
            | Reference::Opaque) => other,
        }
    }

    /// Does this URL name an instance of this server?
    pub(crate) fn names_local_instance(&self, url: &str) -> bool {
        matches!(self.local(Reference::parse(url)), Reference::Relative { .. })
    }

    pub(crate) fn has_programs(&self) -> bool {
        !self.programs.is_empty()
    }

    pub(crate) fn is_program_instance(&self, instance: &InstanceId) -> bool {
        self.programs.iter().any(|program| matches!(program, ProgramSource::Instance(named) if named == instance))
    }

    pub(crate) fn is_program_identifier(&self, system: &str, value: &str) -> bool {
        self.programs.iter().any(
            |program| matches!(program, ProgramSource::Identifier { system: s, value: v } if s == system && v == value),
        )
    }

    pub(crate) fn is_program_source(&self, source: &str) -> bool {
        self.programs.iter().any(|program| match program {
            ProgramSource::MetaSource(named) => source
                .strip_prefix(named.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['#', '/']) || named.ends_with(['#', '/'])),
            ProgramSource::Instance(_) | ProgramSource::Identifier { .. } | ProgramSource::Tag { .. } => false,
        })
    }

    pub(crate) fn is_program_tag(&self, system: &str, code: &str) -> bool {
        self.programs
            .iter()
            .any(|program| matches!(program, ProgramSource::Tag { system: s, code: c } if s == system && c == code))
    }
}

/// What follows one of these bases in a URL: nothing, or from the slash, `?` or `#` on.
pub(crate) fn below_base<'u>(bases: &[Box<str>], url: &'u str) -> Option<&'u str> {
    bases
        .iter()
        .filter_map(|base| url.strip_prefix(&**base))
        .find(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::Date;

    fn on(year: u32, month: u32, day: u32) -> Dates {
        let day = Date::new(year, month, day);
        Dates::new(day, day)
    }

    #[test]
    fn a_code_is_found_in_its_system_under_every_name_and_in_no_other() {
        let labeller = Labeller::default();
        let hit = |system, code| !labeller.code(system, code, on(2026, 1, 1)).is_empty();
        assert!(hit("http://hl7.org/fhir/sid/icd-10-cm", "F11.20"));
        assert!(hit("http://hl7.org/fhir/sid/icd-10-cm", "F1120"));
        assert!(hit("urn:oid:2.16.840.1.113883.6.90", "f11.20"));
        assert!(hit("urn:oid:2.16.840.1.113883.6.285", "H0034"));
        assert!(!hit("http://hl7.org/fhir/sid/icd-10-cm", "H00.34"), "an eyelid is no methadone clinic");
        assert!(!hit("http://snomed.info/sct", "F11.20"));
        assert!(!hit("urn:other", "F11.20"));
    }

    #[test]
    fn a_code_counts_in_its_days_only() {
        let labeller = Labeller::default();
        let drg = |days| !labeller.code("urn:oid:2.16.840.1.113883.6.329", "522", days).is_empty();
        assert!(drg(on(2006, 5, 1)), "522 was alcohol and drug abuse treatment");
        assert!(!drg(on(2021, 5, 1)), "522 is a hip replacement");
    }

    #[test]
    fn a_mapping_and_an_alias_add_labels() {
        let labeller = Labeller::new(LabellerConfig {
            map: vec![LabelMapping { system: "urn:site".into(), code: "DRUG".into(), read_as: Label::PART2 }],
            system_aliases: vec![("urn:site:conf".into(), label::CONFIDENTIALITY.into())],
            ..LabellerConfig::default()
        });
        assert!(labeller.label("urn:site", "DRUG").is_some_and(|set| set.contains(Label::PART2)));
        assert!(labeller.label("urn:site:conf", "R").is_some_and(|set| set.contains(Label::RESTRICTED)));
        assert!(labeller.label("urn:oid:2.16.840.1.113883.5.25", "R").is_some());
        assert!(labeller.label("urn:site", "OTHER").is_none());
    }
}
