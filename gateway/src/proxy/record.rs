//! What the record will say of this request, collected on its way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fhir_profiles::ids::InstanceId;
use fhir_profiles::interaction::Interaction;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::record::DecisionRecord;
use fhirwall_policy::subject::Subject;
use http::StatusCode;
use time::OffsetDateTime;
use uuid::Uuid;

use super::write::JudgedWrite;
use crate::audit::{self, AuditLog, AuditRecord, End, Kind, Record, Would};
use crate::behaviour::{self, Prior, RiskNote, Seen};
use crate::config::Mode;
use crate::generation::{Endpoint, Generation};
use crate::identify::{base64url, sha256};
use crate::listen::{Connection, Ending};
use crate::redact::{Account, Enforced};
use crate::refusal::{self, Refusal};
use crate::shared::Shared;
use crate::smart::broker::patients::NamedPatients;
use crate::telemetry::RequestLabels;

use super::risk;

/// Collects the record of one request.
#[derive(Clone)]
pub(super) struct Journal {
    pub(super) decision: Uuid,
    record: AuditRecord,
    /// What policy decided, and on which facts.
    decided: Option<DecisionRecord>,
    interaction: &'static str,
    resource_type: &'static str,
    identified: bool,
    quiet: Option<u32>,
    mode: Mode,
    /// In a trial run: the first refusal that was not carried out.
    would_refuse: Option<Reason>,
}

impl Journal {
    pub(super) fn new(decision: Uuid, connection: &Connection, mode: Mode) -> Self {
        let observed = mode == Mode::Observe;
        let record = AuditRecord {
            mode: observed.then(|| mode_name(mode).to_owned()),
            would: observed.then(Would::default),
            decision: decision.to_string(),
            address: Some(connection.address.ip().to_string()),
            certificate: connection.peer.as_ref().map(|peer| peer.sha256_hex()),
            ..AuditRecord::default()
        };
        let (interaction, resource_type, identified) = ("none", "none", false);
        Self {
            decision,
            record,
            decided: None,
            interaction,
            resource_type,
            identified,
            mode,
            would_refuse: None,
            quiet: None,
        }
    }

    /// The record of one entry of a Bundle: a decision of its own, under the id of the Bundle's answer.
    pub(super) fn of_entry(&self) -> Self {
        let decision = Uuid::now_v7();
        let record = AuditRecord {
            decision: decision.to_string(),
            request_id: Arc::from(self.record.decision.as_str()),
            interaction: String::new(),
            ..self.record.clone()
        };
        Self { decision, record, decided: None, interaction: "none", resource_type: "none", quiet: None, ..*self }
    }

    pub(super) fn endpoint(&mut self, endpoint: &Endpoint) {
        self.record.endpoint.clone_from(&endpoint.facts.name);
    }

    pub(super) fn subject(&mut self, subject: &Subject, discloser: String) {
        let about = AuditRecord::about(std::mem::take(&mut self.record.decision), subject);
        self.record = AuditRecord {
            endpoint: std::mem::take(&mut self.record.endpoint),
            address: self.record.address.take(),
            certificate: self.record.certificate.take(),
            mode: self.record.mode.take(),
            would: self.record.would.take(),
            ..about
        };
        if let Some(emergency) = &mut self.record.emergency {
            emergency.discloser = discloser;
        }
        self.identified = true;
    }

    /// A page of the authorization server names these patients to a user who has signed in.
    pub(super) fn shown(&mut self, shown: &NamedPatients) {
        self.interaction = "search-type";
        self.resource_type = "Patient";
        self.record.interaction = self.interaction.to_owned();
        self.record.resource_type = Some(self.resource_type.to_owned());
        self.record.partner = Arc::clone(&shown.client_id);
        self.record.issuer = Arc::clone(&shown.issuer);
        self.record.user = Arc::clone(&shown.sub);
        self.record.fhir_user.clone_from(&shown.fhir_user);
        self.record.patients.clone_from(&shown.patients);
        self.record.instances = shown.patients.iter().map(|id| format!("Patient/{id}")).collect();
        self.identified = true;
    }

    pub(super) fn interaction(&mut self, interaction: &Interaction) {
        self.interaction = interaction.code();
        self.resource_type = interaction.resource_type().map_or("none", |kind| kind.as_str());
        self.record.interaction = interaction.code().to_owned();
        self.record.resource_type = interaction.resource_type().map(|kind| kind.as_str().to_owned());
        self.record.instance = interaction.instance().map(|instance| instance.relative());
        self.record.query = interaction.query().map(|query| query.client()).filter(|query| !query.is_empty());
    }

    pub(super) fn permit(&mut self, permit: &Permit, decided: DecisionRecord) {
        self.decided = Some(decided);
        self.record.purpose = Some(permit.purpose().code().to_owned());
        self.record.policies = permit.policies().to_vec();
    }

    pub(super) fn denied(&mut self, decided: DecisionRecord) {
        self.decided = Some(decided);
    }

    /// The user in policy's own record: the same one for the same user, and no name.
    pub(super) fn pseudonym(&self) -> String {
        let user = format!("{}\0{}", self.record.issuer, self.record.user);
        base64url(&sha256(user.as_bytes())).chars().take(22).collect()
    }

    pub(super) fn account(&mut self, account: Account) {
        if let Some(decided) = &mut self.decided {
            decided.meet(account.met, &account.consents);
        }
        self.record.patients = account.patients;
        self.record.instances = account.instances;
        self.record.labels = account.labels;
        self.record.withheld = account.withheld;
        self.record.consents = account.consents;
        if !account.policies.is_empty() {
            self.record.policies = account.policies;
        }
        if let Some(enforced) = account.enforced {
            self.would_have(enforced);
        }
    }

    /// Notes a refusal that is not carried out. The first one stands: carried out, it would have been the end.
    pub(super) fn would_refuse(&mut self, refusal: &Refusal) {
        if self.would_refuse.is_some() {
            return;
        }
        self.would_refuse = Some(refusal.reason);
        let would = self.record.would.get_or_insert_default();
        would.reason = Some(refusal.reason.code().to_owned());
        if !refusal.policies.is_empty() {
            would.policies.clone_from(&refusal.policies);
        } else if would.policies.is_empty() {
            would.policies.clone_from(&self.record.policies);
        }
    }

    /// The request is forwarded as it was asked, not bound to the caller's own patient.
    pub(super) fn would_narrow(&mut self) {
        self.record.would.get_or_insert_default().narrowed = true;
    }

    fn would_have(&mut self, enforced: Enforced) {
        if self.would_refuse.is_some() {
            return;
        }
        let would = self.record.would.get_or_insert_default();
        would.policies = enforced.policies;
        would.withheld = enforced.withheld;
        if would.narrowed {
            would.withheld.retain(|withheld| withheld.rule != Reason::OutsideCompartment.code());
        }
        if let Some(refusal) = &enforced.refusal {
            self.would_refuse(refusal);
        }
    }

    /// The answer may not tell by its time whether something was withheld: it leaves on the schedule, like a refusal.
    /// `rounds`: how many exchanges stand one after another in it.
    pub(super) const fn keep_quiet(&mut self, rounds: u32) {
        self.quiet = Some(rounds);
    }

    pub(super) const fn quiet(&self) -> Option<u32> {
        self.quiet
    }

    /// How the caller stands, where it stands out.
    pub(super) fn risk(&mut self, note: Arc<RiskNote>) {
        self.record.risk = Some(note);
    }

    pub(super) const fn is_identified(&self) -> bool {
        self.identified
    }

    /// The endpoint this request went to, in this generation.
    pub(super) fn endpoint_of<'g>(&self, generation: &'g Generation) -> Option<&'g Endpoint> {
        generation.endpoints.iter().find(|endpoint| endpoint.facts.name == self.record.endpoint)
    }

    /// The record of an answer, or of a part of one, that is about to be sent.
    pub(super) fn disclosure(&mut self, status: StatusCode, bytes: usize) -> Record {
        self.record.status = Some(status.as_u16());
        self.record.bytes = u64::try_from(bytes).ok();
        Record::access(Kind::Disclosure, &self.record, self.decided.as_ref())
    }

    /// The record of changes that are about to be asked of the EHR: every record that is to change, and whose it is.
    pub(super) fn attempt(&self, writes: &[JudgedWrite]) -> Record {
        let mut record = self.record.clone();
        let instances = writes.iter().map(JudgedWrite::named);
        match writes {
            [write] => record.instance = write.instance.as_ref().map(InstanceId::relative).or(record.instance),
            _ => record.instances = instances.collect(),
        }
        record.patients = writes
            .iter()
            .flat_map(|write| &write.patients)
            .map(|patient| patient.as_str().to_owned())
            .collect::<BTreeSet<String>>()
            .into_iter()
            .collect();
        Record::access(Kind::Attempt, &record, self.decided.as_ref())
    }

    /// The instance that was written, also where its writer is shown nothing of it.
    pub(super) fn names(&mut self, instance: &InstanceId) {
        self.record.instance = Some(instance.relative());
    }

    /// What a transaction changed: named in its record beside what its entries disclose.
    pub(super) fn changed(&mut self, instances: Vec<String>, patients: Vec<String>) {
        self.record.instances = instances;
        self.record.patients = patients;
    }

    /// The record of a refusal: the true reason, not the one the client sees.
    pub(super) fn refusal(&mut self, refusal: &Refusal) -> Record {
        let status = refusal::status(refusal.reason).as_u16();
        let mut record = self.record.clone().refused(refusal.reason, status);
        if !refusal.policies.is_empty() {
            record.policies.clone_from(&refusal.policies);
        }
        Record::access(Kind::Refusal, &record, self.decided.as_ref())
    }

    /// Every emergency access is counted, granted or refused. Who was shown something raises an alert besides.
    pub(super) fn emergency(&self, shared: &Shared, outcome: &'static str) {
        if self.record.emergency.is_none() {
            return;
        }
        shared.metrics.emergency_access(outcome);
        tracing::warn!(decision = %self.decision, partner = %self.record.partner, outcome, "emergency access");
    }

    /// Feeds what this exchange showed of its caller to behaviour analytics, and tells what stands out.
    pub(super) fn observe(&self, shared: &Shared, now: OffsetDateTime, refused: Option<Reason>, bytes: usize) {
        let hourly = shared.admission.stated_patients(&self.record.partner).map(f64::from);
        let expected = hourly.map(|hourly| Prior {
            patients_per_hour: hourly,
            patients_per_day: 2.0 * hourly,
            ..behaviour::Settings::default().partner
        });
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let seen = Seen { record: &self.record, at: now, refused, bytes, expected };
        risk::respond(shared, &self.record, &seen.observe(&shared.behaviour), refused);
    }

    pub(super) fn ending(&self, log: Arc<AuditLog>) -> Box<dyn Ending> {
        Box::new(Noted { log, decision: self.record.decision.clone() })
    }

    /// Counts the finished request.
    pub(super) fn count(&self, shared: &Shared, ended: Result<StatusCode, Reason>, took: Duration) {
        let status = ended.unwrap_or_else(refusal::status);
        // What would have been decided counts, whatever was done.
        let (decision, reason) = match self.would_refuse.or_else(|| ended.err()) {
            None => ("permit", "none"),
            Some(reason) => ("deny", reason.code()),
        };
        let partner = if self.identified { &*self.record.partner } else { "none" };
        let labels = RequestLabels {
            interaction: self.interaction,
            resource_type: self.resource_type,
            status: status.as_u16(),
            partner,
        };
        shared.metrics.request(labels, took);
        shared.metrics.decision(decision, reason, mode_name(self.mode));
        if let Err(reason) = ended {
            // 45 CFR 171.201 to 205: how often each exception is relied on.
            shared.metrics.denial_exception(audit::exception(reason).unwrap_or("none"));
        }
        self.count_shadowed(shared);
        for withheld in self.record.would.as_ref().map_or(&self.record.withheld, |would| &would.withheld) {
            for label in &withheld.labels {
                shared.metrics.redaction(label, "resource", u64::from(withheld.count));
            }
        }
    }
}

/// As metrics and records name it.
const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

impl Journal {
    /// What the forbids in shadow mode would have changed.
    fn count_shadowed(&self, shared: &Shared) {
        let Some(decided) = &self.decided else { return };
        for policy in &decided.would_deny {
            shared.metrics.shadow_denial(policy, "request", 1);
        }
        for met in &decided.met {
            for policy in &met.would_withhold {
                shared.metrics.shadow_denial(policy, "record", u64::from(met.count));
            }
        }
    }
}

/// Notes in the log how the sending ended.
#[derive(Debug)]
struct Noted {
    log: Arc<AuditLog>,
    decision: String,
}

impl Ending for Noted {
    fn ended(self: Box<Self>, bytes_sent: usize, complete: bool) {
        let bytes = u64::try_from(bytes_sent).unwrap_or(u64::MAX);
        self.log.note(Record::end(End { decision: self.decision, bytes, aborted: !complete, ..End::default() }));
    }
}
