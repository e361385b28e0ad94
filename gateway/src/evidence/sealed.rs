//! The signature under the evidence, by the key that signs the audit chain.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::audit::{SigningKey, VerifyingKey};

/// The name of the file that holds the signature, beside `report.json`.
pub const SIGNATURE: &str = "report.json.sig";

/// What is signed before the document's own bytes, so that no other signature of the key can be taken for this one.
const DOMAIN: &[u8] = b"fhirwall evidence v1\n";

/// A detached signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The id of the key, as the audit log names it.
    pub key: String,
    /// The public key, PEM.
    pub public_key: String,
    /// Base64 (RFC 4648 section 4), over `fhirwall evidence v1`, a newline and the document.
    pub signature: String,
}

/// A document is not what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotGenuine {
    #[error("the signature is of another key")]
    Key,
    #[error("the document is not what was signed")]
    Document,
}

/// Signs a document; `None` when the key fails to.
pub fn sign(document: &[u8], key: &SigningKey) -> Option<Signature> {
    let public = key.verifying_key();
    let signature = key.sign(&[DOMAIN, document].concat())?;
    Some(Signature { key: public.id(), public_key: public.to_pem(), signature })
}

/// Is this document what the holder of `trusted` signed?
///
/// # Errors
/// When it is not.
pub fn verify(document: &[u8], signature: &Signature, trusted: &VerifyingKey) -> Result<(), NotGenuine> {
    if signature.key != trusted.id() {
        return Err(NotGenuine::Key);
    }
    let genuine = trusted.verifies(&[DOMAIN, document].concat(), &signature.signature);
    if genuine { Ok(()) } else { Err(NotGenuine::Document) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_document_and_a_foreign_key_are_told() {
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let signature = sign(b"{}", &key).unwrap();
        assert_eq!(verify(b"{}", &signature, key.verifying_key()), Ok(()));
        assert_eq!(verify(b"{ }", &signature, key.verifying_key()), Err(NotGenuine::Document));
        assert_eq!(verify(b"{}", &signature, other.verifying_key()), Err(NotGenuine::Key));
        let forged = Signature { key: other.verifying_key().id(), ..signature };
        assert_eq!(verify(b"{}", &forged, other.verifying_key()), Err(NotGenuine::Document));
    }
}
