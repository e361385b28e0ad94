//! Laws of the parser: it never panics, what it prints it parses back, and order changes no fact.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use fhir_profiles::bundle;
use fhir_profiles::ids::ResourceType;
use fhir_profiles::interaction::{Interaction, RequestParts, Upstream, interpret};
use fhir_profiles::patch::Patch;
use fhir_profiles::reference::Reference;
use fhir_profiles::search::{Query, matches};
use proptest::prelude::*;

const BASE: &str = "https://fhir.example.org/fhir";

/// Pieces that mean something here, so that random requests come close to real ones.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/",
        "Patient",
        "Observation",
        "a",
        "_history",
        "_search",
        "$everything",
        "$export",
        "metadata",
        "_page",
        "..",
        "%2e",
        "?",
        "&",
        "=",
        ":",
        ".",
        ",",
        "|",
        "\\",
        "%",
        "+",
        "%20",
        "%00",
        "patient",
        "subject",
        "code",
        "_has",
        "_include",
        "_revinclude",
        "_sort",
        "_elements",
        "_type",
        "_count",
        "_id",
        "date",
        "ge2024",
        "2024-01-01",
        "Patient/a",
        "missing",
        "not",
        "Observation:subject",
        "name",
        "identifier",
        "*",
        "#",
        ";",
        "é",
        "\u{0}",
    ]);
    prop_oneof![4 => known.prop_map(String::from), 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

/// A parameter that is allowed on Observation.
fn parameter() -> impl Strategy<Value = String> {
    let value = "[a-zA-Z0-9|%,é ]{0,6}x";
    let encoded = |text: String| text.replace('%', "%25").replace(' ', "+").replace('|', "%7C").replace('é', "%C3%A9");
    prop_oneof![
        value.prop_map(move |value| format!("identifier={}", encoded(value.replace('|', "")))),
        "[a-z|]{1,3}[a-z]".prop_map(move |value| format!("code={}", encoded(value))),
        "[A-Za-z0-9.-]{1,8}".prop_filter("dots", |id| id != "." && id != "..").prop_map(|id| format!("patient={id}")),
        (1990_u32..2030).prop_map(|year| format!("date=ge{year}")),
        Just(String::from("_include=Observation:subject")),
        Just(String::from("_revinclude=Provenance:target")),
        Just(String::from("_has:AuditEvent:entity:agent=x")),
        Just(String::from("subject:Patient.name:exact=x")),
        (1_u32..200).prop_map(|count| format!("value-quantity={count}.5")),
    ]
}

fn get(target: &str) -> Option<Interaction> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    interpret(&RequestParts { method: "GET", path, query, base: BASE, ..RequestParts::default() }).ok()
}

fn parsed_back(upstream: &Upstream) -> Interaction {
    interpret(&RequestParts {
        method: upstream.method.as_str(),
        path: &upstream.path,
        query: (!upstream.query.is_empty()).then_some(upstream.query.as_str()),
        form: upstream.form.as_deref(),
        content_type: upstream.form.as_ref().map(|_| "application/x-www-form-urlencoded"),
        base: BASE,
        ..RequestParts::default()
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn parse_never_panics_and_what_it_prints_it_parses_back(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "X"]),
        path in text(),
        query in prop::option::of(text()),
        form in prop::option::of(text()),
        body in prop::option::of(text()),
        content_type in prop::option::of(prop::sample::select(vec!["application/fhir+json", "application/json-patch+json", "application/x-www-form-urlencoded"])),
    ) {
        let path = format!("/{path}");
        let asked = interpret(&RequestParts {
            method,
            path: &path,
            query: query.as_deref(),
            form: form.as_deref(),
            content_type,
            body: body.as_deref().map(str::as_bytes),
            base: BASE,
            ..RequestParts::default()
        });
        if let Ok(interaction) = asked {
            let _ = interaction.touched();
            let _ = format!("{interaction:?}");
        }
    }

    #[test]
    fn a_read_or_search_that_is_sent_is_the_one_that_was_asked(target in text()) {
        let Some(interaction) = get(&format!("/{target}")) else { return Ok(()) };
        if let Some(upstream) = interaction.upstream() {
            let again = parsed_back(&upstream);
            prop_assert_eq!(again.touched(), interaction.touched());
            prop_assert_eq!(again.upstream(), Some(upstream));
            let legal = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>');
            let sent = interaction.upstream().unwrap();
            prop_assert!(sent.path.bytes().chain(sent.query.bytes()).all(legal));
        }
    }

    #[test]
    fn the_order_of_parameters_changes_no_fact(mut parameters in prop::collection::vec(parameter(), 0..8), seed in any::<usize>()) {
        let before = get(&format!("/Observation?{}", parameters.join("&"))).map(|asked| asked.touched());
        let constraint = |parameters: &[String]| {
            let asked = get(&format!("/Observation?{}", parameters.join("&")))?;
            Some(asked.query()?.patient_constraint("Observation".parse().ok()?))
        };
        let named = constraint(&parameters);
        if !parameters.is_empty() {
            let middle = seed % parameters.len();
            parameters.rotate_left(middle);
        }
        prop_assert_eq!(get(&format!("/Observation?{}", parameters.join("&"))).map(|asked| asked.touched()), before);
        prop_assert_eq!(constraint(&parameters), named.clone());
        parameters.extend(parameters.clone());
        prop_assert_eq!(constraint(&parameters), named, "repeating a criterion changes nothing");
    }

    #[test]
    fn a_search_held_to_a_patient_says_so(parameters in prop::collection::vec(parameter(), 0..5)) {
        let kind: ResourceType = "Observation".parse().unwrap();
        let Ok(query) = Query::search(&[kind], Some(&parameters.join("&")), None, BASE) else { return Ok(()) };
        let patient = "only-one".parse().unwrap();
        let held = query.with_patient(kind, &patient).unwrap();
        match held.patient_constraint(kind) {
            fhir_profiles::search::PatientConstraint::Exactly(named) => prop_assert_eq!(named.into_iter().collect::<Vec<_>>(), vec![patient]),
            // the client named somebody else: nothing is left
            fhir_profiles::search::PatientConstraint::Unusable => prop_assert!(parameters.iter().any(|p| p.starts_with("patient="))),
            fhir_profiles::search::PatientConstraint::None => prop_assert!(false, "unheld"),
        }
        prop_assert_eq!(held.client(), query.client(), "the client does not see what was added");
    }

    #[test]
    fn the_other_parsers_never_panic(text in text(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Reference::parse(&text);
        let _ = bundle::parse(&bytes, BASE, bundle::MAX_ENTRIES);
        let _ = Patch::parse(&bytes);
        let kind: ResourceType = "Observation".parse().unwrap();
        if let Ok(query) = Query::criteria(kind, &text) {
            let _ = matches(&bytes, kind, &query, &[BASE]);
        }
    }

    #[test]
    fn a_reference_that_names_an_instance_prints_back(text in "(https://ehr/fhir/)?(Patient|Group|X)/[a-z0-9.]{0,4}(/_history/[0-9]{0,2})?") {
        if let Some(instance) = Reference::parse(&text).on_server(&["https://ehr/fhir"]) {
            let relative = instance.relative();
            let again = Reference::parse(&relative);
prop_assert_eq!(again.on_server(&[]), Some(instance));
            prop_assert!(text.contains(&relative));
        }
    }
}
