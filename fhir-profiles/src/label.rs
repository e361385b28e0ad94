//! Security labels (HL7 Healthcare Privacy and Security Classification System), by (system, code), never by code alone.
//!
//! Ground: THO v3-ActCode, v3-Confidentiality, v3-ActReason, v3-ObservationValue; DS4P IG 1.0.0.

mod codes;

use core::fmt;

/// What a label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelKind {
    /// v3-Confidentiality, a total order U < L < M < N < R < V.
    Confidentiality,
    /// What the content is about: `SUD`, `HIV`, `PSY`.
    Sensitivity,
    /// The law that protects it: `42CFRPart2`.
    Law,
    /// What a holder must do: `PROCESSINLINELABEL`.
    Obligation,
    /// What a holder must not do: `NORDSCLCD`.
    Refrain,
    /// A mark to be shown to people.
    Mark,
    /// What was done to the content: `REDACTED`.
    Integrity,
    /// A label of a system or with a code that this table does not know. Treated as restricted.
    Unknown,
}

/// One known security label. `Copy`, ordered, and cheap to hash: it keys decision caches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(u8);

struct Row {
    kind: LabelKind,
    code: &'static str,
    /// The labels that this one implies (subsumption: ETHUD is a SUD).
    implies: &'static [&'static str],
}

const fn row(kind: LabelKind, code: &'static str, implies: &'static [&'static str]) -> Row {
    Row { kind, code, implies }
}

use LabelKind::{Confidentiality, Integrity, Law, Mark, Obligation, Refrain, Sensitivity, Unknown};

const UNKNOWN_ROW: Row = row(Unknown, "unknown", &[]);

/// Sorted by nothing but history: the index is the identity, so rows are only ever added at the end.
const ROWS: &[Row] = &[
    UNKNOWN_ROW,
    row(Confidentiality, "U", &[]),
    row(Confidentiality, "L", &[]),
    row(Confidentiality, "M", &[]),
    row(Confidentiality, "N", &[]),
    row(Confidentiality, "R", &[]),
    row(Confidentiality, "V", &[]),
    row(Law, "42CFRPart2", &[]),
    row(Law, "HIPAAPsyNotes", &[]),
    row(Law, "HIPAASelfPay", &[]),
    row(Law, "HIPAANOPP", &[]),
    row(Law, "HIPAAROA", &[]),
    row(Law, "HIPAAAuth", &[]),
    row(Law, "HIPAAConsent", &[]),
    row(Law, "Title38Section7332", &[]),
    row(Law, "CommonRule", &[]),
    row(Sensitivity, "ETH", &[]),
    row(Sensitivity, "SUD", &["SPI"]),
    row(Sensitivity, "ETHUD", &["SUD"]),
    row(Sensitivity, "OPIOIDUD", &["SUD"]),
    row(Sensitivity, "SPI", &[]),
    row(Sensitivity, "BH", &["SPI"]),
    row(Sensitivity, "MH", &["SPI"]),
    row(Sensitivity, "PSY", &["SPI"]),
    row(Sensitivity, "PSYTHPN", &["SPI"]),
    row(Sensitivity, "COGN", &["BH"]),
    row(Sensitivity, "DVD", &["BH"]),
    row(Sensitivity, "EMOTDIS", &["BH"]),
    row(Sensitivity, "HIV", &[]),
    row(Sensitivity, "STD", &[]),
    row(Sensitivity, "SEX", &[]),
    row(Sensitivity, "PREGNANT", &[]),
    row(Sensitivity, "SDV", &[]),
    row(Sensitivity, "VIO", &[]),
    row(Sensitivity, "MST", &[]),
    row(Sensitivity, "GDIS", &[]),
    row(Sensitivity, "SCA", &["GDIS"]),
    row(Sensitivity, "TBOO", &[]),
    row(Sensitivity, "IDS", &[]),
    row(Sensitivity, "DEMO", &[]),
    row(Sensitivity, "DOB", &[]),
    row(Sensitivity, "GENDER", &[]),
    row(Sensitivity, "LIVARG", &[]),
    row(Sensitivity, "MARST", &[]),
    row(Sensitivity, "PATLOC", &[]),
    row(Sensitivity, "RACE", &[]),
    row(Sensitivity, "REL", &[]),
    row(Sensitivity, "EMPL", &[]),
    row(Sensitivity, "LOCIS", &[]),
    row(Sensitivity, "SSP", &[]),
    row(Sensitivity, "B", &[]),
    row(Sensitivity, "ADOL", &[]),
    row(Sensitivity, "CEL", &[]),
    row(Sensitivity, "DIA", &[]),
    row(Sensitivity, "DRGIS", &[]),
    row(Sensitivity, "EMP", &[]),
    row(Sensitivity, "PDS", &[]),
    row(Sensitivity, "PHY", &[]),
    row(Sensitivity, "PRS", &[]),
    row(Obligation, "PROCESSINLINELABEL", &[]),
    row(Obligation, "REDACT", &[]),
    row(Obligation, "MASK", &[]),
    row(Obligation, "CPLYCD", &[]),
    row(Obligation, "CPLYJPP", &[]),
    row(Refrain, "NORDSCLCD", &[]),
    row(Refrain, "NODSCLCD", &[]),
    row(Refrain, "NODSCLCDS", &[]),
    row(Refrain, "NORDSCLCDS", &[]),
    row(Refrain, "NORDSCLW", &[]),
    row(Mark, "RedisclosureProhibitionMark", &[]),
    row(Mark, "ConfidentialMark", &[]),
    row(Mark, "RestrictedConfidentialityMark", &[]),
    row(Integrity, "REDACTED", &[]),
    row(Integrity, "MASKED", &[]),
    row(Integrity, "SUBSETTED", &[]),
];

const _: () = assert!(ROWS.len() <= 128, "LabelSet is 128 bits wide");

pub const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
pub const ACT_US_PRIVACY_LAW: &str = "http://terminology.hl7.org/CodeSystem/v3-ActUSPrivacyLaw";
pub const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
pub const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
pub const OBSERVATION_VALUE: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

/// The URL of a label system, for its OID, its retired URL, or itself in another spelling.
///
/// Ground: THO identifiers of the code systems; `http://hl7.org/fhir/v3/…` is the DSTU2 and STU3 form.
pub fn canonical_system(name: &str) -> Option<&'static str> {
    let name = name.trim().trim_end_matches('/');
    let known = [
        (ACT_CODE, "urn:oid:2.16.840.1.113883.5.4", "http://hl7.org/fhir/v3/ActCode"),
        (ACT_US_PRIVACY_LAW, "urn:oid:2.16.840.1.113883.5.1138", "http://hl7.org/fhir/v3/ActUSPrivacyLaw"),
        (CONFIDENTIALITY, "urn:oid:2.16.840.1.113883.5.25", "http://hl7.org/fhir/v3/Confidentiality"),
        (ACT_REASON, "urn:oid:2.16.840.1.113883.5.8", "http://hl7.org/fhir/v3/ActReason"),
        (OBSERVATION_VALUE, "urn:oid:2.16.840.1.113883.5.1063", "http://hl7.org/fhir/v3/ObservationValue"),
    ];
    let names = |(url, oid, old): &(&str, &str, &str)| [*url, *oid, *old].iter().any(|n| n.eq_ignore_ascii_case(name));
    known.iter().find(|row| names(row)).map(|(url, _, _)| *url)
}

impl Label {
    pub const UNKNOWN: Self = Self(0);
    pub const RESTRICTED: Self = Self(5);
    pub const VERY_RESTRICTED: Self = Self(6);
    pub const PART2: Self = Self(7);
    pub const HIPAA_PSY_NOTES: Self = Self(8);
    pub const ETH: Self = Self(16);
    pub const SUD: Self = Self(17);
    pub const PSYTHPN: Self = Self(24);
    pub const PROCESS_INLINE: Self = Self(59);
    pub const NORDSCLCD: Self = Self(64);
    pub const REDACTED: Self = Self(72);

    fn row(self) -> &'static Row {
        ROWS.get(usize::from(self.0)).unwrap_or(&UNKNOWN_ROW)
    }

    pub fn code(self) -> &'static str {
        self.row().code
    }

    pub fn kind(self) -> LabelKind {
        self.row().kind
    }

    /// The system this label is emitted under. Both systems of `42CFRPart2` are read; v3-ActCode is written.
    pub fn system(self) -> &'static str {
        match self.kind() {
            Confidentiality => CONFIDENTIALITY,
            Integrity => OBSERVATION_VALUE,
            Law | Sensitivity | Obligation | Refrain | Mark | Unknown => ACT_CODE,
        }
    }

    /// Every known label.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u8..).take(ROWS.len()).map(Self)
    }

    /// The label with this canonical code and one of these kinds.
    pub fn by_code(code: &str, kinds: &[LabelKind]) -> Option<Self> {
        Self::all().find(|label| label.code() == code && kinds.contains(&label.kind()))
    }

    /// Reads one `meta.security` coding. `None` means: not a label this table knows (the caller treats it as restricted).
    ///
    /// Leniency only ever tightens: the retired synonym `NORDSLCD` is read as `NORDSCLCD`, the retired `SICKLE` as
    /// `SCA`, `VIP` as `CEL`, and `PROCESSINLINELABEL` is also read under v3-ActReason, where real data carries it.
    pub fn from_coding(system: &str, code: &str) -> Option<Self> {
        match system {
            CONFIDENTIALITY => Self::by_code(code, &[Confidentiality]),
            ACT_US_PRIVACY_LAW => Self::by_code(code, &[Law]),
            OBSERVATION_VALUE => Self::by_code(code, &[Integrity]),
            ACT_REASON if code == "PROCESSINLINELABEL" => Some(Self::PROCESS_INLINE),
            ACT_CODE => {
                let code = match code {
                    "NORDSLCD" => "NORDSCLCD",
                    "SICKLE" => "SCA",
                    "VIP" => "CEL",
                    other => other,
                };
                Self::by_code(code, &[Law, Sensitivity, Obligation, Refrain, Mark])
            }
            _ => None,
        }
    }
}

impl LabelSet {
    /// What one label coding says of the record that carries it: the label and what it implies, what the code counts as,
    /// or nothing for an official code that protects nothing (test data, integrity, most handling instructions). `None`
    /// for a code that no table knows: the caller treats it as restricted.
    pub fn from_coding(system: &str, code: &str) -> Option<Self> {
        let own = Label::from_coding(system, code).map(|label| Self::EMPTY.with(label));
        own.or_else(|| codes::counts_as(system, code))
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A set of labels, closed under subsumption when built through [`LabelSet::insert`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(u128);

impl LabelSet {
    pub const EMPTY: Self = Self(0);

    /// Adds the label and all that it implies.
    pub fn insert(&mut self, label: Label) {
        self.0 |= 1u128 << label.0;
        for parent in label.row().implies {
            if let Some(parent) = Label::by_code(parent, &[Sensitivity]) {
                self.insert(parent);
            }
        }
    }

    #[must_use]
    pub fn with(mut self, label: Label) -> Self {
        self.insert(label);
        self
    }

    pub const fn contains(self, label: Label) -> bool {
        self.0 >> label.0 & 1 == 1
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The labels of this set that the other lacks.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many labels.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The labels of these kinds.
    #[must_use]
    pub fn of_kinds(self, kinds: &[LabelKind]) -> Self {
        let bits = self.bits().filter(|label| kinds.contains(&label.kind()));
        bits.fold(Self::EMPTY, |set, label| Self(set.0 | 1 << label.0))
    }

    /// The labels in order, one bit a step.
    fn bits(self) -> impl Iterator<Item = Label> {
        core::iter::successors(Some(self.0), |left| Some(left & left.wrapping_sub(1)))
            .take_while(|left| *left != 0)
            .filter_map(|left| u8::try_from(left.trailing_zeros()).ok().map(Label))
    }

    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Label> {
        self.bits()
    }

    /// The highest confidentiality in the set (high-water mark).
    pub fn confidentiality(self) -> Option<Label> {
        self.iter().filter(|label| label.kind() == Confidentiality).last()
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Label> for LabelSet {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        labels.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_constants_are_what_they_say() {
        for (label, code) in [
            (Label::UNKNOWN, "unknown"),
            (Label::RESTRICTED, "R"),
            (Label::VERY_RESTRICTED, "V"),
            (Label::PART2, "42CFRPart2"),
            (Label::HIPAA_PSY_NOTES, "HIPAAPsyNotes"),
            (Label::ETH, "ETH"),
            (Label::SUD, "SUD"),
            (Label::PSYTHPN, "PSYTHPN"),
            (Label::PROCESS_INLINE, "PROCESSINLINELABEL"),
            (Label::NORDSCLCD, "NORDSCLCD"),
            (Label::REDACTED, "REDACTED"),
        ] {
            assert_eq!(label.code(), code);
        }
    }

    #[test]
    fn part2_is_read_under_both_systems_and_no_other() {
        assert_eq!(Label::from_coding(ACT_CODE, "42CFRPart2"), Some(Label::PART2));
        assert_eq!(Label::from_coding(ACT_US_PRIVACY_LAW, "42CFRPart2"), Some(Label::PART2));
        assert_eq!(Label::from_coding(CONFIDENTIALITY, "42CFRPart2"), None);
        assert_eq!(Label::from_coding("urn:other", "42CFRPart2"), None);
    }

    #[test]
    fn sud_covers_alcohol_and_opioid_use_disorder_and_eth_stands_beside_it() {
        let opioid = LabelSet::EMPTY.with(Label::by_code("OPIOIDUD", &[Sensitivity]).unwrap_or(Label::UNKNOWN));
        assert!(opioid.contains(Label::SUD));
        assert!(!LabelSet::EMPTY.with(Label::ETH).contains(Label::SUD));
        assert!(!LabelSet::EMPTY.with(Label::SUD).contains(Label::ETH));
    }
}
