//! Searchset Bundles in the shape that EHRs send: about 1.4 KiB an entry, 5% of the entries Part 2, 5% with one element
//! labelled inline.

use std::fmt::Write;

const ACT: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// A Bundle of about this many bytes.
pub(crate) fn bundle(bytes: usize) -> Vec<u8> {
    let mut out = String::from(
        r#"{"resourceType":"Bundle","id":"b","meta":{"lastUpdated":"2026-05-01T10:00:00.000+00:00"},"type":"searchset","link":[{"relation":"self","url":"https://ehr.example/fhir/Observation?patient=p"}],"entry":["#,
    );
    let mut number = 0;
    while out.len() < bytes || number < 4 {
        if number > 0 {
            out.push(',');
        }
        entry(&mut out, number);
        number += 1;
    }
    out.push_str("]}");
    out.into_bytes()
}

fn entry(out: &mut String, n: usize) {
    let labels = match n % 20 {
        3 => format!(r#","security":[{{"system":"{ACT}","code":"42CFRPart2","display":"42 CFR Part2"}}]"#),
        7 => format!(r#","security":[{{"system":"{ACT}","code":"PROCESSINLINELABEL"}}]"#),
        _ => String::new(),
    };
    let inline = if n % 20 == 7 {
        format!(
            r#","extension":[{{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{{"system":"{ACT}","code":"42CFRPart2"}}}}]"#
        )
    } else {
        String::new()
    };
    let (patient, encounter) = (n / 40, n / 5);
    let (whole, part) = (n % 180, n % 100);
    write!(
        out,
        r#"{{"fullUrl":"https://ehr.example/fhir/Observation/0d1f4c4e-{n:06}-4b8a","resource":{{"resourceType":"Observation","id":"0d1f4c4e-{n:06}-4b8a","meta":{{"versionId":"1","lastUpdated":"2026-03-04T05:06:07.089+00:00","profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"]{labels}}},"identifier":[{{"system":"urn:ietf:rfc:3986","value":"urn:uuid:6f1c8f0e-{n:06}"}}],"status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"Laboratory"}}],"text":"Laboratory"}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"{}-{}","display":"Erythrocyte distribution width [Entitic volume] by Automated count"}},{{"system":"http://snomed.info/sct","code":"{}","display":"Érythrocytes, indice de distribution"}}],"text":"Erythrocyte distribution width"}},"subject":{{"reference":"Patient/7c1d-{patient:05}","display":"Doe, Jane"}},"encounter":{{"reference":"Encounter/91ab-{encounter:05}"}},"performer":[{{"reference":"Organization/lab-1","display":"Central laboratory"}}],"effectiveDateTime":"2026-02-03T04:05:06-05:00","issued":"2026-02-03T04:05:06.789-05:00","valueQuantity":{{"value":{whole}.{part:02},"unit":"fL","system":"http://unitsofmeasure.org","code":"fL"}},"referenceRange":[{{"low":{{"value":39.00,"unit":"fL","system":"http://unitsofmeasure.org","code":"fL"}},"high":{{"value":46.0,"unit":"fL","system":"http://unitsofmeasure.org","code":"fL"}}}}],"note":[{{"text":"Repeated on the second sample; see \"comments\" of the lab."{inline}}}]}},"search":{{"mode":"match","score":1}}}}"#,
        n % 9000 + 100,
        n % 10,
        100_000_000 + n,
    )
    .unwrap();
}
