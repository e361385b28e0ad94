//! Bounds on everything, and what unusual behaviour is answered with.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::quantity::ByteSize;
use crate::config::read::At;
use crate::config::section::{section, words};

pub(crate) const fn count(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

section! {
    /// Bounds on everything a request may take. Every bound has a value; none can be switched off.
    pub struct Limits {
        /// The greatest request body.
        request_bytes: ByteSize = ByteSize::mib(2),
        /// The greatest answer of the EHR that is understood; a greater one is withheld (502).
        response_bytes: ByteSize = ByteSize::mib(16),
        /// Bytes of answers held at once in this process, taken before the EHR is asked.
        inflight_bytes: ByteSize = ByteSize::mib(512),
        /// Requests under way at once in this process. Of this, and of `inflight_bytes`, exports and long searches may fill
        /// half, other requests three quarters, treatment nine tenths; the rest is for emergencies.
        concurrent_requests: NonZeroU32 = count(512),
        /// The deepest nesting of JSON.
        json_depth: NonZeroU32 = count(64),
        /// The most entries of a Bundle, in or out.
        bundle_entries: NonZeroU32 = count(5_000),
        /// The most further pages fetched to fill a page from which rows were removed.
        refill_pages: NonZeroU32 = count(4),
        /// The most requests to the EHR on behalf of one request.
        fetches_per_request: NonZeroU32 = count(32),
        /// Open connections per listener.
        connections: NonZeroU32 = count(10_000),
        /// How long a TLS handshake may take.
        handshake_timeout: Duration = Duration::from_secs(5),
        /// How long the head of a request may take.
        header_timeout: Duration = Duration::from_secs(10),
        /// How long a request's body may take.
        body_timeout: Duration = Duration::from_secs(30),
        /// How long an idle connection is kept.
        idle_timeout: Duration = Duration::from_secs(60),
        /// For each partner, unless its file says less or more.
        partner: PartnerRates,
        /// For each user.
        user: UserRates,
        /// For each address, before a caller is identified.
        address: AddressRates,
    }
    check check_limits;
}

section! {
    /// How much one partner may ask.
    pub struct PartnerRates {
        /// Requests in a second.
        requests_per_second: NonZeroU32 = count(50),
        /// Requests at once.
        concurrent_requests: NonZeroU32 = count(64),
        /// Different patients in an hour.
        distinct_patients_per_hour: NonZeroU32 = count(500),
    }
}

section! {
    /// How much one user may ask.
    pub struct UserRates {
        /// Requests in a second.
        requests_per_second: NonZeroU32 = count(20),
        /// Requests at once.
        concurrent_requests: NonZeroU32 = count(16),
        /// Different patients in an hour.
        distinct_patients_per_hour: NonZeroU32 = count(200),
    }
}

section! {
    /// How much one address may ask.
    pub struct AddressRates {
        /// Requests in a second.
        requests_per_second: NonZeroU32 = count(200),
        /// Forged, replayed or stolen credentials in a minute; then the address is refused until the minute is over. With a
        /// client certificate, the certificate is counted in place of the address.
        failures_per_minute: NonZeroU32 = count(30),
    }
}

section! {
    /// What unusual behaviour is, and what it is answered with.
    pub struct Risk {
        /// A caller that reads the records of many patients.
        mass_access: RiskRule = RiskRule { threshold: count(300), window: Duration::from_secs(3600), answer: RiskAnswer::StepUp },
        /// A caller that asks again and again for what it may not have.
        denied_requests: RiskRule = RiskRule { threshold: count(50), window: Duration::from_secs(300), answer: RiskAnswer::Throttle },
        /// A caller that reads many Part 2 records.
        part2_access: RiskRule = RiskRule { threshold: count(100), window: Duration::from_secs(3600), answer: RiskAnswer::StepUp },
        /// One token from several addresses.
        token_sharing: RiskRule = RiskRule { threshold: count(3), window: Duration::from_secs(600), answer: RiskAnswer::Terminate },
        /// Emergency access by one user.
        emergency_access: RiskRule = RiskRule { threshold: count(10), window: Duration::from_secs(86_400), answer: RiskAnswer::Alert },
        /// How a caller is answered that acts unlike its own past.
        scores: RiskScores,
        /// What `acr` a step-up asks for (RFC 9470).
        step_up_acr_values: Vec<String> = Vec::new(),
        /// How recent the authentication must be after a step-up (RFC 9470).
        step_up_max_age: Duration = Duration::from_secs(300),
    }
}

section! {
    /// The scores of behaviour analytics, 0 to 100, and what they are answered with.
    pub struct RiskScores {
        /// Whether scores are answered. The rules beside them always are.
        mode: RiskMode = RiskMode::Shadow,
        /// From this score on the caller is slowed down.
        throttle_at: NonZeroU32 = count(40),
        /// From this score on it must authenticate anew.
        step_up_at: NonZeroU32 = count(60),
        /// From this score on its session ends, and it is stopped until someone has looked.
        terminate_at: NonZeroU32 = count(85),
    }
    check check_scores;
}

words! {
    /// Whether scores are answered.
    pub enum RiskMode {
        /// They are recorded and raise alerts, and change nothing: for the first weeks, and for replays.
        Shadow = "shadow",
        /// They are answered.
        Enforce = "enforce",
    }
}

section! {
    /// Alerts. They are records of the audit log: its sinks tell them, webhooks and OTLP collectors among them.
    pub struct Alerts {
        /// The same alert about the same subject is told once in this time.
        quiet: Duration = Duration::from_secs(600),
    }
}

section! {
    /// A number of events within a window, and the answer to it.
    pub struct RiskRule {
        /// How many.
        threshold: NonZeroU32,
        /// Within how long.
        window: Duration,
        /// The answer.
        answer: RiskAnswer,
    }
}

words! {
    /// What a signal is answered with.
    pub enum RiskAnswer {
        /// Record it and raise an alert.
        Alert = "alert",
        /// Slow the caller down (429).
        Throttle = "throttle",
        /// Ask for stronger or fresher authentication (401, RFC 9470).
        StepUp = "step-up",
        /// End the session: its tokens are refused from now on.
        Terminate = "terminate",
    }
}

fn check_scores(scores: &RiskScores, at: &At<'_>) {
    if !(scores.throttle_at <= scores.step_up_at
        && scores.step_up_at <= scores.terminate_at
        && scores.terminate_at.get() <= 100)
    {
        at.problem_at(
            "throttle_at",
            "the three scores do not rise, or pass 100",
            "write them as `throttle_at: 40, step_up_at: 60, terminate_at: 85`",
        );
    }
}

fn check_limits(limits: &Limits, at: &At<'_>) {
    // Half of it is what the lowest rank may fill.
    if limits.inflight_bytes.0 / 2 < limits.response_bytes.0 {
        at.problem_at(
            "inflight_bytes",
            format!(
                "half of {} in flight could never hold one answer of {}",
                limits.inflight_bytes, limits.response_bytes
            ),
            "raise inflight_bytes, or lower response_bytes",
        );
    }
}
