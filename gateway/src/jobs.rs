//! Sealed names of bulk exports: a job, and a file of it. The EHR's own URLs are inside and are never shown.
//!
//! Nothing is kept of a job here: every replica can open its name, and only for the client and the subject that started it
//! (attack case 23). A name carries no permission; each request is decided anew.

use std::fmt;

use fhirwall_policy::subject::Subject;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::links::{InvalidLink, Sealer};

/// How long a job and its files may be asked for.
pub const LIFETIME: Duration = Duration::hours(24);
const JOB: &[u8] = b"fhirwall export job v1";
const FILE: &[u8] = b"fhirwall export file v1";

/// A bulk export that was started.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    owner: [String; 4],
    /// The client's kick-off: path below the base, and query.
    pub path: String,
    pub query: String,
    /// Where the EHR tells its status.
    pub url: String,
    /// Seconds since the epoch.
    expires: i64,
}

/// One file of an export that is complete.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub job: Job,
    /// The type of its lines.
    pub kind: String,
    pub url: String,
}

/// URLs and queries do not print.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job(..)")
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File(..)")
    }
}

/// Who alone may open the names of a job.
fn owner(subject: &Subject, endpoint: &str) -> [String; 4] {
    [subject.partner.client_id.to_string(), subject.issuer.to_string(), subject.sub.to_string(), endpoint.to_owned()]
}

impl Job {
    /// A job of this caller, started now.
    pub fn new(
        subject: &Subject,
        endpoint: &str,
        (path, query): (String, String),
        url: String,
        now: OffsetDateTime,
    ) -> Self {
        let expires = now.saturating_add(LIFETIME).unix_timestamp();
        Self { owner: owner(subject, endpoint), path, query, url, expires }
    }

    /// Its sealed name.
    ///
    /// # Errors
    /// When there is no key to seal with.
    pub fn seal(&self, sealer: &Sealer) -> Result<String, InvalidLink> {
        sealer.seal_as(JOB, self)
    }

    /// The job of this name, for its owner and in its time.
    ///
    /// # Errors
    /// When it is not this caller's, was changed, or has ended.
    pub fn open(
        sealer: &Sealer,
        token: &str,
        subject: &Subject,
        endpoint: &str,
        now: OffsetDateTime,
    ) -> Result<Self, InvalidLink> {
        sealer.open_as::<Self>(JOB, token)?.of(subject, endpoint, now)
    }

    fn of(self, subject: &Subject, endpoint: &str, now: OffsetDateTime) -> Result<Self, InvalidLink> {
        let theirs = self.owner == owner(subject, endpoint) && now.unix_timestamp() < self.expires;
        if theirs { Ok(self) } else { Err(InvalidLink) }
    }
}

impl File {
    /// Its sealed name.
    ///
    /// # Errors
    /// When there is no key to seal with.
    pub fn seal(&self, sealer: &Sealer) -> Result<String, InvalidLink> {
        sealer.seal_as(FILE, self)
    }

    /// The file of this name, for the owner of its job and in its time.
    ///
    /// # Errors
    /// When it is not this caller's, was changed, or has ended.
    pub fn open(
        sealer: &Sealer,
        token: &str,
        subject: &Subject,
        endpoint: &str,
        now: OffsetDateTime,
    ) -> Result<Self, InvalidLink> {
        let file = sealer.open_as::<Self>(FILE, token)?;
        file.job.clone().of(subject, endpoint, now)?;
        Ok(file)
    }
}
