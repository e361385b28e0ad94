//! What goes, what stays, and what is said of it. Each case is a document, what is withheld, and what may be seen.
#![expect(clippy::expect_used, reason = "tests may stop at the first surprise")]

use fhir_profiles::engine::{
    Judge, Level, Limits, Notice, RedactError, RedactOptions, Redacted, ResourceFacts, Style, Totals, Verdict, scan,
};
use fhir_profiles::label::{Label, LabelKind, LabelSet};
use fhir_profiles::labeller::{Labeller, LabellerConfig};
use fhir_profiles::reference::Reference;

/// Withholds what is labelled Part 2, HIV or unknown, references to `…/hidden`, and links other than `self`.
struct Strict;

fn forbidden() -> LabelSet {
    let hiv = Label::by_code("HIV", &[LabelKind::Sensitivity]).unwrap_or(Label::UNKNOWN);
    [Label::PART2, Label::UNKNOWN, hiv].into_iter().collect()
}

impl Judge for Strict {
    fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
        if facts.labels.intersects(forbidden()) { Verdict::Withhold { rule: 1 } } else { Verdict::Show }
    }
    fn element(&self, _: u32, _: &ResourceFacts, labels: LabelSet) -> Verdict {
        if labels.intersects(forbidden()) { Verdict::Withhold { rule: 2 } } else { Verdict::Show }
    }
    fn reference(&self, target: &Reference) -> Verdict {
        match target {
            Reference::Relative { instance, .. } if instance.id.as_str() == "hidden" => Verdict::Withhold { rule: 3 },
            Reference::Relative { .. }
            | Reference::Absolute { .. }
            | Reference::Contained(_)
            | Reference::Urn(_)
            | Reference::Opaque => Verdict::Show,
        }
    }
    fn link(&self, relation: &str, url: &str) -> Option<String> {
        (relation == "self").then(|| url.replace("ehr", "public"))
    }
}

const BASE: &str = "https://ehr/fhir";

/// Fills `$P2`, `$SECURITY` and `$INLINE` in a document, so that cases stay readable.
fn fill(template: &str) -> String {
    template
        .replace("$P2", r#""meta":{$SECURITY}"#)
        .replace("$SECURITY", r#""security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]"#)
        .replace("$INLINE", r#""extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}}]"#)
        .replace("$PROCESS", r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PROCESSINLINELABEL"}"#)
        .replace("$REDACTED", r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"REDACTED"}"#)
        .replace("$MASK", r#"{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}"#)
}

fn redact(document: &str, options: &RedactOptions<'_>) -> Result<Redacted, RedactError> {
    let labeller = Labeller::new(LabellerConfig { bases: vec![BASE.into()], ..Default::default() });
    let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, "2026-11-22").expect(document);
    let redacted = scanned.redact(&Strict, options)?;
    let again = scan(&redacted.body, &Limits::default(), &labeller, "2026-11-22").expect("the output is a document");
    let twice = again.redact(&Strict, options).expect("what may be seen once may be seen twice");
    assert_eq!(String::from_utf8_lossy(&twice.body), String::from_utf8_lossy(&redacted.body), "idempotent");
    Ok(redacted)
}

#[track_caller]
fn sees(options: &RedactOptions<'_>, document: &str, expected: &str) -> Redacted {
    let redacted = redact(&fill(document), options).expect("something to see");
    assert_eq!(String::from_utf8_lossy(&redacted.body), fill(expected));
    redacted
}

#[track_caller]
fn sees_nothing(options: &RedactOptions<'_>, document: &str) {
    assert!(redact(&fill(document), options).is_err(), "{document}");
}

const SILENT: RedactOptions<'_> = RedactOptions::verbatim(Style::Silent);
const MARKED: RedactOptions<'_> = RedactOptions::verbatim(Style::Marked);

#[test]
fn what_hides_nothing_is_the_same_to_the_byte() {
    for document in [
        r#" { "resourceType" : "Observation", "status":"final" , "valueQuantity": {"value":1.00e+2 } , "x\u0041": "\u00e9/\/" } "#,
        r#"{"resourceType":"Bundle","type":"searchset","total":1,"entry":[ {"resource":{"resourceType":"Patient"}} ]}"#,
    ] {
        sees(&SILENT, document, document);
        sees(&MARKED, document, document);
    }
}

#[test]
fn a_withheld_root_is_nothing() {
    sees_nothing(&SILENT, r#"{"resourceType":"Patient",$P2}"#);
    sees_nothing(&MARKED, r#"{"resourceType":"Patient","contained":[{"resourceType":"Basic",$P2}]}"#);
    sees_nothing(
        &SILENT,
        r#"{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition",$P2}},{"resource":{"resourceType":"Patient"}}]}"#,
    );
}

#[test]
fn entries_go_whole_and_by_their_own_identity() {
    let entry = |id: &str, labelled: bool| {
        format!(
            r#"{{"fullUrl":"urn:x:{id}","resource":{{"resourceType":"Basic","id":"{id}"{}}}}}"#,
            if labelled { ",$P2" } else { "" }
        )
    };
    let bundle = |entries: &[String]| {
        format!(r#"{{"resourceType":"Bundle","type":"searchset","entry":[{}]}}"#, entries.join(","))
    };
    let (a, b, c) = (entry("a", false), entry("b", true), entry("c", false));
    for order in [[&a, &b, &c], [&b, &a, &c], [&a, &c, &b]] {
        let all: Vec<String> = order.into_iter().cloned().collect();
        let rest: Vec<String> = order.into_iter().filter(|e| **e != b).cloned().collect();
        let redacted = sees(&SILENT, &bundle(&all), &bundle(&rest));
        assert_eq!(redacted.removals.len(), 1);
        assert_eq!(redacted.removals[0].rule, Some(1));
        assert_eq!(redacted.disclosed.len(), 3);
    }
    sees(&SILENT, &bundle(&[b.clone(), b]), r#"{"resourceType":"Bundle","type":"searchset"}"#);
}

#[test]
fn answers_by_position_keep_their_positions() {
    sees(
        &SILENT,
        r#"{"resourceType":"Bundle","type":"batch-response","entry":[{"resource":{"resourceType":"Basic",$P2},"response":{"status":"200"}},{"response":{"status":"201"}}]}"#,
        r#"{"resourceType":"Bundle","type":"batch-response","entry":[{"response":{"status":"404 Not Found"}},{"response":{"status":"201"}}]}"#,
    );
}

#[test]
fn an_element_goes_with_its_sibling_and_its_place() {
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","birthDate":"1970-01-01","_birthDate":{$INLINE},"active":true}"#,
        r#"{"resourceType":"Patient","active":true}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","name":[{"family":"a",$INLINE},{"family":"b"}]}"#,
        r#"{"resourceType":"Patient","name":[{"family":"b"}]}"#,
    );
    sees(&SILENT, r#"{"resourceType":"Patient","name":[{"family":"a",$INLINE}]}"#, r#"{"resourceType":"Patient"}"#);
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","name":[{"given":["a","b","c"],"_given":[null,{$INLINE},{"id":"x"}]}]}"#,
        r#"{"resourceType":"Patient","name":[{"given":["a","c"],"_given":[null,{"id":"x"}]}]}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","name":[{"given":["a","b"],"_given":[null,{$INLINE}]}]}"#,
        r#"{"resourceType":"Patient","name":[{"given":["a"]}]}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","contact":[{"name":{"text":"x",$INLINE}}],"active":true}"#,
        r#"{"resourceType":"Patient","active":true}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","extension":[{"url":"u","valueAddress":{"text":"x",$INLINE}},{"url":"v"}]}"#,
        r#"{"resourceType":"Patient","extension":[{"url":"v"}]}"#,
    );
}

#[test]
fn a_required_element_takes_along_what_requires_it_or_is_masked() {
    let status = r#"{"resourceType":"Observation","status":"final","_status":{$INLINE},"code":{"text":"x"}}"#;
    sees_nothing(&SILENT, status);
    sees(
        &MARKED,
        status,
        r#"{"resourceType":"Observation","meta":{"security":[$REDACTED]},"_status":$MASK,"code":{"text":"x"}}"#,
    );
    let component = r#"{"resourceType":"Observation","status":"final","component":[{"code":{"text":"x",$INLINE},"valueString":"y"},{"code":{"text":"z"}}]}"#;
    sees(&SILENT, component, r#"{"resourceType":"Observation","status":"final","component":[{"code":{"text":"z"}}]}"#);
    sees(
        &MARKED,
        component,
        r#"{"resourceType":"Observation","meta":{"security":[$REDACTED]},"status":"final","component":[{"code":$MASK,"valueString":"y"},{"code":{"text":"z"}}]}"#,
    );
    let modifier = r#"{"resourceType":"Observation","status":"final","modifierExtension":[{"url":"u","valueString":"x",$INLINE}]}"#;
    sees_nothing(&SILENT, modifier);
    sees_nothing(&MARKED, modifier);
    let choice = r#"{"resourceType":"MedicationRequest","medicationReference":{"reference":"Medication/hidden","display":"methadone"}}"#;
    sees_nothing(&SILENT, choice);
    sees(
        &MARKED,
        choice,
        r#"{"resourceType":"MedicationRequest","meta":{"security":[$REDACTED]},"medicationReference":$MASK}"#,
    );
}

#[test]
fn references_to_what_is_withheld_go_with_their_display() {
    sees(
        &SILENT,
        r#"{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Condition","id":"c",$P2}},{"resource":{"resourceType":"Procedure","status":"completed","reasonReference":[{"reference":"Condition/c","display":"opioid use"},{"reference":"urn:uuid:1"},{"reference":"https://ehr/fhir/Condition/c/_history/2"},{"reference":"Condition/d"}]}}]}"#,
        r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Procedure","status":"completed","reasonReference":[{"reference":"Condition/d"}]}}]}"#,
    );
    // One thing that needs another goes with it, and so on.
    sees(
        &SILENT,
        r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Provenance","target":[{"reference":"MedicationRequest/r"}],"recorded":"2020-01-01T00:00:00Z"}},{"resource":{"resourceType":"MedicationRequest","id":"r","medicationReference":{"reference":"Medication/m"}}},{"resource":{"resourceType":"Medication","id":"m",$P2}}]}"#,
        r#"{"resourceType":"Bundle","type":"collection"}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"DocumentReference","status":"current","content":[{"attachment":{"url":"Binary/hidden"}},{"attachment":{"url":"https://ehr/fhir/Binary/b"}}]}"#,
        r#"{"resourceType":"DocumentReference","status":"current","content":[{"attachment":{"url":"https://ehr/fhir/Binary/b"}}]}"#,
    );
    sees(
        &SILENT,
        r##"{"resourceType":"List","status":"current","entry":[{"item":{"reference":"Condition/hidden"}},{"item":{"reference":"Condition/x"}}],"text":{"status":"generated","div":"both"}}"##,
        r##"{"resourceType":"List","status":"current","entry":[{"item":{"reference":"Condition/x"}}]}"##,
    );
}

#[test]
fn sections_lose_their_text_and_go_when_empty() {
    sees(
        &SILENT,
        r#"{"resourceType":"Composition","text":{"div":"all"},"section":[{"title":"SUD","text":{"div":"x"},"entry":[{"reference":"Condition/hidden"}]},{"title":"mixed","text":{"div":"y"},"entry":[{"reference":"Condition/hidden"},{"reference":"Condition/a"}]},{"title":"plain","text":{"div":"z"}}]}"#,
        r#"{"resourceType":"Composition","section":[{"title":"mixed","entry":[{"reference":"Condition/a"}]},{"title":"plain","text":{"div":"z"}}]}"#,
    );
}

#[test]
fn contained_resources_are_part_of_their_container() {
    sees(
        &SILENT,
        r##"{"resourceType":"Observation","status":"final","text":{"div":"x"},"contained":[{"resourceType":"Basic","id":"b","author":{"display":"x",$INLINE},"code":{"text":"c"}}],"subject":{"reference":"#b"}}"##,
        r##"{"resourceType":"Observation","status":"final","contained":[{"resourceType":"Basic","id":"b","code":{"text":"c"}}],"subject":{"reference":"#b"}}"##,
    );
    sees(
        &SILENT,
        r##"{"resourceType":"Procedure","status":"done","contained":[{"resourceType":"Provenance","id":"p","target":[{"reference":"Condition/hidden"}]},{"resourceType":"Basic","id":"b"}],"focalDevice":[{"manipulated":{"reference":"#p"}}]}"##,
        r##"{"resourceType":"Procedure","status":"done","contained":[{"resourceType":"Basic","id":"b"}]}"##,
    );
}

#[test]
fn parameters_and_nested_bundles_are_looked_into() {
    sees(
        &SILENT,
        r#"{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Basic",$P2}},{"name":"b","part":[{"name":"c","resource":{"resourceType":"Basic",$P2}}]},{"name":"d","valueString":"x"}]}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"d","valueString":"x"}]}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Basic",$P2}},{"resource":{"resourceType":"Basic"}}]}}]}"#,
        r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Basic"}}]}}]}"#,
    );
}

/// R4 json.html gives a primitive an object and an array an array beside it. Where the shapes differ nobody can say what is
/// labelled: all of it goes, and without a label nothing does.
#[test]
fn a_labelled_sibling_of_another_shape_takes_its_value_along() {
    for labelled in [
        r#""birthDate":"1970-01-01","_birthDate":[{$INLINE}]"#,
        r#""birthDate":"1970-01-01","_birthDate":[{"id":"x"},{$INLINE}]"#,
        r#""birthDate":{"x":"y"},"_birthDate":[{$INLINE}]"#,
        r#""name":["a"],"_name":{$INLINE}"#,
    ] {
        let patient = |member: &str| format!(r#"{{"resourceType":"Patient",{member}"active":true}}"#);
        sees(&SILENT, &patient(&format!("{labelled},")), &patient(""));
        let plain = patient(&format!("{},", labelled.replace("$INLINE", r#""id":"i""#)));
        sees(&SILENT, &plain, &plain);
    }
}

#[test]
fn an_envelope_that_lost_something_keeps_no_label_within_its_meta() {
    let bundle = |meta: &str, entries: &str| {
        format!(
            r#"{{"resourceType":"Bundle","type":"searchset","meta":{{"lastUpdated":"2026-01-01T00:00:00Z"{meta}}}{entries}}}"#
        )
    };
    let shown = r#"{"resource":{"resourceType":"Basic","id":"b"}}"#;
    let both = format!(r#","entry":[{shown},{{"resource":{{"resourceType":"Basic","id":"h",$P2}}}}]"#);
    let one = format!(r#","entry":[{shown}]"#);
    let tag = r#","tag":[{"system":"urn:t","code":"t"}]"#;
    for (labelled, left) in [
        (r#","meta":{$SECURITY}"#, one.as_str()),
        (r#","extension":[{"url":"u","valueMeta":{$SECURITY}}]"#, &one),
        // No entry explains this one: it was meant for all of them.
        (r#","extension":[{$INLINE}]"#, ""),
    ] {
        sees(&SILENT, &bundle(&format!("{tag}{labelled}"), &both), &bundle(tag, left));
    }
    let whole = bundle(&format!(r#"{tag},"extension":[{{"url":"u","valueCode":"c"}}]"#), &one);
    sees(&SILENT, &whole, &whole);
}

#[test]
fn labels_of_what_lost_something_go_too() {
    let document = r#"{"resourceType":"Patient","meta":{"versionId":"1","security":[$PROCESS,{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"},{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}]},"birthDate":"1970-01-01","_birthDate":{$INLINE}}"#;
    sees(&SILENT, document, r#"{"resourceType":"Patient","meta":{"versionId":"1"}}"#);
    sees(&MARKED, document, r#"{"resourceType":"Patient","meta":{"versionId":"1","security":[$REDACTED]}}"#);
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","meta":{"security":[$PROCESS]},"_birthDate":{$INLINE},"active":true}"#,
        r#"{"resourceType":"Patient","active":true}"#,
    );
    sees(
        &SILENT,
        r#"{"resourceType":"Patient","meta":{"security":[$PROCESS]},"active":true}"#,
        r#"{"resourceType":"Patient","meta":{"security":[$PROCESS]},"active":true}"#,
    );
}

#[test]
fn totals_links_and_advice() {
    let silent = RedactOptions::new(Style::Silent);
    let advice = r#"{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"suppressed","details":{"text":"This source may withhold information by law; absence here is not evidence of absence."}}]},"search":{"mode":"outcome"}}"#;
    let with = |entries: &str| {
        format!(
            r#"{{"resourceType":"Bundle","type":"searchset","link":[{{"relation":"self","url":"https://public/fhir?x"}}]{entries}}}"#
        )
    };
    let links = r#""total":2,"link":[{"relation":"next","url":"https://ehr/p2"},{"relation":"self","url":"https://ehr/fhir?x"}]"#;
    let bundle = |entries: &str| format!(r#"{{"resourceType":"Bundle","type":"searchset",{links}{entries}}}"#);
    let plain = r#"{"resource":{"resourceType":"Basic"}}"#;
    let hidden = r#"{"resource":{"resourceType":"Basic",$P2}}"#;
    // Present and withheld, never there, and nothing there at all look alike.
    sees(
        &silent,
        &bundle(&format!(r#","entry":[{plain},{hidden}]"#)),
        &with(&format!(r#","entry":[{plain},{advice}]"#)),
    );
    sees(&silent, &bundle(&format!(r#","entry":[{plain}]"#)), &with(&format!(r#","entry":[{plain},{advice}]"#)));
    sees(&silent, &bundle(&format!(r#","entry":[{hidden}]"#)), &with(&format!(r#","entry":[{advice}]"#)));
    sees(&silent, &bundle(""), &with(&format!(r#","entry":[{advice}]"#)));
    sees(&silent, &bundle(r#","entry":[]"#), &with(&format!(r#","entry":[{advice}]"#)));
    let marked = RedactOptions::new(Style::Marked);
    let marked_advice = advice.replace(
        "This source may withhold information by law; absence here is not evidence of absence.",
        "Some information was withheld.",
    );
    let out = redact(&fill(&bundle(&format!(r#","entry":[{hidden}]"#))), &marked).expect("a bundle");
    let text = String::from_utf8(out.body).expect("text");
    assert!(text.contains(&marked_advice) && text.contains("REDACTED"), "{text}");
    let nothing = redact(&fill(&bundle(&format!(r#","entry":[{plain}]"#))), &marked).expect("a bundle");
    assert!(!String::from_utf8(nothing.body).expect("text").contains("suppressed"));
    let keep = RedactOptions { totals: Totals::Keep, ..RedactOptions::verbatim(Style::Silent) };
    sees(
        &keep,
        r#"{"resourceType":"Bundle","type":"searchset","total":1}"#,
        r#"{"resourceType":"Bundle","type":"searchset","total":1}"#,
    );
}

#[test]
fn outcomes_of_the_upstream_do_not_quote_records() {
    let silent = RedactOptions::new(Style::Silent);
    sees(
        &silent,
        r#"{"resourceType":"OperationOutcome","text":{"div":"x"},"issue":[{"severity":"error","code":"invalid","details":{"text":"F11.20"},"diagnostics":"at Condition/secret","expression":["Patient"]}]}"#,
        r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid"}]}"#,
    );
}

#[test]
fn addresses_are_rewritten_where_they_are_addresses() {
    let options = RedactOptions { public_base: Some("https://gw/r4"), ..SILENT };
    sees(
        &options,
        r#"{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"https://ehr/fhir/Observation/o","resource":{"resourceType":"Observation","subject":{"reference":"https:\/\/ehr\/fhir/Patient/p","display":"https://ehr/fhir is our base"},"performer":[{"reference":"https://ehr/fhirx/Patient/p"}]}}]}"#,
        r#"{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"https://gw/r4/Observation/o","resource":{"resourceType":"Observation","subject":{"reference":"https://gw/r4/Patient/p","display":"https://ehr/fhir is our base"},"performer":[{"reference":"https://ehr/fhirx/Patient/p"}]}}]}"#,
    );
}

#[test]
fn a_disclosure_with_consent_carries_the_notice() {
    struct All;
    impl Judge for All {
        fn resource(&self, _: u32, _: &ResourceFacts) -> Verdict {
            Verdict::Show
        }
        fn element(&self, _: u32, _: &ResourceFacts, _: LabelSet) -> Verdict {
            Verdict::Show
        }
        fn reference(&self, _: &Reference) -> Verdict {
            Verdict::Show
        }
        fn link(&self, _: &str, url: &str) -> Option<String> {
            Some(url.to_owned())
        }
    }
    let notice = Notice { statement: Notice::SHORT_STATEMENT.into(), scope: "Treatment, until 2027-01-01.".into() };
    let options = RedactOptions { notice: Some(&notice), ..SILENT };
    let labeller = Labeller::default();
    let document = fill(
        r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Condition",$P2}},{"resource":{"resourceType":"Condition"}},{"resource":{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.20"}]}}}]}"#,
    );
    let scanned = scan(document.as_bytes(), &Limits::default(), &labeller, "2026-11-22").expect("a document");
    let body = scanned.redact(&All, &options).expect("a body").body;
    let text = String::from_utf8(body.clone()).expect("text");
    assert_eq!(text.matches(Notice::SHORT_STATEMENT).count(), 2);
    assert_eq!(text.matches("NORDSCLCD").count(), 2);
    assert_eq!(text.matches("42CFRPart2").count(), 2);
    assert_eq!(text.matches("until 2027-01-01").count(), 2);
    let again = scan(&body, &Limits::default(), &labeller, "2026-11-22").expect("a document");
    assert_eq!(again.redact(&All, &options).expect("a body").body, body);
}

#[test]
fn every_removal_says_where_and_why() {
    let redacted = redact(
        &fill(r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","name":[{"family":"x"},{"family":"y",$INLINE}],"text":{"div":"y"}}},{"resource":{"resourceType":"Condition","id":"c",$P2}}]}"#),
        &SILENT,
    )
    .expect("something");
    let told: Vec<_> = redacted.removals.iter().map(|r| (r.path.as_str(), r.level, r.rule)).collect();
    assert_eq!(
        told,
        [
            ("$.entry[1].resource", Level::Resource, Some(1)),
            ("$.entry[0].resource.name[1]", Level::Element, Some(2)),
            ("$.entry[0].resource.text", Level::Text, None),
        ]
    );
    assert!(redacted.removals[0].labels.contains(Label::PART2));
}
