//! The history of a type, or of everything: each version is judged by its own labels and by those of its record today.
//!
//! A label that came later guards older versions too, and what was deleted stays hidden (attack case 24). So the records
//! of a page are looked up as they are now, in one request for each type; pages are no longer than that can be.

use std::collections::{BTreeMap, HashSet};

use fhir_profiles::ids::{InstanceId, ResourceType};
use fhir_profiles::interaction::Interaction;
use fhir_profiles::search::Query;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;

use super::read::{check_status, presented};
use super::{Journey, Outcome, failure, page, served};
use crate::forward::UpstreamRequest;
use crate::links::Position;
use crate::redact::Stage;
use crate::redact::versions::{Whole, recorded};
use crate::refusal::Refusal;

/// The most versions on a page of one type: their records are looked up by one request.
const MOST_VERSIONS: u32 = 100;

/// Is it the history of more than one record?
pub(super) const fn of_many(interaction: &Interaction) -> bool {
    matches!(interaction, Interaction::HistoryType { .. } | Interaction::HistorySystem { .. })
}

impl Journey<'_> {
    /// Carries out a history of many records. `interaction` is the client's own form of it.
    pub(super) async fn history(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        interaction: &Interaction,
        position: Option<Position>,
    ) -> Result<Outcome, Refusal> {
        let fetches = self.generation.config.gateway.limits.fetches_per_request.get();
        let cursor = position.and_then(|position| position.cursor);
        let request = match cursor {
            Some(cursor) => UpstreamRequest::get(cursor.path, cursor.query),
            None => first_page(stage.permit.interaction(), fetches).ok_or(Reason::UnsupportedInteraction)?,
        };
        let _room = self.room().await?;
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&request)).await.map_err(failure)?;
        check_status(&answer)?;
        let judged = self.stage("redact", stage.judge(&answer.body)).await?;
        let records = recorded(&answer.body).filter(|_| judged.is_history());
        let records = records.ok_or_else(|| Refusal::from(Reason::UpstreamUnintelligible))?;
        let current = self.current_of(stage, records, fetches).await?;
        let link = |relation: &str, url: &str| {
            let next = page::beginning(url, stage.endpoint, None);
            self.link(stage.endpoint, subject, interaction, relation, next.as_ref())
        };
        let shown = match stage.versions(judged, &current, link) {
            Ok(shown) => shown,
            Err(withheld) => {
                let (refusal, account) = *withheld;
                self.journal.account(account);
                return Err(refusal);
            }
        };
        let within = self.admit_disclosure(subject, &shown.account, shown.body.len()).await;
        self.unless_observed(within)?;
        self.journal.account(shown.account);
        let body = presented(interaction, shown.body)?;
        Ok(Outcome::Disclosure(served::resource(self.journal.decision, body)))
    }

    /// Which of these records this caller sees whole, as they are now.
    async fn current_of(
        &mut self,
        stage: &Stage<'_>,
        records: HashSet<InstanceId>,
        fetches: u32,
    ) -> Result<Whole, Refusal> {
        let mut by_type: BTreeMap<ResourceType, Vec<String>> = BTreeMap::new();
        for record in records {
            by_type.entry(record.kind).or_default().push(record.id.as_str().to_owned());
        }
        let most = usize::try_from(fetches).unwrap_or(usize::MAX);
        let longest = usize::try_from(MOST_VERSIONS).unwrap_or(usize::MAX);
        if by_type.len() > most || by_type.values().any(|ids| ids.len() > longest) {
            // The EHR did not keep to `_count`: what was not looked up cannot be shown.
            return Err(Refusal::from(Reason::UpstreamUnintelligible));
        }
        let mut whole = Whole::default();
        for (kind, ids) in by_type {
            let query = format!("_id={}&_count={}", ids.join(","), ids.len());
            let request = UpstreamRequest::get(format!("/{kind}"), query);
            let answer = self.stage("forward", stage.endpoint.upstream.exchange(&request)).await.map_err(failure)?;
            check_status(&answer)?;
            let judged = self.stage("redact", stage.judge(&answer.body)).await?;
            if !judged.is_searchset() {
                return Err(Refusal::from(Reason::UpstreamUnintelligible));
            }
            whole.extend(stage.whole(judged));
        }
        Ok(whole)
    }
}

fn first_page(interaction: &Interaction, fetches: u32) -> Option<UpstreamRequest> {
    let bounded = |query: &Query, most: u32| {
        let wanted = query.presentation().count.unwrap_or(most);
        query.with_count(wanted.min(most))
    };
    let bounded = if let Interaction::HistoryType { kind, query } = interaction {
        Interaction::HistoryType { kind: *kind, query: bounded(query, MOST_VERSIONS) }
    } else if let Interaction::HistorySystem { query } = interaction {
        // Each version may be of a type of its own.
        Interaction::HistorySystem { query: bounded(query, MOST_VERSIONS.min(fetches)) }
    } else {
        return None;
    };
    let upstream = bounded.upstream()?;
    Some(UpstreamRequest::get(upstream.path, upstream.query))
}
