//! Quotas as a caller meets them: its own limits hold, its neighbour is not touched, emergencies get through.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fhirwall::admit::{Admission, Effort, Limit, Limits, PartnerLimits, Rate, RouteClass, Ticks, as_one_request};
use fhirwall::clock::{Clock, FixedClock};
use fhirwall::identify::error::{IdentifyError, TokenFault};
use fhirwall::state::{
    Allowance, Bearer, Distinct, EmbeddedState, Lockdown, Revocation, Sizes, Spending, StateStore, StateUnavailable,
};
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::{Authentication, Emergency, Subject};
use time::OffsetDateTime;

fn subject(client: &str, sub: &str) -> Subject {
    let partner = Partner {
        client_id: client.into(),
        name: client.to_owned(),
        status: Status::Active,
        scopes: vec![].into(),
        purposes_of_use: vec![],
        part2: Part2 { basis: Part2Basis::None, redaction: Redaction::Silent },
        consent_recipients: vec![],
        jurisdiction: "US".to_owned(),
        baa_expires: None,
        assessment_expires: None,
        court_orders: vec![],
    };
    Subject {
        partner: Arc::new(partner),
        issuer: "https://idp.example".into(),
        sub: sub.into(),
        fhir_user: None,
        patient: None,
        scopes: Arc::new([]),
        purpose: None,
        authentication: Authentication::default(),
        token_id: "jti".into(),
        expires: OffsetDateTime::UNIX_EPOCH,
        emergency: None,
        organization: None,
    }
}

fn emergency(client: &str, sub: &str, patient: &str) -> Subject {
    let emergency = Emergency {
        reason: "unconscious".to_owned(),
        patient: patient.parse().unwrap(),
        until: OffsetDateTime::UNIX_EPOCH,
        name: None,
        affiliation: None,
    };
    Subject { emergency: Some(emergency), ..subject(client, sub) }
}

fn limits() -> Limits {
    Limits {
        user: Rate { per_second: 2, burst: 6 },
        user_concurrent: 2,
        user_patients_per_hour: 3,
        address: Rate { per_second: 1, burst: 2 },
        emergency: Rate { per_second: 1, burst: 4 },
        in_flight_bytes: 4096,
        in_flight_wait: Duration::ZERO,
        partner: PartnerLimits {
            rate: Rate { per_second: 3, burst: 9 },
            concurrent: 3,
            distinct_patients_per_hour: 5,
            stated_patients_per_hour: None,
            kib_per_hour: 10,
            bulk_jobs_per_hour: 1,
        },
        ..Limits::default()
    }
}

fn admission(limits: Limits) -> (Admission, FixedClock) {
    let clock = FixedClock::at(1_767_225_600);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let state = Arc::new(EmbeddedState::new(Arc::clone(&shared), Sizes::default()));
    (Admission::new(limits, Ticks::Given(shared), state.clone(), state), clock)
}

async fn read(admission: &Admission, subject: &Subject) -> Result<(), Limit> {
    admission.before(subject, Effort::Short, RouteClass::Read, 1).await.map(|_| ()).map_err(|t| t.limit)
}

#[tokio::test]
async fn a_user_over_its_rate_is_throttled_and_its_neighbour_is_not() {
    let (admission, clock) = admission(limits());
    let (ann, bob) = (subject("app", "ann"), subject("app", "bob"));
    for _ in 0..6 {
        assert_eq!(read(&admission, &ann).await, Ok(()));
    }
    let throttled = admission.before(&ann, Effort::Short, RouteClass::Read, 1).await.unwrap_err();
    assert_eq!((throttled.limit, throttled.retry_after), (Limit::UserRequests, Duration::from_millis(500)));
    assert_eq!(read(&admission, &bob).await, Ok(()));
    clock.advance_seconds(1);
    assert_eq!(read(&admission, &ann).await, Ok(()));
}

#[tokio::test]
async fn a_partner_over_its_rate_stops_all_its_users_and_no_other_partner() {
    let (admission, _) = admission(limits());
    for user in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        assert_eq!(read(&admission, &subject("app", user)).await, Ok(()));
    }
    assert_eq!(read(&admission, &subject("app", "j")).await, Err(Limit::PartnerRequests));
    assert_eq!(read(&admission, &subject("other", "j")).await, Ok(()));
}

#[tokio::test]
async fn dear_interactions_and_batches_spend_more() {
    let (admission, _) = admission(limits());
    let ann = subject("app", "ann");
    let left = admission.before(&ann, Effort::Short, RouteClass::Search, 1).await.unwrap().left;
    assert_eq!(left, 3);
    assert_eq!(
        admission.before(&ann, Effort::Short, RouteClass::Read, 4).await.unwrap_err().limit,
        Limit::UserRequests
    );
    assert_eq!(admission.before(&ann, Effort::Short, RouteClass::Read, 3).await.unwrap().left, 0);
}

#[tokio::test]
async fn a_limit_of_nothing_allows_nothing() {
    let none = Limits { user: Rate { per_second: 0, burst: 0 }, ..limits() };
    let (admission, _) = admission(none);
    assert_eq!(read(&admission, &subject("app", "ann")).await, Err(Limit::UserRequests));
}

#[tokio::test]
async fn requests_at_once_are_counted_until_they_end() {
    let (admission, _) = admission(limits());
    let ann = subject("app", "ann");
    let first = admission.before(&ann, Effort::Short, RouteClass::Read, 1).await.unwrap();
    let _second = admission.before(&ann, Effort::Short, RouteClass::Read, 1).await.unwrap();
    assert_eq!(read(&admission, &ann).await, Err(Limit::UserConcurrency));
    let _third = admission.before(&subject("app", "bob"), Effort::Short, RouteClass::Read, 1).await.unwrap();
    assert_eq!(read(&admission, &subject("app", "cid")).await, Err(Limit::PartnerConcurrency));
    drop(first);
    assert_eq!(read(&admission, &ann).await, Ok(()));
}

#[tokio::test]
async fn an_answer_that_would_pass_the_patients_of_the_hour_is_withheld_whole() {
    let (admission, clock) = admission(limits());
    let ann = subject("app", "ann");
    assert_eq!(admission.disclosing(&ann, &["1", "2"]).await, Ok(()));
    assert_eq!(admission.disclosing(&ann, &["3", "4"]).await.unwrap_err().limit, Limit::UserPatients);
    assert_eq!(admission.disclosing(&ann, &["2", "3"]).await, Ok(()));
    let bob = subject("app", "bob");
    assert_eq!(admission.disclosing(&bob, &["4", "5", "6"]).await.unwrap_err().limit, Limit::PartnerPatients);
    clock.advance_seconds(3600);
    assert_eq!(admission.disclosing(&ann, &["4"]).await, Ok(()));
}

#[tokio::test]
async fn an_emergency_is_not_stopped_by_ordinary_load() {
    let (admission, _) = admission(limits());
    let ann = subject("app", "ann");
    while read(&admission, &ann).await.is_ok() {}
    while admission.disclosing(&ann, &["1", "2", "3"]).await.is_ok() && read(&admission, &ann).await.is_ok() {}
    let urgent = emergency("app", "ann", "9");
    assert_eq!(read(&admission, &urgent).await, Ok(()));
    assert_eq!(admission.disclosing(&urgent, &["9"]).await, Ok(()));
    // The claim opens no door to anybody else's records.
    assert_eq!(admission.disclosing(&urgent, &["9", "8"]).await.unwrap_err().limit, Limit::UserPatients);
}

#[tokio::test]
async fn an_emergency_is_not_shut_out_by_its_partners_requests_at_once() {
    let (admission, _) = admission(limits());
    let held = [
        admission.before(&subject("app", "ann"), Effort::Short, RouteClass::Read, 1).await.unwrap(),
        admission.before(&subject("app", "ann"), Effort::Short, RouteClass::Read, 1).await.unwrap(),
        admission.before(&subject("app", "bob"), Effort::Short, RouteClass::Read, 1).await.unwrap(),
    ];
    assert_eq!(read(&admission, &subject("app", "ann")).await, Err(Limit::PartnerConcurrency));
    let urgent = emergency("app", "ann", "9");
    let first = admission.before(&urgent, Effort::Short, RouteClass::Read, 1).await.unwrap();
    let second = admission.before(&urgent, Effort::Short, RouteClass::Read, 1).await.unwrap();
    assert_eq!(read(&admission, &urgent).await, Err(Limit::EmergencyRequests), "it has a bound of its own");
    drop((held, first, second));
    assert_eq!(read(&admission, &urgent).await, Ok(()));
}

#[tokio::test]
async fn a_process_at_its_bound_turns_bulk_away_first_and_an_emergency_never_for_others() {
    let plenty = Limits {
        concurrent: 10,
        user: Rate { per_second: 1000, burst: 1000 },
        emergency: Rate { per_second: 1000, burst: 1000 },
        user_concurrent: 100,
        partner: PartnerLimits { rate: Rate { per_second: 1000, burst: 1000 }, concurrent: 100, ..limits().partner },
        ..limits()
    };
    let (admission, _) = admission(plenty);
    let treating = Subject { purpose: Some(PurposeOfUse::Treat), ..subject("app", "ann") };
    let research = Subject { purpose: Some(PurposeOfUse::Hresch), ..subject("lens", "bob") };
    let urgent = emergency("app", "ann", "9");
    let cases = [
        (&urgent, Effort::Bulk, 5, 30),
        (&treating, Effort::Bulk, 5, 30),
        (&research, Effort::Long, 5, 30),
        (&research, Effort::Short, 8, 5),
        (&treating, Effort::Long, 8, 5),
        (&treating, Effort::Short, 9, 1),
        (&urgent, Effort::Long, 10, 1),
        (&urgent, Effort::Short, 10, 1),
    ];
    let mut held = Vec::new();
    for (caller, effort, most, wait) in cases {
        let refused = loop {
            match admission.before(caller, effort, RouteClass::Read, 1).await {
                Ok(admitted) => held.push(admitted),
                Err(throttled) => break throttled,
            }
        };
        assert_eq!(held.len(), most, "{:?} {effort:?}", caller.purpose);
        assert_eq!((refused.limit, refused.retry_after), (Limit::Overload, Duration::from_secs(wait)));
        assert_eq!(refused.reason(), Reason::Overloaded);
    }
    held.clear();
    assert!(admission.before(&research, Effort::Bulk, RouteClass::Read, 1).await.is_ok());
}

#[tokio::test]
async fn room_for_answers_is_kept_for_those_who_treat() {
    let (admission, _) = admission(limits());
    let ask = async |caller: Subject, effort: Effort, bytes: u64| {
        as_one_request(async {
            let _admitted = admission.before(&caller, effort, RouteClass::Read, 1).await.unwrap();
            admission.hold_bytes(bytes).await
        })
        .await
    };
    let research = || Subject { purpose: Some(PurposeOfUse::Hresch), ..subject("lens", "bob") };
    let treating = || Subject { purpose: Some(PurposeOfUse::Treat), ..subject("app", "ann") };
    let held = ask(research(), Effort::Long, 2048).await.unwrap();
    let refused = ask(research(), Effort::Long, 1).await.unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (Limit::InFlightBytes, Duration::from_secs(30)));
    let more = ask(treating(), Effort::Short, 1600).await.unwrap();
    assert!(ask(treating(), Effort::Short, 300).await.is_err());
    assert!(ask(emergency("app", "ann", "9"), Effort::Short, 400).await.is_ok());
    drop((held, more));
    assert!(ask(research(), Effort::Long, 2048).await.is_ok());
}

#[tokio::test]
async fn forgers_are_shut_out_for_the_minute_and_clients_with_old_tokens_are_not() {
    let few = Limits { address_failures_per_minute: 3, address: Rate { per_second: 1000, burst: 1000 }, ..limits() };
    let (admission, clock) = admission(few);
    let (address, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let (app, neighbour) = ([1; 32], [2; 32]);
    for benign in [
        IdentifyError::NoCredentials,
        IdentifyError::InvalidToken(TokenFault::Expired),
        IdentifyError::InvalidToken(TokenFault::Revoked),
        IdentifyError::NonceNeeded { nonce: "n".to_owned() },
        IdentifyError::IssuerUnavailable,
    ] {
        for _ in 0..10 {
            admission.not_identified(address, None, &benign);
        }
    }
    assert!(admission.unidentified(address, None).is_ok());
    for (forged, certificate) in
        [(IdentifyError::InvalidToken(TokenFault::Signature), None), (IdentifyError::CertificateMismatch, Some(&app))]
    {
        for _ in 0..3 {
            assert!(admission.unidentified(address, certificate).is_ok());
            admission.not_identified(address, certificate, &forged);
        }
        let refused = admission.unidentified(address, certificate).unwrap_err();
        assert_eq!((refused.limit, refused.retry_after), (Limit::AddressFailures, Duration::from_secs(60)));
    }
    assert!(admission.unidentified(other, None).is_ok());
    assert!(admission.unidentified(address, Some(&neighbour)).is_ok(), "another app behind the same address");
    assert!(admission.unidentified(other, Some(&app)).is_err(), "the same app from another address");
    clock.advance_seconds(59);
    assert!(admission.unidentified(address, None).is_err());
    clock.advance_seconds(1);
    assert!(admission.unidentified(address, None).is_ok());
    admission.sweep();
    assert!(admission.unidentified(address, Some(&app)).is_ok());
}

#[tokio::test]
async fn an_emergency_claim_has_a_limit_of_its_own() {
    let (admission, _) = admission(limits());
    let urgent = emergency("app", "ann", "9");
    for _ in 0..4 {
        assert_eq!(read(&admission, &urgent).await, Ok(()));
    }
    assert_eq!(read(&admission, &urgent).await, Err(Limit::EmergencyRequests));
}

#[tokio::test]
async fn an_address_is_limited_before_anybody_is_identified() {
    let (admission, clock) = admission(limits());
    let address = "192.0.2.1".parse().unwrap();
    assert!(admission.unidentified(address, None).is_ok());
    assert!(admission.unidentified(address, None).is_ok());
    assert_eq!(admission.unidentified(address, None).unwrap_err().limit, Limit::AddressRequests);
    clock.advance_seconds(1);
    assert!(admission.unidentified(address, None).is_ok());
}

#[tokio::test]
async fn bytes_in_flight_are_taken_before_and_given_back() {
    let (admission, _) = admission(limits());
    let held = admission.hold_bytes(3000).await.unwrap();
    assert_eq!(admission.hold_bytes(2000).await.unwrap_err().limit, Limit::InFlightBytes);
    drop(held);
    assert!(admission.hold_bytes(4096).await.is_ok());
    assert!(admission.hold_bytes(5000).await.is_err());
}

#[tokio::test]
async fn bytes_and_bulk_jobs_of_the_hour_are_limited() {
    let (admission, clock) = admission(limits());
    let ann = subject("app", "ann");
    assert_eq!(admission.sending(&ann, 10 * 1024).await, Ok(()));
    assert_eq!(admission.sending(&ann, 1).await.unwrap_err().limit, Limit::PartnerBytes);
    assert_eq!(admission.bulk_job(&ann).await, Ok(()));
    assert_eq!(admission.bulk_job(&ann).await.unwrap_err().limit, Limit::BulkJobs);
    clock.advance_seconds(3600);
    assert_eq!(admission.bulk_job(&ann).await, Ok(()));
}

#[tokio::test]
async fn a_reload_keeps_what_was_spent() {
    let (admission, _) = admission(limits());
    let ann = subject("app", "ann");
    while read(&admission, &ann).await.is_ok() {}
    let mut more = limits();
    more.partners.insert("app".into(), PartnerLimits { concurrent: 1, ..limits().partner });
    admission.reload(more);
    assert_eq!(read(&admission, &ann).await, Err(Limit::UserRequests));
    admission.sweep();
    assert_eq!(read(&admission, &ann).await, Err(Limit::UserRequests));
}

/// A shared store that never answers.
#[derive(Debug)]
struct Away;

#[async_trait]
impl StateStore for Away {
    async fn first_use(&self, _: &str, _: OffsetDateTime) -> Result<bool, StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn revoke(&self, _: Revocation, _: OffsetDateTime) -> Result<(), StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn restore(&self, _: &Revocation) -> Result<(), StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn is_revoked(&self, _: Bearer<'_>) -> Result<bool, StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn lock_down(&self, _: Lockdown) -> Result<(), StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn lift(&self, _: &str) -> Result<bool, StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn lockdowns(&self) -> Result<Arc<[Lockdown]>, StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn spend(&self, _: &str, _: u32, _: Allowance) -> Result<Spending, StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    async fn add_distinct(&self, _: &str, _: &[&str], _: u32, _: Duration) -> Result<Distinct, StateUnavailable> {
        Err(StateUnavailable::Away)
    }
    fn is_shared(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn while_the_shared_store_is_away_a_replica_allows_its_share() {
    let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(1_767_225_600));
    let local = Arc::new(EmbeddedState::new(Arc::clone(&clock), Sizes::default()));
    let limits = Limits { replicas: 3, ..limits() };
    let admission = Admission::new(limits, Ticks::Given(clock), Arc::new(Away), local);
    let ann = subject("app", "ann");
    for _ in 0..2 {
        assert_eq!(read(&admission, &ann).await, Ok(()));
    }
    assert_eq!(read(&admission, &ann).await, Err(Limit::UserRequests));
    assert_eq!(admission.disclosing(&ann, &["1"]).await, Ok(()));
    assert_eq!(admission.disclosing(&ann, &["2"]).await.unwrap_err().limit, Limit::UserPatients);
}
