//! A small site's certificate authority, kept in one directory of the user: `ca.pem`, `ca.key`, `ca.crl`, `issued.json`.
//!
//! Keys are written with mode 0600 and never overwritten. The demo's certificates come from here too.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhirwall_certs::authority::{Authority, AuthorityError, Issued, LeafNames, Revoked, Validity};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;

use crate::audit::SigningKey;

/// How long a list of revoked certificates is valid: it must be renewed before (`certs revoke`, or `certs crl`).
const CRL_DAYS: u16 = 30;

/// Why the directory could not be used.
#[derive(Debug, Error)]
pub enum PkiError {
    #[error("cannot {action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{0}` holds a certificate authority already; nothing was changed")]
    Exists(PathBuf),
    #[error("`{0}` is not what this program wrote; restore it from your backup")]
    Index(PathBuf),
    #[error("no certificate with serial number {0} was issued from here")]
    UnknownSerial(String),
    #[error("`{0}` cannot be a file name: use letters, digits, dot, dash and underscore")]
    Name(String),
    #[error("the system gave no random bytes for a key")]
    Random,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// The directory of one certificate authority.
#[derive(Debug)]
pub struct PkiDirectory {
    dir: PathBuf,
    authority: Authority,
    index: Index,
}

/// The files of one issued certificate.
#[derive(Debug, Clone)]
pub struct IssuedFiles {
    pub certificate: PathBuf,
    /// `None` where the requester kept its key.
    pub key: Option<PathBuf>,
    pub serial: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    crl_number: u64,
    issued: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    serial: String,
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default)]
    revoked: Option<OffsetDateTime>,
}

impl PkiDirectory {
    /// A new authority in `dir`, valid for ten years, with an empty CRL. Refuses a directory that has one.
    pub fn create(dir: &Path, name: &str, now: OffsetDateTime) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| file("create", dir, source))?;
        if dir.join("ca.key").exists() || dir.join("ca.pem").exists() {
            return Err(PkiError::Exists(dir.to_owned()));
        }
        let authority = Authority::create(name, Validity::days(now, 3650)?)?;
        write_key(&dir.join("ca.key"), &authority.key_pem())?;
        replace(&dir.join("ca.pem"), authority.certificate_pem())?;
        let mut pki = Self { dir: dir.to_owned(), authority, index: Index::default() };
        pki.renew_crl(now)?;
        Ok(pki)
    }

    /// The authority kept in `dir`.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|source| file("read", &path, source))
        };
        let authority = Authority::from_pem(&read("ca.pem")?, &read("ca.key")?)?;
        let index =
            serde_json::from_str(&read("issued.json")?).map_err(|_| PkiError::Index(dir.join("issued.json")))?;
        Ok(Self { dir: dir.to_owned(), authority, index })
    }

    /// The certificate that others trust.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The list of revoked certificates.
    pub fn crl_file(&self) -> PathBuf {
        self.dir.join("ca.crl")
    }

    /// A server's certificate and key, in `<name>.pem` and `<name>.key`.
    pub fn issue_server(
        &mut self,
        name: &str,
        names: &LeafNames,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<IssuedFiles, PkiError> {
        let validity = Validity::days(now, days)?;
        let issued = self.authority.issue_server(names, validity)?;
        self.keep(name, &issued, validity)
    }

    /// A client's certificate and key, in `<name>.pem` and `<name>.key`.
    pub fn issue_client(
        &mut self,
        name: &str,
        names: &LeafNames,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<IssuedFiles, PkiError> {
        let validity = Validity::days(now, days)?;
        let issued = self.authority.issue_client(names, validity)?;
        self.keep(name, &issued, validity)
    }

    /// A client's certificate for the key of a request, in `<name>.pem`. The names are ours, not the request's.
    pub fn sign_csr(
        &mut self,
        name: &str,
        csr_pem: &str,
        names: &LeafNames,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<IssuedFiles, PkiError> {
        let validity = Validity::days(now, days)?;
        let issued = self.authority.sign_csr(csr_pem, names, validity)?;
        self.keep(name, &issued, validity)
    }

    /// Revokes what was issued under this serial number and writes a new CRL. Revoking twice changes nothing.
    pub fn revoke(&mut self, serial: &str, now: OffsetDateTime) -> Result<(), PkiError> {
        let wanted: String = serial.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        let entry = self.index.issued.iter_mut().find(|entry| entry.serial == wanted);
        let entry = entry.ok_or_else(|| PkiError::UnknownSerial(serial.to_owned()))?;
        entry.revoked.get_or_insert(now);
        self.renew_crl(now)
    }

    /// A new CRL of what is revoked, valid from `now` for 30 days.
    pub fn renew_crl(&mut self, now: OffsetDateTime) -> Result<(), PkiError> {
        self.index.crl_number += 1;
        let revoked: Vec<Revoked> = self
            .index
            .issued
            .iter()
            .filter_map(|entry| Some(Revoked { serial: entry.serial.clone(), at: entry.revoked? }))
            .collect();
        let crl = self.authority.crl(&revoked, self.index.crl_number, now, CRL_DAYS)?;
        // The index first: a number that was used once is never used for another list.
        self.write_index()?;
        replace(&self.crl_file(), &crl)
    }

    fn keep(&mut self, name: &str, issued: &Issued, validity: Validity) -> Result<IssuedFiles, PkiError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.starts_with('.') || name == "ca" || !name.bytes().all(legal) {
            return Err(PkiError::Name(name.to_owned()));
        }
        let certificate = self.dir.join(format!("{name}.pem"));
        let key = match &issued.key_pem {
            Some(pem) => {
                let path = self.dir.join(format!("{name}.key"));
                write_key(&path, pem)?;
                Some(path)
            }
            None => None,
        };
        self.index.issued.push(Entry {
            serial: issued.serial.clone(),
            name: name.to_owned(),
            not_after: validity.not_after,
            revoked: None,
        });
        self.write_index()?;
        replace(&certificate, &issued.certificate_pem)?;
        Ok(IssuedFiles { certificate, key, serial: issued.serial.clone() })
    }

    fn write_index(&self) -> Result<(), PkiError> {
        let path = self.dir.join("issued.json");
        let text = serde_json::to_string_pretty(&self.index).map_err(|_| PkiError::Index(path.clone()))?;
        replace(&path, &text)
    }
}

/// Makes the gateway's own keys in `dir`: `seal.key` seals paging links, `audit.pem` signs the audit log. Keys that are there
/// stay: whoever replaced them would break links and make the log's signatures unverifiable.
pub fn write_own_keys(dir: &Path) -> Result<[PathBuf; 2], PkiError> {
    fs::create_dir_all(dir).map_err(|source| file("create", dir, source))?;
    let mut seal = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut seal).map_err(|_| PkiError::Random)?;
    let (_, audit) = SigningKey::generate().map_err(|_| PkiError::Random)?;
    let paths = [dir.join("seal.key"), dir.join("audit.pem")];
    if let Some(there) = paths.iter().find(|path| path.exists()) {
        let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(file("create the key file", there, source));
    }
    let [seal_file, audit_file] = &paths;
    write_key(seal_file, &STANDARD.encode(seal))?;
    write_key(audit_file, &audit)?;
    Ok(paths)
}

/// Writes a private key that only its owner reads. Never overwrites one.
pub fn write_key(path: &Path, pem: &str) -> Result<(), PkiError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut key = options.open(path).map_err(|source| file("create the key file", path, source))?;
    key.write_all(pem.as_bytes()).map_err(|source| file("write", path, source))
}

/// Readers see the old text or the new one, whole.
fn replace(path: &Path, text: &str) -> Result<(), PkiError> {
    let next = path.with_extension("next");
    fs::write(&next, text).map_err(|source| file("write", &next, source))?;
    fs::rename(&next, path).map_err(|source| file("replace", path, source))
}

fn file(action: &'static str, path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use fhirwall_certs::server::{ClientTrust, client_verifier};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, UnixTime};

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW).unwrap()
    }

    fn names(uri: &str) -> LeafNames {
        LeafNames { common_name: "a partner".into(), uris: vec![uri.into()], ..LeafNames::default() }
    }

    fn passes(pki: &PkiDirectory, certificate: &Path) -> bool {
        let trust = ClientTrust { ca: fs::read(pki.ca_file()).unwrap(), crls: vec![fs::read(pki.crl_file()).unwrap()] };
        let leaf = CertificateDer::from_pem_file(certificate).unwrap();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unsigned_abs()));
        client_verifier(&trust, true).unwrap().verify_client_cert(&leaf, &[], at).is_ok()
    }

    #[test]
    fn what_is_revoked_is_refused_and_its_neighbour_passes_after_a_restart_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut pki = PkiDirectory::create(dir.path(), "site CA", now()).unwrap();
        let one = pki.issue_client("one", &names("spiffe://one.example/app"), 30, now()).unwrap();
        let two = pki.issue_client("two", &names("spiffe://two.example/app"), 30, now()).unwrap();
        assert!(passes(&pki, &one.certificate) && passes(&pki, &two.certificate));
        let mut pki = PkiDirectory::open(dir.path()).unwrap();
        pki.revoke(&one.serial.to_uppercase(), now()).unwrap();
        assert!(!passes(&pki, &one.certificate) && passes(&pki, &two.certificate));
        assert!(matches!(pki.revoke("0102", now()), Err(PkiError::UnknownSerial(_))));
    }

    #[test]
    fn keys_are_the_owners_alone_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut pki = PkiDirectory::create(dir.path(), "site CA", now()).unwrap();
        let one = pki.issue_client("one", &names("spiffe://one.example/app"), 30, now()).unwrap();
        for key in [dir.path().join("ca.key"), one.key.unwrap()] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(PkiDirectory::create(dir.path(), "again", now()), Err(PkiError::Exists(_))));
        assert!(pki.issue_client("one", &names("spiffe://one.example/app"), 30, now()).is_err());
        for name in ["", "ca", "../x", "a/b", ".hidden"] {
            assert!(matches!(
                pki.issue_client(name, &names("spiffe://one.example/app"), 30, now()),
                Err(PkiError::Name(_))
            ));
        }
    }
}
