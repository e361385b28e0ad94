//! `fhirwall redact`: Bundles and NDJSON, with and without consents, explained, and its exit codes.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fhirwall::demo::world::Neighbours;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Told {
    code: i32,
    shown: String,
    said: String,
}

/// What the verb makes of an input, by the configuration of the demo.
fn redact(config: &Path, arguments: &[&str], input: &str) -> Told {
    let mut verb = Command::new(env!("CARGO_BIN_EXE_fhirwall"));
    verb.args(["redact", "--config"]).arg(config).args(arguments);
    let mut child = verb.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A verb that refuses its arguments reads nothing.
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code().unwrap(), shown: text(output.stdout), said: text(output.stderr) }
}

fn condition(id: &str, code: &str, labelled: bool) -> Value {
    let mut condition = json!({
        "resourceType": "Condition", "id": id, "subject": {"reference": "Patient/amara-osei"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]}
    });
    if labelled {
        condition.as_object_mut().unwrap().insert(
            "meta".to_owned(),
            json!({"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}]}),
        );
    }
    condition
}

fn bundle() -> String {
    let entries =
        [condition("labelled", "Z99.9", true), condition("coded", "F11.20", false), condition("plain", "I10", false)]
            .map(|resource| json!({"resource": resource}));
    serde_json::to_string_pretty(&json!({"resourceType": "Bundle", "type": "searchset", "total": 3, "entry": entries}))
        .unwrap()
}

fn ids(shown: &str) -> Vec<String> {
    let bundle: Value = serde_json::from_str(shown).unwrap();
    let entries = bundle["entry"].as_array().unwrap().iter();
    entries.filter_map(|entry| entry["resource"]["id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn what_a_partner_would_see_offline() {
    let dir = TempDir::new().unwrap();
    let world = Neighbours::start(dir.path(), None).await.unwrap();
    let config = world.config_file();
    let consents = dir.path().join("consents.json");
    std::fs::write(&consents, world.ehr.resource("Consent", "amara-consent").unwrap().to_string()).unwrap();
    let (partner, consents) = (world.treatment.profile.client_id, consents.to_str().unwrap());
    let run = |arguments: &[&str], input: &str| redact(&config, &[&["--as", partner], arguments].concat(), input);

    // A Bundle over several lines: without a consent the program's records go, and the total with them.
    let without = run(&[], &bundle());
    assert_eq!((without.code, ids(&without.shown)), (0, vec!["plain".to_owned()]), "{}", without.said);
    for trace in ["42CFRPart2", "F11", "\"total\"", "labelled"] {
        assert!(!without.shown.contains(trace), "{trace} is in {}", without.shown);
    }
    assert_eq!(without.said, "", "nothing is explained unasked");

    // With the patient's consent all is shown, and the notice of 2.32 travels along.
    let with = run(&["--consents", consents], &bundle());
    assert_eq!((with.code, ids(&with.shown).len()), (0, 3), "{}", with.said);
    assert!(with.shown.contains("42 CFR part 2"), "{}", with.shown);

    // Explained on standard error, a line a removal; what is shown is the same.
    let explained = run(&["--explain"], &bundle());
    assert_eq!(explained.shown, without.shown);
    let of = |path: &str| explained.said.lines().find(|line| line.starts_with(path)).unwrap_or_default();
    assert!(of("$.entry[0].resource\t").contains("\tMeta"), "{}", explained.said);
    assert!(of("$.entry[1].resource\t").contains("Code"), "{}", explained.said);
    assert!(of("$.entry[0].resource\t").contains("part2-lawful-basis"), "{}", explained.said);

    // NDJSON: each line by itself, those that are withheld leave none behind.
    let lines = [condition("a", "I10", false), condition("b", "I10", true), condition("c", "I10", false)];
    let lines = lines.map(|line| line.to_string()).join("\n");
    let told = run(&[], &lines);
    let shown: Vec<Value> = told.shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.code, 0, "{}", told.said);
    assert_eq!(shown.iter().map(|line| line["id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(run(&["--consents", consents], &lines).shown.lines().count(), 3);

    // A visit that is not in the input may have been one to a program. The visit itself tells, and so may the operator.
    let in_visit = |id: &str| {
        let mut condition = condition(id, "I10", false);
        condition.as_object_mut().unwrap().insert("encounter".to_owned(), json!({"reference": "Encounter/e1"}));
        condition
    };
    let (lines, whole) = (in_visit("in-visit").to_string(), {
        let visit = json!({
            "resourceType": "Encounter", "id": "e1", "status": "finished", "class": {"code": "AMB"},
            "subject": {"reference": "Patient/amara-osei"}
        });
        let entries = [in_visit("in-visit"), visit].map(|resource| json!({"resource": resource}));
        serde_json::to_string_pretty(&json!({"resourceType": "Bundle", "type": "collection", "entry": entries}))
            .unwrap()
    });
    let unseen = run(&["--explain"], &lines);
    assert_eq!((unseen.code, unseen.shown.as_str()), (1, ""), "{}", unseen.said);
    assert!(unseen.said.contains("\tunknown\tPropagated"), "{}", unseen.said);
    assert_eq!(run(&["--outside-visits-unlabelled"], &lines).shown.lines().count(), 1);
    assert_eq!(ids(&run(&[], &whole).shown), ["in-visit", "e1"]);
    // A Binary says nothing of itself: it is what the document is that refers to it.
    let binary = json!({"resourceType": "Binary", "id": "b1", "contentType": "text/plain", "data": "AAAA"});
    let letter = json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current", "subject": {"reference": "Patient/amara-osei"},
        "content": [{"attachment": {"contentType": "text/plain", "url": "Binary/b1"}}]
    });
    for (entries, expected) in [(vec![binary.clone()], vec![]), (vec![letter, binary], vec!["d1", "b1"])] {
        let entries: Vec<Value> = entries.into_iter().map(|resource| json!({"resource": resource})).collect();
        let bundle = json!({"resourceType": "Bundle", "type": "searchset", "entry": entries});
        let told = run(&[], &bundle.to_string());
        let seen = if told.shown.is_empty() { Vec::new() } else { ids(&told.shown) };
        assert_eq!(seen, expected, "{}", told.said);
    }

    // What nobody knows counts as what the configuration says.
    let strange = json!({
        "resourceType": "Condition", "id": "strange", "subject": {"reference": "Patient/amara-osei"},
        "meta": {"security": [{"system": "urn:site:labels", "code": "X7"}]}
    });
    for (configured, labels) in [("restricted", "\tunknown\t"), ("very-restricted", "\tunknown,V\t")] {
        let stricter = dir.path().join("stricter.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&stricter, text.replace("unknown: restricted", &format!("unknown: {configured}"))).unwrap();
        let told = redact(&stricter, &["--as", partner, "--explain"], &strange.to_string());
        assert_eq!((told.code, told.said.contains(labels)), (1, true), "{configured}: {}", told.said);
    }

    // Nothing that may be seen: exit code 1, and nothing on standard output.
    let hidden = run(&[], &condition("labelled", "I10", true).to_string());
    assert_eq!((hidden.code, hidden.shown.as_str()), (1, ""), "{}", hidden.said);

    // What is not understood is not shown: exit code 2 and a reason without content.
    let broken = run(&[], r#"{"resourceType":"Condition","id":"secret-id","id":"twice"}"#);
    assert_eq!((broken.code, broken.shown.as_str()), (2, ""), "{}", broken.said);
    assert!(broken.said.contains("not understood") && !broken.said.contains("secret-id"), "{}", broken.said);
    let nobody = redact(&config, &["--as", "nobody"], &bundle());
    assert_eq!((nobody.code, nobody.shown.as_str()), (2, ""), "{}", nobody.said);
    let nowhere = redact(&dir.path().join("none.yaml"), &["--as", partner], &bundle());
    assert_eq!((nowhere.code, nowhere.shown.as_str()), (2, ""), "{}", nowhere.said);
}
