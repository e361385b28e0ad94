//! What is asked: every pure instance of the attack cases, each beside the legitimate request that still works.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use fhir_profiles::ids::{LogicalId, ResourceType};
use fhir_profiles::interaction::{Access, Class, Interaction, ParseError, Path, RequestParts, interpret};
use fhir_profiles::search::PatientConstraint;

const BASE: &str = "https://fhir.example.org/fhir";
const JSON: Option<&str> = Some("application/fhir+json");

/// `GET path?query`, as a target is written.
fn get(target: &str) -> Result<Interaction, ParseError> {
    ask("GET", target)
}

fn ask(method: &str, target: &str) -> Result<Interaction, ParseError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let content_type = match method {
        "POST" | "PUT" => JSON,
        "PATCH" => Some("application/json-patch+json"),
        _ => None,
    };
    interpret(&RequestParts { method, path, query, content_type, base: BASE, ..RequestParts::default() })
}

fn form(target: &str, form: &str) -> Result<Interaction, ParseError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    interpret(&RequestParts {
        method: "POST",
        path,
        query,
        form: Some(form),
        content_type: Some("application/x-www-form-urlencoded"),
        base: BASE,
        ..RequestParts::default()
    })
}

#[track_caller]
fn refuses(target: &str, class: Class) {
    match get(target) {
        Err(error) => assert_eq!(error.class(), class, "{target}: {error:?}"),
        Ok(interaction) => panic!("{target} was understood as {}", interaction.code()),
    }
}

#[track_caller]
fn works(target: &str, upstream: &str) {
    let sent = get(target).unwrap_or_else(|error| panic!("{target}: {error}")).upstream().unwrap();
    let line = if sent.query.is_empty() { sent.path } else { format!("{}?{}", sent.path, sent.query) };
    assert_eq!(line, upstream, "{target}");
}

#[track_caller]
fn touches(target: &str, expected: &str) {
    let touched = get(target).unwrap_or_else(|error| panic!("{target}: {error}")).touched();
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
    let mut facts: Vec<String> =
        touched.iter().map(|fact| format!("{}{}.{}", path(fact.path), fact.kind, letter(fact.access))).collect();
    let mut expected: Vec<&str> = expected.split(' ').collect();
    facts.sort_unstable();
    expected.sort_unstable();
    assert_eq!(facts, expected, "{target}");
}

fn constraint(target: &str) -> PatientConstraint {
    let interaction = get(target).unwrap_or_else(|error| panic!("{target}: {error}"));
    interaction.query().unwrap().patient_constraint(interaction.resource_type().unwrap())
}

fn exactly(ids: &[&str]) -> PatientConstraint {
    PatientConstraint::Exactly(ids.iter().map(|id| id.parse::<LogicalId>().unwrap()).collect())
}

fn kind(name: &str) -> ResourceType {
    name.parse().unwrap()
}

#[test]
fn row_1_a_read_names_one_instance() {
    touches("/Patient/B", "Patient.r");
    let read = get("/Observation/o-1").unwrap();
    assert_eq!(read.instance().unwrap().relative(), "Observation/o-1");
    works("/Patient/A?_format=json&_pretty=true&_elements=name", "/Patient/A");
    refuses("/Patient/A?patient=B", Class::UnknownParameter);
    refuses("/Patient/A?_count=1", Class::UnknownParameter);
}

#[test]
fn row_2_patients_are_counted_whichever_way_they_are_named() {
    assert_eq!(constraint("/Observation?patient=A,B"), exactly(&["A", "B"]));
    assert_eq!(constraint("/Observation?patient=A&patient=B"), PatientConstraint::Unusable);
    assert_eq!(constraint("/Observation?subject=Patient/A&patient=B"), PatientConstraint::Unusable);
    assert_eq!(constraint("/Observation?subject=Patient/A&patient=A"), exactly(&["A"]));
    assert_eq!(constraint("/Observation?subject:Patient=A"), exactly(&["A"]));
    assert_eq!(constraint("/Observation?patient=https://fhir.example.org/fhir/Patient/A"), exactly(&["A"]));
    assert_eq!(constraint("/Observation?code=x"), PatientConstraint::None);
    assert_eq!(constraint("/Patient?_id=A,B"), exactly(&["A", "B"]));
    assert_eq!(constraint("/Patient?name=x"), PatientConstraint::None);
    assert_eq!(constraint("/Coverage?beneficiary=A"), exactly(&["A"]));
    assert_eq!(constraint("/Coverage?subscriber=A"), PatientConstraint::None);
    assert_eq!(constraint("/Appointment?actor=Practitioner/p&patient=A"), exactly(&["A"]));
    assert_eq!(constraint("/Appointment?actor=Practitioner/p"), PatientConstraint::None);
    assert_eq!(constraint("/Appointment?actor=Practitioner/p,Patient/A"), PatientConstraint::Unusable);
    assert_eq!(constraint("/Observation?subject:Group=g"), PatientConstraint::None);
    assert_eq!(constraint("/Observation?performer=Patient/A"), PatientConstraint::None);
}

#[test]
fn row_3_a_patient_is_named_plainly_or_not_at_all() {
    for wrong in [
        "/Observation?subject:not=A",
        "/Observation?subject:missing=true",
        "/Observation?patient:missing=false",
        "/Observation?patient:identifier=urn:x|1",
        "/Observation?subject:above=A",
    ] {
        refuses(wrong, Class::ParameterNotAllowed);
    }
    assert_eq!(constraint("/Observation?subject=https://other/Patient/A"), PatientConstraint::Unusable);
    assert_eq!(
        constraint("/Observation?subject=https://fhir.example.org/fhir.evil/Patient/A"),
        PatientConstraint::Unusable
    );
    assert_eq!(constraint("/Observation?subject=urn:uuid:0"), PatientConstraint::Unusable);
    for wrong in [
        "/Observation?subject=%23a",
        "/Observation?patient=Group/A",
        "/Observation?patient=Patient/A/_history/1",
        "/Observation?patient=a%2Fb",
    ] {
        refuses(wrong, Class::Malformed);
    }
    refuses("/Observation?subject:Organization=A", Class::UnknownParameter);
    works("/Observation?subject=Patient/A", "/Observation?subject=Patient/A");
}

#[test]
fn row_4_compartments_and_everything() {
    works("/Patient/A/Observation?code=x", "/Observation?code=x&patient=Patient/A");
    works("/Patient/A/AdverseEvent", "/AdverseEvent?subject=Patient/A");
    touches("/Patient/A/Observation", "Observation.s");
    let asked = get("/Patient/A/Observation?code=x").unwrap();
    assert_eq!(asked.query().unwrap().client(), "code=x", "the self link shows the client's own parameters");
    refuses("/Patient/A/*", Class::UnsupportedInteraction);
    refuses("/Encounter/e/Observation", Class::UnsupportedInteraction);
    refuses("/Patient/A/Practitioner", Class::NoInteraction);
    refuses("/Patient/A/Group", Class::NoInteraction);
    refuses("/Medication/m/Observation", Class::NoInteraction);

    touches("/Patient/A/$everything?_type=Observation,Condition", "Condition.s Observation.s Patient.r");
    let all = get("/Patient/A/$everything").unwrap().touched();
    assert!(all.iter().any(|fact| fact.kind == ResourceType::PATIENT && fact.access == Access::Read));
    assert!(all.iter().filter(|fact| fact.kind != ResourceType::PATIENT).all(|fact| fact.path == Path::AnyOf));
    refuses("/Patient/$everything", Class::OperationNotAllowed);
    refuses("/Encounter/e/$everything", Class::OperationNotAllowed);
    refuses("/Patient/A/$everything?_typeFilter=x", Class::UnknownParameter);
}

#[test]
fn row_5_and_6_every_included_type_is_touched() {
    touches("/Patient?_id=A&_revinclude=Observation:subject", "Patient.s revinclude:Observation.r");
    touches("/Patient?_id=A&_revinclude:iterate=Observation:subject", "Patient.s revinclude:Observation.r");
    touches("/Observation?patient=A&_include=Observation:patient", "Observation.s include:Patient.r");
    touches("/Observation?patient=A&_include=Observation:subject:Patient", "Observation.s include:Patient.r");
    touches(
        "/Observation?patient=A&_include=Observation:subject",
        "Observation.s any:Device.r any:Group.r any:Location.r any:Patient.r",
    );
    touches("/Observation?patient=A&_include:iterate=Patient:link", "Observation.s any:Patient.r any:RelatedPerson.r");
    assert!(get("/Observation?patient=A&_include=Observation:focus").unwrap().touched().len() > 140);
    refuses("/Patient?_id=A&_revinclude:recurse=Observation:subject", Class::UnknownParameter);
    for wrong in ["_revinclude=*:*", "_revinclude=*", "_include=*", "_include=Patient:*"] {
        refuses(&format!("/Patient?_id=A&{wrong}"), Class::UnsupportedParameter);
    }
    for wrong in [
        "_include=Observation:subject",
        "_include=Patient:name",
        "_include=Patient:nothing",
        "_include=Patient",
        "_include=Patient:link:Observation",
        "_include=Patient:link:Patient:x",
        "_revinclude=Observation:encounter",
        "_revinclude=Nothing:subject",
    ] {
        refuses(&format!("/Patient?_id=A&{wrong}"), Class::Malformed);
    }
}

#[test]
fn row_7_reverse_chains_touch_what_they_read() {
    let has = "_has:Observation:subject:code=HIV";
    touches(&format!("/Patient?{has}"), "Patient.s has:Observation.s");
    touches(
        "/Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=x",
        "Patient.s has:AuditEvent.s has:Observation.s",
    );
    let posted = form("/Patient/_search", has).unwrap();
    assert_eq!(posted.touched(), get(&format!("/Patient?{has}")).unwrap().touched());
    for wrong in [
        "_has=x",
        "_has:x=y",
        "_has:Observation:subject=x",
        "_has:Observation:code:code=x",
        "_has:Encounter:location:status=x",
    ] {
        let error = get(&format!("/Patient?{wrong}")).unwrap_err();
        assert!(matches!(error, ParseError::MalformedChain | ParseError::ParameterNotAllowed), "{wrong}: {error:?}");
    }
    touches("/Patient?_id=A", "Patient.s");
}

#[test]
fn row_8_chains_touch_and_oracles_are_not_allowed() {
    touches("/Patient?_id=A&general-practitioner.name=x", "Patient.s chain:Organization.s chain:Practitioner.s");
    touches("/Patient?_id=A&general-practitioner:Practitioner.name=x", "Patient.s chain:Practitioner.s");
    touches("/Observation?patient.name=Al", "Observation.s chain:Patient.s");
    touches("/Observation?subject:Patient.organization.name=x", "Observation.s chain:Organization.s chain:Patient.s");
    assert_eq!(constraint("/Observation?patient.identifier=x"), PatientConstraint::None);
    for wrong in [
        "_filter=name eq x",
        "_query=x",
        "_list=42",
        "_text=x",
        "_content=x",
        "_contained=both",
        "_contained=true",
        "_containedType=container",
        "_security=x|42CFRPart2",
        "_tag=x",
        "_source=x",
        "_score=1",
        "_text:exact=x",
        "_security:not=R",
    ] {
        refuses(&format!("/Patient?_id=A&{}", wrong.replace(' ', "%20")), Class::ParameterNotAllowed);
    }
    refuses("/Observation?subject:Patient._security=R", Class::ParameterNotAllowed);
    refuses("/Observation?subject._security=R", Class::ParameterNotAllowed);
    for wrong in [
        "patient.nothing=x",
        "patient.name.family=x",
        "code.text=x",
        "subject:Nothing.name=x",
        "patient.link.link.link.name=x",
    ] {
        refuses(&format!("/Observation?{wrong}"), Class::Malformed);
    }
    refuses("/Patient?_graph=x", Class::UnknownParameter);
    refuses("/Patient?_fields=x", Class::UnknownParameter);
    refuses("/Patient?nothing=x", Class::UnknownParameter);
    refuses("/Observation?Code=x", Class::UnknownParameter);
}

#[test]
fn row_9_a_code_is_searched_and_its_element_is_named() {
    let asked = get("/Condition?patient=A&code=http://hl7.org/fhir/sid/icd-10-cm|F11.20&_sort=-onset-date"
        .replace('|', "%7C")
        .as_str())
    .unwrap();
    assert_eq!(
        asked.query().unwrap().reads(kind("Condition")).unwrap(),
        ["code", "onsetDateTime", "onsetPeriod", "subject[Patient]"]
    );
    for wrong in [
        "code:in=vs",
        "code:not-in=vs",
        "code:not=F11.20",
        "code:below=x",
        "code:above=x",
        "code:text=opioid",
        "code:missing=true",
    ] {
        refuses(&format!("/Condition?patient=A&{wrong}"), Class::ParameterNotAllowed);
    }
    refuses("/Condition?code:exactly=x", Class::UnknownParameter);
    works(
        "/Condition?patient=A&verification-status:not=entered-in-error",
        "/Condition?patient=A&verification-status:not=entered-in-error",
    );
    works("/Patient?name:exact=Ann&given:contains=n", "/Patient?name:exact=Ann&given:contains=n");
    works("/Patient?identifier:of-type=s%7CMR%7C1", "/Patient?identifier:of-type=s%7CMR%7C1");
    refuses("/Patient?identifier:of-type=s%7CMR", Class::Malformed);
}

#[test]
fn row_10_nothing_counts_what_may_be_hidden() {
    for wrong in ["_total=accurate", "_summary=count", "_count=0"] {
        refuses(&format!("/Condition?patient=A&{wrong}"), Class::UnsupportedParameter);
    }
    works("/Condition?patient=A&_total=none&_count=20", "/Condition?patient=A&_count=20");
    touches("/Condition?patient=A&_sort=-onset-date", "Condition.s sort:Condition.s");
    refuses("/Condition?patient=A&_sort=_score", Class::ParameterNotAllowed);
    refuses("/Condition?patient=A&_sort=nothing", Class::UnknownParameter);
    refuses("/Condition?patient=A&_sort=code&_sort=_id", Class::Malformed);
    works("/Condition?patient=A&_lastUpdated=ge2024-01-01", "/Condition?patient=A&_lastUpdated=ge2024-01-01");
}

#[test]
fn row_11_presentation_is_ours_and_never_goes_upstream() {
    works("/Condition?patient=A&_elements=code,subject&_summary=data&_format=json", "/Condition?patient=A");
    let asked = get("/Condition?patient=A&_elements=code&_summary=text").unwrap();
    assert_eq!(asked.query().unwrap().client(), "patient=A&_elements=code&_summary=text");
    for wrong in ["_elements=a b", "_summary=all", "_count=-1", "_count=x", "_pretty=yes", "_total=all"] {
        refuses(&format!("/Condition?patient=A&{}", wrong.replace(' ', "%20")), Class::Malformed);
    }
    for repeated in ["_count=1&_count=2", "_elements=a&_elements=b", "_format=json&_format=json"] {
        refuses(&format!("/Condition?patient=A&{repeated}"), Class::Malformed);
    }
}

#[test]
fn row_12_pages_are_sealed_tokens_only() {
    assert!(matches!(get("/_page/abc-_123"), Ok(Interaction::Page { .. })));
    refuses("/_page/a.b", Class::Malformed);
    refuses("/_page/abc?x=y", Class::UnknownParameter);
    refuses("/Observation?_getpages=x", Class::UnknownParameter);
    refuses("/Observation?ct=x", Class::UnknownParameter);
    refuses("/?_getpages=x", Class::UnsupportedParameter);
    assert_eq!(get("/_page/abc").unwrap().upstream(), None);
}

#[test]
fn row_13_url_and_form_say_the_same() {
    assert_eq!(form("/Observation/_search?patient=A", "patient=B"), Err(ParseError::Contradictory));
    let merged = form("/Observation/_search?patient=A", "code=x").unwrap().upstream().unwrap();
    assert_eq!(
        (merged.method.as_str(), merged.path.as_str(), merged.query.as_str()),
        ("POST", "/Observation/_search", "")
    );
    assert_eq!(merged.form.as_deref(), Some("patient=A&code=x"));
    assert_eq!(form("/Observation/_search", "patient=A&_filter=x"), Err(ParseError::ParameterNotAllowed));
    assert_eq!(form("/Observation", "patient=A"), Err(ParseError::UnsupportedMediaType));
}

#[test]
fn row_14_and_15_writes_touch_what_they_write() {
    let letters =
        |method, target| ask(method, target).unwrap().touched().iter().map(|fact| fact.access).collect::<Vec<_>>();
    assert_eq!(letters("PUT", "/Observation/1"), [Access::Update]);
    assert_eq!(letters("PATCH", "/Observation/1"), [Access::Update]);
    assert_eq!(letters("DELETE", "/Observation/1"), [Access::Delete]);
    assert_eq!(letters("POST", "/Observation"), [Access::Create]);
    assert_eq!(letters("PATCH", "/Observation?patient=A"), [Access::Update, Access::Search]);
    assert_eq!(letters("PUT", "/Observation?patient=A"), [Access::Update, Access::Search]);
    assert_eq!(letters("DELETE", "/Observation?patient=A,B"), [Access::Delete, Access::Search]);
    for conditional in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(
            ask(conditional, "/Observation?patient=A").unwrap().upstream(),
            None,
            "{conditional} is resolved by a judged search"
        );
        assert_eq!(
            ask(conditional, "/Observation"),
            Err(ParseError::NoInteraction),
            "{conditional} without a condition"
        );
        assert_eq!(ask(conditional, "/Observation?_count=1"), Err(ParseError::NoInteraction));
        assert_eq!(
            ask(conditional, "/Observation?code=x&_include=Observation:subject"),
            Err(ParseError::UnknownParameter)
        );
    }
    let patch = |content_type| {
        interpret(&RequestParts { method: "PATCH", path: "/Observation/1", content_type, ..RequestParts::default() })
    };
    assert_eq!(patch(JSON), Err(ParseError::UnsupportedMediaType), "FHIRPath patch");
    assert_eq!(patch(Some("application/xml-patch+xml")), Err(ParseError::UnsupportedMediaType));
    assert!(ask("PUT", "/Observation/1?x=y").is_err());
}

#[test]
fn row_17_a_conditional_create_is_a_search_too() {
    let conditional = |condition| {
        interpret(&RequestParts {
            method: "POST",
            path: "/Observation",
            content_type: JSON,
            if_none_exist: Some(condition),
            base: BASE,
            ..RequestParts::default()
        })
    };
    let create = conditional("patient=B&code=x").unwrap();
    assert_eq!(create.touched().iter().map(|fact| fact.access).collect::<Vec<_>>(), [Access::Create, Access::Search]);
    assert_eq!(create.query().unwrap().patient_constraint(kind("Observation")), exactly(&["B"]));
    assert_eq!(conditional("_filter=x"), Err(ParseError::ParameterNotAllowed));
    assert_eq!(conditional(""), Err(ParseError::NoInteraction));
    let elsewhere = RequestParts {
        method: "GET",
        path: "/Observation/1",
        if_none_exist: Some("code=x"),
        ..RequestParts::default()
    };
    assert_eq!(interpret(&elsewhere), Err(ParseError::Contradictory));
}

#[test]
fn row_20_and_21_operations_are_refused_by_default() {
    for wrong in [
        "$validate",
        "$meta",
        "$graphql",
        "$document",
        "$member-match",
        "$convert",
        "$stats",
        "$match",
        "$import",
        "$process-message",
        "$expunge",
        "$reindex",
    ] {
        refuses(&format!("/{wrong}"), Class::OperationNotAllowed);
        refuses(&format!("/Patient/{wrong}"), Class::OperationNotAllowed);
        refuses(&format!("/Patient/A/{wrong}"), Class::OperationNotAllowed);
    }
    for meta in ["$meta-add", "$meta-delete"] {
        assert_eq!(ask("POST", &format!("/Patient/A/{meta}")), Err(ParseError::OperationNotAllowed));
    }
    for unknown in ["/$", "/$nothing", "/Patient/$Everything", "/Patient/A/$EVERYTHING"] {
        refuses(unknown, Class::UnknownOperation);
    }
    refuses("/Patient/A/Observation/$lastn", Class::NoInteraction);
    touches("/Observation/$lastn?patient=A&category=vital-signs&max=3", "Observation.s");
    works("/Observation/$lastn?patient=A&max=3", "/Observation/$lastn?patient=A&max=3");
    refuses("/Observation/$lastn?patient=A&max=0", Class::Malformed);
    refuses("/Observation/$lastn?_filter=x", Class::ParameterNotAllowed);
    touches("/DocumentReference/$docref?patient=A", "DocumentReference.s");
    refuses("/DocumentReference/$docref", Class::UnsupportedParameter);
    refuses("/DocumentReference/$docref?patient=A&on-demand=true", Class::UnsupportedParameter);
    touches("/ValueSet/$expand?url=http://x", "ValueSet.r");
    touches("/CodeSystem/$lookup?system=http://loinc.org&code=1-8", "CodeSystem.r");
    refuses("/ValueSet/$lookup?code=x", Class::OperationNotAllowed);
    assert_eq!(ask("DELETE", "/Patient/A/$everything"), Err(ParseError::NoInteraction));
}

#[test]
fn row_20_operation_parameters_come_in_one_form() {
    let post = |query, body: &str| {
        interpret(&RequestParts {
            method: "POST",
            path: "/ValueSet/$expand",
            query,
            content_type: JSON,
            body: Some(body.as_bytes()),
            ..RequestParts::default()
        })
    };
    let body = r#"{"resourceType":"Parameters","parameter":[{"name":"url","valueUri":"http://x"},{"name":"count","valueInteger":3}]}"#;
    let sent = post(None, body).unwrap().upstream().unwrap();
    assert_eq!((sent.path.as_str(), sent.query.as_str()), ("/ValueSet/$expand", "url=http://x&count=3"));
    assert_eq!(post(Some("url=http://y"), body), Err(ParseError::Contradictory));
    for wrong in [
        r#"{"resourceType":"Parameters","parameter":[{"name":"valueSet","resource":{"resourceType":"ValueSet"}}]}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"url","valueUri":"x","valueString":"y"}]}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"url","part":[]}]}"#,
    ] {
        assert_eq!(post(None, wrong), Err(ParseError::UnsupportedOperationParameter), "{wrong}");
    }
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"resourceType":"Patient"}"#,
        r#"{"resourceType":"Parameters","resourceType":"Parameters"}"#,
    ] {
        assert_eq!(post(None, wrong), Err(ParseError::MalformedBundle), "{wrong}");
    }
}

#[test]
fn row_23_an_export_touches_every_type_it_may_bring() {
    touches("/Group/g/$export?_type=Condition", "Condition.r Group.r Condition.s");
    assert!(get("/$export").unwrap().touched().len() > 290, "without _type it is every type");
    for wrong in [
        "_typeFilter=Patient%3F_has:Observation:subject:code=x",
        "patient=A",
        "includeAssociatedData=x",
        "_elements=id",
    ] {
        refuses(&format!("/$export?{wrong}"), Class::UnsupportedParameter);
    }
    refuses("/$export?_outputFormat=text/csv", Class::Malformed);
    refuses("/$export?_type=Nothing", Class::Malformed);
    works(
        "/Patient/$export?_type=Patient&_outputFormat=application/fhir%2Bndjson",
        "/Patient/$export?_type=Patient&_outputFormat=application/fhir%2Bndjson",
    );
    refuses("/Observation/$export", Class::OperationNotAllowed);
    assert!(matches!(get("/_export/tok"), Ok(Interaction::ExportStatus { .. })));
    assert!(matches!(get("/_export/tok/7"), Ok(Interaction::ExportFile { file: 7, .. })));
    assert!(matches!(ask("DELETE", "/_export/tok"), Ok(Interaction::ExportDelete { .. })));
    refuses("/_export/tok/x", Class::Malformed);
    assert!(get("/$export").unwrap().changes(), "a kick-off is recorded before it is asked");
}

#[test]
fn row_24_histories_and_versions() {
    touches("/Patient/1/_history", "Patient.r");
    touches("/Patient/1/_history/2", "Patient.r");
    touches("/Observation/_history", "Observation.s");
    assert_eq!(get("/_history").unwrap().touched().len(), 146);
    works(
        "/Patient/1/_history?_since=2024-01-01T00:00:00Z&_count=5",
        "/Patient/1/_history?_since=2024-01-01T00:00:00Z&_count=5",
    );
    refuses("/Patient/1/_history?_since=yesterday", Class::Malformed);
    refuses("/Patient/1/_history?_at=2024", Class::UnsupportedParameter);
    refuses("/Patient/1/_history?_list=x", Class::ParameterNotAllowed);
    refuses("/Patient/1/_history?name=x", Class::UnknownParameter);
    refuses("/Patient/1/_history?_since=2024&_since=2025", Class::Malformed);
}

#[test]
fn row_25_and_26_only_fhir_json_leaves() {
    let accept = |accept, query| {
        interpret(&RequestParts {
            method: "GET",
            path: "/Binary/b",
            query,
            accept: Some(accept),
            ..RequestParts::default()
        })
    };
    for wrong in [
        "application/pdf",
        "text/html",
        "application/fhir+xml",
        "text/turtle",
        "application/x-ndjson",
        "application/fhir+xml;q=0.9, text/html;q=0.8",
    ] {
        assert_eq!(accept(wrong, None), Err(ParseError::NotAcceptable), "{wrong}");
    }
    assert!(accept("application/fhir+xml;q=0.9, application/fhir+json;q=0.8", None).is_ok());
    assert!(accept("application/fhir+xml", Some("_format=json")).is_ok(), "_format overrides");
    for wrong in ["_format=xml", "_format=application/fhir%2Bxml", "_format=ttl", "_format=text/html", "_format=ndjson"]
    {
        assert_eq!(accept("application/fhir+json", Some(wrong)), Err(ParseError::NotAcceptable), "{wrong}");
    }
    for right in ["_format=json", "_format=application/fhir%2Bjson", "_format=application/fhir+json"] {
        assert!(accept("*/*", Some(right)).is_ok(), "{right}");
    }
}

#[test]
fn row_33_ids_are_parsed_whole() {
    for wrong in ["/Patient/a%20b", "/Patient/%C3%A9"] {
        refuses(wrong, Class::Malformed);
    }
    let long = "x".repeat(65);
    refuses(&format!("/Patient/{long}"), Class::Malformed);
    refuses("/Patient/a_b", Class::Malformed);
    refuses("/Patient/1/_history/a_b", Class::Malformed);
    works(&format!("/Patient/{}", "x".repeat(64)), &format!("/Patient/{}", "x".repeat(64)));
    works("/Patient/1.", "/Patient/1.");
    assert_ne!(get("/Patient/1"), get("/Patient/1."));
    assert_ne!(get("/Patient/a"), get("/Patient/A"));
}

#[test]
fn row_39_a_path_has_one_reading() {
    for wrong in [
        "//Patient/B",
        "/Patient//B",
        "/Patient/A/../B",
        "/Patient/./B",
        "/Patient/%2e%2e/B",
        "/Patient%2FB",
        "/Patient/A%00",
        "/Patient;x=y/A",
        "/Patient/A;x=",
        "/Patient/A/",
        "/Patient/",
        "Patient/A",
        "/Patient\\A",
        "/metadata/../Patient/B",
        "http://other/Patient/B",
        "/Patient/A#x",
        "/Patient/é",
        "/%50atient/A",
        "/Patient/A/%24everything",
        "/Patient/A\0",
        "/Patient/A\r\nX: y",
    ] {
        refuses(wrong, Class::Malformed);
    }
    refuses("/patient/B", Class::UnknownResourceType);
    refuses("/PATIENT/B", Class::UnknownResourceType);
    refuses("/Patients", Class::UnknownResourceType);
    refuses("/Resource/x", Class::UnknownResourceType);
    refuses("/Patient?q=/metadata", Class::UnknownParameter);
    refuses("/metadata/x", Class::UnknownResourceType);
    refuses("/Patient/A/_history/1/2", Class::NoInteraction);
    works("/Patient/A", "/Patient/A");
    assert_eq!(get("/metadata?_format=json"), Ok(Interaction::Capabilities));
    assert_eq!(
        interpret(&RequestParts { method: "HEAD", path: "/Patient/A", ..RequestParts::default() }),
        get("/Patient/A")
    );
    for method in ["TRACE", "OPTIONS", "CONNECT", "get", "SEARCH", "", "HEAD "] {
        let asked = interpret(&RequestParts { method, path: "/Patient/A", ..RequestParts::default() });
        assert_eq!(asked, Err(ParseError::NoInteraction), "{method}");
    }
}

#[test]
fn a_query_has_one_reading() {
    for wrong in [
        "patient",
        "=A",
        "patient=A&",
        "&patient=A",
        "patient=%zz",
        "patient=%",
        "patient=%ff",
        "code=a%00b",
        "code=a%0Ab",
        "code=",
        "code=%20",
        "date=yesterday",
        "date=ge2024-13",
        "date=x2024",
        "code=a\\b",
        "value-quantity=x",
        "value-quantity=5|mg",
        "_id=a/b",
        "_id=",
        "_lastUpdated=x",
    ] {
        refuses(&format!("/Observation?{wrong}"), Class::Malformed);
    }
    works(
        "/Observation?code=a%2Cb&date=ge2024-01-01&date=lt2025&value-quantity=gt5.4%7Chttp://unitsofmeasure.org%7Cmg",
        "/Observation?code=a,b&date=ge2024-01-01&date=lt2025&value-quantity=gt5.4%7Chttp://unitsofmeasure.org%7Cmg",
    );
    works("/Observation?code-value-quantity=8480-6%24gt140", "/Observation?code-value-quantity=8480-6%24gt140");
    works("/Observation?%70atient=A", "/Observation?patient=A");
    let many = vec!["code=x"; 129].join("&");
    refuses(&format!("/Observation?{many}"), Class::Malformed);
    refuses(&format!("/Observation?code={}", vec!["x"; 1001].join(",")), Class::Malformed);
}

#[test]
fn a_system_search_names_its_types() {
    touches("/?_type=Patient,Observation&_lastUpdated=gt2024", "Observation.s Patient.s");
    works("/?_type=Patient,Observation&_id=a", "/?_id=a&_type=Patient,Observation");
    refuses("/", Class::UnsupportedParameter);
    refuses("/?_id=a", Class::UnsupportedParameter);
    refuses("/?_type=Patient&name=x&_type=Observation", Class::Malformed);
    refuses("/?_type=Nothing", Class::Malformed);
    refuses("/?_type=Patient,Observation&code=x", Class::UnknownParameter);
    works("/?_type=Condition,Observation&code=x", "/?code=x&_type=Condition,Observation");
    refuses("/Patient?_type=Observation", Class::UnknownParameter);
}
