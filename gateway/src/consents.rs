//! The consents of patients: fetched in bulk with the gateway's own credential, kept for a moment, never guessed.
//!
//! It answers for every patient asked about, with all of the patient's Consents, or not at all. An answer that is cut
//! off, that holds another patient's Consent, or that comes too late is [`ConsentUnavailable`], and whoever needed it
//! answers 503. Nothing here prints a patient or a consent id.

mod fetched;
mod file;
mod ledger;
mod searchset;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fhir_profiles::ids::LogicalId;
use fhirwall_policy::consent::ConsentBook;
use http::StatusCode;
use time::OffsetDateTime;

pub use self::fetched::{FetchedConsents, Settings};
pub use self::file::{GivenConsents, NotConsents};
use crate::forward::{Upstream, UpstreamFailure, UpstreamRequest};

/// Where the consents of patients come from.
#[async_trait]
pub trait ConsentSource: Send + Sync + fmt::Debug {
    /// All consents of each of these patients: a book for every one of them, an empty one for who has none.
    ///
    /// `now` is the moment at which the books are needed, not the one at which a long exchange began.
    ///
    /// # Errors
    /// [`ConsentUnavailable`] if the books of all of them cannot be had. There is no partial answer: who got the rest
    /// would learn which patient is the special one.
    async fn consents(
        &self,
        patients: &[LogicalId],
        now: OffsetDateTime,
    ) -> Result<HashMap<LogicalId, Arc<ConsentBook>>, ConsentUnavailable>;

    /// A Consent of this patient was written: whoever asks from now on sees it. Call it when the EHR has answered the
    /// write, or may have carried it out, and before the writer is answered.
    fn changed(&self, patient: &LogicalId);

    /// Consents changed, and it is not known whose.
    fn changed_all(&self);

    /// Grows with every change that was told: a key for caches of what was decided on consents.
    fn epoch(&self) -> u64;
}

/// One GET below the base of a FHIR server, with the gateway's own credential.
#[async_trait]
pub trait UpstreamFetch: Send + Sync + fmt::Debug {
    /// `path` starts with `/` or is empty; `query` has no `?`. Gives the body of a 200 answer, within bounds.
    ///
    /// # Errors
    /// [`FetchFailed`] for everything else.
    async fn get(&self, path: &str, query: &str) -> Result<Bytes, FetchFailed>;
}

/// Why a GET brought no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailed {
    /// No answer, or a refusal of the gateway's credential.
    Unreachable,
    TimedOut,
    /// An answer other than 200, too large, or of a type that cannot be judged.
    Unusable,
}

/// Why the consents of patients cannot be had. It carries no id and no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConsentUnavailable {
    #[error("the consent source does not answer; see that it is up and takes the gateway's credential")]
    Unreachable,
    #[error("the consent source answers too slowly; see its load, or raise the endpoint's timeout")]
    TimedOut,
    #[error("the consent source answered a search for Consents with something other than a searchset of R4 JSON")]
    NotSearchset,
    #[error("the consent source returned a Consent of a patient that was not asked for; see its search by `patient`")]
    ForeignConsent,
    #[error("the consent source returned fewer or other Consents than it counted; see its paging")]
    Truncated,
    #[error("the consent source's pages do not end")]
    EndlessPages,
    #[error("the consent source's next page lies on another server than itself; see its base URL")]
    ForeignPage,
    #[error("the consent source warns that its result may be incomplete")]
    Incomplete,
}

impl From<FetchFailed> for ConsentUnavailable {
    fn from(failed: FetchFailed) -> Self {
        match failed {
            FetchFailed::Unreachable => Self::Unreachable,
            FetchFailed::TimedOut => Self::TimedOut,
            FetchFailed::Unusable => Self::NotSearchset,
        }
    }
}

#[async_trait]
impl UpstreamFetch for Upstream {
    async fn get(&self, path: &str, query: &str) -> Result<Bytes, FetchFailed> {
        match self.exchange(&UpstreamRequest::get(path, query)).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(answer.body),
            Ok(_) | Err(UpstreamFailure::TooLarge | UpstreamFailure::Unintelligible) => Err(FetchFailed::Unusable),
            Err(UpstreamFailure::TimedOut) => Err(FetchFailed::TimedOut),
            Err(
                UpstreamFailure::Unreachable
                | UpstreamFailure::Credential
                | UpstreamFailure::NoRoom
                | UpstreamFailure::Unavailable { .. },
            ) => Err(FetchFailed::Unreachable),
        }
    }
}

#[cfg(test)]
mod tests;
