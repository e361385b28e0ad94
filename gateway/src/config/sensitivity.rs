//! How sensitive data is known, and where patients' consents come from.

use std::time::Duration;

use crate::config::address::WebUrl;
use crate::config::read::At;
use crate::config::section::{section, words};
use crate::config::value::FilePath;

section! {
    /// How sensitivity labels are found.
    pub struct Labels {
        /// Where they are looked for.
        sources: Vec<LabelSource> = vec![LabelSource::Meta, LabelSource::Inline, LabelSource::Codes],
        /// What a label that nobody here knows counts as.
        unknown: UnknownLabel = UnknownLabel::Restricted,
        /// Labels of a local code system, and what each counts as.
        map: Vec<LabelMapping> = Vec::new(),
    }
    check check_labels;
}

words! {
    /// A place where labels are looked for.
    pub enum LabelSource {
        /// `meta.security`, at any depth.
        Meta = "meta",
        /// Inline security labels on elements (DS4P).
        Inline = "inline",
        /// Clinical codes that are sensitive in themselves.
        Codes = "codes",
    }
}

words! {
    /// What an unknown label counts as.
    pub enum UnknownLabel {
        /// As restricted: only policies that permit restricted data show it.
        Restricted = "restricted",
        /// As very restricted.
        VeryRestricted = "very-restricted",
    }
}

section! {
    /// What a label of a local code system counts as.
    pub struct LabelMapping {
        /// The code system of the local label.
        system: String,
        /// Its code.
        code: String,
        /// The code of the label it counts as: `42CFRPart2`, `PSY`, `HIV`, `R`, and so on.
        counts_as as "as": String,
    }
}

section! {
    /// Where patients' consents come from.
    pub struct Consent {
        /// The source.
        source: ConsentSource = ConsentSource::Upstream,
        /// server: the base URL of the FHIR server that holds the Consents.
        url: Option<WebUrl>,
        /// server: the authorities that may vouch for it, PEM.
        ca_file: Option<FilePath>,
        /// How long a patient's consents are kept: a revocation written elsewhere holds after at most this long.
        cache: Duration = Duration::from_secs(30),
        /// What a Consent that cannot be read counts as.
        unreadable: Unreadable = Unreadable::Deny,
    }
    check check_consent;
}

words! {
    /// Where patients' consents come from.
    pub enum ConsentSource {
        /// The Consent resources of the endpoint itself.
        Upstream = "upstream",
        /// Another FHIR server, named by `url`.
        Server = "server",
    }
}

words! {
    /// What a Consent that cannot be read counts as.
    pub enum Unreadable {
        /// As a denial.
        Deny = "deny",
    }
}

fn check_labels(labels: &Labels, at: &At<'_>) {
    if !labels.sources.contains(&LabelSource::Meta) {
        at.problem_at(
            "sources",
            "without `meta` a label that the EHR set would be overlooked (42 CFR 2.12)",
            "keep `meta`; add `inline` and `codes`",
        );
    }
}

fn check_consent(consent: &Consent, at: &At<'_>) {
    match (consent.source, &consent.url) {
        (ConsentSource::Server, None) => {
            at.problem_at("url", "`source: server` needs its address", "add `url: https://…/fhir`")
        }
        (ConsentSource::Upstream, Some(_)) => {
            at.problem_at("url", "`source: upstream` takes no address", "remove it, or set `source: server`");
        }
        (ConsentSource::Server, Some(_)) | (ConsentSource::Upstream, None) => {}
    }
    if consent.cache > Duration::from_secs(300) {
        at.problem_at(
            "cache",
            "a revoked consent would still open records after five minutes (42 CFR 2.31(a)(6))",
            "write at most `5m`",
        );
    }
}
