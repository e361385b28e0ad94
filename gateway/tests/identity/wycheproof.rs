//! Wycheproof's JWS vectors: nothing invalid passes, everything valid of an enabled algorithm does.

use std::path::PathBuf;

use fhirwall::identify::issuer::SignatureAlgorithm;
use fhirwall::identify::jwk::VerifyingKey;
use serde_json::Value;

/// Verifies as a token is verified, except that the payload of these vectors is no claim set.
fn verifies(jws: &str, key: &VerifyingKey) -> bool {
    let mut parts = jws.rsplitn(2, '.');
    let (Some(signature), Some(message)) = (parts.next(), parts.next()) else { return false };
    let Some((header, _)) = message.split_once('.') else { return false };
    let Ok(header) = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header) else {
        return false;
    };
    let Ok(header) = fhirwall::identify::json::unique_object(&header) else { return false };
    let Some(algorithm) = header.get("alg").and_then(Value::as_str) else { return false };
    let Ok(algorithm) = algorithm.parse::<SignatureAlgorithm>() else { return false };
    key.verifies(algorithm, message.as_bytes(), signature)
}

#[test]
fn wycheproof_signatures_are_judged_as_expected() {
    let shared = std::env::var("FHIRWALL_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").to_owned());
    let path = PathBuf::from(shared).join("corpora/jose/wycheproof/json_web_signature_test.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return;
    };
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let (mut invalid, mut valid, mut other) = (0, 0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let public = group.get("public").and_then(Value::as_object);
        let key = public.and_then(|jwk| VerifyingKey::from_jwk(jwk).ok());
        for test in group["tests"].as_array().unwrap() {
            let name = format!("tcId {} {}", test["tcId"], test["comment"]);
            let passes = key.as_ref().is_some_and(|key| test["jws"].as_str().is_some_and(|jws| verifies(jws, key)));
            match (test["result"].as_str().unwrap(), &key) {
                // The vector's key says PS256 and its header PS384: RFC 7517 section 4.4 makes them strangers. Without
                // that `alg`, the signature holds.
                ("valid", Some(_)) if [346, 350].contains(&test["tcId"].as_u64().unwrap()) => {
                    assert!(!passes, "{name}");
                    let mut jwk = public.unwrap().clone();
                    jwk.remove("alg");
                    let key = VerifyingKey::from_jwk(&jwk).unwrap();
                    assert!(verifies(test["jws"].as_str().unwrap(), &key), "{name}");
                    other += 1;
                }
                ("valid", Some(_)) => {
                    assert!(passes, "valid but refused: {name}");
                    valid += 1;
                }
                // Symmetric keys and curves that cannot be configured: refused whatever the vector says.
                ("valid", None) => other += 1,
                _ => {
                    assert!(!passes, "invalid but accepted: {name}");
                    invalid += 1;
                }
            }
        }
    }
    println!("{invalid} invalid refused, {valid} valid accepted, {other} valid of algorithms that are not enabled");
    assert_eq!(invalid + valid + other, 401);
    assert!(valid > 0);
}
