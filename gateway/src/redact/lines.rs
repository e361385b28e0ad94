//! A window of an export's lines: each line is judged like the record it is, their patients' consents looked up together.

use fhir_profiles::engine::{lines, scan};
use fhir_profiles::ids::ResourceType;
use fhirwall_policy::reason::Reason;

use super::{Account, Stage};
use crate::refusal::Refusal;
use crate::resolve::date;

/// What of a window may be sent, and what the record says of it.
#[derive(Debug, Default)]
pub struct ShownLines {
    pub body: Vec<u8>,
    pub account: Account,
    pub shown: u64,
    pub withheld: u64,
}

impl Stage<'_> {
    /// What may be seen of whole lines, each a resource of this type.
    ///
    /// # Errors
    /// When a line is not understood, is of another type, or a fact that its judgement needs is out of reach: then
    /// nothing of the window may be sent.
    pub async fn lines(&self, window: &[u8], kind: ResourceType) -> Result<ShownLines, Refusal> {
        let unread = || Refusal::from(Reason::UpstreamUnintelligible);
        let today = date(self.now);
        let mut documents = Vec::new();
        for line in lines(window).filter(|line| !line.trim_ascii().is_empty()) {
            let document =
                scan(line, &self.generation.limits, &self.endpoint.labeller, &today).map_err(|_| unread())?;
            if document.root().is_none_or(|facts| facts.kind != kind) {
                return Err(unread());
            }
            documents.push(document);
        }
        let (mut shown, mut account) = (ShownLines::default(), Account::default());
        for judged in self.judge_all(documents).await? {
            match self.write(judged, |_, _| None) {
                Ok(line) => {
                    shown.shown = shown.shown.saturating_add(1);
                    shown.body.extend_from_slice(&line.body);
                    shown.body.push(b'\n');
                    account = account.and(line.account);
                }
                Err(withheld) => {
                    shown.withheld = shown.withheld.saturating_add(1);
                    let (_, of_line) = *withheld;
                    // Whose line is not shown is not disclosed.
                    account = account.and(Account { patients: Vec::new(), ..of_line });
                }
            }
        }
        Ok(ShownLines { account, ..shown })
    }
}
