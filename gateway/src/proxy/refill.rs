//! Searches: a page is filled from further pages of the EHR when rows of it are withheld, so that its size tells nothing.
//!
//! A page of the client has as many rows as a page of the EHR. It may end in the middle of one: then the next page begins
//! there, at the row after the last that was passed, so that no row is lost and none comes twice. At most
//! `limits.refill_pages` further pages are read, and none after [`PATIENCE`]; a page that is still not full is short.

use std::time::Duration;

use bytes::Bytes;
use fhir_profiles::interaction::Interaction;
use fhir_profiles::operation::Operation;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;

use super::read::{check_status, presented};
use super::{Journey, Outcome, failure, page, pushdown, served};
use crate::forward::UpstreamRequest;
use crate::links::Position;
use crate::redact::rows::{Asked, Rows, Window};
use crate::redact::{Account, Stage};
use crate::refusal::Refusal;

/// The most further pages of the EHR for one page of the client, whatever is configured.
const MOST_PAGES: u32 = 4;

/// After this time no further page is asked for: a short page in time is better than a full one too late.
const PATIENCE: Duration = Duration::from_secs(5);

/// What rows a search asks for; `None` for what is no search.
pub(super) const fn asked(interaction: &Interaction) -> Option<Asked<'_>> {
    match interaction {
        Interaction::SearchType { kind, query } | Interaction::SearchCompartment { kind, query, .. } => {
            Some(Asked { kinds: Some(std::slice::from_ref(kind)), query, criteria: true })
        }
        Interaction::SearchSystem { kinds, query } => {
            Some(Asked { kinds: Some(kinds.as_slice()), query, criteria: true })
        }
        Interaction::Operation { operation, query, .. } => match operation {
            // Its parameters choose a span of time and types: nobody's secret.
            Operation::Everything => Some(Asked { kinds: None, query, criteria: false }),
            Operation::Lastn | Operation::Docref => Some(Asked { kinds: None, query, criteria: true }),
            Operation::Expand
            | Operation::Lookup
            | Operation::ValidateCode
            | Operation::Translate
            | Operation::Export => None,
        },
        Interaction::Capabilities
        | Interaction::Read { .. }
        | Interaction::Vread { .. }
        | Interaction::Update { .. }
        | Interaction::Patch { .. }
        | Interaction::Delete { .. }
        | Interaction::HistoryInstance { .. }
        | Interaction::HistoryType { .. }
        | Interaction::HistorySystem { .. }
        | Interaction::Create { .. }
        | Interaction::ConditionalCreate { .. }
        | Interaction::ConditionalUpdate { .. }
        | Interaction::ConditionalPatch { .. }
        | Interaction::ConditionalDelete { .. }
        | Interaction::Batch { .. }
        | Interaction::Transaction { .. }
        | Interaction::Page { .. }
        | Interaction::ExportStatus { .. }
        | Interaction::ExportDelete { .. }
        | Interaction::ExportFile { .. } => None,
    }
}

/// A page of the client, as far as it is filled.
#[derive(Default)]
struct Filled {
    envelope: Vec<(String, Bytes)>,
    matches: Vec<Bytes>,
    includes: Vec<Bytes>,
    outcomes: Vec<Bytes>,
    /// The one page of the EHR that is the client's as it stands.
    intact: Option<Bytes>,
    account: Account,
    pages: u32,
}

impl Journey<'_> {
    /// Carries out a search. `interaction` is the client's own form of it; the permit's is what the EHR is asked.
    pub(super) async fn search(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        interaction: &Interaction,
        position: Option<Position>,
    ) -> Result<Outcome, Refusal> {
        let asked = asked(stage.permit.interaction()).ok_or(Reason::UnsupportedInteraction)?;
        let most = MOST_PAGES.min(self.generation.config.gateway.limits.refill_pages.get());
        let _room = self.room().await?;
        let mut held = Vec::new();
        let mut filled = Filled::default();
        let mut next = Some(position.unwrap_or_default());
        let mut size = next.as_ref().and_then(|position| position.size);
        while let Some(position) = next.take() {
            let request = self.page_request(stage, &position).ok_or(Reason::UnsupportedInteraction)?;
            let answer = match self.stage("forward", stage.endpoint.upstream.exchange(&request)).await {
                Ok(answer) => answer,
                // The rows that are there are shown; the client meets the failure on the next page.
                Err(_) if filled.pages > 0 => {
                    next = Some(position);
                    break;
                }
                Err(error) => return Err(failure(error)),
            };
            check_status(&answer)?;
            let judged = self.stage("redact", stage.judge(&answer.body)).await?;
            let rows = judged.rows(&asked);
            let full = size.unwrap_or_else(|| page_size(interaction, rows));
            // A first page without rows says nothing of how many a page has.
            size = Some(full).filter(|full| *full > 0);
            let after = judged.link("next");
            let follows = after.and_then(|url| page::beginning(url, stage.endpoint, size));
            let window = Window {
                skip: position.skip,
                want: full.saturating_sub(filled.matches.len()),
                whole: position == Position::default() && after.is_none(),
            };
            let link =
                |relation: &str, _: &str| self.link(stage.endpoint, subject, interaction, relation, follows.as_ref());
            let page = match stage.rows(judged, &asked, window, link) {
                Ok(page) => page,
                Err(withheld) => {
                    let (refusal, account) = *withheld;
                    self.journal.account(account);
                    return Err(refusal);
                }
            };
            next = if page.passed < rows { Some(Position { skip: page.passed, size, ..position }) } else { follows };
            filled.add(page);
            // Room in memory is given back when the page is written.
            held.extend(answer.room);
            let enough = filled.matches.len() >= full || filled.pages > most;
            if enough || self.started.elapsed() > PATIENCE {
                break;
            }
        }
        if filled.pages == 1 {
            self.judged = true;
        }
        if filled.matches.is_empty() {
            // Nothing found, or nothing that may be shown: an `_id` search would tell which.
            self.journal.keep_quiet(1);
        }
        let link = |relation: &str| self.link(stage.endpoint, subject, interaction, relation, next.as_ref());
        let (body, account) = filled.written(link);
        let within = self.admit_disclosure(subject, &account, body.len()).await;
        self.unless_observed(within)?;
        self.journal.account(account);
        let body = presented(interaction, body)?;
        Ok(Outcome::Disclosure(served::resource(self.journal.decision, body)))
    }

    /// The page of the EHR at a position.
    fn page_request(&self, stage: &Stage<'_>, position: &Position) -> Option<UpstreamRequest> {
        let request = page::upstream_request(stage.permit, position.cursor.as_ref())?;
        Some(match position.cursor {
            Some(_) => request,
            // A trial run leaves out no row.
            None if self.observing() => request,
            None => pushdown::exclude(request, stage),
        })
    }
}

/// As many rows as the EHR's first page has, and no more than the client wants.
fn page_size(interaction: &Interaction, rows: usize) -> usize {
    let wanted = interaction.presentation().and_then(|presentation| presentation.count);
    let wanted = wanted.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    rows.min(wanted)
}

impl Filled {
    fn add(&mut self, page: Rows) {
        let first = self.pages == 0;
        self.pages = self.pages.saturating_add(1);
        self.intact = page.intact.filter(|_| first);
        if first {
            self.envelope = page.envelope;
        }
        self.account = if first { page.account } else { std::mem::take(&mut self.account).and(page.account) };
        self.matches.extend(page.matches);
        for one in page.includes {
            if !self.includes.contains(&one) {
                self.includes.push(one);
            }
        }
        for one in page.outcomes {
            if !self.outcomes.contains(&one) {
                self.outcomes.push(one);
            }
        }
    }

    /// The client's page, with its own links.
    fn written(self, link: impl Fn(&str) -> Option<String>) -> (Bytes, Account) {
        if let Some(intact) = self.intact {
            return (intact, self.account);
        }
        let links: Vec<String> = ["self", "next"]
            .iter()
            .filter_map(|relation| Some(serde_json::json!({"relation": relation, "url": link(relation)?}).to_string()))
            .collect();
        let entries = [&self.matches, &self.includes, &self.outcomes];
        let texts = self.envelope.iter().map(|(_, text)| text).chain(entries.into_iter().flatten());
        let length: usize = texts.map(|text| text.len().saturating_add(16)).sum();
        let mut page = Vec::with_capacity(length.saturating_add(1024));
        // A total would count what is not on this page.
        for (name, text) in
            self.envelope.iter().filter(|(name, _)| !matches!(name.as_str(), "link" | "entry" | "total"))
        {
            member(&mut page, name, &[&**text]);
        }
        let links: Vec<&[u8]> = links.iter().map(String::as_bytes).collect();
        let entries: Vec<&[u8]> = entries.into_iter().flatten().map(|entry| &**entry).collect();
        for (name, items) in [("link", links), ("entry", entries)] {
            // R4 json.html: an array is never empty.
            if let Some((first, others)) = items.split_first() {
                member(&mut page, name, &[b"[", first]);
                for item in others {
                    page.push(b',');
                    page.extend_from_slice(item);
                }
                page.push(b']');
            }
        }
        page.extend_from_slice(if page.is_empty() { b"{}" } else { b"}" });
        (Bytes::from(page), self.account)
    }
}

/// Writes a member of an object, its value in pieces.
fn member(page: &mut Vec<u8>, name: &str, value: &[&[u8]]) {
    page.push(if page.is_empty() { b'{' } else { b',' });
    page.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
    page.push(b':');
    for piece in value {
        page.extend_from_slice(piece);
    }
}
