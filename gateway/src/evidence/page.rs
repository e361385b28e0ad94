//! The evidence as one page that needs nothing else: no script, no font, no picture from anywhere.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{AuditState, ControlState, DecisionCounts, Evidence, PartnerState, PolicyState, Signature, State};

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem 1.5rem;color:#1a1a1a;background:#fff}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:2px solid #1a1a1a}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #ccc}
th{background:#f0f0f0}code{font-size:.85em;overflow-wrap:anywhere}.met{color:#0a5c2b}.waived{color:#6b4a00}.unmet{color:#a3001b;font-weight:700}.not-asked{color:#555}
.sum{display:flex;flex-wrap:wrap;gap:.75rem;padding:0;list-style:none}.sum li{border:1px solid #999;border-radius:.4rem;padding:.4rem .8rem}
.sum b{font-size:1.3rem;display:block}.fix{color:#444}
@media print{h2{break-after:avoid}tr{break-inside:avoid}}";

/// The page. `signature` is of the JSON document that says the same.
pub fn page(evidence: &Evidence, signature: Option<&Signature>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { "fhirwall: evidence of " (evidence.made) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Evidence of what this gateway enforces" }
                    p {
                        "Collected " (evidence.made) " by fhirwall " (evidence.version) ". Configuration "
                        code { (evidence.configuration.sha256) } ", mode " b { (evidence.configuration.mode) } ". "
                        "No patient and no user is named here; who saw what is in the audit log."
                    }
                    (summary(evidence))
                    h2 { "Endpoints and issuers" }
                    ul {
                        @for (name, base) in &evidence.configuration.endpoints { li { (name) ": " code { (base) } } }
                        @for issuer in &evidence.configuration.issuers { li { "issuer " code { (issuer) } } }
                    }
                    (controls(&evidence.controls))
                    (policies(&evidence.policies))
                    (partners(&evidence.partners))
                    (audit(&evidence.audit))
                    (decisions(&evidence.decisions))
                    (signed(signature))
                }
            }
        }
    };
    page.into_string()
}

fn summary(evidence: &Evidence) -> Markup {
    let count = |state| evidence.controls.iter().filter(|control| control.state == state).count();
    html! {
        ul.sum {
            @for state in [State::Met, State::Waived, State::Unmet, State::NotAsked] {
                li { b { (count(state)) } "controls " (state.as_str()) }
            }
            li { b { (evidence.audit.records) } "audit records, chain " (if evidence.audit.broken.is_none() { "whole" } else { "BROKEN" }) }
            li { b { (evidence.decisions.disclosures) } "disclosures" }
            li { b { (evidence.decisions.refusals) } "refusals" }
        }
    }
}

fn controls(controls: &[ControlState]) -> Markup {
    let order = |control: &&ControlState| match control.state {
        State::Unmet => 0,
        State::Waived => 1,
        State::NotAsked => 2,
        State::Met => 3,
    };
    let mut sorted: Vec<&ControlState> = controls.iter().collect();
    sorted.sort_by_key(order);
    html! {
        h2 { "Controls" }
        table {
            thead { tr { th scope="col" { "State" } th scope="col" { "Control" } th scope="col" { "Asks" } th scope="col" { "Rests on" } } }
            tbody {
                @for control in sorted {
                    tr {
                        td class=(control.state.as_str().replace(' ', "-")) { (control.state.as_str()) }
                        td { code { (control.id) } " (" (control.severity) ")" }
                        td {
                            (control.asks)
                            @for finding in &control.findings {
                                div { b { (finding.subject) } ": " (finding.what) }
                                @match &finding.waiver {
                                    Some(waiver) => div.waived { "Waived until " (waiver.until) " by " (waiver.owner) ": " (waiver.reason) },
                                    None => div.fix { "To do: " (finding.fix) },
                                }
                            }
                        }
                        td { (control.requirement) }
                    }
                }
            }
        }
    }
}

fn policies(state: &PolicyState) -> Markup {
    html! {
        h2 { "Policies" }
        p {
            (state.policies.len()) " policies, set " code { (state.epoch) } ". " (state.table_rows) " rows of decision tables were run: "
            (state.table_failures.len()) " failed. "
            @match &state.proof {
                Some(proof) if proof.holds => { "All " (proof.invariants.len()) " invariants are proved over all requests." },
                Some(_) => { b.unmet { "A proof failed." } },
                None => { b { "No proof of this very set is saved beside it" } ": run " code { "fhirwall policy prove --save" } "." },
            }
        }
        @if !state.table_failures.is_empty() { ul { @for failure in &state.table_failures { li.unmet { (failure) } } } }
        @if let Some(proof) = &state.proof {
            table {
                thead { tr { th scope="col" { "Invariant" } th scope="col" { "Says" } th scope="col" { "Proof" } } }
                tbody { @for (id, says, holds) in &proof.invariants {
                    tr { td { code { (id) } } td { (says) } td class=(if *holds { "met" } else { "unmet" }) { (if *holds { "holds" } else { "broken" }) } }
                } }
            }
        }
        table {
            thead { tr { th scope="col" { "Policy" } th scope="col" { "Says" } th scope="col" { "Rests on" } th scope="col" { "Effect" } } }
            tbody { @for policy in &state.policies {
                tr { td { code { (policy.id) } } td { (policy.says) } td { (policy.cites) } td { (policy.effect) @if policy.mode != "enforce" { " (" (policy.mode) ")" } } }
            } }
        }
    }
}

fn partners(partners: &[PartnerState]) -> Markup {
    html! {
        h2 { "Partners" }
        table {
            thead { tr { th scope="col" { "Partner" } th scope="col" { "Status" } th scope="col" { "For" } th scope="col" { "Part 2" } th scope="col" { "At most" } th scope="col" { "Agreement until" } th scope="col" { "Assessment until" } } }
            tbody { @for partner in partners {
                tr {
                    td { (partner.name) br; code { (partner.client_id) } }
                    td { (partner.status) }
                    td { (partner.purposes.join(", ")) }
                    td { (partner.part2_basis) ", " (partner.redaction) }
                    td { @for scope in &partner.scopes { code { (scope) } " " } }
                    td { (partner.agreement_until.as_deref().unwrap_or("none")) }
                    td { (partner.assessment_until.as_deref().unwrap_or("none")) }
                }
            } }
        }
    }
}

fn audit(audit: &AuditState) -> Markup {
    html! {
        h2 { "Audit log" }
        p {
            "Chain " code { (audit.chain) } ": " (audit.records) " records in " (audit.segments) " segments, "
            (audit.signed_heads) " signed heads, " (audit.unsigned) " records not signed yet, " (audit.gaps) " gaps or recoveries on record. "
            @match &audit.broken {
                None => span.met { "Every record is as it was written." },
                Some(broken) => span.unmet { "The chain is broken at " (broken) },
            }
            @if audit.unreadable > 0 { " " (audit.unreadable) " records are sealed with a key that was not given; they are counted nowhere else." }
        }
    }
}

fn decisions(counts: &DecisionCounts) -> Markup {
    let from = counts.from.as_deref().unwrap_or("the log's beginning");
    let to = counts.to.as_deref().unwrap_or("its end");
    html! {
        h2 { "Decisions from " (from) " to " (to) }
        p {
            (counts.disclosures) " disclosures (" (counts.part2_disclosures) " with 42 CFR Part 2 records, "
            (counts.emergency_disclosures) " in emergencies), " (counts.changes_attempted) " changes, " (counts.refusals) " refusals."
        }
        (counted("Refusals by reason", &counts.by_reason))
        (counted("Refusals by information-blocking exception (45 CFR part 171)", &counts.by_exception))
        (counted("Withheld within answers, by rule", &counts.withheld))
        (counted("Events", &counts.events))
    }
}

fn counted(title: &str, counts: &BTreeMap<String, u64>) -> Markup {
    html! {
        @if !counts.is_empty() {
            table {
                thead { tr { th scope="col" { (title) } th scope="col" { "Count" } } }
                tbody { @for (name, count) in counts { tr { td { (name) } td { (count) } } } }
            }
        }
    }
}

fn signed(signature: Option<&Signature>) -> Markup {
    html! {
        h2 { "Signature" }
        @match signature {
            Some(signature) => p {
                "The same content as " code { "report.json" } " is signed by key " code { (signature.key) } " in " code { "report.json.sig" }
                ". Check it with " code { "fhirwall report --verify DIR --public-key FILE" } ", the key being the one that the audit log's heads are kept with."
            },
            None => p.unmet { "Not signed." },
        }
    }
}
