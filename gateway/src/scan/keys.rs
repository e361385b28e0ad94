//! What is wrong with published keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The shortest RSA modulus that may sign (NIST SP 800-131A revision 2 table 2).
const RSA_BITS: usize = 2048;

/// What is wrong with a key set (RFC 7517), a sentence each; nothing when it is well.
pub(super) fn faults(document: &Value) -> Vec<String> {
    let Some(keys) = document.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty()) else {
        return vec!["it holds no key".to_owned()];
    };
    keys.iter().filter_map(fault).collect()
}

fn fault(key: &Value) -> Option<String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let id = text("kid").unwrap_or("without kid");
    if key.get("d").is_some() || key.get("k").is_some() {
        return Some(format!("key `{id}` is published with its private or shared part"));
    }
    match text("kty") {
        Some("RSA") => {
            let modulus = text("n").and_then(|n| URL_SAFE_NO_PAD.decode(n).ok()).unwrap_or_default();
            let bits = modulus.iter().skip_while(|byte| **byte == 0).count().saturating_mul(8);
            (bits < RSA_BITS).then(|| format!("key `{id}` is RSA of {bits} bits"))
        }
        Some("EC" | "OKP") => None,
        Some(_) | None => Some(format!("key `{id}` is of no known kind")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weak_private_and_unknown_keys_are_told() {
        let rsa = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        for (set, expected) in [
            (json!({"keys": [{"kty": "RSA", "kid": "a", "n": rsa(256)}, {"kty": "EC", "kid": "b"}]}), vec![]),
            (json!({"keys": [{"kty": "RSA", "kid": "a", "n": rsa(128)}]}), vec!["key `a` is RSA of 1024 bits"]),
            (
                json!({"keys": [{"kty": "EC", "kid": "a", "d": "x"}]}),
                vec!["key `a` is published with its private or shared part"],
            ),
            (
                json!({"keys": [{"kty": "oct", "k": "x"}]}),
                vec!["key `without kid` is published with its private or shared part"],
            ),
            (json!({"keys": [{"kty": "XX", "kid": "a"}]}), vec!["key `a` is of no known kind"]),
            (json!({"keys": []}), vec!["it holds no key"]),
            (json!({}), vec!["it holds no key"]),
        ] {
            assert_eq!(faults(&set), expected, "{set}");
        }
    }
}
