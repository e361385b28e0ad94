//! A file of an export on its way to the client, window by window: memory is bounded by a window and a line, whatever the
//! file's length (rule 13), and each window is on record before its first byte is sent (rule 9).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use fhir_profiles::engine::LineWindows;
use fhir_profiles::ids::{LogicalId, ResourceType};
use fhirwall_policy::decide::Risk;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::StatusCode;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::super::record::Journal;
use super::super::{Journey, Visit, failure};
use crate::admit::{Admitted, BytesInFlight};
use crate::audit::{AuditLog, End, Record};
use crate::forward::BulkFile;
use crate::generation::Generation;
use crate::identify::error::{IdentifyError, TokenFault};
use crate::identify::state::Revocable;
use crate::listen::{Broken, Ending, Pieces};
use crate::refusal::Refusal;
use crate::reload::Numbered;
use crate::shared::Shared;

/// So many bytes of whole lines, or all that came in [`PATIENCE`], are one window.
const WINDOW: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(1);

/// The windows of one file. It holds on to the generation that began it.
pub(super) struct Windows {
    numbered: Arc<Numbered<Generation>>,
    shared: Arc<Shared>,
    /// Which of the generation's endpoints.
    endpoint: usize,
    subject: Subject,
    /// When the token was looked at.
    since: OffsetDateTime,
    permit: Permit,
    journal: Journal,
    risk: Risk,
    kind: ResourceType,
    file: BulkFile,
    lines: Option<LineWindows>,
    told: Arc<Told>,
    _room: BytesInFlight,
    _place: Option<Admitted>,
}

/// How many lines were shown and withheld.
#[derive(Debug, Default)]
struct Told {
    lines: AtomicU64,
    withheld: AtomicU64,
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("kind", &self.kind).field("told", &self.told).finish_non_exhaustive()
    }
}

impl Windows {
    /// Room for a window and for the longest line, taken before the EHR is asked.
    pub(super) async fn room(journey: &Journey<'_>) -> Result<BytesInFlight, Refusal> {
        let most = WINDOW.saturating_add(journey.generation.limits.max_bytes);
        let held = journey.shared.admission.hold_bytes(u64::try_from(most).unwrap_or(u64::MAX)).await;
        held.map_err(|throttled| journey.throttled(throttled))
    }

    pub(super) fn of(
        journey: &mut Journey<'_>,
        visit: &Visit<'_>,
        permit: Permit,
        kind: ResourceType,
        file: BulkFile,
        room: BytesInFlight,
    ) -> Option<Self> {
        let here = |endpoint: &crate::generation::Endpoint| endpoint.facts.name == visit.endpoint.facts.name;
        Some(Self {
            endpoint: journey.generation.endpoints.iter().position(here)?,
            numbered: Arc::clone(journey.numbered),
            shared: Arc::clone(journey.shared),
            subject: visit.subject.clone(),
            since: journey.now,
            permit,
            journal: journey.journal.clone(),
            risk: visit.risk,
            kind,
            file,
            lines: Some(LineWindows::new()),
            told: Arc::default(),
            _room: room,
            _place: journey.place.take(),
        })
    }

    /// What the record says so far.
    pub(super) fn journal(self) -> Journal {
        self.journal
    }

    /// Notes at the end how many lines there were.
    pub(super) fn ending(&self) -> Box<dyn Ending> {
        Box::new(Noted {
            log: Arc::clone(&self.shared.audit),
            decision: self.journal.decision.to_string(),
            told: Arc::clone(&self.told),
        })
    }

    /// The next lines that may be seen, on record; `None` at the end of the file.
    ///
    /// # Errors
    /// A refusal: nothing of the window that it stands in is sent, and nothing after it.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        while let Some(window) = self.window().await? {
            let numbered = Arc::clone(&self.numbered);
            let endpoint = numbered.generation.endpoints.get(self.endpoint).ok_or(Reason::UpstreamUnavailable)?;
            let journey = Journey {
                shared: &self.shared,
                numbered: &numbered,
                generation: &numbered.generation,
                now: self.shared.clock.now(),
                started: Instant::now(),
                journal: self.journal.clone(),
                place: None,
                judged: false,
            };
            // A lockdown and a revocation stop what is under way too.
            self.not_revoked_since().await?;
            let part2_locked = journey.lockdowns(endpoint, &self.subject).await?;
            let visit = Visit { endpoint, subject: &self.subject, part2_locked, risk: self.risk };
            let shown =
                journey.stage("redact", journey.stage_of(&visit, &self.permit).lines(&window, self.kind)).await?;
            if shown.shown == 0 && shown.withheld == 0 {
                continue;
            }
            journey.admit_disclosure(&self.subject, &shown.account, shown.body.len()).await?;
            self.told.lines.fetch_add(shown.shown, Ordering::Relaxed);
            self.told.withheld.fetch_add(shown.withheld, Ordering::Relaxed);
            self.journal.account(shown.account);
            let record = self.journal.disclosure(StatusCode::OK, shown.body.len());
            journey.record(record).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
            self.journal.observe(&self.shared, journey.now, None, shown.body.len());
            if !shown.body.is_empty() {
                return Ok(Some(Bytes::from(shown.body)));
            }
        }
        Ok(None)
    }

    /// Was the token revoked after it was looked at?
    async fn not_revoked_since(&self) -> Result<(), Refusal> {
        let token = Revocable {
            issuer: &self.subject.issuer,
            token_id: &self.subject.token_id,
            sub: &self.subject.sub,
            client_id: &self.subject.partner.client_id,
            patient: self.subject.patient.as_ref().map(LogicalId::as_str),
            // What was revoked before was looked at then, with the time at which the token was issued.
            issued_at: Some(self.since),
        };
        match self.shared.revocations.is_revoked(token).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Refusal::identify(&IdentifyError::InvalidToken(TokenFault::Revoked), None)),
            Err(_) => Err(Refusal::from(Reason::StateUnavailable)),
        }
    }

    /// The next whole lines of the file.
    async fn window(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        let unread = || Refusal::from(Reason::UpstreamUnintelligible);
        let Some(mut lines) = self.lines.take() else { return Ok(None) };
        let mut window = Vec::new();
        let began = Instant::now();
        loop {
            let waiting = if window.is_empty() { Duration::MAX } else { PATIENCE.saturating_sub(began.elapsed()) };
            let Ok(bytes) = timeout(waiting, self.file.next()).await else { break };
            let Some(bytes) = bytes.map_err(failure)? else {
                window.extend(lines.finish());
                return Ok((!window.is_empty()).then_some(window));
            };
            window.extend(lines.push(&bytes, self.numbered.generation.limits.max_bytes).map_err(|_| unread())?);
            if window.len() >= WINDOW {
                break;
            }
        }
        self.lines = Some(lines);
        Ok(Some(window))
    }
}

#[async_trait]
impl Pieces for Windows {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        match self.piece().await {
            Ok(piece) => piece.map(Ok),
            Err(refusal) => {
                let record = self.journal.refusal(&refusal);
                // The answer breaks off with or without it.
                self.shared.audit.record(record).await.ok();
                Some(Err(Broken))
            }
        }
    }
}

/// Notes in the log how the sending of a file ended.
#[derive(Debug)]
struct Noted {
    log: Arc<AuditLog>,
    decision: String,
    told: Arc<Told>,
}

impl Ending for Noted {
    fn ended(self: Box<Self>, bytes_sent: usize, complete: bool) {
        self.log.note(Record::end(End {
            decision: self.decision,
            bytes: u64::try_from(bytes_sent).unwrap_or(u64::MAX),
            aborted: !complete,
            lines: Some(self.told.lines.load(Ordering::Relaxed)),
            withheld: Some(self.told.withheld.load(Ordering::Relaxed)),
        }));
    }
}
