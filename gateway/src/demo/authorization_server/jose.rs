//! Keys and signatures of the sample authorization server (RFC 7515, 7517, 7518).

use anyhow::anyhow;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// How a token is signed, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Es256,
    Rs256,
    /// `alg: none`, with an empty signature.
    None,
    /// HS256, keyed with the text of the public key: the classic confusion of key kinds.
    Hs256WithPublicKey,
}

/// The signing keys of an issuer, made at its start.
pub(super) struct SigningKeys {
    es: EcdsaKeyPair,
    rs: RsaKeyPair,
    /// In `kid`s, so that two issuers' keys differ in name as well.
    generation: String,
}

impl SigningKeys {
    pub(super) fn generate() -> anyhow::Result<Self> {
        let es = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| anyhow!("no EC key"))?;
        let rs = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key"))?;
        let generation = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
        Ok(Self { es, rs, generation })
    }

    /// The key set to publish.
    pub(super) fn jwks(&self) -> Value {
        let mut ec = ec_jwk(self.es.public_key().as_ref());
        let rsa = self.rs.public_key();
        let mut rsa = json!({
            "kty": "RSA",
            "n": encode(rsa.modulus().big_endian_without_leading_zero()),
            "e": encode(rsa.exponent().big_endian_without_leading_zero()),
        });
        for (key, kid, alg) in [(&mut ec, self.kid("es"), "ES256"), (&mut rsa, self.kid("rs"), "RS256")] {
            if let Some(key) = key.as_object_mut() {
                key.insert("kid".to_owned(), Value::from(kid));
                key.insert("alg".to_owned(), Value::from(alg));
                key.insert("use".to_owned(), Value::from("sig"));
            }
        }
        json!({"keys": [ec, rsa]})
    }

    /// A signed token with this `typ`.
    pub(super) fn sign(&self, typ: &str, claims: &Value, how: Signature) -> anyhow::Result<String> {
        let (alg, kid) = match how {
            Signature::Es256 => ("ES256", self.kid("es")),
            Signature::Rs256 => ("RS256", self.kid("rs")),
            Signature::None => ("none", self.kid("es")),
            Signature::Hs256WithPublicKey => ("HS256", self.kid("rs")),
        };
        let header = json!({"alg": alg, "typ": typ, "kid": kid});
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let signature = match how {
            Signature::Es256 => {
                let signature = self.es.sign(&random, input.as_bytes()).map_err(|_| anyhow!("cannot sign"))?;
                signature.as_ref().to_vec()
            }
            Signature::Rs256 => {
                let mut signature = vec![0; self.rs.public_modulus_len()];
                self.rs
                    .sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature)
                    .map_err(|_| anyhow!("cannot sign"))?;
                signature
            }
            Signature::None => Vec::new(),
            Signature::Hs256WithPublicKey => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.rs.public_key().as_ref());
                hmac::sign(&key, input.as_bytes()).as_ref().to_vec()
            }
        };
        Ok(format!("{input}.{}", encode(&signature)))
    }

    fn kid(&self, kind: &str) -> String {
        format!("{kind}-{}", self.generation)
    }
}

/// An app's own key, for `private_key_jwt` (RFC 7523): the key of its client certificate.
pub(crate) struct AppKey(EcdsaKeyPair);

impl AppKey {
    pub(crate) fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| anyhow!("not a PKCS#8 key"))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der());
        Ok(Self(key.map_err(|_| anyhow!("not a P-256 key"))?))
    }

    pub(crate) fn jwk(&self) -> Value {
        ec_jwk(self.0.public_key().as_ref())
    }

    /// A client assertion, or any other claims, signed with ES256.
    pub(crate) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "app"});
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).map_err(|_| anyhow!("cannot sign"))?;
        Ok(format!("{input}.{}", encode(signature.as_ref())))
    }
}

/// Who a token says it is from, before anything of it is verified: to look up the key to verify it with.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// The claims of an ES256 token signed with the key of `jwk`.
pub(super) fn verify_es256(token: &str, jwk: &Value) -> Option<Value> {
    let (input, signature) = token.rsplit_once('.')?;
    let (header, claims) = input.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.get("alg").and_then(Value::as_str) != Some("ES256") {
        return None;
    }
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// An uncompressed point, `04 x y`, as a JWK.
fn ec_jwk(point: &[u8]) -> Value {
    let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
    json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
