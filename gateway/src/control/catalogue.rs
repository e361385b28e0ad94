//! The catalogue as a page.

use std::fmt::Write as _;

use crate::control::{Held, controls};

/// `docs/controls.md`: every rule with its weight, source and fix.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Controls\n\n\
         Written by `fhirwall check --catalogue`; a test compares it with the code.\n\n\
         `fhirwall check` holds a configuration against these rules. A **violation** keeps the gateway from starting, a\n\
         **risk** asks for a decision, **advice** for a thought. A rule that is held *at load* cannot be waived: a file that\n\
         breaks it is no configuration. A rule that is held *by scan* needs the neighbours: `fhirwall scan` asks them. Any other may be waived for a time, with a reason and an owner:\n\n\
         ```yaml\n\
         waivers:\n\
         \x20 - {control: upstream-spare, subject: \"endpoints[main].upstream\", reason: second site opens in May, owner: platform@example.org, until: 2027-05-31}\n\
         ```\n\n\
         | id | weight | asks | rests on | fix | held |\n|---|---|---|---|---|---|\n",
    );
    for control in controls() {
        let held = match control.held {
            Held::AtLoad(_) => "at load",
            Held::ByCheck(_) => "by check",
            Held::ByScan => "by scan",
        };
        let (id, severity, asks, cites, fix) = (control.id, control.severity, control.asks, control.cites, control.fix);
        // Writing to a string cannot fail.
        let _written =
            writeln!(page, "| `{id}` | {severity} | {asks} | {cites} | {} | {held} |", fix.replace('|', "\\|"));
    }
    page
}
