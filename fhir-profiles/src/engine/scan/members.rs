//! What a member of an object means, by its name and by the role of the object it stands in.

use super::names::{Name, Names};
use super::{Role, ScanError, Scanner};
use crate::engine::facts::{LabelSource, Place, SearchMode};
use crate::engine::json::{Kind, Span, Text};
use crate::label::{Label, LabelSet};

/// What was found in one object.
#[derive(Clone, Copy, Default)]
pub(super) struct Members {
    pub(super) span: Span,
    pub(super) position: u32,
    /// The strings of some names, and behind them one of any other.
    texts: [Option<Text>; Name::KEPT + 1],
    /// Of a type that is no Bundle.
    is_no_bundle: bool,
    pub(super) contained: bool,
    pub(super) entry_resources: bool,
    pub(super) parameter_resources: bool,
    /// Has an `identifier` or `display` that is no string.
    names_somebody: bool,
    pub(super) inline: LabelSet,
    pub(super) value_coding: Option<(Text, Text)>,
    pub(super) mode: Option<SearchMode>,
    pub(super) resource: Option<u32>,
}

impl Members {
    /// Nothing found yet, in the item at this position.
    pub(super) fn at(position: u32) -> Self {
        Self { position, ..Self::default() }
    }

    /// The string of a name that is kept.
    #[inline(always)]
    pub(super) fn text(&self, name: Name) -> Option<Text> {
        self.texts.get(name.slot()).copied().flatten()
    }

    /// Has `identifier` or `display`, as a Reference without `reference` does?
    pub(super) fn names_somebody(&self) -> bool {
        self.names_somebody || self.text(Name::Display).is_some()
    }

    #[inline(always)]
    fn keep(&mut self, name: Name, text: Text) {
        if let Some(slot) = self.texts.get_mut(name.slot()) {
            *slot = Some(text);
        }
    }
}

/// Names whose strings do more than to be kept.
pub(super) const ACTING: Names = Names::of(&[
    Name::ResourceType,
    Name::Extension,
    Name::Meta,
    Name::Contained,
    Name::Entry,
    Name::Parameter,
    Name::Part,
    Name::Date,
    Name::PeriodEnd,
    Name::Security,
    Name::VersionId,
    Name::Source,
    Name::Resource,
    Name::Outcome,
    Name::Mode,
]);

/// The same, of a server that knows URLs to be its own.
pub(super) const ACTING_WITH_BASES: Names =
    ACTING.with(Names::of(&[Name::Url, Name::Reference, Name::Address, Name::FullUrl]));

/// Names of which an object or array is an element like any other.
const PLAIN: Names = Names::of(&[
    Name::Other,
    Name::System,
    Name::Code,
    Name::Value,
    Name::Url,
    Name::Reference,
    Name::Address,
    Name::Id,
    Name::Type,
    Name::Confidentiality,
    Name::Date,
    Name::PeriodEnd,
    Name::VersionId,
    Name::Source,
    Name::FullUrl,
    Name::Mode,
]);

impl Scanner<'_, '_> {
    /// Takes the value of a member that is a string. Most are kept, and that is all: which of the names it was, is not
    /// asked, for a processor that guesses wrong loses more than is done here.
    #[inline(always)]
    pub(super) fn text(&mut self, role: Role, name: Name, text: Text, members: &mut Members) -> Result<(), ScanError> {
        members.keep(name, text);
        if self.acting.has(name) { self.text_acts(role, name, text, members) } else { Ok(()) }
    }

    #[inline(never)]
    fn text_acts(&mut self, role: Role, name: Name, text: Text, members: &mut Members) -> Result<(), ScanError> {
        match name {
            _ if role == Role::Free => {}
            Name::Other
            | Name::SecurityLabel
            | Name::ValueCoding
            | Name::System
            | Name::Code
            | Name::Value
            | Name::Display
            | Name::Id
            | Name::Type
            | Name::Confidentiality => {}
            Name::Url | Name::Reference | Name::Address => self.note_own_url(text),
            Name::ResourceType => {
                members.is_no_bundle = !text.escaped() && self.cursor.slice(text.span()) != "Bundle";
            }
            Name::Extension | Name::Meta => return Err(ScanError::Shape),
            Name::Contained
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
            | Name::Mode => self.text_of(role, name, text)?,
        }
        Ok(())
    }

    /// Strings that mean something in one role only.
    fn text_of(&mut self, role: Role, name: Name, text: Text) -> Result<(), ScanError> {
        match (role, name) {
            (Role::Resource, Name::Date) => self.note_date(text),
            (Role::Element, Name::PeriodEnd) if self.in_dated_period() => self.note_date(text),
            (Role::Meta, Name::VersionId) => {
                if let Some(site) = self.site() {
                    site.version = Some(text);
                }
            }
            (Role::Meta, Name::Source) => {
                self.note_own_url(text);
                if self.labeller.is_program_source(&self.cursor.decoded(text)) {
                    self.label(LabelSet::EMPTY.with(Label::PART2), LabelSource::Source);
                }
            }
            (Role::Entry, Name::FullUrl) => self.note_own_url(text),
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
        if PLAIN.has(name) && has_elements(role, members) {
            return self.step(key, Role::Element);
        }
        self.nested_named(role, name, key, members)
    }

    #[inline(never)]
    fn nested_named(&mut self, role: Role, name: Name, key: Text, members: &mut Members) -> Result<(), ScanError> {
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
                members.is_no_bundle
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
        match self.cursor.peek() {
            Some(b'{') => {
                self.path.push(key);
                self.object(role, &mut Members::at(self.item))?;
            }
            Some(b'[') => {
                self.path.push(key);
                self.items(role, false)?;
            }
            Some(_) | None => return self.cursor.scalar(),
        }
        self.path.pop();
        Ok(())
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

/// Does an object of this role have elements that R4 knows, whatever their names?
#[inline(always)]
fn has_elements(role: Role, members: &Members) -> bool {
    match role {
        Role::Element | Role::Extension | Role::Parameter | Role::Meta | Role::Security | Role::Tag => true,
        Role::Resource => members.is_no_bundle,
        Role::Contained | Role::Entry | Role::Search | Role::Response | Role::Address | Role::Free => false,
    }
}
