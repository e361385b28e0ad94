//! Proof key for code exchange (RFC 7636), `S256` alone: SMART App Launch 2.2 forbids `plain`.

use crate::identify::{base64url, from_base64url, sha256};

/// Is this a challenge that SHA-256 could have given?
pub fn is_challenge(challenge: &str) -> bool {
    from_base64url(challenge).is_some_and(|bytes| bytes.len() == 32)
}

/// Does the verifier answer the challenge? RFC 7636 section 4.1: 43 to 128 unreserved characters.
pub fn answers(verifier: &str, challenge: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&verifier.len()) && verifier.bytes().all(legal) && challenge_of(verifier) == challenge
}

pub fn challenge_of(verifier: &str) -> String {
    base64url(&sha256(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7636_holds() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(is_challenge(challenge));
        assert!(answers(verifier, challenge));
        let short = verifier.get(1..).unwrap();
        assert!(!answers(short, &challenge_of(short)), "too short");
        assert!(!answers(&"a".repeat(129), &challenge_of(&"a".repeat(129))), "too long");
        assert!(!answers(challenge, challenge), "plain");
        assert!(!is_challenge(verifier.get(..20).unwrap()));
    }
}
