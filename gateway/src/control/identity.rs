//! Rules on issuers, tokens and signals.

use std::time::Duration;

use crate::config::{RiskAnswer, SmartMode};
use crate::control::{Control, Facts, Held, Severity, Unmet, unmet};
use crate::identify::issuer::SignatureAlgorithm;

pub(super) const CONTROLS: &[Control] = &[
    Control {
        id: "issuer-tls",
        severity: Severity::Violation,
        cites: "RFC 9700 section 2.6; RFC 8414 section 3",
        asks: "Issuers are asked over TLS.",
        fix: "use the issuer's https address",
        held: Held::AtLoad("plain text leaves this machine"),
    },
    Control {
        id: "issuer-algorithms",
        severity: Severity::Violation,
        cites: "RFC 8725 sections 3.1 and 3.2",
        asks: "Tokens are signed with a private key: neither `none` nor a shared secret counts.",
        fix: "list asymmetric algorithms only",
        held: Held::AtLoad("unknown value"),
    },
    Control {
        id: "issuer-pkcs1",
        severity: Severity::Advice,
        cites: "SMART App Launch 2.2, section \"Asymmetric authentication\"; RFC 8725 section 3.2",
        asks: "An issuer signs with an algorithm that SMART names: ES384 or RS384, or with a newer one.",
        fix: "have the issuer sign with ES384, RS384, PS256 or EdDSA, and list that",
        held: Held::ByCheck(issuer_pkcs1),
    },
    Control {
        id: "issuer-audience",
        severity: Severity::Violation,
        cites: "RFC 9068 section 4; RFC 8707 section 2",
        asks: "Some audience is accepted.",
        fix: "list the base URLs of the endpoints, or leave `audience` out",
        held: Held::AtLoad("no audience is accepted"),
    },
    Control {
        id: "issuer-audience-ours",
        severity: Severity::Risk,
        cites: "RFC 9068 section 4; SMART App Launch 2.2, section \"Obtain authorization code\"",
        asks: "Tokens are made for an endpoint of this gateway, not for something else that accepts them too.",
        fix: "put the endpoints' base URLs into `audience`, and have apps send them as `aud`",
        held: Held::ByCheck(issuer_audience_ours),
    },
    Control {
        id: "issuer-token-type",
        severity: Severity::Advice,
        cites: "RFC 9068 section 2.1; RFC 8725 section 3.11",
        asks: "Access tokens are marked as such.",
        fix: "have the issuer send `typ: at+jwt`, then remove `JWT` from `access_token_typ`",
        held: Held::ByCheck(issuer_token_type),
    },
    Control {
        id: "issuer-stale-keys",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(3)(ii)(C)",
        asks: "A key that an issuer withdrew is trusted for a day at most.",
        fix: "lower `jwks_stale_limit`",
        held: Held::ByCheck(issuer_stale_keys),
    },
    Control {
        id: "introspection-cache",
        severity: Severity::Risk,
        cites: "45 CFR 170.315(g)(10)(vi); RFC 7662 section 4",
        asks: "A revoked opaque token stops to work within five minutes.",
        fix: "lower `introspection.cache`",
        held: Held::ByCheck(introspection_cache),
    },
    Control {
        id: "broker-token-lifetime",
        severity: Severity::Risk,
        cites: "45 CFR 170.315(g)(10)(vi); RFC 9700 section 2.2",
        asks: "An access token that the gateway issues lives for an hour at most.",
        fix: "lower `access_token_lifetime`",
        held: Held::ByCheck(broker_token_lifetime),
    },
    Control {
        id: "broker-signing-key",
        severity: Severity::Violation,
        cites: "RFC 9068 section 2.1",
        asks: "A broker has a key to sign tokens with.",
        fix: "add `keys.token_signing_files`",
        held: Held::AtLoad("signs tokens"),
    },
    Control {
        id: "login-monitoring",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(5)(ii)(C)",
        asks: "Failed authentications from one address are few before they are refused unheard.",
        fix: "set `limits.address.failures_per_minute` to at most 120",
        held: Held::ByCheck(login_monitoring),
    },
    Control {
        id: "mass-access-answer",
        severity: Severity::Risk,
        cites: "45 CFR 164.308(a)(1)(ii)(D), (a)(6)(ii)",
        asks: "A caller that reads the records of many patients is stopped, not only noticed.",
        fix: "set `risk.mass_access.answer` to `throttle`, `step-up` or `terminate`",
        held: Held::ByCheck(mass_access_answer),
    },
    Control {
        id: "step-up-authentication",
        severity: Severity::Advice,
        cites: "RFC 9470 section 3; NIST SP 800-63B",
        asks: "A step-up names the authentication that it asks for.",
        fix: "add `risk.step_up_acr_values`",
        held: Held::ByCheck(step_up_authentication),
    },
];

fn issuer_pkcs1(facts: &Facts<'_>) -> Vec<Unmet> {
    let issuers = facts.config.gateway.issuers.iter();
    let old = |algorithms: &[SignatureAlgorithm]| algorithms == [SignatureAlgorithm::Rs256];
    issuers
        .filter(|issuer| old(&issuer.algorithms))
        .map(|issuer| unmet(format!("issuers[{}].algorithms", issuer.issuer), "RS256 alone is accepted"))
        .collect()
}

fn issuer_audience_ours(facts: &Facts<'_>) -> Vec<Unmet> {
    let gateway = &facts.config.gateway;
    let foreign =
        |audience: &&String| !gateway.endpoints.iter().any(|endpoint| endpoint.base_url.base() == audience.as_str());
    let mut found = Vec::new();
    for issuer in &gateway.issuers {
        for audience in issuer.audience.iter().flatten().filter(foreign) {
            found.push(unmet(
                format!("issuers[{}].audience", issuer.issuer),
                format!("`{audience}` is no endpoint of this gateway: a token for something else is accepted"),
            ));
        }
    }
    found
}

fn issuer_token_type(facts: &Facts<'_>) -> Vec<Unmet> {
    let issuers = facts.config.gateway.issuers.iter();
    let unmarked = |types: &[String]| types.iter().any(|one| one.eq_ignore_ascii_case("JWT"));
    issuers
        .filter(|issuer| unmarked(&issuer.access_token_typ))
        .map(|issuer| {
            unmet(
                format!("issuers[{}].access_token_typ", issuer.issuer),
                "tokens of unmarked type are told apart by their claims",
            )
        })
        .collect()
}

fn issuer_stale_keys(facts: &Facts<'_>) -> Vec<Unmet> {
    let issuers = facts.config.gateway.issuers.iter();
    issuers
        .filter(|issuer| issuer.jwks_stale_limit > Duration::from_hours(24))
        .map(|issuer| unmet(format!("issuers[{}].jwks_stale_limit", issuer.issuer), "it is longer than a day"))
        .collect()
}

fn introspection_cache(facts: &Facts<'_>) -> Vec<Unmet> {
    let issuers = facts.config.gateway.issuers.iter();
    let cached = |issuer: &crate::config::Issuer| issuer.introspection.as_ref().and_then(|one| one.cache);
    issuers
        .filter(|issuer| cached(issuer).is_some_and(|cache| cache > Duration::from_mins(5)))
        .map(|issuer| {
            unmet(format!("issuers[{}].introspection.cache", issuer.issuer), "it is longer than five minutes")
        })
        .collect()
}

fn broker_token_lifetime(facts: &Facts<'_>) -> Vec<Unmet> {
    let smart = &facts.config.gateway.smart;
    if smart.mode == SmartMode::Broker && smart.access_token_lifetime > Duration::from_hours(1) {
        return vec![unmet("smart.access_token_lifetime", "it is longer than an hour")];
    }
    Vec::new()
}

fn login_monitoring(facts: &Facts<'_>) -> Vec<Unmet> {
    let failures = facts.config.gateway.limits.address.failures_per_minute.get();
    if failures > 120 {
        return vec![unmet("limits.address.failures_per_minute", format!("{failures} a minute are allowed"))];
    }
    Vec::new()
}

fn mass_access_answer(facts: &Facts<'_>) -> Vec<Unmet> {
    if facts.config.gateway.risk.mass_access.answer == RiskAnswer::Alert {
        return vec![unmet("risk.mass_access.answer", "it raises an alert and goes on disclosing")];
    }
    Vec::new()
}

fn step_up_authentication(facts: &Facts<'_>) -> Vec<Unmet> {
    let risk = &facts.config.gateway.risk;
    let rules =
        [&risk.mass_access, &risk.denied_requests, &risk.part2_access, &risk.token_sharing, &risk.emergency_access];
    let steps_up = rules.iter().any(|rule| rule.answer == RiskAnswer::StepUp);
    if steps_up && risk.step_up_acr_values.is_empty() {
        return vec![unmet("risk.step_up_acr_values", "a step-up asks for a fresh login, and not for a stronger one")];
    }
    Vec::new()
}
