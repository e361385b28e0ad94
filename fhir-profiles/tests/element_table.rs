//! The committed element table says what the R4 resource definitions say.
//!
//! The definitions (hl7.org/fhir/R4/profiles-resources.json, 35 MB) are not in this repository; where
//! `FHIRWALL_R4_PROFILES` names the file, the table is rendered from it and compared. `FHIRWALL_UPDATE=1` rewrites it.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::fmt::Write as _;

use fhir_profiles::ids::ResourceType;
use serde_json::Value;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/present/table.rs");

#[test]
fn the_table_is_rendered_from_the_r4_definitions() {
    let Some(path) = std::env::var_os("FHIRWALL_R4_PROFILES") else {
        println!("skipped: FHIRWALL_R4_PROFILES does not name profiles-resources.json");
        return;
    };
    let rendered = render(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
    if std::env::var_os("FHIRWALL_UPDATE").is_some() {
        std::fs::write(TABLE, &rendered).unwrap();
    }
    assert!(std::fs::read_to_string(TABLE).unwrap() == rendered, "table.rs is stale: run with FHIRWALL_UPDATE=1");
}

fn render(bundle: &Value) -> String {
    let mut out = String::from(
        "//! Top-level elements of R4 (4.0.1) resources: facts from hl7.org/fhir/R4/profiles-resources.json, by type, sorted.\n\
         //! First the elements that are mandatory or modifiers, then those of the summary; choices with each of their types.\n\
         //! Rendered by `tests/element_table.rs`; not edited by hand.\n\n\
         #[rustfmt::skip]\n\
         pub(super) static ELEMENTS: &[(&str, &str, &str)] = &[\n",
    );
    for kind in ResourceType::every() {
        let definition = bundle["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["resource"])
            .find(|resource| resource["resourceType"] == "StructureDefinition" && resource["id"] == kind.as_str())
            .unwrap();
        let elements = definition.pointer("/snapshot/element").and_then(Value::as_array).unwrap();
        let kept = names(elements, |element| element["min"].as_u64() > Some(0) || element["isModifier"] == true);
        let summary = names(elements, |element| element["isSummary"] == true);
        writeln!(out, "    ({:?}, {kept:?}, {summary:?}),", kind.as_str()).unwrap();
    }
    out.push_str("];\n");
    out
}

fn names(elements: &[Value], keep: impl Fn(&Value) -> bool) -> String {
    let mut names: Vec<String> = Vec::new();
    for element in elements.iter().filter(|element| keep(element)) {
        let path = element["path"].as_str().unwrap();
        let Some((_, name)) = path.split_once('.') else { continue };
        if name.contains('.') {
            continue;
        }
        match name.strip_suffix("[x]") {
            None => names.push(name.to_owned()),
            Some(stem) => {
                for kind in element["type"].as_array().unwrap() {
                    let mut letters = kind["code"].as_str().unwrap().chars();
                    let first = letters.next().unwrap().to_uppercase();
                    names.push(format!("{stem}{first}{}", letters.as_str()));
                }
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}
