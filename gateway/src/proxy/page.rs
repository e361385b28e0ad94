//! Pages: an EHR's links become links that only this caller can follow, and are decided anew when followed.

use fhir_profiles::ids::InstanceId;
use fhir_profiles::interaction::{Interaction, Method as UpstreamMethod, RequestParts, interpret};
use fhir_profiles::operation::Operation;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::{HeaderValue, Method};

use super::Journey;
use crate::forward::UpstreamRequest;
use crate::generation::Endpoint;
use crate::links::{LIFETIME, Page};
use crate::refusal::Refusal;

/// Where in the EHR's answer a page begins.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    path: String,
    query: String,
}

impl Journey<'_> {
    /// Opens a sealed page: the client's own search, and the EHR's cursor. Other interactions pass.
    pub(super) fn unseal(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        interaction: Interaction,
    ) -> Result<(Interaction, Option<Cursor>), Refusal> {
        let Interaction::Page { token } = &interaction else { return Ok((interaction, None)) };
        let page = self
            .generation
            .sealer
            .open(token.reveal(), &subject.partner.client_id, &subject.sub, &endpoint.facts.name, self.now)
            .map_err(|_| Refusal::from(Reason::NotFound))?;
        let parts = RequestParts {
            method: "GET",
            path: &page.path,
            query: (!page.query.is_empty()).then_some(page.query.as_str()),
            base: &endpoint.base_url,
            ..RequestParts::default()
        };
        let interaction = interpret(&parts).map_err(|_| Refusal::from(Reason::NotFound))?;
        Ok((interaction, Some(Cursor { path: page.cursor_path, query: page.cursor_query })))
    }

    /// The client's link for one of the EHR's; `None` leaves it out.
    pub(super) fn link(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        interaction: &Interaction,
        relation: &str,
        url: &str,
    ) -> Option<String> {
        let own = client_target(interaction)?;
        match relation {
            "self" => Some(format!("{}{}", endpoint.base_url, with_query(&own.0, &own.1))),
            "next" | "previous" | "prev" | "first" | "last" => {
                let (cursor_path, cursor_query) = below_base(url, endpoint.upstream.bases())?;
                let page = Page {
                    client_id: subject.partner.client_id.to_string(),
                    subject: subject.sub.to_string(),
                    endpoint: endpoint.facts.name.clone(),
                    path: own.0,
                    query: own.1,
                    cursor_path,
                    cursor_query,
                    expires: self.now.saturating_add(LIFETIME).unix_timestamp(),
                };
                let token = self.generation.sealer.seal(&page).ok()?;
                Some(format!("{}/_page/{token}", endpoint.base_url))
            }
            _ => None,
        }
    }
}

/// The record whose versions are asked for.
pub(super) fn versions_of(interaction: &Interaction) -> Option<InstanceId> {
    if let Interaction::Vread { kind, id, .. } | Interaction::HistoryInstance { kind, id, .. } = interaction {
        Some(InstanceId { kind: *kind, id: id.clone() })
    } else {
        None
    }
}

/// The client's own request line: path below the base, and its parameters as it gave them.
fn client_target(interaction: &Interaction) -> Option<(String, String)> {
    let upstream = interaction.upstream()?;
    let path = upstream.path.strip_suffix("/_search").map_or_else(|| upstream.path.clone(), str::to_owned);
    let query = interaction.query().map(fhir_profiles::search::Query::client).unwrap_or_default();
    Some((path, query))
}

fn with_query(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Path and query of a URL below one of the EHR's bases. A link to anywhere else is no link.
fn below_base(url: &str, bases: &[String]) -> Option<(String, String)> {
    let rest = bases.iter().find_map(|base| url.strip_prefix(base.as_str()))?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let legal = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let dots = path.split('/').any(|segment| segment == ".." || segment == ".");
    ((path.is_empty() || path.starts_with('/')) && legal(path) && legal(query) && !dots)
        .then(|| (path.to_owned(), query.to_owned()))
}

/// What is asked of the EHR: the permitted interaction, or its cursor.
pub(super) fn upstream_request(permit: &Permit, cursor: Option<Cursor>) -> Option<UpstreamRequest> {
    if let Some(cursor) = cursor {
        return Some(UpstreamRequest::get(cursor.path, cursor.query));
    }
    // Whose current labels could not be looked up one by one, and what is answered later and elsewhere.
    if let Interaction::HistoryType { .. }
    | Interaction::HistorySystem { .. }
    | Interaction::Operation { operation: Operation::Export, .. } = permit.interaction()
    {
        return None;
    }
    let upstream = permit.interaction().upstream()?;
    let method = match upstream.method {
        UpstreamMethod::Get => Method::GET,
        UpstreamMethod::Post if upstream.form.is_some() => Method::POST,
        // Whatever changes anything goes the way of writes.
        UpstreamMethod::Post | UpstreamMethod::Put | UpstreamMethod::Patch | UpstreamMethod::Delete => return None,
    };
    let body = upstream.form.map(|form| {
        (HeaderValue::from_static("application/x-www-form-urlencoded"), bytes::Bytes::from(form.into_bytes()))
    });
    Some(UpstreamRequest {
        method,
        path: upstream.path,
        query: upstream.query,
        if_match: None,
        if_none_exist: None,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_below_the_ehrs_base_are_followed() {
        let bases = ["https://ehr.internal/fhir".to_owned()];
        let below = |url: &str| below_base(url, &bases);
        assert_eq!(below("https://ehr.internal/fhir?_getpages=1"), Some((String::new(), "_getpages=1".to_owned())));
        assert_eq!(
            below("https://ehr.internal/fhir/Observation?page=2"),
            Some(("/Observation".to_owned(), "page=2".to_owned()))
        );
        for foreign in [
            "https://other/fhir/Observation",
            "https://ehr.internal/fhirx/Observation",
            "https://ehr.internal/fhir/../admin",
            "/Observation?page=2",
            "https://ehr.internal/fhir/Observation#x",
        ] {
            assert_eq!(below(foreign), None, "{foreign}");
        }
    }
}
