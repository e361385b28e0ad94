//! Outside-written material: a JSON grammar suite, other projects' FHIR data, and a list of codes that CMS uses.
//! Found by `FHIRWALL_SHARED` (default: `../shared` from the workspace root); skipped, and said so, when absent.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};

use fhir_profiles::codes::{Date, Dates};
use fhir_profiles::engine::{Judge, Limits, RedactOptions, ResourceFacts, ScanError, Style, Verdict, grammar, scan};
use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::Labeller;
use fhir_profiles::reference::Reference;

fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FHIRWALL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let found = root.join(below);
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: {below} is not among the shared test material");
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

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

const TODAY: &str = "2026-11-22";

/// The document as it leaves when everything is permitted.
fn shown(bytes: &[u8]) -> Result<Vec<u8>, ScanError> {
    let labeller = Labeller::default();
    let document = scan(bytes, &Limits::default(), &labeller, TODAY)?;
    let redacted = document.redact(&All, &RedactOptions::verbatim(Style::Silent));
    redacted.map(|redacted| redacted.body).map_err(|_| ScanError::NotAResource)
}

/// The suite's own words: `y_` must be accepted, `n_` must be refused, `i_` is for the parser to decide.
/// Ours refuses two `y_` (a member name twice), and of `i_` accepts what is well-formed Unicode and nests within bounds.
#[test]
fn the_json_grammar_is_rfc_8259() {
    let Some(folder) = shared("corpora/JSONTestSuite/test_parsing") else { return };
    let (mut accepted, mut refused) = (0, 0);
    let mut decided = Vec::new();
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let verdict = grammar(&bytes, &Limits::default());
        match name.split_once('_').unwrap().0 {
            "y" if name.starts_with("y_object_duplicated_key") => {
                assert_eq!(verdict, Err(ScanError::DuplicateMember), "{name}");
            }
            "y" => {
                assert_eq!(verdict, Ok(()), "{name}");
                // Inside a resource it passes byte for byte.
                let text = String::from_utf8(bytes).unwrap();
                let within = format!(r#"{{"resourceType":"Basic","x":{text}}}"#);
                assert_eq!(shown(within.as_bytes()).map(|b| String::from_utf8(b).unwrap()), Ok(within), "{name}");
                accepted += 1;
            }
            "n" => {
                assert!(verdict.is_err(), "{name}");
                refused += 1;
            }
            "i" => decided.push((name, verdict.is_ok())),
            _ => panic!("{name} is of no known kind"),
        }
    }
    assert_eq!((accepted, refused), (93, 188));
    let passed: Vec<&str> = decided.iter().filter(|(_, ok)| *ok).map(|(name, _)| name.as_str()).collect();
    assert_eq!(passed, ACCEPTED_BY_CHOICE);
}

/// Numbers beyond any type pass as they are written, since no number is ever converted. Everything else that the suite
/// leaves open (other encodings, byte order marks, lone surrogates, invalid UTF-8, 500 levels) is refused.
const ACCEPTED_BY_CHOICE: &[&str] = &[
    "i_number_double_huge_neg_exp.json",
    "i_number_huge_exp.json",
    "i_number_neg_int_huge_exp.json",
    "i_number_pos_double_huge_exp.json",
    "i_number_real_neg_overflow.json",
    "i_number_real_pos_overflow.json",
    "i_number_real_underflow.json",
    "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",
    "i_number_very_big_negative_int.json",
];

#[test]
fn every_shared_resource_passes_unchanged_when_all_is_permitted() {
    let Some(folder) = shared("data") else { return };
    let (mut resources, mut others) = (0, 0);
    for path in files(&folder) {
        let bytes = std::fs::read(&path).unwrap();
        let documents: Vec<&[u8]> = match path.extension().and_then(|e| e.to_str()) {
            Some("json") => vec![&bytes],
            Some("ndjson") => bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect(),
            _ => continue,
        };
        for document in documents {
            match shown(document) {
                Ok(body) => {
                    assert!(body == document, "{} was changed", path.display());
                    resources += 1;
                }
                // Tables, lists of codes, and an R5 resource.
                Err(_) => {
                    let value: serde_json::Value = serde_json::from_slice(document).unwrap();
                    let kind = value.get("resourceType").and_then(|t| t.as_str()).map(str::parse::<ResourceType>);
                    assert!(!matches!(kind, Some(Ok(_))), "{} was refused", path.display());
                    others += 1;
                }
            }
        }
    }
    assert!(resources > 1000, "{resources} resources, {others} other documents");
}

#[test]
fn each_code_of_the_cms_list_labels_in_its_system_and_days_and_in_no_other() {
    let Some(path) = shared("data/part2-codes/security_labels.yml") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}:")).map(str::trim));
        line.map(|value| value.trim_matches(['\'', '"']).to_owned()).unwrap()
    };
    let entries: Vec<[String; 4]> = text
        .split("- system:")
        .skip(1)
        .map(|block| format!("system:{block}"))
        .map(|block| ["system", "code", "startDate", "endDate"].map(|name| field(&block, name)))
        .collect();
    assert_eq!(entries.len(), 720);
    let labeller = Labeller::default();
    let systems: std::collections::BTreeSet<&String> = entries.iter().map(|entry| &entry[0]).collect();
    let is_part2 = |system: &str, code: &str, day: &str| {
        let coding = format!(
            r#"{{"resourceType":"Claim","created":"{day}","item":[{{"x":{{"coding":[{{"system":"{system}","code":"{code}"}}]}}}}]}}"#
        );
        let document = scan(coding.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
        document.resources()[0].labels.contains(Label::PART2)
    };
    for [system, code, start, end] in &entries {
        assert!(is_part2(system, code, start), "{system}|{code} on its first day");
        assert!(is_part2(system, code, end), "{system}|{code} on its last day");
        if start != "1970-01-01" {
            assert!(!is_part2(system, code, "1999-12-31"), "{system}|{code} before its first day");
        }
        if end != "9999-12-31" {
            assert!(!is_part2(system, code, "2021-06-01"), "{system}|{code} after its last day");
        }
        for other in &systems {
            let listed = entries.iter().any(|e| e[0] == **other && e[1].replace('.', "") == code.replace('.', ""));
            if !listed {
                assert!(!is_part2(other, code, start), "{other}|{code} is of no list");
            }
        }
    }
    assert!(!labeller.code("http://hl7.org/fhir/sid/icd-10-cm", "F11.20", Dates::new(Date::MIN, Date::MAX)).is_empty());
    assert!(!is_part2("http://hl7.org/fhir/sid/icd-10-cm", "H00.34", TODAY));
}

/// The value sets of R4's security labels and of DS4P, as THO has them: every code is decided, and by what it says.
#[test]
fn every_official_label_code_is_decided() {
    let Some(path) = shared("data/terminology/security-label-codes.json") else { return };
    let rows: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let labeller = Labeller::default();
    let mut harmless: Vec<String> = Vec::new();
    let rows = rows.as_array().unwrap();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap();
        let (group, system, code) = (text("group"), text("system"), text("code"));
        let labels = labeller.label(system, code).unwrap_or_else(|| panic!("{system}|{code} is unknown"));
        if labels.is_empty() {
            harmless.push(code.to_owned());
        }
        // A record with this label alone says so, and does not count as one with a label that nobody knows.
        let record = format!(
            r#"{{"resourceType":"Observation","meta":{{"security":[{{"system":"{system}","code":"{code}"}}]}}}}"#
        );
        let document = scan(record.as_bytes(), &Limits::default(), &labeller, TODAY).unwrap();
        assert_eq!((document.resources()[0].labels, document.resources()[0].unknown_labels), (labels, 0), "{code}");
        match group {
            "sensitivity" | "us-privacy-law" => assert!(!labels.is_empty(), "{code} hides nothing"),
            "integrity" => assert!(labels.iter().all(|l| l.kind() == fhir_profiles::label::LabelKind::Integrity)),
            _ => {}
        }
    }
    assert_eq!(rows.len(), 250);
    harmless.sort();
    assert_eq!(harmless.join(" "), HARMLESS);
    // The legitimate neighbours: what is of no official list, or of another's, stays unknown.
    for (system, code) in [
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "HTEST"),
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "MENCAT"),
        ("http://terminology.hl7.org/CodeSystem/v3-RoleCode", "PSY"),
        ("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "r"),
    ] {
        assert_eq!(labeller.label(system, code), None, "{system}|{code}");
    }
}

/// The official codes that hide nothing: test data, integrity, instructions to the recipient or to every sender.
const HARMLESS: &str = "ABSTRED AGGRED ANONYED AOD AUDIT AUDTR COPYMark CPLYCC CPLYJSP CPLYOPP CPLYOSP CPLYPOL \
    DECLASSIFYLABEL DELAU DOWNGRDLABEL DRAFTMark DRIVLABEL DeliverToAddresseeOnlyMark ENCRYPT ENCRYPTR ENCRYPTT \
    ENCRYPTU HTEST IMPLIED IMPLIEDD LABEL MINEC NOCOLLECT NOCONSENT NOINTEGRATE NOPERSISTP NOPP NORELINK NOREUSE OPTIN \
    OPTINR PATRPT PERSISTLABEL PRIVMARK PSEUDED UNCERTREL UPGRDLABEL UUI VERSIONED";
