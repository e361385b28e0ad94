//! x509-limbo: chains written by others. This crate accepts nothing that rustls-webpki refuses, refuses nothing that it
//! accepts but for the reasons listed, and both differ from limbo's own expectation only where argued.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests may stop at the first surprise, and say when they skip"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fhirwall_certs::client::{Roots, server_verifier};
use fhirwall_certs::server::{ClientTrust, client_verifier};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn corpus() -> Option<Vec<Value>> {
    let shared = std::env::var_os("FHIRWALL_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = shared.join("corpora/x509/limbo-208.json");
    let Ok(text) = std::fs::read(&path) else {
        eprintln!("skipped: no x509-limbo corpus at {}", path.display());
        return None;
    };
    let corpus: Value = serde_json::from_slice(&text).unwrap();
    Some(corpus["testcases"].as_array().unwrap().clone())
}

/// Where the verdict differs from limbo's expectation, and why that is right here.
const ARGUED: &[(&str, &[&str])] = &[
    (
        "A listener judges clients: these leaves are made for servers (serverAuth alone), so they are refused \
         before any list is read. Revocation of clients is shown in `client_certificates.rs`.",
        &[
            "crl::certificate-not-on-crl",
            "crl::certificate-serial-on-crl-different-issuer",
            "crl::issuer-no-keyusage-extension",
            "crl::issuer-valid-crlsign-and-keycertsign",
        ],
    ),
    (
        "Stricter: a certificate authority is no peer, whatever RFC 5280 leaves open.",
        &["pathlen::validation-ignores-pathlen-in-leaf", "rfc5280::ca-as-leaf"],
    ),
    (
        "Stricter: webpki counts self-issued intermediates against the path length, holds them to name \
         constraints, and does not compare directory names or mailboxes: what it cannot check it refuses.",
        &[
            "pathlen::self-issued-certs-pathlen",
            "rfc5280::nc::permitted-dn-match",
            "rfc5280::nc::permitted-self-issued",
            "rfc5280::nc::nc-permits-email-exact",
            "rfc5280::nc::nc-permits-email-domain",
            "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
            "rfc5280::nc::nc-permits-email-literal-double-asterisk",
            "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
        ],
    ),
    (
        "No setting for a depth below webpki's own bound (6 intermediates).",
        &["pathlen::max-chain-depth-0-exhausted", "pathlen::max-chain-depth-1-exhausted"],
    ),
    (
        "A trust anchor is a name and a key (RFC 5280 6.1.1 (d)); who configured it vouches for the rest of \
         its certificate.",
        &[
            "rfc5280::ski::root-missing-ski",
            "rfc5280::validity::expired-root",
            "rfc5280::unknown-critical-extension-root",
            "rfc5280::root-missing-basic-constraints",
            "rfc5280::root-non-critical-basic-constraints",
            "rfc5280::root-inconsistent-ca-extensions",
            "webpki::aki::root-with-aki-missing-keyidentifier",
            "webpki::aki::root-with-aki-authoritycertissuer",
            "webpki::aki::root-with-aki-authoritycertserialnumber",
            "webpki::aki::root-with-aki-all-fields",
            "webpki::aki::root-with-aki-ski-mismatch",
            "webpki::eku::root-has-eku",
            "webpki::forbidden-rsa-not-divisible-by-8-in-root",
        ],
    ),
    (
        "The proof of the key in the handshake fails: the leaf's algorithm or size is none that aws-lc-rs \
         verifies for TLS 1.3 (RSA from 2048 bits, P-256, P-384, P-521, Ed25519).",
        &["webpki::forbidden-p192-leaf", "webpki::forbidden-dsa-leaf", "webpki::forbidden-weak-rsa-in-leaf"],
    ),
    (
        "The subject's common name is never read, so it cannot disagree with the names that count.",
        &[
            "webpki::cn::ipv4-hex-mismatch",
            "webpki::cn::ipv4-leading-zeros-mismatch",
            "webpki::cn::ipv6-uppercase-mismatch",
            "webpki::cn::ipv6-uncompressed-mismatch",
            "webpki::cn::ipv6-non-rfc5952-mismatch",
            "webpki::cn::punycode-not-in-san",
            "webpki::cn::utf8-vs-punycode-mismatch",
            "webpki::cn::not-in-san",
            "webpki::cn::case-mismatch",
        ],
    ),
    (
        "Rules for what authorities may issue (criticality, key identifiers, serial numbers, criticality of \
         constraints, encodings, public suffixes), not for whom they vouch: no name is accepted that the \
         authority did not sign for.",
        &[
            "rfc5280::aki::critical-aki",
            "rfc5280::aki::cross-signed-root-missing-aki",
            "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
            "rfc5280::aki::leaf-missing-aki",
            "rfc5280::aki::intermediate-missing-aki",
            "rfc5280::nc::permitted-dns-match-noncritical",
            "rfc5280::nc::invalid-dnsname-leading-period",
            "rfc5280::nc::not-allowed-in-ee-noncritical",
            "rfc5280::nc::not-allowed-in-ee-critical",
            "rfc5280::pc::ica-noncritical-pc",
            "rfc5280::san::noncritical-with-empty-subject",
            "rfc5280::san::underscore-dns",
            "rfc5280::serial::too-long",
            "rfc5280::serial::zero",
            "rfc5280::ski::critical-ski",
            "rfc5280::ski::intermediate-missing-ski",
            "rfc5280::ca-empty-subject",
            "rfc5280::leaf-ku-keycertsign",
            "webpki::eku::ee-anyeku",
            "webpki::eku::ee-critical-eku",
            "webpki::eku::ee-without-eku",
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-null",
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences",
            "webpki::san::public-suffix-multi-label-wildcard-san",
            "webpki::san::public-suffix-private-namespace-wildcard-san",
            "webpki::san::san-critical-with-nonempty-subject",
            "webpki::malformed-aia",
        ],
    ),
];

struct Case<'a>(&'a Value);

impl Case<'_> {
    fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        self.0[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    fn ders(&self, key: &str) -> Vec<CertificateDer<'static>> {
        self.texts(key).iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect()
    }

    fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.0["peer_certificate"].as_str().unwrap().as_bytes()).unwrap()
    }

    fn time(&self) -> UnixTime {
        let text = self.0["validation_time"].as_str();
        // Cases without a time are meant to hold when the corpus was made.
        let at = text.map_or(1_750_000_000, |text| OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp());
        UnixTime::since_unix_epoch(Duration::from_secs(at.unsigned_abs()))
    }

    fn name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.0["expected_peer_name"]["value"].as_str()?.to_owned()).ok()
    }

    fn expected(&self) -> bool {
        self.0["expected_result"] == "SUCCESS"
    }

    /// (rustls-webpki's verdict, this crate's verdict)
    fn verdicts(&self) -> (bool, bool) {
        if self.0["validation_kind"] == "CLIENT" || !self.texts("crls").is_empty() {
            self.client()
        } else {
            self.server()
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.ders("trusted_certs"));
        Arc::new(roots)
    }

    fn server(&self) -> (bool, bool) {
        let Some(name) = self.name() else { return (false, false) };
        let (leaf, chain) = (self.leaf(), self.ders("untrusted_intermediates"));
        let verify = |verifier: Arc<dyn ServerCertVerifier>| {
            verifier.verify_server_cert(&leaf, &chain, &name, &[], self.time()).is_ok()
        };
        let theirs = WebPkiServerVerifier::builder_with_provider(self.roots(), provider()).build();
        let ours = server_verifier(&Roots::Custom(self.texts("trusted_certs").join("\n").into()), &[]);
        (theirs.is_ok_and(|v| verify(v)), ours.is_ok_and(verify))
    }

    fn client(&self) -> (bool, bool) {
        let (leaf, chain) = (self.leaf(), self.ders("untrusted_intermediates"));
        let crls = self.texts("crls");
        let ders = crls.iter().map(|pem| CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap());
        let theirs = WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).with_crls(ders).build();
        let ours = client_verifier(
            &ClientTrust {
                ca: self.texts("trusted_certs").join("\n").into(),
                crls: crls.iter().map(|pem| pem.clone().into_bytes()).collect(),
            },
            true,
        );
        (
            theirs.is_ok_and(|v| v.verify_client_cert(&leaf, &chain, self.time()).is_ok()),
            ours.is_ok_and(|v| v.verify_client_cert(&leaf, &chain, self.time()).is_ok()),
        )
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[test]
fn verdicts_are_those_of_rustls_webpki_and_differ_from_limbo_only_where_argued() {
    let Some(cases) = corpus() else { return };
    let mut surprises = Vec::new();
    let mut argued: Vec<&str> = ARGUED.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
    for case in &cases {
        let case = Case(case);
        let (theirs, ours) = case.verdicts();
        if theirs != ours {
            surprises.push(format!("{}: webpki {theirs}, this crate {ours}", case.id()));
        }
        let listed = argued.iter().position(|id| *id == case.id()).map(|at| argued.swap_remove(at));
        if (ours != case.expected()) != listed.is_some() {
            surprises.push(format!("{}: limbo {}, this crate {ours}", case.id(), case.expected()));
        }
    }
    assert!(surprises.is_empty(), "{} of {}:\n{}", surprises.len(), cases.len(), surprises.join("\n"));
    assert!(argued.is_empty(), "argued, but not in the corpus: {argued:?}");
}
