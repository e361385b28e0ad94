//! How findings are printed: the same for `check`, `scan` and `report`.

use anstream::println;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::control::{Finding, Severity};
use crate::reach::Reached;

/// Prints each finding in the colour of its weight.
pub(super) fn tell(findings: &[Finding]) {
    for finding in findings {
        let colour = match (finding.waiver.is_some(), finding.control.severity) {
            (true, _) | (false, Severity::Advice) => AnsiColor::Cyan,
            (false, Severity::Risk) => AnsiColor::Yellow,
            (false, Severity::Violation) => AnsiColor::Red,
        };
        let style = Style::new().fg_color(Some(colour.into()));
        println!("{style}{finding}{style:#}\n");
    }
}

/// Prints who answered and who did not.
pub(super) fn tell_reached(reached: &[Reached]) {
    for one in reached {
        match &one.failure {
            None => println!("reached     {}", one.what),
            Some(failure) => println!("not reached {}: {failure}", one.what),
        }
    }
}

pub(super) fn as_json(one: &Finding) -> Value {
    json!({
        "id": one.control.id,
        "severity": one.control.severity.to_string(),
        "requirement": one.control.cites,
        "subject": one.subject,
        "finding": one.what,
        "fix": one.control.fix,
        "waiver": one.waiver.as_ref().map(|waiver| {
            json!({"reason": waiver.reason, "owner": waiver.owner, "until": waiver.until.to_string()})
        }),
    })
}

pub(super) fn reached_as_json(one: &Reached) -> Value {
    json!({"what": one.what, "failure": one.failure})
}
