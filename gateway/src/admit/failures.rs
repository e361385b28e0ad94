//! Credentials that no well-behaved client presents, counted by where they come from.
//!
//! Counted are forgeries, replays and tokens of somebody else. Not counted is what happens to every client: a token that has
//! run out or was revoked, a nonce that is needed, no credentials yet. Who holds a certificate is counted by it, so that one
//! broken app behind a hospital's one address shuts nobody else out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::identify::error::{IdentifyError, ProofFault, TokenFault};

const MINUTE: u64 = 60_000_000_000;

/// The failures of this minute, by a hash of where they come from.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<u64, Minute>>);

#[derive(Clone, Copy, Debug)]
struct Minute {
    began: u64,
    count: u32,
}

impl Failures {
    /// Have there been as many in this minute as are allowed? Then: how long until its end.
    pub(super) fn shut_out(&self, key: u64, most: u32, nanos: u64) -> Option<Duration> {
        let minute = *self.minutes().get(&key)?;
        let left = minute.began.saturating_add(MINUTE).checked_sub(nanos).filter(|left| *left > 0)?;
        (minute.count >= most).then(|| Duration::from_nanos(left))
    }

    pub(super) fn count(&self, key: u64, nanos: u64) {
        let mut minutes = self.minutes();
        let minute = minutes.entry(key).or_insert(Minute { began: nanos, count: 0 });
        if nanos.saturating_sub(minute.began) >= MINUTE {
            *minute = Minute { began: nanos, count: 0 };
        }
        minute.count = minute.count.saturating_add(1);
    }

    pub(super) fn sweep(&self, nanos: u64) {
        self.minutes().retain(|_, minute| nanos.saturating_sub(minute.began) < MINUTE);
    }

    fn minutes(&self) -> MutexGuard<'_, HashMap<u64, Minute>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does the failure speak of an attempt to get in, rather than of a client whose token is of yesterday?
pub(super) const fn is_an_attempt(error: &IdentifyError) -> bool {
    match error {
        IdentifyError::InvalidToken(fault) => match fault {
            TokenFault::TooLong
            | TokenFault::Unreadable
            | TokenFault::Header
            | TokenFault::Algorithm
            | TokenFault::Type
            | TokenFault::Key
            | TokenFault::Signature
            | TokenFault::Issuer
            | TokenFault::Claims
            | TokenFault::NotAnAccessToken
            | TokenFault::CertificateBinding
            | TokenFault::KeyBinding
            | TokenFault::Unconstrained => true,
            TokenFault::Audience
            | TokenFault::Expired
            | TokenFault::NotYet
            | TokenFault::Inactive
            | TokenFault::Revoked => false,
        },
        IdentifyError::InvalidProof(fault) => match fault {
            ProofFault::Several
            | ProofFault::Unreadable
            | ProofFault::Header
            | ProofFault::Key
            | ProofFault::Signature
            | ProofFault::Method
            | ProofFault::Uri
            | ProofFault::TokenHash
            | ProofFault::Binding
            | ProofFault::Replayed => true,
            ProofFault::Missing | ProofFault::Time => false,
        },
        IdentifyError::CertificateMismatch | IdentifyError::Malformed(_) => true,
        IdentifyError::NoCredentials
        | IdentifyError::NonceNeeded { .. }
        | IdentifyError::PartnerUnknown
        | IdentifyError::PurposeNotAllowed
        | IdentifyError::StrongerAuthenticationNeeded { .. }
        | IdentifyError::IssuerUnavailable
        | IdentifyError::StateUnavailable => false,
    }
}
