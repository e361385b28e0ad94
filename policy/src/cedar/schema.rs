//! The schema text: the committed structure, and the code lists of this crate and of `fhir-profiles`.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::Label;

use crate::purpose::PurposeOfUse;

const STRUCTURE: &str = include_str!("../../policies/schema.cedarschema");

/// The whole schema in Cedar's schema syntax, as policies are validated against it.
pub fn schema_text() -> String {
    let mut text = String::from(STRUCTURE);
    text.push_str(&enumeration("Purpose", PurposeOfUse::ALL.iter().map(|purpose| purpose.code())));
    text.push_str(&enumeration("Label", Label::all().map(Label::code)));
    text.push_str(&enumeration("Kind", ResourceType::all().iter().copied()));
    text
}

fn enumeration<'a>(name: &str, codes: impl Iterator<Item = &'a str>) -> String {
    let mut known = std::collections::BTreeSet::new();
    let quoted: Vec<String> = codes.filter(|code| known.insert(*code)).map(|code| format!("\"{code}\"")).collect();
    format!("entity {name} enum [{}];\n", quoted.join(", "))
}
