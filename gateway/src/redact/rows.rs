//! A page of rows: what may be seen of one page of the EHR, and how far the client's own page has come with it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use fhir_profiles::engine::{
    BundleType, Document, Judge as _, Level, Place, RedactError, Redacted, ResourceFacts, SearchMode, Totals, Verdict,
};
use fhir_profiles::ids::{InstanceId, ResourceType};
use fhir_profiles::json;
use fhir_profiles::search::{AnswerRow, Query};
use fhir_profiles::written::parts;
use fhirwall_policy::partner::Redaction;
use fhirwall_policy::reason::Reason;
use serde_json::Value;

use super::{Account, Judged, Stage, account};
use crate::decide::Verdicts;
use crate::refusal::Refusal;

/// What was asked for: the rows of these types are matches, whatever the EHR says of the others.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'q> {
    /// `None`: rows of every type, as `$everything` gives them.
    pub kinds: Option<&'q [ResourceType]>,
    pub query: &'q Query,
    /// The query's parameters are criteria: rows are there because they meet them.
    pub criteria: bool,
}

/// The part of the EHR's page that is wanted, in rows that match.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Rows that an earlier page has shown or passed.
    pub skip: usize,
    /// The most rows to show.
    pub want: usize,
    /// The EHR says that these are all, and a total may tell it.
    pub whole: bool,
}

/// What may be seen of one page of the EHR.
#[derive(Debug)]
pub struct Rows {
    /// The redacted page as it stands, if all that is shown of it is this page's.
    pub intact: Option<Bytes>,
    /// Members of the Bundle beside its entries: name and text.
    pub envelope: Vec<(String, Bytes)>,
    /// Entries that match, and those that were included for them.
    pub matches: Vec<Bytes>,
    pub includes: Vec<Bytes>,
    pub outcomes: Vec<Bytes>,
    pub account: Account,
    /// How many of the EHR's matching rows have been passed, withheld ones included.
    pub passed: usize,
}

impl Judged<'_> {
    /// Is it the answer to a search?
    pub fn is_searchset(&self) -> bool {
        self.document.bundle_type() == Some(BundleType::Searchset)
    }

    /// How many rows of the EHR's page match.
    pub fn rows(&self, asked: &Asked<'_>) -> usize {
        self.document.resources().iter().filter(|facts| asked.is_match(facts)).count()
    }

    /// The EHR's link of this relation.
    pub fn link(&self, relation: &str) -> Option<&str> {
        self.links.iter().find(|(name, _)| name == relation).map(|(_, url)| url.as_str())
    }
}

impl Asked<'_> {
    /// Is this resource a row that matched? One that the EHR calls a match and nobody asked for is none.
    fn is_match(&self, facts: &ResourceFacts) -> bool {
        let included = matches!(facts.search_mode, Some(SearchMode::Include | SearchMode::Outcome));
        let asked = match self.kinds {
            Some(kinds) => kinds.contains(&facts.kind),
            None => facts.kind != ResourceType::OPERATION_OUTCOME,
        };
        is_row(facts) && !included && asked
    }
}

/// The server's own message, which may stay whatever is said of it.
fn envelope_only(facts: &ResourceFacts) -> bool {
    facts.kind == ResourceType::OPERATION_OUTCOME
}

fn is_row(facts: &ResourceFacts) -> bool {
    facts.place == Place::Entry && facts.parent == Some(0)
}

impl Stage<'_> {
    /// What may be seen of a judged page, within the window. A row that matched by what is withheld in it is withheld
    /// whole, and an included one goes with the rows that brought it.
    ///
    /// # Errors
    /// A refusal when the answer as a whole is withheld or is no page of rows.
    pub fn rows(
        &self,
        judged: Judged<'_>,
        asked: &Asked<'_>,
        window: Window,
        link: impl Fn(&str, &str) -> Option<String>,
    ) -> Result<Rows, Box<(Refusal, Account)>> {
        let unreadable = || Box::new((Refusal::from(Reason::UpstreamUnintelligible), Account::default()));
        if !judged.is_searchset() {
            return Err(unreadable());
        }
        let Judged { document, links, mut verdicts, lacks } = judged;
        for (relation, url) in links {
            if let Some(shown) = link(&relation, &url) {
                verdicts.show_link(&relation, &url, shown);
            }
        }
        self.carried_out(&mut verdicts, lacks, |verdicts| self.page(&document, verdicts, asked, window))
    }

    fn page(
        &self,
        document: &Document<'_>,
        verdicts: &mut Verdicts,
        asked: &Asked<'_>,
        window: Window,
    ) -> Result<Rows, Box<(Refusal, Account)>> {
        let redacted = self.without_oracles(document, verdicts, asked, window)?;
        let unreadable = || Box::new((Refusal::from(Reason::UpstreamUnintelligible), Account::default()));
        let mut page = Page::read(document, &redacted, asked).map_err(|_| unreadable())?;
        let passed = page.cut(window);
        let bases: Vec<&str> = self.endpoint.facts.bases.iter().map(String::as_str).collect();
        if page.is_cut || !redacted.removals.is_empty() {
            page.drop_unaccounted(&redacted.body, asked.query, &bases);
        }
        let mut account = account(document, verdicts, &redacted.removals, &bases);
        account.disclose(document, &page.disclosed(document, &redacted), &bases);
        // For whom nothing may differ, every page is written alike, whether or not the EHR's could stand.
        let silent = self.permit.redaction() == Redaction::Silent;
        let intact = !silent && !page.is_cut && page.rows.iter().all(|row| row.kept);
        let Page { envelope, rows, .. } = page;
        let body = Bytes::from(redacted.body);
        let (mut matches, mut includes, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.into_iter().filter(|row| row.kept) {
            let entry = body.slice(row.entry);
            match row.role {
                Role::Match { .. } => matches.push(entry),
                Role::Include => includes.push(entry),
                Role::Outcome => outcomes.push(entry),
            }
        }
        let envelope = envelope.into_iter().map(|(name, text)| (name, body.slice(text))).collect();
        let intact = intact.then_some(body);
        Ok(Rows { intact, envelope, matches, includes, outcomes, account, passed })
    }

    /// Redacts until no row is shown that the criteria found by what was taken out of it.
    fn without_oracles(
        &self,
        document: &Document<'_>,
        verdicts: &mut Verdicts,
        asked: &Asked<'_>,
        window: Window,
    ) -> Result<Redacted, Box<(Refusal, Account)>> {
        // A marked partner is told of what is withheld in any case: for it a total tells no more. It is told only where
        // every row was seen and none differs.
        let whole = window.whole && self.permit.redaction() == Redaction::Marked;
        let counted = u64::try_from(document.resources().iter().filter(|facts| asked.is_match(facts)).count()).ok();
        let bases: Vec<&str> = self.endpoint.facts.bases.iter().map(String::as_str).collect();
        // With a row withheld, a total would be written only to be taken out.
        let withheld = |(facts, at): (&ResourceFacts, u32)| {
            asked.is_match(facts) && !envelope_only(facts) && verdicts.resource(at, facts) != Verdict::Show
        };
        let complete = whole && !document.resources().iter().zip(0u32..).any(withheld);
        let mut totals = if complete && document.total() == counted { Totals::Keep } else { Totals::Remove };
        loop {
            let redacted = match self.redact(document, verdicts, totals) {
                Ok(redacted) => redacted,
                Err(RedactError::RootWithheld { removals }) => {
                    return Err(self.root_withheld(document, verdicts, &removals));
                }
            };
            let found = oracles(document, &redacted, asked, &bases);
            let differs = !redacted.removals.is_empty() && totals == Totals::Keep;
            if found.is_empty() && !differs {
                return Ok(redacted);
            }
            if differs {
                totals = Totals::Remove;
            }
            for row in found {
                verdicts.withhold_row(row, Reason::LabelWithheld);
            }
        }
    }
}

/// The shown rows that the criteria or the order found by what was taken out of them.
fn oracles(document: &Document<'_>, redacted: &Redacted, asked: &Asked<'_>, bases: &[&str]) -> Vec<u32> {
    if !asked.criteria {
        return Vec::new();
    }
    let mut removed: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for removal in &redacted.removals {
        // What a narrative repeats was not searched; a contained resource is reached by the reference to it.
        let searched = matches!(removal.level, Level::Element | Level::Masked | Level::Reference);
        let facts = usize::try_from(removal.resource).ok().and_then(|at| document.resources().get(at));
        let below = removal.path.split_once(".resource").map_or("", |(_, below)| below);
        if let Some(facts) = facts
            && searched
            && is_shown(redacted, removal.resource)
            && asked.is_match(facts)
            && asked.query.read_what_stood_at(facts.kind, below)
        {
            removed.entry(removal.resource).or_default().push(below);
        }
    }
    if removed.is_empty() {
        return Vec::new();
    }
    let rows = Page::read(document, redacted, asked).map(|page| page.rows).unwrap_or_default();
    let rests = |resource: u32, removed: &[&str]| {
        let row = rows.iter().find(|row| row.resource == Some(resource)).and_then(|row| row.read(&redacted.body));
        row.is_none_or(|(instance, body)| asked.query.rested_on(instance.kind, removed, &body, bases))
    };
    removed.into_iter().filter(|(resource, removed)| rests(*resource, removed)).map(|(resource, _)| resource).collect()
}

/// Does the redacted page show this resource of the document?
fn is_shown(redacted: &Redacted, resource: u32) -> bool {
    redacted.disclosed.binary_search(&resource).is_ok()
}

/// A redacted page, read into its rows. Texts are told by where they stand in it.
struct Page {
    envelope: Vec<(String, Range<usize>)>,
    rows: Vec<Row>,
    is_cut: bool,
}

struct Row {
    /// Its resource, by index in the document; `None` for a message of ours.
    resource: Option<u32>,
    entry: Range<usize>,
    role: Role,
    kept: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The how manieth match of the EHR's page it is.
    Match {
        number: usize,
    },
    Include,
    Outcome,
}

impl Page {
    fn read(document: &Document<'_>, redacted: &Redacted, asked: &Asked<'_>) -> Result<Self, json::Ambiguous> {
        let mut number = 0usize;
        let mut roles: Vec<(u32, Role)> = Vec::new();
        for (facts, at) in document.resources().iter().zip(0u32..).filter(|(facts, _)| is_row(facts)) {
            let role = if asked.is_match(facts) {
                number = number.saturating_add(1);
                Role::Match { number: number.saturating_sub(1) }
            } else if facts.kind == ResourceType::OPERATION_OUTCOME {
                Role::Outcome
            } else {
                Role::Include
            };
            if is_shown(redacted, at) {
                roles.push((at, role));
            }
        }
        let texts: Vec<&[u8]> = roles.iter().map(|(at, _)| document.bytes_of(*at)).collect();
        let parts = parts(&redacted.body, texts)?;
        let envelope = parts.members.into_iter().map(|(name, text)| (name.into_owned(), text)).collect();
        let (mut rows, mut stray) = (Vec::with_capacity(parts.entries.len()), false);
        let mut roles = roles.into_iter();
        for entry in parts.entries {
            // What stands after the EHR's rows is our own message; an entry without a resource is nobody's row.
            let (resource, role) = match (&entry.resource, entry.resource.as_ref().and_then(|_| roles.next())) {
                (Some(_), Some((at, role))) => (Some(at), role),
                (Some(_), None) => (None, Role::Outcome),
                (None, _) => {
                    stray = true;
                    continue;
                }
            };
            rows.push(Row { resource, entry: entry.whole, role, kept: true });
        }
        Ok(Self { envelope, rows, is_cut: stray })
    }

    /// Keeps the matches in the window. Gives the number of the first row that the next page begins with.
    fn cut(&mut self, window: Window) -> usize {
        let mut left = window.want;
        let mut next = None;
        for row in &mut self.rows {
            let Role::Match { number } = row.role else { continue };
            if number < window.skip {
                row.kept = false;
            } else if let Some(rest) = left.checked_sub(1) {
                left = rest;
            } else {
                next.get_or_insert(number);
                row.kept = false;
            }
        }
        self.is_cut |= self.rows.iter().any(|row| !row.kept);
        next.unwrap_or(usize::MAX)
    }

    /// Included rows go that no kept row accounts for.
    fn drop_unaccounted(&mut self, body: &[u8], query: &Query, bases: &[&str]) {
        if !self.rows.iter().any(|row| row.role == Role::Include) {
            return;
        }
        let read: Vec<Option<(InstanceId, Value)>> = self.rows.iter().map(|row| row.read(body)).collect();
        let candidates: Vec<(usize, AnswerRow<'_>)> = read
            .iter()
            .zip(&self.rows)
            .enumerate()
            .filter(|(_, (_, row))| row.kept && row.role != Role::Outcome)
            .filter_map(|(at, (read, row))| {
                let (instance, body) = read.as_ref()?;
                Some((at, AnswerRow { instance, body, matched: row.role != Role::Include }))
            })
            .collect();
        let rows: Vec<AnswerRow<'_>> = candidates.iter().map(|(_, row)| *row).collect();
        let stands: HashSet<usize> = query
            .accounts_for(&rows, bases)
            .into_iter()
            .zip(&candidates)
            .filter_map(|(stands, (at, _))| stands.then_some(*at))
            .collect();
        for (at, row) in self.rows.iter_mut().enumerate() {
            row.kept &= row.role != Role::Include || stands.contains(&at);
        }
    }

    /// The resources that are shown in the kept rows, and the Bundle itself.
    fn disclosed(&self, document: &Document<'_>, redacted: &Redacted) -> Vec<u32> {
        // In the order of the document.
        let kept: Vec<u32> = self.rows.iter().filter(|row| row.kept).filter_map(|row| row.resource).collect();
        let row_of = |mut at: u32| {
            let parent = |at: u32| usize::try_from(at).ok().and_then(|at| document.resources().get(at)?.parent);
            while let Some(holder) = parent(at) {
                if holder == 0 {
                    return Some(at);
                }
                at = holder;
            }
            None
        };
        redacted
            .disclosed
            .iter()
            .copied()
            .filter(|at| row_of(*at).is_none_or(|row| kept.binary_search(&row).is_ok()))
            .collect()
    }
}

impl Row {
    fn read(&self, page: &[u8]) -> Option<(InstanceId, Value)> {
        let entry = json::parse(page.get(self.entry.clone())?).ok()?;
        let body = entry.get("resource")?.clone();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let (kind, id) = (text("resourceType")?.parse().ok()?, text("id")?.parse().ok()?);
        Some((InstanceId { kind, id }, body))
    }
}
