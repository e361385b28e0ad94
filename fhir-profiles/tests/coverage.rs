//! `docs/fhir-coverage.md` is what the code says: every row is a request that was asked. `FHIRWALL_UPDATE=1` rewrites it.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::fmt::Write as _;

use fhir_profiles::compartment::{self, Role};
use fhir_profiles::ids::ResourceType;
use fhir_profiles::interaction::{Access, Class, Interaction, ParseError, Path, RequestParts, interpret};
use fhir_profiles::operation::Operation;
use fhir_profiles::search::{Kind, definitions};
use fhir_profiles::stated::RULES;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fhir-coverage.md");

#[test]
fn the_document_says_what_the_code_does() {
    let rendered =
        [head(), interactions(), parameters(), modifiers(), types(), stated(), operations(), bundles(), errors()]
            .concat();
    if std::env::var_os("FHIRWALL_UPDATE").is_some() {
        std::fs::write(DOCUMENT, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(committed == rendered, "docs/fhir-coverage.md is stale: run this test with FHIRWALL_UPDATE=1");
}

fn head() -> String {
    String::from(
        "# FHIR R4 coverage\n\n\
         Rendered from the code by `fhir-profiles/tests/coverage.rs`; not edited by hand. Each row was asked of the parser,\n\
         and those on interactions, common parameters, types and operations of HAPI FHIR through the gateway (`.ci/outside hapi`,\n\
         [what it said](evidence/hapi.txt)).\n\
         Other FHIR versions are refused (406). Letters are SMART v2: `c r u d s`; `any:` marks a type whose rows are judged\n\
         as they come, without refusing the request.\n\n",
    )
}

fn ask(method: &str, target: &str) -> Result<Interaction, ParseError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let content_type = match method {
        "POST" if target.contains("_search") => None,
        "POST" | "PUT" => Some("application/fhir+json"),
        "PATCH" => Some("application/json-patch+json"),
        _ => None,
    };
    interpret(&RequestParts { method, path, query, content_type, ..RequestParts::default() })
}

fn class(error: ParseError) -> &'static str {
    match error.class() {
        Class::Malformed => "400",
        Class::UnknownParameter => "400 unknown",
        Class::UnsupportedParameter => "400 not-supported",
        Class::ParameterNotAllowed | Class::UnsupportedInteraction | Class::OperationNotAllowed => "403",
        Class::UnknownResourceType | Class::NoInteraction | Class::UnknownOperation => "404",
        Class::NotAcceptable => "406",
        Class::UnsupportedMediaType => "415",
        Class::TooLarge => "413",
    }
}

fn touched(interaction: &Interaction) -> String {
    let facts = interaction.touched();
    if facts.len() > 12 {
        return format!("{} types", facts.len());
    }
    let letter = |access| match access {
        Access::Create => 'c',
        Access::Read => 'r',
        Access::Update => 'u',
        Access::Delete => 'd',
        Access::Search => 's',
    };
    let path = |path| match path {
        Path::Target => "",
        Path::Include => "include:",
        Path::RevInclude => "revinclude:",
        Path::AnyOf => "any:",
        Path::Chain => "chain:",
        Path::Has => "has:",
        Path::Sort => "sort:",
    };
    let facts: Vec<String> =
        facts.iter().map(|fact| format!("{}{}.{}", path(fact.path), fact.kind, letter(fact.access))).collect();
    if facts.is_empty() { String::from("nothing") } else { facts.join(", ") }
}

/// What becomes of a request: what it touches, or its refusal.
fn verdict(asked: &Result<Interaction, ParseError>) -> String {
    match asked {
        Ok(interaction) => touched(interaction),
        Err(error) => format!("refused: {} ({error})", class(*error)),
    }
}

fn interactions() -> String {
    let mut out = String::from("## Interactions\n\n| request | interaction | touches |\n|---|---|---|\n");
    for (method, target) in [
        ("GET", "/metadata"),
        ("GET", "/Observation/1"),
        ("HEAD", "/Observation/1"),
        ("GET", "/Observation/1/_history/2"),
        ("GET", "/Observation/1/_history"),
        ("GET", "/Observation/_history"),
        ("GET", "/_history"),
        ("GET", "/Observation?patient=a"),
        ("POST", "/Observation/_search"),
        ("GET", "/?_type=Patient,Observation"),
        ("GET", "/?_id=a"),
        ("GET", "/Patient/a/Observation"),
        ("GET", "/Patient/a/*"),
        ("GET", "/Encounter/e/Observation"),
        ("POST", "/Observation"),
        ("PUT", "/Observation/1"),
        ("PUT", "/Observation?patient=a"),
        ("PUT", "/Observation"),
        ("PATCH", "/Observation/1"),
        ("PATCH", "/Observation?patient=a"),
        ("DELETE", "/Observation/1"),
        ("DELETE", "/Observation?patient=a"),
        ("GET", "/_page/token"),
        ("GET", "/_export/token"),
        ("DELETE", "/_export/token"),
        ("GET", "/_export/token/1"),
        ("OPTIONS", "/Observation"),
        ("GET", "/observation/1"),
        ("GET", "/Observation/1/"),
        ("GET", "/Observation/%31"),
    ] {
        let asked = ask(method, target);
        let code = asked.as_ref().map_or("", Interaction::code);
        writeln!(out, "| `{method} {target}` | {code} | {} |", verdict(&asked)).unwrap();
    }
    out.push('\n');
    out
}

fn parameters() -> String {
    let mut out = String::from(
        "## Parameters of every search\n\nBeside these, every parameter that R4 defines for the type is typed by the committed table.\n\n\
         | parameter | touches |\n|---|---|\n",
    );
    for query in [
        "_id=a",
        "_lastUpdated=ge2024",
        "_profile=http://x",
        "_security=x",
        "_tag=x",
        "_source=x",
        "_text=x",
        "_content=x",
        "_filter=x",
        "_query=x",
        "_list=x",
        "_contained=true",
        "_containedType=container",
        "_has:AuditEvent:entity:agent=x",
        "patient.name=x",
        "subject.name=x",
        "_include=Observation:patient",
        "_include=Observation:subject",
        "_include:iterate=Patient:organization",
        "_include=*",
        "_include:recurse=Patient:organization",
        "_revinclude=Provenance:target",
        "_revinclude=*:*",
        "_sort=-date",
        "_sort=_score",
        "_count=20",
        "_count=0",
        "_elements=code",
        "_summary=true",
        "_summary=text",
        "_summary=data",
        "_summary=count",
        "_total=none",
        "_total=estimate",
        "_total=accurate",
        "_format=json",
        "_format=xml",
        "_pretty=true",
        "_graph=x",
        "code=",
        "date=yesterday",
        "code-value-quantity=x%24gt5",
    ] {
        writeln!(out, "| `{query}` | {} |", verdict(&ask("GET", &format!("/Observation?{query}")))).unwrap();
    }
    out.push('\n');
    out
}

fn modifiers() -> String {
    const MODIFIERS: &[&str] = &[
        "missing",
        "exact",
        "contains",
        "text",
        "not",
        "in",
        "not-in",
        "above",
        "below",
        "of-type",
        "identifier",
        "Patient",
    ];
    let mut out =
        format!("## Modifiers\n\n| parameter | {} |\n|---|{}\n", MODIFIERS.join(" | "), "---|".repeat(MODIFIERS.len()));
    for (name, value) in [
        ("Patient?name", "x"),
        ("Observation?code", "x"),
        ("Observation?status", "final"),
        ("Patient?identifier", "a%7Cb%7Cc"),
        ("Observation?subject", "a"),
        ("Observation?date", "2024"),
        ("Observation?value-quantity", "5"),
        ("ValueSet?url", "http://x"),
    ] {
        let cells: Vec<&str> = MODIFIERS
            .iter()
            .map(|modifier| ask("GET", &format!("/{name}:{modifier}={value}")).map_or_else(class, |_| "yes"))
            .collect();
        writeln!(out, "| `{}` | {} |", name.replace('?', "."), cells.join(" | ")).unwrap();
    }
    out.push('\n');
    out
}

fn types() -> String {
    let mut out = String::from(
        "## Types\n\nSubject parameters are those that say whose a resource is; other members of R4's compartment admit nothing.\n\
         \"Unreadable\" counts parameters whose R4 expression is no element path: a granular scope with one of them denies.\n\n\
         | type | parameters | unreadable | subject parameters | subject elements | other members of the compartment |\n\
         |---|---|---|---|---|---|\n",
    );
    for kind in ResourceType::every() {
        let rows = definitions(kind);
        let unreadable = rows.iter().filter(|row| row.paths.is_empty() || row.kind == Kind::Special).count();
        let others: Vec<&str> =
            rows.iter().map(|row| row.name).filter(|name| compartment::role(kind, name) == Some(Role::Other)).collect();
        let subjects: Vec<&str> = compartment::subject_parameters(kind).collect();
        writeln!(
            out,
            "| {kind} | {} | {unreadable} | {} | {} | {} |",
            rows.len(),
            if kind == ResourceType::PATIENT { String::from("_id") } else { subjects.join(", ") },
            compartment::subject_paths(kind).join(", "),
            others.join(", "),
        )
        .unwrap();
    }
    out.push('\n');
    out
}

fn stated() -> String {
    let mut out = String::from(
        "## Types with a rule of their own\n\nBeside scope, compartment, label and consent.\n\n\
         | type | rule | shown by |\n|---|---|---|\n",
    );
    for rule in RULES {
        assert!(rule.kind.parse::<ResourceType>().is_ok(), "{}", rule.kind);
        let (file, test) = rule.shown_by.split_once(": ").unwrap();
        let tests = std::fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(tests.contains(&format!("fn {test}(")), "no test {test} in {file}");
        writeln!(out, "| {} | {} | `{test}` |", rule.kind, rule.says).unwrap();
    }
    out.push('\n');
    out
}

fn operations() -> String {
    let mut out = String::from("## Operations\n\n| operation | rule |\n|---|---|\n");
    for operation in Operation::ALL {
        writeln!(out, "| `${}` | {} |", operation.name(), operation.rule()).unwrap();
    }
    for name in Operation::refused() {
        for target in [format!("/${name}"), format!("/Patient/${name}"), format!("/Patient/a/${name}")] {
            assert_eq!(ask("GET", &target), Err(ParseError::OperationNotAllowed), "{target}");
        }
    }
    let refused: Vec<String> = Operation::refused().iter().map(|name| format!("`${name}`")).collect();
    writeln!(out, "\nKnown and refused to everybody (403): {}. Any other name: 404.\n", refused.join(", ")).unwrap();
    out
}

fn bundles() -> String {
    let mut out = String::from(
        "## Bundles posted to the base\n\nAt most `limits.bundle_entries` entries; each entry is judged as a request of its own.\n\n\
         | `Bundle.type` | answer |\n|---|---|\n",
    );
    for kind in ["batch", "transaction", "document", "message", "history", "searchset", "collection", "batch-response"]
    {
        let body = format!(r#"{{"resourceType":"Bundle","type":"{kind}"}}"#);
        let asked = interpret(&RequestParts {
            method: "POST",
            path: "/",
            content_type: Some("application/fhir+json"),
            body: Some(body.as_bytes()),
            ..RequestParts::default()
        });
        let answer =
            asked.map_or_else(|error| format!("refused: {}", class(error)), |_| String::from("entry by entry"));
        writeln!(out, "| `{kind}` | {answer} |").unwrap();
    }
    out.push('\n');
    out
}

fn errors() -> String {
    let mut out = String::from("## Refusals of the parser\n\n| status | said |\n|---|---|\n");
    for error in ParseError::ALL {
        writeln!(out, "| {} | {error} |", class(*error)).unwrap();
    }
    out
}
