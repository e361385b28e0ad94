//! Rows that this caller may never see are excluded at the source, where the EHR can (`_security:not`).
//!
//! It saves the EHR and the gateway work; nothing rests on it. Every row that comes is judged all the same, and the
//! parameters are the gateway's own: the client's links do not show them. A marked partner is told that something was
//! withheld, so its rows have to come; only a silent one's are excluded.

use bytes::Bytes;
use fhirwall_policy::partner::Redaction;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::forward::UpstreamRequest;
use crate::redact::Stage;

/// The same search without the rows that carry a label which no record may carry that this caller is shown.
pub(super) fn exclude(request: UpstreamRequest, stage: &Stage<'_>) -> UpstreamRequest {
    let silent = stage.permit.redaction() == Redaction::Silent;
    let Some(kinds) = super::refill::asked(stage.permit.interaction()).and_then(|asked| asked.kinds) else {
        return request;
    };
    if !stage.endpoint.honours_security_not || !silent {
        return request;
    }
    let mut criteria = String::new();
    for label in stage.permit.never_shown(&stage.generation.policies, kinds) {
        let value = format!("{}|{}", label.system(), label.code());
        let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
        criteria.push_str(&format!("&_security%3Anot={value}"));
    }
    if criteria.is_empty() {
        return request;
    }
    let mut request = request;
    match &mut request.body {
        Some((_, form)) => *form = Bytes::from([form, criteria.as_bytes()].concat()),
        None => request.query.push_str(&criteria),
    }
    request
}
