//! What opens a sealed audit log.

use std::path::Path;

use crate::audit::EncryptionKey;
use crate::config::Config;

/// The key in the file that is given, else in the one that the configuration names. `None`: neither names one, and
/// sealed records stay closed.
///
/// # Errors
/// When the file cannot be read or holds no key, in words for the operator.
pub(super) fn encryption_key(given: Option<&Path>, config: Option<&Config>) -> Result<Option<EncryptionKey>, String> {
    let configured = config.and_then(|config| config.gateway.keys.audit_encryption_file.as_deref());
    given.or(configured).map(read).transpose()
}

fn read(path: &Path) -> Result<EncryptionKey, String> {
    let unusable = |problem: &dyn core::fmt::Display| format!("cannot use the key `{}`: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    EncryptionKey::from_base64(&text).map_err(|error| unusable(&error))
}
