//! Bad client certificates, end to end: each with a token bound to that very certificate, so that nothing but the certificate
//! stops it, and not one request at the EHR. A certificate made the same way without the flaw passes.

use std::sync::Arc;

use fhirwall::demo::apps::TREATMENT;
use fhirwall::demo::world::{Neighbours, World};
use fhirwall::pki::PkiDirectory;
use fhirwall_certs::authority::{Authority, LeafNames, Validity};
use fhirwall_certs::peer::PeerIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A chain and a key, PEM.
type Shown = Option<(String, String)>;

struct Site {
    world: World,
    _dir: TempDir,
}

impl Site {
    async fn on(edit: impl FnOnce(&Neighbours)) -> Self {
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
        edit(&neighbours);
        Self { world: World::between(neighbours).unwrap(), _dir: dir }
    }

    fn authority(&self) -> (String, String) {
        authority(&self.world)
    }

    /// A read with this certificate and a token bound to it, or to nothing where there is none: the status, or 0 where the
    /// connection gave none.
    async fn read(&self, shown: &Shown) -> u16 {
        let thumbprint = shown.as_ref().and_then(|(chain, _)| thumbprint(chain));
        let token = self.token(thumbprint.as_deref().unwrap_or(&self.world.treatment.x5t_s256));
        self.read_with(shown, &token, self.world.authority()).await
    }

    fn token(&self, thumbprint: &str) -> String {
        let mut grant = self.world.grant(&self.world.treatment);
        grant.x5t_s256 = Some(thumbprint.to_owned());
        self.world.issuer.mint(&grant).unwrap()
    }

    async fn read_with(&self, shown: &Shown, token: &str, host: &str) -> u16 {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.world.site_ca().unwrap()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        if let Some((chain, key)) = shown {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            config.client_auth_cert_resolver =
                Arc::new(Presents(Arc::new(rustls::sign::CertifiedKey::new(chain, key))));
        }
        let address = self.world.gateway.addresses[0];
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(address.ip().to_string()).unwrap();
        let Ok(mut tls) = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await else { return 0 };
        let request = format!(
            "GET /fhir/Patient/amara-osei HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let mut answer = Vec::new();
        // The server's refusal of a TLS 1.3 client certificate comes with the first read.
        if tls.write_all(request.as_bytes()).await.is_err() || tls.read_to_end(&mut answer).await.is_err() {
            return 0;
        }
        let head = String::from_utf8_lossy(&answer).into_owned();
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The EHR was asked nothing, not even about consents.
    #[track_caller]
    fn untouched(&self, name: &str) {
        let log = self.world.ehr.log();
        assert!(log.is_empty(), "{name}: {} requests at the EHR, first {}", log.len(), log[0].path);
    }

    async fn refused(&self, name: &str, shown: Shown) {
        self.world.ehr.forget();
        let status = self.read(&shown).await;
        assert!(matches!(status, 0 | 401 | 403), "{name}: {status}");
        self.untouched(name);
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

fn authority(neighbours: &Neighbours) -> (String, String) {
    let file = |name: &str| std::fs::read_to_string(neighbours.dir().join("tls/partners").join(name)).unwrap();
    (file("ca.pem"), file("ca.key"))
}

/// `x5t#S256` of the leaf, where it can be read at all.
fn thumbprint(chain: &str) -> Option<String> {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
    PeerIdentity::from_der_chain(&[leaf]).ok().map(|peer| peer.x5t_s256())
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A good leaf of the treatment app.
fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "partner");
    params.subject_alt_names = vec![SanType::URI(TREATMENT.spiffe_id.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = now() - Duration::days(1);
    params.not_after = now() + Duration::days(1);
    params
}

fn intermediate(name: &str, constraint: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraint);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now() - Duration::days(1);
    params.not_after = now() + Duration::days(1);
    params
}

fn issuer((ca, key): &(String, String)) -> Issuer<'static, KeyPair> {
    Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(key).unwrap()).unwrap()
}

/// A leaf of this authority with this flaw.
fn odd(ca: &(String, String), flaw: impl FnOnce(&mut CertificateParams)) -> Shown {
    let mut params = leaf();
    flaw(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer(ca)).unwrap();
    Some((certificate.pem(), key.serialize_pem()))
}

/// A leaf below as many intermediates, all of them shown.
fn below(ca: &(String, String), constraints: &[BasicConstraints]) -> Shown {
    let (mut above, mut chain) = (issuer(ca), String::new());
    for (index, constraint) in constraints.iter().enumerate() {
        let (key, params) = (KeyPair::generate().unwrap(), intermediate(&format!("step {index}"), *constraint));
        chain.insert_str(0, &params.signed_by(&key, &above).unwrap().pem());
        above = Issuer::new(params, key);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = leaf().signed_by(&key, &above).unwrap();
    Some((certificate.pem() + &chain, key.serialize_pem()))
}

/// subjectAltName with one entry of this tag and these bytes.
fn san(tag: u8, bytes: &[u8]) -> CustomExtension {
    let mut der = vec![0x30, u8::try_from(bytes.len() + 2).unwrap(), tag, u8::try_from(bytes.len()).unwrap()];
    der.extend_from_slice(bytes);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
}

fn named(ca: &(String, String), tag: u8, bytes: &[u8]) -> Shown {
    odd(ca, |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(san(tag, bytes));
    })
}

/// What no library makes or shows any more, made and shown by the system's OpenSSL: the answer of the gateway, or `None` where it
/// does not make it.
async fn legacy(site: &Site, key: &str, digest: &str) -> Option<String> {
    let scratch = TempDir::new().unwrap();
    let file = |name: &str| scratch.path().join(name).display().to_string();
    let ca = site.authority();
    std::fs::write(file("ca.pem"), &ca.0).unwrap();
    std::fs::write(file("ca.key"), &ca.1).unwrap();
    std::fs::write(file("site.pem"), site.world.site_ca().unwrap()).unwrap();
    let names =
        format!("subjectAltName=URI:{}\nextendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n", TREATMENT.spiffe_id);
    std::fs::write(file("names"), names).unwrap();
    let request =
        format!("req -new -nodes -newkey {key} -keyout {} -out {} -subj /CN=partner", file("l.key"), file("l.csr"));
    let sign = format!(
        "x509 -req -in {} -CA {} -CAkey {} -set_serial 77 -days 2 -{digest} -extfile {} -out {}",
        file("l.csr"),
        file("ca.pem"),
        file("ca.key"),
        file("names"),
        file("l.pem")
    );
    for arguments in [request, sign] {
        let done = tokio::process::Command::new("openssl").args(arguments.split(' ')).output().await.ok()?;
        if !done.status.success() {
            return None;
        }
    }
    let chain = std::fs::read_to_string(file("l.pem")).unwrap();
    let token = site.token(&thumbprint(&chain).unwrap_or_default());
    let (address, host) = (site.world.gateway.addresses[0], site.world.authority());
    let mut client = tokio::process::Command::new("openssl");
    client.args(
        format!("s_client -quiet -tls1_3 -cipher DEFAULT@SECLEVEL=0 -connect {address} -CAfile {}", file("site.pem"))
            .split(' '),
    );
    client.args(["-cert", &file("l.pem"), "-key", &file("l.key")]);
    client.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = client.kill_on_drop(true).spawn().ok()?;
    let request = format!(
        "GET /fhir/Patient/amara-osei HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    // A refused handshake closes the pipe before everything is written.
    drop(child.stdin.take().unwrap().write_all(request.as_bytes()).await);
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(20), child.wait_with_output()).await.ok()?.unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

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
        ("a neighbour below the own SPIFFE id", named(&ca, 0x86, format!("{}/more", TREATMENT.spiffe_id).as_bytes())),
    ];
    assert!(rows.len() >= 30);
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
