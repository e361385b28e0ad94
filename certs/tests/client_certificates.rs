//! Client certificates against a listener's settings, in memory: the bad ones are refused, their good neighbour passes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fhirwall_certs::authority::{Authority, Issued, LeafNames, Revoked, Validity};
use fhirwall_certs::client::{Roots, UpstreamTls, upstream_config_with_time};
use fhirwall_certs::peer::{PeerIdentity, PeerRefused};
use fhirwall_certs::server::{ClientAuth, ClientTrust, ServerTls, ServerTlsPem, SwappableTls};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, ServerConnection};
use time::{Duration, OffsetDateTime};

const NOW: i64 = 1_790_000_000;

#[derive(Debug)]
struct At(i64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.unsigned_abs())))
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn days(days: u16) -> Validity {
    Validity::days(now(), days).unwrap()
}

/// A listener with its authority, and a partners' authority with two clients, one of them revoked.
struct Site {
    server_ca: Authority,
    server: Issued,
    partners: Authority,
    good: Issued,
    revoked: Issued,
    crl: String,
}

impl Site {
    fn new() -> Self {
        let server_ca = Authority::create("server CA", days(30)).unwrap();
        let server = server_ca
            .issue_server(
                &LeafNames {
                    common_name: "gateway".into(),
                    dns: vec!["gateway.test".into()],
                    ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                    ..LeafNames::default()
                },
                days(5),
            )
            .unwrap();
        let partners = Authority::create("partners CA", days(30)).unwrap();
        let good = partners.issue_client(&partner_names(), days(5)).unwrap();
        let revoked = partners.issue_client(&partner_names(), days(5)).unwrap();
        let crl = partners.crl(&[Revoked { serial: revoked.serial.clone(), at: now() }], 2, now(), 7).unwrap();
        Self { server_ca, server, partners, good, revoked, crl }
    }

    fn tls(&self, auth: impl FnOnce(ClientTrust) -> ClientAuth, crls: &[&str]) -> ServerTls {
        self.tls_trusting(self.partners.certificate_pem(), auth, crls, NOW)
    }

    fn tls_trusting(
        &self,
        ca: &str,
        auth: impl FnOnce(ClientTrust) -> ClientAuth,
        crls: &[&str],
        at: i64,
    ) -> ServerTls {
        let trust = ClientTrust { ca: ca.into(), crls: crls.iter().map(|crl| crl.as_bytes().to_vec()).collect() };
        ServerTls::from_pem_with_time(
            &ServerTlsPem {
                certificates: self.server.certificate_pem.clone().into_bytes(),
                key: self.server.key_pem.clone().unwrap().into_bytes(),
                client_auth: auth(trust),
            },
            Arc::new(At(at)),
        )
        .unwrap()
    }

    /// A client that presents whatever it is given: rustls would refuse to load some of the certificates tried here.
    fn client(&self, certificate: Option<(Vec<u8>, Vec<u8>)>) -> rustls::ClientConfig {
        let mut config = upstream_config_with_time(
            &UpstreamTls {
                roots: Roots::Custom(self.server_ca.certificate_pem().into()),
                client_certificate: None,
                pins_sha256: vec![],
            },
            Arc::new(At(NOW)),
        )
        .unwrap();
        if let Some((chain, key)) = certificate {
            let chain = CertificateDer::pem_slice_iter(&chain).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
            let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            config.client_auth_cert_resolver =
                Arc::new(Presents(Arc::new(rustls::sign::CertifiedKey::new(chain, signing))));
        }
        config
    }
}

#[derive(Debug)]
struct Presents(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn partner_names() -> LeafNames {
    LeafNames {
        common_name: "partner".into(),
        uris: vec!["spiffe://partner.example/gateway".into()],
        ..LeafNames::default()
    }
}

fn pair(issued: &Issued) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((issued.certificate_pem.clone().into_bytes(), issued.key_pem.clone().unwrap().into_bytes()))
}

/// Runs a handshake and one byte of data each way. Gives the server's view of the peer, or the first error.
fn handshake(server: &ServerTls, client: rustls::ClientConfig) -> Result<Option<PeerIdentity>, rustls::Error> {
    connect(server, client, "gateway.test")
        .map(|(_, server)| server.peer_certificates().map(|chain| PeerIdentity::from_der_chain(chain).unwrap()))
}

fn connect(
    server: &ServerTls,
    client: rustls::ClientConfig,
    name: &'static str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap())?;
    let mut server = ServerConnection::new(server.config())?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() && !server.wants_write() {
            return Ok((client, server));
        }
    }
    panic!("the handshake did not end");
}

/// A leaf that the authority's own methods would never make.
struct Odd {
    params: CertificateParams,
    issuer: Option<Issuer<'static, KeyPair>>,
    chain: String,
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "odd");
    params.subject_alt_names = vec![SanType::URI("spiffe://partner.example/gateway".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = now() - Duration::days(1);
    params.not_after = now() + Duration::days(1);
    params
}

impl Odd {
    /// `change` a good leaf of the site's own partners' authority.
    fn leaf(site: &Site, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::from_pem(&site.partners.key_pem()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(site.partners.certificate_pem(), key).unwrap();
        let mut params = params();
        change(&mut params);
        Self { params, issuer: Some(issuer), chain: String::new() }
    }

    fn pair(self) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = KeyPair::generate().unwrap();
        let certificate = match &self.issuer {
            Some(issuer) => self.params.signed_by(&key, issuer).unwrap(),
            None => self.params.self_signed(&key).unwrap(),
        };
        Some(((certificate.pem() + &self.chain).into_bytes(), key.serialize_pem().into_bytes()))
    }
}

/// An authority that rcgen makes with `change`d parameters, and whether a leaf of it is issued by its key.
fn constrained_authority(change: impl FnOnce(&mut CertificateParams)) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "partners CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now() - Duration::days(1);
    params.not_after = now() + Duration::days(1);
    change(&mut params);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

#[track_caller]
fn refused(site: &Site, name: &str, certificate: Option<(Vec<u8>, Vec<u8>)>) {
    let tls = site.tls(ClientAuth::Required, &[&site.crl]);
    let outcome = handshake(&tls, site.client(certificate));
    assert!(outcome.is_err(), "{name}: accepted as {outcome:?}");
}

#[track_caller]
fn accepted(site: &Site, name: &str, certificate: Option<(Vec<u8>, Vec<u8>)>) {
    let tls = site.tls(ClientAuth::Required, &[&site.crl]);
    let outcome = handshake(&tls, site.client(certificate));
    assert!(matches!(outcome, Ok(Some(_))), "{name}: {outcome:?}");
}

/// subjectAltName with one entry of this tag and these bytes.
fn san(tag: u8, bytes: &[u8]) -> CustomExtension {
    let mut der = vec![0x30, u8::try_from(bytes.len() + 2).unwrap(), tag, u8::try_from(bytes.len()).unwrap()];
    der.extend_from_slice(bytes);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
}

#[test]
fn the_legitimate_partner_passes_and_is_named() {
    let site = Site::new();
    let tls = site.tls(ClientAuth::Required, &[&site.crl]);
    let peer = handshake(&tls, site.client(pair(&site.good))).unwrap().unwrap();
    assert_eq!(peer.san_uris, ["spiffe://partner.example/gateway"]);
    assert_eq!(peer.spiffe.unwrap().trust_domain(), "partner.example");
    assert_eq!(peer.serial, site.good.serial);
    accepted(&site, "a leaf as rcgen makes it", Odd::leaf(&site, |_| {}).pair());
}

#[test]
fn bad_client_certificates_are_refused() {
    let site = Site::new();
    refused(&site, "no certificate", None);
    refused(&site, "revoked", pair(&site.revoked));
    refused(&site, "self-signed", Odd { params: params(), issuer: None, chain: String::new() }.pair());

    let impostor = Authority::create("partners CA", days(30)).unwrap();
    refused(
        &site,
        "another authority of the same name",
        pair(&impostor.issue_client(&partner_names(), days(5)).unwrap()),
    );
    let mut chain = pair(&impostor.issue_client(&partner_names(), days(5)).unwrap()).unwrap();
    chain.0.extend_from_slice(site.partners.certificate_pem().as_bytes());
    refused(&site, "an impostor's leaf with the real authority behind it", Some(chain));

    refused(&site, "a server's certificate", pair(&site.partners.issue_server(&partner_names(), days(5)).unwrap()));
    refused(
        &site,
        "the authority itself as a leaf",
        Some((site.partners.certificate_pem().into(), site.partners.key_pem().into())),
    );
    refused(
        &site,
        "expired a second ago",
        Odd::leaf(&site, |params| params.not_after = now() - Duration::seconds(1)).pair(),
    );
    refused(
        &site,
        "valid from a second on",
        Odd::leaf(&site, |params| params.not_before = now() + Duration::seconds(1)).pair(),
    );
    refused(
        &site,
        "for another use",
        Odd::leaf(&site, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]).pair(),
    );
    refused(
        &site,
        "a CA bit on a leaf",
        Odd::leaf(&site, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).pair(),
    );
    refused(
        &site,
        "an unknown critical extension",
        Odd::leaf(&site, |params| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        })
        .pair(),
    );
    accepted(
        &site,
        "an unknown extension that is not critical",
        Odd::leaf(&site, |params| {
            params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]));
        })
        .pair(),
    );
}

#[test]
fn names_with_two_readings_are_refused() {
    let site = Site::new();
    for (name, tag, bytes) in [
        ("NUL in a DNS name", 0x82, b"partner.example\0.evil.example".as_slice()),
        ("NUL in a URI", 0x86, b"spiffe://partner.example/gateway\0x"),
        ("a line feed in a URI", 0x86, b"spiffe://partner.example/gateway\n"),
        ("not ASCII", 0x82, "pärtner.example".as_bytes()),
        ("not UTF-8", 0x86, b"spiffe://partner.example/\xff"),
        ("an empty URI", 0x86, b""),
        ("a SPIFFE id with dots", 0x86, b"spiffe://partner.example/../gateway"),
        ("a SPIFFE id in capitals", 0x86, b"SPIFFE://partner.example/gateway"),
    ] {
        let leaf = Odd::leaf(&site, |params| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(san(tag, bytes));
        });
        refused(&site, name, leaf.pair());
    }
    let neighbour = Odd::leaf(&site, |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(san(0x86, b"spiffe://partner.example/gateway"));
    });
    accepted(&site, "the same extension with a plain name", neighbour.pair());

    let twice = Odd::leaf(&site, |params| params.custom_extensions.push(san(0x86, b"spiffe://evil.example/gateway")));
    refused(&site, "two subjectAltName extensions", twice.pair());
    let two = Odd::leaf(&site, |params| {
        params.subject_alt_names.push(SanType::URI("https://partner.example".try_into().unwrap()));
    });
    refused(&site, "a SPIFFE id beside another URI", two.pair());
}

#[test]
fn a_certificate_without_its_key_is_no_proof() {
    let site = Site::new();
    let (certificate, key) = pair(&site.good).unwrap();
    let thief = KeyPair::generate().unwrap().serialize_pem().into_bytes();
    refused(&site, "another's certificate, the own key", Some((certificate.clone(), thief)));
    accepted(&site, "certificate and key of one partner", Some((certificate, key)));
}

#[test]
fn name_constraints_of_the_authority_hold() {
    let site = Site::new();
    let permitted = |tree: GeneralSubtree| {
        constrained_authority(|params| {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: vec![tree], excluded_subtrees: vec![] });
        })
    };
    for (dns, passes) in [("app.partner.example", true), ("partner.example.evil.example", false)] {
        let (ca, issuer) = permitted(GeneralSubtree::DnsName("partner.example".into()));
        let mut params = params();
        params.subject_alt_names = vec![SanType::DnsName(dns.try_into().unwrap())];
        let certificate = Odd { params, issuer: Some(issuer), chain: String::new() }.pair();
        let tls = site.tls_trusting(&ca, ClientAuth::Required, &[], NOW);
        assert_eq!(handshake(&tls, site.client(certificate)).is_ok(), passes, "{dns}");
    }
}

#[test]
fn with_any_crl_an_unknown_status_and_an_outdated_list_refuse() {
    let site = Site::new();
    let good = || site.client(pair(&site.good));
    assert!(handshake(&site.tls(ClientAuth::Required, &[]), good()).is_ok());

    let stranger = Authority::create("stranger CA", days(30)).unwrap();
    let foreign = stranger.crl(&[], 1, now(), 7).unwrap();
    assert!(handshake(&site.tls(ClientAuth::Required, &[&foreign]), good()).is_err(), "unknown status");
    assert!(handshake(&site.tls(ClientAuth::Required, &[&foreign, &site.crl]), good()).is_ok());

    let old = site.partners.crl(&[], 1, now() - Duration::days(8), 7).unwrap();
    assert!(handshake(&site.tls(ClientAuth::Required, &[&old]), good()).is_err(), "outdated");

    let impostor = Authority::create("partners CA", days(30)).unwrap();
    let forged = impostor.crl(&[], 9, now(), 7).unwrap();
    assert!(handshake(&site.tls(ClientAuth::Required, &[&forged]), good()).is_err(), "signed by another key");
}

#[test]
fn optional_means_none_or_good() {
    let site = Site::new();
    let tls = site.tls(ClientAuth::Optional, &[&site.crl]);
    assert!(matches!(handshake(&tls, site.client(None)), Ok(None)));
    assert!(matches!(handshake(&tls, site.client(pair(&site.good))), Ok(Some(_))));
    assert!(handshake(&tls, site.client(pair(&site.revoked))).is_err());
}

#[test]
fn tls_1_2_is_refused_and_h2_and_http11_are_offered() {
    let site = Site::new();
    let tls = site.tls(ClientAuth::Required, &[&site.crl]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(site.server_ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let old = rustls::ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        Arc::new(At(NOW)),
    )
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    assert!(handshake(&tls, old).is_err());

    for protocol in ["h2", "http/1.1"] {
        let mut client = site.client(pair(&site.good));
        client.alpn_protocols = vec![protocol.into()];
        let (_, server) = connect(&tls, client, "gateway.test").unwrap();
        assert_eq!(server.alpn_protocol(), Some(protocol.as_bytes()));
    }
    let mut client = site.client(pair(&site.good));
    client.alpn_protocols = vec!["smtp".into()];
    assert!(connect(&tls, client, "gateway.test").is_err());
}

#[test]
fn a_partner_revoked_after_its_first_connection_cannot_resume() {
    let site = Site::new();
    let empty = site.partners.crl(&[], 1, now(), 7).unwrap();
    let swappable = SwappableTls::new(site.tls(ClientAuth::Required, &[&empty]));
    let client = site.client(pair(&site.revoked));
    let (first, _) = connect(&swappable.current(), client.clone(), "gateway.test").unwrap();
    assert_eq!(first.handshake_kind(), Some(rustls::HandshakeKind::Full));
    let (again, _) = connect(&swappable.current(), client.clone(), "gateway.test").unwrap();
    assert_eq!(again.handshake_kind(), Some(rustls::HandshakeKind::Full), "nothing is resumed");
    swappable.swap(site.tls(ClientAuth::Required, &[&site.crl]));
    assert!(connect(&swappable.current(), client, "gateway.test").is_err());
}

#[test]
fn the_client_side_verifies_name_chain_and_pin() {
    let site = Site::new();
    let tls = site.tls(ClientAuth::Required, &[&site.crl]);
    assert!(connect(&tls, site.client(pair(&site.good)), "gateway.test").is_ok());
    assert!(connect(&tls, site.client(pair(&site.good)), "127.0.0.1").is_ok());
    assert!(connect(&tls, site.client(pair(&site.good)), "other.test").is_err());

    let with = |ca: &str, pins: Vec<[u8; 32]>| {
        upstream_config_with_time(
            &UpstreamTls { roots: Roots::Custom(ca.into()), client_certificate: pair(&site.good), pins_sha256: pins },
            Arc::new(At(NOW)),
        )
        .unwrap()
    };
    assert!(connect(&tls, with(site.partners.certificate_pem(), vec![]), "gateway.test").is_err(), "another CA");
    let nobody = UpstreamTls { roots: Roots::Nobody, client_certificate: pair(&site.good), pins_sha256: vec![] };
    let nobody = upstream_config_with_time(&nobody, Arc::new(At(NOW))).unwrap();
    assert!(connect(&tls, nobody, "gateway.test").is_err(), "made for an upstream without TLS");
    let pin = tls.identity().leaf_sha256;
    assert!(connect(&tls, with(site.server_ca.certificate_pem(), vec![pin]), "gateway.test").is_ok());
    assert!(connect(&tls, with(site.server_ca.certificate_pem(), vec![[7; 32]]), "gateway.test").is_err());
    assert!(
        connect(&tls, with(site.partners.certificate_pem(), vec![pin]), "gateway.test").is_err(),
        "a pin does not replace the chain"
    );
}

#[test]
fn a_signed_request_takes_the_key_and_never_the_wishes() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let mut wishes = params();
    wishes.subject_alt_names = vec![SanType::URI("spiffe://admin.example/root".try_into().unwrap())];
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = wishes.serialize_request(&key).unwrap().pem().unwrap();
    let issued = site.partners.sign_csr(&csr, &partner_names(), days(5)).unwrap();
    assert!(issued.key_pem.is_none());
    let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    assert_eq!(PeerIdentity::from_der_chain(&[der]).unwrap().san_uris, ["spiffe://partner.example/gateway"]);
    accepted(
        &site,
        "the requester with its own key",
        Some((issued.certificate_pem.into_bytes(), key.serialize_pem().into_bytes())),
    );
}

#[test]
fn settings_that_would_protect_nothing_are_refused() {
    let site = Site::new();
    let build = |certificates: &str, key: &str, ca: &str, crls: Vec<Vec<u8>>| {
        ServerTls::from_pem(&ServerTlsPem {
            certificates: certificates.into(),
            key: key.into(),
            client_auth: ClientAuth::Required(ClientTrust { ca: ca.into(), crls }),
        })
    };
    let (certificate, key) = (site.server.certificate_pem.as_str(), site.server.key_pem.clone().unwrap());
    let ca = site.partners.certificate_pem();
    assert!(build(certificate, &key, ca, vec![]).is_ok());
    assert!(build("", &key, ca, vec![]).is_err());
    assert!(build(certificate, "", ca, vec![]).is_err());
    assert!(build(certificate, &key, "", vec![]).is_err());
    assert!(build(certificate, &key, ca, vec![vec![]]).is_err(), "a configured CRL file without a CRL");
    assert!(build(certificate, &site.good.key_pem.clone().unwrap(), ca, vec![]).is_err(), "another's key");
    assert!(build(ca, &site.partners.key_pem(), ca, vec![]).is_err(), "an authority as a server's certificate");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]
    #[test]
    fn mutated_certificates_never_panic(flips in proptest::collection::vec((0usize..2000, 0u8..=255), 1..6), cut in 0usize..2000) {
        thread_local! {
            static LEAF: Vec<u8> = {
                let site = Site::new();
                CertificateDer::from_pem_slice(site.good.certificate_pem.as_bytes()).unwrap().to_vec()
            };
        }
        LEAF.with(|leaf| {
            let mut der = leaf.clone();
            for (at, value) in flips {
                let at = at % der.len();
                der[at] = value;
            }
            let whole = PeerIdentity::from_der_chain(&[CertificateDer::from(der.clone())]);
            if let Ok(peer) = &whole {
                assert!(peer.san_uris.iter().chain(&peer.san_dns).all(|name| name.bytes().all(|b| b.is_ascii_graphic())));
            }
            der.truncate(cut % der.len());
            assert_eq!(PeerIdentity::from_der_chain(&[CertificateDer::from(der)]), Err(PeerRefused::Unparsable));
        });
    }
}
