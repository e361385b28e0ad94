//! What the scanner finds, and what it refuses.
#![expect(clippy::expect_used, reason = "tests may stop at the first surprise")]

use fhir_profiles::codes::Dates;
use fhir_profiles::engine::{BundleType, Limits, Place, ScanError, SearchMode, scan};
use fhir_profiles::ids::{InstanceId, ResourceType};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::{Labeller, LabellerConfig, ProgramSource};
use fhir_profiles::reference::Reference;

const TODAY: &str = "2026-11-22";

#[track_caller]
fn refused(document: &str, error: ScanError) {
    let result = scan(document.as_bytes(), &Limits::default(), &Labeller::default(), TODAY);
    assert_eq!(result.err(), Some(error), "{document}");
}

#[track_caller]
fn labels_of(document: &str, resource: usize) -> LabelSet {
    labels_with(document, resource, LabellerConfig::default())
}

#[track_caller]
fn labels_with(document: &str, resource: usize, config: LabellerConfig) -> LabelSet {
    let labeller = Labeller::new(config);
    let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, TODAY);
    scanned.as_ref().map(|d| d.resources().get(resource).map(|r| r.labels)).ok().flatten().expect(document)
}

const PART2: &str = r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}"#;

#[test]
fn what_two_readers_would_read_differently_is_refused() {
    refused(r#"{"resourceType":"Patient","id":"a","id":"b"}"#, ScanError::DuplicateMember);
    refused(r#"{"resourceType":"Patient","meta":{},"m\u0065ta":{}}"#, ScanError::DuplicateMember);
    refused(r#"{"resourceType":"Patient","x":"\ud800"}"#, ScanError::Encoding);
    refused("{\"resourceType\":\"Patient\",\"x\":\"a\nb\"}", ScanError::Syntax);
    refused(r#"{"resourceType":"Patient"} x"#, ScanError::Syntax);
    refused("\u{feff}{\"resourceType\":\"Patient\"}", ScanError::Syntax);
    refused(r#"{"resourceType":"Patient","x":01}"#, ScanError::Syntax);
    refused(r#"{"resourceType":"Patient","x":NaN}"#, ScanError::Syntax);
    refused(r#"{"resourceType":"Patient","x":[1,]}"#, ScanError::Syntax);
    refused(r#"{"resourceType":"Patient""#, ScanError::Syntax);
    assert_eq!(
        scan(b"{\"resourceType\":\"Patient\",\"x\":\"\xff\"}", &Limits::default(), &Labeller::default(), TODAY).err(),
        Some(ScanError::Encoding)
    );
}

#[test]
fn many_members_are_all_compared() {
    let members: String = (0..500).map(|n| format!(",\"m{n}\":1")).collect();
    assert!(
        scan(
            format!("{{\"resourceType\":\"Basic\"{members}}}").as_bytes(),
            &Limits::default(),
            &Labeller::default(),
            TODAY
        )
        .is_ok()
    );
    refused(&format!("{{\"resourceType\":\"Basic\"{members},\"m7\":1}}"), ScanError::DuplicateMember);
}

#[test]
fn an_object_where_an_array_belongs_is_refused() {
    refused(&format!(r#"{{"resourceType":"Patient","meta":{{"security":{PART2}}}}}"#), ScanError::Shape);
    refused(&format!(r#"{{"resourceType":"Patient","meta":[{{"security":[{PART2}]}}]}}"#), ScanError::Shape);
    refused(r#"{"resourceType":"Patient","meta":{"security":[["x"]]}}"#, ScanError::Shape);
    refused(r#"{"resourceType":"Patient","extension":{"url":"x"}}"#, ScanError::Shape);
    refused(r#"{"resourceType":"Patient","contained":{"resourceType":"Patient"}}"#, ScanError::Shape);
    refused(r#"{"resourceType":"Bundle","entry":{"resource":{"resourceType":"Patient"}}}"#, ScanError::Shape);
    refused(
        r#"{"resourceType":"Bundle","entry":[{"resource":[{"resourceType":"Patient"}]}]}"#,
        ScanError::NotAResource,
    );
}

#[test]
fn a_resource_stands_where_r4_lets_one_stand() {
    refused("[]", ScanError::NotAResource);
    refused("null", ScanError::NotAResource);
    refused("{}", ScanError::NotAResource);
    refused(r#"{"resourceType":"Foo"}"#, ScanError::UnknownType);
    refused(r#"{"resourceType":1}"#, ScanError::NotAResource);
    refused(r#"{"resourceType":"Patient","x":{"resourceType":"Patient"}}"#, ScanError::MisplacedResource);
    refused(
        r#"{"resourceType":"Patient","entry":[{"resource":{"resourceType":"Patient"}}]}"#,
        ScanError::MisplacedResource,
    );
    refused(
        r#"{"resourceType":"Patient","parameter":[{"resource":{"resourceType":"Patient"}}]}"#,
        ScanError::MisplacedResource,
    );
    refused(r#"{"resourceType":"Bundle","contained":[{"resourceType":"Patient"}]}"#, ScanError::MisplacedResource);
    refused(r#"{"resourceType":"Bundle","entry":[{"resource":{"id":"a"}}]}"#, ScanError::NotAResource);
    let scenario = r#"{"resourceType":"ExampleScenario","instance":[{"resourceId":"a","resourceType":"Patient"}]}"#;
    assert!(scan(scenario.as_bytes(), &Limits::default(), &Labeller::default(), TODAY).is_ok());
    refused(r#"{"resourceType":"Patient","instance":[{"resourceType":"Patient"}]}"#, ScanError::MisplacedResource);
}

#[test]
fn bounds_hold() {
    let deep = |n: usize| format!(r#"{{"resourceType":"Basic","x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    refused(&deep(64), ScanError::TooDeep);
    assert!(scan(deep(63).as_bytes(), &Limits::default(), &Labeller::default(), TODAY).is_ok());
    refused(&deep(100_000), ScanError::TooDeep);
    let limits = |max_bytes, max_resources| Limits { max_bytes, max_depth: 64, max_resources };
    let small = br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}}]}"#;
    let over = |limits| scan(small, &limits, &Labeller::default(), TODAY).err();
    assert_eq!(over(limits(small.len() - 1, 9)), Some(ScanError::TooLarge));
    assert_eq!(over(limits(small.len(), 1)), Some(ScanError::TooManyResources));
    assert_eq!(over(limits(small.len(), 2)), None);
}

#[test]
fn resources_are_found_at_any_depth_with_their_own_identity() {
    let document = r##"{"resourceType":"Bundle","type":"searchset","total":2,"link":[{"relation":"next","url":"https://ehr/fhir?p=2"}],
      "entry":[
        {"fullUrl":"https://ehr/fhir/Observation/o","search":{"mode":"match"},"resource":{"id":"o","resourceType":"Observation",
          "subject":{"reference":"https://ehr/fhir/Patient/p"},"contained":[{"resourceType":"Medication","id":"m"}]}},
        {"search":{"mode":"include"},"resource":{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}},
        {"response":{"status":"404","outcome":{"resourceType":"OperationOutcome","issue":[]}}},
        {"resource":{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"name":"b","resource":{"resourceType":"Patient","id":"q"}}]}]}}
      ]}"##;
    let labeller = Labeller::new(LabellerConfig { bases: vec!["https://ehr/fhir/".into()], ..Default::default() });
    let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
    let found: Vec<_> = scanned.resources().iter().map(|r| (r.kind.as_str(), r.place, r.parent)).collect();
    assert_eq!(
        found,
        [
            ("Bundle", Place::Root, None),
            ("Observation", Place::Entry, Some(0)),
            ("Medication", Place::Contained, Some(1)),
            ("Bundle", Place::Entry, Some(0)),
            ("Patient", Place::Entry, Some(3)),
            ("OperationOutcome", Place::EntryOutcome, Some(0)),
            ("Parameters", Place::Entry, Some(0)),
            ("Patient", Place::Parameter, Some(6)),
        ]
    );
    let observation = &scanned.resources()[1];
    assert_eq!(observation.search_mode, Some(SearchMode::Match));
    assert_eq!(scanned.resources()[3].search_mode, Some(SearchMode::Include));
    assert_eq!(observation.patients.iter().map(|r| (**r).clone()).collect::<Vec<_>>(), [Reference::parse("Patient/p")]);
    assert_eq!(scanned.resources()[2].patients, observation.patients, "what is contained is about the same patient");
    assert_eq!(scanned.resources()[4].patients.len(), 1, "a Patient is about itself");
    assert_eq!(scanned.bundle_type(), Some(BundleType::Searchset));
    assert_eq!(scanned.total(), Some(2));
    assert_eq!(scanned.links(), [("next".to_owned(), "https://ehr/fhir?p=2".to_owned())]);
    assert_eq!(scanned.full_url(1).as_deref(), Some("https://ehr/fhir/Observation/o"));
    assert_eq!(scanned.bytes_of(2), br#"{"resourceType":"Medication","id":"m"}"#);
}

#[test]
fn labels_are_found_wherever_they_stand() {
    let meta = format!(r#""meta":{{"security":[{PART2}]}}"#);
    assert!(labels_of(&format!(r#"{{{meta},"resourceType":"Patient"}}"#), 0).contains(Label::PART2));
    assert!(labels_of(r#"{"resourceType":"Patient","m\u0065ta":{"s\u0065curity":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","c\u006fde":"42CFRPart\u0032"}]}}"#, 0).contains(Label::PART2));
    let contained = format!(
        r#"{{"resourceType":"Observation","contained":[{{"resourceType":"Basic",{meta}}},{{"resourceType":"Basic"}}]}}"#
    );
    for resource in 0..3 {
        assert!(
            labels_of(&contained, resource).contains(Label::PART2),
            "container, contained and sibling share labels"
        );
    }
    let nested = format!(
        r#"{{"resourceType":"Bundle","entry":[{{"resource":{{"resourceType":"Bundle","entry":[{{"resource":{{"resourceType":"Patient",{meta}}}}}]}}}}]}}"#
    );
    assert!(labels_of(&nested, 2).contains(Label::PART2));
    assert!(!labels_of(&nested, 0).contains(Label::PART2), "an entry does not label the envelope");
    let envelope =
        format!(r#"{{"resourceType":"Bundle",{meta},"entry":[{{"resource":{{"resourceType":"Patient"}}}}]}}"#);
    assert!(labels_of(&envelope, 1).contains(Label::PART2), "the envelope labels its entries");
    let value_meta = format!(
        r#"{{"resourceType":"Parameters","parameter":[{{"name":"return","valueMeta":{{"security":[{PART2}]}}}}]}}"#
    );
    assert!(labels_of(&value_meta, 0).contains(Label::PART2));
    let document = r#"{"resourceType":"DocumentReference","securityLabel":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}]}"#;
    assert!(labels_of(document, 0).contains(Label::VERY_RESTRICTED));
    let consent = document.replace("DocumentReference", "Consent");
    assert!(labels_of(&consent, 0).is_empty(), "a rule about labels is no label");
    assert!(labels_of(r#"{"resourceType":"Composition","confidentiality":"R"}"#, 0).contains(Label::RESTRICTED));
    assert!(
        labels_of(r#"{"resourceType":"Patient","meta":{"security":[{"system":"urn:x","code":"y"}]}}"#, 0)
            .contains(Label::UNKNOWN)
    );
    assert!(
        labels_of(r#"{"resourceType":"Patient","meta":{"security":[{"display":"secret"}]}}"#, 0)
            .contains(Label::UNKNOWN)
    );
}

#[test]
fn inline_labels_are_found_on_elements_and_on_primitives() {
    let inline = |code: &str| {
        format!(
            r#"{{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"{code}"}}}}"#
        )
    };
    let document = format!(
        r#"{{"resourceType":"Patient","_birthDate":{{"extension":[{}]}},"name":[{{"family":"x","extension":[{}]}}],"telecom":[{{"_value":{{"extension":[{{"url":"http://other","valueCode":"x"}}]}}}}]}}"#,
        inline("HIV"),
        inline("nonsense")
    );
    let labeller = Labeller::default();
    let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
    let facts = &scanned.resources()[0];
    assert!(facts.labels.is_empty(), "the label of an element is not one of the resource");
    assert_eq!(facts.inline.len(), 2);
    assert!(facts.inline[0].iter().any(|label| label.code() == "HIV"));
    assert!(facts.inline[1].contains(Label::UNKNOWN));
    let whole = format!(r#"{{"resourceType":"Patient","extension":[{}]}}"#, inline("HIV"));
    assert!(!labels_of(&whole, 0).is_empty(), "on the resource itself it labels the resource");
}

#[test]
fn codes_label_what_the_ehr_did_not_label_in_their_days() {
    let condition = |code: &str, rest: &str| {
        format!(
            r#"{{"resourceType":"Condition","code":{{"coding":[{{"system":"http://snomed.info/sct","code":"1"}},{{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"{code}"}}]}}{rest}}}"#
        )
    };
    assert!(labels_of(&condition("F11.20", ""), 0).contains(Label::PART2));
    assert!(!labels_of(&condition("H00.34", ""), 0).contains(Label::PART2));
    let claim = |rest: &str| {
        format!(
            r#"{{"resourceType":"Claim","supportingInfo":[{{"valueCoding":{{"system":"urn:oid:2.16.840.1.113883.6.329","code":"522"}}}}]{rest}}}"#
        )
    };
    assert!(
        labels_of(&claim(r#","billablePeriod":{"start":"2006-01-01","end":"2006-02-01"}"#), 0).contains(Label::PART2)
    );
    assert!(
        !labels_of(&claim(r#","billablePeriod":{"start":"2021-01-01","end":"2021-02-01"}"#), 0).contains(Label::PART2)
    );
    assert!(!labels_of(&claim(""), 0).contains(Label::PART2), "undated is as of today");
    assert!(Dates::covered_by(TODAY).is_some());
}

#[test]
fn the_records_of_a_program_are_part2_whatever_their_codes() {
    let config = || LabellerConfig {
        programs: vec![
            ProgramSource::Instance(InstanceId { kind: "Organization".parse().unwrap(), id: "otp".parse().unwrap() }),
            ProgramSource::Identifier { system: "http://hl7.org/fhir/sid/us-npi".into(), value: "1234567893".into() },
            ProgramSource::MetaSource("urn:otp".into()),
            ProgramSource::Tag { system: "urn:site".into(), code: "otp".into() },
        ],
        ..Default::default()
    };
    for (record, is_part2) in [
        (r#"{"resourceType":"Observation","performer":[{"reference":"Organization/otp"}]}"#, true),
        (r#"{"resourceType":"Observation","performer":[{"reference":"Organization/otp2"}]}"#, false),
        (
            r#"{"resourceType":"Observation","performer":[{"identifier":{"system":"http://hl7.org/fhir/sid/us-npi","value":"1234567893"}}]}"#,
            true,
        ),
        (r#"{"resourceType":"Observation","meta":{"source":"urn:otp#7"}}"#, true),
        (r#"{"resourceType":"Observation","meta":{"source":"urn:otp7"}}"#, false),
        (r#"{"resourceType":"Observation","meta":{"tag":[{"system":"urn:site","code":"otp"}]}}"#, true),
        (
            r#"{"resourceType":"Organization","identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"1234567893"}]}"#,
            false,
        ),
    ] {
        assert_eq!(labels_with(record, 0, config()).contains(Label::PART2), is_part2, "{record}");
    }
    let visit = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","encounter":{"reference":"Encounter/e"}}},{"resource":{"resourceType":"Encounter","id":"e","serviceProvider":{"reference":"Organization/otp"}}}]}"#;
    assert!(labels_with(visit, 1, config()).contains(Label::PART2), "what happened at a program is its record");
}

#[test]
fn labels_resolved_elsewhere_spread() {
    let labeller = Labeller::default();
    let record = r#"{"resourceType":"Observation","id":"o","encounter":{"reference":"Encounter/e"}}"#;
    let mut scanned = scan(record.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
    assert_eq!(scanned.label_sources().iter().map(InstanceId::relative).collect::<Vec<_>>(), ["Encounter/e"]);
    scanned.take_over(&|_| Some(LabelSet::EMPTY.with(Label::PART2)));
    assert!(scanned.resources()[0].labels.contains(Label::PART2));
    let binary = r#"{"resourceType":"Binary","id":"b"}"#;
    let mut scanned = scan(binary.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
    scanned.take_over(&|asked| {
        Some(if asked.kind == ResourceType::BINARY { LabelSet::EMPTY.with(Label::PART2) } else { LabelSet::EMPTY })
    });
    assert!(scanned.resources()[0].labels.contains(Label::PART2));
}

#[test]
fn what_happened_in_a_visit_that_nobody_could_look_up_is_of_unknown_sensitivity() {
    let record = r#"{"resourceType":"Observation","id":"o","encounter":{"reference":"Encounter/e"}}"#;
    let held = format!(
        r#"{{"resourceType":"Bundle","entry":[{{"resource":{record}}},{{"resource":{{"resourceType":"Encounter","id":"e"}}}}]}}"#
    );
    // A contained Encounter of that id is another one.
    let contained = format!(
        r#"{{"resourceType":"Bundle","entry":[{{"resource":{record}}},{{"resource":{{"resourceType":"Condition","contained":[{{"resourceType":"Encounter","id":"e"}}]}}}}]}}"#
    );
    let beside = r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"}}"#;
    for (counts_as, added) in [(LabelSet::EMPTY, None), (LabelSet::EMPTY.with(Label::VERY_RESTRICTED), Some("V"))] {
        let labeller = Labeller::new(LabellerConfig { unknown: counts_as, ..Default::default() });
        let unknown: Vec<&str> = ["unknown"].into_iter().chain(added).collect();
        for (text, at, expected) in
            [(record, 0, &*unknown), (&held, 1, &[]), (&contained, 1, &unknown), (beside, 0, &[])]
        {
            let mut scanned = scan(text.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
            scanned.take_over(&|_| None);
            let labels: Vec<&str> = scanned.resources()[at].labels.iter().map(Label::code).collect();
            assert_eq!(labels, expected, "{text}");
            // What was looked up and is not labelled hides nothing.
            let mut scanned = scan(text.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
            scanned.take_over(&|_| Some(LabelSet::EMPTY));
            assert!(scanned.resources()[at].labels.is_empty(), "{text}");
        }
    }
}

#[test]
fn what_an_unknown_label_counts_as_follows_it_along_a_reference() {
    let unknown = LabelSet::EMPTY.with(Label::VERY_RESTRICTED);
    let labeller = Labeller::new(LabellerConfig { unknown, ..Default::default() });
    let visit = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","encounter":{"reference":"Encounter/e"}}},{"resource":{"resourceType":"Encounter","id":"e","meta":{"security":[{"system":"urn:site","code":"X"}]}}}]}"#;
    let scanned = scan(visit.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
    let both = unknown.with(Label::UNKNOWN);
    assert_eq!(scanned.resources().iter().map(|facts| facts.labels).collect::<Vec<_>>(), [LabelSet::EMPTY, both, both]);
}

#[test]
fn two_editions_of_a_list_can_be_compared_on_the_same_records() {
    let mut lists = fhir_profiles::codes::part2_lists();
    lists[0].entries.retain(|entry| &*entry.code != "F11.20");
    let (old, new) = (Labeller::default(), Labeller::new(LabellerConfig { lists, ..Default::default() }));
    let records = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.20"}]}}},{"resource":{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.21"}]}}}]}"#;
    let read = |labeller| scan(records.as_bytes(), &Limits::default(), labeller, TODAY).unwrap();
    let (before, after) = (read(&old), read(&new));
    let differences = before.label_differences(&after);
    assert_eq!(differences.len(), 1);
    let (resource, gained, lost) = differences[0];
    assert!(resource == 1 && gained.is_empty() && lost.contains(Label::PART2));
}

#[test]
fn the_label_of_an_answer_is_the_highest_of_its_rows_unless_no_row_explains_it() {
    let coding = |system: &str, code: &str| {
        format!(r#"{{"system":"http://terminology.hl7.org/CodeSystem/{system}","code":"{code}"}}"#)
    };
    let bundle = |kind: &str, envelope: &str, first: &str| {
        format!(
            r#"{{"resourceType":"Bundle","type":"{kind}","meta":{{"security":[{envelope}]}},"entry":[{{"resource":{{"resourceType":"Basic","meta":{{"security":[{first}]}}}}}},{{"resource":{{"resourceType":"AllergyIntolerance"}}}}]}}"#
        )
    };
    let (restricted, very) = (coding("v3-Confidentiality", "R"), coding("v3-Confidentiality", "V"));
    let (normal, hiv) = (coding("v3-Confidentiality", "N"), coding("v3-ActCode", "HIV"));
    let spreads = |kind: &str, envelope: &str, first: &str| !labels_of(&bundle(kind, envelope, first), 2).is_empty();
    // The allergy in the second row stays what it is ...
    assert!(!spreads("searchset", &restricted, &restricted));
    assert!(!spreads("searchset", &restricted, &very));
    assert!(!spreads("searchset", &restricted, &hiv));
    assert!(!spreads("history", &hiv, &hiv));
    assert!(!spreads("searchset", PART2, PART2));
    // ... unless the envelope says what no row does, or what nobody understands.
    assert!(spreads("searchset", &restricted, &normal));
    assert!(spreads("searchset", &very, &restricted));
    assert!(spreads("searchset", PART2, &hiv));
    assert!(spreads("searchset", r#"{"system":"urn:x","code":"y"}"#, r#"{"system":"urn:x","code":"y"}"#));
    // A document or a collection is one record.
    assert!(spreads("document", &restricted, &restricted));
    assert!(spreads("collection", &hiv, &hiv));
}

#[test]
fn a_name_that_is_written_with_escapes_is_the_same_name() {
    let patients = |document: &str| {
        let labeller = Labeller::default();
        let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, TODAY).expect(document);
        scanned.resources().iter().map(|facts| facts.patients.len()).collect::<Vec<_>>()
    };
    assert_eq!(patients(r#"{"resourceType":"Observation","subject":{"reference":"Patient/p"}}"#), [1]);
    assert_eq!(patients(r#"{"resourceType":"Observation","subj\u0065ct":{"ref\u0065rence":"Patient\/p"}}"#), [1]);
    assert_eq!(
        patients(r#"{"resourceType":"Appointment","participant":[{"\u0061ctor":{"reference":"Patient/p"}}]}"#),
        [1]
    );
    assert_eq!(patients(r#"{"resourceType":"Appointment","participantactor":[{"reference":"Patient/p"}]}"#), [0]);
    assert_eq!(
        patients(r#"{"resourceType":"Appointment","participant":[{"actor":[{"x":{"reference":"Patient/p"}}]}]}"#),
        [0]
    );
}

#[test]
fn an_object_that_no_bundle_has_is_not_understood_and_its_neighbours_are() {
    let bundle = |link: &str, entry: &str, more: &str| {
        format!(r#"{{"resourceType":"Bundle","type":"searchset","link":[{link}],"entry":[{entry}]{more}}}"#)
    };
    let (link, patient) = (r#"{"relation":"self","url":"x"}"#, r#""resource":{"resourceType":"Patient","id":"p"}"#);
    let labelled = r#"{"meta":{"security":[{"code":"R"}]}}"#;
    let entry = |more: &str| format!("{{{patient}{more}}}");
    let read = |text: &str| scan(text.as_bytes(), &Limits::default(), &Labeller::default(), "2026-11-22").map(|_| ());
    for good in [
        bundle(link, &entry(""), ""),
        bundle(
            link,
            &entry(r#","fullUrl":"urn:uuid:1","_fullUrl":{"id":"a"},"extension":[{"url":"x","valueCode":"y"}]"#),
            "",
        ),
        bundle(link, &entry(r#","search":{"mode":"match","extension":[{"url":"x","valueCode":"y"}]}"#), ""),
        bundle(
            link,
            &entry(""),
            r#","identifier":{"value":"v"},"signature":{"who":{"display":"d"}},"_type":{"id":"t"}"#,
        ),
        // Patient.link.other is an object, and a List's entry has its item.
        r#"{"resourceType":"Patient","link":[{"other":{"reference":"Patient/q"},"type":"refer"}]}"#.to_owned(),
        r#"{"resourceType":"List","entry":[{"item":{"reference":"Patient/q"}}]}"#.to_owned(),
    ] {
        assert_eq!(read(&good), Ok(()), "{good}");
    }
    for odd in [
        bundle(r#"{"relation":"self","url":{"x":"y"}}"#, &entry(""), ""),
        bundle(link, &entry(&format!(r#","resoupce":{labelled}"#)), ""),
        bundle(link, &entry(r#","search":{"mode":"match","of":[{"code":"F11.20"}]}"#), ""),
        bundle(link, &entry(r#","response":{"status":"200","of":{"code":"F11.20"}}"#), ""),
        bundle(link, &entry(r#","request":{"method":"GET","url":"x","of":{"code":"F11.20"}}"#), ""),
        bundle(link, &entry(""), &format!(r#","other":{labelled}"#)),
        bundle(link, &format!(r#"{{"resource":{}}}"#, bundle(r#"{"url":["x"]}"#, &entry(""), "")), ""),
    ] {
        assert_eq!(read(&odd), Err(ScanError::Shape), "{odd}");
    }
}
