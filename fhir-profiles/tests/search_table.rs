//! The committed search-parameter table says what the R4 definitions say.
//!
//! The definitions (hl7.org/fhir/R4/search-parameters.json) are not in this repository; where they are at hand
//! (`FHIRWALL_SHARED`, default `../../shared`), the table is rendered from them and compared. `FHIRWALL_UPDATE=1` rewrites it.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/search/table.rs");

#[test]
fn the_table_is_rendered_from_the_r4_definitions() {
    let shared = std::env::var_os("FHIRWALL_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let Ok(text) = std::fs::read(shared.join("data/r4-definitions/search-parameters.json")) else {
        println!("skipped: no R4 definitions under FHIRWALL_SHARED");
        return;
    };
    let rendered = render(&serde_json::from_slice(&text).unwrap());
    if std::env::var_os("FHIRWALL_UPDATE").is_some() {
        std::fs::write(TABLE, &rendered).unwrap();
    }
    assert!(std::fs::read_to_string(TABLE).unwrap() == rendered, "table.rs is stale: run with FHIRWALL_UPDATE=1");
}

fn render(bundle: &Value) -> String {
    let mut types: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for resource in bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]) {
        let code = resource["code"].as_str().unwrap();
        let kind = capitalised(resource["type"].as_str().unwrap());
        for base in resource["base"].as_array().unwrap().iter().map(|base| base.as_str().unwrap()) {
            let targets = targets(&resource["target"]);
            let paths = paths(base, &kind, resource["expression"].as_str().unwrap_or_default());
            let row = format!("row({code:?}, {kind}, {targets}, {paths:?}),");
            types.entry(base.to_owned()).or_default().insert(code.to_owned(), row);
        }
    }
    let mut out = String::from(
        "//! R4 (4.0.1) search parameters: facts from hl7.org/fhir/R4/search-parameters.json, by type and name, both sorted.\n\
         //! Paths are JSON element names; `[Patient]` keeps references to that type, `[system=phone]` keeps such elements.\n\
         //! Rendered by `tests/search_table.rs`; not edited by hand.\n\n\
         use super::Kind::{Composite, Date, Number, Quantity, Reference, Special, String, Token, Uri};\n\
         use super::{Row, Targets, row};\n\n\
         const NONE: Targets = Targets::Of(&[]);\n\
         const ANY: Targets = Targets::Any;\n\n\
         const fn of(targets: &'static [&'static str]) -> Targets {\n    Targets::Of(targets)\n}\n\n\
         #[rustfmt::skip]\n\
         pub(super) static PARAMETERS: &[(&str, &[Row])] = &[\n",
    );
    for (name, rows) in types {
        writeln!(out, "    ({name:?}, &[").unwrap();
        for row in rows.values() {
            writeln!(out, "        {row}").unwrap();
        }
        writeln!(out, "    ]),").unwrap();
    }
    out.push_str("];\n");
    out
}

fn targets(target: &Value) -> String {
    let mut names: Vec<&str> =
        target.as_array().map_or(Vec::new(), |all| all.iter().map(|t| t.as_str().unwrap()).collect());
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 => String::from("NONE"),
        140.. => String::from("ANY"),
        _ => format!("of(&{names:?})"),
    }
}

/// The alternatives of a FHIRPath expression that belong to `base`, as JSON paths. What has no such form has no path.
fn paths(base: &str, kind: &str, expression: &str) -> String {
    // Composites read their components, which stand apart in the definitions.
    if kind == "Composite" {
        return String::new();
    }
    // `deceased` is `exists() and != false`, `Bundle.entry[0]` is positional: neither is a path.
    if expression.contains(" and ") || expression.contains("entry[0]") {
        return String::new();
    }
    let own: Vec<String> = expression
        .split('|')
        .map(|part| part.trim().replace(['(', ')'], "\u{1}"))
        .filter_map(|part| json_path(base, &part.replace('\u{1}', "~")))
        .collect();
    own.join("|")
}

/// `~` stands for either parenthesis.
fn json_path(base: &str, part: &str) -> Option<String> {
    let trimmed = part.trim_start_matches('~');
    let rest = if trimmed == base { "" } else { trimmed.strip_prefix(base)?.strip_prefix('.')? };
    let mut out: Vec<String> = Vec::new();
    let rest = rest.replace("where~resolve~~ is ", "where~is ");
    for step in rest.split('.') {
        let step = step.trim_end_matches('~');
        if step.is_empty() {
            continue;
        }
        if let Some(choice) = step.strip_prefix("ofType~") {
            out.last_mut().unwrap().push_str(&capitalised(choice.trim()));
        } else if let Some(kind) = step.strip_prefix("where~is ") {
            write!(out.last_mut().unwrap(), "[{}]", kind.trim()).unwrap();
        } else if let Some(test) = step.strip_prefix("where~") {
            write!(out.last_mut().unwrap(), "[{}]", test.replace('\'', "")).unwrap();
        } else {
            // `x as Quantity` is how a few expressions spell `x.ofType(Quantity)`.
            match step.split_once(" as ") {
                Some((name, choice)) => out.push(format!("{}{}", name.trim(), capitalised(choice.trim()))),
                None => out.push(step.to_owned()),
            }
        }
    }
    Some(out.join("."))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
