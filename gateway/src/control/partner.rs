//! Rules on partners: their papers, their credentials, and how much they were given.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use fhir_profiles::interaction::Access;
use fhirwall_policy::partner::{Part2Basis, Redaction, Status};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::scope::{Scope, ScopeContext};
use time::{Date, Duration};

use crate::config::{Dpop, MtlsMode, PartnerFile, RegisteredPartner};
use crate::control::{Control, Facts, Held, Severity, Unmet, unmet};
use crate::identify::partners::{CertificateMatch, ClientType};

pub(super) const CONTROLS: &[Control] = &[
    Control {
        id: "partner-baa",
        severity: Severity::Violation,
        cites: "45 CFR 164.504(e), 164.308(b)(1); 42 CFR 2.11",
        asks: "A partner has a business associate or qualified service organization agreement, unless it acts for the patient alone.",
        fix: "add `evidence.baa`; for a provider that treats (45 CFR 164.502(e)(1)(ii)(A)) add a waiver that says so",
        held: Held::ByCheck(baa),
    },
    Control {
        id: "partner-baa-expired",
        severity: Severity::Risk,
        cites: "45 CFR 164.504(e)(2)",
        asks: "Agreements hold today.",
        fix: "renew the agreement and its dates, or suspend the partner",
        held: Held::ByCheck(|facts| agreements(facts, |left| left < Duration::ZERO)),
    },
    Control {
        id: "partner-baa-expiring",
        severity: Severity::Advice,
        cites: "45 CFR 164.504(e)(2)",
        asks: "Agreements hold for sixty days at least.",
        fix: "renew the agreement before it ends; requests are refused from the next day",
        held: Held::ByCheck(|facts| agreements(facts, |left| left >= Duration::ZERO && left < AHEAD)),
    },
    Control {
        id: "partner-assessment",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(1)(ii)(A), (b)(1)",
        asks: "A partner's security was assessed, unless it acts for the patient alone.",
        fix: "add `evidence.security_assessment`",
        held: Held::ByCheck(assessment),
    },
    Control {
        id: "partner-assessment-expired",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(8)",
        asks: "Assessments hold today.",
        fix: "ask the partner for its new assessment",
        held: Held::ByCheck(|facts| assessments(facts, |left| left < Duration::ZERO)),
    },
    Control {
        id: "partner-assessment-expiring",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(8)",
        asks: "Assessments hold for sixty days at least.",
        fix: "ask the partner for its new assessment",
        held: Held::ByCheck(|facts| assessments(facts, |left| left >= Duration::ZERO && left < AHEAD)),
    },
    Control {
        id: "partner-mtls",
        severity: Severity::Risk,
        cites: "RFC 9700 section 2.2.1; RFC 8705; RFC 9449",
        asks: "A stolen token is of no use: it is bound to a certificate or a DPoP key.",
        fix: "set `mtls: required` or `dpop: required`",
        held: Held::ByCheck(bound_tokens),
    },
    Control {
        id: "partner-certificates",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(d)",
        asks: "A partner that must show a certificate has one registered.",
        fix: "add `certificates`",
        held: Held::AtLoad("no certificate is registered"),
    },
    Control {
        id: "partner-certificate-shared",
        severity: Severity::Violation,
        cites: "45 CFR 164.312(a)(2)(i), (d)",
        asks: "A certificate names one partner.",
        fix: "give each partner a certificate of its own",
        held: Held::ByCheck(certificate_shared),
    },
    Control {
        id: "partner-certificate-digest",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(7)(i)",
        asks: "A partner's certificate can be renewed without a change here.",
        fix: "register `san_uri` or `san_dns` in place of `sha256`",
        held: Held::ByCheck(certificate_digest),
    },
    Control {
        id: "partner-client-secret",
        severity: Severity::Violation,
        cites: "RFC 9700 section 2.5; RFC 6749 section 10.10",
        asks: "A client secret cannot be guessed.",
        fix: "generate at least 128 random bits",
        held: Held::AtLoad("too short to withstand guessing"),
    },
    Control {
        id: "partner-client-keys",
        severity: Severity::Violation,
        cites: "SMART App Launch 2.2, section \"Asymmetric authentication\"",
        asks: "A client that signs has its public keys registered.",
        fix: "add `jwks_uri` or `jwks_file`",
        held: Held::AtLoad("signs with its own key"),
    },
    Control {
        id: "partner-redirect",
        severity: Severity::Violation,
        cites: "RFC 9700 section 2.1",
        asks: "Redirect URIs are written whole, without wildcards, and not in plain text.",
        fix: "list each redirect URI",
        held: Held::AtLoad("wildcard"),
    },
    Control {
        id: "partner-redirect-loopback",
        severity: Severity::Advice,
        cites: "RFC 8252 section 7.3",
        asks: "Loopback redirects are for native apps, not for servers.",
        fix: "register the server's https redirect URI",
        held: Held::ByCheck(redirect_loopback),
    },
    Control {
        id: "partner-origin",
        severity: Severity::Violation,
        cites: "RFC 9700 section 4.17; W3C Fetch, section \"CORS protocol\"",
        asks: "Browser origins are named one by one.",
        fix: "list each origin",
        held: Held::AtLoad("origin"),
    },
    Control {
        id: "partner-scope-unknown",
        severity: Severity::Risk,
        cites: "SMART App Launch 2.2, section \"Scopes for requesting FHIR Resources\"",
        asks: "Every registered scope is one that this gateway understands; others grant nothing.",
        fix: "write scopes as `patient/Observation.rs?category=laboratory`",
        held: Held::ByCheck(scope_unknown),
    },
    Control {
        id: "partner-scope-everything",
        severity: Severity::Risk,
        cites: "45 CFR 164.502(b), 164.514(d); 42 CFR 2.13(a)",
        asks: "A partner that acts neither for the patient nor for treatment alone has the types it needs, not all.",
        fix: "name the types in place of `*`",
        held: Held::ByCheck(scope_everything),
    },
    Control {
        id: "partner-scope-system",
        severity: Severity::Violation,
        cites: "SMART App Launch 2.2, section \"Backend Services\"",
        asks: "System scopes are for backend services alone.",
        fix: "remove the `system/` scopes, or register the service as `type: backend-service`",
        held: Held::ByCheck(scope_system),
    },
    Control {
        id: "partner-silent-writes",
        severity: Severity::Advice,
        cites: "42 CFR 2.13(c)",
        asks: "A silent partner has no update or delete: its writes could show or destroy what it may not see.",
        fix: "remove `u` and `d` from its scopes (they are refused), or set `redaction: marked`",
        held: Held::ByCheck(silent_writes),
    },
    Control {
        id: "partner-emergency-silent",
        severity: Severity::Risk,
        cites: "42 CFR 2.51; 45 CFR 164.312(a)(2)(ii)",
        asks: "Who may use emergency access must see that there is something to ask for.",
        fix: "set `redaction: marked`",
        held: Held::ByCheck(emergency_silent),
    },
    Control {
        id: "partner-purpose",
        severity: Severity::Advice,
        cites: "45 CFR 164.502(b)",
        asks: "An active partner has a purpose of use; without one every request is refused.",
        fix: "add `purposes_of_use`, or suspend the partner",
        held: Held::ByCheck(purpose),
    },
    Control {
        id: "partner-marketing",
        severity: Severity::Violation,
        cites: "45 CFR 164.508(a)(3)",
        asks: "Marketing needs each patient's authorization, which this gateway does not check.",
        fix: "remove HMARKT from `purposes_of_use`",
        held: Held::ByCheck(marketing),
    },
    Control {
        id: "partner-part2-basis",
        severity: Severity::Violation,
        cites: "42 CFR 2.12(c), 2.23, 2.52, 2.53",
        asks: "The Part 2 basis fits the purposes: research for HRESCH, audit for HQUALIMP or HOPERAT, patient access for PATRQT.",
        fix: "correct `part2.basis` or `purposes_of_use`",
        held: Held::ByCheck(part2_basis),
    },
    Control {
        id: "partner-part2-agreement",
        severity: Severity::Violation,
        cites: "42 CFR 2.11 \"Qualified service organization\", 2.12(c)(4), 2.52(a), 2.53(a)",
        asks: "A Part 2 basis without the patient's consent rests on an agreement.",
        fix: "add `evidence.baa` with the agreement",
        held: Held::ByCheck(part2_agreement),
    },
    Control {
        id: "partner-part2-recipient",
        severity: Severity::Violation,
        cites: "42 CFR 2.31(a)(4)",
        asks: "A partner whose basis is consent can be named in one.",
        fix: "add `consent_recipients`",
        held: Held::AtLoad("no Consent could name"),
    },
    Control {
        id: "partner-jurisdiction",
        severity: Severity::Risk,
        cites: "42 CFR 2.12(d)(2), 2.32; GDPR articles 28, 44 to 46",
        asks: "Part 2 records go to partners that United States law binds.",
        fix: "set `part2.basis: none`, or add a waiver that names the agreement by which the law binds",
        held: Held::ByCheck(jurisdiction),
    },
    Control {
        id: "partner-patients",
        severity: Severity::Advice,
        cites: "45 CFR 164.502(b), 164.308(a)(1)(ii)(D)",
        asks: "A backend service has its own bound on patients an hour.",
        fix: "add `limits.distinct_patients_per_hour`",
        held: Held::ByCheck(patients),
    },
    Control {
        id: "partner-limits",
        severity: Severity::Risk,
        cites: "45 CFR 164.502(b), 164.312(b)",
        asks: "No partner may read the records of more than 10,000 patients an hour.",
        fix: "lower `distinct_patients_per_hour`",
        held: Held::ByCheck(limits),
    },
    Control {
        id: "partner-security-contact",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(6)(ii), 164.410; 42 CFR 2.16(b)",
        asks: "Somebody at the partner can be reached in an incident.",
        fix: "add `contacts.security`",
        held: Held::ByCheck(security_contact),
    },
    Control {
        id: "partner-issuer",
        severity: Severity::Risk,
        cites: "RFC 9068 section 4",
        asks: "The issuers named for a partner are configured.",
        fix: "correct `issuers`, or add the issuer to the gateway",
        held: Held::ByCheck(issuer),
    },
];

const AHEAD: Duration = Duration::days(60);

const SUBJECT: &str = "partner ";

/// How a partner is named in findings and waivers.
pub(super) fn subject(client_id: &str) -> String {
    [SUBJECT, client_id].concat()
}

/// The `client_id` of the partner that a finding is about, if it is about one.
pub(super) fn named_by(subject: &str) -> Option<&str> {
    subject.strip_prefix(SUBJECT)
}

/// Looks at every active partner; a suspended one gets nothing anyway.
fn each(facts: &Facts<'_>, look: impl Fn(&PartnerFile) -> Option<String>) -> Vec<Unmet> {
    let active = facts.config.partners.iter().filter(|partner| partner.file.status == Status::Active);
    active.filter_map(|partner| Some(unmet(subject(&partner.file.client_id), look(&partner.file)?))).collect()
}

/// Does it act for patients alone? Then it is the patient's agent, and no business associate.
fn for_the_patient(partner: &PartnerFile) -> bool {
    let own = |purpose: &PurposeOfUse| purpose.is_a(PurposeOfUse::Patrqt);
    !partner.purposes_of_use.is_empty() && partner.purposes_of_use.iter().all(own)
}

fn baa(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let missing = partner.evidence.baa.is_none() && !for_the_patient(partner);
        missing.then(|| "no agreement is on file".to_owned())
    })
}

fn days_left(day: Date, facts: &Facts<'_>) -> Duration {
    day - facts.now.date()
}

fn agreements(facts: &Facts<'_>, wrong: fn(Duration) -> bool) -> Vec<Unmet> {
    each(facts, |partner| {
        let end = partner.evidence.baa.as_ref()?.expires;
        wrong(days_left(end, facts)).then(|| format!("the last day of its agreement is {end}"))
    })
}

fn assessment(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let missing = partner.evidence.security_assessment.is_none() && !for_the_patient(partner);
        missing.then(|| "no security assessment is on file".to_owned())
    })
}

fn assessments(facts: &Facts<'_>, wrong: fn(Duration) -> bool) -> Vec<Unmet> {
    each(facts, |partner| {
        let end = partner.evidence.security_assessment.as_ref()?.expires;
        wrong(days_left(end, facts)).then(|| format!("the last day of its assessment is {end}"))
    })
}

fn bound_tokens(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let loose = partner.mtls == MtlsMode::None && partner.dpop == Dpop::Optional;
        loose.then(|| "its tokens work for whoever holds them".to_owned())
    })
}

fn certificate_shared(facts: &Facts<'_>) -> Vec<Unmet> {
    let mut holders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let partners: Vec<&Arc<RegisteredPartner>> = facts.config.partners.iter().collect();
    for partner in partners {
        for certificate in &partner.file.certificates {
            holders.entry(format!("{certificate:?}")).or_default().push(&partner.file.client_id);
        }
    }
    let shared = holders.values().filter(|holders| holders.len() > 1);
    shared
        .map(|holders| {
            unmet(subject(holders.first().unwrap_or(&"")), format!("one certificate names {}", holders.join(" and ")))
        })
        .collect()
}

fn certificate_digest(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let digests = |certificate: &CertificateMatch| matches!(certificate, CertificateMatch::Sha256(_));
        let all = !partner.certificates.is_empty() && partner.certificates.iter().all(digests);
        all.then(|| "its certificate is known by its digest alone, which every renewal changes".to_owned())
    })
}

fn redirect_loopback(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let loopback = partner.redirect_uris.iter().any(|uri| uri.as_str().starts_with("http://"));
        let server = partner.client_type != ClientType::Public;
        (loopback && server).then(|| "a server-side app is sent back to loopback".to_owned())
    })
}

fn scopes(partner: &PartnerFile) -> impl Iterator<Item = Scope> {
    partner.scopes.iter().filter_map(|text| Scope::parse(text))
}

fn scope_unknown(facts: &Facts<'_>) -> Vec<Unmet> {
    const OTHERS: &[&str] =
        &["openid", "fhirUser", "offline_access", "online_access", "launch", "launch/patient", "launch/encounter"];
    each(facts, |partner| {
        let unknown = |text: &&String| !OTHERS.contains(&text.as_str()) && Scope::parse(text).is_none();
        let unknown: Vec<_> = partner.scopes.iter().filter(unknown).map(|text| format!("`{text}`")).collect();
        (!unknown.is_empty()).then(|| format!("{} grants nothing", unknown.join(", ")))
    })
}

fn scope_everything(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let everything = scopes(partner).any(|scope| scope.kind.is_none());
        // 164.502(b)(2)(i), (ii): the minimum necessary does not bind treatment, nor what the patient asks for.
        let free = |purpose: &PurposeOfUse| purpose.is_a(PurposeOfUse::Treat) || purpose.is_a(PurposeOfUse::Patrqt);
        (everything && !partner.purposes_of_use.iter().all(free))
            .then(|| "it may have every type of resource".to_owned())
    })
}

fn scope_system(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let system = scopes(partner).any(|scope| scope.context == ScopeContext::System);
        (system && partner.client_type != ClientType::BackendService)
            .then(|| "an app with users has system scopes".to_owned())
    })
}

fn silent_writes(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let changes = |scope: Scope| scope.letters.contains(Access::Update) || scope.letters.contains(Access::Delete);
        let silent = partner.part2.redaction == Redaction::Silent;
        (silent && scopes(partner).any(changes)).then(|| "its updates, patches and deletes are refused".to_owned())
    })
}

fn emergency_silent(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let emergency = partner.purposes_of_use.iter().any(|purpose| purpose.is_a(PurposeOfUse::Etreat));
        let silent = partner.part2.redaction == Redaction::Silent;
        (emergency && silent).then(|| "its users cannot see that something is withheld".to_owned())
    })
}

fn purpose(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| partner.purposes_of_use.is_empty().then(|| "it has no purpose of use".to_owned()))
}

fn marketing(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        partner.purposes_of_use.contains(&PurposeOfUse::Hmarkt).then(|| "it is registered for marketing".to_owned())
    })
}

fn part2_basis(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let (basis, wanted): (&str, &[PurposeOfUse]) = match partner.part2.basis {
            Part2Basis::None | Part2Basis::Consent | Part2Basis::Program | Part2Basis::CourtOrder => return None,
            Part2Basis::Patient => ("patient", &[PurposeOfUse::Patrqt]),
            Part2Basis::Research => ("research", &[PurposeOfUse::Hresch]),
            Part2Basis::Audit => ("audit", &[PurposeOfUse::Hqualimp, PurposeOfUse::Hoperat]),
        };
        let fits = |purpose: &PurposeOfUse| wanted.iter().any(|wanted| purpose.is_a(*wanted));
        let all = partner.purposes_of_use.iter().all(fits);
        (!all).then(|| format!("its basis is `{basis}`, and it has purposes that this basis does not cover"))
    })
}

fn part2_agreement(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let rests_on_one =
            matches!(partner.part2.basis, Part2Basis::Program | Part2Basis::Research | Part2Basis::Audit);
        (rests_on_one && partner.evidence.baa.is_none()).then(|| "no agreement backs its Part 2 basis".to_owned())
    })
}

fn jurisdiction(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let own = matches!(partner.part2.basis, Part2Basis::None | Part2Basis::Patient);
        let domestic = partner.jurisdiction == "US" || partner.jurisdiction.starts_with("US-");
        (!own && !domestic).then(|| format!("it is established in {}", partner.jurisdiction))
    })
}

fn patients(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| {
        let unbound = partner.limits.distinct_patients_per_hour.is_none();
        (partner.client_type == ClientType::BackendService && unbound)
            .then(|| "it takes the gateway's own bound on patients an hour".to_owned())
    })
}

fn limits(facts: &Facts<'_>) -> Vec<Unmet> {
    let default = facts.config.gateway.limits.partner.distinct_patients_per_hour;
    each(facts, |partner| {
        let patients = partner.limits.distinct_patients_per_hour.unwrap_or(default);
        (patients > NonZeroU32::new(10_000).unwrap_or(NonZeroU32::MAX))
            .then(|| format!("it may read {patients} patients an hour"))
    })
}

fn security_contact(facts: &Facts<'_>) -> Vec<Unmet> {
    each(facts, |partner| partner.contacts.security.is_none().then(|| "nobody is named".to_owned()))
}

fn issuer(facts: &Facts<'_>) -> Vec<Unmet> {
    let known = |issuer: &&String| !facts.config.gateway.issuers.iter().any(|one| one.issuer == **issuer);
    each(facts, |partner| {
        let unknown = partner.issuers.iter().flatten().find(known)?;
        Some(format!("no issuer `{unknown}` is configured"))
    })
}
