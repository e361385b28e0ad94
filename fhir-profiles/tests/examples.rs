//! The examples of `docs/redaction.md`: generated from here, and held to what stands there.
//!
//! `FHIRWALL_WRITE_EXAMPLES=1 cargo test -p fhir-profiles --test examples` writes them anew.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use fhir_profiles::engine::{Judge, Limits, Notice, RedactError, RedactOptions, ResourceFacts, Style, Verdict, scan};
use fhir_profiles::label::{Label, LabelKind, LabelSet};
use fhir_profiles::labeller::Labeller;
use fhir_profiles::reference::Reference;
use serde_json::Value;

/// A partner without consent: Part 2 records and HIV-labelled elements are withheld.
struct WithoutConsent;

fn rule(labels: LabelSet) -> Verdict {
    let hiv = Label::by_code("HIV", &[LabelKind::Sensitivity]).unwrap();
    let withheld = [Label::PART2, Label::UNKNOWN, hiv].into_iter().collect();
    if labels.intersects(withheld) { Verdict::Withhold { rule: 0 } } else { Verdict::Show }
}

impl Judge for WithoutConsent {
    fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
        rule(facts.labels)
    }
    fn element(&self, _: u32, _: &ResourceFacts, labels: LabelSet) -> Verdict {
        rule(labels)
    }
    fn reference(&self, _: &Reference) -> Verdict {
        Verdict::Show
    }
    fn link(&self, _: &str, url: &str) -> Option<String> {
        Some(url.to_owned())
    }
}

/// A partner whom the patient's consent covers.
struct WithConsent;

impl Judge for WithConsent {
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

struct Example {
    title: &'static str,
    says: &'static str,
    style: Style,
    consent: bool,
    before: &'static str,
}

const EXAMPLES: &[Example] = &[
    Example {
        title: "A labelled record in a search result",
        says: "The second row is labelled `42CFRPart2`. It goes whole, and so does the reference to it with its display. The outcome at the end is on every search result of this partner.",
        style: Style::Silent,
        consent: false,
        before: r#"{"resourceType":"Bundle","type":"searchset","total":2,"entry":[
            {"resource":{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"reasonReference":[{"reference":"Condition/c1","display":"Opioid dependence"}]}},
            {"resource":{"resourceType":"Condition","id":"c1","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]},"subject":{"reference":"Patient/p1"}}}]}"#,
    },
    Example {
        title: "A record that nobody labelled",
        says: "The diagnosis code is on the shipped Part 2 list, under another name of ICD-10-CM. The medication beside it is not.",
        style: Style::Silent,
        consent: false,
        before: r#"{"resourceType":"Bundle","type":"collection","entry":[
            {"resource":{"resourceType":"Condition","id":"c2","code":{"coding":[{"system":"urn:oid:2.16.840.1.113883.6.90","code":"F11.20"}]},"subject":{"reference":"Patient/p1"}}},
            {"resource":{"resourceType":"MedicationRequest","id":"m1","status":"active","intent":"order","medicationCodeableConcept":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"723"}],"text":"Amoxicillin"},"subject":{"reference":"Patient/p1"}}}]}"#,
    },
    Example {
        title: "One element, silent",
        says: "The note is labelled on the element. It goes; so do the narrative, which may repeat it, and the label that says that there were labels inside.",
        style: Style::Silent,
        consent: false,
        before: r#"{"resourceType":"Observation","id":"o1","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PROCESSINLINELABEL"}]},"text":{"status":"generated","div":"<div>CD4 count; HIV positive since 2019</div>"},"status":"final","code":{"text":"CD4 count"},"valueQuantity":{"value":512.0},"note":[{"extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}}],"text":"HIV positive since 2019"}]}"#,
    },
    Example {
        title: "The same, marked",
        says: "A partner who may ask for more is told that something is missing, and not what.",
        style: Style::Marked,
        consent: false,
        before: r#"{"resourceType":"Observation","id":"o1","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PROCESSINLINELABEL"}]},"text":{"status":"generated","div":"<div>CD4 count; HIV positive since 2019</div>"},"status":"final","code":{"text":"CD4 count"},"valueQuantity":{"value":512.0},"note":[{"extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}}],"text":"HIV positive since 2019"}]}"#,
    },
    Example {
        title: "An element that the record cannot do without, marked",
        says: "A component must have a code. It stays, emptied, with the reason. In the silent style the component goes.",
        style: Style::Marked,
        consent: false,
        before: r#"{"resourceType":"Observation","id":"o2","status":"final","code":{"text":"Panel"},"component":[{"code":{"extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}}],"text":"HIV 1 antibody"}},{"code":{"text":"Sodium"},"valueQuantity":{"value":140}}]}"#,
    },
    Example {
        title: "With consent",
        says: "The patient's consent covers this partner. The record is shown, with the notice of 42 CFR 2.32(a), the scope of the consent by 2.32(b), and the label that forbids to pass it on without consent.",
        style: Style::Silent,
        consent: true,
        before: r#"{"resourceType":"Condition","id":"c1","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]},"subject":{"reference":"Patient/p1"}}"#,
    },
    Example {
        title: "A record asked for by its id",
        says: "Withheld as a whole. The gateway answers exactly as for an id that does not exist.",
        style: Style::Silent,
        consent: false,
        before: r#"{"resourceType":"Condition","id":"c1","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]},"subject":{"reference":"Patient/p1"}}"#,
    },
];

fn pretty(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

fn written(example: &Example) -> String {
    let labeller = Labeller::default();
    let document = scan(example.before.as_bytes(), &Limits::default(), &labeller, "2026-11-22").unwrap();
    let notice = Notice {
        statement: Notice::SHORT_STATEMENT.to_owned(),
        scope: "Disclosed with the patient's consent, for treatment only, until 2027-06-30.".to_owned(),
    };
    let options = RedactOptions { notice: Some(&notice), ..RedactOptions::new(example.style) };
    let judge: &dyn Judge = if example.consent { &WithConsent } else { &WithoutConsent };
    let after = match document.redact(judge, &options) {
        Ok(redacted) => format!("```json\n{}\n```", pretty(&redacted.body)),
        Err(RedactError::RootWithheld { .. }) => "Nothing: 404.".to_owned(),
    };
    let before = pretty(example.before.as_bytes());
    format!("### {}\n\n{}\n\nBefore:\n\n```json\n{before}\n```\n\nAfter:\n\n{after}\n", example.title, example.says)
}

#[test]
fn the_examples_of_the_manual_are_what_the_engine_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/redaction.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (start, end) = ("<!-- examples -->\n", "<!-- end of examples -->\n");
    let (above, rest) = page.split_once(start).unwrap();
    let (standing, below) = rest.split_once(end).unwrap();
    let wanted = format!("\n{}\n", EXAMPLES.iter().map(written).collect::<Vec<_>>().join("\n"));
    if std::env::var_os("FHIRWALL_WRITE_EXAMPLES").is_some() {
        std::fs::write(path, format!("{above}{start}{wanted}{end}{below}")).unwrap();
    } else if standing != wanted {
        panic!("docs/redaction.md is not what the engine does: write the examples anew and read the difference");
    }
}
