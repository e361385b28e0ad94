//! How sensitive data is known.

use fhir_profiles::label::{Label, LabelKind, LabelSet};

use crate::config::read::At;
use crate::config::section::{section, words};
use crate::config::value::FilePath;

section! {
    /// How sensitivity labels are found.
    pub struct Labels {
        /// Where they are looked for.
        sources: Vec<LabelSource> = vec![LabelSource::Meta, LabelSource::Inline, LabelSource::Codes],
        /// What a label that nobody here knows counts as.
        unknown: UnknownLabel = UnknownLabel::Restricted,
        /// Labels of a local code system, and what each counts as.
        map: Vec<LabelMapping> = Vec::new(),
        /// Code lists of the organization, each a YAML file: mental health, HIV, reproductive health, violence, genetics. Only
        /// those of Part 2 are shipped.
        lists: Vec<FilePath> = Vec::new(),
        /// Candidates: what these lists would change is counted and logged, and nothing else. A list with the name of one in
        /// force (`part2-claims`, `part2-clinical`, or of `lists`) is compared with it; any other is compared with its absence.
        shadow_lists: Vec<FilePath> = Vec::new(),
    }
    check check_labels;
}

words! {
    /// A place where labels are looked for.
    pub enum LabelSource {
        /// `meta.security`, at any depth.
        Meta = "meta",
        /// Inline security labels on elements (DS4P).
        Inline = "inline",
        /// Clinical codes that are sensitive in themselves.
        Codes = "codes",
    }
}

words! {
    /// What an unknown label counts as.
    pub enum UnknownLabel {
        /// As restricted: only policies that permit restricted data show it.
        Restricted = "restricted",
        /// As very restricted.
        VeryRestricted = "very-restricted",
    }
}

section! {
    /// What a label of a local code system counts as.
    pub struct LabelMapping {
        /// The code system of the local label.
        system: String,
        /// Its code.
        code: String,
        /// The code of the label it counts as: `42CFRPart2`, `PSY`, `HIV`, `R`, and so on.
        counts_as as "as": String,
    }
}

section! {
    /// A code list: the codes that make a record sensitive, and the labels they give it.
    pub struct CodeListFile {
        /// Its name, in explanations, logs and metrics.
        name: String,
        /// Its edition.
        version: String,
        /// Where its entries come from: who says that these codes are sensitive.
        source: String,
        /// The codes of the labels it gives: `HIV`, `PSY`, `SEX`, `SDV`, `GDIS`, `42CFRPart2`, and so on.
        labels: Vec<String>,
        /// The codes, by system and dates.
        codes: Vec<CodeGroup>,
    }
    check check_code_list;
}

section! {
    /// Codes of one system that mean the same in the same days.
    pub struct CodeGroup {
        /// The code system, by any name that is known of it.
        system: String,
        /// The codes; compared exactly, ICD without its dot.
        codes: Vec<String>,
        /// The first day of service for which they count; without it, always.
        from: Option<time::Date>,
        /// The last day.
        to: Option<time::Date>,
    }
}

impl CodeListFile {
    /// The labels that it gives, or the code that is none.
    pub(crate) fn label_set(&self) -> Result<LabelSet, &str> {
        let label = |code: &String| Label::by_code(code, READ_AS);
        let unknown = self.labels.iter().find(|code| label(code).is_none());
        unknown.map_or_else(|| Ok(self.labels.iter().filter_map(label).collect()), |code| Err(code.as_str()))
    }
}

/// The kinds of label that a mapping or a code list may give.
pub(crate) const READ_AS: &[LabelKind] =
    &[LabelKind::Confidentiality, LabelKind::Sensitivity, LabelKind::Law, LabelKind::Refrain];

fn check_labels(labels: &Labels, at: &At<'_>) {
    if !labels.sources.contains(&LabelSource::Meta) {
        at.problem_at(
            "sources",
            "without `meta` a label that the EHR set would be overlooked (42 CFR 2.12)",
            "keep `meta`; add `inline` and `codes`",
        );
    }
}

fn check_code_list(list: &CodeListFile, at: &At<'_>) {
    if let Err(code) = list.label_set() {
        at.problem_at("labels", format!("`{code}` is no security label"), "see docs/redaction.md, or v3-ActCode");
    } else if list.labels.is_empty() {
        at.problem_at("labels", "a list that gives no label hides nothing", "name at least one");
    }
    if list.codes.iter().all(|group| group.codes.is_empty()) {
        at.problem_at("codes", "there is no code here", "list codes, or take the file out of `labels`");
    }
    if list.codes.iter().any(|group| group.from.zip(group.to).is_some_and(|(from, to)| to < from)) {
        at.problem_at("codes", "a group ends before it begins", "exchange `from` and `to`");
    }
}
