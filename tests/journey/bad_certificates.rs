//! Bad client certificates, end to end: each with a token bound to that very certificate, so that nothing but the certificate
//! stops it, and not one request at the EHR. A certificate made the same way without the flaw passes.

mod sessions;
mod site;

use fhirwall::demo::apps::TREATMENT;
use fhirwall::pki::PkiDirectory;
use fhirwall_certs::authority::{Authority, LeafNames, Validity};
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use site::{
    MD5, SHA1, Shown, Site, authority, below, intermediate, issuer, leaf, legacy, named, now, odd, san, says_signed_by,
    thumbprint,
};
use time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn no_bad_client_certificate_brings_a_byte_to_the_ehr() {
    let mut revoked = None;
    let site = Site::on(|neighbours| {
        let mut pki = PkiDirectory::open(&neighbours.dir().join("tls/partners")).unwrap();
        let names = LeafNames {
            common_name: "gone".to_owned(),
            uris: vec![TREATMENT.spiffe_id.to_owned()],
            ..LeafNames::default()
        };
        let issued = pki.issue_client("gone", &names, 5, now()).unwrap();
        pki.revoke(&issued.serial, now()).unwrap();
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
        revoked = Some((read(&issued.certificate), read(&issued.key.unwrap())));
    })
    .await;
    let ca = site.authority();
    let good = odd(&ca, |_| {});
    assert_eq!(site.read(&good).await, 200, "without a flaw it passes");
    assert!(!site.world.ehr.log().is_empty());

    let days = |days| Validity::days(now(), days).unwrap();
    let impostor = Authority::create("fhirwall demo partners CA", days(30)).unwrap();
    let impostor = (impostor.certificate_pem().to_owned(), impostor.key_pem());
    let with_real_ca = odd(&impostor, |_| {}).map(|(chain, key)| (chain + &ca.0, key));
    let own = KeyPair::generate().unwrap();
    let self_signed = Some((leaf().self_signed(&own).unwrap().pem(), own.serialize_pem()));
    let thief = good.clone().map(|(chain, _)| (chain, KeyPair::generate().unwrap().serialize_pem()));
    let by_a_leaf = good.clone().map(|(chain, key)| {
        let second = KeyPair::generate().unwrap();
        let mut above = leaf();
        above.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = leaf().signed_by(&second, &Issuer::new(above, KeyPair::from_pem(&key).unwrap())).unwrap();
        (certificate.pem() + &chain, second.serialize_pem())
    });
    let without_its_chain = below(&ca, &[BasicConstraints::Unconstrained]).map(|(chain, key)| {
        let end = "-----END CERTIFICATE-----\n";
        (chain.split_inclusive(end).next().unwrap().to_owned(), key)
    });
    let use_for = |purpose| odd(&ca, |params| params.extended_key_usages = vec![purpose]);
    let critical = odd(&ca, |params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    });
    let another_uri = odd(&ca, |params| {
        params.subject_alt_names.push(SanType::URI("https://partner.example".try_into().unwrap()));
    });
    let two_sans = odd(&ca, |params| params.custom_extensions.push(san(0x86, b"spiffe://evil.example/x")));
    let free = BasicConstraints::Unconstrained;
    let rows: Vec<(&str, Shown)> = vec![
        ("none", None),
        ("revoked", revoked),
        ("self-signed", self_signed),
        ("another authority of the same name", odd(&impostor, |_| {})),
        ("an impostor's leaf with the real authority behind it", with_real_ca),
        ("expired", odd(&ca, |params| params.not_after = now() - Duration::seconds(2))),
        ("not yet valid", odd(&ca, |params| params.not_before = now() + Duration::hours(1))),
        ("for servers", use_for(ExtendedKeyUsagePurpose::ServerAuth)),
        ("for code", use_for(ExtendedKeyUsagePurpose::CodeSigning)),
        ("for mail", use_for(ExtendedKeyUsagePurpose::EmailProtection)),
        ("the authority as a leaf", Some(ca.clone())),
        ("a CA bit on a leaf", odd(&ca, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("a leaf issued by a leaf", by_a_leaf),
        ("without its intermediate", without_its_chain),
        ("a path longer than the intermediate allows", below(&ca, &[BasicConstraints::Constrained(0), free])),
        ("a chain of ten", below(&ca, &[free; 10])),
        ("another's certificate, the own key", thief),
        ("an unknown critical extension", critical),
        ("no name", odd(&ca, |params| params.subject_alt_names.clear())),
        ("NUL in a DNS name", named(&ca, 0x82, b"partner.example\0.evil.example")),
        ("NUL in a URI", named(&ca, 0x86, format!("{}\0x", TREATMENT.spiffe_id).as_bytes())),
        ("a line feed in a URI", named(&ca, 0x86, format!("{}\n", TREATMENT.spiffe_id).as_bytes())),
        ("not ASCII", named(&ca, 0x82, "pärtner.example".as_bytes())),
        ("not UTF-8", named(&ca, 0x86, b"spiffe://partner.example/\xff")),
        ("an empty URI", named(&ca, 0x86, b"")),
        ("a SPIFFE id with dots", named(&ca, 0x86, format!("{}/../x", TREATMENT.spiffe_id).as_bytes())),
        ("a SPIFFE id in capitals", named(&ca, 0x86, TREATMENT.spiffe_id.to_uppercase().as_bytes())),
        ("a SPIFFE id beside another URI", another_uri),
        ("two subjectAltName extensions", two_sans),
        ("another tenant's SPIFFE id", named(&ca, 0x86, b"spiffe://evil.example/gateway")),
        ("signed with MD5, as it says", says_signed_by(&ca, MD5)),
        ("signed with SHA-1, as it says", says_signed_by(&ca, SHA1)),
        ("a neighbour below the own SPIFFE id", named(&ca, 0x86, format!("{}/more", TREATMENT.spiffe_id).as_bytes())),
    ];
    assert!(rows.len() >= 33);
    for (name, shown) in rows {
        site.refused(name, shown).await;
    }
    for (key, digest, good) in [
        ("rsa:2048", "sha256", true),
        ("rsa:1024", "sha256", false),
        ("rsa:2048", "sha1", false),
        ("rsa:2048", "md5", false),
    ] {
        site.world.ehr.forget();
        let Some(answer) = legacy(&site, key, digest).await else {
            println!("skipped: {key} with {digest}: no OpenSSL that makes and shows it");
            continue;
        };
        assert_eq!(answer.contains(" 200 "), good, "{key}, {digest}: {answer}");
        if !good {
            site.untouched(&format!("{key}, {digest}"));
        }
    }
    assert_eq!(site.read(&good).await, 200, "and its good neighbour passes as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_carries_no_token_of_another_and_no_other_host() {
    let site = Site::on(|_| {}).await;
    let ca = site.authority();
    let (mine, other) = (odd(&ca, |_| {}), odd(&ca, |_| {}));
    let token = |shown: &Shown| site.token(&thumbprint(&shown.as_ref().unwrap().0).unwrap());
    let host = site.world.authority();
    assert_eq!(site.read_with(&mine, &token(&mine), host).await, 200);
    site.world.ehr.forget();
    assert_eq!(site.read_with(&other, &token(&mine), host).await, 401, "a token bound to another certificate");
    assert_eq!(site.read_with(&mine, &token(&mine), "elsewhere.example").await, 404, "a Host that is not ours");
    site.untouched("token and host");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_list_and_a_constrained_authority_refuse() {
    let outdated = Site::on(|neighbours| {
        let ca = authority(neighbours);
        let list = rcgen::CertificateRevocationListParams {
            this_update: now() - Duration::days(9),
            next_update: now() - Duration::days(1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&issuer(&ca)).unwrap().pem().unwrap();
        std::fs::write(neighbours.dir().join("tls/partners/ca.crl"), list).unwrap();
    })
    .await;
    outdated.refused("an outdated list", odd(&outdated.authority(), |_| {})).await;

    let constrained = |tree: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = intermediate("constrained", BasicConstraints::Unconstrained);
        let permitted_subtrees = vec![GeneralSubtree::DnsName(tree.to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ca = constrained("partner.example");
    let site = Site::on(|neighbours| {
        std::fs::write(neighbours.dir().join("tls/partners/ca.pem"), &ca.0).unwrap();
        let file = neighbours.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("      crl_files: [tls/partners/ca.crl]\n", "")).unwrap();
        let partner = neighbours.dir().join(format!("partners/{}.yaml", TREATMENT.client_id));
        let text = std::fs::read_to_string(&partner).unwrap();
        let own = text.lines().find(|line| line.starts_with("certificates:")).unwrap().to_owned();
        let dns = "certificates: [{san_dns: app.partner.example}, {san_dns: partner.example.evil.example}]";
        std::fs::write(&partner, text.replace(&own, dns)).unwrap();
    })
    .await;
    let named =
        |dns: &str| odd(&ca, |params| params.subject_alt_names = vec![SanType::DnsName(dns.try_into().unwrap())]);
    assert_eq!(site.read(&named("app.partner.example")).await, 200, "within the constraint");
    site.refused("outside the authority's name constraint", named("partner.example.evil.example")).await;
}
