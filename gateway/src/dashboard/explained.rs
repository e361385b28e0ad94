//! A decision, for people: what was asked, how it came out, and why.

use maud::{Markup, html};
use serde_json::Value;

use super::board::Board;
use super::page::framed;

/// The page of a decision record as `GET /decisions/{id}` gives it. It may name a patient: the caller has seen to the role.
pub fn explained(board: &Board, id: &str, record: &Value) -> String {
    let words = record.get("explanation").and_then(Value::as_str);
    let body = html! {
        section.card aria-labelledby="decision" {
            h2 #decision { "Decision " code { (id) } }
            @if let Some(words) = words { pre tabindex="0" role="region" aria-label="Explanation" { (words) } }
            dl { @for (name, value) in record.as_object().into_iter().flatten().filter(|(name, _)| !["explanation", "facts", "decision"].contains(&name.as_str())) {
                dt { (name.replace('_', " ")) } dd { (shown(value)) }
            } }
            @if let Some(facts) = record.get("facts") {
                details { summary { "The facts it was decided on" } pre tabindex="0" role="region" aria-label="Facts" { (serde_json::to_string_pretty(facts).unwrap_or_default()) } }
            }
            p { a.button href="/#decisions" { "Back to the decisions" } }
        }
    };
    framed(board, "Decision", &body)
}

fn shown(value: &Value) -> Markup {
    match value {
        Value::String(text) => html! { (text) },
        Value::Array(all) if all.is_empty() => html! { "none" },
        Value::Array(all) => html! { ul { @for one in all { li { (shown(one)) } } } },
        Value::Object(members) => {
            html! { ul { @for (name, one) in members { li { (name.replace('_', " ")) ": " (shown(one)) } } } }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => html! { (value) },
    }
}
