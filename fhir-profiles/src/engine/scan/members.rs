//! What a member of an object means, by its name and by the role of the object it stands in.

use super::{Role, ScanError, Scanner};
use crate::engine::facts::{LabelSource, Place, SearchMode};
use crate::engine::json::{Kind, Span, Text, index};
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
    system: Option<Text>,
    code: Option<Text>,
    value: Option<Text>,
    url: Option<Text>,
    reference: Option<Text>,
    /// Has `identifier`, `display` or `type`, as a Reference without `reference` does.
    names_somebody: bool,
    inline: LabelSet,
    value_coding: Option<(Text, Text)>,
    full_url: Option<Text>,
    mode: Option<SearchMode>,
    resource: Option<u32>,
}

impl Members {
    /// Nothing found yet, in the item at this position.
    pub(super) fn at(position: u32) -> Self {
        Self { position, ..Self::default() }
    }
}

/// DS4P 1.0.0, with whatever base or version it is written.
const INLINE_LABEL: &str = "/extension-inline-sec-label";

impl Scanner<'_, '_> {
    /// Reads the value of a member.
    #[inline]
    pub(super) fn member(&mut self, role: Role, key: Text, members: &mut Members) -> Result<(), ScanError> {
        if role == Role::Free {
            return self.value(Role::Free);
        }
        let name =
            if key.escaped() { name_of(&self.cursor.decoded(key)) } else { name_of(self.cursor.slice(key.span())) };
        match name {
            Name::Other => self.step(key, Role::Element, false)?,
            Name::System => members.system = self.text(key)?,
            Name::Code => members.code = self.text(key)?,
            Name::Value => members.value = self.text(key)?,
            Name::Url => {
                members.url = self.text(key)?;
                self.note_own_url(members.url);
            }
            Name::Reference => {
                members.reference = self.text(key)?;
                self.note_own_url(members.reference);
            }
            Name::Extension => {
                let outer = core::mem::take(&mut self.inline);
                self.step(key, Role::Extension, true)?;
                members.inline = members.inline.union(core::mem::replace(&mut self.inline, outer));
            }
            Name::ValueCoding => {
                self.coding = None;
                self.step(key, Role::Element, false)?;
                members.value_coding = self.coding.take();
            }
            Name::ResourceType => match self.text(key)? {
                None => return Err(ScanError::NotAResource),
                some => members.resource_type = some,
            },
            Name::Meta => self.meta(key)?,
            Name::SecurityLabel => {
                let outer = core::mem::replace(&mut self.in_security_label, true);
                self.step(key, Role::Element, false)?;
                self.in_security_label = outer;
            }
            Name::Address => {
                let text = self.text(key)?;
                self.note_own_url(text);
            }
            Name::Display => {
                members.names_somebody = true;
                self.step(key, Role::Element, false)?;
            }
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
            | Name::Mode => self.member_of(role, name, key, members)?,
        }
        Ok(())
    }

    /// Members that mean something in one role only.
    fn member_of(&mut self, role: Role, name: Name, key: Text, members: &mut Members) -> Result<(), ScanError> {
        match (role, name) {
            (Role::Resource, Name::Id) => members.id = self.text(key)?,
            (Role::Resource, Name::Type) => members.type_code = self.text(key)?,
            (Role::Resource, Name::Confidentiality) => members.confidentiality = self.text(key)?,
            (Role::Resource, Name::Contained) => {
                members.contained = true;
                self.step(key, Role::Contained, true)?;
            }
            (Role::Resource, Name::Entry) => {
                let before = self.resources.len();
                self.step(key, Role::Entry, true)?;
                members.entry_resources = self.resources.len() > before;
            }
            (Role::Resource, Name::Parameter) | (Role::Parameter, Name::Part) => {
                let before = self.resources.len();
                self.step(key, Role::Parameter, true)?;
                members.parameter_resources = self.resources.len() > before;
            }
            (Role::Resource, Name::Date) => {
                if let Some(text) = self.text(key)? {
                    self.note_date(text);
                }
            }
            (Role::Element, Name::PeriodEnd) => {
                if let Some(text) = self.text(key)?
                    && self.in_dated_period()
                {
                    self.note_date(text);
                }
            }
            (Role::Resource | Role::Entry, Name::Link) | (Role::Entry, Name::Request) => {
                self.step(key, Role::Address, false)?;
            }
            (Role::Meta, Name::Security) => self.step(key, Role::Security, true)?,
            (Role::Meta, Name::Tag) => self.step(key, Role::Tag, false)?,
            (Role::Meta, Name::VersionId) => {
                let version = self.text(key)?.map(|text| self.cursor.decoded(text).into());
                if let Some(facts) = self.facts() {
                    facts.version = version;
                }
            }
            (Role::Meta, Name::Source) => {
                let source = self.text(key)?;
                self.note_own_url(source);
                if let Some(source) = source
                    && self.labeller.is_program_source(&self.cursor.decoded(source))
                {
                    self.label(LabelSet::EMPTY.with(Label::PART2), LabelSource::Source);
                }
            }
            (Role::Entry, Name::FullUrl) => {
                members.full_url = self.text(key)?;
                self.note_own_url(members.full_url);
            }
            (Role::Entry, Name::Resource) => {
                members.resource = Some(self.resource(Place::Entry, members.position)?);
            }
            (Role::Entry, Name::Search) => {
                self.step(key, Role::Search, false)?;
                members.mode = self.mode.take();
            }
            (Role::Entry, Name::Response) => {
                self.item = members.position;
                self.step(key, Role::Response, false)?;
            }
            (Role::Response, Name::Outcome) => {
                self.resource(Place::EntryOutcome, members.position)?;
            }
            (Role::Search, Name::Mode) => {
                let mode = self.text(key)?;
                self.mode = match mode.map(|text| self.cursor.decoded(text)).as_deref() {
                    Some("match") => Some(SearchMode::Match),
                    Some("include") => Some(SearchMode::Include),
                    Some("outcome") => Some(SearchMode::Outcome),
                    Some(_) | None => None,
                };
            }
            (Role::Parameter, Name::Resource) => {
                self.resource(Place::Parameter, members.position)?;
                members.parameter_resources = true;
            }
            _ => self.step(key, Role::Element, false)?,
        }
        Ok(())
    }

    /// Reads a value one step down the path.
    #[inline]
    fn step(&mut self, key: Text, role: Role, objects_only: bool) -> Result<(), ScanError> {
        match self.cursor.kind()? {
            Kind::String if !objects_only => self.cursor.string().map(|_| ()),
            Kind::Scalar | Kind::Null if !objects_only => self.cursor.scalar(),
            Kind::Object | Kind::Array | Kind::String | Kind::Scalar | Kind::Null => {
                self.path.push(key);
                let read = if objects_only { self.objects(role) } else { self.value(role) };
                self.path.pop();
                read
            }
        }
    }

    /// Reads a value that is usually a string, and answers it if it is.
    #[inline]
    fn text(&mut self, key: Text) -> Result<Option<Text>, ScanError> {
        if self.cursor.peek() == Some(b'"') {
            return self.cursor.string().map(Some);
        }
        self.step(key, Role::Element, false)?;
        Ok(None)
    }

    fn meta(&mut self, key: Text) -> Result<(), ScanError> {
        if self.cursor.kind()? != Kind::Object {
            return Err(ScanError::Shape);
        }
        let outer = core::mem::replace(&mut self.in_meta, true);
        self.step(key, Role::Meta, false)?;
        self.in_meta = outer;
        Ok(())
    }

    fn note_own_url(&mut self, text: Option<Text>) {
        let Some(text) = text else { return };
        // Escaped slashes are legal and rare: decode only then.
        let own = if text.escaped() {
            self.labeller.below_own_base(&self.cursor.decoded(text)).is_some()
        } else {
            self.labeller.below_own_base(self.cursor.slice(text.span())).is_some()
        };
        if own {
            self.own_urls.push(text.span().start);
        }
    }

    /// An object ended: what it says of the resource it stands in.
    #[inline]
    pub(super) fn leave(&mut self, role: Role, members: &Members) -> Result<(), ScanError> {
        if role == Role::Free {
            return Ok(());
        }
        if let (Some(system), Some(code)) = (members.system, members.code) {
            self.coding = Some((system, code));
            self.coded(role, system, code);
        } else if role == Role::Security {
            self.unknown_label();
        }
        if let (Some(system), Some(value)) = (members.system, members.value)
            && self.labeller.has_programs()
            && self.labeller.is_program_identifier(&self.cursor.decoded(system), &self.cursor.decoded(value))
        {
            self.mark_program_record();
        }
        if let Some(reference) = members.reference {
            let number = self.refers(reference);
            self.candidate(Some(number));
        } else if members.names_somebody && role == Role::Element {
            self.candidate(None);
        }
        if let Some(url) = members.url {
            if role == Role::Extension {
                self.extension(url, members.value_coding);
            } else if role == Role::Element {
                self.attachment(url);
            }
        }
        if !members.inline.is_empty() {
            self.labelled_inline(role, members.span.start, members.inline);
        }
        if members.resource_type.is_some() && role != Role::Resource {
            // ExampleScenario.instance.resourceType is an element of that name; its resource settles it.
            let steps = self.path.get(self.path_base..).unwrap_or_default();
            let instance = matches!(steps, [step] if self.cursor.decoded(*step) == "instance");
            match self.site() {
                Some(site) if instance => site.instance_types = true,
                Some(_) | None => return Err(ScanError::MisplacedResource),
            }
        }
        if role == Role::Entry
            && let Some(at) = members.resource
        {
            if let Some(facts) = self.resources.get_mut(index(at)) {
                facts.search_mode = members.mode;
            }
            if let Some(site) = self.sites.get_mut(index(at)) {
                site.full_url = members.full_url;
            }
        }
        Ok(())
    }

    fn extension(&mut self, url: Text, coding: Option<(Text, Text)>) {
        let url = self.cursor.decoded(url);
        let bare = url.split_once('|').map_or(&*url, |(bare, _)| bare);
        if !bare.ends_with(INLINE_LABEL) {
            return;
        }
        let read = coding
            .and_then(|(system, code)| self.labeller.label(&self.cursor.decoded(system), &self.cursor.decoded(code)));
        let labels = read.unwrap_or_else(|| {
            if let Some(facts) = self.facts() {
                facts.unknown_labels += 1;
            }
            self.labeller.unknown()
        });
        self.inline = self.inline.union(labels);
    }

    /// An object with a URL that names an instance of this server is a reference (Attachment.url to a Binary).
    fn attachment(&mut self, url: Text) {
        if self.labeller.names_local_instance(&self.cursor.decoded(url)) {
            self.refers(url);
        }
    }

    /// The element that started there carries labels of its own.
    fn labelled_inline(&mut self, role: Role, start: u32, labels: LabelSet) {
        // On the resource itself, or inside its meta, a label is one of the whole resource.
        if role == Role::Resource || self.in_meta {
            self.label(labels, LabelSource::Inline);
            return;
        }
        self.labelled.push((start, labels));
        if let Some(facts) = self.facts()
            && !facts.inline.contains(&labels)
        {
            facts.inline.push(labels);
        }
    }
}

/// Member names that mean something to the scanner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    System,
    Code,
    Value,
    Url,
    Reference,
    Extension,
    ValueCoding,
    ResourceType,
    Meta,
    SecurityLabel,
    /// Other elements that hold URLs.
    Address,
    /// `identifier` and `display`: a Reference without `reference` has one of them.
    Display,
    Id,
    Type,
    Confidentiality,
    Contained,
    Entry,
    Parameter,
    Part,
    /// The dates of service, authorship or finding that R4 resources carry at their top.
    Date,
    PeriodEnd,
    Link,
    Request,
    Security,
    Tag,
    VersionId,
    Source,
    FullUrl,
    Resource,
    Search,
    Response,
    Outcome,
    Mode,
    Other,
}

/// By length first: most names are told apart by it, and this is asked for every member of every object.
#[inline]
fn name_of(name: &str) -> Name {
    match name.len() {
        2 if name == "id" => Name::Id,
        3 => match name {
            "url" => Name::Url,
            "uri" => Name::Address,
            "tag" => Name::Tag,
            "end" => Name::PeriodEnd,
            _ => Name::Other,
        },
        4 => match name {
            "code" => Name::Code,
            "type" => Name::Type,
            "meta" => Name::Meta,
            "link" => Name::Link,
            "mode" => Name::Mode,
            "part" => Name::Part,
            "date" | "sent" => Name::Date,
            _ => Name::Other,
        },
        5 => match name {
            "value" => Name::Value,
            "entry" => Name::Entry,
            "start" => Name::PeriodEnd,
            _ => Name::Other,
        },
        6 => match name {
            "system" => Name::System,
            "source" => Name::Source,
            "search" => Name::Search,
            "issued" => Name::Date,
            _ => Name::Other,
        },
        7 => match name {
            "display" => Name::Display,
            "fullUrl" => Name::FullUrl,
            "request" => Name::Request,
            "outcome" => Name::Outcome,
            "created" | "started" => Name::Date,
            _ => Name::Other,
        },
        8 => match name {
            "resource" => Name::Resource,
            "response" => Name::Response,
            "security" => Name::Security,
            "location" | "valueUri" | "valueUrl" => Name::Address,
            "dateTime" | "recorded" | "received" => Name::Date,
            _ => Name::Other,
        },
        9 => match name {
            "reference" => Name::Reference,
            "extension" => Name::Extension,
            "contained" => Name::Contained,
            "parameter" => Name::Parameter,
            "versionId" => Name::VersionId,
            "valueMeta" => Name::Meta,
            "timestamp" => Name::Date,
            _ => Name::Other,
        },
        10 => match name {
            "identifier" => Name::Display,
            "authoredOn" => Name::Date,
            _ => Name::Other,
        },
        11 if name == "valueCoding" => Name::ValueCoding,
        12 => match name {
            "resourceType" => Name::ResourceType,
            "recordedDate" | "dateAsserted" | "whenPrepared" | "assertedDate" | "servicedDate" => Name::Date,
            _ => Name::Other,
        },
        13 => match name {
            "securityLabel" => Name::SecurityLabel,
            "onsetDateTime" => Name::Date,
            _ => Name::Other,
        },
        14 => match name {
            "valueCanonical" => Name::Address,
            "whenHandedOver" => Name::Date,
            _ => Name::Other,
        },
        15 if name == "confidentiality" => Name::Confidentiality,
        16 if name == "effectiveInstant" => Name::Date,
        17 => match name {
            "modifierExtension" => Name::Extension,
            "effectiveDateTime" | "performedDateTime" | "abatementDateTime" | "collectedDateTime" => Name::Date,
            _ => Name::Other,
        },
        18 if name == "occurrenceDateTime" => Name::Date,
        _ => Name::Other,
    }
}
