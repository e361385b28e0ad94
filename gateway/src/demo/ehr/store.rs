//! The resources of the sample EHR, every version of each.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The name of an instance: type and id.
pub(crate) type Key = (String, String);

/// One version. `None` marks a deletion.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) at: OffsetDateTime,
    pub(crate) resource: Option<Value>,
}

/// What came of a write.
pub(crate) enum Written {
    Created(Version),
    Updated(Version),
    /// `If-Match` named another version than the current one.
    Conflict,
    NotFound,
}

#[derive(Clone, Default)]
pub(crate) struct Store {
    resources: BTreeMap<Key, Vec<Version>>,
    next_id: u64,
}

impl Store {
    /// Puts a resource as its first version; for the sample data.
    pub(crate) fn seed(&mut self, resource: Value, at: OffsetDateTime) {
        if let Some(key) = key_of(&resource) {
            self.push(key, Some(resource), at);
        }
    }

    pub(crate) fn current(&self, kind: &str, id: &str) -> Option<&Version> {
        self.versions(kind, id).last()
    }

    /// Every version, oldest first.
    pub(crate) fn versions(&self, kind: &str, id: &str) -> &[Version] {
        self.resources.get(&(kind.to_owned(), id.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Every version of everything, deletions included.
    pub(crate) fn every_version(&self) -> impl Iterator<Item = (&Key, &Version)> {
        self.resources.iter().flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)))
    }

    /// The living resources of a type, by id.
    pub(crate) fn living(&self, kind: &str) -> impl Iterator<Item = (&Key, &Value)> {
        self.all().filter(move |((k, _), _)| k == kind)
    }

    /// All living resources, by type and id.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.resources.iter().filter_map(|(key, versions)| Some((key, versions.last()?.resource.as_ref()?)))
    }

    /// An id that no resource has.
    pub(crate) fn fresh_id(&mut self) -> String {
        self.next_id += 1;
        format!("new-{}", self.next_id)
    }

    pub(crate) fn create(&mut self, kind: &str, mut resource: Value, at: OffsetDateTime) -> Version {
        let id = self.fresh_id();
        set(&mut resource, "id", Value::from(id.clone()));
        self.push((kind.to_owned(), id), Some(resource), at)
    }

    pub(crate) fn update(
        &mut self,
        kind: &str,
        id: &str,
        resource: Value,
        if_match: Option<u64>,
        at: OffsetDateTime,
    ) -> Written {
        let current = self.current(kind, id).map(|version| (version.number, version.resource.is_some()));
        if if_match.is_some() && if_match != current.map(|(number, _)| number) {
            return Written::Conflict;
        }
        let version = self.push((kind.to_owned(), id.to_owned()), Some(resource), at);
        if current.is_some_and(|(_, living)| living) { Written::Updated(version) } else { Written::Created(version) }
    }

    pub(crate) fn delete(&mut self, kind: &str, id: &str, if_match: Option<u64>, at: OffsetDateTime) -> Written {
        let Some(current) = self.current(kind, id) else { return Written::NotFound };
        if if_match.is_some_and(|wanted| wanted != current.number) {
            return Written::Conflict;
        }
        if current.resource.is_none() {
            return Written::NotFound;
        }
        Written::Updated(self.push((kind.to_owned(), id.to_owned()), None, at))
    }

    fn push(&mut self, key: Key, mut resource: Option<Value>, at: OffsetDateTime) -> Version {
        let versions = self.resources.entry(key).or_default();
        let number = versions.last().map_or(1, |version| version.number + 1);
        if let Some(resource) = &mut resource {
            if !resource.get("meta").is_some_and(Value::is_object) {
                set(resource, "meta", json!({}));
            }
            if let Some(meta) = resource.get_mut("meta") {
                set(meta, "versionId", Value::from(number.to_string()));
                set(meta, "lastUpdated", Value::from(instant(at)));
            }
        }
        let version = Version { number, at, resource };
        versions.push(version.clone());
        version
    }
}

impl Version {
    pub(crate) fn etag(&self) -> String {
        format!("W/\"{}\"", self.number)
    }
}

pub(crate) fn key_of(resource: &Value) -> Option<Key> {
    Some((resource.get("resourceType")?.as_str()?.to_owned(), resource.get("id")?.as_str()?.to_owned()))
}

pub(crate) fn instant(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
