//! The page itself, and the one that asks for a confirmation.

use maud::{DOCTYPE, Markup, html};
use time::macros::format_description;

use super::board::{Act, Board, LockdownLine, May, Standing};
use super::table::table;
use super::{plot, sections};

/// The page for a viewer who may do this. `notice`: what has just been done.
pub fn page(board: &Board, may: May, notice: Option<&str>) -> String {
    let body = html! {
        @if let Some(notice) = notice { p.notice role="status" { (notice) } }
        (tiles(board))
        (lockdowns(&board.lockdowns, may))
        (traffic(board))
        (sections::behaviour(board, may))
        (sections::partners(&board.partners, may))
        (sections::decisions(&board.decisions, may))
        (sections::findings(&board.findings, board.rejected.as_deref()))
    };
    framed(board, "Overview", &body)
}

/// Asks whether an act is meant. Nothing has happened yet.
pub fn confirm(board: &Board, act: &Act) -> String {
    let body = html! {
        section.card aria-labelledby="meant" {
            h2 #meant { "Is this what you mean?" }
            p.asked { (act.sentence()) }
            @match act {
                Act::Suspend { reason, .. } | Act::WithholdPart2 { reason, .. } => p { "Why: " (reason) },
                Act::Lift { .. } => p { "Why it was begun, and by whom, stands on record." },
            }
            form method="post" action="/acts" {
                (hidden("act", act.name()))
                @match act {
                    Act::Suspend { client_id, hours, reason } => {
                        (hidden("client_id", client_id)) (hidden("hours", &hours.to_string())) (hidden("reason", reason))
                    },
                    Act::WithholdPart2 { hours, reason } => {
                        (hidden("hours", &hours.to_string())) (hidden("reason", reason))
                    },
                    Act::Lift { id } => { (hidden("id", id)) },
                }
                (hidden("confirmed", "yes"))
                button.danger type="submit" { "Yes, do it" }
                a.button href="/" { "No, back to the overview" }
            }
        }
    };
    framed(board, "Confirm", &body)
}

pub(super) fn framed(board: &Board, title: &str, body: &Markup) -> String {
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
                header { div.bar {
                    h1 { a href="/" { "fhirwall" } }
                    nav aria-label="Sections" {
                        ul {
                            @for (id, name) in [("lockdowns", "Lockdowns"), ("traffic", "Traffic"), ("behaviour", "Behaviour"),
                                ("partners", "Partners"), ("decisions", "Decisions"), ("findings", "Findings")] {
                                li { a href=(format!("/#{id}")) { (name) } }
                            }
                        }
                    }
                    p.asof { "Version " (board.version) ", generation " (board.generation) ", as of " (clock(board.now)) " UTC" }
                } }
                main #main tabindex="-1" { (body) }
            }
        }
    };
    page.into_string()
}

pub(super) fn clock(time: time::OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")).unwrap_or_default()
}

fn tiles(board: &Board) -> Markup {
    let open = board.findings.iter().filter(|finding| finding.waived_until.is_none()).count();
    let served = board.partners.iter().filter(|partner| partner.standing == Standing::Active).count();
    let all = served == board.partners.len();
    html! {
        section aria-labelledby="state" {
            h2.unseen #state { "State" }
            ul.tiles {
                @match board.mode.as_str() {
                    "enforce" => (tile("good", "enforced", "decisions are carried out")),
                    mode => (tile("mind", mode, "decisions are recorded and not carried out")),
                }
                (tile(if all { "good" } else { "mind" }, &format!("{served} of {}", board.partners.len()), "partners are served"))
                (tile(if open == 0 { "good" } else { "mind" }, &open.to_string(), "findings are open"))
                @match &board.audit_head {
                    Some((seq, digest)) => li.good { b { (seq) } span { "records under the signed head " code { (digest.get(..12).unwrap_or(digest)) } } },
                    None => (tile("mind", "none", "signed head of the audit chain yet")),
                }
            }
            ul.checks aria-label="Readiness" {
                @for check in &board.checks {
                    li class=(if check.ready { "good" } else { "bad" }) {
                        b { (if check.ready { "well" } else { "not well" }) } " " (check.name) ": " (check.detail)
                    }
                }
            }
        }
    }
}

fn tile(class: &str, number: &str, words: &str) -> Markup {
    html! { li class=(class) { b { (number) } span { (words) } } }
}

fn traffic(board: &Board) -> Markup {
    let bars = |id, title, of, class, nothing| plot::Bars { id, title, of, class, nothing };
    html! {
        section aria-labelledby="traffic" {
            h2 #traffic { "Traffic" }
            div.plots {
                (plot::minutes(&board.minutes))
                (plot::ranked(&bars("reasons", "Refusals by reason", "refusals since the start", "refused", "Nothing was refused since the start."), &board.refusals))
                (plot::ranked(&bars("labels", "Withheld by label", "records withheld since the start", "withheld", "Nothing was withheld since the start."), &board.redactions))
                (plot::spread(&bars("audit", "Time until a record is durable", "records since the start", "plain", "Nothing was recorded since the start."), &board.audit_spread))
                @if !board.consents.is_empty() {
                    (plot::ranked(&bars("consents", "Consents by outcome", "consents evaluated since the start", "plain", ""), &board.consents))
                }
            }
        }
    }
}

fn lockdowns(lockdowns: &[LockdownLine], may: May) -> Markup {
    let columns: &[&str] =
        if may.act { &["What", "Until", "Why", "By", "Act"] } else { &["What", "Until", "Why", "By"] };
    let rows = lockdowns.iter().map(|one| {
        let mut row =
            vec![html! { span.bad { (one.what) } }, html! { (one.until) }, html! { (one.reason) }, html! { (one.by) }];
        if may.act {
            row.push(html! { form method="post" action="/acts" {
                (hidden("act", "lift")) (hidden("id", &one.id))
                button type="submit" { "Lift" span.unseen { " the lockdown of " (one.what) } }
            } });
        }
        row
    });
    let rows: Vec<_> = rows.collect();
    html! {
        section aria-labelledby="lockdowns" {
            h2 #lockdowns { "Lockdowns" }
            @if rows.is_empty() { p { "Nothing is locked down." } }
            @else { (table("Lockdowns in force", columns, &rows)) }
            @if may.act {
                details { summary { "Withhold all Part 2 data from everybody" } (act_form("withhold-part2", None)) }
            }
        }
    }
}

pub(super) fn act_form(act: &str, client_id: Option<&str>) -> Markup {
    html! {
        form method="post" action="/acts" {
            (hidden("act", act))
            @if let Some(client_id) = client_id { (hidden("client_id", client_id)) }
            label { "For how many hours" input type="number" name="hours" min="1" max="720" value="24" required; }
            label.long { "Why" input type="text" name="reason" required maxlength="200"; }
            button.danger type="submit" { "Continue" }
        }
    }
}

fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}
