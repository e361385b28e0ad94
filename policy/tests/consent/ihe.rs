//! The Consent examples of IHE Privacy Consent on FHIR, read where they lie, with the outcomes argued.

use std::path::PathBuf;
use std::sync::LazyLock;

use fhir_profiles::ids::LogicalId;
use fhir_profiles::label::{Label, LabelSet};
use fhirwall_policy::consent::{ConsentBook, ConsentOutcome, ConsentQuestion, ConsentRecord, TimeSpan, evaluate};
use fhirwall_policy::partner::Recipient;
use fhirwall_policy::purpose::PurposeOfUse;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;

use super::case::word;

struct Examples(PathBuf);

impl Examples {
    fn open() -> Option<Self> {
        let shared = std::env::var_os("FHIRWALL_SHARED")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
        let folder = shared.join("data/ihe-pcf-consent-r4");
        if folder.is_dir() {
            return Some(Self(folder));
        }
        eprintln!("skipped: the IHE examples are not at {}", folder.display());
        None
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    fn book(&self, consent: &str) -> ConsentBook {
        let mut book = ConsentBook::new("ex-patient".parse().unwrap(), [].into());
        book.add(ConsentRecord::parse(&self.read(&format!("Consent-ex-consent-{consent}.json"))).unwrap()).unwrap();
        book
    }

    /// The labels and the date of an Observation. HTEST marks test data and is no label of sensitivity.
    fn observation(&self, name: &str) -> (LabelSet, TimeSpan) {
        let json: Value = serde_json::from_slice(&self.read(&format!("Observation-ex-{name}.json"))).unwrap();
        let labels = json["meta"]["security"].as_array().unwrap().iter().filter(|coding| coding["code"] != "HTEST");
        let label = |coding: &Value| {
            Label::from_coding(coding["system"].as_str().unwrap(), coding["code"].as_str().unwrap()).unwrap()
        };
        (labels.map(label).collect(), TimeSpan::moment(json["effectiveDateTime"].as_str().unwrap()).unwrap())
    }

    fn ask<'q>(&self, consent: &str, labels: LabelSet, ask: impl FnOnce(&mut ConsentQuestion<'q>)) -> ConsentOutcome {
        let kind = "Observation".parse().unwrap();
        let mut question = ConsentQuestion::new(&PATIENT, &[], PurposeOfUse::Treat, labels, kind, NOW);
        ask(&mut question);
        evaluate(&self.book(consent), &question)
    }
}

static PATIENT: LazyLock<LogicalId> = LazyLock::new(|| "ex-patient".parse().unwrap());

const NOW: OffsetDateTime = datetime!(2022-09-01 12:00 UTC);

fn normal() -> LabelSet {
    LabelSet::EMPTY.with(Label::from_coding("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "N").unwrap())
}

fn content(code: &str) -> LabelSet {
    let label = Label::from_coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", code).unwrap();
    LabelSet::EMPTY.with(label).with(Label::RESTRICTED)
}

#[track_caller]
fn is(outcome: &ConsentOutcome, expected: &str) {
    assert_eq!(word(outcome), expected);
}

#[test]
fn basic_consents() {
    let Some(examples) = Examples::open() else { return };
    // Permitted for treatment, payment and operations, to everybody, for all data that no law singles out.
    is(&examples.ask("basic-treat", normal(), |_| {}), "permit");
    is(&examples.ask("basic-treat", content("HIV"), |_| {}), "permit");
    is(&examples.ask("basic-treat", normal(), |q| q.purpose = PurposeOfUse::Hpaymt), "permit");
    // Research is not among the purposes.
    is(&examples.ask("basic-treat", normal(), |q| q.purpose = PurposeOfUse::Hresch), "silent");
    // The alcohol use observation is a substance use record: nothing in a basic consent speaks of Part 2 (2.31(a)(3)).
    let (alcohol, _) = examples.observation("alcoholUse");
    is(&examples.ask("basic-treat", alcohol, |_| {}), "silent");
    // The reject example denies the same three purposes, and says nothing of others.
    is(&examples.ask("basic-reject", normal(), |_| {}), "deny");
    is(&examples.ask("basic-reject", normal(), |q| q.purpose = PurposeOfUse::Etreat), "deny");
    is(&examples.ask("basic-reject", normal(), |q| q.purpose = PurposeOfUse::Hresch), "silent");
}

#[test]
fn expired_consent() {
    let Some(examples) = Examples::open() else { return };
    is(&examples.ask("expired-treat", normal(), |_| {}), "permit");
    is(&examples.ask("expired-treat", normal(), |q| q.now = datetime!(2023-01-02 0:00 UTC)), "silent");
    // At noon UTC on its last day it is 2023 already somewhere, and the consent does not say where it was written.
    is(&examples.ask("expired-treat", normal(), |q| q.now = datetime!(2022-12-31 12:00 UTC)), "silent");
}

#[test]
fn intermediate_consents() {
    let Some(examples) = Examples::open() else { return };
    let researcher = [Recipient::Reference("Organization/ex-org-researcher".into())];
    // Its purpose is a code of the example's own system: no request can be certain to be for it.
    let outcome = examples.ask("intermediate-purpose", normal(), |q| {
        q.recipients = &researcher;
        q.purpose = PurposeOfUse::Hresch;
    });
    is(&outcome, "silent");
    // Data of 2022 only: the alcohol observation is of 2022-06-13, the blood pressure of 2004.
    let (_, in_2022) = examples.observation("alcoholUse");
    let (labels, in_2004) = examples.observation("bloodPressure");
    is(&examples.ask("intermediate-timeframe", labels, |q| q.about.time = Some(&in_2022)), "permit");
    is(&examples.ask("intermediate-timeframe", labels, |q| q.about.time = Some(&in_2004)), "silent");
    // A record without a date cannot be told to be of 2022.
    is(&examples.ask("intermediate-timeframe", labels, |_| {}), "silent");
}

#[test]
fn advanced_consents() {
    let Some(examples) = Examples::open() else { return };
    let (alcohol, _) = examples.observation("alcoholUse");
    let (pressure, _) = examples.observation("bloodPressure");
    // Normal data yes; restricted data denied in so many words, although its parent fails on the label: PCF reads a
    // nested label as standing beside its parent's, R4 as an exception within it. The denial is heard.
    is(&examples.ask("advanced-normal-not-restricted", pressure, |_| {}), "permit");
    is(&examples.ask("advanced-normal-not-restricted", alcohol, |_| {}), "deny");
    is(&examples.ask("advanced-normal-not-restricted", content("HIV"), |_| {}), "deny");
    // Normal data to all; psychiatric data "also" to one practitioner. For R4 the nested permit is an exception within
    // normal data and opens nothing; for PCF it opens psychiatric data. The less permissive reading counts, also for the
    // practitioner: who wants the other writes a second Consent.
    let practitioner = [Recipient::Reference("Practitioner/ex-practitioner".into())];
    is(&examples.ask("advanced-normal-focused-psy", pressure, |_| {}), "permit");
    is(&examples.ask("advanced-normal-focused-psy", content("PSY"), |_| {}), "silent");
    is(&examples.ask("advanced-normal-focused-psy", content("PSY"), |q| q.recipients = &practitioner), "silent");
}

#[test]
fn every_example_is_read_and_serves_its_own_patient_alone() {
    let Some(examples) = Examples::open() else { return };
    let names = std::fs::read_dir(&examples.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut count = 0;
    for name in names.filter(|name| name.starts_with("Consent-")) {
        let record = ConsentRecord::parse(&examples.read(&name)).unwrap();
        let mut book = ConsentBook::new("somebody-else".parse().unwrap(), [].into());
        assert!(book.add(record).is_err(), "{name}");
        count += 1;
    }
    assert!(count >= 7, "{count}");
}
