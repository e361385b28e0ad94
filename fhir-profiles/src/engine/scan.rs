//! One pass over the bytes: is it JSON to the last byte, which resources does it hold at any depth, and what are they?
//!
//! A resource stands only where R4 lets one stand: at the root, in `Bundle.entry`, in `Parameters.parameter`, in
//! `contained`, and as the outcome of a batch entry. A `resourceType` anywhere else is refused, since a reader might
//! take for a resource what was never judged as one.

mod conclude;
mod intern;
mod keys;
mod leave;
mod members;
mod names;
mod subject;

use std::sync::Arc;

use super::document::{BundleType, Document, Site, Use};
use super::facts::{Limits, Place, ResourceFacts, ScanError, SearchMode};
use super::json::{Cursor, Kind, Span, Text, behind, behind_whitespace, index, offset, string_behind};
use super::skip::{WIDTH, first_hit};
use crate::codes::Dates;
use crate::ids::ResourceType;
use crate::label::LabelSet;
use crate::labeller::Labeller;
use crate::reference::Reference;

use intern::{Interner, SystemCache};
use keys::Keys;
use members::Members;
use names::{Name, Names};

/// Objects and arrays nest at most this deep, whatever the limits say: the recursion must fit any thread's stack.
const DEEPEST: u16 = 128;

/// Reads a FHIR JSON document: every resource in it, or the reason why it cannot be trusted.
///
/// `date` is today's ISO date: codes of undated resources are judged by it.
pub fn scan<'a>(bytes: &'a [u8], limits: &Limits, labeller: &Labeller, date: &str) -> Result<Document<'a>, ScanError> {
    let mut scanner = Scanner::new(bytes, limits, labeller)?;
    scanner.cursor.skip_whitespace();
    scanner.resource(Place::Root, 0)?;
    scanner.end()?;
    Ok(scanner.conclude(Dates::covered_by(date).unwrap_or(Dates::ALWAYS)))
}

/// Is this one JSON text by the rules of [`scan`], whatever it says?
pub fn grammar(bytes: &[u8], limits: &Limits) -> Result<(), ScanError> {
    let labeller = Labeller::of_nothing();
    let mut scanner = Scanner::new(bytes, limits, &labeller)?;
    scanner.cursor.skip_whitespace();
    scanner.value(Role::Free)?;
    scanner.end()
}

/// What an object is, by where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Resource,
    /// Items of `contained`.
    Contained,
    Meta,
    /// A coding in `meta.security`.
    Security,
    /// A coding in `meta.tag`.
    Tag,
    Entry,
    Search,
    Response,
    /// `Bundle.link`, `entry.request`: their URLs are no references.
    Address,
    Parameter,
    Extension,
    Element,
    /// JSON that is checked for grammar alone.
    Free,
}

struct Scanner<'a, 'l> {
    cursor: Cursor<'a>,
    labeller: &'l Labeller,
    systems: SystemCache<'a, 'l>,
    depth: u16,
    max_depth: u16,
    max_resources: u32,
    keys: Keys,
    /// Names whose strings do more than to be kept.
    acting: Names,

    resources: Vec<ResourceFacts>,
    sites: Vec<Site>,
    references: Interner<'a>,
    uses: Vec<Use>,
    /// Elements with labels of their own, by where they start.
    labelled: Vec<(u32, LabelSet)>,
    /// Where absolute URLs of this server start.
    own_urls: Vec<u32>,

    /// The resource that is being read.
    current: u32,
    /// Names of the members that lead to the value being read, from the resource down.
    path: Vec<Text>,
    path_base: usize,
    subjects: Vec<subject::Candidate>,
    /// Labels by code, to be settled when the dates of the resource are known.
    dated: Vec<conclude::DatedLabel>,
    /// Label codings under `securityLabel`, to be settled when the type of the resource is known.
    security_labels: Vec<(u32, Option<LabelSet>)>,
    in_security_label: bool,
    in_meta: bool,
    /// The index of the array item being read.
    item: u32,
    /// Inline labels of the extensions just read.
    inline: LabelSet,
    /// The coding just read.
    coding: Option<(Text, Text)>,
    /// The search mode just read.
    mode: Option<SearchMode>,
    saw_urn_subject: bool,
    last_kind: Option<ResourceType>,
    /// The type of the last resource, with where it may name its subjects.
    last_subjects: Option<(ResourceType, &'static [&'static str])>,
}

impl<'a, 'l> Scanner<'a, 'l> {
    fn new(bytes: &'a [u8], limits: &Limits, labeller: &'l Labeller) -> Result<Self, ScanError> {
        if bytes.len() > limits.max_bytes || i32::try_from(bytes.len()).is_err() {
            return Err(ScanError::TooLarge);
        }
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| ScanError::Encoding)?;
        // Room for what a small answer holds, so that nothing grows while it is read.
        let some = (bytes.len() / 1024).min(64) + 1;
        Ok(Self {
            cursor: Cursor::new(text),
            labeller,
            systems: SystemCache::default(),
            depth: 0,
            max_depth: limits.max_depth.min(DEEPEST),
            max_resources: limits.max_resources,
            keys: Keys::default(),
            acting: if labeller.bases().is_empty() { members::ACTING } else { members::ACTING_WITH_BASES },
            resources: Vec::with_capacity(some),
            sites: Vec::with_capacity(some),
            references: Interner::default(),
            uses: Vec::with_capacity(4 * some),
            labelled: Vec::new(),
            own_urls: Vec::new(),
            current: 0,
            path: Vec::with_capacity(16),
            path_base: 0,
            subjects: Vec::with_capacity(8),
            dated: Vec::new(),
            security_labels: Vec::new(),
            in_security_label: false,
            in_meta: false,
            item: 0,
            inline: LabelSet::EMPTY,
            coding: None,
            mode: None,
            saw_urn_subject: false,
            last_kind: None,
            last_subjects: None,
        })
    }

    fn end(&mut self) -> Result<(), ScanError> {
        self.cursor.skip_whitespace();
        if self.cursor.peek().is_some() { Err(ScanError::Syntax) } else { Ok(()) }
    }

    #[inline]
    fn enter(&mut self) -> Result<(), ScanError> {
        self.depth += 1;
        if self.depth > self.max_depth { Err(ScanError::TooDeep) } else { Ok(()) }
    }

    /// Reads any value; objects in it play the role.
    #[inline]
    fn value(&mut self, role: Role) -> Result<(), ScanError> {
        match self.cursor.kind()? {
            Kind::String => self.cursor.string().map(|_| ()),
            Kind::Object if role == Role::Contained => self.resource(Place::Contained, self.item).map(|_| ()),
            Kind::Object => self.object(role, &mut Members::at(self.item)),
            Kind::Array => self.items(role, false),
            Kind::Scalar | Kind::Null => self.cursor.scalar(),
        }
    }

    fn items(&mut self, role: Role, objects_only: bool) -> Result<(), ScanError> {
        self.enter()?;
        let bytes = self.cursor.bytes;
        let outer = self.item;
        let mut item = 0;
        let mut at = behind_whitespace(bytes, self.cursor.at + 1);
        if bytes.get(at) != Some(b']') {
            loop {
                self.cursor.at = at;
                self.item = item;
                if bytes.get(at) == Some(b'{') && role != Role::Contained {
                    self.object(role, &mut Members::at(item))?;
                } else if objects_only && self.cursor.kind()? != Kind::Object {
                    return Err(ScanError::Shape);
                } else {
                    self.value(role)?;
                }
                item += 1;
                at = behind_whitespace(bytes, self.cursor.at);
                match bytes.get(at) {
                    Some(b',') => at = behind_whitespace(bytes, behind(at, 1)),
                    Some(b']') => break,
                    Some(_) | None => return Err(ScanError::Syntax),
                }
            }
        }
        self.cursor.at = at + 1;
        self.item = outer;
        self.depth -= 1;
        Ok(())
    }

    /// Reads an object, and notes what was found in it.
    ///
    /// The one loop that is worth its speed: where it is stays in a register, and is written back only for a value that is
    /// read elsewhere.
    fn object(&mut self, role: Role, members: &mut Members) -> Result<(), ScanError> {
        self.enter()?;
        let text = self.cursor.text;
        let bytes = self.cursor.bytes;
        let start = self.cursor.at;
        let mut frame = self.keys.open();
        let mut at = behind_whitespace(bytes, behind(start, 1));
        if bytes.get(at) != Some(b'}') {
            loop {
                if bytes.get(at) != Some(b'"') {
                    return Err(ScanError::Syntax);
                }
                let (key, end, name);
                // Most names end in the bytes that one load brings; what they are is read from the same.
                let inside = behind(at, 1);
                let short = bytes.chunk(inside).and_then(|chunk| Some((chunk, first_hit(chunk)?)));
                if let Some((chunk, len)) = short
                    && chunk.get(len % WIDTH) == Some(&b'"')
                {
                    let quote = behind(inside, len);
                    (key, end) = (Text::between(at, quote, false), behind(quote, 1));
                    name = self.keys.add_short(&mut frame, text, key, chunk, len)?;
                } else {
                    (key, end) = string_behind(bytes, at)?;
                    name = self.keys.add(&mut frame, text, key)?;
                }
                let is_text;
                // As compact documents write it: one comparison for three tokens.
                if bytes.joined(end, *b":\"") {
                    (at, is_text) = (behind(end, 1), true);
                } else {
                    at = if bytes.get(end) == Some(b':') { end } else { behind_whitespace(bytes, end) };
                    if bytes.get(at) != Some(b':') {
                        return Err(ScanError::Syntax);
                    }
                    at = behind_whitespace(bytes, behind(at, 1));
                    is_text = bytes.get(at) == Some(b'"');
                }
                if is_text {
                    let (value, end) = string_behind(bytes, at)?;
                    at = end;
                    self.text(role, name, value, members)?;
                } else {
                    self.cursor.at = at;
                    self.nested(role, name, key, members)?;
                    at = self.cursor.at;
                }
                if bytes.joined(at, *b",\"") {
                    at = behind(at, 1);
                    continue;
                }
                if bytes.get(at) != Some(b'}') {
                    at = behind_whitespace(bytes, at);
                }
                match bytes.get(at) {
                    Some(b'}') => break,
                    Some(b',') => at = behind_whitespace(bytes, behind(at, 1)),
                    Some(_) | None => return Err(ScanError::Syntax),
                }
            }
        }
        self.cursor.at = at + 1;
        self.keys.close(&frame, text)?;
        self.depth -= 1;
        members.span = Span::new(start, at + 1);
        self.leave(role, members)
    }

    /// Reads a resource that stands here, and answers its index.
    fn resource(&mut self, place: Place, position: u32) -> Result<u32, ScanError> {
        if self.cursor.peek() != Some(b'{') {
            return Err(match self.cursor.kind() {
                Ok(_) => ScanError::NotAResource,
                Err(error) => error,
            });
        }
        let at = offset(self.resources.len());
        if at >= self.max_resources {
            return Err(ScanError::TooManyResources);
        }
        let mut facts = ResourceFacts::bare(ResourceType::PATIENT, None);
        facts.place = place;
        facts.parent = (place != Place::Root).then_some(self.current);
        self.resources.push(facts);
        self.sites.push(Site { position, ..Site::default() });

        let outer = (self.current, self.path_base, self.in_meta, self.in_security_label, self.inline);
        let subjects = self.subjects.len();
        (self.current, self.path_base, self.in_meta, self.in_security_label) = (at, self.path.len(), false, false);
        let mut members = Members::at(position);
        self.object(Role::Resource, &mut members)?;
        self.close_resource(&members, subjects)?;
        (self.current, self.path_base, self.in_meta, self.in_security_label, self.inline) = outer;
        Ok(at)
    }

    fn close_resource(&mut self, members: &Members, subjects: usize) -> Result<(), ScanError> {
        let name = members.text(Name::ResourceType).ok_or(ScanError::NotAResource)?;
        let kind = self.kind_named(name)?;
        // R4 gives `contained` to domain resources alone, entries to Bundle, parameters to Parameters.
        let bundle = kind == ResourceType::BUNDLE;
        let parameters = kind.as_str() == "Parameters";
        let domain = !(bundle || parameters || kind == ResourceType::BINARY);
        if members.entry_resources && !bundle
            || members.parameter_resources && !parameters
            || members.contained && !domain
            || self.site().is_some_and(|site| site.instance_types) && kind.as_str() != "ExampleScenario"
        {
            return Err(ScanError::MisplacedResource);
        }
        if bundle && self.site().is_some_and(|site| site.is_odd) {
            return Err(ScanError::Shape);
        }
        let id = members.text(Name::Id).map(|id| self.cursor.decoded(id)).and_then(|id| id.parse().ok());
        let bundle_type =
            members.text(Name::Type).filter(|_| bundle).map(|code| BundleType::of(&self.cursor.decoded(code)));
        let patients = self.patients(kind, id.as_ref(), subjects);
        self.settle_labels(kind, members);
        if let Some(site) = self.site() {
            site.span = members.span;
            site.bundle_type = bundle_type;
        }
        if let Some(facts) = self.facts() {
            facts.kind = kind;
            facts.id = id;
            facts.patients = patients;
        }
        Ok(())
    }

    /// Answers are mostly of one type: the last one is tried first.
    fn kind_named(&mut self, name: Text) -> Result<ResourceType, ScanError> {
        let written = self.cursor.slice(name.span());
        match self.last_kind {
            Some(kind) if !name.escaped() && kind.as_str() == written => Ok(kind),
            Some(_) | None => {
                let kind = self.cursor.decoded(name).parse().map_err(|_| ScanError::UnknownType)?;
                self.last_kind = Some(kind);
                Ok(kind)
            }
        }
    }

    /// The facts of the resource that is being read. `None` only where JSON is checked for grammar alone.
    fn facts(&mut self) -> Option<&mut ResourceFacts> {
        self.resources.get_mut(index(self.current))
    }

    fn site(&mut self) -> Option<&mut Site> {
        self.sites.get_mut(index(self.current))
    }

    /// A reference stands here, in the resource that is being read.
    fn refers(&mut self, target: Text) -> u32 {
        let number = self.references.number(&self.cursor, target, || {
            let parsed = Reference::parse(&self.cursor.decoded(target));
            Arc::new(self.labeller.local(parsed))
        });
        self.uses.push(Use { resource: self.current, at: target.span().start, reference: number });
        number
    }
}
