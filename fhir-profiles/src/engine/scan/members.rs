//! What a member of an object means, by its name and by the role of the object it stands in.

use super::names::Name;
use super::{Role, ScanError, Scanner};
use crate::engine::facts::{LabelSource, Place, SearchMode};
use crate::engine::json::{Kind, Span, Text};
use crate::label::{Label, LabelSet};

/// What was found in one object.
#[derive(Clone, Copy, Default)]
pub(super) struct Members {
    pub(super) span: Span,
    pub(super) position: u32,
    pub(super) resource_type: Option<Text>,
    pub(super) id: Option<Text>,
    /// `type` where it is a string: `Bundle.type`.
    pub(super) type_code: Option<Text>,
    /// `Composition.confidentiality`.
    pub(super) confidentiality: Option<Text>,
    pub(super) contained: bool,
    pub(super) entry_resources: bool,
    pub(super) parameter_resources: bool,
    pub(super) system: Option<Text>,
    pub(super) code: Option<Text>,
    pub(super) value: Option<Text>,
    pub(super) url: Option<Text>,
    pub(super) reference: Option<Text>,
    /// Has `identifier`, `display` or `type`, as a Reference without `reference` does.
    pub(super) names_somebody: bool,
    pub(super) inline: LabelSet,
    pub(super) value_coding: Option<(Text, Text)>,
    pub(super) full_url: Option<Text>,
    pub(super) mode: Option<SearchMode>,
    pub(super) resource: Option<u32>,
}

impl Members {
    /// Nothing found yet, in the item at this position.
    pub(super) fn at(position: u32) -> Self {
        Self { position, ..Self::default() }
    }
}

impl Scanner<'_, '_> {
    /// Takes the value of a member that is a string.
    #[inline]
    pub(super) fn text(&mut self, role: Role, name: Name, text: Text, members: &mut Members) -> Result<(), ScanError> {
        match name {
            Name::Other | Name::SecurityLabel | Name::ValueCoding => {}
            Name::System => members.system = Some(text),
            Name::Code => members.code = Some(text),
            Name::Value => members.value = Some(text),
            Name::Url => {
                members.url = Some(text);
                self.note_own_url(text);
            }
            Name::Reference => {
                members.reference = Some(text);
                self.note_own_url(text);
            }
            Name::Display => members.names_somebody = true,
            Name::Address => self.note_own_url(text),
            Name::ResourceType => members.resource_type = Some(text),
            Name::Extension | Name::Meta => return Err(ScanError::Shape),
            Name::Id
            | Name::Type
            | Name::Confidentiality
            | Name::Contained
            | Name::Entry
            | Name::Parameter
            | Name::Part
            | Name::Date
            | Name::PeriodEnd
            | Name::Link
            | Name::Request
            | Name::Security
            | Name::Tag
            | Name::VersionId
            | Name::Source
            | Name::FullUrl
            | Name::Resource
            | Name::Search
            | Name::Response
            | Name::Outcome
            | Name::Mode => self.text_of(role, name, text, members)?,
        }
        Ok(())
    }

    /// Strings that mean something in one role only.
    fn text_of(&mut self, role: Role, name: Name, text: Text, members: &mut Members) -> Result<(), ScanError> {
        match (role, name) {
            (Role::Resource, Name::Id) => members.id = Some(text),
            (Role::Resource, Name::Type) => members.type_code = Some(text),
            (Role::Resource, Name::Confidentiality) => members.confidentiality = Some(text),
            (Role::Resource, Name::Date) => self.note_date(text),
            (Role::Element, Name::PeriodEnd) if self.in_dated_period() => self.note_date(text),
            (Role::Meta, Name::VersionId) => {
                let version = self.cursor.decoded(text).into();
                if let Some(facts) = self.facts() {
                    facts.version = Some(version);
                }
            }
            (Role::Meta, Name::Source) => {
                self.note_own_url(text);
                if self.labeller.is_program_source(&self.cursor.decoded(text)) {
                    self.label(LabelSet::EMPTY.with(Label::PART2), LabelSource::Source);
                }
            }
            (Role::Entry, Name::FullUrl) => {
                members.full_url = Some(text);
                self.note_own_url(text);
            }
            (Role::Search, Name::Mode) => {
                self.mode = match &*self.cursor.decoded(text) {
                    "match" => Some(SearchMode::Match),
                    "include" => Some(SearchMode::Include),
                    "outcome" => Some(SearchMode::Outcome),
                    _ => None,
                };
            }
            // Arrays of objects.
            (Role::Resource, Name::Contained | Name::Entry | Name::Parameter)
            | (Role::Parameter, Name::Part)
            | (Role::Meta, Name::Security) => return Err(ScanError::Shape),
            (Role::Entry | Role::Parameter, Name::Resource) | (Role::Response, Name::Outcome) => {
                return Err(ScanError::NotAResource);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the value of a member that is no string.
    #[inline]
    pub(super) fn nested(&mut self, role: Role, name: Name, key: Text, members: &mut Members) -> Result<(), ScanError> {
        if self.is_odd_in_a_bundle(role, name, key, members)
            && let Some(site) = self.site()
        {
            site.is_odd = true;
        }
        match name {
            _ if role == Role::Free => self.value(Role::Free)?,
            Name::Extension => {
                let outer = core::mem::take(&mut self.inline);
                self.objects(key, Role::Extension)?;
                members.inline = members.inline.union(core::mem::replace(&mut self.inline, outer));
            }
            Name::ValueCoding => {
                self.coding = None;
                self.step(key, Role::Element)?;
                members.value_coding = self.coding.take();
            }
            Name::ResourceType => {
                self.step(key, Role::Element)?;
                return Err(ScanError::NotAResource);
            }
            Name::Meta => self.meta(key)?,
            Name::SecurityLabel => {
                let outer = core::mem::replace(&mut self.in_security_label, true);
                self.step(key, Role::Element)?;
                self.in_security_label = outer;
            }
            Name::Display => {
                members.names_somebody = true;
                self.step(key, Role::Element)?;
            }
            Name::Other
            | Name::System
            | Name::Code
            | Name::Value
            | Name::Url
            | Name::Reference
            | Name::Address
            | Name::Id
            | Name::Type
            | Name::Confidentiality
            | Name::Date
            | Name::PeriodEnd
            | Name::VersionId
            | Name::Source
            | Name::FullUrl
            | Name::Mode => self.step(key, Role::Element)?,
            Name::Contained
            | Name::Entry
            | Name::Parameter
            | Name::Part
            | Name::Link
            | Name::Request
            | Name::Security
            | Name::Tag
            | Name::Resource
            | Name::Search
            | Name::Response
            | Name::Outcome => self.nested_of(role, name, key, members)?,
        }
        Ok(())
    }

    /// Is this an object or array that R4 knows in no Bundle (bundle.html)? What is labelled in there belongs to no resource
    /// that could be judged.
    fn is_odd_in_a_bundle(&mut self, role: Role, name: Name, key: Text, members: &Members) -> bool {
        let known = match role {
            Role::Resource => {
                let other = |kind: Text| !kind.escaped() && self.cursor.slice(kind.span()) != "Bundle";
                members.resource_type.is_some_and(other)
                    || matches!(name, Name::Meta | Name::Entry | Name::Link)
                    || matches!(&*self.cursor.decoded(key), "identifier" | "signature")
            }
            Role::Entry => {
                matches!(name, Name::Resource | Name::Search | Name::Request | Name::Response | Name::Link)
            }
            Role::Response => name == Name::Outcome,
            Role::Search | Role::Address => false,
            Role::Contained
            | Role::Meta
            | Role::Security
            | Role::Tag
            | Role::Parameter
            | Role::Extension
            | Role::Element
            | Role::Free => true,
        };
        let structured = || matches!(self.cursor.peek(), Some(b'{' | b'['));
        !known && name != Name::Extension && structured() && !self.cursor.decoded(key).starts_with('_')
    }

    /// Objects and arrays that mean something in one role only.
    fn nested_of(&mut self, role: Role, name: Name, key: Text, members: &mut Members) -> Result<(), ScanError> {
        match (role, name) {
            (Role::Resource, Name::Contained) => {
                members.contained = true;
                self.objects(key, Role::Contained)?;
            }
            (Role::Resource, Name::Entry) => {
                let before = self.resources.len();
                self.objects(key, Role::Entry)?;
                members.entry_resources = self.resources.len() > before;
            }
            (Role::Resource, Name::Parameter) | (Role::Parameter, Name::Part) => {
                let before = self.resources.len();
                self.objects(key, Role::Parameter)?;
                members.parameter_resources = self.resources.len() > before;
            }
            (Role::Resource, Name::Link) => {
                if let Some(site) = self.site() {
                    site.has_links = true;
                }
                self.step(key, Role::Address)?;
            }
            (Role::Entry, Name::Link | Name::Request) => self.step(key, Role::Address)?,
            (Role::Meta, Name::Security) => self.objects(key, Role::Security)?,
            (Role::Meta, Name::Tag) => self.step(key, Role::Tag)?,
            (Role::Entry, Name::Resource) => {
                members.resource = Some(self.resource(Place::Entry, members.position)?);
            }
            (Role::Entry, Name::Search) => {
                self.step(key, Role::Search)?;
                members.mode = self.mode.take();
            }
            (Role::Entry, Name::Response) => {
                self.item = members.position;
                self.step(key, Role::Response)?;
            }
            (Role::Response, Name::Outcome) => {
                self.resource(Place::EntryOutcome, members.position)?;
            }
            (Role::Parameter, Name::Resource) => {
                self.resource(Place::Parameter, members.position)?;
                members.parameter_resources = true;
            }
            _ => self.step(key, Role::Element)?,
        }
        Ok(())
    }

    /// Reads a value that is no string, one step down the path.
    #[inline]
    fn step(&mut self, key: Text, role: Role) -> Result<(), ScanError> {
        if let Some(b'{' | b'[') = self.cursor.peek() {
            self.path.push(key);
            self.value(role)?;
            self.path.pop();
            return Ok(());
        }
        self.cursor.scalar()
    }

    /// Reads an array whose items are all objects: anything else hides something from whoever looks for items.
    fn objects(&mut self, key: Text, role: Role) -> Result<(), ScanError> {
        if self.cursor.kind()? != Kind::Array {
            return Err(ScanError::Shape);
        }
        self.path.push(key);
        self.items(role, true)?;
        self.path.pop();
        Ok(())
    }

    fn meta(&mut self, key: Text) -> Result<(), ScanError> {
        if self.cursor.kind()? != Kind::Object {
            return Err(ScanError::Shape);
        }
        let outer = core::mem::replace(&mut self.in_meta, true);
        self.step(key, Role::Meta)?;
        self.in_meta = outer;
        Ok(())
    }
}
