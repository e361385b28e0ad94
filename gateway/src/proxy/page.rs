//! Pages: an EHR's links become links that only this caller can follow, and are decided anew when followed.

use fhir_profiles::ids::InstanceId;
use fhir_profiles::interaction::{Interaction, Method as UpstreamMethod, RequestParts, interpret};
use fhir_profiles::operation::Operation;
use fhir_profiles::search::Query;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::{HeaderValue, Method};

use super::Journey;
use crate::forward::UpstreamRequest;
use crate::generation::Endpoint;
use crate::links::{Cursor, LIFETIME, Page, Position};
use crate::refusal::Refusal;

const FORM: &str = "application/x-www-form-urlencoded";

impl Journey<'_> {
    /// Opens a sealed page: the client's own search, and where in the EHR's answer the page begins. Other interactions
    /// pass.
    pub(super) fn unseal(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        interaction: Interaction,
    ) -> Result<(Interaction, Option<Position>), Refusal> {
        let Interaction::Page { token } = &interaction else { return Ok((interaction, None)) };
        let page = self
            .generation
            .sealer
            .open(token.reveal(), &subject.partner.client_id, &subject.sub, &endpoint.facts.name, self.now)
            .map_err(|_| Refusal::from(Reason::NotFound))?;
        let query = (!page.query.is_empty()).then_some(page.query.as_str());
        let path = if page.form { format!("{}/_search", page.path.trim_end_matches('/')) } else { page.path };
        let parts = RequestParts {
            method: if page.form { "POST" } else { "GET" },
            path: &path,
            query: query.filter(|_| !page.form),
            form: query.filter(|_| page.form),
            content_type: page.form.then_some(FORM),
            base: &endpoint.base_url,
            ..RequestParts::default()
        };
        let interaction = interpret(&parts).map_err(|_| Refusal::from(Reason::NotFound))?;
        Ok((interaction, Some(page.position)))
    }

    /// The client's link for one of the EHR's; `None` leaves it out. `next` begins at this position.
    ///
    /// Pages are filled and cut here, so the EHR's other links would lead to other rows than those that stand there for
    /// this client: they are left out (R4 search.html#paging makes all but `self` optional).
    pub(super) fn link(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        interaction: &Interaction,
        relation: &str,
        next: Option<&Position>,
    ) -> Option<String> {
        let (path, query) = client_target(interaction)?;
        match relation {
            "self" => Some(format!("{}{}", endpoint.base_url, with_query(&path, &query))),
            "next" => {
                let page = Page {
                    client_id: subject.partner.client_id.to_string(),
                    subject: subject.sub.to_string(),
                    endpoint: endpoint.facts.name.clone(),
                    path,
                    query,
                    form: interaction.query().is_some_and(Query::came_as_form),
                    position: next?.clone(),
                    expires: self.now.saturating_add(LIFETIME).unix_timestamp(),
                };
                let token = self.generation.sealer.seal(&page).ok()?;
                Some(format!("{}/_page/{token}", endpoint.base_url))
            }
            _ => None,
        }
    }
}

/// The page of the EHR that its link leads to, as a position at its beginning.
pub(super) fn beginning(url: &str, endpoint: &Endpoint, size: Option<usize>) -> Option<Position> {
    let (path, query) = below_base(url, endpoint.upstream.bases())?;
    Some(Position { cursor: Some(Cursor { path, query }), skip: 0, size })
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
pub(super) fn client_target(interaction: &Interaction) -> Option<(String, String)> {
    let upstream = interaction.upstream()?;
    let path = upstream.path.strip_suffix("/_search").map_or_else(|| upstream.path.clone(), str::to_owned);
    let query = interaction.query().map(Query::client).unwrap_or_default();
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
pub(super) fn upstream_request(permit: &Permit, cursor: Option<&Cursor>) -> Option<UpstreamRequest> {
    if let Some(cursor) = cursor {
        return Some(UpstreamRequest::get(cursor.path.clone(), cursor.query.clone()));
    }
    // What is answered later and elsewhere.
    if let Interaction::Operation { operation: Operation::Export, .. } = permit.interaction() {
        return None;
    }
    let upstream = permit.interaction().upstream()?;
    let method = match upstream.method {
        UpstreamMethod::Get => Method::GET,
        UpstreamMethod::Post if upstream.form.is_some() => Method::POST,
        // Whatever changes anything goes the way of writes.
        UpstreamMethod::Post | UpstreamMethod::Put | UpstreamMethod::Patch | UpstreamMethod::Delete => return None,
    };
    let body = upstream.form.map(|form| (HeaderValue::from_static(FORM), bytes::Bytes::from(form.into_bytes())));
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
