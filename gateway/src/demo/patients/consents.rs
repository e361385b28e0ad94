//! What the sample patients have agreed to, in the shape of 42 CFR 2.31(a).

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{ACT_CODE, part2_labels};

/// The one consent of Amara Osei.
pub(crate) fn given(now: OffsetDateTime) -> Value {
    consent("amara-consent", "amara-osei", "permit", now)
}

/// The one consent of Amara Osei, as it is after she has revoked it.
pub(crate) fn revoked(now: OffsetDateTime) -> Value {
    let mut consent = given(now);
    if let Some(consent) = consent.as_object_mut() {
        // 2.31(a)(6): revoked in writing; R4 calls such a directive inactive.
        consent.insert("status".to_owned(), Value::from("inactive"));
    }
    consent
}

pub(super) fn all(now: OffsetDateTime) -> Vec<Value> {
    let mut refusal = consent("celia-refusal", "celia-moss", "deny", now);
    // She refuses what the program wrote, and nothing else: her clinician still learns of her allergy.
    if let Some(provision) = refusal.get_mut("provision").and_then(Value::as_object_mut) {
        provision.insert("securityLabel".to_owned(), json!([{"system": ACT_CODE, "code": "42CFRPart2"}]));
    }
    vec![given(now), refusal]
}

fn consent(id: &str, patient: &str, decision: &str, now: OffsetDateTime) -> Value {
    let day = |days: i64| (now + Duration::days(days)).date().to_string();
    let coding = |system: &str, code: &str| json!({"coding": [{"system": system, "code": code}]});
    json!({
        "resourceType": "Consent",
        "id": id,
        "meta": {"security": part2_labels(&[])},
        "status": "active",
        "scope": coding("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy"),
        "category": [coding(ACT_CODE, "42CFRPart2CD")],
        "patient": {"reference": format!("Patient/{patient}")},
        "dateTime": day(-60),
        "performer": [{"reference": format!("Patient/{patient}")}],
        "organization": [{"reference": "Organization/harbor-house"}],
        // 2.31(a)(8): signed, and someone has checked.
        "verification": [{
            "verified": true,
            "verifiedWith": {"reference": format!("Patient/{patient}")},
            "verificationDate": day(-60),
        }],
        "policy": [{
            "authority": "https://www.hhs.gov/",
            "uri": "https://www.ecfr.gov/current/title-42/chapter-I/subchapter-A/part-2",
        }],
        // 2.31(a)(8): signed, which R4 shows by who verified it.
        "verification": [{
            "verified": true,
            "verifiedWith": {"reference": format!("Patient/{patient}")},
            "verificationDate": day(-60),
        }],
        "provision": {
            "type": decision,
            "period": {"start": day(-60), "end": day(300)},
            "actor": [{
                "role": coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP"),
                "reference": {"reference": "Organization/recovery-path"},
            }],
            "action": [
                coding("http://terminology.hl7.org/CodeSystem/consentaction", "access"),
                coding("http://terminology.hl7.org/CodeSystem/consentaction", "disclose"),
            ],
            "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
        },
    })
}
