//! A certificate authority for development and small sites: ECDSA P-256, one level, CRLs.
//!
//! It hands out PEM text; where that is kept is the caller's business, and no key of it ever belongs in a repository.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PublicKeyData, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::peer::hex;

/// Why an authority could not do what was asked.
#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("`{0}` cannot stand in a certificate as a name")]
    InvalidName(String),
    #[error("a certificate needs at least one name")]
    NoName,
    #[error("a certificate must be valid for 1 to 3650 days")]
    InvalidValidity,
    #[error("the serial number must be 1 to 20 bytes in hex, as `certs inspect` prints it")]
    InvalidSerial,
    #[error("the certificate signing request is not readable, or not signed by its own key")]
    InvalidRequest,
    #[error("the authority's certificate or key is not readable")]
    Unreadable(#[source] rcgen::Error),
    #[error("the certificate could not be made")]
    Signing(#[source] rcgen::Error),
    #[error("the system gave no random bytes")]
    Randomness,
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// `days` from `now`, and five minutes back for clocks that differ.
    pub fn days(now: OffsetDateTime, days: u16) -> Result<Self, AuthorityError> {
        if !(1..=3650).contains(&days) {
            return Err(AuthorityError::InvalidValidity);
        }
        Ok(Self { not_before: now - Duration::minutes(5), not_after: now + Duration::days(i64::from(days)) })
    }
}

/// The names of a leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafNames {
    /// The subject's common name, for people.
    pub common_name: String,
    pub dns: Vec<String>,
    pub uris: Vec<String>,
    pub ips: Vec<IpAddr>,
}

/// A certificate and, where the authority made it, its key.
#[derive(Clone)]
pub struct Issued {
    pub certificate_pem: String,
    /// The PKCS#8 key. `None` for a signed request: the requester kept it.
    pub key_pem: Option<String>,
    /// The serial number in hex, as [`Authority::crl`] wants it.
    pub serial: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// A revoked serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    pub serial: String,
    pub at: OffsetDateTime,
}

/// A certificate authority with its key in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// A new private key (ECDSA P-256) as PKCS#8 PEM text.
///
/// # Errors
/// When the system gives no random bytes.
pub fn private_key_pem() -> Result<String, AuthorityError> {
    Ok(KeyPair::generate().map_err(AuthorityError::Signing)?.serialize_pem())
}

enum Use {
    Server,
    Client,
}

impl Authority {
    /// A new authority. It may sign leaves only (path length 0).
    pub fn create(name: &str, validity: Validity) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Signing)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
        let certificate_pem = params.self_signed(&key).map_err(AuthorityError::Signing)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// An authority kept as PEM text.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Unreadable)?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(AuthorityError::Unreadable)?;
        Ok(Self { issuer, certificate_pem: certificate_pem.to_owned() })
    }

    /// The authority's certificate: what others trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's key, to be kept in a file of mode 0600.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server's certificate and key.
    pub fn issue_server(&self, names: &LeafNames, validity: Validity) -> Result<Issued, AuthorityError> {
        self.issue(names, &Use::Server, validity)
    }

    /// A client's certificate and key.
    pub fn issue_client(&self, names: &LeafNames, validity: Validity) -> Result<Issued, AuthorityError> {
        self.issue(names, &Use::Client, validity)
    }

    /// A client's certificate for the key of a request (PKCS#10). The names are the caller's: what the request asks for is
    /// not taken over.
    pub fn sign_csr(&self, csr_pem: &str, names: &LeafNames, validity: Validity) -> Result<Issued, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|_| AuthorityError::InvalidRequest)?;
        self.sign(leaf(names, &Use::Client, validity)?, &request.public_key, None)
    }

    /// The list of what was revoked, as PEM, valid from `now` for `days`. `number` must grow with every list (RFC 5280 5.2.3).
    pub fn crl(
        &self,
        revoked: &[Revoked],
        number: u64,
        now: OffsetDateTime,
        days: u16,
    ) -> Result<String, AuthorityError> {
        let validity = Validity::days(now, days)?;
        let revoked_certs = revoked
            .iter()
            .map(|entry| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&unhex(&entry.serial)?),
                    revocation_time: entry.at,
                    reason_code: Some(RevocationReason::Unspecified),
                    invalidity_date: None,
                })
            })
            .collect::<Result<Vec<_>, AuthorityError>>()?;
        let params = CertificateRevocationListParams {
            this_update: validity.not_before,
            next_update: validity.not_after,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).map_err(AuthorityError::Signing)?;
        list.pem().map_err(AuthorityError::Signing)
    }

    fn issue(&self, names: &LeafNames, usage: &Use, validity: Validity) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Signing)?;
        let pem = key.serialize_pem();
        self.sign(leaf(names, usage, validity)?, &key, Some(pem))
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        key_pem: Option<String>,
    ) -> Result<Issued, AuthorityError> {
        let number = serial()?;
        let serial = hex(number.as_ref());
        params.serial_number = Some(number);
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Signing)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem, serial })
    }
}

fn leaf(names: &LeafNames, usage: &Use, validity: Validity) -> Result<CertificateParams, AuthorityError> {
    let ia5 = |text: &String| text.as_str().try_into().map_err(|_| AuthorityError::InvalidName(text.clone()));
    let mut sans = Vec::new();
    for dns in &names.dns {
        sans.push(SanType::DnsName(ia5(dns)?));
    }
    for uri in &names.uris {
        sans.push(SanType::URI(ia5(uri)?));
    }
    sans.extend(names.ips.iter().copied().map(SanType::IpAddress));
    if sans.is_empty() {
        return Err(AuthorityError::NoName);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&names.common_name);
    params.subject_alt_names = sans;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// 127 random bits, positive, never zero (RFC 5280 4.1.2.2).
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthorityError::Randomness)?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn unhex(text: &str) -> Result<Vec<u8>, AuthorityError> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.is_empty() || digits.len() > 40 || digits.len() % 2 == 1 || !digits.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(AuthorityError::InvalidSerial);
    }
    let nibble = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or_default();
    Ok(digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0u8, |byte, digit| byte << 4 | nibble(*digit)))
        .collect())
}
