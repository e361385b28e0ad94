//! The sections below the traffic: behaviour, partners, decisions, findings.

use maud::{Markup, html};

use super::board::{Board, DecisionLine, FindingLine, May, PartnerLine, Standing};
use super::page::{act_form, clock};
use super::table::table;

pub(super) fn behaviour(board: &Board, may: May) -> Markup {
    let rows = board.notices.iter().map(|one| {
        let weight = if one.done == "observe" { "mind" } else { "bad" };
        vec![
            html! { time { (clock(one.time)) } },
            html! { code { (one.partner) } },
            html! { meter min="0" low="40" high="60" max="100" optimum="0" value=(format!("{:.0}", one.score)) aria-label="Score" {} " " (format!("{:.0}", one.score)) " of 100" },
            html! { ul { @for reason in &one.reasons { li { (reason) } } } },
            html! { span class=(weight) { (done(&one.done)) } @if one.called_for != one.done { br; "called for: " (done(&one.called_for)) } },
            why(&one.decision, may),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let columns = ["When", "App", "Score", "Why", "Answer", "Decision"];
    html! {
        section aria-labelledby="behaviour" {
            h2 #behaviour { "Behaviour that stood out" }
            @if board.scores_in_shadow { p { "Scores show here what they would bring, and bring nothing; the rules of the configuration are carried out." } }
            @if rows.is_empty() { p { "Nobody's, since the start." } }
            @else { (table("Behaviour that stood out", &columns, &rows)) }
            @if !board.risks.is_empty() {
                details { summary { "Signals since the start, with what they called for" }
                    ul { @for (name, count) in &board.risks { li { (name) ": " (count) } } }
                }
            }
        }
    }
}

/// An answer in words.
fn done(answer: &str) -> &str {
    match answer {
        "observe" => "only watched",
        "escalate" => "people were told",
        "throttle" => "slowed down",
        "step-up" => "asked to authenticate anew",
        "terminate" => "stopped",
        other => other,
    }
}

fn why(decision: &str, may: May) -> Markup {
    html! {
        @if may.explain { a href=(format!("/decisions/{decision}")) { "why" span.unseen { " decision " (decision) } } }
        @else { code { (decision) } }
    }
}

pub(super) fn partners(partners: &[PartnerLine], may: May) -> Markup {
    let mut columns = vec!["Partner", "Standing", "For", "Granted and used", "Quotas", "Requests", "Evidence until"];
    if may.act {
        columns.push("Act");
    }
    let rows: Vec<_> = partners.iter().map(|partner| partner_row(partner, may)).collect();
    html! {
        section aria-labelledby="partners" {
            h2 #partners { "Partners" }
            @if rows.is_empty() { p { "None is registered: everybody is refused." } }
            @else { (table("Partners", &columns, &rows)) }
        }
    }
}

fn partner_row(partner: &PartnerLine, may: May) -> Vec<Markup> {
    let mut row = vec![
        html! { (partner.name) br; code { (partner.client_id) } },
        match &partner.standing {
            Standing::Active => html! { span.good { "active" } },
            Standing::Suspended => html! { span.bad { "suspended" } },
            Standing::LockedDown(until) => html! { span.bad { "locked down until " (until) } },
        },
        html! { (partner.purposes) br; (partner.part2) },
        html! { details { summary { (partner.scopes.len()) " scopes, " (partner.used.len()) " uses" }
            ul { @for scope in &partner.scopes { li { code { (scope) } } } @for used in &partner.used { li { "used: " (used) } } }
        } },
        html! { (partner.quotas) },
        html! { (partner.requests) " (" (partner.refused) " refused)" },
        html! { span class=[partner.evidence_ended.then_some("bad")] {
            "agreement " span.date { (partner.agreement_until.as_deref().unwrap_or("none")) } br;
            "assessment " span.date { (partner.assessment_until.as_deref().unwrap_or("none")) }
        } },
    ];
    if may.act {
        row.push(html! {
            @if partner.standing == Standing::Active {
                details { summary { "Suspend" span.unseen { " " (partner.client_id) } } (act_form("suspend", Some(&partner.client_id))) }
            } @else { "none" }
        });
    }
    row
}

pub(super) fn decisions(decisions: &[DecisionLine], may: May) -> Markup {
    let rows = decisions.iter().map(|one| {
        vec![
            html! { time { (clock(one.time)) } },
            html! { code { (one.partner) } },
            html! { (one.interaction) " " (one.resource_type) @if one.emergency { " " span.mind { "emergency" } } },
            html! {
                span class=(if one.kind == "refusal" { "bad" } else { "good" }) { (one.kind) @if let Some(status) = one.status { " " (status) } }
                @if let Some(reason) = &one.reason { " " (reason) }
            },
            html! { (counted(one.patients, "patient", "patients")) @if one.withheld > 0 { ", " (one.withheld) " withheld" } },
            why(&one.id, may),
        ]
    });
    let rows: Vec<_> = rows.collect();
    html! {
        section aria-labelledby="decisions" {
            h2 #decisions { "Latest decisions" }
            @if rows.is_empty() { p { "None yet." } }
            @else { (table("Latest decisions", &["When", "Partner", "Asked", "Came out", "Shown", "Explained"], &rows)) }
        }
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

pub(super) fn findings(findings: &[FindingLine], rejected: Option<&str>) -> Markup {
    let rows = findings.iter().map(|one| {
        vec![
            html! { code { (one.control) } },
            html! { span class=[(one.severity != "advice").then_some("mind")] { (one.severity) @if let Some(until) = &one.waived_until { ", waived until " (until) } } },
            html! { (one.subject) },
            html! { (one.what) },
        ]
    });
    let rows: Vec<_> = rows.collect();
    html! {
        section aria-labelledby="findings" {
            h2 #findings { "Findings" }
            @if let Some(rejected) = rejected { p.bad { "The files as they stand are refused; the last good generation serves on. " (rejected) } }
            @if rows.is_empty() { p.good { "Every control is met." } }
            @else { (table("Findings", &["Control", "Weight", "Where", "What"], &rows)) }
        }
    }
}
