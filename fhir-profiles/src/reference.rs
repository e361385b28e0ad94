//! `Reference.reference` in all its forms, compared by parts and never as text.

use crate::ids::{InstanceId, LogicalId, ResourceType};

/// A parsed reference (R4 references.html). Absolute references keep their base, which the caller compares with its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `Type/id` or `Type/id/_history/v`.
    Relative { instance: InstanceId, version: Option<LogicalId> },
    /// `https://host/base/Type/id[/_history/v]`.
    Absolute { base: Box<str>, instance: InstanceId, version: Option<LogicalId> },
    /// `#id`, or `#` for the container itself.
    Contained(Box<str>),
    /// `urn:uuid:…` or `urn:oid:…`, resolved by `fullUrl` in the same Bundle.
    Urn(Box<str>),
    /// Anything else. It names nothing that this gateway can judge.
    Opaque,
}

impl Reference {
    /// Never fails: what is not a reference to an instance is [`Reference::Opaque`].
    pub fn parse(text: &str) -> Self {
        if let Some(fragment) = text.strip_prefix('#') {
            return Self::Contained(fragment.into());
        }
        if text.starts_with("urn:uuid:") || text.starts_with("urn:oid:") {
            return Self::Urn(text.into());
        }
        let absolute = text.starts_with("http://") || text.starts_with("https://");
        let Some((mut before, mut id)) = text.rsplit_once('/') else { return Self::Opaque };
        let mut version = None;
        if let Some(record) = before.strip_suffix("/_history") {
            let (Ok(named), Some((kind, of))) = (id.parse::<LogicalId>(), record.rsplit_once('/')) else {
                return Self::Opaque;
            };
            (before, id, version) = (kind, of, Some(named));
        }
        let (base, kind) = match before.rsplit_once('/') {
            None if !absolute => (None, before),
            Some((base, kind)) if absolute && base.split('/').count() >= 3 => (Some(base), kind),
            Some(_) | None => return Self::Opaque,
        };
        let (Ok(kind), Ok(id)) = (kind.parse::<ResourceType>(), id.parse::<LogicalId>()) else {
            return Self::Opaque;
        };
        let instance = InstanceId { kind, id };
        match base {
            None => Self::Relative { instance, version },
            Some(base) => Self::Absolute { base: base.into(), instance, version },
        }
    }

    /// The instance on the server with one of these bases (no trailing slash), if this reference names one.
    pub fn on_server(&self, bases: &[&str]) -> Option<&InstanceId> {
        match self {
            Self::Relative { instance, .. } => Some(instance),
            Self::Absolute { base, instance, .. } if bases.contains(&&**base) => Some(instance),
            Self::Absolute { .. } | Self::Contained(_) | Self::Urn(_) | Self::Opaque => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn names(text: &str, expected: Option<&str>) {
        let reference = Reference::parse(text);
        assert_eq!(reference.on_server(&["https://ehr/fhir"]).map(InstanceId::relative).as_deref(), expected, "{text}");
    }

    #[test]
    fn references_name_exactly_one_instance() {
        names("Patient/1", Some("Patient/1"));
        names("Patient/1/_history/2", Some("Patient/1"));
        names("https://ehr/fhir/Patient/1", Some("Patient/1"));
        names("https://other/fhir/Patient/1", None);
        names("https://ehr/fhir/x/Patient/1", None);
        names("Patient/1/", None);
        names("patient/1", None);
        names("Patient/..", None);
        names("/Patient/1", None);
        names("x/Patient/1", None);
        names("urn:uuid:1", None);
        names("#p", None);
    }
}
