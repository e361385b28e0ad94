//! A site whose EHR tells who came through, and certificates good and bad of its partners' authority.

use std::sync::Arc;

use fhirwall::demo::apps::TREATMENT;
use fhirwall::demo::world::{Neighbours, World};
use fhirwall_certs::peer::PeerIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A chain and a key, PEM.
pub(super) type Shown = Option<(String, String)>;

pub(super) struct Site {
    pub(super) world: World,
    _dir: TempDir,
}

impl Site {
    pub(super) async fn on(edit: impl FnOnce(&Neighbours)) -> Self {
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
        edit(&neighbours);
        Self { world: World::between(neighbours).unwrap(), _dir: dir }
    }

    pub(super) fn authority(&self) -> (String, String) {
        authority(&self.world)
    }

    /// A read with this certificate and a token bound to it, or to nothing where there is none: the status, or 0 where the
    /// connection gave none.
    pub(super) async fn read(&self, shown: &Shown) -> u16 {
        let thumbprint = shown.as_ref().and_then(|(chain, _)| thumbprint(chain));
        let token = self.token(thumbprint.as_deref().unwrap_or(&self.world.treatment.x5t_s256));
        self.read_with(shown, &token, self.world.authority()).await
    }

    pub(super) fn token(&self, thumbprint: &str) -> String {
        let mut grant = self.world.grant(&self.world.treatment);
        grant.x5t_s256 = Some(thumbprint.to_owned());
        self.world.issuer.mint(&grant).unwrap()
    }

    /// A client that shows this, whatever it is.
    pub(super) fn client(&self, shown: &Shown) -> rustls::ClientConfig {
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
        config
    }

    pub(super) async fn read_with(&self, shown: &Shown, token: &str, host: &str) -> u16 {
        let config = self.client(shown);
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
    pub(super) fn untouched(&self, name: &str) {
        let log = self.world.ehr.log();
        assert!(log.is_empty(), "{name}: {} requests at the EHR, first {}", log.len(), log[0].path);
    }

    pub(super) async fn refused(&self, name: &str, shown: Shown) {
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

pub(super) fn authority(neighbours: &Neighbours) -> (String, String) {
    let file = |name: &str| std::fs::read_to_string(neighbours.dir().join("tls/partners").join(name)).unwrap();
    (file("ca.pem"), file("ca.key"))
}

/// `x5t#S256` of the leaf, where it can be read at all.
pub(super) fn thumbprint(chain: &str) -> Option<String> {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
    PeerIdentity::from_der_chain(&[leaf]).ok().map(|peer| peer.x5t_s256())
}

pub(super) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A good leaf of the treatment app.
pub(super) fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "partner");
    params.subject_alt_names = vec![SanType::URI(TREATMENT.spiffe_id.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = now() - Duration::days(1);
    params.not_after = now() + Duration::days(1);
    params
}

pub(super) fn intermediate(name: &str, constraint: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraint);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now() - Duration::days(1);
    params.not_after = now() + Duration::days(1);
    params
}

pub(super) fn issuer((ca, key): &(String, String)) -> Issuer<'static, KeyPair> {
    Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(key).unwrap()).unwrap()
}

/// A leaf of this authority with this flaw.
pub(super) fn odd(ca: &(String, String), flaw: impl FnOnce(&mut CertificateParams)) -> Shown {
    let mut params = leaf();
    flaw(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer(ca)).unwrap();
    Some((certificate.pem(), key.serialize_pem()))
}

/// A leaf below as many intermediates, all of them shown.
pub(super) fn below(ca: &(String, String), constraints: &[BasicConstraints]) -> Shown {
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
pub(super) fn san(tag: u8, bytes: &[u8]) -> CustomExtension {
    let mut der = vec![0x30, u8::try_from(bytes.len() + 2).unwrap(), tag, u8::try_from(bytes.len()).unwrap()];
    der.extend_from_slice(bytes);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
}

pub(super) fn named(ca: &(String, String), tag: u8, bytes: &[u8]) -> Shown {
    odd(ca, |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(san(tag, bytes));
    })
}

/// AlgorithmIdentifiers (RFC 5280 4.1.1.2): ecdsa-with-SHA256, md5WithRSAEncryption, sha1WithRSAEncryption.
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
pub(super) const MD5: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04\x05\x00";
pub(super) const SHA1: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00";

/// A leaf of this authority that says, within and without, that it was signed by this algorithm. No library makes one.
pub(super) fn says_signed_by(ca: &(String, String), algorithm: &[u8]) -> Shown {
    let (chain, key) = odd(ca, |_| {})?;
    let der = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let [to_be_signed, said, signature] = <[&[u8]; 3]>::try_from(values(content(&der))).unwrap();
    assert_eq!(said, ECDSA_SHA256);
    let inner: Vec<&[u8]> =
        values(content(to_be_signed)).into_iter().map(|part| if part == said { algorithm } else { part }).collect();
    let forged = sequence(&[&sequence(&inner), algorithm, signature]);
    Some((pem(&forged), key))
}

/// How many bytes the head of a DER value has, and how many follow it.
fn measured(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let digits = &der[2..2 + usize::from(long & 0x7f)];
            (2 + digits.len(), digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
        }
    }
}

fn content(der: &[u8]) -> &[u8] {
    let (head, length) = measured(der);
    &der[head..head + length]
}

/// The values that stand one after the other.
fn values(mut der: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while !der.is_empty() {
        let (head, length) = measured(der);
        let (part, rest) = der.split_at(head + length);
        parts.push(part);
        der = rest;
    }
    parts
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], length.as_slice(), &content].concat()
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// What no library makes or shows any more, made and shown by the system's OpenSSL: the answer of the gateway, or `None` where it
/// does not make it.
pub(super) async fn legacy(site: &Site, key: &str, digest: &str) -> Option<String> {
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
