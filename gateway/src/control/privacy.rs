//! Rules on sensitive records: labels, consents, policies.

use std::time::Duration;

use fhir_profiles::label::{Label, LabelKind};
use fhirwall_policy::cedar::Mode as PolicyMode;
use fhirwall_policy::partner::Part2Basis;

use crate::config::{LabelSource, Mode, Part2Role};
use crate::control::{Control, Facts, Held, Severity, Unmet, unmet};

pub(super) const CONTROLS: &[Control] = &[
    Control {
        id: "policy-set",
        severity: Severity::Violation,
        cites: "45 CFR 164.308(a)(4)(i)",
        asks: "There is a policy set.",
        fix: "put Cedar files into `policies.dir`",
        held: Held::AtLoad("there is no policy here"),
    },
    Control {
        id: "policy-valid",
        severity: Severity::Violation,
        cites: "45 CFR 164.308(a)(4)(i)",
        asks: "Every policy parses, validates strictly, and says its id and source.",
        fix: "run `fhirwall policy validate` and correct the policy",
        held: Held::ByCheck(policy_valid),
    },
    Control {
        id: "policy-part2",
        severity: Severity::Violation,
        cites: "42 CFR 2.2(b), 2.13(a)",
        asks: "A policy forbids Part 2 records without a lawful basis, and it decides: it is not only watched.",
        fix: "take up `part2.cedar` of the shipped set",
        held: Held::ByCheck(policy_part2),
    },
    Control {
        id: "policy-consent",
        severity: Severity::Violation,
        cites: "42 CFR 2.31, 2.33",
        asks: "Where a partner's basis is consent, a policy rests on the consent regulation.",
        fix: "take up `part2.cedar` and `records.cedar` of the shipped set",
        held: Held::ByCheck(policy_consent),
    },
    Control {
        id: "policy-shadow",
        severity: Severity::Advice,
        cites: "45 CFR 164.308(a)(8)",
        asks: "Policies that are only watched are a trial, not a state.",
        fix: "remove `@mode(\"shadow\")`, or the policy",
        held: Held::ByCheck(policy_shadow),
    },
    Control {
        id: "labels-meta",
        severity: Severity::Violation,
        cites: "42 CFR 2.12(a), 2.13(a)",
        asks: "Labels that the EHR set are looked at.",
        fix: "keep `meta` in `labels.sources`",
        held: Held::AtLoad("without `meta`"),
    },
    Control {
        id: "labels-sources",
        severity: Severity::Risk,
        cites: "42 CFR 2.12(a), 2.13(a)",
        asks: "Inline labels and sensitive codes are looked at too.",
        fix: "set `labels.sources: [meta, inline, codes]`",
        held: Held::ByCheck(labels_sources),
    },
    Control {
        id: "labels-map",
        severity: Severity::Risk,
        cites: "42 CFR 2.12(a)",
        asks: "A local label counts as a sensitive label that this gateway knows.",
        fix: "write a sensitivity, law or confidentiality code such as `42CFRPart2`, `SUD`, `HIV`, `R` as `as`",
        held: Held::ByCheck(labels_map),
    },
    Control {
        id: "consent-unreadable",
        severity: Severity::Violation,
        cites: "42 CFR 2.31(c)",
        asks: "A consent that cannot be read permits nothing.",
        fix: "set `consent.unreadable: deny`",
        held: Held::AtLoad("unknown value"),
    },
    Control {
        id: "consent-cache-bound",
        severity: Severity::Violation,
        cites: "42 CFR 2.31(a)(6), (c)",
        asks: "A revoked consent stops to open records within five minutes.",
        fix: "lower `consent.cache`",
        held: Held::AtLoad("a revoked consent would still open"),
    },
    Control {
        id: "consent-cache",
        severity: Severity::Advice,
        cites: "42 CFR 2.31(a)(6)",
        asks: "A revoked consent stops to open records within a minute.",
        fix: "lower `consent.cache`, or have the source call `POST /consents/changed`",
        held: Held::ByCheck(consent_cache),
    },
    Control {
        id: "endpoint-recipient",
        severity: Severity::Advice,
        cites: "42 CFR 2.12(d)(2)(i)(C), 2.33(b)",
        asks: "Somebody decided that the holder of an endpoint's records need not segregate them.",
        fix: "confirm it with a waiver of this control, or set `part2.role: program`",
        held: Held::ByCheck(endpoint_recipient),
    },
    Control {
        id: "observe-mode",
        severity: Severity::Risk,
        cites: "45 CFR 164.312(a)(1), 164.502(b)",
        asks: "Decisions are carried out.",
        fix: "set `mode: enforce`; for a trial run add a waiver with its last day",
        held: Held::ByCheck(observe_mode),
    },
    Control {
        id: "partners-some",
        severity: Severity::Advice,
        cites: "45 CFR 171.201 to 171.204",
        asks: "Some partner is registered; without one every request is refused.",
        fix: "run `fhirwall partner new`",
        held: Held::ByCheck(partners_some),
    },
];

fn policy_valid(facts: &Facts<'_>) -> Vec<Unmet> {
    let problems = facts.policies.err().into_iter().flatten();
    problems.map(|problem| unmet(format!("policies/{}", problem.file), problem.to_string())).collect()
}

/// Does a policy that decides for everybody cite this? A template decides for those alone who stand under it.
fn cited(facts: &Facts<'_>, forbids: bool, source: &str) -> bool {
    // A set that does not load is told by `policy-valid`.
    let Ok(policies) = facts.policies else { return true };
    policies.policies().filter(|policy| policy.template.is_none()).any(|policy| {
        policy.mode == PolicyMode::Enforce && policy.cites.contains(source) && (!forbids || !policy.permits)
    })
}

fn policy_part2(facts: &Facts<'_>) -> Vec<Unmet> {
    if cited(facts, true, "42 CFR 2.13") {
        return Vec::new();
    }
    vec![unmet("policies", "no policy that forbids cites 42 CFR 2.13")]
}

fn policy_consent(facts: &Facts<'_>) -> Vec<Unmet> {
    let consent = facts.config.partners.iter().any(|partner| partner.file.part2.basis == Part2Basis::Consent);
    if !consent || cited(facts, false, "2.31") {
        return Vec::new();
    }
    vec![unmet("policies", "a partner's basis is consent, and no policy cites 42 CFR 2.31")]
}

fn policy_shadow(facts: &Facts<'_>) -> Vec<Unmet> {
    let policies = facts.policies.ok().into_iter().flat_map(|policies| policies.policies());
    policies
        .filter(|policy| policy.mode == PolicyMode::Shadow)
        .map(|policy| unmet(format!("policy {}", policy.id), "it is evaluated and decides nothing"))
        .collect()
}

fn labels_sources(facts: &Facts<'_>) -> Vec<Unmet> {
    let sources = &facts.config.gateway.labels.sources;
    let mut found = Vec::new();
    if !sources.contains(&LabelSource::Inline) {
        found.push(unmet("labels.sources", "labels on elements are overlooked"));
    }
    if !sources.contains(&LabelSource::Codes) {
        found.push(unmet("labels.sources", "records that are sensitive by their codes alone are overlooked"));
    }
    found
}

fn labels_map(facts: &Facts<'_>) -> Vec<Unmet> {
    const KINDS: &[LabelKind] = &[LabelKind::Confidentiality, LabelKind::Sensitivity, LabelKind::Law];
    let weak = |code: &str| ["N", "L", "M", "U"].contains(&code) || Label::by_code(code, KINDS).is_none();
    let map = facts.config.gateway.labels.map.iter().enumerate();
    map.filter(|(_, entry)| weak(&entry.counts_as))
        .map(|(index, entry)| {
            unmet(format!("labels.map[{index}]"), format!("`{}` marks nothing as sensitive", entry.counts_as))
        })
        .collect()
}

fn consent_cache(facts: &Facts<'_>) -> Vec<Unmet> {
    if facts.config.gateway.consent.cache > Duration::from_mins(1) {
        return vec![unmet("consent.cache", "it is longer than a minute")];
    }
    Vec::new()
}

fn endpoint_recipient(facts: &Facts<'_>) -> Vec<Unmet> {
    let endpoints = facts.config.gateway.endpoints.iter();
    endpoints
        .filter(|endpoint| endpoint.part2.role == Part2Role::Recipient)
        .map(|endpoint| {
            unmet(format!("endpoints[{}].part2.role", endpoint.name), "its Part 2 records are not segregated")
        })
        .collect()
}

fn observe_mode(facts: &Facts<'_>) -> Vec<Unmet> {
    if facts.config.gateway.mode == Mode::Observe {
        return vec![unmet("mode", "what would be refused or removed is recorded and sent all the same")];
    }
    Vec::new()
}

fn partners_some(facts: &Facts<'_>) -> Vec<Unmet> {
    if facts.config.partners.is_empty() {
        return vec![unmet("partners", "there is none")];
    }
    Vec::new()
}
