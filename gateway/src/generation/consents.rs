//! Where an endpoint's consents come from: the EHR itself, or a consent server with a credential of the gateway's own.

use std::sync::Arc;

use super::{BuildError, credential, files};
use crate::config;
use crate::consents::{ConsentSource, FetchedConsents, Settings, UpstreamFetch};
use crate::forward::Upstream;
use crate::shared::Shared;

/// The source of the configuration, for an endpoint whose own names are `bases`.
///
/// A consent server names its patients by the ids that the EHR gives them. It may refer to them under the EHR's base, under
/// the endpoint's, or under its own.
pub(super) fn source(
    consent: &config::Consent,
    ehr: &Arc<Upstream>,
    bases: &[String],
    shared: &Shared,
) -> Result<Arc<dyn ConsentSource>, BuildError> {
    let settings = Settings { cache: consent.cache, ..Settings::default() };
    let Some(url) = consent.url.as_ref().filter(|_| consent.source == config::ConsentSource::Server) else {
        let fetch = Arc::clone(ehr) as Arc<dyn UpstreamFetch>;
        return Ok(Arc::new(FetchedConsents::new(fetch, bases, settings)));
    };
    let server = config::Upstream {
        urls: vec![url.clone()],
        unix_socket: None,
        ca_file: consent.ca_file.clone(),
        pins_sha256: Vec::new(),
        client_certificate_file: consent.client_certificate_file.clone(),
        client_key_file: consent.client_key_file.clone(),
        auth: consent.auth.clone(),
        timeout: consent.timeout,
        health_interval: consent.timeout,
        security_not: false,
    };
    let refused = |what: String| BuildError::Endpoint { endpoint: "consent".to_owned(), what };
    let tls = files::upstream_tls(&server, "consent server")?;
    let credential = credential(&server, &shared.clock).map_err(refused)?;
    let own = url.base().to_owned();
    let fetch = Upstream::new(tls, vec![own.clone()], server.timeout, Settings::PAGE_BYTES, credential).unwatched();
    let bases: Vec<String> = std::iter::once(own).chain(bases.iter().cloned()).collect();
    Ok(Arc::new(FetchedConsents::new(Arc::new(fetch), &bases, Settings { deadline: consent.timeout, ..settings })))
}
