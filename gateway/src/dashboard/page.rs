//! The page itself, and the one that asks for a confirmation.

use maud::{DOCTYPE, Markup, html};
use time::macros::format_description;

use super::board::{Act, Board, DecisionLine, FindingLine, LockdownLine, PartnerLine, Standing};
use super::plot;

/// The page. `may_act`: the viewer's role lets it suspend and lock down. `notice`: what has just been done.
pub fn page(board: &Board, may_act: bool, notice: Option<&str>) -> String {
    let body = html! {
        @if let Some(notice) = notice { p.notice role="status" { (notice) } }
        (tiles(board))
        (lockdowns(&board.lockdowns, may_act))
        section aria-labelledby="traffic" {
            h2 #traffic { "The last hour" }
            (plot::minutes(&board.minutes))
            (totals("Withheld since the start, by label", &board.redactions))
            (totals("Consents evaluated since the start, by outcome", &board.consents))
            (totals("Behaviour that stood out since the start", &board.risks))
        }
        (partners(&board.partners, may_act))
        (decisions(&board.decisions))
        (findings(&board.findings, board.rejected.as_deref()))
    };
    framed(board, "Overview", &body)
}

/// Asks whether an act is meant. Nothing has happened yet.
pub fn confirm(board: &Board, act: &Act) -> String {
    let body = html! {
        h2 { "Is this what you mean?" }
        p { b { (act.sentence()) } }
        form method="post" action="/acts" {
            @match act {
                Act::Suspend { client_id, hours, reason } => {
                    (hidden("act", "suspend")) (hidden("client_id", client_id)) (hidden("hours", &hours.to_string())) (hidden("reason", reason))
                },
                Act::WithholdPart2 { hours, reason } => {
                    (hidden("act", "withhold-part2")) (hidden("hours", &hours.to_string())) (hidden("reason", reason))
                },
                Act::Lift { id } => { (hidden("act", "lift")) (hidden("id", id)) },
            }
            (hidden("confirmed", "yes"))
            button.danger type="submit" { "Yes, do it" }
        }
        p { a href="/" { "No, back to the overview" } }
    };
    framed(board, "Confirm", &body)
}

fn framed(board: &Board, title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) " · fhirwall" }
                link rel="stylesheet" href="/dashboard.css";
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    h1 { "fhirwall" }
                    span { (board.version) ", generation " (board.generation) ", as of " (clock(board.now)) " UTC" }
                    nav aria-label="Sections" {
                        ul {
                            li { a href="/#traffic" { "Traffic" } }
                            li { a href="/#partners" { "Partners" } }
                            li { a href="/#decisions" { "Decisions" } }
                            li { a href="/#findings" { "Findings" } }
                        }
                    }
                }
                main #main { (body) }
            }
        }
    };
    page.into_string()
}

fn clock(time: time::OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")).unwrap_or_default()
}

fn tiles(board: &Board) -> Markup {
    let open = board.findings.iter().filter(|finding| finding.waived_until.is_none()).count();
    let served = board.partners.iter().filter(|partner| partner.standing == Standing::Active).count();
    html! {
        ul.tiles {
            @for check in &board.checks {
                li { b class=(if check.ready { "good" } else { "bad" }) { (if check.ready { "well" } else { "not well" }) } (check.name) ": " (check.detail) }
            }
            li { b class=(if board.mode == "enforce" { "good" } else { "mind" }) { (board.mode) } "mode" }
            li {
                @match &board.audit_head {
                    Some((seq, digest)) => { b { (seq) } "records vouched for by the signed head " code { (digest.get(..16).unwrap_or(digest)) } },
                    None => { b.mind { "none" } "signed head of the audit chain yet" },
                }
            }
            li { b { (served) " of " (board.partners.len()) } "partners are served" }
            li { b class=(if open == 0 { "good" } else { "mind" }) { (open) } "findings are open" }
        }
    }
}

fn lockdowns(lockdowns: &[LockdownLine], may_act: bool) -> Markup {
    html! {
        section aria-labelledby="lockdowns" {
            h2 #lockdowns { "Lockdowns" }
            @if lockdowns.is_empty() { p { "Nothing is locked down." } }
            @else {
                div.scroll tabindex="0" role="region" aria-label="Lockdowns in force" { table {
                    thead { tr { th scope="col" { "What" } th scope="col" { "Until" } th scope="col" { "Why" } th scope="col" { "By" } @if may_act { th scope="col" { "Act" } } } }
                    tbody { @for one in lockdowns { tr {
                        td.bad { (one.what) } td { (one.until) } td { (one.reason) } td { (one.by) }
                        @if may_act { td { form method="post" action="/acts" { (hidden("act", "lift")) (hidden("id", &one.id)) button type="submit" { "Lift" } } } }
                    } } }
                } }
            }
            @if may_act {
                details { summary { "Withhold all Part 2 data from everybody" } (act_form("withhold-part2", None)) }
            }
        }
    }
}

fn act_form(act: &str, client_id: Option<&str>) -> Markup {
    html! {
        form method="post" action="/acts" {
            (hidden("act", act))
            @if let Some(client_id) = client_id { (hidden("client_id", client_id)) }
            label { "For how many hours" input type="number" name="hours" min="1" max="720" value="24" required; }
            label { "Why" input type="text" name="reason" required maxlength="200"; }
            button.danger type="submit" { "Continue" }
        }
    }
}

fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

fn totals(title: &str, totals: &[(String, u64)]) -> Markup {
    html! {
        @if !totals.is_empty() {
            details { summary { (title) } table { tbody { @for (name, count) in totals { tr { th scope="row" { (name) } td { (count) } } } } } }
        }
    }
}

fn partners(partners: &[PartnerLine], may_act: bool) -> Markup {
    html! {
        section aria-labelledby="partners" {
            h2 #partners { "Partners" }
            div.scroll tabindex="0" role="region" aria-label="Partners" { table {
                thead { tr {
                    th scope="col" { "Partner" } th scope="col" { "Standing" } th scope="col" { "For, Part 2" } th scope="col" { "Granted and used" }
                    th scope="col" { "Quotas" } th scope="col" { "Requests" } th scope="col" { "Evidence until" } @if may_act { th scope="col" { "Act" } }
                } }
                tbody { @for partner in partners { (partner_row(partner, may_act)) } }
            } }
        }
    }
}

fn partner_row(partner: &PartnerLine, may_act: bool) -> Markup {
    html! {
        tr {
            th scope="row" { (partner.name) br; code { (partner.client_id) } }
            td { @match &partner.standing {
                Standing::Active => span.good { "active" },
                Standing::Suspended => span.bad { "suspended" },
                Standing::LockedDown(until) => span.bad { "locked down until " (until) },
            } }
            td { (partner.purposes) br; (partner.part2) }
            td {
                details { summary { (partner.scopes.len()) " scopes, " (partner.used.len()) " uses" }
                    @for scope in &partner.scopes { code { (scope) } br; }
                    @for used in &partner.used { "used: " (used) br; }
                }
            }
            td { (partner.quotas) }
            td { (partner.requests) " (" (partner.refused) " refused)" }
            td class=[partner.evidence_ended.then_some("bad")] {
                "agreement " (partner.agreement_until.as_deref().unwrap_or("none")) br;
                "assessment " (partner.assessment_until.as_deref().unwrap_or("none"))
            }
            @if may_act {
                td { @if partner.standing == Standing::Active {
                    details { summary { "Suspend" span.skip { " " (partner.client_id) } } (act_form("suspend", Some(&partner.client_id))) }
                } }
            }
        }
    }
}

fn decisions(decisions: &[DecisionLine]) -> Markup {
    html! {
        section aria-labelledby="decisions" {
            h2 #decisions { "Latest decisions" }
            @if decisions.is_empty() { p { "None yet." } }
            @else { div.scroll tabindex="0" role="region" aria-label="Latest decisions" { table {
                thead { tr { th scope="col" { "When" } th scope="col" { "Partner" } th scope="col" { "Asked" } th scope="col" { "Came out" } th scope="col" { "Shown" } th scope="col" { "Explained" } } }
                tbody { @for one in decisions { tr {
                    td { (clock(one.time)) }
                    td { (one.partner) }
                    td { (one.interaction) " " (one.resource_type) @if one.emergency { " " span.mind { "emergency" } } }
                    td class=(if one.kind == "refusal" { "bad" } else { "good" }) { (one.kind) @if let Some(status) = one.status { " " (status) } @if let Some(reason) = &one.reason { " " (reason) } }
                    td { (one.patients) " patients" @if one.withheld > 0 { ", " (one.withheld) " withheld" } }
                    td { a href=(format!("/decisions/{}", one.id)) { "why" span.skip { " decision " (one.id) } } }
                } } }
            } } }
        }
    }
}

fn findings(findings: &[FindingLine], rejected: Option<&str>) -> Markup {
    html! {
        section aria-labelledby="findings" {
            h2 #findings { "Findings" }
            @if let Some(rejected) = rejected { p.bad { "The files as they stand are refused; the last good generation serves on. " (rejected) } }
            @if findings.is_empty() { p.good { "Every control is met." } }
            @else { div.scroll tabindex="0" role="region" aria-label="Findings" { table {
                thead { tr { th scope="col" { "Weight" } th scope="col" { "Control" } th scope="col" { "Where" } th scope="col" { "What" } } }
                tbody { @for one in findings { tr {
                    td class=[(one.severity != "advice").then_some("mind")] { (one.severity) @if let Some(until) = &one.waived_until { ", waived until " (until) } }
                    td { code { (one.control) } } td { (one.subject) } td { (one.what) }
                } } }
            } } }
        }
    }
}
